//! Sockets: the listener, the connections, and the loop that serves them.
//!
//! One thread, one `mio::Poll`. The daemon calls [`Engine::wait`], then
//! [`Engine::dispatch`], and in between tells the engine what Kubernetes has
//! to say: which addresses may be dialled ([`Engine::set_backends`]) and
//! whether connections may be let through at all ([`Engine::set_gate`]). The
//! engine itself knows neither pods nor replicas.
//!
//! A connection is *parked* until the gate is open and there is an address,
//! *dialled*, and *relayed*. Until a byte of the client's has been handed to a
//! pod it may be dialled again and again, up to the hold limit; afterwards it
//! lives and dies with that pod.

mod backends;
mod buffers;
mod connection;
mod end;
mod listener;
mod relay;
mod timers;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use log::{debug, warn};
use mio::event::Event;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use socket2::SockRef;

use self::backends::{BackendId, Backends};
use self::buffers::Buffers;
pub use self::buffers::{BLOCK_BYTES, MAX_BLOCKS};
use self::connection::{Attempt, Connection, Round, Side, Stage, Target, Verdict};
pub use self::end::{End, Phase};
use self::listener::Listener;
use self::timers::Timers;
use crate::clock::Time;
use crate::sys;

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
/// and how many parked ones it dials.
const DIALS_PER_TURN: usize = 64;
/// How many bytes one direction may read in one turn, so that a bulk stream
/// leaves the loop to the others in between.
const BYTES_PER_TURN: usize = buffers::BLOCK_BYTES;

/// The first pause when no address takes a connection; it doubles up to
const FIRST_REST: Duration = Duration::from_millis(10);
/// this one.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// How long a side that is to be reset may take to acknowledge what was sent
/// to it before.
const RESET_LINGER: Duration = Duration::from_secs(60);
/// How soon to look whether it has; then less and less often.
const RESET_CHECK: Duration = Duration::from_millis(10);

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
    /// Those of them that wait for a pod: parked, or being dialled.
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
    /// The parked ones in the order they came: serial number to slot.
    parked: BTreeMap<u64, usize>,
    /// Connections that have work left which no event is going to announce.
    again: Vec<Token>,
    timers: Timers,
    backends: Backends,
    fallback: Option<SocketAddr>,
    buffers: Buffers,
    gate_open: bool,
    full: bool,
    counts: Counts,
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
            parked: BTreeMap::new(),
            again: Vec::new(),
            timers: Timers::default(),
            backends: Backends::default(),
            fallback: None,
            buffers: Buffers::new(buffers::MAX_BLOCKS),
            gate_open: false,
            full: false,
            counts: Counts::default(),
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

    /// Replaces the addresses that may be dialled. Connections to those that
    /// are gone live on.
    pub fn set_backends(&mut self, addresses: &[SocketAddr], now: Time) {
        if self.backends.set(addresses) {
            self.wake_resting(now);
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
    pub fn next_deadline(&self) -> Option<Time> {
        let listener = self.listener.as_ref().and_then(Listener::next_deadline);
        [self.timers.next(), listener].into_iter().flatten().min()
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
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        let again = mem::take(&mut self.again);
        for event in &events {
            self.handle_event(event, now);
        }
        self.events = events;
        for token in again {
            if let Some((key, _)) = self.find(token) {
                self.connections[key].queued = false;
                self.pump(key, now);
            }
        }
        self.handle_deadlines(now);
        self.accept(now);
        self.release(now);
    }

    /// Dials what is parked, in the order it came, if the gate is open.
    pub fn release(&mut self, now: Time) {
        for _ in 0..DIALS_PER_TURN {
            if !self.may_dial() {
                return;
            }
            let Some((_, key)) = self.parked.pop_first() else {
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
        !self.again.is_empty() || can_accept || (self.may_dial() && !self.parked.is_empty())
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
            if self.is_full() {
                return;
            }
            let accepted = self.listener.as_mut().and_then(|l| l.accept(now));
            let Some((client, peer)) = accepted else {
                return;
            };
            self.admit(client, peer, now);
        }
    }

    /// Whether the connection limit is reached; says so once.
    fn is_full(&mut self) -> bool {
        let (open, limit) = (self.counts.open, self.limits.max_connections);
        if open >= limit && !self.full {
            self.full = true;
            warn!("the limit of {limit} connections is reached, more wait in the kernel's queue");
        } else if open <= limit - limit / 10 {
            self.full = false;
        }
        open >= limit
    }

    fn admit(&mut self, mut client: TcpStream, peer: SocketAddr, now: Time) {
        let serial = self.counts.accepted;
        self.counts.accepted += 1;
        debug!("#{serial} accepted from {peer}");
        let slot = self.connections.vacant_entry();
        let key = slot.key();
        let token = connection::token(key, serial, Side::Client);
        if let Err(e) = self.poll.registry().register(&mut client, token, INTEREST) {
            debug!("#{serial} {}: {e}", End::Refused(Phase::Holding));
            return;
        }
        slot.insert(Connection::new(serial, client, now));
        self.counts.open += 1;
        self.counts.waiting += 1;
        self.place(key, now);
    }

    /// Dials a connection that waits, or parks it.
    fn place(&mut self, key: usize, now: Time) {
        // Those who came before it are served before it.
        if self.may_dial() && self.parked.is_empty() {
            self.dial(key, Round::default(), now);
        } else {
            self.park(key);
        }
    }

    fn park(&mut self, key: usize) {
        let hold_timeout = self.limits.hold_timeout;
        let connection = &mut self.connections[key];
        connection.stage = Stage::Parked;
        let limit = connection.opened + hold_timeout;
        self.timers.set(key, &mut connection.deadline, Some(limit));
        self.parked.insert(connection.serial, key);
    }

    // --- Dialling ---

    /// Dials the next address of the round; rests when there is none left, and
    /// parks when the gate has been shut meanwhile.
    fn dial(&mut self, key: usize, mut round: Round, now: Time) {
        while self.gate_open
            && let Some((backend, address)) = self.next_target(&mut round)
        {
            match self.connect(key, address) {
                Ok(upstream) => {
                    let deadline = now + self.limits.connect_timeout;
                    self.set_deadline(key, Some(deadline));
                    let attempt = Attempt {
                        upstream,
                        backend,
                        round,
                    };
                    self.connections[key].stage = Stage::Dialing(attempt);
                    return;
                }
                Err(e) => self.note_failed_dial(key, backend, &e.to_string(), &mut round),
            }
        }
        match self.gate_open {
            true => self.rest(key, now),
            false => self.park(key),
        }
    }

    /// The next address of the round. The Service's own comes last, and only
    /// if no pod has given any answer: one that refuses is there, and the
    /// Service leads to no other.
    fn next_target(&mut self, round: &mut Round) -> Option<Target> {
        if let Some(target) = self.backends.take(&round.tried) {
            return Some(target);
        }
        if round.answered || round.fell_back || round.tried.is_empty() {
            return None;
        }
        round.fell_back = true;
        let address = self.fallback?;
        Some((self.backends.take_unlisted(address), address))
    }

    fn connect(&mut self, key: usize, address: SocketAddr) -> io::Result<TcpStream> {
        let mut upstream = TcpStream::connect(address)?;
        listener::tune(&SockRef::from(&upstream))?;
        let token = self.connections[key].next_backend_token(key);
        self.poll
            .registry()
            .register(&mut upstream, token, INTEREST)?;
        Ok(upstream)
    }

    fn note_failed_dial(&mut self, key: usize, id: BackendId, why: &str, round: &mut Round) {
        let address = self.backends.address(id);
        let serial = self.connections[key].serial;
        debug!(
            "#{serial} dialling {}: {why}",
            address.map_or_else(String::new, |a| a.to_string())
        );
        self.counts.failed_dials += 1;
        self.backends.release(id);
        round.tried.push(id);
    }

    /// No address has taken the connection: tries again after a while.
    fn rest(&mut self, key: usize, now: Time) {
        let connection = &mut self.connections[key];
        connection.stage = Stage::Resting;
        let doublings = u32::from(connection.rests.min(7));
        connection.rests = connection.rests.saturating_add(1);
        self.set_deadline(
            key,
            Some(now + LONGEST_REST.min(FIRST_REST * (1 << doublings))),
        );
    }

    /// There is a new address: those that found none to take them try it now.
    fn wake_resting(&mut self, now: Time) {
        let resting = self
            .connections
            .iter()
            .filter(|(_, c)| matches!(c.stage, Stage::Resting));
        let keys: Vec<usize> = resting.map(|(key, _)| key).collect();
        for key in keys {
            self.set_deadline(key, Some(now));
        }
    }

    /// The attempt of a connection has failed: on to the next address.
    fn attempt_failed(&mut self, key: usize, why: &str, answered: bool, now: Time) {
        let Stage::Dialing(attempt) = self.take_stage(key) else {
            return;
        };
        let Attempt {
            upstream,
            backend,
            mut round,
        } = attempt;
        drop(upstream);
        round.answered |= answered;
        self.note_failed_dial(key, backend, why, &mut round);
        self.dial(key, round, now);
    }

    fn attempt_succeeded(&mut self, key: usize, event: &Event, now: Time) {
        let Stage::Dialing(attempt) = self.take_stage(key) else {
            return;
        };
        let Attempt {
            upstream, backend, ..
        } = attempt;
        self.set_deadline(key, None);
        self.counts.waiting -= 1;
        self.counts.handed_over += 1;
        let connection = &mut self.connections[key];
        connection.stage = Stage::Relaying { upstream, backend };
        if event.is_readable() || event.is_read_closed() {
            connection.down.source_ready(reads_end_short(event));
        }
        if let Some(address) = self.backends.address(backend) {
            let waited = now.since(connection.opened);
            debug!(
                "#{} relaying to {address} after {waited:?}",
                connection.serial
            );
        }
        self.pump(key, now);
    }

    // --- Events ---

    fn handle_event(&mut self, event: &Event, now: Time) {
        match event.token() {
            WAKER | SOURCE => {}
            LISTENER => {
                if let Some(listener) = &mut self.listener {
                    listener.set_ready();
                }
            }
            token => match self.find(token) {
                Some((key, Side::Client)) => self.handle_client(key, event, now),
                Some((key, Side::Backend)) => self.handle_backend(key, event, now),
                None => {}
            },
        }
    }

    fn handle_client(&mut self, key: usize, event: &Event, now: Time) {
        let connection = &mut self.connections[key];
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            connection.up.source_ready(reads_end_short(event));
        }
        if event.is_error() {
            connection.down.sink_failed();
        } else if event.is_writable() {
            connection.down.sink_ready();
        }
        // A FIN alone leaves the socket writable: such a client awaits its
        // reply. After a reset the kernel reports EPOLLHUP and EPOLLERR.
        let gone = event.is_write_closed() || event.is_error();
        match connection.stage {
            Stage::Relaying { .. } => self.pump(key, now),
            Stage::Resetting {
                survivor: Side::Client,
                ..
            } if gone => {
                self.close(key, End::ClientGone(Phase::Relaying));
            }
            Stage::Resetting { .. } => self.finish_reset(key, now),
            _ if gone => self.close(key, End::ClientGone(self.connections[key].phase())),
            _ => {}
        }
    }

    fn handle_backend(&mut self, key: usize, event: &Event, now: Time) {
        let connection = &mut self.connections[key];
        match &connection.stage {
            Stage::Dialing(attempt) => {
                // A socket that is connecting reports nothing until it is
                // connected (EPOLLOUT) or has failed (EPOLLERR, EPOLLHUP).
                if event.is_error() || event.is_write_closed() {
                    let Ok(Some(why)) = attempt.upstream.take_error() else {
                        return;
                    };
                    self.attempt_failed(key, &why.to_string(), is_answer(&why), now);
                } else if event.is_writable() {
                    self.attempt_succeeded(key, event, now);
                }
            }
            Stage::Relaying { .. } => {
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    connection.down.source_ready(reads_end_short(event));
                }
                if event.is_error() {
                    connection.up.sink_failed();
                } else if event.is_writable() {
                    connection.up.sink_ready();
                }
                self.pump(key, now);
            }
            Stage::Resetting {
                survivor: Side::Backend,
                ..
            } if event.is_error() => {
                self.close(key, End::ClientGone(Phase::Relaying));
            }
            Stage::Resetting { .. } => self.finish_reset(key, now),
            Stage::Parked | Stage::Resting => {}
        }
    }

    fn handle_deadlines(&mut self, now: Time) {
        while let Some(key) = self.timers.due(now) {
            let connection = &self.connections[key];
            let hold_limit = connection.opened + self.limits.hold_timeout;
            if connection.is_waiting() && now >= hold_limit {
                self.give_up(key);
                continue;
            }
            match connection.stage {
                Stage::Dialing(_) => self.attempt_failed(key, "no answer in time", false, now),
                Stage::Resting => self.place(key, now),
                Stage::Resetting { .. } => self.finish_reset(key, now),
                Stage::Parked | Stage::Relaying { .. } => self.set_deadline(key, None),
            }
        }
    }

    // --- Relaying ---

    fn pump(&mut self, key: usize, now: Time) {
        let connection = &mut self.connections[key];
        if !matches!(connection.stage, Stage::Relaying { .. }) {
            return;
        }
        let mut more = connection.pump(&mut self.buffers, BYTES_PER_TURN);
        if connection.client_broken() || connection.backend_broken() {
            connection.read_to_the_end();
            more |= connection.pump(&mut self.buffers, BYTES_PER_TURN);
        }
        self.judge(key, more, now);
    }

    /// Does what the state of a connection's halves asks for.
    fn judge(&mut self, key: usize, more: bool, now: Time) {
        let connection = &self.connections[key];
        let may_redial = now < connection.opened + self.limits.hold_timeout;
        match connection.verdict() {
            Verdict::Continue if more => self.queue(key),
            Verdict::Continue => {}
            Verdict::Finished => self.close(key, End::Finished),
            Verdict::Gone => self.close(key, End::BackendGone),
            Verdict::Redial if may_redial => self.redial(key, now),
            Verdict::Redial => self.reset(key, End::BackendGone),
            Verdict::Reset { survivor } => self.start_reset(key, survivor, now),
        }
    }

    /// Gives the connection another turn, once however often it is asked for.
    fn queue(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !connection.queued {
            connection.queued = true;
            let token = connection::token(key, connection.serial, Side::Client);
            self.again.push(token);
        }
    }

    /// The pod broke off before a byte went either way: dials another.
    fn redial(&mut self, key: usize, now: Time) {
        let Stage::Relaying { upstream, backend } = self.take_stage(key) else {
            return;
        };
        drop(upstream);
        self.counts.waiting += 1;
        let connection = &mut self.connections[key];
        connection.up.redirect();
        connection.down = relay::Half::new();
        let mut round = Round {
            answered: true,
            ..Round::default()
        };
        self.note_failed_dial(key, backend, "broke off before the first byte", &mut round);
        self.dial(key, round, now);
    }

    fn start_reset(&mut self, key: usize, survivor: Side, now: Time) {
        let Stage::Relaying { upstream, backend } = self.take_stage(key) else {
            return;
        };
        let until = now + RESET_LINGER;
        self.connections[key].stage = Stage::Resetting {
            survivor,
            upstream,
            backend,
            until,
        };
        self.finish_reset(key, now);
    }

    /// Resets the survivor if it has acknowledged everything, and looks again
    /// later if it hasn't.
    fn finish_reset(&mut self, key: usize, now: Time) {
        let connection = &self.connections[key];
        let Stage::Resetting {
            survivor,
            upstream,
            until,
            ..
        } = &connection.stage
        else {
            return;
        };
        let (socket, end) = match survivor {
            Side::Client => (&connection.client, End::BackendGone),
            Side::Backend => (upstream, End::ClientGone(Phase::Relaying)),
        };
        if now < *until && sys::unacknowledged(socket).is_ok_and(|bytes| bytes > 0) {
            let waited = RESET_LINGER.saturating_sub(until.since(now));
            self.set_deadline(key, Some(now + RESET_CHECK.max(waited / 8)));
        } else {
            self.reset(key, end);
        }
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
        self.timers.set(key, &mut connection.deadline, None);
        self.counts.open -= 1;
        self.counts.waiting -= usize::from(connection.is_waiting());
        connection.up.release(&mut self.buffers);
        connection.down.release(&mut self.buffers);
        match connection.stage {
            Stage::Parked => drop(self.parked.remove(&connection.serial)),
            Stage::Dialing(Attempt { backend, .. })
            | Stage::Relaying { backend, .. }
            | Stage::Resetting { backend, .. } => self.backends.release(backend),
            Stage::Resting => {}
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

    /// Takes a connection's stage out, to be replaced by the next one.
    fn take_stage(&mut self, key: usize) -> Stage {
        mem::replace(&mut self.connections[key].stage, Stage::Resting)
    }
}

/// Whether a short read may leave something behind that no further event is
/// going to announce: the peer's end, or what comes after urgent data.
fn reads_end_short(event: &Event) -> bool {
    event.is_read_closed() || event.is_priority()
}

/// Whether a failed connect shows that somebody is there.
fn is_answer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}
