//! The limits of the engine and of its apps.

use std::time::Duration;

/// What holds for the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open at once. More wait in the kernel.
    pub max_connections: usize,
    /// How many bytes all that belongs to the process may take, what waits in its
    /// sockets included; `None` if that is not limited.
    pub memory: Option<u64>,
}

/// What holds for the connections of one app.
#[derive(Clone, Copy, Debug)]
pub struct AppLimits {
    /// How long a connection may wait for a backend, from accept on.
    pub hold_timeout: Duration,
    /// How long one address may take to answer a SYN.
    pub connect_timeout: Duration,
    /// Whether a client is dropped that ends its direction, after whatever bytes,
    /// before a backend has taken it.
    pub abort_on_close: bool,
}
