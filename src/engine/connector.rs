//! [`Connector`]: makes the sockets that dial the backends.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use super::local_ports::{self, LocalPorts};
use super::memory::BufferSizes;
use super::sockets;
use crate::clock::Time;

/// The file with the range of local ports that the kernel chooses from, for both families.
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Dials addresses. It chooses a local port where the kernel has none, and rejects sockets
/// that are connected to themselves.
#[derive(Debug)]
pub struct Connector {
    ports: LocalPorts,
    /// The first port of the kernel's range.
    first_port: u16,
    /// The number of sockets that were bound here.
    bound: u64,
}

/// The error of a socket that is connected to itself.
#[derive(Debug)]
pub struct SelfConnect;

impl Connector {
    /// Nothing was dialled yet.
    pub fn new() -> Self {
        Connector {
            ports: LocalPorts::default(),
            first_port: range().map_or(0, |range| *range.start()),
            bound: 0,
        }
    }

    /// The number of sockets that were bound to a port here, because the kernel had none.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Begins to connect to `address`; `sizes` are the sizes of the socket's queues.
    ///
    /// # Errors
    /// Those of connect(2) except EINPROGRESS, or [`SelfConnect`].
    pub fn connect(
        &mut self,
        address: SocketAddr,
        sizes: BufferSizes,
        now: Time,
    ) -> io::Result<TcpStream> {
        let socket = match self.ports.candidates(address, now) {
            Some(ports) => match self.connect_bound(address, sizes, ports) {
                Err(e) if is_taken(&e) && self.ports.may_ask_kernel(address, now) => {
                    sockets::connect(address, sizes, None)
                }
                connected => connected,
            },
            None => match sockets::connect(address, sizes, None) {
                Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                    self.connect_without_port(address, sizes, e, now)
                }
                connected => connected,
            },
        }?;
        if self.is_loop(&socket, address) {
            // No TIME_WAIT: the port is the one that the app is to listen on.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            return Err(io::Error::other(SelfConnect));
        }
        Ok(socket)
    }

    /// Connects where the kernel has no port for `address`, or no address of its family.
    fn connect_without_port(
        &mut self,
        address: SocketAddr,
        sizes: BufferSizes,
        error: io::Error,
        now: Time,
    ) -> io::Result<TcpStream> {
        // connect(2) returns EADDRNOTAVAIL also if this machine has no address of the family.
        if address.is_ipv6() && !has_source(address) {
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        let Some(range) = range() else {
            return Err(error);
        };
        self.ports.note_scarcity(address, range, now);
        let ports = self.ports.candidates(address, now).unwrap_or_default();
        self.connect_bound(address, sizes, ports)
    }

    /// Connects from the first of these ports that is free for `address`, or in
    /// TIME_WAIT.
    fn connect_bound(
        &mut self,
        address: SocketAddr,
        sizes: BufferSizes,
        ports: Vec<u16>,
    ) -> io::Result<TcpStream> {
        for port in ports {
            match sockets::connect(address, sizes, Some(port)) {
                Err(e) if is_taken(&e) => {}
                connected => {
                    self.bound += u64::from(connected.is_ok());
                    return connected;
                }
            }
        }
        Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
    }

    /// Whether the socket is connected to itself. If nothing listens on a port of this
    /// machine, and the kernel chooses that port as the local port of the dial, the
    /// connect succeeds (simultaneous open, RFC 9293, 3.5).
    fn is_loop(&self, socket: &TcpStream, address: SocketAddr) -> bool {
        address.port() >= self.first_port && socket.local_addr().is_ok_and(|it| it == address)
    }
}

/// The range of local ports that the kernel chooses from.
fn range() -> Option<RangeInclusive<u16>> {
    local_ports::parse_range(&fs::read_to_string(RANGE).ok()?)
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE)
    )
}

/// Whether this machine has a route to `address`. Connecting a UDP socket sends nothing.
fn has_source(address: SocketAddr) -> bool {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect(address).is_ok())
}

impl SelfConnect {
    /// Whether the error is this one.
    pub fn is(error: &io::Error) -> bool {
        error
            .get_ref()
            .is_some_and(|inner| inner.is::<SelfConnect>())
    }
}

impl fmt::Display for SelfConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the socket was connected to itself")
    }
}

impl Error for SelfConnect {}
