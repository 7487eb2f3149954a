//! Taking turns: edge-triggered events say once that a socket can be read, and
//! whoever does not read it empty has to come back to it by himself. One turn
//! is one read and one write, so that a stream does not hold up a small
//! message: neither on the client's clock nor in the server.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

/// Who has something to do.
#[derive(Default)]
pub struct Turns {
    queue: VecDeque<usize>,
    is_queued: Vec<bool>,
}

impl Turns {
    /// Gives it a turn, unless it is going to have one.
    pub fn give(&mut self, key: usize) {
        if key >= self.is_queued.len() {
            self.is_queued.resize(key + 1, false);
        }
        if !self.is_queued[key] {
            self.is_queued[key] = true;
            self.queue.push_back(key);
        }
    }

    /// Who is next.
    pub fn take(&mut self) -> Option<usize> {
        let key = self.queue.pop_front()?;
        self.is_queued[key] = false;
        Some(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Polls, waiting only while nobody has anything to do.
    pub fn poll(
        &self,
        poll: &mut Poll,
        events: &mut Events,
        most: Option<Duration>,
    ) -> io::Result<()> {
        let wait = if self.queue.is_empty() {
            most
        } else {
            Some(Duration::ZERO)
        };
        loop {
            match poll.poll(events, wait) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                polled => return polled,
            }
        }
    }
}

/// A socket, and what its events have said of it.
pub struct Socket {
    stream: TcpStream,
    token: Token,
    /// Whether there may be something to read.
    pub is_readable: bool,
    /// Whether there may be room to write.
    pub is_writable: bool,
    /// Whether the peer has sent its last, so that the end can be read.
    is_closed: bool,
    /// Whether events tell of room to write.
    hears_of_room: bool,
}

impl Socket {
    /// Hears of what there is to read.
    pub fn new(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Socket> {
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(Socket {
            stream,
            token,
            is_readable: false,
            is_writable: true,
            is_closed: false,
            hears_of_room: false,
        })
    }

    pub fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }

    /// Takes note of an event.
    pub fn handle(&mut self, event: &Event) {
        self.is_closed |= event.is_read_closed() || event.is_error();
        self.is_readable |= event.is_readable() || self.is_closed;
        self.is_writable |= event.is_writable();
    }

    /// Reads once; `None`: nothing yet; 0: the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buffer) {
            Ok(read) => {
                // A short read has emptied the socket, and more is a new event.
                self.is_readable = read == buffer.len() || self.is_closed;
                Ok(Some(read))
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.is_readable = false;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Writes once, one part after the other; how much, which may be nothing.
    pub fn write(&mut self, parts: [&[u8]; 2], registry: &Registry) -> io::Result<usize> {
        let wanted = parts[0].len() + parts[1].len();
        let written = match parts {
            [bytes, []] | [[], bytes] => self.stream.write(bytes),
            both => self.stream.write_vectored(&both.map(IoSlice::new)),
        };
        let written = match written {
            // One that is connecting cannot be written to: EAGAIN (connect(2)).
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.is_writable = written == wanted;
        if !self.is_writable && !self.hears_of_room {
            // If there is room by now, this is an event.
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.reregister(&mut self.stream, self.token, interest)?;
            self.hears_of_room = true;
        }
        Ok(written)
    }
}
