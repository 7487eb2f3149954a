//! The [`RelistSignal`] interrupts the thread of a reflector, in a pause or in a read of a
//! watch, to list again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::client::Client;
use super::throttle::Throttle;
use super::watcher_io::WatcherInput;
use crate::clock::Time;

/// The signals to the thread of a reflector.
pub(super) struct RelistSignal {
    state: Mutex<State>,
    changed: Condvar,
    /// The client of the reflector: a request cancels its calls.
    pub(super) client: Client,
}

#[derive(Default)]
struct State {
    requested: bool,
    /// Whether a list is requested that lets one in progress finish.
    requested_after_list: bool,
    /// Whether it cancels the call in progress.
    may_cancel: bool,
    closed: bool,
    is_draining: bool,
    is_waiting: bool,
    /// Whether the reflector is in [`RelistSignal::wait`].
    is_paused: bool,
    /// The value of `is_waiting` that the reflector has taken last.
    taken_waiting: bool,
    /// When something was received last.
    last_event: Option<Time>,
    throttle: Throttle,
}

impl From<Signalled> for WatcherInput<'_> {
    fn from(signalled: Signalled) -> Self {
        match signalled {
            Signalled::Relist => WatcherInput::Relist,
            Signalled::Waiting(is_waiting) => WatcherInput::Waiting(is_waiting),
        }
    }
}

/// When a request of [`RelistSignal::request_after_list`] takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// After the list in progress.
    AfterList,
    /// After the call in progress, which ends soon.
    AfterCall,
    /// At once: it ends a watch or a pause, which may last.
    AtOnce,
}

/// A signal to the reflector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signalled {
    /// List again.
    Relist,
    /// Whether connections wait for an endpoint.
    Waiting(bool),
}

impl RelistSignal {
    pub(super) fn new(client: Client) -> Self {
        RelistSignal {
            state: Mutex::default(),
            changed: Condvar::new(),
            client,
        }
    }

    /// Requests a list: the calls in progress are cancelled, an open watch included.
    pub(super) fn request(&self, now: Time) {
        let mut state = self.state();
        if !state.throttle.allow(now) {
            return;
        }
        state.requested = true;
        drop(state);
        self.changed.notify_all();
        // After the flag is set: a watch that is opened after this cancellation sees it.
        self.client.cancel();
    }

    /// Requests a list if nothing was received after `seen`; returns whether it was requested.
    /// Otherwise the watch works, and the store is newer than `seen`; or a list is in progress,
    /// each of whose calls has a timeout of its own.
    pub(super) fn request_unless_newer(&self, seen: Time, now: Time) -> bool {
        let last_event = self.state().last_event;
        let is_silent = last_event.is_none_or(|at| at <= seen);
        if is_silent {
            self.request(now);
        }
        is_silent
    }

    /// Requests a list that shows more than those before, because what is wanted of them has
    /// grown. A list in progress is finished first: otherwise requests that come faster than
    /// lists end would let none end, and nothing would be followed meanwhile.
    pub(super) fn request_after_list(&self) {
        let mut state = self.state();
        state.requested_after_list = true;
        let may_cancel = state.may_cancel;
        drop(state);
        self.changed.notify_all();
        if may_cancel {
            self.client.cancel();
        }
    }

    /// Requests a list at once, without the throttle: the path of the collection has changed.
    pub(super) fn relist_unthrottled(&self) {
        self.state().requested = true;
        self.changed.notify_all();
        self.client.cancel();
    }

    /// Sets whether connections wait for an endpoint. That shortens pauses, and ends no
    /// watch.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        let mut state = self.state();
        let is_change = state.is_waiting != is_waiting;
        state.is_waiting = is_waiting;
        let is_paused = state.is_paused;
        drop(state);
        // Each connection of an app that is awake waits for a moment: two changes, which
        // cost a system call each if a thread was notified that reads a watch.
        if is_change && is_paused {
            self.changed.notify_all();
        }
    }

    /// The proxy drains: see [`super::AppHandle::set_draining`].
    pub(super) fn set_draining(&self) {
        self.state().is_draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state().is_draining
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

    /// A reply, or something of the watch, was received.
    pub(super) fn received(&self, now: Time) {
        self.state().last_event = Some(now);
    }

    /// Takes the requests for a list that came during a call, with the `interruption` of that
    /// call. If there was one, the call's result is to be ignored.
    pub(super) fn take_request(&self, interruption: Interruption) -> bool {
        let mut state = self.state();
        state.may_cancel = false;
        state.take_request(interruption == Interruption::AtOnce)
    }

    /// The next signal that the reflector has not taken yet. Up to the next
    /// [`RelistSignal::take_request`] it makes a call during which `interruption` holds.
    pub(super) fn take(&self, interruption: Interruption) -> Option<Signalled> {
        let mut state = self.state();
        if state.take_request(interruption != Interruption::AfterList) {
            return Some(Signalled::Relist);
        }
        state.may_cancel = interruption == Interruption::AtOnce;
        if state.is_waiting != state.taken_waiting {
            state.taken_waiting = state.is_waiting;
            return Some(Signalled::Waiting(state.is_waiting));
        }
        None
    }

    /// Waits until `until`, or until there is a signal to take.
    pub(super) fn wait(&self, until: Option<Time>, now: Time) {
        let nothing = |state: &mut State| {
            !state.closed
                && !state.requested
                && !state.requested_after_list
                && state.is_waiting == state.taken_waiting
        };
        let mut state = self.state();
        state.is_paused = true;
        let mut state = match until {
            Some(until) => {
                let waited = self
                    .changed
                    .wait_timeout_while(state, until.since(now), nothing);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.changed.wait_while(state, nothing);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        state.is_paused = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a request for a list; one that lets a list in progress finish, if that `may_begin`.
    fn take_request(&mut self, may_begin: bool) -> bool {
        let is_requested = self.requested || self.requested_after_list && may_begin;
        if is_requested {
            // One list serves all requests before it.
            self.requested = false;
            self.requested_after_list = false;
        }
        is_requested
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::credentials::Credentials;
    use super::super::testing;
    use super::*;

    fn signal() -> RelistSignal {
        let access = testing::access(([127, 0, 0, 1], 1).into());
        let credentials = Credentials::new(access, testing::clock).unwrap();
        RelistSignal::new(Client::new(Arc::new(credentials), Arc::default()))
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_request_is_taken_once_and_one_within_a_second_does_nothing() {
        let signal = signal();
        assert_eq!(signal.take(Interruption::AtOnce), None);
        signal.request(at(0));
        assert_eq!(signal.take(Interruption::AtOnce), Some(Signalled::Relist));
        assert_eq!(signal.take(Interruption::AtOnce), None);
        signal.request(at(999));
        assert_eq!(signal.take(Interruption::AtOnce), None);
        signal.request(at(1000));
        assert_eq!(signal.take(Interruption::AtOnce), Some(Signalled::Relist));
    }

    #[test]
    fn what_the_watch_has_shown_since_makes_a_request_needless() {
        for (label, received, requested) in [
            ("nothing was ever received", None, true),
            ("before", Some(49), true),
            ("at that time", Some(50), true),
            ("after", Some(51), false),
        ] {
            let signal = signal();
            if let Some(received) = received {
                signal.received(at(received));
            }
            let is_requested = signal.request_unless_newer(at(50), at(100));
            assert_eq!(is_requested, requested, "{label}");
            assert_eq!(
                signal.take_request(Interruption::AtOnce),
                requested,
                "{label}"
            );
        }
    }

    #[test]
    fn a_request_for_more_lets_a_list_in_progress_finish_and_many_are_one() {
        let signal = signal();
        assert_eq!(signal.take(Interruption::AfterList), None);
        signal.request_after_list();
        assert!(!signal.take_request(Interruption::AfterList));
        assert_eq!(signal.take(Interruption::AfterList), None);
        signal.request_after_list();
        assert!(!signal.take_request(Interruption::AfterCall));
        let taken = signal.take(Interruption::AfterCall);
        assert_eq!(taken, Some(Signalled::Relist));
        assert_eq!(signal.take(Interruption::AtOnce), None);
        signal.request_after_list();
        assert!(signal.take_request(Interruption::AtOnce));
        // A request because the store may be wrong waits for nothing, and serves both.
        signal.request_after_list();
        signal.request(at(0));
        assert!(signal.take_request(Interruption::AfterList));
        assert_eq!(signal.take(Interruption::AtOnce), None);
    }

    #[test]
    fn a_change_of_waiting_is_taken_once() {
        let signal = signal();
        signal.set_waiting(true);
        signal.set_waiting(true);
        assert_eq!(
            signal.take(Interruption::AtOnce),
            Some(Signalled::Waiting(true))
        );
        assert_eq!(signal.take(Interruption::AtOnce), None);
        signal.set_waiting(false);
        signal.request(at(0));
        assert_eq!(signal.take(Interruption::AtOnce), Some(Signalled::Relist));
        assert_eq!(
            signal.take(Interruption::AtOnce),
            Some(Signalled::Waiting(false))
        );
    }

    #[test]
    fn a_wait_ends_at_once_when_there_is_a_signal() {
        let end = |change: fn(&RelistSignal)| {
            let signal = signal();
            change(&signal);
            signal.wait(None, at(0));
        };
        end(|signal| signal.request(at(0)));
        end(RelistSignal::request_after_list);
        end(|signal| signal.set_waiting(true));
        end(RelistSignal::close);
        signal().wait(Some(at(0)), at(0));
    }

    #[test]
    fn a_change_of_waiting_ends_a_wait_that_has_begun() {
        let signal = Arc::new(signal());
        let waiting = signal.clone();
        let thread = std::thread::spawn(move || waiting.wait(None, at(0)));
        while !signal.state().is_paused {
            std::thread::yield_now();
        }
        signal.set_waiting(true);
        thread.join().unwrap();
        assert!(!signal.state().is_paused);
    }
}
