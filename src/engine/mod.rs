//! Sockets: the listener, the connections, and the loop that serves them.
//!
//! One thread, one `mio::Poll`. The daemon calls [`Engine::wait`], then
//! [`Engine::dispatch`], and in between tells the engine what Kubernetes has
//! to say: which addresses may be dialled ([`Engine::set_backends`]) and
//! whether connections may be let through at all ([`Engine::set_gate`]). The
//! engine itself knows neither pods nor replicas.
//!
//! A connection is *held* until the gate is open and there is an address,
//! *dialled*, and *relayed*. Until a byte of the client's has been handed to a
//! pod it may be dialled again and again, up to the hold limit; afterwards it
//! lives and dies with that pod.

mod admin_connections;
mod backends;
mod buffers;
mod connection;
mod dialing;
mod end;
mod events;
mod limit_log;
mod listener;
mod queue;
mod relay;
mod relay_state;
mod relaying;
mod sockets;
mod stream;
mod tally;
mod timers;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use log::{Level, debug, log};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use socket2::SockRef;

pub use self::admin_connections::{AdminConnections, AdminLimits};
pub use self::backends::BackendSpec;
use self::backends::Backends;
use self::buffers::Buffers;
pub use self::buffers::{BLOCK_BYTES, MAX_BLOCKS, MAX_PIPES, PIPE_BYTES};
use self::connection::{Attempt, Connection, Round, Side, Stage};
pub use self::end::{End, Phase};
use self::limit_log::{LimitChange, LimitLog};
use self::listener::Listener;
use self::queue::Queue;
pub use self::tally::Tally;
use self::timers::Timers;
use crate::clock::Time;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SOURCE: Token = Token(usize::MAX - 2);

/// Both ways at once: a second epoll_ctl later would cost more than the one event
/// that a new socket is writable. Urgent data is of interest because a read
/// stops before it.
const INTEREST: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);

/// How many events one turn takes from the kernel.
const EVENTS_PER_TURN: usize = 1024;
/// How many connections one turn accepts,
const ACCEPTS_PER_TURN: usize = 64;
/// how many held ones it dials,
const DIALS_PER_TURN: usize = 64;
/// and for how many a deadline may pass.
const DEADLINES_PER_TURN: usize = 256;

/// What the engine keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open at once. More wait in the kernel.
    pub max_connections: usize,
    /// How long a connection may wait for a pod, from accept on.
    pub hold_timeout: Duration,
    /// How long one address may take to answer a SYN.
    pub connect_timeout: Duration,
}

/// What the engine has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now, in any phase.
    pub open: usize,
    /// Those of them that wait for a pod: held, or being dialled.
    pub waiting: usize,
    /// Connections that were handed to a pod since the start.
    pub handed_over: u64,
    /// Connections closed at the hold limit since the start.
    pub held_too_long: u64,
    /// Dials that failed since the start.
    pub failed_dials: u64,
}

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
    limits: Limits,
    listener: Option<Listener>,
    connections: Slab<Connection>,
    /// The held ones in the order they came: serial number to slot.
    held: BTreeMap<u64, usize>,
    queue: Queue,
    timers: Timers,
    backends: Backends,
    fallback: Option<SocketAddr>,
    buffers: Buffers,
    gate_open: bool,
    limit_log: LimitLog,
    counts: Counts,
    tally: Tally,
    admin: AdminConnections,
}

impl Engine {
    /// Listens on `address`, with the gate shut and no address to dial.
    ///
    /// # Errors
    /// What the kernel says to the address or to another epoll instance.
    pub fn new(address: SocketAddr, limits: Limits) -> io::Result<Engine> {
        let poll = Poll::new()?;
        let listener = Listener::bind(address, poll.registry(), LISTENER)?;
        Ok(Engine {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            limits,
            listener: Some(listener),
            connections: Slab::new(),
            held: BTreeMap::new(),
            queue: Queue::default(),
            timers: Timers::default(),
            backends: Backends::default(),
            fallback: None,
            buffers: Buffers::new(buffers::MAX_BLOCKS, buffers::MAX_PIPES),
            gate_open: false,
            limit_log: LimitLog::default(),
            counts: Counts::default(),
            tally: Tally::default(),
            admin: AdminConnections::default(),
        })
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
            .register(&mut SourceFd(&fd), SOURCE, Interest::READABLE)
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The client that has been held for the longest, unless its socket does not
    /// know it any more.
    pub fn first_waiting(&self) -> Option<IpAddr> {
        let (_, &key) = self.held.first_key_value()?;
        let peer = self.connections[key].client.peer_addr().ok()?;
        Some(peer.ip().to_canonical())
    }

    /// What was counted by kind.
    pub fn tally(&self) -> &Tally {
        &self.tally
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

    /// Replaces the backends that may be dialled. Connections to those that
    /// are gone live on.
    pub fn set_backends(&mut self, backends: &[BackendSpec], now: Time) {
        if self.backends.set(backends) {
            self.end_backoffs(now);
        }
    }

    /// The address that is tried when every other has failed to answer: the
    /// Service's own.
    pub fn set_fallback(&mut self, address: Option<SocketAddr>) {
        self.fallback = address;
    }

    /// Opens or shuts the gate. While it is shut nothing is dialled; what is
    /// relayed goes on.
    pub fn set_gate(&mut self, open: bool) {
        self.gate_open = open;
    }

    /// Accepts what the kernel has queued, and then no more.
    pub fn stop_accepting(&mut self, now: Time) {
        if let Some(mut listener) = self.listener.take() {
            listener.set_ready();
            while self.counts.open < self.limits.max_connections {
                let Some((client, peer)) = listener.accept(now) else {
                    break;
                };
                self.admit(client, peer, now);
            }
        }
    }

    /// Resets every connection.
    pub fn reset_all(&mut self) {
        let all: Vec<_> = self
            .connections
            .iter()
            .map(|(key, c)| (key, c.phase()))
            .collect();
        for (key, phase) in all {
            self.reset(key, End::Drained(phase));
        }
    }

    /// When [`Engine::dispatch`] has something to do even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        let listener = self.listener.as_ref().and_then(Listener::poll_timeout);
        let admin_connections = self.admin.poll_timeout();
        let limit_log = self.limit_log.poll_timeout();
        let buffers = self.buffers.poll_timeout();
        [
            self.timers.next(),
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
        self.buffers.handle_timeout(now);
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

    /// Dials what is held, in the order it came, if the gate is open.
    pub fn release(&mut self, now: Time) {
        for _ in 0..DIALS_PER_TURN {
            if !self.may_dial() {
                return;
            }
            let Some((_, key)) = self.held.pop_first() else {
                return;
            };
            self.dial(key, Round::default(), now);
        }
    }

    fn may_dial(&self) -> bool {
        self.gate_open && !self.backends.is_empty()
    }

    fn has_work(&self, now: Time) -> bool {
        let can_accept = self.counts.open < self.limits.max_connections
            && self.listener.as_ref().is_some_and(|l| l.is_ready(now));
        let visited = self.admin.has_work(now);
        !self.queue.is_empty()
            || visited
            || can_accept
            || (self.may_dial() && !self.held.is_empty())
    }

    fn find(&self, token: Token) -> Option<(usize, Side)> {
        let (key, generation, side) = connection::parse_token(token);
        let connection = self.connections.get(key)?;
        let is_current = connection::generation(connection.serial) == generation
            && (side == Side::Client || connection.backend_token(key) == token);
        is_current.then_some((key, side))
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
        let limit = self.limits.max_connections;
        let is_full = self.counts.open >= limit;
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
        let serial = self.counts.accepted;
        self.counts.accepted += 1;
        let from = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        debug!("#{serial} accepted from {from}");
        let slot = self.connections.vacant_entry();
        let key = slot.key();
        let token = connection::token(key, serial, Side::Client);
        if let Err(e) = self.poll.registry().register(&mut client, token, INTEREST) {
            let end = End::Refused(Phase::Holding);
            debug!("#{serial} {end}: {e}");
            self.tally.ended(end);
            return;
        }
        slot.insert(Connection::new(serial, client, now));
        self.counts.open += 1;
        self.counts.waiting += 1;
        self.place(key, now);
    }

    // --- Ending ---

    /// Closes a connection that has waited for a pod as long as it may.
    fn give_up(&mut self, key: usize) {
        self.counts.held_too_long += 1;
        let phase = self.connections[key].phase();
        self.reset(key, End::HeldTooLong(phase, self.limits.hold_timeout));
    }

    /// Closes a connection with an RST to whoever is left: an orderly end
    /// would tell them that all is well.
    fn reset(&mut self, key: usize, end: End) {
        let connection = &self.connections[key];
        // The socket may be beyond all options; then it is beyond an RST too.
        let _ = SockRef::from(&connection.client).set_linger(Some(Duration::ZERO));
        if let Stage::Relaying { upstream, .. } | Stage::Resetting { upstream, .. } =
            &connection.stage
        {
            let _ = SockRef::from(upstream).set_linger(Some(Duration::ZERO));
        }
        self.close(key, end);
    }

    fn close(&mut self, key: usize, end: End) {
        let mut connection = self.connections.remove(key);
        debug!("#{} {end}", connection.serial);
        self.tally.ended(end);
        self.timers.set(key, &mut connection.deadline, None);
        self.counts.open -= 1;
        self.counts.waiting -= usize::from(connection.is_waiting());
        connection.up.release(&mut self.buffers);
        connection.down.release(&mut self.buffers);
        match connection.stage {
            Stage::Held => drop(self.held.remove(&connection.serial)),
            Stage::Connecting(Attempt { backend, .. })
            | Stage::Relaying { backend, .. }
            | Stage::Resetting { backend, .. } => self.backends.release(backend),
            Stage::Backoff => {}
        }
    }

    /// Sets the deadline of a connection, but never after the hold limit of
    /// one that waits for a pod.
    fn set_deadline(&mut self, key: usize, deadline: Option<Time>) {
        let connection = &mut self.connections[key];
        let hold_limit = connection.opened + self.limits.hold_timeout;
        let waiting = connection.is_waiting();
        let deadline = deadline.map(|d| if waiting { d.min(hold_limit) } else { d });
        self.timers.set(key, &mut connection.deadline, deadline);
    }
}
