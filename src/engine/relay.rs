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
//! Edge-triggered readiness (mio's `Poll`, "Draining readiness"): a flag is
//! cleared only by an operation that found nothing more to do.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use super::buffers::{BLOCK_BYTES, Block, Buffers};

/// What a half needs of a socket that does not block.
pub trait Stream: Read + Write {
    /// Reads without consuming.
    ///
    /// # Errors
    /// Those of a read.
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

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

/// One direction of a connection.
#[derive(Debug)]
pub struct Half {
    pending: Option<Pending>,
    source: Source,
    sink: Sink,
    readable: bool,
    writable: bool,
    /// The loop has reported the source's end, or urgent data: a short read then
    /// leaves something behind, and the edge does not come again.
    reads_end_short: bool,
    delivered: bool,
    /// A write has failed with the error of the sink's socket.
    took_error: bool,
    /// The source is broken, even if a read finds an end in order.
    severed: bool,
}

/// Bytes that were read and not written yet: `start..end` of the block.
#[derive(Debug)]
struct Pending {
    block: Block,
    start: u32,
    end: u32,
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
            reads_end_short: false,
            delivered: false,
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

    /// Whether the sink has accepted a byte: from then on nobody can say what
    /// has become of it, and it is never sent a second time.
    pub fn delivered(&self) -> bool {
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
        debug_assert!(!self.delivered, "a byte would be sent twice");
        self.sink = Sink::Open;
        self.writable = true;
        self.took_error = false;
    }

    /// Gives the memory back. To be called when the connection ends.
    pub fn release(&mut self, buffers: &mut Buffers) {
        if let Some(pending) = self.pending.take() {
            buffers.give_back(pending.block);
        }
    }

    /// Moves bytes until one side would block, the direction is over, or
    /// `budget` bytes were read. Returns whether the budget ended it: then
    /// there may be more to do, and no event is going to say so.
    pub fn pump<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
        budget: usize,
    ) -> bool {
        let mut left = budget;
        while self.sink == Sink::Open {
            if self.pending.is_some() {
                if !self.writable {
                    return false;
                }
                self.flush(sink, buffers);
            } else if self.source == Source::Ended {
                self.finish(sink);
            } else if self.source == Source::Broken || !self.readable || !self.writable {
                return false;
            } else if left == 0 {
                return true;
            } else if buffers.has_block() {
                left = left.saturating_sub(self.transfer(source, sink, buffers));
            } else {
                left = left.saturating_sub(self.transfer_peeked(source, sink, buffers));
            }
        }
        false
    }

    /// Reads once and writes on what came. Returns how many bytes were read.
    fn transfer<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
    ) -> usize {
        let read = source.read(&mut buffers.scratch[..]);
        let len = self.after_read(read);
        if len == 0 {
            return 0;
        }
        let written = self.write(sink, &buffers.scratch[..len]);
        if written < len {
            let block = buffers.keep(len);
            self.pending = Some(Pending {
                block,
                start: written as u32,
                end: len as u32,
            });
        }
        len
    }

    /// Peeks, writes, and consumes what the sink took. Returns how many bytes
    /// were consumed.
    fn transfer_peeked<S: Stream, D: Stream>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffers: &mut Buffers,
    ) -> usize {
        let peeked = source.peek(&mut buffers.scratch[..]);
        let len = self.after_read(peeked);
        if len == 0 {
            return 0;
        }
        let written = self.write(sink, &buffers.scratch[..len]);
        // What was not consumed is still there, and no event announces it.
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
            Ok(len) => {
                // A short read has emptied the queue (epoll(7), question 9),
                // and whatever comes later is a new edge.
                self.readable = len == BLOCK_BYTES || self.reads_end_short;
                return len;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.source = Source::Broken,
        }
        0
    }

    fn flush<D: Stream>(&mut self, sink: &mut D, buffers: &mut Buffers) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        let left = &pending.block[pending.start as usize..pending.end as usize];
        pending.start += self.write(sink, left) as u32;
        if pending.start == pending.end {
            buffers.give_back(pending.block);
        } else {
            self.pending = Some(pending);
        }
    }

    /// Writes once; returns how many bytes the sink took.
    fn write<D: Stream>(&mut self, sink: &mut D, bytes: &[u8]) -> usize {
        match sink.write(bytes) {
            Ok(written) => {
                self.delivered |= written > 0;
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

    fn finish<D: Stream>(&mut self, sink: &mut D) {
        self.sink = match sink.shut_write() {
            Ok(()) => Sink::Shut,
            Err(_) => Sink::Broken,
        };
    }
}

#[cfg(test)]
mod tests;
