//! Where connections come in.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use log::{debug, info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::memory::Queues;
use super::sockets;
use crate::clock::Time;

/// How long to leave the listener alone when the system has no descriptor or
/// no memory for another connection. There is no event for "there is room
/// again", and trying in a loop would only burn the processor.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket and its readiness.
pub struct Listener {
    socket: TcpListener,
    /// The loop has seen connections in the queue, and nobody has emptied it.
    ready: bool,
    /// Out of descriptors or memory until then.
    paused_until: Option<Time>,
    /// The kernel's default for the receive buffer of what is accepted, in bytes.
    default_buffer: u64,
    /// How much may wait in what is accepted.
    queues: Queues,
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// What the kernel says to the address, most likely that it is in use.
    pub fn bind(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Listener> {
        let mut socket = sockets::listen(address)?;
        registry.register(&mut socket, token, Interest::READABLE)?;
        let default_buffer = SockRef::from(&socket).recv_buffer_size()? as u64;
        Ok(Listener {
            socket,
            ready: false,
            paused_until: None,
            default_buffer,
            queues: Queues::default(),
        })
    }

    /// Sets how much may wait in the sockets of those who connect from now on.
    pub fn set_queues(&mut self, queues: Queues) {
        if queues == self.queues {
            return;
        }
        // Also if it fails, so that it is not tried again in every turn.
        self.queues = queues;
        if let Err(why) = queues.apply(&SockRef::from(&self.socket), self.default_buffer) {
            debug!("the sockets' queues keep their size: {why}");
        }
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
    pub fn poll_timeout(&self) -> Option<Time> {
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
