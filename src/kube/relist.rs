//! How the reflector is called away from what it is at: from a pause, or from a
//! read of a watch in which nothing happens.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::throttle::Throttle;
use crate::clock::Time;

/// Wakes the reflector.
pub(super) struct RelistSignal {
    state: Mutex<Requested>,
    changed: Condvar,
    /// The reflector's, whose calls a request cancels.
    pub(super) client: Client,
}

#[derive(Default)]
struct Requested {
    requested: bool,
    closed: bool,
    throttle: Throttle,
}

impl RelistSignal {
    pub(super) fn new(client: Client) -> Self {
        RelistSignal {
            state: Mutex::default(),
            changed: Condvar::new(),
            client,
        }
    }

    /// Has the endpoints listed at once: ends the watch that is open.
    pub(super) fn request(&self, now: Time) {
        let mut state = self.state();
        if !state.throttle.allow(now) {
            return;
        }
        state.requested = true;
        drop(state);
        self.changed.notify_all();
        // After the flag: whoever opens a watch on connections that are not
        // cancelled here sees it.
        self.client.cancel();
    }

    /// Ends the reflector.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
        self.client.cancel();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether it was rung, or closed, since a list last answered it.
    pub(super) fn is_requested(&self) -> bool {
        let state = self.state();
        state.requested || state.closed
    }

    pub(super) fn take(&self) {
        self.state().requested = false;
    }

    /// Waits, but no longer than it is not rung.
    pub(super) fn wait_unless_requested(&self, wait: Duration) {
        self.wait(wait, |state| !state.requested && !state.closed);
    }

    /// Waits, rung or not.
    pub(super) fn wait_in_full(&self, wait: Duration) {
        self.wait(wait, |state| !state.closed);
    }

    fn wait(&self, wait: Duration, go_on: impl Fn(&mut Requested) -> bool) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), wait, go_on)
            .unwrap_or_else(PoisonError::into_inner);
        drop(waited);
    }

    fn state(&self) -> MutexGuard<'_, Requested> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
