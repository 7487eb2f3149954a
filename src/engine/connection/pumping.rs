//! The state `Relaying`: bytes are moved between client and backend, until both sides have sent
//! a FIN or one is broken.

use std::mem;

use log::debug;

use super::super::balancer::{DialFailure, DialRound};
use super::super::close_reason::CloseReason;
use super::super::closing::Next;
use super::super::context::{Connect, Context};
use super::super::half::Moved;
use super::super::readiness::Readiness;
use super::super::relay::RelayStatus;
use super::super::sockets::Socket;
use super::super::token::Side;
use super::super::transition::Transition;
use super::{Connection, State, Usage};

/// The most bytes that one direction moves directly after an event. For the rest the
/// connection waits in the run queue.
const PROMPT_BYTES: usize = 64 * 1024;

impl<S: Socket> Connection<S> {
    /// Handles an event of either socket, after the relay has recorded it.
    pub(super) fn handle_relay_event<C: Connect<Socket = S>>(
        &mut self,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        match self.end_silence(event, cx) {
            Some(transition) => transition,
            None => self.relay_or_queue(cx),
        }
    }

    /// Moves small messages at once after an event; a connection that moves bulk waits in the
    /// run queue.
    pub(super) fn relay_or_queue<C: Connect<Socket = S>>(
        &mut self,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        match &self.state {
            State::Relaying(relay) if relay.is_bulk(&self.client) => Transition::Queue,
            _ => match self.pump(PROMPT_BYTES, cx) {
                (moved, Transition::Stay) if moved.bytes > 0 => Transition::MovedMessage,
                (_, transition) => transition,
            },
        }
    }

    /// Moves up to `budget` bytes in each direction, and handles what that leads to.
    pub(super) fn pump<C: Connect<Socket = S>>(
        &mut self,
        budget: usize,
        cx: &mut Context<'_, C>,
    ) -> (Moved, Transition) {
        let State::Relaying(relay) = &mut self.state else {
            return (Moved::default(), Transition::Stay);
        };
        let before = relay.sent(&self.client);
        let moved = relay.pump(&mut self.client, &mut cx.shared.buffers, budget);
        let after = relay.sent(&self.client);
        // Once in a turn of the connection, however many bytes it moves.
        cx.port.counters.bytes_up += after.up - before.up;
        cx.port.counters.bytes_down += after.down - before.down;
        let status = relay.status(&self.client);
        self.resume_input(cx);
        let transition = match status {
            RelayStatus::Continue => {
                self.record_traffic(moved, before, after, cx);
                Transition::Stay
            }
            RelayStatus::Flush { remaining } => self.check_remaining(remaining, cx),
            RelayStatus::Finished => self.finish(cx),
            RelayStatus::BothBroken => Transition::Close(CloseReason::BackendGone),
            RelayStatus::Redial => self.redial("broke off before the first byte", cx),
            RelayStatus::EarlyClose
                if self.usage != Usage::Backup && self.dialer.may_retry_early_close(cx) =>
            {
                self.dialer.note_early_close();
                self.redial("closed before the first byte", cx)
            }
            // The close without a byte may be the whole response.
            RelayStatus::EarlyClose => {
                if let State::Relaying(relay) = &mut self.state {
                    relay.pass_on_fins(&mut self.client);
                }
                return self.pump(budget.saturating_sub(moved.bytes), cx);
            }
            RelayStatus::Reset { remaining } => self.close_broken(remaining, cx),
        };
        match (&self.state, transition) {
            (State::Relaying(_), Transition::Stay) if moved.more => (moved, Transition::Queue),
            _ => (moved, transition),
        }
    }

    /// Dials another backend: this one is broken, and no byte has gone in either direction.
    pub(super) fn redial<C: Connect<Socket = S>>(
        &mut self,
        why: &str,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        if self.usage != Usage::Backup && cx.now >= self.hold_limit(cx) {
            return self.reset(CloseReason::BackendGone);
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
        let mut round = DialRound::default();
        self.dialer
            .note_failure(id, DialFailure::BrokeOff, why, &mut round, cx);
        self.dial_round(round, cx)
    }

    /// Resets the remaining side if it acknowledges nothing for the time of [`AckTimeout`],
    /// after the other one has broken and not all that it sent was written.
    ///
    /// [`AckTimeout`]: crate::engine::ack_timeout::AckTimeout
    pub(super) fn check_remaining<C>(
        &mut self,
        remaining: Side,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let State::Relaying(relay) = &mut self.state else {
            return Transition::Stay;
        };
        let next = match relay.check_remaining(&self.client, remaining, cx.now) {
            Some(at) => Next::WaitUntil(at),
            None => Next::Reset(CloseReason::other_than(remaining)),
        };
        self.apply_next(next, cx)
    }

    /// Turns on keepalive for the backend's socket, some time after the connect: most
    /// connections have ended before.
    pub(super) fn enable_keepalive(&mut self) {
        if mem::replace(&mut self.is_kept_alive, true) {
            return;
        }
        let kept = match &self.state {
            State::Relaying(relay) => relay.socket().keep_alive(),
            State::Closing(closing) => closing.socket().keep_alive(),
            State::Preread(_)
            | State::Answering(_)
            | State::Held
            | State::Connecting(_)
            | State::Detached
            | State::Backoff => Ok(()),
        };
        if let Err(why) = kept {
            debug!("#{} cannot be kept alive: {why}", self.serial());
        }
    }
}
