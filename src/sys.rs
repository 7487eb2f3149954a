//! The few system calls that no library wraps, and with them every `unsafe`
//! of the crate.
//!
//! rustix was tried (1.1.6): it has safe wrappers for the clock, the limits, poll(2),
//! kill(2), pipes and splice(2), which are 7 of the 29 uses of `unsafe` here. For
//! signalfd(2) and the mask of signals, names, interfaces, `SIOCOUTQ`, `TCP_INFO`,
//! `SO_BUF_LOCK` and `TCP_RTO_MAX_MS` it has none, so that libc would stay, with two
//! crates more beside it.

use std::ffi::{CStr, CString};
use std::io::{self, PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Time;

/// The time since the machine booted, suspend included (`CLOCK_BOOTTIME`).
///
/// Other proxies and the API server go on while this machine sleeps, so a
/// clock that stops meanwhile would make us believe that little has happened.
pub fn boot_time() -> Time {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec that outlives the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    debug_assert_eq!(status, 0, "CLOCK_BOOTTIME exists since Linux 2.6.39");
    Time::new(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

/// The time of day, in whole seconds since 1970; 0 for a clock that is set to
/// a time before. It may jump, so that nothing may be decided by it.
pub fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The IP addresses of this machine's interfaces, or of the container's: those of
/// the network namespace (getifaddrs(3)). Without the scope of link-local ones.
///
/// # Errors
/// What `getifaddrs` says.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `first` is a valid place for the address of a list.
    check(unsafe { libc::getifaddrs(&mut first) })?;
    let (mut found, mut next) = (Vec::new(), first);
    while !next.is_null() {
        // SAFETY: `next` is an item of the list, which lives until freeifaddrs.
        let item = unsafe { &*next };
        found.extend(ip_address(item.ifa_addr));
        next = item.ifa_next;
    }
    // SAFETY: the list is what getifaddrs has made, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// The IP address in a socket address; None for another family, or none at all.
fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: the kernel's socket addresses begin with their family.
    match libc::c_int::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a sockaddr_in6.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Raises the soft limit of open descriptors to the hard one and returns what
/// is now in force.
///
/// # Errors
/// Only what `getrlimit` says; if the limit cannot be raised, the old one
/// is returned.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let raised = libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    };
    // SAFETY: `raised` is a valid rlimit that outlives the call.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) };
    Ok(if status == 0 {
        raised.rlim_cur
    } else {
        limit.rlim_cur
    })
}

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
/// it was broken off (`TCP_CLOSE`, which a socket also enters that goes on as
/// TIME_WAIT without its owner). The state is the first byte of `tcp_info`, tcp(7).
///
/// # Errors
/// What `getsockopt` says.
pub fn is_closed(socket: &impl AsRawFd) -> io::Result<bool> {
    const TCP_CLOSE: u8 = 7;
    let mut state: u8 = 0;
    let mut len = size_of::<u8>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which `state` has, and both
    // outlive the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &mut len,
        )
    })?;
    Ok(state == TCP_CLOSE)
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

/// Blocks every signal for this thread, and for those that it starts, until the
/// guard is dropped.
pub fn block_all_signals() -> SignalsBlocked {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sigfillset initialises the set before anything reads it, and
    // pthread_sigmask writes the old mask, which cannot fail with valid pointers
    // and SIG_SETMASK.
    let before = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    };
    SignalsBlocked(before, PhantomData)
}

/// While this lives, its thread receives no signal.
#[must_use = "the signals are let through when it is dropped"]
pub struct SignalsBlocked(libc::sigset_t, PhantomData<*const ()>);

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the mask was in force before, and the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a name server says of a name in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// These addresses, one at least.
    Found(Vec<SocketAddr>),
    /// That there is none.
    Nothing,
    /// Nothing that can be relied on, and why.
    Failed(String),
}

/// Looks a host up in one family alone (getaddrinfo(3)), and gives what it finds
/// that port. Blocks, for many seconds where no name server answers.
///
/// In one family, since musl gives up a name altogether for what it is told in
/// the other: an IPv4 address beside NXDOMAIN for IPv6 is "Name does not
/// resolve", beside SERVFAIL, REFUSED or silence "Try again" after 5 s
/// (`name_from_dns` in `lookup_name.c`).
pub fn look_up(host: &str, port: u16, family: Family) -> LookUp {
    let Ok(name) = CString::new(host) else {
        return LookUp::Nothing;
    };
    // SAFETY: addrinfo is integers and pointers, of which none needs to be valid.
    let mut hints: libc::addrinfo = unsafe { MaybeUninit::zeroed().assume_init() };
    hints.ai_socktype = libc::SOCK_STREAM;
    hints.ai_family = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let mut list = std::ptr::null_mut();
    // SAFETY: the name ends in a zero, and everything outlives the call. No
    // service is asked for.
    let status = unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &hints, &mut list) };
    let last_error = io::Error::last_os_error();
    match status {
        0 => {
            // SAFETY: getaddrinfo has succeeded, and the list is used nowhere else.
            let found = unsafe { addresses(list, port) };
            if found.is_empty() {
                LookUp::Nothing
            } else {
                LookUp::Found(found)
            }
        }
        libc::EAI_NONAME | libc::EAI_NODATA | EAI_ADDRFAMILY => LookUp::Nothing,
        libc::EAI_SYSTEM => LookUp::Failed(last_error.to_string()),
        status => {
            // SAFETY: the text is a constant of the C library.
            let text = unsafe { CStr::from_ptr(libc::gai_strerror(status)) };
            LookUp::Failed(text.to_string_lossy().into_owned())
        }
    }
}

/// The name has addresses, and none in this family (glibc's netdb.h).
const EAI_ADDRFAMILY: libc::c_int = -9;

/// The addresses of a list of getaddrinfo's, which is freed.
///
/// # Safety
/// `list` is one that getaddrinfo has returned, and is not used afterwards.
unsafe fn addresses(list: *mut libc::addrinfo, port: u16) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: the entries of the list are valid until it is freed, and an
        // address is of the structure that its family says.
        unsafe {
            let entry = &*next;
            let address = entry.ai_addr;
            match entry.ai_family {
                libc::AF_INET => {
                    let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                    found.push(SocketAddr::from((ip, port)));
                }
                libc::AF_INET6 => {
                    let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                    let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                    let (flow, scope) = (0, address.sin6_scope_id);
                    found.push(SocketAddrV6::new(ip, port, flow, scope).into());
                }
                _ => {}
            }
            next = entry.ai_next;
        }
    }
    // SAFETY: the list is getaddrinfo's, and not used after this.
    unsafe { libc::freeaddrinfo(list) };
    found
}

/// Waits until one of the descriptors has bytes or its end to read, for at most
/// `longest` (poll(2)), and says of each whether it has. None has when the time
/// is over or a signal came. What is `None` is not waited for.
///
/// # Errors
/// What `poll` says, but for EINTR.
pub fn wait_readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    longest: Duration,
) -> io::Result<[bool; N]> {
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        // The kernel skips what is below zero.
        fd: descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    let millis = libc::c_int::try_from(longest.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `polled` has N entries and outlives the call, and so do the
    // descriptors in it, which are borrowed.
    let status = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, millis) };
    match check(status) {
        Err(cause) if cause.kind() != io::ErrorKind::Interrupted => Err(cause),
        _ => Ok(polled.map(|one| one.revents != 0)),
    }
}

/// Kills every process of the group that `leader` leads (SIGKILL, kill(2)).
/// The group has the leader's number, which is nobody else's until the leader
/// was waited for.
pub fn kill_group(leader: &std::process::Child) {
    let Ok(group) = libc::pid_t::try_from(leader.id()) else {
        return;
    };
    // SAFETY: the call takes no pointer. That the group is gone is no error
    // here.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

/// The signals that end the program, as a descriptor that becomes readable
/// (signalfd(2)) in place of handlers that interrupt at any point.
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks SIGTERM and SIGINT for this thread and all that it starts later,
    /// and queues them here. A process that is PID 1 receives no signal that
    /// it neither handles nor blocks, so this also makes them work there.
    ///
    /// # Errors
    /// What `pthread_sigmask` or `signalfd` say.
    pub fn new() -> io::Result<Signals> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set before anything reads it,
        // both signal numbers are valid, and the old mask is not asked for.
        let status = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut())
        };
        if status != 0 {
            return Err(io::Error::from_raw_os_error(status));
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = check(unsafe {
            libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
        })?;
        // SAFETY: signalfd has just returned this descriptor, so nobody else
        // owns it.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that has arrived, if any, by its name.
    pub fn next(&self) -> Option<&'static str> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the buffer is SIZE bytes long and outlives the call.
        let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), SIZE) };
        if usize::try_from(read) != Ok(SIZE) {
            return None;
        }
        // SAFETY: the kernel has filled the whole structure, which is plain
        // integers.
        let number = unsafe { info.assume_init() }.ssi_signo;
        Some(if number == libc::SIGINT as u32 {
            "SIGINT"
        } else {
            "SIGTERM"
        })
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A pipe that bytes pass through from one socket to another without being
/// copied (splice(2)).
#[derive(Debug)]
pub struct Pipe {
    /// Where bytes come out.
    pub reader: PipeReader,
    /// Where they go in.
    pub writer: PipeWriter,
    capacity: u32,
}

impl Pipe {
    /// A pipe of `bytes` if the kernel gives so many to this user, else of as
    /// many as it gives: see `/proc/sys/fs/pipe-user-pages-soft` in proc(5).
    ///
    /// # Errors
    /// What pipe2(2) says, most likely that there is no descriptor left.
    pub fn new(bytes: u32) -> io::Result<Pipe> {
        let (reader, writer) = io::pipe()?;
        let fd = writer.as_raw_fd();
        let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // SAFETY: both calls take a descriptor that `writer` owns, and no
        // pointer. If the first one fails, the pipe stays as large as it is.
        let capacity = check(unsafe {
            libc::fcntl(fd, libc::F_SETPIPE_SZ, wanted);
            libc::fcntl(fd, libc::F_GETPIPE_SZ)
        })?;
        Ok(Pipe {
            reader,
            writer,
            capacity: capacity.unsigned_abs(),
        })
    }

    /// How many bytes it takes, if they come in whole pages.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Moves up to `len` bytes from a socket that does not block into the
    /// pipe. Like a read, it returns 0 at the end of the stream, but also before
    /// urgent data if the end has been received.
    ///
    /// # Errors
    /// Those of a read. `WouldBlock` also means that the pipe is full, or that
    /// urgent data comes next, before which the kernel stops.
    pub fn fill(&self, socket: &impl AsRawFd, len: usize) -> io::Result<usize> {
        splice(socket.as_raw_fd(), self.writer.as_raw_fd(), len)
    }

    /// Moves up to `len` bytes from the pipe to a socket that does not block.
    ///
    /// # Errors
    /// Those of a write.
    pub fn drain(&self, socket: &impl AsRawFd, len: usize) -> io::Result<usize> {
        splice(self.reader.as_raw_fd(), socket.as_raw_fd(), len)
    }
}

fn splice(from: RawFd, to: RawFd, len: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = std::ptr::null_mut();
    // SAFETY: the callers own both descriptors; null offsets ask for the
    // position that pipes and sockets have anyway.
    let moved = unsafe { libc::splice(from, none, to, none, len, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

fn check(status: libc::c_int) -> io::Result<libc::c_int> {
    if status == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    #[test]
    fn the_clock_never_goes_back() {
        let first = boot_time();
        assert!(boot_time() >= first && first > Time::default());
    }

    #[test]
    fn an_address_is_found_in_its_own_family_and_no_name_in_any() {
        let look_up = |host, family| look_up(host, 80, family);
        let found = |address: &str| LookUp::Found(vec![address.parse().unwrap()]);
        assert_eq!(look_up("127.0.0.1", Family::V4), found("127.0.0.1:80"));
        assert_eq!(look_up("::1", Family::V6), found("[::1]:80"));
        assert_eq!(look_up("127.0.0.1", Family::V6), LookUp::Nothing);
        assert_eq!(look_up("::1", Family::V4), LookUp::Nothing);
        assert_eq!(look_up("a\0b", Family::V4), LookUp::Nothing);
    }

    #[test]
    fn the_descriptor_limit_is_the_hard_one() {
        let before = descriptor_limit();
        let lowered = libc::rlimit {
            rlim_cur: before.rlim_max - 1,
            ..before
        };
        // SAFETY: `lowered` is a valid rlimit that outlives the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &lowered) }).unwrap();
        assert_eq!(descriptor_limit().rlim_cur, before.rlim_max - 1);
        assert_eq!(raise_descriptor_limit().unwrap(), before.rlim_max);
        assert_eq!(descriptor_limit().rlim_cur, before.rlim_max);
    }

    fn descriptor_limit() -> libc::rlimit {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` is a valid rlimit that outlives the call.
        check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }).unwrap();
        limit
    }

    #[test]
    fn the_interfaces_have_the_address_from_which_a_connection_is_made() {
        let all = interface_addresses().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(all.contains(&client.local_addr().unwrap().ip()), "{all:?}");
        assert!(!all.contains(&"192.0.2.1".parse().unwrap()), "{all:?}");
    }

    #[test]
    fn a_pipe_takes_bytes_from_one_socket_to_another() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (one, listener.accept().unwrap().0)
        };
        let ((mut writer, source), (sink, mut reader)) = (connect(), connect());
        let pipe = Pipe::new(1 << 16).unwrap();
        assert!(pipe.capacity() >= 4096);
        writer.write_all(b"bytes").unwrap();
        assert_eq!(pipe.fill(&source, 100).unwrap(), 5);
        assert_eq!(pipe.drain(&sink, 5).unwrap(), 5);
        let mut out = [0; 5];
        reader.read_exact(&mut out).unwrap();
        assert_eq!(&out, b"bytes");
        source.set_nonblocking(true).unwrap();
        let nothing = pipe.fill(&source, 100).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(writer);
        assert_eq!(pipe.fill(&source, 100).unwrap(), 0);
    }

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
