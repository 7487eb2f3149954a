//! [`Client`]: a connection of the load, with its request in progress.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::Result;
use crate::protocol::{HEADER_BYTES, Header, Request, Run};
use crate::turns::Socket;

pub struct Client {
    pub socket: Socket,
    /// The request under way.
    task: Option<Task>,
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

    fn is_done(&self) -> bool {
        self.is_sent() && self.reply.is_complete()
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
        let stream = TcpStream::connect(address)?;
        Ok(Client {
            socket: Socket::new(stream, registry, token)?,
            task: Some(Task::new(request, begun)),
        })
    }

    /// Prepares it for more than one request: no byte is to wait for the
    /// acknowledgement of others.
    pub fn keep(&self) -> io::Result<()> {
        self.socket.set_nodelay()
    }

    /// Begins the next request.
    pub fn begin(&mut self, request: &Request, now: Instant) {
        self.task = Some(Task::new(request, now));
    }

    /// If its request is done: when it was begun, and how many bytes have come
    /// and gone for it.
    pub fn finish(&mut self) -> Option<(Instant, u64)> {
        let task = self.task.take_if(|task| task.is_done())?;
        Some((
            task.begun,
            HEADER_BYTES as u64 + task.body.total + task.reply.total,
        ))
    }

    /// How far its request has come, if it has one.
    pub fn place(&self) -> Option<String> {
        let task = self.task.as_ref()?;
        Some(format!(
            "{} of {} bytes of a body sent, {} of {} of the reply received",
            task.body.done, task.body.total, task.reply.done, task.reply.total
        ))
    }

    /// Whether a turn would do something, as far as is known.
    pub fn has_more_to_do(&self) -> bool {
        let is_sending = self.task.as_ref().is_some_and(|task| !task.is_sent());
        self.socket.is_readable || self.socket.is_writable && is_sending
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
        let unsent = self.task.as_mut().filter(|task| !task.is_sent());
        if let Some(task) = unsent.filter(|_| self.socket.is_writable) {
            let header = &task.header[task.header_sent..];
            let parts = [header, task.body.next(task.body.total)];
            let sent = self.socket.write(parts, registry);
            task.sent(sent.map_err(|e| format!("while asking: {e}"))?);
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let read = self.socket.read(buffer);
        let task = self.task.as_mut();
        let wrong = match read {
            Ok(None) => return Ok(()),
            Ok(Some(0)) => "the end".to_owned(),
            Ok(Some(read)) => {
                if task.is_some_and(|task| task.reply.accept(&buffer[..read])) {
                    return Ok(());
                } else {
                    "wrong bytes".to_owned()
                }
            }
            Err(error) => error.to_string(),
        };
        let place = self.place().unwrap_or("between two requests".to_owned());
        Err(format!("{wrong}; {place}").into())
    }
}
