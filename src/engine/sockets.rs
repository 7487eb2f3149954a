//! The sockets of the engine: functions that make them with their options, and
//! [`Socket`], the operations that a connection uses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use log::debug;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::memory::BufferSizes;
use super::stream::Stream;
use crate::rules::proxy_protocol::AddressPair;
use crate::sys;

/// The most connections that the kernel queues before they are accepted, at most
/// `net.core.somaxconn` (listen(2)), which is 4096 by default.
const BACKLOG: i32 = 4096;

/// The idle time after which the kernel probes a peer (`TCP_KEEPIDLE`).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// The time between two probes (`TCP_KEEPINTVL`).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The number of unanswered probes after which the connection is dropped
/// (`TCP_KEEPCNT`).
const KEEPALIVE_PROBES: u32 = 6;

/// The longest time between two retransmissions. A peer that does not acknowledge is given
/// up after `net.ipv4.tcp_retries2` of them, 15 by default: two minutes.
///
/// Where the kernel does not support that limit, it takes a quarter of an hour.
/// `TCP_USER_TIMEOUT` cannot replace it: Linux applies that also to a peer that answers
/// every probe with a zero window, which is a paused download.
const MAX_REPEAT: Duration = Duration::from_secs(10);

/// The time after the connect at which [`Socket::keep_alive`] is called for a backend's
/// socket. Most connections have ended by then, which saves four system calls for each.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// Listens on `address`. The IPv6 wildcard accepts IPv4 clients too, and becomes the IPv4
/// wildcard where the kernel has no IPv6, so that one default serves clusters of either
/// family and of both. On Linux, accepted sockets inherit the options.
///
/// # Errors
/// Those of bind(2), most likely that the address is in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    of_either_family(address, |address| listen_on(address, false))
}

/// The same with `SO_REUSEPORT`: beside listeners of this user that have it too.
///
/// # Errors
/// Those of bind(2), and of setsockopt(2).
pub fn listen_beside(address: SocketAddr) -> io::Result<TcpListener> {
    of_either_family(address, |address| listen_on(address, true))
}

/// Calls `listen` with `address`, or with the IPv4 wildcard if `address` is the IPv6
/// wildcard and the kernel has no IPv6: socket(2) fails with EAFNOSUPPORT if the machine
/// was booted with `ipv6.disable=1`, and bind(2) with EADDRNOTAVAIL if no interface has an
/// IPv6 address.
fn of_either_family<T>(
    address: SocketAddr,
    listen: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let is_wildcard = address.is_ipv6() && address.ip().is_unspecified();
    match listen(address) {
        Err(e) if is_wildcard && has_no_ipv6(&e) => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        listener => listener,
    }
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn listen_on(address: SocketAddr, is_beside: bool) -> io::Result<TcpListener> {
    let socket = open(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if is_beside {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_keepalive(&keepalive(KEEPALIVE_IDLE))?;
    if let Err(why) = sys::cap_retransmission(&socket, MAX_REPEAT) {
        debug!("peers that vanish owing acknowledgements are found out late: {why}");
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Begins to connect to `address`, with `sizes` as queue sizes, from `local_port` if one
/// is given. The connection is never established before the call returns, not even to
/// this machine: the kernel holds the socket's lock until then.
///
/// # Errors
/// Those of bind(2), and of connect(2) except EINPROGRESS.
pub fn connect(
    address: SocketAddr,
    sizes: BufferSizes,
    local_port: Option<u16>,
) -> io::Result<TcpStream> {
    let socket = open(address)?;
    if sizes != BufferSizes::default() {
        // An error leaves the default sizes, with which the connection works too.
        let _ = sizes.apply(&socket, socket.recv_buffer_size()? as u64);
    }
    // Allows to bind the port again while it is in TIME_WAIT. Over loopback the kernel
    // reuses such ports by itself (`net.ipv4.tcp_tw_reuse` is 2).
    if !address.ip().is_loopback() || local_port.is_some() {
        socket.set_reuse_address(true)?;
    }
    if let Some(port) = local_port {
        let any = match address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        socket.bind(&SocketAddr::new(any, port).into())?;
    }
    match socket.connect(&address.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// The operations of a socket that a connection uses, in addition to those of a relay.
pub trait Socket: Stream {
    /// The error of the socket, which is reported once (SO_ERROR, socket(7)).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    fn take_error(&self) -> io::Result<Option<io::Error>>;

    /// The number of written bytes that the peer has not acknowledged; 0 after an error.
    fn unacknowledged(&self) -> u64;

    /// Whether the connection is over for the kernel; see [`sys::is_closed`].
    fn is_closed(&self) -> bool;

    /// Makes close(2) send an RST and drop unsent bytes.
    fn reset_on_close(&self);

    /// Turns keepalive on, [`KEEPALIVE_AFTER`] the connect; the first probe is sent so much
    /// earlier.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    fn keep_alive(&self) -> io::Result<()>;

    /// Whose connection it is, and where that one has connected to; `None` once it is
    /// gone.
    fn endpoints(&self) -> Option<AddressPair>;

    /// The socket for its options; `None` for a socket of a test.
    fn options(&self) -> Option<SockRef<'_>>;
}

impl Socket for TcpStream {
    fn take_error(&self) -> io::Result<Option<io::Error>> {
        TcpStream::take_error(self)
    }

    fn unacknowledged(&self) -> u64 {
        sys::unacknowledged(self).map_or(0, |bytes| bytes as u64)
    }

    fn is_closed(&self) -> bool {
        sys::is_closed(self).unwrap_or(true)
    }

    fn reset_on_close(&self) {
        // An error means that the connection is over already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn keep_alive(&self) -> io::Result<()> {
        // A failure was logged once, for the listener.
        let _ = sys::cap_retransmission(self, MAX_REPEAT);
        SockRef::from(self).set_tcp_keepalive(&keepalive(KEEPALIVE_IDLE - KEEPALIVE_AFTER))
    }

    fn endpoints(&self) -> Option<AddressPair> {
        Some(AddressPair {
            source: self.peer_addr().ok()?,
            destination: self.local_addr().ok()?,
        })
    }

    fn options(&self) -> Option<SockRef<'_>> {
        Some(SockRef::from(self))
    }
}

fn keepalive(idle: Duration) -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(idle)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES)
}

/// A non-blocking socket with TCP_NODELAY.
fn open(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    // An urgent byte is a byte of the stream: it is passed on in its place.
    socket.set_out_of_band_inline(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ipv6_wildcard_is_that_of_ipv4_where_the_kernel_has_no_ipv6() {
        for (label, address, errno, expected) in [
            ("IPv6 is there", "[::]:80", None, Ok("[::]:80")),
            (
                "booted without it",
                "[::]:80",
                Some(libc::EAFNOSUPPORT),
                Ok("0.0.0.0:80"),
            ),
            (
                "no address of it",
                "[::]:80",
                Some(libc::EADDRNOTAVAIL),
                Ok("0.0.0.0:80"),
            ),
            (
                "the port is taken",
                "[::]:80",
                Some(libc::EADDRINUSE),
                Err(libc::EADDRINUSE),
            ),
            (
                "one address that was asked for",
                "[::1]:80",
                Some(libc::EADDRNOTAVAIL),
                Err(libc::EADDRNOTAVAIL),
            ),
        ] {
            let kernel = |address: SocketAddr| match errno {
                Some(errno) if address.is_ipv6() => Err(io::Error::from_raw_os_error(errno)),
                _ => Ok(address.to_string()),
            };
            let found = of_either_family(address.parse().unwrap(), kernel);
            let found = found.map_err(|e| e.raw_os_error().unwrap());
            assert_eq!(found, expected.map(str::to_owned), "{label}");
        }
    }
}
