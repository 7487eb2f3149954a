//! Sockets as the engine wants them: one that listens, those that it has
//! accepted, and those that lead to backends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use log::debug;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::memory::Queues;
use super::stream::Stream;
use crate::sys;

/// How many connections the kernel may queue before they are accepted. It cuts
/// this to `net.core.somaxconn` (listen(2)), 4096 by default.
const BACKLOG: i32 = 4096;

/// A peer that is silent for so long is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// How long it has to answer before it is asked again,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// and how often, before it is given up.
const KEEPALIVE_PROBES: u32 = 6;

/// A peer that owes an acknowledgement is reminded of it at least so often. It is
/// given up after `net.ipv4.tcp_retries2` reminders, 15 by default: two minutes.
///
/// Where the kernel cannot do that, it takes a quarter of an hour. There is no
/// `TCP_USER_TIMEOUT` in its place: Linux counts a peer that answers every probe
/// but has shut its window, a paused download, as one that does not acknowledge.
const LONGEST_REPEAT: Duration = Duration::from_secs(10);

/// When [`Socket::keep_alive`] is to be called for a backend's socket. Most connections are
/// over by then, which saves them four system calls.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// A listener on `address`. The IPv6 wildcard takes IPv4 clients as well, and is
/// the IPv4 wildcard where the kernel has no IPv6, so that one default serves
/// clusters of either family and of both. Accepted sockets inherit the options
/// on Linux.
///
/// # Errors
/// What the kernel says to the address, most likely that it is in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    of_either_family(address, listen_on)
}

/// What `listen` makes of `address`, or of the IPv4 wildcard in place of an IPv6
/// wildcard that the kernel does not know: socket(2) says EAFNOSUPPORT where it
/// was booted with `ipv6.disable=1`, bind(2) says EADDRNOTAVAIL where the module
/// is loaded and has no address.
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

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_keepalive(&keepalive(KEEPALIVE_IDLE))?;
    if let Err(why) = sys::cap_retransmission(&socket, LONGEST_REPEAT) {
        debug!("peers that vanish owing acknowledgements are found out late: {why}");
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Begins to connect to `address`, with so much room for what waits in the socket, from
/// that port if one is given. Even a backend on the same machine takes it only after the
/// call: the kernel holds the socket's lock until then.
///
/// # Errors
/// What bind(2) or connect(2) say at once.
pub fn connect(
    address: SocketAddr,
    queues: Queues,
    local_port: Option<u16>,
) -> io::Result<TcpStream> {
    let socket = open(address)?;
    if queues != Queues::default() {
        // Where the kernel cannot do that, the connection is as good as without.
        let _ = queues.apply(&socket, socket.recv_buffer_size()? as u64);
    }
    // What allows to bind its port again when it is in TIME_WAIT. Over loopback the
    // kernel does that by itself (`net.ipv4.tcp_tw_reuse` is 2).
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

/// What a connection needs of a socket, beside its bytes.
pub trait Socket: Stream {
    /// The error of the socket, which is reported once (SO_ERROR, socket(7)).
    ///
    /// # Errors
    /// What getsockopt(2) says.
    fn take_error(&self) -> io::Result<Option<io::Error>>;

    /// How many bytes written to it its peer has not acknowledged; 0 if the kernel
    /// does not know.
    fn unacknowledged(&self) -> u64;

    /// Whether the kernel is done with the connection; see [`sys::is_closed`].
    fn is_closed(&self) -> bool;

    /// Has close(2) send an RST, and forget what was not sent yet.
    fn reset_on_close(&self);

    /// Makes the kernel find out if the peer vanishes. As this comes
    /// [`KEEPALIVE_AFTER`] the connect, it is that much less patient with silence.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    fn keep_alive(&self) -> io::Result<()>;

    /// Where its options are set, if it has any.
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
        // The socket may be beyond all options; then it is beyond an RST too.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn keep_alive(&self) -> io::Result<()> {
        // A failure was logged once, for the listener.
        let _ = sys::cap_retransmission(self, LONGEST_REPEAT);
        SockRef::from(self).set_tcp_keepalive(&keepalive(KEEPALIVE_IDLE - KEEPALIVE_AFTER))
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

/// What every socket of ours is: one that does not block nor delay small writes.
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
