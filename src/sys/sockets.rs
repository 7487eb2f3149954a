//! Socket options and states that neither mio nor socket2 knows.

use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::check;

/// How many bytes written to a TCP socket its peer has not acknowledged yet
/// (`SIOCOUTQ`, tcp(7)).
///
/// # Errors
/// What `ioctl` says.
pub fn unacknowledged(socket: &impl AsRawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ's number, writes one int to the
    // address given, and `bytes` outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Whether the kernel is done with a connection: both FINs were acknowledged, or
/// it was broken off (`TCP_CLOSE`, which a socket is in too once the kernel keeps its
/// connection as a TIME_WAIT entry of its own). The state is the first byte of `tcp_info`, tcp(7).
///
/// # Errors
/// What `getsockopt` says.
pub fn is_closed(socket: &impl AsRawFd) -> io::Result<bool> {
    const TCP_CLOSE: u8 = 7;
    let [state] = tcp_info(socket)?;
    Ok(state == TCP_CLOSE)
}

/// How many bytes the segments have that the peer sends, as the kernel estimates it
/// (`tcpi_rcv_mss`): the fourth number after the first eight bytes of `tcp_info`.
///
/// # Errors
/// What `getsockopt` says.
pub fn received_segment_bytes(socket: &impl AsRawFd) -> io::Result<u32> {
    let info: [u8; 24] = tcp_info(socket)?;
    let [.., a, b, c, d] = info;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// The first bytes of `tcp_info`, tcp(7).
fn tcp_info<const N: usize>(socket: &impl AsRawFd) -> io::Result<[u8; N]> {
    let mut info = [0; N];
    let mut len = N as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which `info` has, and both
    // outlive the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut len,
        )
    })?;
    Ok(info)
}

/// Freezes the size of a socket's receive buffer, or has the kernel raise it as it
/// sees fit (`SO_BUF_LOCK`, whose bit 1 is `SOCK_RCVBUF_LOCK`; socket(7) has it with
/// `SO_RCVBUF`, which sets the bit as well).
///
/// # Errors
/// What `setsockopt` says: the option is unknown before Linux 5.14.
pub fn freeze_receive_buffer(socket: &impl AsRawFd, frozen: bool) -> io::Result<()> {
    const SO_BUF_LOCK: libc::c_int = 72; // libc has no name for it yet.
    let locks = libc::c_int::from(frozen) << 1;
    // SAFETY: the kernel reads one int from the address given, and `locks`
    // outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_BUF_LOCK,
            (&raw const locks).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(status).map(drop)
}

/// Has the kernel wait at most `longest` before it repeats what a peer has not
/// acknowledged, or asks again whether its window has opened, in place of two
/// minutes (`TCP_RTO_MAX_MS`; 1 to 120 seconds). It gives up after as many times
/// as before, and so after less time.
///
/// # Errors
/// What `setsockopt` says: the option is unknown before Linux 6.15.
pub fn cap_retransmission(socket: &impl AsRawFd, longest: Duration) -> io::Result<()> {
    const TCP_RTO_MAX_MS: libc::c_int = 44; // libc has no name for it yet.
    let millis = libc::c_int::try_from(longest.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel reads one int from the address given, and `millis`
    // outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MAX_MS,
            (&raw const millis).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(status).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};

    #[test]
    fn a_connection_is_closed_when_both_ends_are_and_not_before() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(!is_closed(&client).unwrap());
        server.shutdown(Shutdown::Write).unwrap();
        assert!(!is_closed(&client).unwrap());
        client.shutdown(Shutdown::Write).unwrap();
        // Over loopback the acknowledgement is there when the call returns.
        assert!(is_closed(&client).unwrap());
        assert!(is_closed(&server).unwrap());
    }

    #[test]
    fn bytes_that_the_peer_cannot_take_stay_unacknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(unacknowledged(&client).unwrap(), 0);
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 65536]).is_ok() {}
        assert!(unacknowledged(&client).unwrap() > 0);
    }
}
