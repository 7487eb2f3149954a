//! The [`Engine`]: an event loop with a listener, connections, and the backends that
//! they are relayed to.
//!
//! It runs on one thread with one `mio::Poll`. The daemon calls [`Engine::wait`] and
//! [`Engine::dispatch`] in turn. In between it sets the addresses that may be dialled
//! ([`Engine::set_backends`]) and whether any may be dialled ([`Engine::set_gate`]). A
//! backend is a backend, a target, or whatever else the daemon puts there: the engine knows
//! no Kubernetes.
//!
//! A connection is *held* until the gate is open and there is a backend, then *dialled*,
//! then *relayed*. Until its first byte has been written to a backend it may be dialled
//! again, up to the hold limit. After that it ends when the backend does.
//!
//! ```text
//! events        gives events to the connections and applies their transitions
//! connection    one connection: Held, Connecting, Backoff, Relaying, Closing
//! ├─ dialing      the connect in progress, and the pauses between rounds
//! ├─ relaying     both directions of a connection
//! │  └─ relay       one direction; relay_state: the states of its two sockets
//! ├─ closing      waits for acknowledgements; ack_timeout: for how long
//! └─ context      what a connection borrows: balancer, buffers, timers, limits
//! balancer      the backends, and the choice of the next address
//! queue         the run queue: connections with work that no event will report
//! ```
//!
//! A connection uses `mio` and file descriptors only through the traits in `sockets`,
//! `stream` and `context`, so that tests run it between sockets in memory.

mod ack_timeout;
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
use self::connection::{Connection, Standing};
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

/// The most events that one turn of the loop takes from the kernel.
const EVENTS_PER_TURN: usize = 1024;
/// The most connections that one turn accepts.
const ACCEPTS_PER_TURN: usize = 64;
/// The most held connections that one turn dials.
const DIALS_PER_TURN: usize = 64;
/// The most deadlines that one turn handles.
const DEADLINES_PER_TURN: usize = 256;

/// The reasons other than sockets for which [`Engine::wait`] has returned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wakeups {
    /// The [`Waker`] was used.
    pub woken: bool,
    /// The descriptor given to [`Engine::watch`] is readable.
    pub source: bool,
}

/// The event loop: see the [module](self).
pub struct Engine {
    poll: Poll,
    events: Events,
    listener: Option<Listener>,
    connections: Slab<Connection<TcpStream>>,
    /// The held connections in the order in which they came: serial number to slot.
    held: BTreeMap<u64, usize>,
    queue: Queue,
    /// Connections whose next byte waits for the gate: backends serve them.
    awaiting_gate: Vec<Token>,
    shared: Shared,
    connector: Connector,
    limit_log: LimitLog,
    admin: AdminConnections,
}

impl Engine {
    /// Listens on `address`, with the gate shut and no backend. `seed` determines the
    /// random choices and differs between processes.
    ///
    /// # Errors
    /// Those of bind(2) and epoll_create(2).
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
            awaiting_gate: Vec::new(),
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

    /// A handle with which another thread ends an [`Engine::wait`]. An engine has only
    /// one.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Makes [`Engine::wait`] return when `source` is readable. An engine has only one
    /// such source, which must live as long as the engine.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watch(&self, source: &impl AsRawFd) -> io::Result<()> {
        let fd = source.as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), SOURCE, mio::Interest::READABLE)
    }

    /// The numbers of connections.
    pub fn counts(&self) -> Counts {
        Counts {
            is_full: self.shared.balancer.is_full(),
            ..self.shared.counts
        }
    }

    /// The address of the client that has been held for the longest; `None` if none is
    /// held, or its socket has been reset.
    pub fn first_waiting(&self) -> Option<IpAddr> {
        let (_, &key) = self.held.first_key_value()?;
        let peer = self.connections[key].client().peer_addr().ok()?;
        Some(peer.ip().to_canonical())
    }

    /// The numbers of connections by how they ended.
    pub fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// How many backends have as many connections as they may have.
    pub fn full_backends(&self) -> usize {
        self.shared.balancer.full()
    }

    /// How many backends rest after failures.
    pub fn resting_backends(&self) -> usize {
        self.shared.balancer.resting()
    }

    /// The number of dials from a port that was bound here because the kernel had none.
    pub fn bound_ports(&self) -> u64 {
        self.connector.bound()
    }

    /// The number of dials that failed because of this machine, by cause.
    pub fn local_errors(&self) -> Vec<([&'static str; 1], u64)> {
        self.shared.dial_log.local_errors()
    }

    /// Listens on `address` for admin connections: HTTP requests to the program itself.
    ///
    /// # Errors
    /// Those of bind(2), most likely that the address is in use.
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
        self.shared.balancer.set_most_per_backend(most);
        self.shared.release = Release::new(rules.release_rate);
        self.shared.rules = rules;
    }

    /// Replaces the backends that may be dialled. Connections to backends that are gone
    /// continue.
    pub fn set_backends(&mut self, backends: &[BackendSpec], now: Time) {
        if self.shared.balancer.set(backends, now) {
            self.end_backoffs(now);
        }
    }

    /// Sets the address that is dialled when no backend has answered: the cluster IP of
    /// the Service.
    pub fn set_fallback(&mut self, address: Option<SocketAddr>) {
        self.shared.balancer.set_fallback(address);
    }

    /// Opens or shuts the gate. While it is shut no connection is dialled; connections
    /// that are relayed continue.
    pub fn set_gate(&mut self, open: bool) {
        self.shared.gate_open = open;
        self.fit_listener();
    }

    /// Sets the queue sizes of the connections that are accepted next: their share of
    /// the memory, and less while the gate is shut, because nothing reads them then.
    fn fit_listener(&mut self) {
        let held = !self.shared.gate_open;
        let queues = self.shared.memory.queues(self.shared.counts.open, held);
        if let Some(listener) = &mut self.listener {
            listener.set_queues(queues);
        }
    }

    /// Accepts the connections in the kernel's queue and closes the listener.
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

    /// When [`Engine::dispatch`] is to be called even without an event.
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

    /// Waits for events, at most for `timeout`, and not at all while work is left from
    /// the last turn.
    ///
    /// # Errors
    /// Those of epoll_wait(2) except EINTR.
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

    /// One turn: handles the events of the last [`Engine::wait`], the deadlines that
    /// have passed, and a bounded part of the work that is left.
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
        let admin_has_work = self.admin.has_work(now);
        !self.queue.is_empty()
            || admin_has_work
            || can_accept
            || (self.shared.may_release(now) && !self.held.is_empty())
            || (self.shared.gate_open && !self.awaiting_gate.is_empty())
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

    /// Whether the connection limit is reached; logs when that changes.
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
        let standing = match self.shared.rules.sources.admission(from.ip()) {
            Admission::Counted => Standing::Counts,
            Admission::Ignored => {
                self.shared.tally.excluded(Exclusion::Ignored);
                Standing::Excluded
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
        let connection = slot.insert(Connection::new(serial, client, standing, now));
        let use_of_app = connection.use_of_app();
        self.shared.counts.open += 1;
        self.shared.counts.change_use(Use::Excluded, use_of_app);
        self.dial_or_hold(key, now);
    }

    /// A backend or an address was added: ends the pauses of connections that no address
    /// has accepted.
    fn end_backoffs(&mut self, now: Time) {
        for (key, connection) in &mut self.connections {
            connection.end_backoff(key, &mut self.shared, now);
        }
    }
}
