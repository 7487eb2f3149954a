//! Descriptors and child processes: the limit of open files, poll(2), kill(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::check;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
