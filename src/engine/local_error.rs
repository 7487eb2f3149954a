//! [`LocalError`]: an error of this machine, with which a dial fails before any packet
//! reaches the backend.

use std::fmt;
use std::io;

/// A resource that this machine lacks, or a rule that forbids a dial.
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

    /// Classifies an error of socket(2), connect(2) or epoll_ctl(2); `None` if it does not
    /// come from this machine.
    pub fn of(error: &io::Error) -> Option<LocalError> {
        match error.raw_os_error()? {
            // EADDRNOTAVAIL, EAGAIN: no free local port (connect(2)); EADDRINUSE: the port
            // that the socket is bound to is in use.
            libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EAGAIN => Some(LocalError::NoPort),
            libc::EMFILE | libc::ENFILE => Some(LocalError::NoDescriptor),
            // ENOSPC of epoll_ctl(2): the user has as many watches as allowed.
            libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC => Some(LocalError::NoMemory),
            // A rule of nftables that drops outgoing packets causes EPERM.
            libc::EACCES | libc::EPERM => Some(LocalError::Forbidden),
            _ => None,
        }
    }

    /// Whether a dial to another address may succeed: ports and firewall rules are
    /// specific to an address.
    pub fn is_of_one_address(self) -> bool {
        matches!(self, LocalError::NoPort | LocalError::Forbidden)
    }

    /// Its name in metrics.
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
    /// The error and its remedy.
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
                 packets to it"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_this_machine_is_no_error_of_a_backend() {
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
