//! One client's connection, from accept to close: a state machine.
//!
//! ```text
//! Held ─────── Connecting ─────── Relaying ─────── Closing
//!   └── Backoff ──┘ └───── redial ────┘
//! ```
//!
//! Events of either socket, the deadline, and turns of the run queue come in; each
//! handler returns a [`Transition`], which tells the engine what to do with the
//! connection. Sockets are whatever [`Socket`] is implemented for, and time is
//! passed in, so that tests play every order of events.

use std::mem;
use std::time::Duration;

use log::debug;
use mio::Token;

use super::balancer::{Cause, Round};
use super::closing::{Closing, Next};
use super::context::{Connect, Context, Shared};
use super::dialing::{Attempt, Dialed, Dialer, Progress};
use super::end::{End, Phase};
use super::memory::Grant;
use super::readiness::Readiness;
use super::relay::{Half, Moved};
use super::relaying::{Client, Relay, Verdict};
use super::sockets::{KEEPALIVE_AFTER, Socket};
use super::tally::Use;
use super::token::{self, Side};
use super::transition::Transition;
use crate::clock::Time;

mod backpressure;

use backpressure::Paused;

/// How many bytes one direction may move at once when an event comes. What is
/// left waits in the run queue.
const PROMPT_BYTES: usize = 64 * 1024;

/// A client's connection and all that belongs to it.
pub struct Connection<S> {
    /// When it was accepted: the start of the hold limit.
    opened: Time,
    /// What [`super::timers::Timers`] holds for it.
    deadline: Option<Time>,
    dialer: Dialer,
    client: Client<S>,
    paused: Paused,
    /// Whether it is in the run queue.
    queued: bool,
    /// Whether it counts as use of the app. One that does not is dialled whenever there
    /// is a pod, whatever the gate: it has no lease, and waits for no wake.
    counts: bool,
    /// Its part of the memory that is there for bulk.
    grant: Grant,
    state: State<S>,
}

/// How far a connection has come.
enum State<S> {
    /// Waits until there is an address to dial and leave to dial it. Nothing
    /// is read: the client's bytes stay in the kernel.
    Held,
    /// A connect is under way.
    Connecting(Attempt<S>),
    /// No address has taken it: waits for its deadline to try again.
    Backoff,
    /// Bytes flow.
    Relaying(Relay<S>),
    /// Acknowledgements are still to come.
    Closing(Closing<S>),
}

impl<S: Socket> Connection<S> {
    /// A connection that was just accepted, and counts as use of the app or does not.
    pub fn new(serial: u64, client: S, counts: bool, now: Time) -> Self {
        Connection {
            opened: now,
            deadline: None,
            dialer: Dialer::new(serial),
            client: Client {
                socket: client,
                up: Half::new(),
                has_ended: false,
            },
            paused: Paused::default(),
            queued: false,
            counts,
            grant: Grant::default(),
            state: State::Held,
        }
    }

    /// Counts connections from the start of the process; names this one in logs,
    /// and tells it from earlier ones in the same slot.
    pub fn serial(&self) -> u64 {
        self.dialer.serial()
    }

    /// How long ago it was accepted, to the millisecond: a log line shows it.
    pub fn age(&self, now: Time) -> Duration {
        Duration::from_millis(now.since(self.opened).as_millis() as u64)
    }

    /// The socket that was accepted.
    pub fn client(&self) -> &S {
        &self.client.socket
    }

    /// Whether `token` names a socket that it has now.
    pub fn has(&self, key: usize, token: Token) -> bool {
        let (_, generation, side) = token::parse_token(token);
        token::generation(self.serial()) == generation
            && (side == Side::Client || self.dialer.token(key) == token)
    }

    /// The phase that a log line or a counter speaks of.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Held => Phase::Holding,
            State::Connecting(_) | State::Backoff => Phase::Dialing,
            State::Relaying(_) | State::Closing(_) => Phase::Relaying,
        }
    }

    /// Whether it waits for a backend.
    pub fn is_waiting(&self) -> bool {
        self.phase() != Phase::Relaying
    }

    /// What it means to the app.
    pub fn use_of_app(&self) -> Use {
        match (self.counts, self.is_waiting()) {
            (false, _) => Use::Excluded,
            (true, true) => Use::Waiting,
            (true, false) => Use::Served,
        }
    }

    /// The token with which it is queued for another turn; none if it is.
    pub fn enqueue(&mut self, key: usize) -> Option<Token> {
        let was_queued = mem::replace(&mut self.queued, true);
        (!was_queued).then(|| token::token(key, self.serial(), Side::Client))
    }

    // --- What comes in ---

    /// An event of the client's socket.
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
                self.attend(cx)
            }
            State::Closing(closing) => {
                let next = closing.handle_event(Side::Client, event, &self.client, cx.now);
                self.go_on_closing(next, cx)
            }
            // A FIN alone leaves the socket writable. After a reset the kernel
            // reports EPOLLHUP and EPOLLERR.
            _ if event.error || event.hang_up => Transition::End(End::ClientGone(self.phase())),
            _ => self.check_client(Transition::Stay, cx),
        }
    }

    /// An event of the backend's socket.
    pub fn handle_backend_event<C: Connect<Socket = S>>(
        &mut self,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        match &mut self.state {
            State::Connecting(attempt) => match attempt.handle_event(event) {
                Progress::Pending => Transition::Stay,
                Progress::Failed(why) => self.dial_next(Cause::of(&why), &why.to_string(), cx),
                Progress::Connected => self.handle_connected(event, cx),
            },
            State::Relaying(relay) => {
                relay.handle_backend_event(&mut self.client, event);
                self.pause_input(Side::Backend, event, cx);
                self.attend(cx)
            }
            State::Closing(closing) => {
                let next = closing.handle_event(Side::Backend, event, &self.client, cx.now);
                self.go_on_closing(next, cx)
            }
            State::Held | State::Backoff => Transition::Stay,
        }
    }

    /// The deadline has passed.
    pub fn handle_timeout<C: Connect<Socket = S>>(
        &mut self,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        if self.is_waiting() && cx.now >= self.hold_limit(cx) {
            cx.shared.counts.held_too_long += 1;
            let end = End::HeldTooLong(self.phase(), cx.shared.limits.hold_timeout);
            return self.reset(end);
        }
        match &mut self.state {
            State::Held => self.hold(cx),
            State::Connecting(_) => self.dial_next(Cause::Silent, "no answer in time", cx),
            State::Backoff if !self.counts => self.dial(cx),
            // Those who came before it are served before it.
            State::Backoff => self.hold(cx),
            State::Relaying(relay) => match relay.verdict(&self.client) {
                Verdict::PassOn { remaining } => self.check_remaining(remaining, cx),
                _ => self.enable_keepalive(cx),
            },
            State::Closing(closing) => match closing.check(&self.client, cx.now) {
                Next::Wait => self.enable_keepalive(cx),
                next => self.go_on_closing(next, cx),
            },
        }
    }

    /// Its turn in the run queue has come: moves up to `budget` bytes each way.
    /// Returns how many bytes it has moved.
    pub fn serve<C: Connect<Socket = S>>(
        &mut self,
        budget: usize,
        cx: &mut Context<'_, C>,
    ) -> (usize, Transition) {
        self.queued = false;
        self.fit_to_memory(cx);
        let (moved, transition) = self.pump(budget, cx);
        (moved.bytes, transition)
    }

    /// Keeps what bulk leaves in the sockets within its share of the memory.
    fn fit_to_memory<C>(&mut self, cx: &mut Context<'_, C>) {
        if let State::Relaying(relay) = &self.state
            && relay.is_bulk(&self.client)
        {
            let sockets = [self.client.socket.options(), relay.socket().options()];
            cx.shared.memory.fit(&mut self.grant, sockets);
        }
    }

    /// It may be let through: dials the first address.
    pub fn dial<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        self.dial_round(Round::default(), cx)
    }

    /// Waits until it may be let through. One that does not count waits for no gate, but
    /// where every pod is full it tries again after a pause.
    pub fn hold<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        if !self.counts {
            return self.back_off(cx);
        }
        self.state = State::Held;
        self.schedule(Some(self.hold_limit(cx)), cx);
        self.check_client(Transition::Hold, cx)
    }

    /// There is a new address: a pause between two rounds is over.
    pub fn end_backoff(&mut self, key: usize, shared: &mut Shared, now: Time) {
        if let State::Backoff = self.state {
            shared.timers.set(key, &mut self.deadline, Some(now));
        }
    }

    /// Has both sides see an RST when the sockets are closed: an orderly end would
    /// tell them that all is well.
    pub fn reset_on_close(&self) {
        self.client.socket.reset_on_close();
        match &self.state {
            State::Relaying(relay) => relay.socket().reset_on_close(),
            State::Closing(closing) => closing.socket().reset_on_close(),
            State::Held | State::Connecting(_) | State::Backoff => {}
        }
    }

    /// Gives back what it has borrowed. The last thing that happens to it.
    pub fn close(mut self, key: usize, shared: &mut Shared, now: Time) {
        shared.timers.set(key, &mut self.deadline, None);
        shared.memory.release(self.grant);
        self.client.up.release(&mut shared.buffers);
        match self.state {
            State::Held | State::Backoff => {}
            State::Connecting(attempt) => {
                let (backend, _) = attempt.abandon();
                shared.balancer.abandon(backend, now);
            }
            State::Relaying(relay) => {
                let (backend, _) = relay.into_backend(&mut shared.buffers);
                shared.balancer.release(backend.id, now);
            }
            State::Closing(closing) => shared.balancer.release(closing.backend_id(), now),
        }
    }

    // --- Waiting for a backend ---

    /// Ends a connection whose client has gone while it waits; else goes on as said.
    ///
    /// A client that has sent bytes and a FIN may await its reply, as `nc -N` does,
    /// and is dropped only where the operator has said so: one that has given up
    /// looks the same. One that has sent a FIN alone has nothing to be answered. While
    /// a backend is being dialled it is served all the same, so that who connects to an
    /// app that is awake is served whenever its FIN comes.
    fn check_client<C>(&mut self, otherwise: Transition, cx: &Context<'_, C>) -> Transition {
        let is_gone = self.client.has_ended
            && match self.state {
                _ if cx.shared.limits.abort_on_close => true,
                State::Held | State::Backoff => self.client.has_sent_nothing(),
                _ => false,
            };
        if is_gone {
            Transition::End(End::ClientGone(self.phase()))
        } else {
            otherwise
        }
    }

    fn dial_round<C: Connect<Socket = S>>(
        &mut self,
        round: Round,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        if !self.counts && cx.shared.balancer.is_empty() {
            return Transition::End(End::Excluded(self.phase()));
        }
        if !self.may_pass(cx) || cx.shared.balancer.is_full() {
            return self.hold(cx);
        }
        match self.dialer.dial(round, cx) {
            Dialed::NoneLeft => self.back_off(cx),
            Dialed::Connecting(attempt) => {
                let patience = attempt.patience(cx.shared.limits.connect_timeout);
                self.state = State::Connecting(attempt);
                self.schedule_within(patience, cx);
                self.check_client(Transition::Stay, cx)
            }
        }
    }

    /// Waits for a while before the next round.
    fn back_off<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        self.state = State::Backoff;
        let pause = self.dialer.next_pause();
        self.schedule_within(pause, cx);
        self.check_client(Transition::Stay, cx)
    }

    /// Whether the gate lets it through.
    fn may_pass<C>(&self, cx: &Context<'_, C>) -> bool {
        cx.shared.gate_open || !self.counts
    }

    /// The connect that is under way has failed: on to the next address.
    fn dial_next<C: Connect<Socket = S>>(
        &mut self,
        cause: Cause,
        why: &str,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let attempt = match mem::replace(&mut self.state, State::Held) {
            State::Connecting(attempt) => attempt,
            other => {
                self.state = other;
                return Transition::Stay;
            }
        };
        let (backend, mut round) = attempt.abandon();
        self.dialer
            .note_failure(backend, cause, why, &mut round, cx);
        self.dial_round(round, cx)
    }

    /// A backend has taken the connection: from now on bytes flow. If the gate has been
    /// shut meanwhile, the backend is left before it gets any.
    fn handle_connected<C: Connect<Socket = S>>(
        &mut self,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let backend = match mem::replace(&mut self.state, State::Held) {
            State::Connecting(attempt) => attempt.into_backend(),
            other => {
                self.state = other;
                return Transition::Stay;
            }
        };
        if !cx.shared.gate_open {
            cx.shared.balancer.abandon(backend.id, cx.now);
            return self.hold(cx);
        }
        cx.shared.balancer.succeeded(backend.id, cx.now);
        cx.shared.counts.handed_over += 1;
        let waited = cx.now.since(self.opened);
        cx.shared.tally.hold.observe(waited);
        if let Some(address) = cx.shared.balancer.address(backend.id) {
            debug!("#{} relaying to {address} after {waited:?}", self.serial());
        }
        let mut relay = Relay::new(backend);
        relay.handle_backend_event(&mut self.client, event);
        self.state = State::Relaying(relay);
        self.schedule_within(KEEPALIVE_AFTER, cx);
        self.attend(cx)
    }

    // --- Relaying ---

    /// There may be bytes to move: small messages are moved at once, bulk waits
    /// for its share of a turn.
    fn attend<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        match &self.state {
            State::Relaying(relay) if relay.is_bulk(&self.client) => Transition::Queue,
            _ => match self.pump(PROMPT_BYTES, cx) {
                (moved, Transition::Stay) if moved.bytes > 0 => Transition::MovedMessage,
                (_, transition) => transition,
            },
        }
    }

    /// Moves up to `budget` bytes each way, and draws the conclusions.
    fn pump<C: Connect<Socket = S>>(
        &mut self,
        budget: usize,
        cx: &mut Context<'_, C>,
    ) -> (Moved, Transition) {
        let State::Relaying(relay) = &mut self.state else {
            return (Moved::default(), Transition::Stay);
        };
        let moved = relay.pump(&mut self.client, &mut cx.shared.buffers, budget);
        let verdict = relay.verdict(&self.client);
        self.resume_input(cx);
        let transition = match verdict {
            Verdict::Continue => Transition::Stay,
            Verdict::PassOn { remaining } => self.check_remaining(remaining, cx),
            Verdict::Finished => self.finish(cx),
            Verdict::Gone => Transition::End(End::BackendGone),
            Verdict::Redial => self.redial("broke off before the first byte", cx),
            Verdict::EarlyClose if self.dialer.may_retry_early_close(cx) => {
                self.dialer.note_early_close();
                self.redial("closed before the first byte", cx)
            }
            // The close may be all that there is to say.
            Verdict::EarlyClose => {
                if let State::Relaying(relay) = &mut self.state {
                    relay.pass_on_fins(&mut self.client);
                }
                return self.pump(budget.saturating_sub(moved.bytes), cx);
            }
            Verdict::Reset { remaining } => self.close_broken(remaining, cx),
        };
        match (&self.state, transition) {
            (State::Relaying(_), Transition::Stay) if moved.more => (moved, Transition::Queue),
            _ => (moved, transition),
        }
    }

    /// The backend has gone before a byte went either way: dials another.
    fn redial<C: Connect<Socket = S>>(&mut self, why: &str, cx: &mut Context<'_, C>) -> Transition {
        if cx.now >= self.hold_limit(cx) {
            return self.reset(End::BackendGone);
        }
        let Some(relay) = self.take_relay() else {
            return Transition::Stay;
        };
        let (backend, _) = relay.into_backend(&mut cx.shared.buffers);
        let id = backend.id;
        drop(backend);
        self.paused.backend = false;
        self.client.up.redirect();
        self.resume_input(cx);
        let mut round = Round::default();
        self.dialer
            .note_failure(id, Cause::BrokeOff, why, &mut round, cx);
        self.dial_round(round, cx)
    }

    /// One side is gone, and the other has not been sent all yet: resets that one if
    /// it takes nothing for a while.
    fn check_remaining<C>(&mut self, remaining: Side, cx: &mut Context<'_, C>) -> Transition {
        let State::Relaying(relay) = &mut self.state else {
            return Transition::Stay;
        };
        let next = match relay.check_remaining(&self.client, remaining, cx.now) {
            Some(at) => Next::WaitUntil(at),
            None => Next::Reset(End::other_than(remaining)),
        };
        self.go_on_closing(next, cx)
    }

    /// The connection has lived for a while, so it may have a long life before
    /// it: makes the kernel look after the backend. Most are over before.
    fn enable_keepalive<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        self.schedule(None, cx);
        let kept = match &self.state {
            State::Relaying(relay) => relay.socket().keep_alive(),
            State::Closing(closing) => closing.socket().keep_alive(),
            State::Held | State::Connecting(_) | State::Backoff => Ok(()),
        };
        if let Err(why) = kept {
            debug!("#{} cannot be kept alive: {why}", self.serial());
        }
        Transition::Stay
    }

    // --- Closing ---

    fn reset(&self, end: End) -> Transition {
        self.reset_on_close();
        Transition::End(end)
    }

    /// Both directions have ended in order.
    fn finish<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let Some(relay) = self.take_relay() else {
            return Transition::Stay;
        };
        let closing = Closing::finished(relay, &self.client, &mut cx.shared.buffers);
        self.begin_closing(closing, cx)
    }

    /// One side has broken off, and what it sent was passed on.
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
        self.go_on_closing(next, cx)
    }

    fn go_on_closing<C>(&mut self, next: Next, cx: &mut Context<'_, C>) -> Transition {
        match next {
            Next::Wait => Transition::Stay,
            Next::WaitUntil(at) => {
                self.schedule(Some(at), cx);
                Transition::Stay
            }
            Next::Close(end) => Transition::End(end),
            Next::Reset(end) => self.reset(end),
        }
    }

    // --- State and deadline ---

    /// Takes the relay out of a state that another one is about to replace.
    fn take_relay(&mut self) -> Option<Relay<S>> {
        match mem::replace(&mut self.state, State::Held) {
            State::Relaying(relay) => Some(relay),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// When it has waited for a backend as long as it may.
    fn hold_limit<C>(&self, cx: &Context<'_, C>) -> Time {
        self.opened + cx.shared.limits.hold_timeout
    }

    fn schedule_within<C>(&mut self, patience: Duration, cx: &mut Context<'_, C>) {
        self.schedule(Some(cx.now + patience), cx);
    }

    /// Sets the deadline, but never after the hold limit of one that waits.
    fn schedule<C>(&mut self, deadline: Option<Time>, cx: &mut Context<'_, C>) {
        let hold_limit = self.hold_limit(cx);
        let deadline = if self.is_waiting() {
            deadline.map(|at| at.min(hold_limit))
        } else {
            deadline
        };
        cx.shared.timers.set(cx.key, &mut self.deadline, deadline);
    }
}

#[cfg(test)]
mod tests;
