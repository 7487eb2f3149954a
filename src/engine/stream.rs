//! [`Stream`]: the operations of a socket that a relay uses.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use crate::sys::Pipe;

/// A non-blocking socket, as a [`super::half::Half`] uses it.
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
