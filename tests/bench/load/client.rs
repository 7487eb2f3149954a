//! One client: a connection, and the request that it is at.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::Result;
use crate::protocol::{Header, Request, Run};
use crate::turns::Socket;

pub struct Client {
    pub socket: Socket,
    /// The request under way; between two, the last.
    task: Task,
}

/// A request on its way there, and its reply on its way back.
struct Task {
    begun: Instant,
    header: Header,
    header_sent: usize,
    body: Run,
    reply: Run,
}

impl Task {
    fn new(request: &Request, begun: Instant) -> Task {
        Task {
            begun,
            header: request.header(),
            header_sent: 0,
            body: request.body(),
            reply: request.reply(),
        }
    }

    fn is_sent(&self) -> bool {
        self.header_sent == self.header.len() && self.body.is_complete()
    }

    /// Takes note of what was sent.
    fn sent(&mut self, bytes: usize) {
        let of_header = bytes.min(self.header.len() - self.header_sent);
        self.header_sent += of_header;
        self.body.done += (bytes - of_header) as u64;
    }
}

impl Client {
    /// Begins to connect, for `request`.
    pub fn connect(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
        request: &Request,
        begun: Instant,
    ) -> Result<Client> {
        let task = Task::new(request, begun);
        let stream = TcpStream::connect(address)?;
        let socket = Socket::new(stream, registry, token)?;
        Ok(Client { socket, task })
    }

    /// Prepares it for more than one request: no byte is to wait for the
    /// acknowledgement of others.
    pub fn keep(&self) -> io::Result<()> {
        self.socket.set_nodelay()
    }

    /// Begins the next request.
    pub fn begin(&mut self, request: &Request, now: Instant) {
        self.task = Task::new(request, now);
    }

    pub fn begun(&self) -> Instant {
        self.task.begun
    }

    pub fn is_done(&self) -> bool {
        self.task.is_sent() && self.task.reply.is_complete()
    }

    /// How many bytes have come and gone for it.
    pub fn bytes(&self) -> u64 {
        self.task.header_sent as u64 + self.task.body.done + self.task.reply.done
    }

    /// Whether a turn would do something, as far as is known.
    pub fn has_more_to_do(&self) -> bool {
        self.socket.is_readable || self.socket.is_writable && !self.task.is_sent()
    }

    /// Writes once and reads once, if that can be.
    pub fn turn(&mut self, buffer: &mut [u8], registry: &Registry) -> Result<()> {
        self.send(registry)?;
        if self.socket.is_readable {
            self.receive(buffer)?;
        }
        Ok(())
    }

    /// Writes once, if that can be.
    pub fn send(&mut self, registry: &Registry) -> Result<()> {
        let task = &mut self.task;
        if self.socket.is_writable && !task.is_sent() {
            let header = &task.header[task.header_sent..];
            let parts = [header, task.body.next(task.body.total)];
            let sent = self.socket.write(parts, registry);
            task.sent(sent.map_err(|e| format!("while asking: {e}"))?);
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let reply = &mut self.task.reply;
        let (done, total) = (reply.done, reply.total);
        let wrong = |what: &dyn Display| format!("{what} after {done} of {total} bytes").into();
        match self.socket.read(buffer) {
            Ok(None) => Ok(()),
            Ok(Some(0)) => Err(wrong(&"the end")),
            Ok(Some(read)) if reply.accept(&buffer[..read]) => Ok(()),
            Ok(Some(_)) => Err(wrong(&"wrong bytes")),
            Err(error) => Err(wrong(&error)),
        }
    }
}
