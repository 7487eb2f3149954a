//! Errors of this machine: a dial that fails through no fault of a backend.

use std::fmt;
use std::io;

/// What this machine lacks or forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalError {
    /// No port is left for that address.
    NoPort,
    /// No descriptor is left.
    NoDescriptor,
    /// The kernel has no memory for it.
    NoMemory,
    /// A rule of this machine forbids it.
    Forbidden,
}

impl LocalError {
    /// All of them.
    pub const ALL: [LocalError; 4] = [
        LocalError::NoPort,
        LocalError::NoDescriptor,
        LocalError::NoMemory,
        LocalError::Forbidden,
    ];

    /// What an error of socket(2), connect(2) or epoll_ctl(2) says of this machine,
    /// if it does.
    pub fn of(error: &io::Error) -> Option<LocalError> {
        match error.raw_os_error()? {
            // connect(2): "there are no more free local ports", and for a socket
            // that is bound, its port is taken.
            libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EAGAIN => Some(LocalError::NoPort),
            libc::EMFILE | libc::ENFILE => Some(LocalError::NoDescriptor),
            // ENOSPC is of epoll_ctl(2): the user has as many watches as allowed.
            libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC => Some(LocalError::NoMemory),
            // A rule of nftables that drops what goes out says EPERM.
            libc::EACCES | libc::EPERM => Some(LocalError::Forbidden),
            _ => None,
        }
    }

    /// Whether another address may be dialled all the same: each has ports of its own,
    /// and rules of its own.
    pub fn is_of_one_address(self) -> bool {
        matches!(self, LocalError::NoPort | LocalError::Forbidden)
    }

    /// What it is called in metrics.
    pub fn name(self) -> &'static str {
        match self {
            LocalError::NoPort => "no_port",
            LocalError::NoDescriptor => "no_descriptor",
            LocalError::NoMemory => "no_memory",
            LocalError::Forbidden => "forbidden",
        }
    }
}

impl fmt::Display for LocalError {
    /// What is wrong, and the cure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LocalError::NoPort => {
                "no local port is left; widen net.ipv4.ip_local_port_range \
                 (securityContext.sysctls of the pod), or run more proxies"
            }
            LocalError::NoDescriptor => {
                "no descriptor is left; raise the limit of open files (RLIMIT_NOFILE), or set \
                 fewer --max-connections"
            }
            LocalError::NoMemory => {
                "the kernel has no memory for a socket; raise the memory limit of the container, \
                 or net.ipv4.tcp_mem of the node"
            }
            LocalError::Forbidden => {
                "this machine forbids it; look for a NetworkPolicy or a firewall rule that drops \
                 what this backend sends"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_a_backend_says() {
        for (errno, expected) in [
            (libc::EADDRNOTAVAIL, Some(LocalError::NoPort)),
            (libc::EMFILE, Some(LocalError::NoDescriptor)),
            (libc::ENFILE, Some(LocalError::NoDescriptor)),
            (libc::ENOBUFS, Some(LocalError::NoMemory)),
            (libc::ENOMEM, Some(LocalError::NoMemory)),
            (libc::EACCES, Some(LocalError::Forbidden)),
            (libc::EPERM, Some(LocalError::Forbidden)),
            (libc::ECONNREFUSED, None),
            (libc::ECONNRESET, None),
            (libc::ETIMEDOUT, None),
            (libc::EHOSTUNREACH, None),
            // No route for one family: the other address of the backend may do.
            (libc::ENETUNREACH, None),
            (libc::EAFNOSUPPORT, None),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(LocalError::of(&error), expected, "{error}");
        }
        assert_eq!(LocalError::of(&io::ErrorKind::WouldBlock.into()), None);
    }
}
