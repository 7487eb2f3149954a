//! The states of a relay's source and sink, and the outcomes of the reads and
//! writes that change them.
//!
//! Readiness is edge-triggered (mio's `Poll`, "Draining readiness"): a source is
//! readable and a sink writable until an operation finds nothing more to do, and
//! then until the next event.

use std::io::{self, ErrorKind};

/// The side that bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// More bytes may come.
    Open(Input),
    /// It has sent its FIN, and everything before it was read.
    Ended,
    /// It was reset or timed out, and everything before that was read.
    Broken,
}

/// What is known of the receive queue of an open source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    readiness: Readiness,
    short_read: ShortRead,
    end: EndOfStream,
}

/// Whether a read may find something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// The queue is empty; an event reports when that changes.
    Empty,
    /// There may be bytes, or the end.
    Readable,
}

/// What a read means that gets fewer bytes than it has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortRead {
    /// The queue is empty, and whatever comes later is a new edge (epoll(7),
    /// question 9).
    EmptiesQueue,
    /// There may be more. An event has reported the peer's end, or urgent data
    /// before which a read stops, and no event reports what is behind it.
    MayLeaveMore,
}

/// What the end of the stream means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndOfStream {
    /// The peer's FIN.
    Fin,
    /// The end of a broken connection. The kernel reports the error of a socket
    /// once (`sk_err`), and another operation has got it.
    Break,
}

/// The side that bytes go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// It takes bytes, as far as is known.
    Writable,
    /// Its send buffer is full; an event reports when that changes.
    Full,
    /// Everything was written, and the FIN after it.
    Shut,
    /// It takes no byte more.
    Broken(SocketError),
}

/// Who gets the error of a broken socket. The kernel reports it once (`sk_err`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketError {
    /// The next operation, if nothing else has got it.
    Unreported,
    /// A write has got it: a read finds what looks like a FIN.
    Reported,
}

/// What a read, a peek or a fill has come to.
#[derive(Debug)]
pub enum ReadOutcome {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The queue is empty.
    Empty,
    /// A signal came first.
    Interrupted,
    /// The end of the stream.
    End,
    /// The connection is broken, or the operation is not possible.
    Failed(io::Error),
}

/// What a write or a drain has come to.
#[derive(Clone, Copy, Debug)]
pub enum WriteOutcome {
    /// The sink has taken so many bytes, at least one.
    Taken(usize),
    /// The send buffer is full.
    Full,
    /// A signal came first.
    Interrupted,
    /// The sink takes no byte more.
    Failed(SocketError),
}

impl From<io::Result<usize>> for ReadOutcome {
    fn from(read: io::Result<usize>) -> Self {
        match read {
            Ok(0) => ReadOutcome::End,
            Ok(len) => ReadOutcome::Bytes(len),
            Err(e) if e.kind() == ErrorKind::WouldBlock => ReadOutcome::Empty,
            Err(e) if e.kind() == ErrorKind::Interrupted => ReadOutcome::Interrupted,
            Err(e) => ReadOutcome::Failed(e),
        }
    }
}

impl From<io::Result<usize>> for WriteOutcome {
    fn from(written: io::Result<usize>) -> Self {
        match written {
            // A write of at least one byte that takes none is not repeated.
            Ok(0) => WriteOutcome::Failed(SocketError::Unreported),
            Ok(len) => WriteOutcome::Taken(len),
            Err(e) => match e.kind() {
                ErrorKind::WouldBlock => WriteOutcome::Full,
                ErrorKind::Interrupted => WriteOutcome::Interrupted,
                // EPIPE is no error of the socket but what is left to report of a
                // reset that came after a FIN, and a read finds that FIN rightly.
                ErrorKind::BrokenPipe => WriteOutcome::Failed(SocketError::Unreported),
                _ => WriteOutcome::Failed(SocketError::Reported),
            },
        }
    }
}

impl Source {
    /// A source of which nothing is known: the first event tells.
    pub const NEW: Source = Source::Open(Input {
        readiness: Readiness::Empty,
        short_read: ShortRead::EmptiesQueue,
        end: EndOfStream::Fin,
    });

    /// Whether a read may find something.
    pub fn is_readable(self) -> bool {
        matches!(self, Source::Open(input) if input.readiness == Readiness::Readable)
    }

    /// Whether a short read may leave something that no event reports.
    pub fn may_leave_more(self) -> bool {
        matches!(self, Source::Open(input) if input.short_read == ShortRead::MayLeaveMore)
    }

    /// An event has reported something to read.
    pub fn handle_readable(&mut self, short_read: ShortRead) {
        if let Source::Open(input) = self {
            input.readiness = Readiness::Readable;
            if short_read == ShortRead::MayLeaveMore {
                input.short_read = short_read;
            }
        }
    }

    /// Another operation has got the error of the socket, so that a read finds
    /// only the end.
    pub fn handle_error_reported(&mut self) {
        if let Source::Open(input) = self {
            input.end = EndOfStream::Break;
        }
    }

    /// A read has got fewer bytes than it has asked for.
    pub fn handle_short_read(&mut self) {
        if let Source::Open(input) = self
            && input.short_read == ShortRead::EmptiesQueue
        {
            input.readiness = Readiness::Empty;
        }
    }

    /// What a read has come to; returns how many bytes came.
    pub fn handle_read(&mut self, outcome: &ReadOutcome) -> usize {
        let Source::Open(input) = self else {
            return 0;
        };
        match outcome {
            ReadOutcome::Bytes(len) => return *len,
            ReadOutcome::Interrupted => {}
            ReadOutcome::Empty => input.readiness = Readiness::Empty,
            ReadOutcome::End if input.end == EndOfStream::Fin => *self = Source::Ended,
            ReadOutcome::End | ReadOutcome::Failed(_) => *self = Source::Broken,
        }
        0
    }
}

impl Sink {
    /// Whether it may take bytes, now or later.
    pub fn is_open(self) -> bool {
        matches!(self, Sink::Writable | Sink::Full)
    }

    /// Whether it takes no byte more, and no FIN.
    pub fn is_broken(self) -> bool {
        matches!(self, Sink::Broken(_))
    }

    /// An event has reported room in the send buffer.
    pub fn handle_writable(&mut self) {
        if *self == Sink::Full {
            *self = Sink::Writable;
        }
    }

    /// An event has reported a reset or a timeout.
    pub fn handle_failure(&mut self) {
        if self.is_open() {
            *self = Sink::Broken(SocketError::Unreported);
        }
    }

    /// What a write has come to; returns how many bytes were taken.
    pub fn handle_write(&mut self, outcome: WriteOutcome) -> usize {
        match outcome {
            WriteOutcome::Taken(len) => return len,
            WriteOutcome::Interrupted => {}
            WriteOutcome::Full => *self = Sink::Full,
            WriteOutcome::Failed(error) => *self = Sink::Broken(error),
        }
        0
    }
}
