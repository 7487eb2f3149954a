//! How the follower is called away from what it is at: from a pause, or from a
//! read of a watch in which nothing happens.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::throttle::Throttle;
use crate::clock::Time;

/// Wakes the follower.
pub(super) struct Bell {
    state: Mutex<Rung>,
    changed: Condvar,
    /// The follower's, whose calls a ring cancels.
    pub(super) client: Client,
}

#[derive(Default)]
struct Rung {
    rung: bool,
    closed: bool,
    throttle: Throttle,
}

impl Bell {
    pub(super) fn new(client: Client) -> Self {
        Bell {
            state: Mutex::default(),
            changed: Condvar::new(),
            client,
        }
    }

    /// Has the endpoints listed at once: ends the watch that is open.
    pub(super) fn ring(&self, now: Time) {
        let mut state = self.state();
        if !state.throttle.allow(now) {
            return;
        }
        state.rung = true;
        drop(state);
        self.changed.notify_all();
        // After the flag: whoever opens a watch on connections that are not
        // cancelled here sees it.
        self.client.cancel();
    }

    /// Ends the follower.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
        self.client.cancel();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether it was rung, or closed, since a list last answered it.
    pub(super) fn is_rung(&self) -> bool {
        let state = self.state();
        state.rung || state.closed
    }

    pub(super) fn answer(&self) {
        self.state().rung = false;
    }

    /// Waits, but no longer than it is not rung.
    pub(super) fn wait_unless_rung(&self, wait: Duration) {
        self.wait(wait, |state| !state.rung && !state.closed);
    }

    /// Waits, rung or not.
    pub(super) fn wait_in_full(&self, wait: Duration) {
        self.wait(wait, |state| !state.closed);
    }

    fn wait(&self, wait: Duration, go_on: impl Fn(&mut Rung) -> bool) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), wait, go_on)
            .unwrap_or_else(PoisonError::into_inner);
        drop(waited);
    }

    fn state(&self) -> MutexGuard<'_, Rung> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
