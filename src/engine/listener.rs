//! Where connections come in.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use log::{info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::clock::Time;

/// How many connections the kernel may queue before they are accepted. It cuts
/// this to `net.core.somaxconn` (listen(2)), 4096 by default.
const BACKLOG: i32 = 4096;

/// How long to leave the listener alone when the system has no descriptor or
/// no memory for another connection. There is no event for "there is room
/// again", and trying in a loop would only burn the processor.
const PAUSE: Duration = Duration::from_millis(100);

/// A peer that is silent for so long is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// How long it has to answer before it is asked again,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// and how often, before it is given up.
const KEEPALIVE_PROBES: u32 = 6;

/// A listening socket and its readiness.
pub struct Listener {
    socket: TcpListener,
    /// The loop has seen connections in the queue, and nobody has emptied it.
    ready: bool,
    /// Out of descriptors or memory until then.
    paused_until: Option<Time>,
}

impl Listener {
    /// Listens on `address`. An IPv6 wildcard takes IPv4 clients as well.
    ///
    /// # Errors
    /// What the kernel says to the address, most likely that it is in use.
    pub fn bind(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Listener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit these from the listener on Linux, which
        // saves six system calls a connection.
        tune(&SockRef::from(&socket))?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut socket = TcpListener::from_std(socket.into());
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Listener {
            socket,
            ready: false,
            paused_until: None,
        })
    }

    /// Where it listens, with the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The loop has seen connections in the queue.
    pub fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Whether [`Listener::accept`] has something to do now.
    pub fn is_ready(&self, now: Time) -> bool {
        self.ready && self.paused_until.is_none_or(|until| until <= now)
    }

    /// When a pause ends.
    pub fn next_deadline(&self) -> Option<Time> {
        self.paused_until.filter(|_| self.ready)
    }

    /// The next connection in the queue, if there is one and the system has
    /// room for it.
    pub fn accept(&mut self, now: Time) -> Option<(TcpStream, SocketAddr)> {
        while self.is_ready(now) {
            match self.socket.accept() {
                Ok(accepted) => {
                    if self.paused_until.take().is_some() {
                        info!("accepting connections again");
                    }
                    return Some(accepted);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.ready = false,
                // The client gave up in the queue: the next one is none the
                // worse for it.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => self.pause(now, &e),
            }
        }
        None
    }

    fn pause(&mut self, now: Time, why: &io::Error) {
        if self.paused_until.is_none() {
            warn!("cannot accept connections for now, they wait in the kernel's queue: {why}");
        }
        self.paused_until = Some(now + PAUSE);
    }
}

/// What every socket of ours wants: no delay for small writes, and an end to
/// peers that have vanished.
///
/// There is no `TCP_USER_TIMEOUT`: Linux counts a peer that answers every probe
/// but has shut its window, a paused download, as one that does not acknowledge.
/// A peer that vanishes with data unacknowledged is given up after
/// `net.ipv4.tcp_retries2`, a quarter of an hour by default (tcp(7)).
///
/// # Errors
/// What setsockopt(2) says.
pub fn tune(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_nodelay(true)?;
    // An urgent byte is a byte of the stream: it is passed on in its place.
    socket.set_out_of_band_inline(true)?;
    socket.set_tcp_keepalive(&keepalive)
}
