//! The transitions of the policy after a failed request: the phase, the permission that the request
//! needs, and the time of the next request.

use std::time::Duration;

use super::Policy;
use super::config::{MAX_PAUSE_WAITING, POLL_FORBIDDEN};
use super::permission::retry_after;
use super::phase::Phase;
use super::wake_limits::TTLS_BETWEEN_REFUSED_SLEEPS;
use crate::backoff;
use crate::clock::Time;
use crate::cluster::{LeaseStore, Outcome, Request};

impl Policy {
    /// Handles the failure of a request.
    pub(super) fn on_failure(&mut self, request: &Request, failure: &Outcome, now: Time) {
        match request {
            Request::RenewLease(renewal) if renewal.guard.is_none() => {
                return self.on_failed_renewal(renewal.store, failure, now);
            }
            _ => self.update_permission(request, failure, now),
        }
        if let Some(seen) = &mut self.seen {
            seen.interrupted |= *failure != Outcome::Conflict;
        }
        self.final_renewal_written &= *failure == Outcome::Conflict;
        let wrote_scale = matches!(request, Request::WriteScale { .. });
        let is_refused = matches!(failure, Outcome::Forbidden | Outcome::Unknown { .. });
        if is_refused && matches!(request, Request::WriteScale { replicas: 0, .. }) {
            self.wake_limits.record_refused_sleep(now);
        }
        match &mut self.phase {
            // Nothing was written, so no connection needs to be held.
            Phase::ScalingDown if wrote_scale && !matches!(failure, Outcome::Unknown { .. }) => {
                self.phase = Phase::ConfirmingIdle;
            }
            Phase::Waking { version, .. } if must_read_after(failure) => *version = None,
            Phase::Asleep { .. } if *failure == Outcome::NotFound => {
                self.phase = Phase::Awake;
                self.scale_logged = false;
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
        self.due = now + self.pause_after(request, failure);
    }

    fn on_failed_renewal(&mut self, store: LeaseStore, failure: &Outcome, now: Time) {
        // Shorter than the time that other proxies wait: see `seen::POLLS_AFTER_FAILURE`.
        let longest = match self.connections.open {
            // The gate is open without a lease until one can be renewed.
            0 if self.lease.store().is_none() => POLL_FORBIDDEN,
            0 => backoff::MAX_PAUSE,
            _ => MAX_PAUSE_WAITING.min(self.config.idle_ttl / 4),
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
    fn update_permission(&mut self, request: &Request, failure: &Outcome, now: Time) {
        let confirmed_after = self.config.refusal_confirmed_after;
        let retry = retry_after(confirmed_after);
        match (request, failure) {
            (Request::Read, Outcome::Forbidden) => {
                self.reads.refused(confirmed_after, retry, now);
            }
            // Both reads are refused: the one that shows the leases is tried first.
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
            (_, Outcome::NotFound | Outcome::Conflict) => self.record_permission(request),
            (Request::Read, _) => self.reads.interrupted(),
            (Request::ReadScale, _) => {}
            (Request::WriteScale { .. }, _) => self.scale_writes.interrupted(),
            (Request::RenewLease(renewal), _) => self.lease.on_inconclusive(renewal.store),
        }
    }

    /// Records that the permission for this request is granted, as a reply has shown.
    pub(super) fn record_permission(&mut self, request: &Request) {
        match request {
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
            (0, _) => backoff::MAX_PAUSE,
            _ => MAX_PAUSE_WAITING,
        }
    }

    fn pause_after(&mut self, request: &Request, failure: &Outcome) -> Duration {
        let longest = self.longest_pause(failure);
        let first = self.backoff.failures() == 0;
        let pause = self.backoff.pause(longest);
        match failure {
            // Other writers cause conflicts: only repeated ones are a fault.
            Outcome::Conflict if first => Duration::ZERO,
            // The fallback is read at once, unless that is refused too.
            Outcome::Forbidden
                if *request == Request::Read
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

/// Whether the write of a wake that failed so may have been applied, or its guard is stale.
fn must_read_after(failure: &Outcome) -> bool {
    !matches!(
        failure,
        Outcome::Unreachable | Outcome::Busy { .. } | Outcome::Forbidden | Outcome::Unauthorized
    )
}
