//! Sockets that play a script, and a loop around them that reports what epoll
//! would. The property tests use them, and so does the fuzzer in `tests/fuzz`.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use super::{BLOCK_BYTES, Buffers, Half, Pipe, ShortRead, Stream};

/// What one system call on a scripted socket does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Moves at most so many bytes.
    Take(usize),
    /// EAGAIN; an event follows.
    Block,
    /// EINTR.
    Interrupt,
}

/// How the source's stream ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    Fin,
    Reset,
}

/// A socket that plays a script, and then serves every call in full.
pub struct Scripted {
    pub input: Vec<u8>,
    pub read: usize,
    /// So many of the bytes not read yet were shown by the last peek.
    pub(super) peeked: usize,
    pub(super) ending: Ending,
    pub(super) steps: VecDeque<Step>,
    pub output: Vec<u8>,
    /// Writes fail after so many bytes.
    pub fails_after: Option<usize>,
    pub shut: u32,
    /// Whether splice(2) is allowed to read from it.
    pub(super) splices: bool,
    /// An operation found nothing more to do: the loop is going to report
    /// when that changes.
    pub(super) armed: bool,
}

impl Scripted {
    pub fn source(input: &[u8], ending: Ending, steps: &[Step]) -> Self {
        Scripted {
            input: input.to_vec(),
            ending,
            ..Scripted::sink(steps)
        }
    }

    pub fn sink(steps: &[Step]) -> Self {
        Scripted {
            input: Vec::new(),
            read: 0,
            peeked: 0,
            ending: Ending::Fin,
            steps: steps.iter().copied().collect(),
            output: Vec::new(),
            fails_after: None,
            shut: 0,
            splices: true,
            armed: true,
        }
    }

    /// How many bytes the next call may move, or why it may not.
    fn step(&mut self) -> io::Result<usize> {
        match self.steps.pop_front() {
            None => Ok(usize::MAX),
            Some(Step::Take(len)) => Ok(len.max(1)),
            Some(Step::Interrupt) => Err(ErrorKind::Interrupted.into()),
            Some(Step::Block) => {
                self.armed = true;
                Err(ErrorKind::WouldBlock.into())
            }
        }
    }

    /// How many bytes the next write may take, or why it takes none.
    fn write_step(&mut self) -> io::Result<usize> {
        assert_eq!(self.shut, 0, "a write after the FIN");
        let most = self.step()?;
        let room = self
            .fails_after
            .map_or(usize::MAX, |limit| limit - self.output.len());
        if room == 0 {
            return Err(ErrorKind::BrokenPipe.into());
        }
        Ok(most.min(room))
    }

    fn copy(&mut self, buffer: &mut [u8], most: usize) -> io::Result<usize> {
        let left = &self.input[self.read..];
        if left.is_empty() {
            return match self.ending {
                Ending::Fin => Ok(0),
                Ending::Reset => Err(ErrorKind::ConnectionReset.into()),
            };
        }
        let len = left.len().min(buffer.len()).min(most);
        buffer[..len].copy_from_slice(&left[..len]);
        // A short read means that the queue was empty: the rest arrives later
        // and is reported.
        self.armed |= len < buffer.len();
        Ok(len)
    }
}

impl Read for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What was peeked at is there: the kernel does not block on it.
        let most = if self.peeked > 0 {
            self.peeked
        } else {
            self.step()?
        };
        let len = self.copy(buffer, most)?;
        self.read += len;
        self.peeked = self.peeked.saturating_sub(len);
        Ok(len)
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.write_step()?);
        self.output.extend(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Scripted {
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.step()?;
        self.peeked = self.copy(buffer, most)?;
        Ok(self.peeked)
    }

    fn fill(&mut self, pipe: &Pipe, len: usize) -> io::Result<usize> {
        if !self.splices {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let most = self.step()?.min(len);
        let mut bytes = vec![0; most.min(self.input.len() - self.read)];
        let len = self.copy(&mut bytes, most)?;
        (&pipe.writer).write_all(&bytes)?;
        self.read += len;
        Ok(len)
    }

    fn drain(&mut self, pipe: &Pipe, len: usize) -> io::Result<usize> {
        let most = self.write_step()?.min(len);
        let at = self.output.len();
        self.output.resize(at + most, 0);
        (&pipe.reader).read_exact(&mut self.output[at..])?;
        Ok(most)
    }

    fn shut_write(&mut self) -> io::Result<()> {
        self.shut += 1;
        Ok(())
    }
}

/// Pumps as the loop would: an event when there is one to report, another
/// turn when the budget has ended the last one.
pub fn run(half: &mut Half, source: &mut Scripted, sink: &mut Scripted, buffers: &mut Buffers) {
    for _ in 0..100_000 {
        if source.armed {
            source.armed = false;
            half.handle_readable(if source.read == source.input.len() {
                ShortRead::MayLeaveMore
            } else {
                ShortRead::EmptiesQueue
            });
        }
        if sink.armed {
            sink.armed = false;
            half.handle_writable();
        }
        let more = half.pump(source, sink, buffers, BLOCK_BYTES).more;
        if half.awaits_fin() {
            half.finish(sink);
        }
        if half.is_over() {
            return;
        }
        assert!(
            more || source.armed || sink.armed,
            "stuck: no event will come for {half:?}"
        );
    }
    panic!("never over: {half:?}");
}
