//! A [`Half`] is one direction of a connection: it moves bytes from a source to a sink.
//!
//! A half holds no socket. It keeps the states of both sockets
//! ([`super::half_state`]), which events update, and [`Half::pump`] moves the bytes that
//! can be moved without waiting. A connection has two halves with source and sink
//! swapped.
//!
//! Memory: bytes are read into a scratch buffer that all connections share, and written
//! at once. Bytes that the sink does not take are kept in a block from a pool, and
//! nothing more is read until they are written: backpressure reaches the sender through
//! the full window of the source. When the pool is exhausted, bytes are peeked, written,
//! and only then consumed: they stay in the kernel, where they count against the receive
//! buffer.
//!
//! Bulk: after a large read, a direction is spliced through a pipe instead of copied
//! through the scratch buffer, until reads are small again. The pipe is lent from a pool
//! while it holds bytes. If there is none, the direction is copied.

use std::io::{self, ErrorKind};
use std::ops::Add;

use super::buffers::{BLOCK_BYTES, Block, Buffers};
use super::half_state::{ReadOutcome, ShortRead, Sink, SocketError, Source, WriteOutcome};
use super::stream::Stream;
use crate::sys::Pipe;

/// A read of this size or more begins bulk: from there on, two system calls without a
/// copy cost less than two system calls with one.
const BULK_READ_BYTES: usize = 32 * 1024;
/// A splice of less than this is small, if more was asked for.
const SMALL_SPLICE_BYTES: usize = 16 * 1024;
/// Bulk ends after this number of small splices in a row: a sender that is slower than
/// the relay for a moment has not ended its bulk.
const SMALL_SPLICES_THAT_END_BULK: u8 = 3;

/// One direction of a connection.
#[derive(Debug)]
pub struct Half {
    /// Bytes that were read and not written yet; boxed, because most directions have
    /// none most of the time.
    pending: Option<Box<Pending>>,
    source: Source,
    sink: Sink,
    /// The number of small splices after which bulk ends; 0 while there is no bulk.
    small_splices_left: u8,
    /// The number of bytes that the sink has taken.
    delivered: u64,
}

/// Bytes that were read and not written yet.
#[derive(Debug)]
enum Pending {
    /// `start..end` of a block.
    Copied { block: Block, start: u32, end: u32 },
    /// `len` bytes in a pipe.
    Spliced { pipe: Pipe, len: u32 },
}

/// The next step of [`Half::pump`].
enum Step {
    /// Write the pending bytes.
    Flush,
    /// Read, and write what was read.
    Transfer,
    /// Nothing: the direction is over, or waits for an event.
    Wait,
}

/// The result of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The number of bytes read.
    pub bytes: usize,
    /// Whether the budget has ended the turn: work may be left that no event reports.
    pub more: bool,
}

/// The budget of a turn, in bytes to read.
#[derive(Clone, Copy)]
struct Budget {
    /// What is left of it.
    left: usize,
    /// What it was at the start of the turn.
    total: usize,
}

impl Budget {
    /// The size of a splice through a pipe of `capacity` bytes. If the whole budget is
    /// enough to fill the pipe, the pipe is filled, whatever is left of the budget: a
    /// small rest would cost as many system calls.
    fn for_pipe(self, capacity: usize) -> usize {
        if self.total >= capacity {
            capacity
        } else {
            self.left
        }
    }
}

impl Add for Moved {
    type Output = Moved;

    fn add(self, other: Moved) -> Moved {
        Moved {
            bytes: self.bytes + other.bytes,
            more: self.more || other.more,
        }
    }
}

impl Half {
    /// A new direction. Its sink counts as writable until a write shows that it is not.
    pub fn new() -> Self {
        Half {
            pending: None,
            source: Source::NEW,
            sink: Sink::Writable,
            small_splices_left: 0,
            delivered: 0,
        }
    }

    /// An event has reported that the source is readable.
    pub fn handle_readable(&mut self, short_read: ShortRead) {
        self.source.handle_readable(short_read);
    }

    /// An event has reported that the sink is writable.
    pub fn handle_writable(&mut self) {
        self.sink.handle_writable();
    }

    /// An event has reported that the sink was reset or timed out. A sink to which
    /// nothing is written shows that in no other way.
    pub fn handle_sink_failure(&mut self) {
        self.sink.handle_failure();
    }

    /// To be called after a write of the opposite direction, whose sink is this one's source: if
    /// that write has consumed the socket's error, this direction's next read returns 0 for a
    /// broken connection, not for a FIN.
    pub fn handle_error_of(&mut self, opposite: &Half) {
        if opposite.sink == Sink::Broken(SocketError::Reported) {
            self.source.handle_error_reported();
        }
    }

    /// Whether there are bytes to be read. A peek consumes the error of a socket that was
    /// reset, and a read after it would take the end for one in order.
    pub fn has_input<S: Stream>(&mut self, source: &mut S) -> bool {
        match ReadOutcome::from(source.peek(&mut [0])) {
            ReadOutcome::Bytes(_) => true,
            ReadOutcome::Failed(_) => {
                self.source.handle_error_reported();
                false
            }
            ReadOutcome::End | ReadOutcome::Empty | ReadOutcome::Interrupted => false,
        }
    }

    /// The state of the source.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The state of the sink.
    pub fn sink(&self) -> Sink {
        self.sink
    }

    /// The number of bytes that the sink has taken. Once it has taken the first, nobody
    /// knows what became of that, so the bytes are never sent to another sink.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether all that was read has been written.
    pub fn is_flushed(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether nothing is left to do: the FIN was sent, the sink is broken, or the source
    /// is broken and all that it sent was written.
    pub fn is_over(&self) -> bool {
        !self.sink.is_open() || (self.source == Source::Broken && self.is_flushed())
    }

    /// Replaces the sink, keeping the pending bytes. The old sink must have taken
    /// nothing.
    pub fn redirect(&mut self) {
        debug_assert_eq!(self.delivered, 0, "a byte would be sent twice");
        self.sink = Sink::Writable;
    }

    /// Begins anew with another sink: everything was written to the old one, and what comes
    /// next has nothing to do with that.
    pub fn begin_anew(&mut self) {
        debug_assert!(self.is_flushed(), "bytes of the old sink are left");
        self.delivered = 0;
        self.small_splices_left = 0;
        self.redirect();
    }

    /// Returns block and pipe to the pool, at the end of the connection.
    pub fn return_buffers(&mut self, buffers: &mut Buffers) {
        match self.pending.take().map(|pending| *pending) {
            Some(Pending::Copied { block, .. }) => buffers.give_back(block),
            Some(Pending::Spliced { pipe, .. }) => buffers.discard_pipe(pipe),
            None => {}
        }
    }

    /// Whether it moves bulk.
    pub fn is_bulk(&self) -> bool {
        // The kernel splices nothing past urgent data.
        self.small_splices_left > 0 && !self.source.may_leave_more()
    }

    /// Whether everything was written except the FIN.
    pub fn awaits_fin(&self) -> bool {
        self.sink.is_open() && self.source == Source::Ended && self.is_flushed()
    }

    /// Whether everything was written, with the FIN or without.
    pub fn has_ended(&self) -> bool {
        self.awaits_fin() || self.sink == Sink::Shut
    }

    /// Sends the FIN.
    pub fn finish<D: Stream>(&mut self, sink: &mut D) {
        self.sink = match sink.shut_write() {
            Ok(()) => Sink::Shut,
            Err(_) => Sink::Broken(SocketError::Unreported),
        };
    }

    /// Leaves the FIN to close(2), or to a shutdown(2) of both sides.
    pub fn finish_by_close(&mut self) {
        debug_assert!(self.has_ended());
        self.sink = Sink::Shut;
    }

    /// Moves bytes until source or sink would block, everything except the FIN was
    /// written, the direction is over, or `budget` bytes were read. A budget for a whole
    /// pipe may be exceeded by less than a pipe.
    pub fn pump<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        budget: usize,
    ) -> Moved {
        let mut bytes = 0;
        loop {
            match self.next_step() {
                Step::Wait => return Moved { bytes, more: false },
                Step::Flush => self.flush(sink, buffers),
                Step::Transfer if bytes >= budget => return Moved { bytes, more: true },
                Step::Transfer => {
                    let budget = Budget {
                        left: budget - bytes,
                        total: budget,
                    };
                    bytes += self.transfer(source, sink, buffers, budget);
                }
            }
        }
    }

    fn next_step(&self) -> Step {
        match (&self.sink, &self.pending) {
            (Sink::Writable, Some(_)) => Step::Flush,
            (Sink::Writable, None) if self.source.is_readable() => Step::Transfer,
            _ => Step::Wait,
        }
    }

    /// Reads once and writes what was read: spliced, copied, or copied after a peek.
    /// Returns the number of bytes consumed.
    fn transfer<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        budget: Budget,
    ) -> usize {
        if self.is_bulk()
            && let Some(pipe) = buffers.lend_pipe()
        {
            return self.splice(source, sink, buffers, pipe, budget);
        }
        self.copy(source, sink, buffers, budget.left.min(BLOCK_BYTES))
    }

    fn splice<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        pipe: Pipe,
        budget: Budget,
    ) -> usize {
        let asked = budget.for_pipe(pipe.capacity() as usize);
        match ReadOutcome::from(source.fill(&pipe, asked)) {
            // A pipe may be full of small pieces before it holds `asked` bytes, so a short
            // splice does not show that the source is empty.
            ReadOutcome::Bytes(len) => {
                self.small_splices_left = if len < SMALL_SPLICE_BYTES.min(asked) {
                    self.small_splices_left - 1
                } else {
                    SMALL_SPLICES_THAT_END_BULK
                };
                self.drain(sink, buffers, pipe, len as u32);
                return len;
            }
            // The kernel returns 0 before urgent data too, which it does not splice: the
            // next read shows what is left.
            ReadOutcome::End => self.small_splices_left = 0,
            ReadOutcome::Failed(error) => {
                self.small_splices_left = 0;
                if is_of_the_stream(&error) {
                    self.source.handle_error_reported();
                }
            }
            outcome @ (ReadOutcome::Empty | ReadOutcome::Interrupted) => {
                self.source.handle_read(&outcome);
            }
        }
        buffers.give_back_pipe(pipe);
        0
    }

    /// Reads, or peeks if there is no block that could keep what the sink does not take, and
    /// writes. Returns the number of bytes consumed.
    fn copy<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        budget: usize,
    ) -> usize {
        let can_keep = buffers.has_block();
        let input = &mut buffers.scratch[..budget];
        let input = match can_keep {
            true => source.read(input),
            false => source.peek(input),
        };
        let len = self.source.handle_read(&input.into());
        if len == 0 {
            return 0;
        }
        self.note_size(len);
        let written = self.write(sink, &buffers.scratch[..len]);
        // Bytes that are not consumed stay in the queue, and no event reports them.
        if len < budget && (can_keep || written == len) {
            self.source.handle_short_read();
        }
        if can_keep {
            self.keep(buffers, written, len);
            return len;
        }
        self.consume(source, buffers, written);
        written
    }

    /// Keeps the bytes that were read and not written: `written..len` of the scratch buffer.
    fn keep(&mut self, buffers: &mut Buffers, written: usize, len: usize) {
        if written < len {
            self.pending = Some(Box::new(Pending::Copied {
                block: buffers.keep(len),
                start: written as u32,
                end: len as u32,
            }));
        }
    }

    /// Reads the bytes that were peeked and written.
    fn consume<S: Stream>(&mut self, source: &mut S, buffers: &mut Buffers, written: usize) {
        let mut consumed = 0;
        while consumed < written {
            match source.read(&mut buffers.scratch[..written - consumed]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => {
                    // Peeked bytes are gone: the stream cannot continue without sending
                    // them twice.
                    self.source = Source::Broken;
                    break;
                }
                Ok(n) => consumed += n,
            }
        }
    }

    /// Begins or ends bulk, after a read of `len` bytes into the scratch buffer.
    fn note_size(&mut self, len: usize) {
        self.small_splices_left = match len {
            BULK_READ_BYTES.. => SMALL_SPLICES_THAT_END_BULK,
            _ => 0,
        };
    }

    fn flush<D: Stream>(&mut self, sink: &mut D, buffers: &mut Buffers) {
        match self.pending.take().map(|pending| *pending) {
            Some(Pending::Copied { block, start, end }) => {
                let start = start + self.write(sink, &block[start as usize..end as usize]) as u32;
                if start == end {
                    buffers.give_back(block);
                } else {
                    self.pending = Some(Box::new(Pending::Copied { block, start, end }));
                }
            }
            Some(Pending::Spliced { pipe, len }) => self.drain(sink, buffers, pipe, len),
            None => {}
        }
    }

    /// Writes the `len` bytes in a pipe, and keeps what the sink does not take. After a partial
    /// drain it drains again at once: if the sink was reset, the first call returns the bytes
    /// that it took, and only the next one fails.
    fn drain<D: Stream>(&mut self, sink: &mut D, buffers: &mut Buffers, pipe: Pipe, len: u32) {
        let mut left = len;
        while left > 0 && self.sink == Sink::Writable {
            let drained = WriteOutcome::from(sink.drain(&pipe, left as usize));
            let outcome = if left < len {
                drained.after_part()
            } else {
                drained
            };
            left -= self.handle_write(outcome) as u32;
        }
        if left == 0 {
            buffers.give_back_pipe(pipe);
        } else {
            self.pending = Some(Box::new(Pending::Spliced { pipe, len: left }));
        }
    }

    /// Writes once; returns the number of bytes that the sink has taken.
    fn write<D: Stream>(&mut self, sink: &mut D, bytes: &[u8]) -> usize {
        self.handle_write(sink.write(bytes).into())
    }

    fn handle_write(&mut self, outcome: WriteOutcome) -> usize {
        let taken = self.sink.handle_write(outcome);
        self.delivered += taken as u64;
        taken
    }
}

/// Whether splice(2) has failed because of the socket, and not because it is forbidden
/// or missing here.
fn is_of_the_stream(error: &io::Error) -> bool {
    let here = [libc::EPERM, libc::EINVAL, libc::ENOSYS, libc::ENOMEM];
    !error
        .raw_os_error()
        .is_some_and(|number| here.contains(&number))
}

#[cfg(test)]
mod tests;
