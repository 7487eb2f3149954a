//! [`Core`]: the interface between the state machine of a reflector and its
//! [`thread`](super::thread).

use log::Level;

use super::super::list_watch::{self, Event};
use super::super::paths;
use crate::clock::Time;
use crate::cluster::Report;

/// The state machine of a reflector. It makes no calls itself (it is sans-IO).
pub(in crate::kube) trait Core {
    /// The type of its reports.
    type Report;

    /// Handles an event, and returns the next action. The first event, also after a panic, is
    /// [`Event::Relist`].
    fn handle(&mut self, event: Event<'_>, now: Time) -> Action;

    /// When [`Event::Timeout`] is due, if the action is to wait.
    fn poll_timeout(&self) -> Option<Time>;

    /// Sets whether the proxy drains: then failures are logged below warn.
    fn set_draining(&mut self, is_draining: bool);

    /// Whether a list is in progress that an app which is added lets finish.
    fn is_listing(&self) -> bool {
        false
    }

    /// The reports and log lines since the last call, in order.
    fn take_outputs(&mut self) -> Vec<Output<Self::Report>>;
}

/// The next action of the thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kube) enum Action {
    /// Read the object at that path.
    Get(String),
    /// Read the page of a list at that path.
    List(String),
    /// Open the watch at that path.
    Watch(String),
    /// Read from the watch that is open.
    Read,
    /// Wait until [`Core::poll_timeout`], or for a signal.
    Wait,
}

impl Action {
    /// The action of a watcher, with the paths of its requests: the objects are at `path`.
    pub(in crate::kube) fn from_watcher(next: list_watch::Action, path: &str) -> Action {
        match next {
            list_watch::Action::List { limit, token } => {
                Action::List(paths::page(path, limit, &token))
            }
            list_watch::Action::Watch { version, seconds } => {
                Action::Watch(paths::watch(path, &version, seconds))
            }
            list_watch::Action::Read => Action::Read,
            list_watch::Action::Wait => Action::Wait,
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
