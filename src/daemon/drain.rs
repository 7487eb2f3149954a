//! [`Drain`]: the progress of the graceful shutdown that SIGTERM begins.

use std::time::Duration;

use crate::clock::Time;

/// The settings of the drain.
#[derive(Clone, Copy, Debug)]
pub struct DrainConfig {
    /// How long connections are still accepted after the signal.
    pub delay: Duration,
    /// How long connections may continue after that.
    pub timeout: Duration,
}

/// The result of a run that has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All connections had ended by themselves.
    Drained,
    /// Connections were reset.
    Reset,
}

/// The state of the drain.
#[derive(Clone, Copy, Debug)]
pub enum Drain {
    /// No signal has come.
    NotBegun,
    /// Connections are still accepted, until every kube-proxy has removed this pod.
    Delay {
        /// The end of the delay.
        until: Time,
    },
    /// No connections are accepted any more.
    Finish {
        /// When connections that are still open are reset.
        until: Time,
    },
}

impl Drain {
    /// Whether a signal has come.
    pub fn has_begun(self) -> bool {
        !matches!(self, Drain::NotBegun)
    }

    /// When the next step is due.
    pub fn poll_timeout(self) -> Option<Time> {
        match self {
            Drain::NotBegun => None,
            Drain::Delay { until } | Drain::Finish { until } => Some(until),
        }
    }
}
