//! What a connection borrows from the engine while it handles something.

use std::io;
use std::net::SocketAddr;

use mio::Token;

use super::balancer::Balancer;
use super::buffers::Buffers;
use super::dial_log::DialLog;
use super::limits::Limits;
use super::memory::{MemoryBudget, Queues};
use super::readiness::Interest;
use super::sockets::Socket;
use super::tally::{Counts, Tally};
use super::timers::Timers;
use crate::clock::Time;
use crate::rules::Rules;
use crate::rules::release::Release;

/// What all connections share.
pub struct Shared {
    /// What they keep to.
    pub limits: Limits,
    /// Which of them count, and how they are let through.
    pub rules: Rules,
    /// The pace at which those are let through that have waited for a wake.
    pub release: Release,
    /// Whether they may be let through to backends.
    pub gate_open: bool,
    /// Since when they may, and there has been an address: the time of the last
    /// wake, if there was one.
    pub ready_since: Time,
    /// Whether that was so when it was last looked at.
    pub was_ready: bool,
    /// The backends.
    pub balancer: Balancer,
    /// What their bytes pass through.
    pub buffers: Buffers,
    /// How much may wait in their sockets.
    pub memory: MemoryBudget,
    /// Their deadlines.
    pub timers: Timers,
    /// How many there are.
    pub counts: Counts,
    /// What has become of them.
    pub tally: Tally,
    /// What is said of dials that fail through no fault of a backend.
    pub dial_log: DialLog,
}

/// What one connection borrows while it handles something.
pub struct Context<'a, C> {
    /// What time it is.
    pub now: Time,
    /// The slot of the connection.
    pub key: usize,
    /// What it shares with the others.
    pub shared: &'a mut Shared,
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
        queues: Queues,
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

impl Shared {
    /// Whether connections may be let through, and there is an address.
    pub fn is_ready(&self) -> bool {
        self.gate_open && !self.balancer.is_empty()
    }

    /// Whether a connection may be dialled for now: it may be let through, and there is
    /// an address whose backend has room.
    pub fn may_dial(&self) -> bool {
        self.is_ready() && !self.balancer.is_full()
    }

    /// Whether the next one that waits may be dialled for now.
    pub fn may_release(&self, now: Time) -> bool {
        self.may_dial() && self.release.may_go_on(now)
    }

    /// When the next one that waits may be dialled, if time alone stands in its way.
    pub fn next_release(&self) -> Option<Time> {
        self.release.next().filter(|_| self.may_dial())
    }

    /// Takes note of when connections may be dialled after they might not.
    pub fn note_readiness(&mut self, now: Time) {
        let is_ready = self.is_ready();
        if is_ready && !self.was_ready {
            self.ready_since = now;
            self.release.begin(now);
        }
        self.was_ready = is_ready;
    }
}
