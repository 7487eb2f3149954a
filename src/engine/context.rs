//! [`Context`]: the parts of the engine that a connection borrows in each call.

use std::io;
use std::net::SocketAddr;

use mio::Token;

use super::buffers::Buffers;
use super::dial_log::DialLog;
use super::log_limiter::LogLimiter;
use super::memory::{BufferSizes, MemoryBudget};
use super::port::Port;
use super::readiness::Interest;
use super::sockets::Socket;
use super::timers::Timers;
use crate::clock::Time;

/// What the connections of the process share.
pub struct Shared {
    /// How many connections are open.
    pub open: usize,
    /// What their bytes pass through.
    pub buffers: Buffers,
    /// How much may wait in their sockets.
    pub memory: MemoryBudget,
    /// Their deadlines.
    pub timers: Timers,
    /// What is said of dials that fail through no fault of a backend.
    pub dial_log: DialLog,
    /// What is said of load balancers that send no PROXY header.
    pub header_log: LogLimiter,
}

/// What one connection borrows while it handles something.
pub struct Context<'a, C> {
    /// What time it is.
    pub now: Time,
    /// The slot of the connection.
    pub key: usize,
    /// What it shares with all others.
    pub shared: &'a mut Shared,
    /// What it shares with those that came through the same listener.
    pub port: &'a mut Port,
    /// What makes sockets that lead to backends.
    pub connector: C,
}

/// Makes sockets that lead to backends, and says what sockets report.
pub trait Connect {
    /// Those sockets.
    type Socket: Socket;

    /// Begins to connect to `address`, with so much room for what waits in the socket;
    /// the events of the socket bear the token.
    ///
    /// # Errors
    /// What the kernel says at once.
    fn connect(
        &mut self,
        address: SocketAddr,
        sizes: BufferSizes,
        token: Token,
    ) -> io::Result<Self::Socket>;

    /// Changes what events `socket`, whose events bear the token, reports.
    ///
    /// # Errors
    /// What epoll_ctl(2) says; the socket reports what it did.
    fn set_interest(
        &mut self,
        socket: &mut Self::Socket,
        token: Token,
        interest: Interest,
    ) -> io::Result<()>;
}
