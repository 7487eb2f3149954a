//! [`CloseReason`]: why a connection was closed, and by which side in which phase.

use std::fmt;
use std::time::Duration;

use super::token::Side;
use crate::duration;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionPhase {
    /// Accepted and waiting for an address to dial.
    Holding,
    /// An address is being dialled, or is to be dialled again.
    Dialing,
    /// A backend has accepted it.
    Relaying,
}

impl ConnectionPhase {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            ConnectionPhase::Holding => "holding",
            ConnectionPhase::Dialing => "dialing",
            ConnectionPhase::Relaying => "relaying",
        }
    }
}

impl fmt::Display for ConnectionPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a connection was closed. Displayed as `side/phase: why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides sent a FIN, and all bytes before it were relayed.
    Finished,
    /// The client reset the connection, or vanished.
    ClientGone(ConnectionPhase),
    /// The backend reset the connection, or vanished.
    BackendGone,
    /// No backend accepted the connection before the hold limit; with what is wrong with the app,
    /// if that is known.
    HeldTooLong(ConnectionPhase, Duration, Option<&'static str>),
    /// The app cannot start, for that reason, however long the connection waits.
    WakeFailed(ConnectionPhase, &'static str),
    /// The drain deadline passed.
    Drained(ConnectionPhase),
    /// The kernel refused a resource that is needed to serve it.
    OutOfResources(ConnectionPhase),
    /// It does not count as use of the app, and no backend is ready.
    UncountedNoPod(ConnectionPhase),
    /// A backend has served it, it does not count as use of the app, and the app sleeps.
    Asleep,
    /// It has carried no byte for the idle timeout.
    Idle(Duration),
    /// It has carried no byte for the timeout after one side has sent a FIN.
    HalfClosed(Duration),
    /// It is a health check, and was answered.
    Probe,
    /// It is a browser's, and has got the page that loads itself again.
    WaitingPage,
    /// Its first bytes did not come within the hold limit.
    NoBytes,
    /// Its client, by the PROXY header, is at the limit of connections of its source.
    SourceLimit,
    /// Its client, by the PROXY header, is denied.
    Denied,
    /// It does not begin with a valid PROXY header, for that reason.
    NoHeader(&'static str),
}

impl CloseReason {
    /// The reason of a connection of which only the side `remaining` is not broken.
    pub(super) fn other_than(remaining: Side) -> CloseReason {
        match remaining {
            Side::Client => CloseReason::BackendGone,
            Side::Backend => CloseReason::ClientGone(ConnectionPhase::Relaying),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Finished => f.write_str("both sides have ended"),
            CloseReason::ClientGone(phase) => write!(f, "client/{phase}: reset or gone"),
            CloseReason::BackendGone => f.write_str("backend/relaying: reset or gone"),
            CloseReason::HeldTooLong(phase, limit, why) => {
                let what = match phase {
                    ConnectionPhase::Holding => "no backend ready",
                    _ => "no backend accepted",
                };
                write!(f, "zpa/{phase}: {what} in {}", duration::display(*limit))?;
                why.map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            CloseReason::WakeFailed(phase, why) => {
                write!(f, "zpa/{phase}: the app cannot start: {why}")
            }
            CloseReason::Drained(phase) => write!(f, "zpa/{phase}: drain deadline passed"),
            CloseReason::OutOfResources(phase) => write!(f, "zpa/{phase}: out of system resources"),
            CloseReason::SourceLimit => f.write_str("zpa/holding: its source is at its limit"),
            CloseReason::Probe => f.write_str("zpa/holding: a health check, answered"),
            CloseReason::WaitingPage => f.write_str("zpa/holding: a browser, which got the page"),
            CloseReason::NoBytes => f.write_str("client/holding: its first bytes do not come"),
            CloseReason::Denied => f.write_str("zpa/holding: its client is denied"),
            CloseReason::NoHeader(why) => write!(f, "client/holding: {why}: no PROXY header"),
            CloseReason::Asleep => f.write_str("zpa/relaying: does not count, and the app sleeps"),
            CloseReason::Idle(limit) => {
                let limit = duration::display(*limit);
                write!(f, "zpa/relaying: no byte in {limit}")
            }
            CloseReason::HalfClosed(limit) => {
                let limit = duration::display(*limit);
                write!(
                    f,
                    "zpa/relaying: one side has ended, and no byte in {limit}"
                )
            }
            CloseReason::UncountedNoPod(phase) => {
                write!(f, "zpa/{phase}: does not count, and no backend is ready")
            }
        }
    }
}
