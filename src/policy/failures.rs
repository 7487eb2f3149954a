//! What follows from a request that has failed: what it may have done all the
//! same, and when to ask again.

use std::time::Duration;

use super::Policy;
use super::command::Change;
use super::config::{LONGEST_PAUSE_WAITING, POLL_FORBIDDEN};
use super::phase::Phase;
use crate::backoff;
use crate::clock::Time;
use crate::cluster::{Outcome, Request};

impl Policy {
    /// The request has failed: concludes what it may have done, and when to
    /// ask again.
    pub(super) fn fail(&mut self, asked: &Request, failure: &Outcome, now: Time) {
        if matches!(asked, Request::RenewLease { .. }) {
            return self.fail_to_renew(failure, now);
        }
        if let Some(seen) = &mut self.seen {
            seen.interrupted |= *failure != Outcome::Conflict;
        }
        let wrote = *asked != Request::Read;
        let must_read = !matches!(
            failure,
            Outcome::Unreachable | Outcome::Busy { .. } | Outcome::Forbidden
        );
        match &mut self.phase {
            // Nothing was written, so nobody needs to be held.
            Phase::ScalingDown if wrote && !matches!(failure, Outcome::Unknown { .. }) => {
                self.phase = Phase::ConfirmingIdle;
            }
            Phase::Waking { version, .. } if must_read => *version = None,
            Phase::Asleep { .. } if *failure == Outcome::NotFound => {
                self.phase = Phase::Awake;
                self.scale_reported = false;
            }
            _ => {}
        }
        if *failure == Outcome::NotFound {
            // Whatever comes next under that name is another app.
            self.seen = None;
            self.generation = None;
        }
        if let Outcome::Busy { retry_after } | Outcome::Unknown { retry_after } = failure {
            self.not_before = now + retry_after.unwrap_or_default();
        }
        self.due = now + self.pause_after(failure);
    }

    fn fail_to_renew(&mut self, failure: &Outcome, now: Time) {
        // Shorter than what others wait for it: see `seen::POLLS_AFTER_FAILURE`.
        let longest = match self.connections.open {
            0 => backoff::LONGEST,
            _ => LONGEST_PAUSE_WAITING.min(self.config.idle_ttl / 4),
        };
        match failure {
            Outcome::Forbidden => {
                if self.lease.forbidden(longest, now) {
                    self.report(Change::LeaseLocation(self.lease.store()));
                }
            }
            Outcome::NotFound => self.lease.failed(self.config.poll(), longest, now),
            Outcome::Busy { retry_after } | Outcome::Unknown { retry_after } => {
                self.lease
                    .failed(retry_after.unwrap_or_default(), longest, now);
            }
            _ => self.lease.failed(Duration::ZERO, longest, now),
        }
    }

    fn longest_pause(&self) -> Duration {
        match self.connections.waiting {
            0 => backoff::LONGEST,
            _ => LONGEST_PAUSE_WAITING,
        }
    }

    fn pause_after(&mut self, failure: &Outcome) -> Duration {
        let longest = self.longest_pause();
        let first = self.backoff.failures() == 0;
        let pause = self.backoff.pause(longest);
        match failure {
            // Others write as well: nothing is wrong unless it goes on.
            Outcome::Conflict if first => Duration::ZERO,
            Outcome::Forbidden => POLL_FORBIDDEN.min(longest),
            Outcome::NotFound => self.config.poll(),
            Outcome::Busy { retry_after } | Outcome::Unknown { retry_after } => {
                pause.max(retry_after.unwrap_or_default())
            }
            Outcome::Scale(_) | Outcome::Conflict | Outcome::Unreachable => pause,
        }
    }
}
