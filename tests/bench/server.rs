//! [`Server`]: the server of the bench: one thread with an event loop.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::thread::{self, JoinHandle};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use slab::Slab;
use socket2::{Domain, Type};

use crate::Result;
use crate::protocol::{CHUNK_BYTES, HEADER_BYTES, Header, Request, Run};
use crate::turns::{Socket, Turns};

const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);
const BACKLOG: i32 = 4096;
/// Where servers listen, like pods: below the ports that the kernel chooses for dials, at
/// which `zpa` looks whether a socket is connected to itself.
const PORTS: RangeInclusive<u16> = 8080..=9999;

/// A server that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    stop: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on a port of its own at that address.
    pub fn start(ip: Ipv4Addr) -> Result<Server> {
        let poll = Poll::new()?;
        let mut listener = listen(ip)?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let (address, stop) = (listener.local_addr()?, Waker::new(poll.registry(), STOP)?);
        let work = move || {
            if let Err(error) = Serving::new(listener).run(poll) {
                eprintln!("bench: the server has failed: {error}");
            }
        };
        let thread = thread::Builder::new().name("server".into()).spawn(work)?;
        Ok(Server {
            address,
            stop,
            thread: Some(thread),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.stop.wake().is_ok();
        if let Some(thread) = self.thread.take().filter(|_| stopped) {
            let _ = thread.join();
        }
    }
}

fn listen(ip: Ipv4Addr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    // Inherited by what is accepted.
    socket.set_tcp_nodelay(true)?;
    bind(&socket, ip)?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Binds to the first port that is free.
fn bind(socket: &socket2::Socket, ip: Ipv4Addr) -> io::Result<()> {
    for port in PORTS {
        match socket.bind(&SocketAddr::from((ip, port)).into()) {
            Err(e) if e.kind() == ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

/// What the thread has.
struct Serving {
    listener: TcpListener,
    peers: Slab<Peer>,
    turns: Turns,
    buffer: Vec<u8>,
}

impl Serving {
    fn new(listener: TcpListener) -> Serving {
        Serving {
            listener,
            peers: Slab::new(),
            turns: Turns::default(),
            buffer: vec![0; CHUNK_BYTES],
        }
    }

    fn run(&mut self, mut poll: Poll) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.turns.poll(&mut poll, &mut events, None)?;
            for event in &events {
                match event.token() {
                    STOP => return Ok(()),
                    LISTENER => self.accept_all(poll.registry())?,
                    Token(key) => {
                        if let Some(peer) = self.peers.get_mut(key) {
                            peer.socket.handle(event);
                            self.turns.give(key);
                        }
                    }
                }
            }
            for _ in 0..self.turns.len() {
                self.take_a_turn(poll.registry());
            }
        }
    }

    fn take_a_turn(&mut self, registry: &Registry) {
        let Some(key) = self.turns.take() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        match peer.turn(&mut self.buffer, registry) {
            Ok(true) if peer.has_more_to_do() => self.turns.give(key),
            Ok(true) => {}
            Ok(false) => drop(self.peers.remove(key)),
            Err(error) => {
                // The client is going to complain about the end.
                if error.kind() == ErrorKind::InvalidData {
                    eprintln!("bench: the server has got {error}");
                }
                self.peers.remove(key);
            }
        }
    }

    fn accept_all(&mut self, registry: &Registry) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            let slot = self.peers.vacant_entry();
            let socket = Socket::new(stream, registry, Token(slot.key()))?;
            slot.insert(Peer::new(socket));
        }
    }
}

/// A connection.
struct Peer {
    socket: Socket,
    header: Header,
    header_received: usize,
    /// The request that it is at.
    task: Option<Task>,
}

/// A request whose header has come.
struct Task {
    body: Run,
    reply: Run,
    early_bytes: u64,
}

impl Task {
    fn is_done(&self) -> bool {
        self.body.is_complete() && self.reply.is_complete()
    }

    /// How far the reply may go for now.
    fn limit(&self) -> u64 {
        if self.body.is_complete() {
            self.reply.total
        } else {
            self.early_bytes
        }
    }
}

impl Peer {
    fn new(socket: Socket) -> Peer {
        Peer {
            socket,
            header: [0; HEADER_BYTES],
            header_received: 0,
            task: None,
        }
    }

    fn has_more_to_do(&self) -> bool {
        let can_write = |task: &Task| self.socket.is_writable && task.reply.done < task.limit();
        self.socket.is_readable || self.task.as_ref().is_some_and(can_write)
    }

    /// Reads once and writes once, if that can be; false once the client has
    /// gone.
    fn turn(&mut self, buffer: &mut [u8], registry: &Registry) -> io::Result<bool> {
        if self.socket.is_readable {
            match self.socket.read(buffer)? {
                Some(0) => return Ok(false),
                Some(read) => self.receive(&buffer[..read])?,
                None => {}
            }
        }
        if let Some(task) = &mut self.task {
            let bytes = task.reply.next(task.limit());
            if self.socket.is_writable && !bytes.is_empty() {
                task.reply.done += self.socket.write([bytes, &[]], registry)? as u64;
            }
            if task.is_done() {
                (self.task, self.header_received) = (None, 0);
            }
        }
        Ok(true)
    }

    fn receive(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let missing = HEADER_BYTES - self.header_received;
        if missing > 0 {
            let (header, rest) = bytes.split_at(missing.min(bytes.len()));
            self.header[self.header_received..][..header.len()].copy_from_slice(header);
            self.header_received += header.len();
            bytes = rest;
            if self.header_received < HEADER_BYTES {
                return Ok(());
            }
            let request = Request::parse(&self.header).ok_or(wrong("a wrong header"))?;
            self.task = Some(Task {
                body: request.body(),
                reply: request.reply(),
                early_bytes: request.early_bytes(),
            });
        }
        let is_right = match &mut self.task {
            Some(task) => task.body.accept(bytes),
            None => bytes.is_empty(),
        };
        if is_right {
            Ok(())
        } else {
            Err(wrong("a wrong body"))
        }
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
