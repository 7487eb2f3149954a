//! What an event of the kernel's reports of a socket, and what is to be reported.

use mio::event::Event;

use super::relay_state::ShortRead;

/// An event of one socket. The names are those of epoll_ctl(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// A read finds bytes, the end or an error.
    pub readable: bool,
    /// What a read means that gets fewer bytes than it has asked for.
    pub short_read: ShortRead,
    /// EPOLLRDHUP: the peer's FIN has come, or its RST.
    pub read_closed: bool,
    /// A write may take bytes.
    pub writable: bool,
    /// EPOLLERR: the connection was reset or timed out, or a connect has failed.
    pub error: bool,
    /// EPOLLHUP: both directions are shut, be it in order or not.
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
            // Behind the peer's end and behind urgent data, before which a read
            // stops, there may be bytes that no further event reports.
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
