//! How a connection ended: who ended it, and in which phase.

use std::fmt;
use std::time::Duration;

use super::token::Side;
use crate::duration;

/// The phase in which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Accepted and waiting for an address to dial.
    Holding,
    /// An address is being dialled, or is to be dialled again.
    Dialing,
    /// A backend has accepted it.
    Relaying,
}

impl Phase {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Holding => "holding",
            Phase::Dialing => "dialing",
            Phase::Relaying => "relaying",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a connection ended. Displayed as `who/phase: why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides sent a FIN, and all bytes before it were relayed.
    Finished,
    /// The client reset the connection, or vanished.
    ClientGone(Phase),
    /// The backend reset the connection, or vanished.
    BackendGone,
    /// No backend accepted the connection before the hold limit.
    HeldTooLong(Phase, Duration),
    /// The drain deadline passed.
    Drained(Phase),
    /// The kernel refused a resource that is needed to serve it.
    Refused(Phase),
    /// It does not count, and there is no backend to serve it.
    Excluded(Phase),
    /// A backend has served it, it did not count, and the app sleeps.
    Asleep,
    /// No byte has gone for as long as that may last.
    Idle(Duration),
    /// Likewise, after a side had ended its direction.
    HalfClosed(Duration),
    /// It is a health check, and was answered.
    Probe,
    /// Its first bytes did not come within the hold limit.
    NoBytes,
    /// A load balancer has handed on a client whose source has as many connections as it
    /// may have.
    SourceLimit,
    /// A load balancer has handed on a client that is denied.
    Denied,
    /// A load balancer's connection does not begin with a PROXY header, for that reason.
    NoHeader(&'static str),
}

impl End {
    /// The end of a connection of which only `remaining` is not broken.
    pub(super) fn other_than(remaining: Side) -> End {
        match remaining {
            Side::Client => End::BackendGone,
            Side::Backend => End::ClientGone(Phase::Relaying),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Finished => f.write_str("both sides have ended"),
            End::ClientGone(phase) => write!(f, "client/{phase}: reset or gone"),
            End::BackendGone => f.write_str("backend/relaying: reset or gone"),
            End::HeldTooLong(phase, limit) => {
                let what = match phase {
                    Phase::Holding => "no backend ready",
                    _ => "no backend accepted",
                };
                write!(f, "zpa/{phase}: {what} in {}", duration::display(*limit))
            }
            End::Drained(phase) => write!(f, "zpa/{phase}: drain deadline passed"),
            End::Refused(phase) => write!(f, "zpa/{phase}: out of system resources"),
            End::SourceLimit => f.write_str("zpa/holding: its source is at its limit"),
            End::Probe => f.write_str("zpa/holding: a health check, answered"),
            End::NoBytes => f.write_str("client/holding: its first bytes do not come"),
            End::Denied => f.write_str("zpa/holding: its client is denied"),
            End::NoHeader(why) => write!(f, "client/holding: {why}: no PROXY header"),
            End::Asleep => f.write_str("zpa/relaying: does not count, and the app sleeps"),
            End::Idle(limit) => {
                let limit = duration::display(*limit);
                write!(f, "zpa/relaying: no byte in {limit}")
            }
            End::HalfClosed(limit) => {
                let limit = duration::display(*limit);
                write!(
                    f,
                    "zpa/relaying: one side has ended, and no byte in {limit}"
                )
            }
            End::Excluded(phase) => {
                write!(f, "zpa/{phase}: does not count, and no backend is ready")
            }
        }
    }
}
