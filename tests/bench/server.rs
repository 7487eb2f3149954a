//! The server behind every path: one thread, one event loop.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::{self, JoinHandle};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::protocol::{CHUNK_BYTES, MESSAGE_BYTES, Message, Pattern, reply_bytes};

const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);
const BACKLOG: i32 = 4096;

/// A server that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    stop: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on a port of its own.
    pub fn start() -> Result<Server> {
        let poll = Poll::new()?;
        let mut listener = listen()?;
        let interest = Interest::READABLE;
        poll.registry()
            .register(&mut listener, LISTENER, interest)?;
        let (address, stop) = (listener.local_addr()?, Waker::new(poll.registry(), STOP)?);
        let work = move || {
            if let Err(error) = serve(poll, &listener) {
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

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    // Inherited by what is accepted.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn serve(mut poll: Poll, listener: &TcpListener) -> io::Result<()> {
    let mut events = Events::with_capacity(1024);
    let mut peers: Slab<Peer> = Slab::new();
    let pattern = Pattern::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                STOP => return Ok(()),
                LISTENER => accept_all(&poll, listener, &mut peers)?,
                Token(key) => {
                    let gone = peers.get_mut(key).is_some_and(|peer| !peer.serve(&pattern));
                    if gone {
                        peers.remove(key);
                    }
                }
            }
        }
    }
}

fn accept_all(poll: &Poll, listener: &TcpListener, peers: &mut Slab<Peer>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
            Err(e) => return Err(e),
        };
        let slot = peers.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(slot.key()), interest)?;
        slot.insert(Peer::new(stream));
    }
}

/// A connection.
struct Peer {
    stream: TcpStream,
    request: Message,
    received: usize,
    /// How much of the reply was sent; `None` while the request is incomplete.
    sent: Option<u64>,
}

impl Peer {
    fn new(stream: TcpStream) -> Peer {
        Peer {
            stream,
            request: [0; MESSAGE_BYTES],
            received: 0,
            sent: None,
        }
    }

    /// Does what can be done now; false once the client has gone.
    fn serve(&mut self, pattern: &Pattern) -> bool {
        loop {
            let step = match self.sent {
                None => self.receive(),
                Some(sent) => self.reply(sent, pattern),
            };
            match step {
                Ok(0) => return false,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let read = self.stream.read(&mut self.request[self.received..])?;
        self.received += read;
        if self.received == MESSAGE_BYTES {
            self.sent = Some(0);
        }
        Ok(read)
    }

    fn reply(&mut self, sent: u64, pattern: &Pattern) -> io::Result<usize> {
        let total = reply_bytes(&self.request);
        let left = (total - sent).min(CHUNK_BYTES as u64) as usize;
        let bytes = match total {
            total if total == MESSAGE_BYTES as u64 => &self.request[sent as usize..],
            _ => pattern.at(sent, left),
        };
        let written = self.stream.write(bytes)?;
        let sent = sent + written as u64;
        self.sent = (sent < total).then_some(sent);
        if sent == total {
            self.received = 0;
        }
        Ok(written)
    }
}
