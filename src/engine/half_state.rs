//! [`Source`] and [`Sink`] are the states of the two sockets of a direction; reads and
//! writes change them by their [`ReadOutcome`] and [`WriteOutcome`].
//!
//! Readiness is edge-triggered (mio's `Poll`, "Draining readiness"): a source stays
//! readable, and a sink writable, until an operation would block. Then it is not until
//! the next event.

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

/// The receive queue of an open source.
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

/// What a short read means: one that returns fewer bytes than it has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortRead {
    /// The queue is empty, and more bytes will be a new event (epoll(7), question 9).
    EmptiesQueue,
    /// There may be more in the queue that no event will report: an event has reported
    /// the end of the stream, or urgent data, before which a read stops.
    MayLeaveMore,
}

/// What a read of 0 bytes means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndOfStream {
    /// The peer's FIN.
    Fin,
    /// A broken connection. The kernel reports the error of a socket once (`sk_err`),
    /// and another operation has consumed it.
    Break,
}

/// The side that bytes go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// It takes bytes, as far as events and writes have shown.
    Writable,
    /// Its send buffer is full; an event reports when that changes.
    Full,
    /// Everything was written, and the FIN after it.
    Shut,
    /// It was reset or timed out, and takes no more bytes.
    Broken(SocketError),
}

/// Whether the error of a broken socket was reported. The kernel reports it once
/// (`sk_err`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketError {
    /// The next operation gets it.
    Unreported,
    /// A write has got it: a read now returns 0, like after a FIN.
    Reported,
}

/// The result of a read, a peek or a fill of a pipe.
#[derive(Debug)]
pub enum ReadOutcome {
    /// The number of bytes, at least one.
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

/// The result of a write or a drain of a pipe.
#[derive(Clone, Copy, Debug)]
pub enum WriteOutcome {
    /// The number of bytes taken, at least one.
    Taken(usize),
    /// The send buffer is full.
    Full,
    /// A signal came first.
    Interrupted,
    /// The sink is broken.
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
                // EPIPE does not consume the error of the socket: it follows a reset that
                // came after a FIN, and a read still returns that FIN.
                ErrorKind::BrokenPipe => WriteOutcome::Failed(SocketError::Unreported),
                _ => WriteOutcome::Failed(SocketError::Reported),
            },
        }
    }
}

impl WriteOutcome {
    /// The outcome of a drain that follows one which has taken a part of the pipe. splice(2)
    /// writes what a pipe holds piece by piece, and returns the bytes taken in place of the
    /// error that has stopped it (`splice_to_socket` in the kernel's `fs/splice.c`). That
    /// error is consumed: this drain fails with EPIPE, and a read returns 0 without a FIN.
    pub fn after_part(self) -> Self {
        match self {
            WriteOutcome::Failed(_) => WriteOutcome::Failed(SocketError::Reported),
            outcome => outcome,
        }
    }
}

impl Source {
    /// A new source, not readable before its first event.
    pub const NEW: Source = Source::Open(Input {
        readiness: Readiness::Empty,
        short_read: ShortRead::EmptiesQueue,
        end: EndOfStream::Fin,
    });

    /// Whether a read may return something.
    pub fn is_readable(self) -> bool {
        matches!(self, Source::Open(input) if input.readiness == Readiness::Readable)
    }

    /// Whether a short read may leave bytes that no event reports.
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

    /// Another operation has consumed the error of the socket, so that a read returns 0.
    pub fn handle_error_reported(&mut self) {
        if let Source::Open(input) = self {
            input.end = EndOfStream::Break;
        }
    }

    /// A read has returned fewer bytes than it has asked for.
    pub fn handle_short_read(&mut self) {
        if let Source::Open(input) = self
            && input.short_read == ShortRead::EmptiesQueue
        {
            input.readiness = Readiness::Empty;
        }
    }

    /// Applies the result of a read; returns the number of bytes.
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

    /// Whether it takes no more bytes and no FIN.
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

    /// Applies the result of a write; returns the number of bytes taken.
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
