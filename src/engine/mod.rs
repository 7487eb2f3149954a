//! The [`Engine`]: an event loop with listeners, connections, and the backends that
//! they are relayed to.
//!
//! It runs on one thread with one `mio::Poll`. The daemon calls [`Engine::wait`] and
//! [`Engine::dispatch`] in turn. In between it sets the addresses that may be dialled
//! ([`Engine::set_backends`]) and whether any may be dialled ([`Engine::set_gate`]). A
//! backend is a pod, a static backend, or whatever else the daemon puts there: the engine
//! knows no Kubernetes.
//!
//! It serves any number of apps ([`AppId`]), each with a gate and limits of its own and
//! with one or more ports ([`PortId`]): a listener, the backends that connections from
//! there may be dialled to, and what was counted of them.
//!
//! A connection is *held* until the gate is open and there is a backend, then *dialled*,
//! then *relayed*. Until its first byte has been written to a backend it may be dialled
//! again, up to the hold limit. After that it ends when the backend does.
//!
//! ```text
//! events        gives events to the connections and applies their transitions
//! apps          the apps and their listeners, and which app accepts and dials next
//! ├─ port         what the connections of one listener share
//! └─ port_group   what the ports of an app share
//! connection    one connection: Preread, Held, Connecting, Backoff, Relaying, Detached,
//!               Answering, Closing
//! ├─ preread      the first bytes: PROXY header, health checks, what counts as use
//! ├─ dialing      the connect in progress, and the pauses between the rounds
//! ├─ relay        both directions of a connection
//! │  └─ half        one direction; half_state: the states of its two sockets
//! ├─ closing      waits for acknowledgements; ack_timeout: for how long
//! └─ context      what a connection borrows: balancer, buffers, timers, limits
//! balancer      the backends, and the choice of the next address
//! shares        what each app has of connections, blocks and pipes
//! sleeps        the apps that have fallen asleep, whose uncounted connections end
//! queue         the run queue: connections with work that no event will report
//! statistics    what the admin pages read
//! ```
//!
//! A connection uses `mio` and file descriptors only through the traits in `sockets`,
//! `stream` and `context`, so that tests run it between sockets in memory.

// The loop: listeners, events, deadlines, and whose turn it is.
mod accepting;
mod admin_connections;
mod apps;
mod events;
mod ids;
mod limits;
mod port;
mod port_group;
mod queue;
mod shares;
mod sleeps;
mod timers;
mod token;

// Apps that share a listener, of which the TLS server name of a client chooses one.
mod by_name;
mod by_source;
mod inspectors;

// One connection, from accept to close.
mod ack_timeout;
mod close_reason;
mod closing;
mod connection;
mod context;
mod dialing;
mod half;
mod half_state;
mod lingering;
mod readiness;
mod relay;
mod transition;

// The backends: which of them is dialled, and how.
mod affinity;
mod balancer;
mod connector;
mod local_error;
mod local_ports;

// Sockets, and the memory of what passes through them.
mod buffers;
mod listener;
mod memory;
mod sockets;
mod stream;

// What is counted and logged.
mod counters;
mod dial_log;
mod limit_log;
mod log_limiter;
mod statistics;

use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Poll, Token, Waker};
use slab::Slab;

pub use self::admin_connections::{AdminConnections, AdminLimits};
pub use self::apps::{AppId, MAX_LISTENERS, PortId};
use self::apps::{Apps, Entrance, PortEntry};
pub use self::balancer::BackendSpec;
use self::buffers::Buffers;
pub use self::buffers::{BLOCK_BYTES, MAX_BLOCKS, MAX_PIPES, PIPE_BYTES};
pub use self::by_name::NamedListener;
pub use self::close_reason::{CloseReason, ConnectionPhase};
use self::connection::Connection;
use self::connector::Connector;
use self::context::Shared;

pub use self::counters::{Counters, Counts};
use self::dial_log::DialLog;
use self::inspectors::Inspectors;
pub use self::inspectors::RefusedByName;
use self::limit_log::LimitLog;
pub use self::limits::{AppLimits, Limits};
pub use self::listener::BoundListener;
use self::listener::Listener;
use self::log_limiter::LogLimiter;
use self::memory::MemoryBudget;
pub use self::memory::connections_within;
use self::port::Port;
use self::queue::Queue;
use self::shares::Shares;
use self::sleeps::Sleeps;
use self::timers::Timers;
use crate::backoff::Random;
use crate::clock::Time;
use crate::rules::Rules;

const WAKER: Token = Token(usize::MAX - 1);
const SOURCE: Token = Token(usize::MAX - 2);

/// The most events that one turn of the loop takes from the kernel.
const EVENTS_PER_TURN: usize = 1024;
/// The most connections that one turn accepts.
const ACCEPTS_PER_TURN: usize = 64;
/// The most held connections that one turn dials.
const DIALS_PER_TURN: usize = 64;
/// The most connections that one turn ends because their app sleeps.
const SLEEPERS_PER_TURN: usize = 32;
/// The most connections that it looks at for that.
const LOOKED_AT_PER_TURN: usize = 4096;
/// The most bulk connections that one turn looks at, whether they are silent.
const SHARE_CHECKS_PER_TURN: usize = 16;
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
    apps: Apps,
    /// Where names choose the app.
    inspectors: Inspectors,
    connections: Slab<Connection<TcpStream>>,
    /// How many connections were accepted since the start: the serial number of the
    /// next one.
    accepted: u64,
    queue: Queue,
    sleeps: Sleeps,
    limits: Limits,
    /// How many connections each app has open.
    open: Shares,
    /// What the connections share.
    shared: Shared,
    /// The level of the memory budget to which the listeners were last fitted.
    fitted_level: usize,
    /// Makes the seeds of balancers.
    random: Random,
    connector: Connector,
    limit_log: LimitLog,
    admin: AdminConnections,
}

impl Engine {
    /// Serves no app yet. The seed, one of each process's own, is that of its random
    /// choices.
    ///
    /// # Errors
    /// What the kernel says to another epoll instance.
    pub fn new(limits: Limits, seed: u64) -> io::Result<Engine> {
        Ok(Engine {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            apps: Apps::default(),
            inspectors: Inspectors::default(),
            connections: Slab::new(),
            accepted: 0,
            queue: Queue::default(),
            sleeps: Sleeps::default(),
            limits,
            open: Shares::new(limits.max_connections),
            shared: Shared {
                open: 0,
                buffers: Buffers::new(buffers::MAX_BLOCKS, buffers::MAX_PIPES),
                memory: MemoryBudget::new(limits.memory, limits.max_connections),
                timers: Timers::default(),
                dial_log: DialLog::default(),
                header_log: LogLimiter::default(),
            },
            fitted_level: 0,
            random: Random::new(seed),
            connector: Connector::new(),
            limit_log: LimitLog::default(),
            admin: AdminConnections::default(),
        })
    }

    /// Listens on `address` for `app`, with the gate shut and no address to dial. The
    /// first port of an app is its place 0, the next one 1.
    ///
    /// # Errors
    /// What the kernel says to the address, or that there are too many listeners.
    pub fn add_port(
        &mut self,
        app: AppId,
        address: SocketAddr,
        limits: AppLimits,
    ) -> io::Result<PortId> {
        self.add_bound_port(app, BoundListener::bind(address)?, limits)
    }

    /// The same with a listener that is there already.
    ///
    /// # Errors
    /// What the kernel says to watching another socket, or that there are too many listeners.
    pub fn add_bound_port(
        &mut self,
        app: AppId,
        listener: BoundListener,
        limits: AppLimits,
    ) -> io::Result<PortId> {
        self.check_room_for_port()?;
        let registry = self.poll.registry();
        let listen = |slot| {
            let token = Apps::listener_token(slot);
            Listener::new(listener, registry, token).map(Entrance::Own)
        };
        let port = Port::new(limits, self.random.bits());
        let id = self.apps.add(app, port, listen)?;
        self.divide_among_apps();
        self.fit_listeners(&self.apps.slots(app));
        Ok(id)
    }

    fn check_room_for_port(&self) -> io::Result<()> {
        match self.apps.len() < MAX_LISTENERS {
            true => Ok(()),
            false => Err(io::Error::other("there are too many listeners")),
        }
    }

    /// Takes the listener of a port away, for another app: who waits in its queue is not lost.
    /// Where names choose the app, it is that of all apps there.
    pub fn take_listener(&mut self, port: PortId) -> Option<BoundListener> {
        let slot = self.apps.slot(port)?;
        let (registry, entry) = (self.poll.registry(), self.apps.get_mut(slot));
        match entry.inspector {
            Some(inspector) => self.inspectors.take_listener(inspector, registry),
            None => entry.listener.take()?.into_bound(registry).ok(),
        }
    }

    /// Resets every connection of an app, and forgets it. Nothing is left of it but the
    /// kernel's memory of its connections.
    pub fn remove_app(&mut self, app: AppId, now: Time) {
        self.reset_all(app, now);
        self.sleeps.end(app);
        self.remove_names(app);
        self.apps.remove(app);
        self.divide_among_apps();
    }

    /// Divides what the apps share among as many as there are.
    fn divide_among_apps(&mut self) {
        let apps = self.apps.count();
        self.open
            .set_limit(self.limits.max_connections - self.kept_for_inspected());
        self.open.set_apps(apps);
        self.shared.buffers.set_apps(apps);
    }

    fn entry(&self, port: PortId) -> Option<&PortEntry> {
        Some(self.apps.get(self.apps.slot(port)?))
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

    /// What was counted at all ports of an app.
    pub fn counts(&self, app: AppId) -> Counts {
        self.apps.counts(app)
    }

    /// What was counted at a port.
    pub fn port_counts(&self, port: PortId) -> Counts {
        self.entry(port)
            .map_or_else(Counts::default, |it| it.port.counts())
    }

    /// The apps of which something was counted since this was last asked.
    pub fn take_changed_apps(&mut self) -> Vec<AppId> {
        self.apps.take_changed_apps()
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

    /// Replaces the limits of an app: for those who wait, too, at their next deadline.
    pub fn set_limits(&mut self, app: AppId, limits: AppLimits) {
        for &slot in self.apps.slots(app).iter() {
            self.apps.get_mut(slot).port.limits = limits;
        }
    }

    /// Replaces the rules of an app for those who come, and for those who wait. A greeting is
    /// awaited at its first port alone: at another, such as the data port of FTP, a client may
    /// have to speak first.
    pub fn set_rules(&mut self, app: AppId, rules: &Rules) {
        for (index, &slot) in self.apps.slots(app).iter().enumerate() {
            let mut rules = rules.clone();
            rules.awaits_greeting &= index == 0;
            self.apps.get_mut(slot).port.set_rules(rules);
        }
    }

    /// Sets for how long after its last connection a client of an app is led to the same
    /// backend; `None`: no longer at all.
    pub fn set_affinity(&mut self, app: AppId, timeout: Option<Duration>) {
        if let Some(group) = self.apps.group(app) {
            group.affinity.set_timeout(timeout);
        }
    }

    /// Forgets the clients of an app that are remembered for that: its pods are gone.
    pub fn forget_clients(&mut self, app: AppId) {
        if let Some(group) = self.apps.group(app) {
            group.affinity.forget();
        }
    }

    /// Replaces the backends to which connections of a port may be dialled.
    /// Connections to those that are gone continue.
    pub fn set_backends(&mut self, port: PortId, backends: &[BackendSpec], now: Time) {
        let Some(slot) = self.apps.slot(port) else {
            return;
        };
        let port = &mut self.apps.get_mut(slot).port;
        if port.balancer.set(backends, now) {
            self.end_backoffs(slot, now);
        }
        self.update_readiness(slot, now);
    }

    /// The address that is tried when every other of the port has failed to answer:
    /// the Service's own.
    pub fn set_fallback(&mut self, port: PortId, address: Option<SocketAddr>) {
        if let Some(slot) = self.apps.slot(port) {
            self.apps.get_mut(slot).port.balancer.set_fallback(address);
        }
    }

    /// Replaces the addresses of the backup target of an app: those who wait in vain are dialled
    /// there.
    pub fn set_backup(&mut self, app: AppId, addresses: &[SocketAddr]) {
        for &slot in self.apps.slots(app).iter() {
            let port = &mut self.apps.get_mut(slot).port;
            port.balancer.set_backup(addresses);
        }
    }

    /// Opens or shuts the gate of an app. While it is shut nothing is dialled; what is
    /// relayed goes on.
    pub fn set_gate(&mut self, app: AppId, open: bool, now: Time) {
        let slots = self.apps.slots(app);
        for &slot in slots.iter() {
            self.apps.get_mut(slot).port.gate_open = open;
            self.update_readiness(slot, now);
        }
        self.fit_listeners(&slots);
    }

    /// Sets why an app cannot start, however long a connection waits: those that are held are
    /// closed as at their hold limit, and those that would be held are too. `None`: they wait.
    pub fn set_wake_failure(&mut self, app: AppId, why: Option<&'static str>, now: Time) {
        for &slot in self.apps.slots(app).iter() {
            let entry = self.apps.get_mut(slot);
            entry.port.wake_failure = why;
            let held = entry.held.values().filter(|_| why.is_some());
            for &key in held {
                self.connections[key].check_hold_limit(key, &mut self.shared, now);
            }
        }
    }

    /// Sets what keeps the backends of an app from getting ready, for the reason with which
    /// connections end at their hold limit.
    pub fn set_wake_trouble(&mut self, app: AppId, why: Option<&'static str>) {
        for &slot in self.apps.slots(app).iter() {
            self.apps.get_mut(slot).port.wake_trouble = why;
        }
    }

    /// The gate, or the addresses, of the entry in that slot may have changed.
    fn update_readiness(&mut self, slot: usize, now: Time) {
        self.apps.get_mut(slot).port.update_readiness(now);
        self.apps.queue_release(slot);
        self.apps.queue_pass(slot);
    }

    /// Sets how much may wait in the sockets of those who come next: as much as there
    /// is memory for, and little while the gate is shut and nobody is going to read.
    fn fit_listeners(&mut self, slots: &[usize]) {
        for &slot in slots {
            let entry = self.apps.get_mut(slot);
            let held = !entry.port.gate_open;
            let sizes = self.shared.memory.buffer_sizes(self.shared.open, held);
            if let Some(listener) = &mut entry.listener {
                listener.set_buffer_sizes(sizes);
            }
        }
    }

    /// Fits every listener once there is memory for more, or for fewer, connections.
    fn follow_memory_level(&mut self) {
        let level = self.shared.memory.divisor(self.shared.open);
        if level != self.fitted_level {
            self.fitted_level = level;
            self.fit_listeners(&self.apps.all_slots());
            self.fit_inspectors();
        }
    }

    /// Takes back the shares of memory that connections do not use.
    fn return_unused_shares(&mut self, now: Time) {
        for _ in 0..SHARE_CHECKS_PER_TURN {
            let memory = &mut self.shared.memory;
            let Some(key) = memory.next_check(now) else {
                return;
            };
            self.connections[key].return_unused_share(key, memory, now);
        }
    }

    /// Resets every connection of an app.
    pub fn reset_all(&mut self, app: AppId, now: Time) {
        let connections = self.connections.iter();
        let of_app = connections.filter(|(_, it)| self.apps.get(it.port()).app == app);
        let keys: Vec<usize> = of_app.map(|(key, _)| key).collect();
        for key in keys {
            let end = CloseReason::Drained(self.connections[key].phase());
            self.connections[key].reset_on_close();
            self.close(key, end, now);
        }
    }

    /// When [`Engine::dispatch`] is to be called even without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        let admin_connections = self.admin.poll_timeout();
        let limit_log = self.limit_log.poll_timeout();
        let buffers = self.shared.buffers.poll_timeout();
        [
            self.shared.timers.next(),
            self.apps.poll_timeout(&self.open),
            self.apps.next_release(),
            self.inspectors.poll_timeout(),
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
        self.serve_inspectors(now);
        self.release(now);
        self.return_unused_shares(now);
        self.end_some_uncounted(now);
        self.serve_queue(now);
        self.follow_memory_level();
    }

    fn has_work(&self, now: Time) -> bool {
        !self.queue.is_empty()
            || !self.sleeps.is_empty()
            || self.admin.has_work(now)
            || self.apps.can_pass()
            || self.apps.can_accept(&self.open, now)
            || self.inspectors.can_accept(now)
            || self.apps.can_release(now)
    }
}
