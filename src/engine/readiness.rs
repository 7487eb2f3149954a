//! [`Readiness`] is the content of an event of a socket, and [`Interest`] the kind of
//! events that a socket reports.

use mio::event::Event;

use super::half_state::ShortRead;

/// The content of an event of one socket; epoll_ctl(2) describes each flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// A read returns bytes, the end of the stream, or an error.
    pub readable: bool,
    /// What a short read means after this event.
    pub short_read: ShortRead,
    /// EPOLLRDHUP: the peer's FIN has come, or its RST.
    pub read_closed: bool,
    /// A write may take bytes.
    pub writable: bool,
    /// EPOLLERR: the connection was reset or timed out, or a connect has failed.
    pub error: bool,
    /// EPOLLHUP: both directions are shut, by FINs or by a reset.
    pub hang_up: bool,
}

/// What a socket of a connection reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Both ways at once: a second epoll_ctl(2) after the connect would cost more than
    /// the one event that a new socket is writable. Urgent data is of interest because
    /// a read stops before it.
    Both,
    /// No input; EPOLLERR and EPOLLHUP are always reported.
    Output,
}

impl From<Interest> for mio::Interest {
    fn from(interest: Interest) -> Self {
        let output = mio::Interest::WRITABLE;
        match interest {
            Interest::Both => output | mio::Interest::READABLE | mio::Interest::PRIORITY,
            Interest::Output => output,
        }
    }
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        let (error, read_closed) = (event.is_error(), event.is_read_closed());
        Readiness {
            readable: event.is_readable() || read_closed || error,
            // A read stops before urgent data and before the end of the stream, and no
            // further event reports the bytes after that.
            short_read: if read_closed || event.is_priority() {
                ShortRead::MayLeaveMore
            } else {
                ShortRead::EmptiesQueue
            },
            read_closed,
            writable: event.is_writable(),
            error,
            hang_up: event.is_write_closed(),
        }
    }
}
