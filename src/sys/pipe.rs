//! A [`Pipe`] for splice(2).

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, RawFd};

use super::check;

/// A pipe that bytes pass through from one socket to another without being
/// copied (splice(2)).
#[derive(Debug)]
pub struct Pipe {
    /// Where bytes come out.
    pub reader: PipeReader,
    /// Where they go in.
    pub writer: PipeWriter,
    capacity: u32,
}

impl Pipe {
    /// A pipe of `bytes` if the kernel gives so many to this user, else of as
    /// many as it gives: see `/proc/sys/fs/pipe-user-pages-soft` in proc(5).
    ///
    /// # Errors
    /// What pipe2(2) says, most likely that there is no descriptor left.
    pub fn new(bytes: u32) -> io::Result<Pipe> {
        let (reader, writer) = io::pipe()?;
        let fd = writer.as_raw_fd();
        let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // SAFETY: both calls take a descriptor that `writer` owns, and no
        // pointer. If the first one fails, the pipe stays as large as it is.
        let capacity = check(unsafe {
            libc::fcntl(fd, libc::F_SETPIPE_SZ, wanted);
            libc::fcntl(fd, libc::F_GETPIPE_SZ)
        })?;
        Ok(Pipe {
            reader,
            writer,
            capacity: capacity.unsigned_abs(),
        })
    }

    /// How many bytes it takes, if they come in whole pages.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Moves up to `len` bytes from a socket that does not block into the
    /// pipe. Like a read, it returns 0 at the end of the stream, but also before
    /// urgent data if the end has been received.
    ///
    /// # Errors
    /// Those of a read. `WouldBlock` also means that the pipe is full, or that
    /// urgent data comes next, before which the kernel stops.
    pub fn fill(&self, socket: &impl AsRawFd, len: usize) -> io::Result<usize> {
        splice(socket.as_raw_fd(), self.writer.as_raw_fd(), len)
    }

    /// Moves up to `len` bytes from the pipe to a socket that does not block.
    ///
    /// # Errors
    /// Those of a write.
    pub fn drain(&self, socket: &impl AsRawFd, len: usize) -> io::Result<usize> {
        splice(self.reader.as_raw_fd(), socket.as_raw_fd(), len)
    }
}

fn splice(from: RawFd, to: RawFd, len: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = std::ptr::null_mut();
    // SAFETY: the callers own both descriptors; null offsets ask for the
    // position that pipes and sockets have anyway.
    let moved = unsafe { libc::splice(from, none, to, none, len, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_pipe_takes_bytes_from_one_socket_to_another() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (one, listener.accept().unwrap().0)
        };
        let ((mut writer, source), (sink, mut reader)) = (connect(), connect());
        let pipe = Pipe::new(1 << 16).unwrap();
        assert!(pipe.capacity() >= 4096);
        writer.write_all(b"bytes").unwrap();
        assert_eq!(pipe.fill(&source, 100).unwrap(), 5);
        assert_eq!(pipe.drain(&sink, 5).unwrap(), 5);
        let mut out = [0; 5];
        reader.read_exact(&mut out).unwrap();
        assert_eq!(&out, b"bytes");
        source.set_nonblocking(true).unwrap();
        let nothing = pipe.fill(&source, 100).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(writer);
        assert_eq!(pipe.fill(&source, 100).unwrap(), 0);
    }
}
