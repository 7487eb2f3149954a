//! [`Drain`]: how far the end of the process has come that a signal has begun.

use std::time::Duration;

use crate::clock::Time;

/// How the process ends once it is told to.
#[derive(Clone, Copy, Debug)]
pub struct DrainConfig {
    /// How long to go on accepting once the end has begun.
    pub delay: Duration,
    /// How long connections may take to finish after that.
    pub timeout: Duration,
}

/// How a run ended that could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Told to end, and there was nothing, or nothing any more, to be reset.
    Drained,
    /// Told to end, and connections had to be reset.
    Cut,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug)]
pub enum Drain {
    /// Nobody has asked for it.
    No,
    /// Still accepting: not everybody knows yet that we are leaving.
    Delay {
        /// Until then.
        until: Time,
    },
    /// Nothing is accepted any more.
    Finish {
        /// When what is still open is reset.
        until: Time,
    },
}

impl Drain {
    /// Whether the end has begun.
    pub fn has_begun(self) -> bool {
        !matches!(self, Drain::No)
    }

    /// When the next step is due.
    pub fn poll_timeout(self) -> Option<Time> {
        match self {
            Drain::No => None,
            Drain::Delay { until } | Drain::Finish { until } => Some(until),
        }
    }
}
