//! The sockets of another process.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use socket2::Socket;

/// Second handles of the TCP sockets that a process has connected to `peer`.
/// They keep a connection open that the process closes; drop them soon.
pub fn connected_to(peer: IpAddr, process: u32) -> io::Result<Vec<Socket>> {
    let is_peer = |socket: &Socket| {
        let at = socket.peer_addr().ok().and_then(|at| at.as_socket());
        at.is_some_and(|at| at.ip() == peer)
    };
    Ok(sockets(process)?.into_iter().filter(is_peer).collect())
}

/// What the kernel has charged to the queues of all TCP sockets of a process, in bytes:
/// the memory of what waits to be read and to be acknowledged, and what was taken in
/// advance (`SO_MEMINFO`, `sk_get_meminfo`).
pub fn queue_bytes(process: u32) -> io::Result<u64> {
    let sockets = sockets(process)?;
    let is_tcp = |socket: &&Socket| socket.peer_addr().is_ok_and(|it| it.as_socket().is_some());
    sockets.iter().filter(is_tcp).map(memory_of).sum()
}

fn memory_of(socket: &Socket) -> io::Result<u64> {
    /// `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_FWD_ALLOC` and `SK_MEMINFO_WMEM_QUEUED`.
    const QUEUES: [usize; 3] = [0, 4, 5];
    let mut fields = [0u32; 9];
    let mut length = size_of_val(&fields) as libc::socklen_t;
    // SAFETY: the pointers are to `fields` and to its length, and outlive the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            fields.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(QUEUES.iter().map(|field| u64::from(fields[*field])).sum())
}

/// Second handles of all sockets of a process.
fn sockets(process: u32) -> io::Result<Vec<Socket>> {
    let pidfd = open_process(process)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        let path = entry?.path();
        let is_socket =
            fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let (true, Some(number)) = (is_socket, number) else {
            continue;
        };
        found.push(duplicate(&pidfd, number)?);
    }
    Ok(found)
}

/// Leaves a running process so many free descriptors and no more.
pub fn leave_descriptors(process: u32, free: usize) -> io::Result<()> {
    let mut taken: Vec<usize> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        taken.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|n| n.parse::<usize>().ok()),
        );
    }
    // The limit is one of numbers, of which the kernel takes the lowest first.
    let mut numbers = (0..).filter(|number| !taken.contains(number));
    limit_descriptors(process, numbers.nth(free).unwrap_or_default())
}

fn limit_descriptors(process: u32, limit: usize) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: limit as libc::rlim_t,
        rlim_max: limit as libc::rlim_t,
    };
    // SAFETY: `limit` is a valid rlimit that outlives the call, and the old
    // one is not asked for.
    let status = unsafe {
        libc::prlimit(
            process as libc::pid_t,
            libc::RLIMIT_NOFILE,
            &limit,
            std::ptr::null_mut(),
        )
    };
    if status == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn open_process(process: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    own(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })
}

fn duplicate(pidfd: &OwnedFd, number: i32) -> io::Result<Socket> {
    // SAFETY: the call takes no pointer.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
        .map(Socket::from)
}

/// The descriptor that a system call has just returned.
fn own(returned: libc::c_long) -> io::Result<OwnedFd> {
    if returned == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, so nobody else
    // owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(returned as i32) })
}
