//! Sockets: the listener, the connections, and the loop that serves them.
//!
//! One thread, one `mio::Poll`. The daemon calls [`Engine::wait`], then
//! [`Engine::dispatch`], and in between tells the engine what Kubernetes has
//! to say: which addresses may be dialled ([`Engine::set_backends`]) and
//! whether connections may be let through at all ([`Engine::set_gate`]). The
//! engine itself knows neither backends nor replicas.
//!
//! A connection is *held* until the gate is open and there is an address,
//! *dialled*, and *relayed*. Until a byte of the client's has been handed to a
//! backend it may be dialled again and again, up to the hold limit; afterwards it
//! lives and dies with that backend.
//!
//! ```text
//! events        the engine drives its connections: events in, transitions out
//! connection    one connection: Held, Connecting, Backoff, Relaying, Closing
//! ├─ dialing      the connect that is under way, and the pauses between rounds
//! ├─ relaying     two halves with their ends swapped
//! │  └─ relay       one direction; relay_state: what is known of its two sockets
//! ├─ closing      what is kept until it has arrived; remainder: for how long
//! └─ context      what a connection borrows: balancer, buffers, timers, limits
//! balancer      the backends, and which of their addresses comes next
//! queue         the run queue: who is served when no event says so
//! ```
//!
//! A connection knows neither `mio` nor a file descriptor but through the traits
//! in `sockets`, `stream` and `context`, so that tests play it between sockets in
//! memory.

mod admin_connections;
mod balancer;
mod buffers;
mod closing;
mod connection;
mod connector;
mod context;
mod dial_log;
mod dialing;
mod end;
mod events;
mod limit_log;
mod limits;
mod listener;
mod local_error;
mod local_ports;
mod memory;
mod queue;
mod readiness;
mod relay;
mod relay_state;
mod relaying;
mod remainder;
mod sockets;
mod stream;
mod tally;
mod timers;
mod token;
mod transition;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use log::{Level, debug, log};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Poll, Token, Waker};
use slab::Slab;

pub use self::admin_connections::{AdminConnections, AdminLimits};
pub use self::balancer::BackendSpec;
use self::balancer::Balancer;
use self::buffers::Buffers;
pub use self::buffers::{BLOCK_BYTES, MAX_BLOCKS, MAX_PIPES, PIPE_BYTES};
use self::connection::Connection;
use self::connector::Connector;
use self::context::Shared;
use self::dial_log::DialLog;
pub use self::end::{End, Phase};
use self::limit_log::{LimitChange, LimitLog};
pub use self::limits::Limits;
use self::listener::Listener;
use self::memory::MemoryBudget;
pub use self::memory::connections_within;
use self::queue::Queue;
use self::readiness::Interest;
use self::sockets::Socket;
pub use self::tally::{Counts, Tally};
use self::tally::{Exclusion, Use};
use self::timers::Timers;
use self::token::Side;
use crate::clock::Time;
use crate::rules::Rules;
use crate::rules::release::Release;
use crate::rules::sources::Admission;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SOURCE: Token = Token(usize::MAX - 2);

/// How many events one turn takes from the kernel.
const EVENTS_PER_TURN: usize = 1024;
/// How many connections one turn accepts,
const ACCEPTS_PER_TURN: usize = 64;
/// how many held ones it dials,
const DIALS_PER_TURN: usize = 64;
/// and for how many a deadline may pass.
const DEADLINES_PER_TURN: usize = 256;

/// Why [`Engine::wait`] has returned, beside sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wakeups {
    /// The [`Waker`] was used.
    pub woken: bool,
    /// The descriptor given to [`Engine::watch`] is readable.
    pub source: bool,
}

/// The event loop's state.
pub struct Engine {
    poll: Poll,
    events: Events,
    listener: Option<Listener>,
    connections: Slab<Connection<TcpStream>>,
    /// The held ones in the order they came: serial number to slot.
    held: BTreeMap<u64, usize>,
    queue: Queue,
    /// What the connections share.
    shared: Shared,
    connector: Connector,
    limit_log: LimitLog,
    admin: AdminConnections,
}

impl Engine {
    /// Listens on `address`, with the gate shut and no address to dial. The seed, one of
    /// each process's own, is that of its random choices.
    ///
    /// # Errors
    /// What the kernel says to the address or to another epoll instance.
    pub fn new(address: SocketAddr, limits: Limits, seed: u64) -> io::Result<Engine> {
        let poll = Poll::new()?;
        let listener = Listener::bind(address, poll.registry(), LISTENER)?;
        let mut engine = Engine {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            listener: Some(listener),
            connections: Slab::new(),
            held: BTreeMap::new(),
            queue: Queue::default(),
            shared: Shared {
                limits,
                rules: Rules::default(),
                release: Release::default(),
                gate_open: false,
                ready_since: Time::default(),
                was_ready: false,
                balancer: Balancer::new(seed),
                buffers: Buffers::new(buffers::MAX_BLOCKS, buffers::MAX_PIPES),
                memory: MemoryBudget::new(limits.memory, limits.max_connections),
                timers: Timers::default(),
                counts: Counts::default(),
                tally: Tally::default(),
                dial_log: DialLog::default(),
            },
            connector: Connector::new(),
            limit_log: LimitLog::default(),
            admin: AdminConnections::default(),
        };
        engine.fit_listener();
        Ok(engine)
    }

    /// Where it listens; `None` after [`Engine::stop_accepting`].
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// What ends a [`Engine::wait`] from another thread. There may be only
    /// one.
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Lets [`Engine::wait`] return when `source` is readable. There may be only
    /// one, and it has to live as long as the engine.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn watch(&self, source: &impl AsRawFd) -> io::Result<()> {
        let fd = source.as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), SOURCE, mio::Interest::READABLE)
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        Counts {
            is_full: self.shared.balancer.is_full(),
            ..self.shared.counts
        }
    }

    /// The client that has been held for the longest, unless its socket does not
    /// know it any more.
    pub fn first_waiting(&self) -> Option<IpAddr> {
        let (_, &key) = self.held.first_key_value()?;
        let peer = self.connections[key].client().peer_addr().ok()?;
        Some(peer.ip().to_canonical())
    }

    /// What was counted by kind.
    pub fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// How many backends rest after failures.
    pub fn resting_backends(&self) -> usize {
        self.shared.balancer.resting()
    }

    /// For how many dials a port was bound, since the kernel had none left.
    pub fn bound_ports(&self) -> u64 {
        self.connector.bound()
    }

    /// How many dials have failed through no fault of a backend, by cause.
    pub fn local_errors(&self) -> Vec<([&'static str; 1], u64)> {
        self.shared.dial_log.local_errors()
    }

    /// Lets admin connections in at `address`: connections that ask the program about
    /// itself, and are none to the app.
    ///
    /// # Errors
    /// What the kernel says to the address, most likely that it is in use.
    pub fn listen_for_admin(&mut self, address: SocketAddr, limits: AdminLimits) -> io::Result<()> {
        self.admin = AdminConnections::bind(address, limits, self.poll.registry())?;
        Ok(())
    }

    /// The admin connections.
    pub fn admin(&mut self) -> &mut AdminConnections {
        &mut self.admin
    }

    /// Replaces the rules for those who come, and for those who wait.
    pub fn set_rules(&mut self, rules: Rules) {
        let most = rules.max_connections_per_pod;
        self.shared.balancer.set_most_per_pod(most);
        self.shared.release = Release::new(rules.release_rate);
        self.shared.rules = rules;
    }

    /// Replaces the backends that may be dialled. Connections to those that
    /// are gone live on.
    pub fn set_backends(&mut self, backends: &[BackendSpec], now: Time) {
        if self.shared.balancer.set(backends, now) {
            self.end_backoffs(now);
        }
    }

    /// The address that is tried when every other has failed to answer: the
    /// Service's own.
    pub fn set_fallback(&mut self, address: Option<SocketAddr>) {
        self.shared.balancer.set_fallback(address);
    }

    /// Opens or shuts the gate. While it is shut nothing is dialled; what is
    /// relayed goes on.
    pub fn set_gate(&mut self, open: bool) {
        self.shared.gate_open = open;
        self.fit_listener();
    }

    /// Sets how much may wait in the sockets of those who come next: as much as there
    /// is memory for, and little while the gate is shut and nobody is going to read.
    fn fit_listener(&mut self) {
        let held = !self.shared.gate_open;
        let queues = self.shared.memory.queues(self.shared.counts.open, held);
        if let Some(listener) = &mut self.listener {
            listener.set_queues(queues);
        }
    }

    /// Accepts what the kernel has queued, and then no more.
    pub fn stop_accepting(&mut self, now: Time) {
        if let Some(mut listener) = self.listener.take() {
            listener.set_ready();
            while self.shared.counts.open < self.shared.limits.max_connections {
                let Some((client, peer)) = listener.accept(now) else {
                    break;
                };
                self.admit(client, peer, now);
            }
        }
    }

    /// Resets every connection.
    pub fn reset_all(&mut self, now: Time) {
        let all: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in all {
            let end = End::Drained(self.connections[key].phase());
            self.connections[key].reset_on_close();
            self.close(key, end, now);
        }
    }

    /// When [`Engine::dispatch`] has something to do even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        let listener = self.listener.as_ref().and_then(Listener::poll_timeout);
        let admin_connections = self.admin.poll_timeout();
        let limit_log = self.limit_log.poll_timeout();
        let buffers = self.shared.buffers.poll_timeout();
        let release = self.shared.next_release().filter(|_| !self.held.is_empty());
        [
            self.shared.timers.next(),
            release,
            listener,
            admin_connections,
            limit_log,
            buffers,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Waits for events, `timeout` at most; not at all while there is work
    /// left from the last turn.
    ///
    /// # Errors
    /// What epoll_wait(2) says; an interruption by a signal is none.
    pub fn wait(&mut self, timeout: Option<Duration>, now: Time) -> io::Result<Wakeups> {
        let timeout = if self.has_work(now) {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(e) if e.kind() == ErrorKind::Interrupted => self.events.clear(),
            polled => polled?,
        }
        let mut wakeups = Wakeups::default();
        for event in &self.events {
            match event.token() {
                WAKER => wakeups.woken = true,
                SOURCE => wakeups.source = true,
                _ => {}
            }
        }
        Ok(wakeups)
    }

    /// Does what the last [`Engine::wait`] has found, a bounded piece of it.
    pub fn dispatch(&mut self, now: Time) {
        self.shared.buffers.handle_timeout(now);
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.handle_event(event, now);
        }
        self.events = events;
        self.handle_deadlines(now);
        self.admin.dispatch(self.poll.registry(), now);
        self.accept(now);
        self.release(now);
        self.serve_queue(now);
    }

    fn has_work(&self, now: Time) -> bool {
        let can_accept = self.shared.counts.open < self.shared.limits.max_connections
            && self.listener.as_ref().is_some_and(|l| l.is_ready(now));
        let visited = self.admin.has_work(now);
        !self.queue.is_empty()
            || visited
            || can_accept
            || (self.shared.may_release(now) && !self.held.is_empty())
    }

    // --- Accepting ---

    fn accept(&mut self, now: Time) {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.is_full(now) {
                return;
            }
            let accepted = self.listener.as_mut().and_then(|l| l.accept(now));
            let Some((client, peer)) = accepted else {
                return;
            };
            self.admit(client, peer, now);
        }
    }

    /// Whether the connection limit is reached; says so when that begins.
    fn is_full(&mut self, now: Time) -> bool {
        let limit = self.shared.limits.max_connections;
        let is_full = self.shared.counts.open >= limit;
        if let Some(word) = self.limit_log.note(is_full, now) {
            let level = match word {
                LimitChange::Reached | LimitChange::Again(_) => Level::Warn,
                LimitChange::Over(_) => Level::Info,
            };
            log!(level, "the connection limit of {limit} {word}");
        }
        is_full
    }

    fn admit(&mut self, mut client: TcpStream, peer: SocketAddr, now: Time) {
        let from = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let counts = match self.shared.rules.sources.admission(from.ip()) {
            Admission::Counted => true,
            Admission::Ignored => {
                self.shared.tally.excluded(Exclusion::Ignored);
                false
            }
            Admission::Denied => {
                debug!("denied to {from}");
                self.shared.tally.excluded(Exclusion::Denied);
                client.reset_on_close();
                return;
            }
        };
        let serial = self.shared.counts.accepted;
        self.shared.counts.accepted += 1;
        debug!("#{serial} accepted from {from}");
        let slot = self.connections.vacant_entry();
        let key = slot.key();
        let token = token::token(key, serial, Side::Client);
        if let Err(e) = self
            .poll
            .registry()
            .register(&mut client, token, Interest::Both.into())
        {
            let end = End::Refused(Phase::Holding);
            debug!("#{serial} {end}: {e}");
            self.shared.tally.ended(end);
            return;
        }
        let connection = slot.insert(Connection::new(serial, client, counts, now));
        let use_of_app = connection.use_of_app();
        self.shared.counts.open += 1;
        self.shared.counts.change_use(Use::Excluded, use_of_app);
        self.place(key, now);
    }

    /// There is a new address: those that found none to take them try it now.
    fn end_backoffs(&mut self, now: Time) {
        for (key, connection) in &mut self.connections {
            connection.end_backoff(key, &mut self.shared, now);
        }
    }
}
