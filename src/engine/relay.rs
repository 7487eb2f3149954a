//! One direction of a connection: bytes from a source to a sink.
//!
//! A [`Half`] holds no socket. It is told what the loop knows of both
//! (readable, writable), and [`Half::pump`] moves what can be moved without
//! waiting. A connection is two halves with the ends swapped.
//!
//! Memory: a byte is read into the scratch buffer that all connections share
//! and written on at once. What the sink does not take goes into a block from
//! the pool, and nothing more is read until it is gone, so that the receiver's
//! slowness reaches the sender through its own full window. When the pool is
//! used up, bytes are peeked at, written, and only then consumed: they wait in
//! the kernel, which has counted them against the receive buffer anyway.
//!
//! Bulk: a direction that fills one read after another is spliced through a
//! pipe in place of the scratch buffer, until it runs dry. The pipe is lent for
//! as long as bytes are in it. Without one the direction is copied as before.
//!
//! Edge-triggered readiness (mio's `Poll`, "Draining readiness"): a flag is
//! cleared only by an operation that found nothing more to do.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::ops::Add;

use super::buffers::{BLOCK_BYTES, Block, Buffers};
use crate::sys::Pipe;

/// Reads of so many bytes, in a row,
const BULK_READ_BYTES: usize = 32 * 1024;
/// and so many of them, are bulk: from there on two system calls and no copy
/// cost less than two system calls and a copy.
const BULK_READS: u8 = 3;
/// Bulk that comes in smaller pieces than this has run dry, if more was asked for.
const DRY_BYTES: usize = 16 * 1024;

/// What a half needs of a socket that does not block.
pub trait Stream: Read + Write {
    /// Reads without consuming.
    ///
    /// # Errors
    /// Those of a read.
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Moves up to `len` bytes that were received into the pipe.
    ///
    /// # Errors
    /// Those of a read; see [`Pipe::fill`].
    fn fill(&mut self, pipe: &Pipe, len: usize) -> io::Result<usize>;

    /// Moves up to `len` bytes from the pipe to be sent.
    ///
    /// # Errors
    /// Those of a write.
    fn drain(&mut self, pipe: &Pipe, len: usize) -> io::Result<usize>;

    /// Sends a FIN after all that was written.
    ///
    /// # Errors
    /// Those of shutdown(2).
    fn shut_write(&mut self) -> io::Result<()>;
}

impl Stream for mio::net::TcpStream {
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        mio::net::TcpStream::peek(self, buffer)
    }

    fn fill(&mut self, pipe: &Pipe, len: usize) -> io::Result<usize> {
        pipe.fill(self, len)
    }

    fn drain(&mut self, pipe: &Pipe, len: usize) -> io::Result<usize> {
        pipe.drain(self, len)
    }

    fn shut_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// What is known of the side that bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// More may come.
    Open,
    /// It has sent its FIN, and everything before it was read.
    Ended,
    /// It was reset or timed out, and everything before that was read.
    Broken,
}

/// What is known of the side that bytes go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// It takes bytes.
    Open,
    /// Everything was written, and the FIN after it.
    Shut,
    /// A write failed: it will take no byte more.
    Broken,
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

/// One direction of a connection.
#[derive(Debug)]
pub struct Half {
    /// On the heap, since most directions have none for most of the time.
    pending: Option<Box<Pending>>,
    source: Source,
    sink: Sink,
    readable: bool,
    writable: bool,
    /// How many reads in a row were large, [`BULK_READS`] at most.
    large_reads: u8,
    /// The loop has reported the source's end, or urgent data: a short read then
    /// leaves something behind, and the edge does not come again.
    reads_end_short: bool,
    /// How many bytes the sink has taken.
    delivered: u64,
    /// A write has failed with the error of the sink's socket.
    took_error: bool,
    /// The source is broken, even if a read finds an end in order.
    severed: bool,
}

/// Bytes that were read and not written yet.
#[derive(Debug)]
enum Pending {
    /// `start..end` of a block.
    Copied { block: Block, start: u32, end: u32 },
    /// So many bytes in a pipe.
    Spliced { pipe: Pipe, len: u32 },
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many bytes were read.
    pub bytes: usize,
    /// The budget has ended it: there may be more to do, and no event is going
    /// to say so.
    pub more: bool,
}

impl Half {
    /// A direction in which nothing has happened yet. A new socket is taken
    /// to be writable: the first write shows if it is not.
    pub fn new() -> Self {
        Half {
            pending: None,
            source: Source::Open,
            sink: Sink::Open,
            readable: false,
            writable: true,
            large_reads: 0,
            reads_end_short: false,
            delivered: 0,
            took_error: false,
            severed: false,
        }
    }

    /// The loop has seen the source readable, maybe at its end or with urgent
    /// data, so that a short read has not emptied it.
    pub fn source_ready(&mut self, reads_end_short: bool) {
        self.readable = true;
        self.reads_end_short |= reads_end_short;
    }

    /// The loop has seen the sink writable.
    pub fn sink_ready(&mut self) {
        self.writable = true;
    }

    /// The loop has seen the sink reset or timed out: it will take no byte more.
    /// Without this a sink that nothing is written to would seem alive for ever.
    pub fn sink_failed(&mut self) {
        if self.sink == Sink::Open {
            self.sink = Sink::Broken;
        }
    }

    /// Learns from the opposite direction, which writes to the socket that this
    /// one reads from. The kernel reports an error of a socket once (`sk_err`);
    /// if a write got it, a read finds what looks like a FIN.
    pub fn heed(&mut self, opposite: &Half) {
        self.severed |= opposite.took_error;
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
        self.sink != Sink::Open || (self.source == Source::Broken && self.is_flushed())
    }

    /// Points the direction at another sink, with what is pending for it.
    /// Only for a sink that has accepted nothing.
    pub fn redirect(&mut self) {
        debug_assert_eq!(self.delivered, 0, "a byte would be sent twice");
        self.sink = Sink::Open;
        self.writable = true;
        self.took_error = false;
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
        self.large_reads == BULK_READS && !self.reads_end_short
    }

    /// Whether everything was passed on but the FIN.
    pub fn awaits_fin(&self) -> bool {
        self.sink == Sink::Open && self.source == Source::Ended && self.is_flushed()
    }

    /// Passes the FIN on.
    pub fn finish<D: Stream>(&mut self, sink: &mut D) {
        self.sink = match sink.shut_write() {
            Ok(()) => Sink::Shut,
            Err(_) => Sink::Broken,
        };
    }

    /// Leaves the FIN to close(2), or to a shutdown(2) of both sides.
    pub fn finish_by_close(&mut self) {
        debug_assert!(self.awaits_fin() || self.sink == Sink::Shut);
        self.sink = Sink::Shut;
    }

    /// Moves bytes until one side would block, all but the FIN was passed on,
    /// the direction is over, or `budget` bytes were read.
    pub fn pump<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        budget: usize,
    ) -> Moved {
        let mut bytes = 0;
        while self.sink == Sink::Open {
            if self.pending.is_some() {
                if !self.writable {
                    break;
                }
                self.flush(sink, buffers);
            } else if self.source != Source::Open || !self.readable || !self.writable {
                break;
            } else if bytes >= budget {
                return Moved { bytes, more: true };
            } else {
                bytes += self.transfer(source, sink, buffers, budget - bytes);
            }
        }
        Moved { bytes, more: false }
    }

    /// Reads once, `most` bytes, and writes on what came, in the best way that
    /// there is. Returns how many bytes were read.
    fn transfer<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        most: usize,
    ) -> usize {
        if self.is_bulk()
            && let Some(pipe) = buffers.lend_pipe()
        {
            return self.splice(source, sink, buffers, pipe, most);
        }
        let most = most.min(BLOCK_BYTES);
        match buffers.has_block() {
            true => self.copy(source, sink, buffers, most),
            false => self.copy_peeked(source, sink, buffers, most),
        }
    }

    fn splice<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        pipe: Pipe,
        most: usize,
    ) -> usize {
        let asked = most.min(pipe.capacity() as usize);
        let filled = source.fill(&pipe, asked);
        if says_end(&filled) {
            // The kernel says so at urgent data too, which it does not splice, and it
            // reports an error once: a read tells what is left.
            self.severed |= filled.is_err_and(|e| is_of_the_stream(&e));
            self.large_reads = 0;
            buffers.give_back_pipe(pipe);
            return 0;
        }
        let len = self.after_read(filled);
        if len == 0 {
            buffers.give_back_pipe(pipe);
            return 0;
        }
        // A pipe may be full of small pieces before it has taken what it was
        // to take, so that only a refusal shows that the source is empty.
        self.readable = true;
        if len < DRY_BYTES.min(asked) {
            self.large_reads = 0;
        }
        self.drain(sink, buffers, pipe, len as u32);
        len
    }

    fn copy<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        most: usize,
    ) -> usize {
        let read = source.read(&mut buffers.scratch[..most]);
        let len = self.after_read(read);
        if len == 0 {
            return 0;
        }
        self.note_read(len, most);
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
        let peeked = source.peek(&mut buffers.scratch[..most]);
        let len = self.after_read(peeked);
        if len == 0 {
            return 0;
        }
        self.note_read(len, most);
        let written = self.write(sink, &buffers.scratch[..len]);
        // What was not consumed is still there, and no event reports it.
        self.readable |= written < len;
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

    /// Draws the conclusions of a read or a peek; returns how many bytes came.
    fn after_read(&mut self, read: io::Result<usize>) -> usize {
        match read {
            Ok(0) if self.severed => self.source = Source::Broken,
            Ok(0) => self.source = Source::Ended,
            Ok(len) => return len,
            Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.source = Source::Broken,
        }
        0
    }

    /// Draws the conclusions of a read of up to `asked` bytes that got `len`.
    fn note_read(&mut self, len: usize, asked: usize) {
        // A short read has emptied the queue (epoll(7), question 9), and
        // whatever comes later is a new edge.
        self.readable = len == asked || self.reads_end_short;
        self.large_reads = match len {
            BULK_READ_BYTES.. => BULK_READS.min(self.large_reads + 1),
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
        let len = len - self.after_write(drained) as u32;
        if len == 0 {
            buffers.give_back_pipe(pipe);
        } else {
            self.pending = Some(Box::new(Pending::Spliced { pipe, len }));
        }
    }

    /// Writes once; returns how many bytes the sink took.
    fn write<D: Stream>(&mut self, sink: &mut D, bytes: &[u8]) -> usize {
        let written = sink.write(bytes);
        self.after_write(written)
    }

    /// Draws the conclusions of a write; returns how many bytes the sink took.
    fn after_write(&mut self, written: io::Result<usize>) -> usize {
        match written {
            // Nobody asks for nothing to be written.
            Ok(0) => self.sink = Sink::Broken,
            Ok(written) => {
                self.delivered += written as u64;
                return written;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                self.sink = Sink::Broken;
                // EPIPE is what is left to say of a reset that came after a FIN,
                // and such a FIN is one.
                self.took_error = e.kind() != ErrorKind::BrokenPipe;
            }
        }
        0
    }
}

/// Whether a read has found an end, be it in order or not.
fn says_end(read: &io::Result<usize>) -> bool {
    match read {
        Ok(len) => *len == 0,
        Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
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
