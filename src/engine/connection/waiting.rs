//! The states in which a connection waits for a backend: `Held`, `Connecting`, and `Backoff`
//! between two rounds of dials.

use std::mem;

use log::debug;

use super::super::balancer::{DialFailure, DialRound};
use super::super::close_reason::CloseReason;
use super::super::context::{Connect, Context};
use super::super::counters::Exclusion;
use super::super::dialing::{Attempt, BackendStream, DialOutcome, Progress};
use super::super::readiness::Readiness;
use super::super::relay::Relay;
use super::super::sockets::Socket;
use super::super::transition::Transition;
use super::{Connection, State, Usage};

impl<S: Socket> Connection<S> {
    /// Ends a waiting connection whose client is gone; else returns `otherwise`.
    ///
    /// A client that has sent bytes and a FIN may await a reply, as `nc -N` does. A
    /// client that has given up looks the same, so it is dropped only with
    /// `abort_on_close`. A client that has sent a FIN without bytes awaits no reply: it
    /// is dropped while it is held or backs off, and served while a backend is being
    /// dialled, so that with an app that is awake it does not matter when the FIN comes.
    pub(super) fn check_client<C>(
        &mut self,
        otherwise: Transition,
        cx: &Context<'_, C>,
    ) -> Transition {
        let is_gone = self.client.fin_seen
            && match self.state {
                _ if cx.port.limits.abort_on_close => true,
                State::Held | State::Backoff => self.client.has_closed_without_data(),
                _ => false,
            };
        if is_gone {
            Transition::Close(CloseReason::ClientGone(self.phase()))
        } else {
            otherwise
        }
    }

    pub(super) fn dial_round<C: Connect<Socket = S>>(
        &mut self,
        round: DialRound,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        if self.usage == Usage::Backup {
            return self.dial_backup_round(round, cx);
        }
        if !self.keeps_to_gate() && cx.port.balancer.is_empty() {
            return Transition::Close(CloseReason::UncountedNoPod(self.phase()));
        }
        if !self.may_pass(cx) || cx.port.balancer.is_full() {
            return self.hold(cx);
        }
        let client = match cx.port.balancer.has_affinity() {
            true => self.client_address(),
            false => None,
        };
        match self.dialer.dial(client, round, cx) {
            DialOutcome::NoneLeft => self.back_off(cx),
            DialOutcome::Connecting(attempt) => {
                let timeout = attempt.timeout(cx.port.limits.connect_timeout);
                self.state = State::Connecting(attempt);
                self.schedule_within(timeout, cx);
                self.check_client(Transition::Stay, cx)
            }
        }
    }

    /// Pauses before the next round of dials.
    pub(super) fn back_off<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        self.state = State::Backoff;
        cx.port.backing_off.insert(cx.key);
        let pause = self.dialer.next_pause();
        self.schedule_within(pause, cx);
        self.check_client(Transition::Stay, cx)
    }

    /// Whether the gate allows the connection to be served.
    pub(super) fn may_pass<C>(&self, cx: &Context<'_, C>) -> bool {
        cx.port.gate_open || !self.keeps_to_gate()
    }

    /// Dials the next address of the round: the connect has failed.
    pub(super) fn dial_next<C: Connect<Socket = S>>(
        &mut self,
        cause: DialFailure,
        why: &str,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let Some(attempt) = self.take_attempt() else {
            return Transition::Stay;
        };
        let cause = attempt.failure(cause);
        let (backend, mut round) = attempt.into_failed();
        self.dialer
            .note_failure(backend, cause, why, &mut round, cx);
        self.dial_round(round, cx)
    }

    /// Takes the connect in progress out of the state, if there is one: the connection is held
    /// until it gets another state.
    fn take_attempt(&mut self) -> Option<Attempt<S>> {
        match mem::replace(&mut self.state, State::Held) {
            State::Connecting(attempt) => Some(attempt),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Begins to relay: a backend has accepted the connection. If the gate was shut meanwhile,
    /// the backend is reset before it gets a byte, and the connection is held. A backend that
    /// is to send the first byte is waited for; it is not ready before, whatever the kubelet says.
    pub(super) fn handle_accepted<C: Connect<Socket = S>>(
        &mut self,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let Some(mut attempt) = self.take_attempt() else {
            return Transition::Stay;
        };
        attempt.set_accepted();
        if !self.may_pass(cx) {
            attempt.give_up(&mut cx.port.balancer, cx.now);
            return self.hold(cx);
        }
        let is_to_greet = cx.port.rules.awaits_greeting && self.usage != Usage::Backup;
        let backend = attempt.backend_mut();
        let id = backend.id;
        if !is_to_greet {
            cx.port.balancer.succeeded(id, cx.now);
        }
        if let Some(version) = cx.port.rules.send_proxy_protocol
            && let Err(why) = self.send_header(version, &mut backend.socket)
        {
            let mut round = DialRound::default();
            let why = format!("takes no PROXY header: {why}");
            let cause = match is_to_greet {
                true => DialFailure::NoGreeting,
                false => DialFailure::BrokeOff,
            };
            self.dialer.note_failure(id, cause, &why, &mut round, cx);
            return self.dial_round(round, cx);
        }
        if !is_to_greet {
            return self.begin_relay(attempt.into_backend(), event, cx);
        }
        let (progress, timeout) = (attempt.look_for_greeting(), attempt.greeting_timeout());
        self.state = State::Connecting(attempt);
        self.schedule_within(timeout, cx);
        match progress {
            Progress::Greeted => self.handle_greeting(event, cx),
            Progress::Failed(why) => self.dial_next(DialFailure::BrokeOff, &why.to_string(), cx),
            Progress::Pending | Progress::Connected => self.check_client(Transition::Stay, cx),
        }
    }

    /// Begins to relay: the backend has sent the first byte.
    pub(super) fn handle_greeting<C: Connect<Socket = S>>(
        &mut self,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let Some(attempt) = self.take_attempt() else {
            return Transition::Stay;
        };
        if !self.may_pass(cx) {
            attempt.give_up(&mut cx.port.balancer, cx.now);
            return self.hold(cx);
        }
        let backend = attempt.into_backend();
        cx.port.balancer.succeeded(backend.id, cx.now);
        self.begin_relay(backend, event, cx)
    }

    fn begin_relay<C: Connect<Socket = S>>(
        &mut self,
        backend: BackendStream<S>,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let waited = self.waited(cx.now);
        if self.usage == Usage::Backup {
            cx.port.counters.excluded(Exclusion::Backup);
        } else {
            cx.port.counts.forwarded += 1;
            cx.port.counts.forwarded_uncounted += u64::from(!self.keeps_to_gate());
            cx.port.counters.hold.observe(waited);
            cx.port.counters.waited(waited);
        }
        if let Some(address) = cx.port.balancer.address(backend.id) {
            debug!("#{} relaying to {address} after {waited:?}", self.serial());
        }
        let mut relay = Relay::new(backend);
        relay.handle_backend_event(&mut self.client, event);
        self.state = State::Relaying(relay);
        self.begin_traffic(cx);
        self.relay_or_queue(cx)
    }
}
