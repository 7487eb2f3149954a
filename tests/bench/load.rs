//! The client: one thread, one event loop, every byte checked.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::Result;
use crate::protocol::{self, CHUNK_BYTES, MESSAGE_BYTES, Message, Pattern};
use crate::stats::Latencies;

/// How long nothing may happen before a load has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be asked, by how many at once, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub clients: usize,
    /// The length of each reply.
    pub reply_bytes: u64,
    /// Whether each request has a connection of its own.
    pub reconnect: bool,
    /// When to begin no more requests; those that have begun are finished.
    pub time: Duration,
}

/// What a load has come to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub requests: u64,
    pub bytes: u64,
    pub elapsed: Duration,
    /// From before the request, or before the connect if each request has its
    /// own, to the last byte of the reply.
    pub latencies: Latencies,
}

impl Load {
    /// Runs it against `address`.
    ///
    /// # Errors
    /// A connection that breaks or stalls, a byte that is not what was sent.
    pub fn run(self, address: SocketAddr) -> Result<Outcome> {
        let mut runner = Runner::new(self, address)?;
        let begin = Instant::now();
        runner.run(begin + self.time)?;
        let Progress {
            bytes, latencies, ..
        } = runner.progress;
        Ok(Outcome {
            requests: latencies.len() as u64,
            bytes,
            elapsed: begin.elapsed(),
            latencies: Latencies::new(latencies),
        })
    }
}

/// A connection over which a message went to the server and back.
pub fn probe(address: SocketAddr) -> Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let message = protocol::request(MESSAGE_BYTES as u64, 0);
    stream.write_all(&message)?;
    let mut reply = [0; MESSAGE_BYTES];
    stream.read_exact(&mut reply)?;
    if reply != message {
        return Err("the reply is not what was sent".into());
    }
    Ok(stream)
}

struct Runner {
    load: Load,
    address: SocketAddr,
    poll: Poll,
    clients: Vec<Option<Client>>,
    progress: Progress,
}

/// What all clients share.
struct Progress {
    load: Load,
    serial: u64,
    bytes: u64,
    latencies: Vec<Duration>,
    buffer: Vec<u8>,
    pattern: Pattern,
}

/// What is to become of a client.
enum Next {
    /// It waits for an event.
    Wait,
    /// Its reply is complete.
    Done,
}

impl Runner {
    fn new(load: Load, address: SocketAddr) -> Result<Runner> {
        Ok(Runner {
            load,
            address,
            poll: Poll::new()?,
            clients: (0..load.clients).map(|_| None).collect(),
            progress: Progress {
                load,
                serial: 0,
                bytes: 0,
                latencies: Vec::with_capacity(1 << 16),
                buffer: vec![0; CHUNK_BYTES],
                pattern: Pattern::new(),
            },
        })
    }

    fn run(&mut self, until: Instant) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        for key in 0..self.load.clients {
            self.connect(key)?;
        }
        while self.clients.iter().any(Option::is_some) {
            match self.poll.poll(&mut events, Some(PATIENCE)) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            if events.is_empty() {
                return Err(format!("{}: nothing for {PATIENCE:?}", self.address).into());
            }
            for event in &events {
                self.handle(event, until)?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event, until: Instant) -> Result<()> {
        let Token(key) = event.token();
        let Some(client) = &mut self.clients[key] else {
            return Ok(());
        };
        client.readable |= event.is_readable() || event.is_read_closed();
        while let Next::Done = client.advance(&mut self.progress)? {
            if Instant::now() >= until {
                self.clients[key] = None;
                return Ok(());
            }
            if self.load.reconnect {
                return self.connect(key);
            }
            client.ask(self.progress.next_request());
        }
        Ok(())
    }

    fn connect(&mut self, key: usize) -> Result<()> {
        // The old one is closed first: at no time are there more than asked.
        self.clients[key] = None;
        let request = self.progress.next_request();
        let client = Client::connect(self.address, self.poll.registry(), Token(key), request)?;
        self.clients[key] = Some(client);
        Ok(())
    }
}

impl Progress {
    fn next_request(&mut self) -> Message {
        self.serial += 1;
        protocol::request(self.load.reply_bytes, self.serial)
    }
}

/// A connection, and the request that it is at.
struct Client {
    stream: TcpStream,
    readable: bool,
    request: Message,
    begun: Instant,
    sent: usize,
    received: u64,
}

impl Client {
    fn connect(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
        request: Message,
    ) -> Result<Client> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Client {
            stream,
            readable: false,
            request,
            begun,
            sent: 0,
            received: 0,
        })
    }

    fn ask(&mut self, request: Message) {
        self.request = request;
        self.begun = Instant::now();
        (self.sent, self.received) = (0, 0);
    }

    /// Sends and receives what it can.
    fn advance(&mut self, progress: &mut Progress) -> Result<Next> {
        while self.sent < MESSAGE_BYTES {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(e) if is_not_yet(&e) => return Ok(Next::Wait),
                Err(e) => return Err(format!("while asking: {e}").into()),
            }
        }
        while self.readable {
            if self.receive(progress)? {
                progress.latencies.push(self.begun.elapsed());
                return Ok(Next::Done);
            }
        }
        Ok(Next::Wait)
    }

    /// Reads once; whether the reply is complete.
    fn receive(&mut self, progress: &mut Progress) -> Result<bool> {
        let total = progress.load.reply_bytes;
        let read = match self.stream.read(&mut progress.buffer) {
            Ok(0) => return Err(format!("the end after {} of {total} bytes", self.received).into()),
            Ok(read) => read,
            Err(e) if is_not_yet(&e) => {
                self.readable = false;
                return Ok(false);
            }
            Err(e) => return Err(format!("after {} of {total} bytes: {e}", self.received).into()),
        };
        // A short read has emptied the socket, and more would be a new event.
        self.readable = read == progress.buffer.len();
        self.check(&progress.buffer[..read], total, &progress.pattern)?;
        self.received += read as u64;
        progress.bytes += read as u64;
        Ok(self.received == total)
    }

    fn check(&self, bytes: &[u8], total: u64, pattern: &Pattern) -> Result<()> {
        let left = total - self.received;
        let expected = match total {
            total if total == MESSAGE_BYTES as u64 => &self.request[self.received as usize..],
            _ => pattern.at(self.received, bytes.len()),
        };
        if bytes.len() as u64 > left || !expected.starts_with(bytes) {
            let from = self.received;
            return Err(format!("wrong bytes within {} from {from}", bytes.len()).into());
        }
        Ok(())
    }
}

/// Whether an event is going to say when to go on. A socket that is connecting
/// cannot be written to (connect(2)); Linux says EAGAIN.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}
