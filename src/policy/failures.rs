//! The transitions of the policy after a failed request: what the request may have done, what
//! the failure shows about a permission, and when the next request is made.

use std::time::Duration;

use super::Policy;
use super::config::{LONGEST_PAUSE_WAITING, POLL_FORBIDDEN};
use super::permission::retry_after;
use super::phase::Phase;
use crate::backoff;
use crate::clock::Time;
use crate::cluster::{LeaseStore, Outcome, Request};

/// The number of TTLs after which a proxy that may not write the scale tries again to write
/// zero. Each attempt renews its lease, from which the other proxies count a whole TTL: in the
/// second one they can put the app to sleep.
const TTLS_BETWEEN_REFUSED_SLEEPS: u32 = 2;

impl Policy {
    /// The request has failed.
    pub(super) fn fail(&mut self, asked: &Request, failure: &Outcome, now: Time) {
        match asked {
            Request::RenewLease(renewal) if renewal.guard.is_none() => {
                return self.fail_to_renew(renewal.store, failure, now);
            }
            _ => self.learn_of_permission(asked, failure, now),
        }
        if let Some(seen) = &mut self.seen {
            seen.interrupted |= *failure != Outcome::Conflict;
        }
        self.final_renewal_written &= *failure == Outcome::Conflict;
        let wrote_scale = matches!(asked, Request::WriteScale { .. });
        match &mut self.phase {
            // Nothing was written, so no connection needs to be held.
            Phase::ScalingDown if wrote_scale && !matches!(failure, Outcome::Unknown { .. }) => {
                self.phase = Phase::ConfirmingIdle;
            }
            Phase::Waking { version, .. } if must_read_after(failure) => *version = None,
            Phase::Asleep { .. } if *failure == Outcome::NotFound => {
                self.phase = Phase::Awake;
                self.scale_reported = false;
            }
            _ => {}
        }
        if *failure == Outcome::NotFound {
            // An object that is created under that name later is another app.
            self.seen = None;
            self.observed = None;
            self.generation = None;
            self.is_missing = true;
        }
        self.due = now + self.pause_after(asked, failure);
    }

    fn fail_to_renew(&mut self, store: LeaseStore, failure: &Outcome, now: Time) {
        // Shorter than the time that other proxies wait: see `seen::POLLS_AFTER_FAILURE`.
        let longest = match self.connections.open {
            // The gate is open without a lease until one can be renewed.
            0 if self.lease.store().is_none() => POLL_FORBIDDEN,
            0 => backoff::LONGEST,
            _ => LONGEST_PAUSE_WAITING.min(self.config.idle_ttl / 4),
        };
        let at_least = match failure {
            Outcome::Forbidden => return self.lease.on_forbidden(store, longest, now),
            Outcome::NotFound => self.config.poll(),
            Outcome::Busy { retry_after } | Outcome::Unknown { retry_after } => {
                retry_after.unwrap_or_default()
            }
            _ => Duration::ZERO,
        };
        self.lease.on_inconclusive(store);
        self.lease.on_failed(at_least, longest, now);
    }

    /// Updates the permission that the request needs.
    fn learn_of_permission(&mut self, asked: &Request, failure: &Outcome, now: Time) {
        let confirmed_after = self.config.refusal_confirmed_after;
        let retry = retry_after(confirmed_after);
        match (asked, failure) {
            (Request::Read, Outcome::Forbidden) => {
                self.reads.refused(confirmed_after, retry, now);
            }
            // Neither may be read: the more valuable permission may be granted first.
            (Request::ReadScale, Outcome::Forbidden) => {
                self.scale_reads_refused = true;
                self.reads.retry_now(now);
            }
            (Request::WriteScale { .. }, Outcome::Forbidden) => {
                let retry = retry.max(self.config.idle_ttl * TTLS_BETWEEN_REFUSED_SLEEPS);
                self.scale_writes.refused(confirmed_after, retry, now);
            }
            (Request::RenewLease(renewal), Outcome::Forbidden) => {
                self.lease.on_permission_refused(renewal.store, now);
            }
            // The API server checks the permission before it looks for the object.
            (_, Outcome::NotFound | Outcome::Conflict) => self.record_permission(asked),
            (Request::Read, _) => self.reads.interrupted(),
            (Request::ReadScale, _) => {}
            (Request::WriteScale { .. }, _) => self.scale_writes.interrupted(),
            (Request::RenewLease(renewal), _) => self.lease.on_inconclusive(renewal.store),
        }
    }

    /// A reply has shown that the permission for this request is granted.
    pub(super) fn record_permission(&mut self, asked: &Request) {
        match asked {
            Request::Read => {
                self.reads.granted();
                self.scale_reads_refused = false;
            }
            Request::ReadScale => self.scale_reads_refused = false,
            Request::WriteScale { .. } => self.scale_writes.granted(),
            Request::RenewLease(renewal) => self.lease.on_permission_granted(renewal.store),
        }
    }

    fn longest_pause(&self, failure: &Outcome) -> Duration {
        match (self.connections.waiting, failure) {
            (0, Outcome::Forbidden | Outcome::Unauthorized) => POLL_FORBIDDEN,
            (0, _) => backoff::LONGEST,
            _ => LONGEST_PAUSE_WAITING,
        }
    }

    fn pause_after(&mut self, asked: &Request, failure: &Outcome) -> Duration {
        let longest = self.longest_pause(failure);
        let first = self.backoff.failures() == 0;
        let pause = self.backoff.pause(longest);
        match failure {
            // Other writers cause conflicts: only repeated ones are a fault.
            Outcome::Conflict if first => Duration::ZERO,
            // The fallback is read at once, unless that is refused too.
            Outcome::Forbidden
                if *asked == Request::Read
                    && self.reads.is_missing()
                    && !self.scale_reads_refused =>
            {
                Duration::ZERO
            }
            Outcome::NotFound => self.config.poll().min(longest),
            Outcome::Busy { retry_after } | Outcome::Unknown { retry_after } => {
                let at_least = retry_after.unwrap_or_default();
                match self.connections.waiting {
                    0 => pause.max(at_least),
                    _ => pause.max(at_least).min(longest),
                }
            }
            _ => pause,
        }
    }
}

/// Whether a wake with this outcome may have been applied, or has shown that its version is
/// not the present one.
fn must_read_after(failure: &Outcome) -> bool {
    !matches!(
        failure,
        Outcome::Unreachable | Outcome::Busy { .. } | Outcome::Forbidden | Outcome::Unauthorized
    )
}
