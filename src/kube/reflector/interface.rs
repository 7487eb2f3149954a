//! [`ReflectorCore`]: the interface between the state machine of a reflector and its
//! [`thread`](super::thread).

use log::Level;

use super::super::paths;
use super::super::watcher_io::{WatcherAction, WatcherInput};
use crate::clock::Time;
use crate::cluster::Report;

/// The state machine of a reflector. It makes no calls itself (it is sans-IO).
pub(in crate::kube) trait ReflectorCore {
    /// The type of its reports.
    type Report;

    /// Handles an event, and returns the next action. The first event, also after a panic, is
    /// [`WatcherInput::Relist`].
    fn handle(&mut self, event: WatcherInput<'_>, now: Time) -> ReflectorAction;

    /// When [`WatcherInput::Timeout`] is due, if the action is to wait.
    fn poll_timeout(&self) -> Option<Time>;

    /// Sets whether the proxy drains: then failures are logged below warn.
    fn set_draining(&mut self, is_draining: bool);

    /// Whether a list is in progress, which `RelistSignal::request_after_list` lets finish.
    fn is_listing(&self) -> bool {
        false
    }

    /// The reports and log lines since the last call, in order.
    fn take_outputs(&mut self) -> Vec<Output<Self::Report>>;
}

/// The next action of the thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kube) enum ReflectorAction {
    /// Read the object at that path.
    Get(String),
    /// Read the page of a list at that path.
    List(String),
    /// Open the watch at that path.
    Watch(String),
    /// Read from the watch that is open.
    Read,
    /// Wait until [`ReflectorCore::poll_timeout`], or for a signal.
    Wait,
}

impl ReflectorAction {
    /// The action of a watcher, with the paths of its requests: the objects are at `path`.
    pub(in crate::kube) fn from_watcher(next: WatcherAction, path: &str) -> ReflectorAction {
        match next {
            WatcherAction::List {
                limit,
                continue_token,
            } => ReflectorAction::List(paths::page(path, limit, &continue_token)),
            WatcherAction::Watch { version, seconds } => {
                ReflectorAction::Watch(paths::watch(path, &version, seconds))
            }
            WatcherAction::Read => ReflectorAction::Read,
            WatcherAction::Wait => ReflectorAction::Wait,
        }
    }
}

/// An output of a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kube) enum Output<R = Report> {
    /// A report to the daemon.
    Report(R),
    /// A line of the log.
    Log(Level, String),
}
