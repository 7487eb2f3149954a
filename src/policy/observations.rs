//! What follows from what a watch of the scaled object shows.
//!
//! Events and replies come on different connections, in any order. Three rules make
//! one history of them:
//! - an event is taken in while no request is out. One that comes meanwhile waits for
//!   the reply, since it may show what that request has done, or something older than
//!   its reply;
//! - an event is taken in if its version is newer than every one that was shown before
//!   ([`ResourceVersion::compare`]). Where versions cannot be compared, an event is a
//!   reason to read;
//! - no event leads to a write of zero: that takes the reply to a read, and a version
//!   that nobody has written after.
//!
//! An event proves nothing about the API server at the time at which it comes, so that
//! reads go on, less often ([`Policy::next_poll`](super::Policy)).

use std::cmp::Ordering;
use std::time::Duration;

use super::Policy;
use super::seen::Seen;
use crate::clock::Time;
use crate::cluster::{Observation, ResourceVersion, Scale};

/// How soon after an answer an event that does not say enough has the scale target read
/// again.
const READ_AFTER_EVENT: Duration = Duration::from_secs(1);

impl Policy {
    /// A watch shows the changes of the scale target from now on, or does not any more.
    pub fn set_watching(&mut self, watching: bool, now: Time) {
        if self.watching && !watching {
            // What has ended the watch may have ended more.
            self.due = self.due.min(now + self.config.poll());
        }
        self.watching = watching;
        self.settle(now);
    }

    /// Whether a watch shows the changes of the scale target.
    pub fn is_watching(&self) -> bool {
        self.watching
    }

    /// The watch has shown the scale target.
    pub fn observe(&mut self, observation: Observation, now: Time) {
        if !is_older(&observation, self.observed.as_ref()) {
            self.observed = Some(observation);
        }
        self.take_in_observed(now);
        self.settle(now);
    }

    /// Takes in what the watch has shown, if no request is out.
    pub(super) fn take_in_observed(&mut self, now: Time) {
        if self.in_flight.is_some() {
            return;
        }
        match self.observed.take() {
            Some(Observation::Scale(scale)) => match self.compare_with_seen(&scale.version) {
                Some(Ordering::Greater) => self.learn_observed(scale, now),
                Some(Ordering::Less | Ordering::Equal) => {}
                None => self.read_soon(now),
            },
            Some(Observation::Changed) => self.read_soon(now),
            None => {}
        }
    }

    /// Whether that version is newer than what is known; so is any if nothing is.
    fn compare_with_seen(&self, version: &ResourceVersion) -> Option<Ordering> {
        match &self.seen {
            Some(seen) => version.compare(&seen.version),
            None => Some(Ordering::Greater),
        }
    }

    fn learn_observed(&mut self, scale: Scale, now: Time) {
        let before = self.learn_lease(None, &scale, now);
        self.seen = Some(Seen::after_event(before, &scale, &self.config, now));
        self.learn_the_rest(None, &scale, now);
        match scale.replicas {
            0 => self.learn_zero(None, scale.version, now),
            _ => self.learn_replicas(None, scale, now),
        }
    }

    /// Has the scale target read soon. A pause after a failure goes on.
    fn read_soon(&mut self, now: Time) {
        if self.backoff.failures() == 0 {
            let last = self.seen.as_ref().map(|seen| seen.last + READ_AFTER_EVENT);
            self.due = self.due.min(last.unwrap_or(now).max(now));
        }
    }
}

/// Whether that is known to be older than what waits to be taken in already, as what a
/// list repeats may be.
fn is_older(observation: &Observation, waiting: Option<&Observation>) -> bool {
    match (observation, waiting) {
        (Observation::Scale(scale), Some(Observation::Scale(waiting))) => {
            scale.version.compare(&waiting.version) == Some(Ordering::Less)
        }
        _ => false,
    }
}
