//! The state `Detached`: the app sleeps, the backend's side of a silent connection has ended, and
//! the client's stays open. The client's next byte is that of a new connection: it may count as
//! use of the app, is held, and is sent to a backend that is dialled for it.
//!
//! A connection is detached only where neither side owes the other anything that can be seen here:
//! both are open and have acknowledged everything, and the last byte was the backend's. That does
//! not show that an answer is complete, so an idle timeout has to be set too. Whether the server
//! would know the client again is the operator's to say ([`SilentConnections::Detach`]).

use std::time::Duration;

use log::debug;

use super::super::close_reason::CloseReason;
use super::super::context::{Connect, Context};
use super::super::half_state::ReadOutcome;
use super::super::sockets::Socket;
use super::super::transition::Transition;
use super::{Connection, State, Usage};
use crate::clock::Time;
use crate::rules::Preread;
use crate::rules::idle::SilentConnections;

/// How long a connection that does not count for another reason than its silence must have carried
/// no byte to be at rest: a transfer may pause.
const AT_REST_AFTER: Duration = Duration::from_secs(5);

impl<S: Socket> Connection<S> {
    /// Whether the client's side has outlived the backend's.
    pub fn is_detached(&self) -> bool {
        matches!(self.state, State::Detached)
    }

    /// Since when no byte has gone over it, if it is detached.
    pub fn detached_silence(&self) -> Option<Time> {
        self.is_detached().then_some(self.last_traffic)
    }

    /// The app sleeps: ends a connection that a backend serves though it does not count, or
    /// detaches it. It ends with FINs where it is at rest, so that a pool of connections sees an
    /// end and no error, else with resets. `accepts` says whether this proxy accepts clients: once
    /// it drains, their connections end.
    pub fn fall_asleep<C: Connect<Socket = S>>(
        &mut self,
        accepts: bool,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let is_silent = matches!(self.usage, Usage::Silent | Usage::Resuming);
        let is_wanted = accepts && cx.port.rules.idle.silent == SilentConnections::Detach;
        let may_end = is_silent || self.last_traffic + AT_REST_AFTER <= cx.now;
        let at_rest = match &mut self.state {
            State::Relaying(relay) if may_end && !self.awaits_answer => {
                relay.is_at_rest(&mut self.client)
            }
            _ => None,
        };
        match at_rest {
            Some(bytes_wait) if is_wanted && is_silent => self.detach(bytes_wait, cx),
            Some(false) => Transition::Close(CloseReason::Asleep),
            // A FIN would look like a complete stream.
            Some(true) | None => {
                self.reset_on_close();
                Transition::Close(CloseReason::Asleep)
            }
        }
    }

    /// Ends the backend's side. Bytes of the client that wait already were reported before, so
    /// that no event reports them again.
    fn detach<C: Connect<Socket = S>>(
        &mut self,
        bytes_wait: bool,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let Some(relay) = self.take_relay() else {
            return Transition::Stay;
        };
        let (backend, _) = relay.into_backend(&mut cx.shared.buffers);
        cx.port.balancer.closed(backend.id, cx.now);
        drop(backend);
        self.bulk_share.forget_backend();
        self.state = State::Detached;
        self.usage = Usage::Silent;
        self.paused.backend = false;
        self.client.up.begin_anew();
        self.resume_input(cx);
        self.dialer.begin_anew();
        self.schedule_idle(cx);
        cx.port.counts.detached += 1;
        debug!("#{} is detached", self.serial());
        match bytes_wait {
            true => self.reattach(cx),
            false => Transition::Stay,
        }
    }

    /// Handles an event of the client's socket.
    pub(super) fn look_for_next_byte<C: Connect<Socket = S>>(
        &mut self,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        match ReadOutcome::from(self.client.socket.peek(&mut [0])) {
            ReadOutcome::Bytes(_) => self.reattach(cx),
            ReadOutcome::Empty | ReadOutcome::Interrupted => Transition::Stay,
            ReadOutcome::End => Transition::Close(CloseReason::Finished),
            ReadOutcome::Failed(_) => Transition::Close(CloseReason::ClientGone(self.phase())),
        }
    }

    /// Goes on with the client's next bytes as with the first ones of a connection that has just
    /// been accepted. Its place among the held ones is that of its accept (`accepted`); the hold
    /// limit counts from now (`opened`).
    fn reattach<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let accepted = self.opened;
        self.client_info().accepted.get_or_insert(accepted);
        self.opened = cx.now;
        cx.port.counts.detached -= 1;
        cx.port.counters.reattached += 1;
        debug!("#{} goes on after it was detached", self.serial());
        self.usage = Usage::Uncounted;
        if cx.port.rules.needs_first_bytes(false) {
            return self.begin_preread(Preread::default(), cx);
        }
        self.usage = Usage::Counted;
        self.hold(cx)
    }
}
