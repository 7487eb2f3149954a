//! A [`Listener`] is a listening socket that pauses when the machine has no room for
//! another connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use log::{debug, info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::memory::BufferSizes;
use super::sockets;
use crate::clock::Time;

/// The pause after accept(2) has found no descriptor or no memory for another connection.
/// No event reports that there is room again, and a loop without a pause would take a
/// whole processor.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket that no event loop watches. Who connects meanwhile waits in the kernel's
/// queue.
#[derive(Debug)]
pub struct BoundListener {
    socket: TcpListener,
    /// The address that was asked for.
    asked: SocketAddr,
    /// The kernel's default for the receive buffer of accepted sockets, in bytes.
    default_buffer: u64,
}

impl BoundListener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// Those of bind(2), most likely that the address is in use.
    pub fn bind(address: SocketAddr) -> io::Result<BoundListener> {
        BoundListener::of(sockets::listen(address)?, address)
    }

    /// The same beside others that overlap with it, all of which share their address:
    /// [`Listener::set_shares_address`].
    ///
    /// # Errors
    /// Those of bind(2) and setsockopt(2).
    pub(super) fn bind_beside(address: SocketAddr) -> io::Result<BoundListener> {
        let socket = sockets::listen_beside(address)?;
        SockRef::from(&socket).set_reuse_port(false)?;
        BoundListener::of(socket, address)
    }

    /// The IPv6 wildcard as it is bound where the kernel has no IPv6.
    #[cfg(test)]
    pub fn without_ipv6() -> io::Result<BoundListener> {
        use std::net::{Ipv4Addr, Ipv6Addr};

        let mut bound = BoundListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        let port = bound.local_addr()?.port();
        bound.asked = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        Ok(bound)
    }

    fn of(socket: TcpListener, asked: SocketAddr) -> io::Result<BoundListener> {
        let default_buffer = SockRef::from(&socket).recv_buffer_size()? as u64;
        Ok(BoundListener {
            socket,
            asked,
            default_buffer,
        })
    }

    /// Where it listens, with the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A listening socket and its readiness.
pub struct Listener {
    socket: TcpListener,
    /// The address that was asked for.
    asked: SocketAddr,
    /// Whether an event has reported connections, and the queue was not emptied since.
    ready: bool,
    /// The end of the pause.
    paused_until: Option<Time>,
    /// The kernel's default for the receive buffer of accepted sockets, in bytes.
    default_buffer: u64,
    /// The buffer sizes of accepted sockets.
    sizes: BufferSizes,
}

impl Listener {
    /// Has an event loop report who connects.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(bound: BoundListener, registry: &Registry, token: Token) -> io::Result<Listener> {
        let BoundListener {
            mut socket,
            asked,
            default_buffer,
        } = bound;
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Listener {
            socket,
            asked,
            ready: false,
            paused_until: None,
            default_buffer,
            sizes: BufferSizes::default(),
        })
    }

    /// Ends the reports; who has connected meanwhile waits in the queue.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn into_bound(mut self, registry: &Registry) -> io::Result<BoundListener> {
        registry.deregister(&mut self.socket)?;
        Ok(BoundListener {
            socket: self.socket,
            asked: self.asked,
            default_buffer: self.default_buffer,
        })
    }

    /// Sets the buffer sizes of the sockets that are accepted from now on.
    pub fn set_buffer_sizes(&mut self, sizes: BufferSizes) {
        if sizes == self.sizes {
            return;
        }
        // Set also after a failure, so that it is not repeated in every turn.
        self.sizes = sizes;
        if let Err(why) = sizes.apply(&SockRef::from(&self.socket), self.default_buffer) {
            debug!("the sockets' queues keep their size: {why}");
        }
    }

    /// Where it listens, with the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whether it listens where somebody asks for that address: the IPv6 wildcard may have
    /// become that of IPv4.
    pub fn is_at(&self, address: SocketAddr) -> bool {
        let is_asked = address.port() != 0 && self.asked == address;
        is_asked || self.local_addr().is_ok_and(|local| local == address)
    }

    /// Sets whether another listener of this process may be bound to an address that overlaps
    /// with this one's, if that sets the same (`SO_REUSEPORT`, socket(7)).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_shares_address(&self, shares: bool) -> io::Result<()> {
        SockRef::from(&self.socket).set_reuse_port(shares)
    }

    /// An event has reported connections in the queue.
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

    /// The next connection in the queue, if there is one, and the machine has room for it.
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
                // The client has reset the connection while it was in the queue.
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
