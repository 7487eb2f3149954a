//! One direction of a connection: bytes from a source to a sink.
//!
//! A [`Half`] holds no socket. Events tell it what is known of both
//! ([`super::relay_state`]), and [`Half::pump`] moves what can be moved without
//! waiting. A connection is two halves with the ends swapped.
//!
//! Memory: a byte is read into the scratch buffer that all connections share
//! and written on at once. What the sink does not take goes into a block from
//! the pool, and nothing more is read until it is gone, so that the receiver's
//! slowness reaches the sender through its own full window. When the pool is
//! used up, bytes are peeked at, written, and only then consumed: they wait in
//! the kernel, which has counted them against the receive buffer anyway.
//!
//! Bulk: a direction that has had a large read is spliced through a pipe in place
//! of the scratch buffer, until it runs dry. The pipe is lent for as long as bytes
//! are in it. Without one the direction is copied as before.

use std::io::{self, ErrorKind};
use std::ops::Add;

use super::buffers::{BLOCK_BYTES, Block, Buffers};
use super::relay_state::{ReadOutcome, ShortRead, Sink, SocketError, Source, WriteOutcome};
use super::stream::Stream;
use crate::sys::Pipe;

/// A read of so many bytes is bulk: from there on two system calls and no copy cost
/// less than two system calls and a copy.
const BULK_READ_BYTES: usize = 32 * 1024;
/// Bulk has run dry that comes in smaller pieces than this, if more was asked for,
const DRY_BYTES: usize = 16 * 1024;
/// so many of them in a row. A sender that is slower than the relay for a moment
/// has not ended its bulk.
const DRY_PIECES: u8 = 3;

/// One direction of a connection.
#[derive(Debug)]
pub struct Half {
    /// On the heap, since most directions have none for most of the time.
    pending: Option<Box<Pending>>,
    source: Source,
    sink: Sink,
    /// How many small pieces in a row are still taken for bulk.
    bulk: u8,
    /// How many bytes the sink has taken.
    delivered: u64,
}

/// Bytes that were read and not written yet.
#[derive(Debug)]
enum Pending {
    /// `start..end` of a block.
    Copied { block: Block, start: u32, end: u32 },
    /// So many bytes in a pipe.
    Spliced { pipe: Pipe, len: u32 },
}

/// What [`Half::pump`] can do next.
enum Step {
    /// Write what was read.
    Flush,
    /// Read, and write what came.
    Transfer,
    /// Nothing: the direction is over, or an event comes first.
    Wait,
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many bytes were read.
    pub bytes: usize,
    /// The budget has ended it: there may be more to do, and no event reports it.
    pub more: bool,
}

/// How many bytes a turn may still read.
#[derive(Clone, Copy)]
struct Most {
    /// What is left of the budget.
    left: usize,
    /// The budget with which the turn began.
    budget: usize,
}

impl Most {
    /// How many bytes to splice at once through a pipe of that capacity. A turn that
    /// may fill the pipe does so, whatever is left: a small rest would cost as many
    /// system calls.
    fn for_pipe(self, capacity: usize) -> usize {
        if self.budget >= capacity {
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
    /// A direction in which nothing has happened yet. A new socket is taken
    /// to be writable: the first write shows if it is not.
    pub fn new() -> Self {
        Half {
            pending: None,
            source: Source::NEW,
            sink: Sink::Writable,
            bulk: 0,
            delivered: 0,
        }
    }

    /// An event has reported something to read from the source.
    pub fn handle_readable(&mut self, short_read: ShortRead) {
        self.source.handle_readable(short_read);
    }

    /// An event has reported room in the sink.
    pub fn handle_writable(&mut self) {
        self.sink.handle_writable();
    }

    /// An event has reported that the sink was reset or timed out. Without it a
    /// sink that nothing is written to would seem alive for ever.
    pub fn handle_sink_failure(&mut self) {
        self.sink.handle_failure();
    }

    /// Learns from the opposite direction, whose sink is this one's source, that a
    /// write has got the error of the socket.
    pub fn handle_error_of(&mut self, opposite: &Half) {
        if opposite.sink == Sink::Broken(SocketError::Reported) {
            self.source.handle_error_reported();
        }
    }

    /// What is known of the source.
    pub fn source(&self) -> Source {
        self.source
    }

    /// What is known of the sink.
    pub fn sink(&self) -> Sink {
        self.sink
    }

    /// How many bytes the sink has accepted. From the first on nobody can say what
    /// has become of it, and it is never sent a second time.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether all that was read has been written.
    pub fn is_flushed(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether nothing is left to do in this direction: it was ended in order,
    /// its sink is gone, or its source is gone and what it sent was passed on.
    pub fn is_over(&self) -> bool {
        !self.sink.is_open() || (self.source == Source::Broken && self.is_flushed())
    }

    /// Points the direction at another sink, with what is pending for it.
    /// Only for a sink that has accepted nothing.
    pub fn redirect(&mut self) {
        debug_assert_eq!(self.delivered, 0, "a byte would be sent twice");
        self.sink = Sink::Writable;
    }

    /// Gives what was lent back. To be called when the connection ends.
    pub fn release(&mut self, buffers: &mut Buffers) {
        match self.pending.take().map(|pending| *pending) {
            Some(Pending::Copied { block, .. }) => buffers.give_back(block),
            Some(Pending::Spliced { pipe, .. }) => buffers.discard_pipe(pipe),
            None => {}
        }
    }

    /// Whether it moves bulk, for which others should not have to wait.
    pub fn is_bulk(&self) -> bool {
        // The kernel splices nothing past urgent data.
        self.bulk > 0 && !self.source.may_leave_more()
    }

    /// Whether everything was passed on but the FIN.
    pub fn awaits_fin(&self) -> bool {
        self.sink.is_open() && self.source == Source::Ended && self.is_flushed()
    }

    /// Whether everything was passed on, be it with the FIN or not.
    pub fn has_ended(&self) -> bool {
        self.awaits_fin() || self.sink == Sink::Shut
    }

    /// Passes the FIN on.
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

    /// Moves bytes until one side would block, all but the FIN was passed on,
    /// the direction is over, or `budget` bytes were read: less than a pipe more, if
    /// the budget is for a whole one.
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
                    let most = Most {
                        left: budget - bytes,
                        budget,
                    };
                    bytes += self.transfer(source, sink, buffers, most);
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

    /// Reads once and writes on what came, in the best way that there is. Returns how many bytes were consumed.
    fn transfer<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        most: Most,
    ) -> usize {
        if self.is_bulk()
            && let Some(pipe) = buffers.lend_pipe()
        {
            return self.splice(source, sink, buffers, pipe, most);
        }
        let most = most.left.min(BLOCK_BYTES);
        if buffers.has_block() {
            self.copy(source, sink, buffers, most)
        } else {
            self.copy_peeked(source, sink, buffers, most)
        }
    }

    fn splice<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        pipe: Pipe,
        most: Most,
    ) -> usize {
        let asked = most.for_pipe(pipe.capacity() as usize);
        match ReadOutcome::from(source.fill(&pipe, asked)) {
            // A pipe may be full of small pieces before it has taken what it was
            // to take, so that only a refusal shows that the source is empty.
            ReadOutcome::Bytes(len) => {
                self.bulk = if len < DRY_BYTES.min(asked) {
                    self.bulk - 1
                } else {
                    DRY_PIECES
                };
                self.drain(sink, buffers, pipe, len as u32);
                return len;
            }
            // The kernel says so at urgent data too, which it does not splice:
            // a read tells what is left.
            ReadOutcome::End => self.bulk = 0,
            ReadOutcome::Failed(error) => {
                self.bulk = 0;
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

    fn copy<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        most: usize,
    ) -> usize {
        let outcome = source.read(&mut buffers.scratch[..most]).into();
        let len = self.source.handle_read(&outcome);
        if len == 0 {
            return 0;
        }
        self.note_size(len);
        if len < most {
            self.source.handle_short_read();
        }
        let written = self.write(sink, &buffers.scratch[..len]);
        if written < len {
            let block = buffers.keep(len);
            self.pending = Some(Box::new(Pending::Copied {
                block,
                start: written as u32,
                end: len as u32,
            }));
        }
        len
    }

    /// Peeks, writes, and consumes what the sink took. Returns how many bytes
    /// were consumed.
    fn copy_peeked<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        most: usize,
    ) -> usize {
        let outcome = source.peek(&mut buffers.scratch[..most]).into();
        let len = self.source.handle_read(&outcome);
        if len == 0 {
            return 0;
        }
        self.note_size(len);
        let written = self.write(sink, &buffers.scratch[..len]);
        // What is not consumed is still there, and no event reports it.
        if len < most && written == len {
            self.source.handle_short_read();
        }
        let mut consumed = 0;
        while consumed < written {
            match source.read(&mut buffers.scratch[..written - consumed]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => {
                    // The kernel took back bytes that it had shown us: the
                    // stream cannot be continued without sending them twice.
                    self.source = Source::Broken;
                    break;
                }
                Ok(n) => consumed += n,
            }
        }
        written
    }

    /// A read into the scratch buffer has got `len` bytes.
    fn note_size(&mut self, len: usize) {
        self.bulk = match len {
            BULK_READ_BYTES.. => DRY_PIECES,
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

    /// Empties a pipe with `len` bytes in it, or keeps what the sink leaves.
    fn drain<D: Stream>(&mut self, sink: &mut D, buffers: &mut Buffers, pipe: Pipe, len: u32) {
        let drained = sink.drain(&pipe, len as usize);
        let len = len - self.handle_write(drained.into()) as u32;
        if len == 0 {
            buffers.give_back_pipe(pipe);
        } else {
            self.pending = Some(Box::new(Pending::Spliced { pipe, len }));
        }
    }

    /// Writes once; returns how many bytes the sink has taken.
    fn write<D: Stream>(&mut self, sink: &mut D, bytes: &[u8]) -> usize {
        self.handle_write(sink.write(bytes).into())
    }

    fn handle_write(&mut self, outcome: WriteOutcome) -> usize {
        let taken = self.sink.handle_write(outcome);
        self.delivered += taken as u64;
        taken
    }
}

/// Whether splice(2) has failed because of the socket, and not because it is not
/// allowed or not to be had here.
fn is_of_the_stream(error: &io::Error) -> bool {
    let here = [libc::EPERM, libc::EINVAL, libc::ENOSYS, libc::ENOMEM];
    !error
        .raw_os_error()
        .is_some_and(|number| here.contains(&number))
}

#[cfg(test)]
mod tests;
