//! A [`Connection`] is the state machine of one client connection, from accept to close.
//!
//! ```text
//! Preread ─── Held ─────── Connecting ─────── Relaying ─────── Closing
//!               │└── Backoff ──┘ └───── redial ────┘│
//!               └───────────── Detached ────────────┘
//! ```
//!
//! Its inputs are events of both sockets, its deadline, and its turns in the run queue.
//! Each handler returns a [`Transition`], which the engine applies. The sockets are a
//! type parameter ([`Socket`]) and time is an argument, so that tests play every order
//! of events.

use std::mem;
use std::time::Duration;

use mio::Token;

use super::balancer::{DialFailure, DialRound};
use super::close_reason::{CloseReason, ConnectionPhase};
use super::closing::{Closing, Next};
use super::context::{Connect, Context, Shared};
use super::dialing::{Attempt, Dialer, Progress};
use super::half::Half;
use super::memory::BulkShare;
use super::port::Port;
use super::readiness::Readiness;
use super::relay::{ClientSide, Relay, RelayStatus};
use super::sockets::Socket;
use super::token::{self, Side};
use super::transition::Transition;
use crate::clock::Time;
use crate::rules::Preread;

mod activity;
mod answering;
mod backpressure;
mod backup;
mod client_info;
mod detached;
mod preread;
mod pumping;
mod waiting;

pub use activity::Usage;
use answering::Answering;
use backpressure::Paused;
use client_info::ClientInfo;

/// A client connection: see the [module](self).
pub struct Connection<S> {
    /// When the connection was accepted, or was held again after it was detached: the start of
    /// the hold limit.
    opened: Time,
    /// The entry of the connection in [`super::timers::Timers`].
    deadline: Option<Time>,
    dialer: Dialer,
    client: ClientSide<S>,
    paused: Paused,
    /// The slot of the [`Port`] whose listener has accepted the connection.
    port: u16,
    /// Whether the connection is in the run queue.
    queued: bool,
    /// Whether the backend's socket has keepalive.
    is_kept_alive: bool,
    /// Whether a side has sent its FIN; known only where a rule asks for it.
    is_half_closed: bool,
    /// Whether the connection began with a PROXY header, so that the socket's peer is no client.
    has_header: bool,
    /// Whether the client was the last to send a byte, and may await an answer.
    awaits_answer: bool,
    /// Whether the connection counts as use of the app.
    usage: Usage,
    /// When the last byte was passed on.
    last_traffic: Time,
    /// What is known of the client, where a rule asks for it.
    client_info: Option<Box<ClientInfo>>,
    /// The share of the memory for bulk that the connection has.
    bulk_share: BulkShare,
    state: State<S>,
}

/// The state of a connection.
enum State<S> {
    /// The first bytes are inspected. The connection does not count as use of the app yet.
    Preread(Preread),
    /// The connection waits until the gate is open and there is a backend. Nothing is read:
    /// the client's bytes stay in the kernel.
    Held,
    /// A connect is in progress.
    Connecting(Attempt<S>),
    /// No address has accepted: the next round of dials begins at the deadline.
    Backoff,
    /// A backend has accepted: bytes are relayed.
    Relaying(Relay<S>),
    /// The app sleeps, and the backend's side has ended. The client's next byte is awaited.
    Detached,
    /// The client is answered here, and then the connection ends.
    Answering(Box<Answering>),
    /// All bytes were written; their acknowledgement is awaited.
    Closing(Closing<S>),
}

impl<S: Socket> Connection<S> {
    /// A connection that the listener of that port has just accepted.
    pub fn new(serial: u64, port: u16, client: S, usage: Usage, now: Time) -> Self {
        Connection {
            opened: now,
            deadline: None,
            dialer: Dialer::new(serial),
            client: ClientSide {
                socket: client,
                up: Half::new(),
                fin_seen: false,
            },
            paused: Paused::default(),
            port,
            queued: false,
            is_kept_alive: false,
            is_half_closed: false,
            has_header: false,
            awaits_answer: false,
            usage,
            last_traffic: now,
            client_info: None,
            bulk_share: BulkShare::default(),
            state: State::Held,
        }
    }

    /// The number of the connection since the start of the process. It identifies the
    /// connection in logs, and among the connections that had the same slot before.
    pub fn serial(&self) -> u64 {
        self.dialer.serial()
    }

    /// The slot of the [`Port`] whose listener has accepted the connection.
    pub fn port(&self) -> usize {
        usize::from(self.port)
    }

    /// The time since the accept, in whole milliseconds, for the log.
    pub fn age(&self, now: Time) -> Duration {
        let info = self.client_info.as_ref();
        let accepted = info.and_then(|info| info.accepted).unwrap_or(self.opened);
        Duration::from_millis(now.since(accepted).as_millis() as u64)
    }

    /// How long it has waited for a backend, if it waits.
    pub fn waited(&self, now: Time) -> Duration {
        now.since(self.opened)
    }

    /// The socket that was accepted.
    pub fn client(&self) -> &S {
        &self.client.socket
    }

    /// Whether `token` belongs to a socket that the connection has now.
    pub fn has(&self, key: usize, token: Token) -> bool {
        let (_, generation, side) = token::parse_token(token);
        token::generation(self.serial()) == generation
            && (side == Side::Client || self.dialer.token(key) == token)
    }

    /// The phase, for logs and metrics.
    pub fn phase(&self) -> ConnectionPhase {
        match self.state {
            State::Preread(_) | State::Held | State::Answering(_) => ConnectionPhase::Holding,
            State::Connecting(_) | State::Backoff => ConnectionPhase::Dialing,
            State::Relaying(_) | State::Detached | State::Closing(_) => ConnectionPhase::Relaying,
        }
    }

    /// Whether no backend has accepted the connection yet.
    pub fn is_waiting(&self) -> bool {
        self.phase() != ConnectionPhase::Relaying
    }

    /// Marks the connection as queued. Returns its token for the run queue; `None` if it was
    /// queued before.
    pub fn enqueue(&mut self, key: usize) -> Option<Token> {
        let was_queued = mem::replace(&mut self.queued, true);
        (!was_queued).then(|| token::token(key, self.serial(), Side::Client))
    }

    // --- Inputs ---

    /// Handles an event of the client's socket.
    pub fn handle_client_event<C: Connect<Socket = S>>(
        &mut self,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        self.client.handle_event(event);
        match &mut self.state {
            State::Relaying(relay) => {
                relay.handle_client_event(event);
                self.pause_input(Side::Client, event, cx);
                self.handle_relay_event(event, cx)
            }
            State::Closing(closing) => {
                let next = closing.handle_event(Side::Client, event, &self.client, cx.now);
                self.apply_next(next, cx)
            }
            State::Answering(_) if event.error || event.hang_up => self.end_answer(),
            State::Answering(_) => self.go_on_answering(cx),
            // A FIN alone leaves the socket writable. After a reset the kernel
            // reports EPOLLHUP and EPOLLERR.
            _ if event.error || event.hang_up => {
                Transition::Close(CloseReason::ClientGone(self.phase()))
            }
            State::Preread(_) => self.preread(cx),
            State::Detached => self.look_for_next_byte(cx),
            _ => self.check_client(Transition::Stay, cx),
        }
    }

    /// Handles an event of the backend's socket.
    pub fn handle_backend_event<C: Connect<Socket = S>>(
        &mut self,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        match &mut self.state {
            State::Connecting(attempt) => match attempt.handle_event(event) {
                Progress::Pending => Transition::Stay,
                Progress::Failed(why) => {
                    self.dial_next(DialFailure::of(&why), &why.to_string(), cx)
                }
                Progress::Connected => self.handle_accepted(event, cx),
                Progress::Greeted => self.handle_greeting(event, cx),
            },
            State::Relaying(relay) => {
                relay.handle_backend_event(&mut self.client, event);
                self.pause_input(Side::Backend, event, cx);
                self.handle_relay_event(event, cx)
            }
            State::Closing(closing) => {
                let next = closing.handle_event(Side::Backend, event, &self.client, cx.now);
                self.apply_next(next, cx)
            }
            State::Preread(_)
            | State::Held
            | State::Backoff
            | State::Detached
            | State::Answering(_) => Transition::Stay,
        }
    }

    /// Handles the deadline, which has passed.
    pub fn handle_timeout<C: Connect<Socket = S>>(
        &mut self,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let is_held_or_dialled = !matches!(self.state, State::Preread(_) | State::Answering(_));
        if is_held_or_dialled && self.waits_for_backend() {
            if self.is_backup_due(cx) {
                return self.dial_backup(cx);
            }
            if cx.now >= self.hold_limit(cx) {
                return self.end_wait(cx);
            }
        }
        let keeps_to_gate = self.keeps_to_gate();
        match &mut self.state {
            State::Preread(_) => self.handle_preread_timeout(cx),
            State::Answering(answering) => Transition::Close(answering.reason),
            State::Held => self.hold(cx),
            State::Connecting(attempt) => {
                let why = attempt.overdue();
                self.dial_next(DialFailure::Unanswered, why, cx)
            }
            State::Backoff => {
                cx.port.backing_off.remove(&cx.key);
                if keeps_to_gate {
                    // Back among the held ones, so that connections which came earlier go
                    // first.
                    self.hold(cx)
                } else {
                    self.dial(cx)
                }
            }
            State::Relaying(relay) => match relay.status(&self.client) {
                RelayStatus::Flush { remaining } => self.check_remaining(remaining, cx),
                _ => self.check_traffic(cx),
            },
            State::Detached => self.check_traffic(cx),
            State::Closing(closing) => match closing.check(&self.client, cx.now) {
                Next::Wait => {
                    if closing.has_progressed(&self.client) {
                        self.last_traffic = cx.now;
                    }
                    self.check_traffic(cx)
                }
                next => self.apply_next(next, cx),
            },
        }
    }

    /// Takes a turn in the run queue: moves up to `budget` bytes in each direction. Returns
    /// the number of bytes moved.
    pub fn serve<C: Connect<Socket = S>>(
        &mut self,
        budget: usize,
        cx: &mut Context<'_, C>,
    ) -> (usize, Transition) {
        self.queued = false;
        if self.usage == Usage::Resuming {
            return (0, Transition::Stay);
        }
        self.fit_to_memory(cx);
        let (moved, transition) = self.pump(budget, cx);
        (moved.bytes, transition)
    }

    /// Fits the socket buffers of a connection that moves bulk to its share of memory.
    fn fit_to_memory<C>(&mut self, cx: &mut Context<'_, C>) {
        if let State::Relaying(relay) = &self.state
            && relay.is_bulk(&self.client)
        {
            let sockets = [self.client.socket.options(), relay.socket().options()];
            let memory = &mut cx.shared.memory;
            memory.fit(cx.key, &mut self.bulk_share, sockets);
        }
    }

    /// Begins a round of dials, and dials the first address. To be called when the gate is
    /// open. A connection that is being answered stays as it is.
    pub fn dial<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        if matches!(self.state, State::Answering(_)) || self.usage == Usage::Backup {
            return Transition::Stay;
        }
        self.dial_round(DialRound::default(), cx)
    }

    /// Holds the connection until it may be dialled. An uncounted one does not wait for the
    /// gate, but tries again after a pause where every backend is full.
    pub fn hold<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        if !self.keeps_to_gate() {
            return self.back_off(cx);
        }
        self.state = State::Held;
        self.schedule(Some(self.wait_limit(cx)), cx);
        self.check_client(Transition::Hold, cx)
    }

    /// Ends the pause between two rounds of dials: a backend or an address was added.
    pub fn end_backoff(&mut self, key: usize, shared: &mut Shared, now: Time) {
        if let State::Backoff = self.state {
            shared.timers.set(key, &mut self.deadline, Some(now));
        }
    }

    /// Makes close(2) send an RST to both sides: a FIN would look like a complete
    /// stream.
    pub fn reset_on_close(&self) {
        self.client.socket.reset_on_close();
        match &self.state {
            State::Relaying(relay) => relay.socket().reset_on_close(),
            State::Closing(closing) => closing.socket().reset_on_close(),
            State::Preread(_)
            | State::Answering(_)
            | State::Held
            | State::Connecting(_)
            | State::Detached
            | State::Backoff => {}
        }
    }

    /// Gives back what the connection has borrowed, and closes both sockets.
    pub fn close(mut self, key: usize, shared: &mut Shared, port: &mut Port, now: Time) {
        shared.timers.set(key, &mut self.deadline, None);
        shared.memory.return_share(key, self.bulk_share);
        if let Some(entry) = self.client_info.and_then(|info| info.source) {
            port.per_source.release(entry);
        }
        self.client.up.return_buffers(&mut shared.buffers);
        match self.state {
            State::Preread(_) | State::Answering(_) | State::Held => {}
            State::Detached => port.counts.detached -= 1,
            State::Backoff => drop(port.backing_off.remove(&key)),
            State::Connecting(attempt) => attempt.give_up(&mut port.balancer, now),
            State::Relaying(relay) => {
                let (backend, _) = relay.into_backend(&mut shared.buffers);
                port.balancer.closed(backend.id, now);
            }
            State::Closing(closing) => port.balancer.closed(closing.address_id(), now),
        }
    }

    // --- Closing ---

    fn reset(&self, reason: CloseReason) -> Transition {
        self.reset_on_close();
        Transition::Close(reason)
    }

    /// Begins to close: both directions have ended with a FIN.
    fn finish<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let Some(relay) = self.take_relay() else {
            return Transition::Stay;
        };
        let closing = Closing::finished(relay, &self.client, &mut cx.shared.buffers);
        let transition = self.begin_closing(closing, cx);
        if let Transition::Stay = transition {
            self.begin_wait_for_reader(cx);
        }
        transition
    }

    /// Begins to close: one side is broken, and all that it sent was written to the other.
    fn close_broken<C>(&mut self, remaining: Side, cx: &mut Context<'_, C>) -> Transition {
        let Some(relay) = self.take_relay() else {
            return Transition::Stay;
        };
        let buffers = &mut cx.shared.buffers;
        let closing = Closing::broken(relay, &mut self.client, remaining, buffers);
        self.begin_closing(closing, cx)
    }

    fn begin_closing<C>(&mut self, mut closing: Closing<S>, cx: &mut Context<'_, C>) -> Transition {
        let next = closing.begin(&mut self.client, cx.now);
        self.state = State::Closing(closing);
        self.apply_next(next, cx)
    }

    fn apply_next<C>(&mut self, next: Next, cx: &mut Context<'_, C>) -> Transition {
        match next {
            Next::Wait => Transition::Stay,
            Next::WaitUntil(at) => {
                self.schedule(Some(at), cx);
                Transition::Stay
            }
            Next::Close(reason) => Transition::Close(reason),
            Next::Reset(end) => self.reset(end),
        }
    }

    // --- State and deadline ---

    /// Takes the relay out of the state, which the caller replaces.
    fn take_relay(&mut self) -> Option<Relay<S>> {
        match mem::replace(&mut self.state, State::Held) {
            State::Relaying(relay) => Some(relay),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The time until which the connection may wait for a backend. One that cannot start ends the
    /// wait of those that are held, not the preread before it.
    fn hold_limit<C>(&self, cx: &Context<'_, C>) -> Time {
        let is_preread = matches!(self.state, State::Preread(_));
        match cx.port.failure() {
            Some(_) if !is_preread => self.opened,
            _ => self.opened + cx.port.limits.hold_timeout,
        }
    }

    /// Why the connection waits no longer.
    fn end_of_wait<C>(&self, cx: &mut Context<'_, C>) -> CloseReason {
        let limit = cx.port.limits.hold_timeout;
        match cx.port.failure() {
            Some(why) if cx.now < self.opened + limit => {
                cx.port.counts.wake_failed += 1;
                CloseReason::WakeFailed(self.phase(), why)
            }
            _ => {
                cx.port.counts.held_too_long += 1;
                CloseReason::HeldTooLong(self.phase(), limit, cx.port.wake_trouble)
            }
        }
    }

    /// Checks the deadline again: how long it may wait has changed.
    pub fn check_hold_limit(&mut self, key: usize, shared: &mut Shared, now: Time) {
        if let State::Held = self.state {
            shared.timers.set(key, &mut self.deadline, Some(now));
        }
    }

    fn schedule_within<C>(&mut self, delay: Duration, cx: &mut Context<'_, C>) {
        self.schedule(Some(cx.now + delay), cx);
    }

    /// Sets the deadline. That of a waiting connection is the end of its wait at the latest.
    fn schedule<C>(&mut self, deadline: Option<Time>, cx: &mut Context<'_, C>) {
        let deadline = match self.waits_for_backend() {
            true => deadline.map(|at| at.min(self.wait_limit(cx))),
            false => deadline,
        };
        cx.shared.timers.set(cx.key, &mut self.deadline, deadline);
    }
}

#[cfg(test)]
mod tests;
