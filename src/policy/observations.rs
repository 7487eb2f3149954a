//! The transitions of the policy after an event of the watch of the scale target.
//!
//! Events and replies come on different connections, in any order. Three rules make one
//! history of them:
//! - an event is applied while no request is in flight. An event that comes meanwhile waits for
//!   the reply, because it may show the effect of that request, or a state older than the
//!   reply;
//! - an event is applied if its version is newer than all versions seen before
//!   ([`ResourceVersion::compare`]). If versions cannot be compared, the object is read
//!   instead;
//! - no event leads to a write of zero: that needs the reply to a read, and a version after
//!   which nothing was written.
//!
//! An event does not prove that the API server can be reached when it comes, so that reads go
//! on, less often ([`Policy::next_poll`](super::Policy)).

use std::cmp::Ordering;
use std::time::Duration;

use super::Policy;
use super::seen::Seen;
use crate::clock::Time;
use crate::cluster::{Observation, ResourceVersion, Scale};

/// The least time between a reply and the read that an incomplete event causes.
const READ_AFTER_EVENT: Duration = Duration::from_secs(1);

impl Policy {
    /// Sets whether a watch shows the changes of the scale target.
    pub fn set_watching(&mut self, watching: bool, now: Time) {
        if self.watching && !watching {
            // The cause of the end of the watch may affect requests too.
            self.due = self.due.min(now + self.config.poll());
        }
        self.watching = watching;
        self.advance(now);
    }

    /// Whether a watch shows the changes of the scale target.
    pub fn is_watching(&self) -> bool {
        self.watching
    }

    /// An event of the watch.
    pub fn observe(&mut self, observation: Observation, now: Time) {
        if !is_older(&observation, self.observed.as_ref()) {
            self.observed = Some(observation);
        }
        self.apply_observed(now);
        self.advance(now);
    }

    /// Applies the newest event, if no request is in flight.
    pub(super) fn apply_observed(&mut self, now: Time) {
        if self.in_flight.is_some() {
            return;
        }
        match self.observed.take() {
            Some(Observation::Scale(scale)) => match self.compare_with_seen(&scale.version) {
                Some(Ordering::Greater) => self.on_event(scale, now),
                Some(Ordering::Less | Ordering::Equal) => {}
                None => self.read_soon(now),
            },
            Some(Observation::Changed) => self.read_soon(now),
            None => {}
        }
    }

    /// Whether a version is newer than the last one seen. `true` if none was seen.
    fn compare_with_seen(&self, version: &ResourceVersion) -> Option<Ordering> {
        match &self.seen {
            Some(seen) => version.compare(&seen.version),
            None => Some(Ordering::Greater),
        }
    }

    fn on_event(&mut self, scale: Scale, now: Time) {
        let before = self.on_lease(None, &scale, now);
        self.seen = Some(Seen::after_event(before, &scale, &self.config, now));
        self.on_generation(None, &scale, now);
        match scale.replicas {
            0 => self.on_zero(None, scale.version, now),
            _ => self.on_replicas(None, scale, now),
        }
    }

    /// Schedules a read of the scale target soon, but not before the end of a pause after a
    /// failure.
    fn read_soon(&mut self, now: Time) {
        if self.backoff.failures() == 0 {
            let last = self.seen.as_ref().map(|seen| seen.last + READ_AFTER_EVENT);
            self.due = self.due.min(last.unwrap_or(now).max(now));
        }
    }
}

/// Whether an event is known to be older than the one that waits, as after a list.
fn is_older(observation: &Observation, waiting: Option<&Observation>) -> bool {
    match (observation, waiting) {
        (Observation::Scale(scale), Some(Observation::Scale(waiting))) => {
            scale.version.compare(&waiting.version) == Some(Ordering::Less)
        }
        _ => false,
    }
}
