//! [`Usage`]: whether a connection counts as use of the app; and the timeouts of a silent
//! connection.

use std::time::Duration;

use log::debug;

use super::{Connection, State};
use crate::clock::Time;
use crate::engine::close_reason::CloseReason;
use crate::engine::context::{Connect, Context};
use crate::engine::counters::{CountedAs, Exclusion};
use crate::engine::half::Moved;
use crate::engine::memory::MemoryBudget;
use crate::engine::readiness::Readiness;
use crate::engine::relay::Sent;
use crate::engine::sockets::{KEEPALIVE_AFTER, Socket};
use crate::engine::transition::Transition;
use crate::rules::idle::{Idle, Traffic};

/// How long a connection has moved nothing when it returns its share of the memory for bulk.
const SHARE_UNUSED_AFTER: Duration = Duration::from_secs(5);

/// Whether a connection counts as use of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It counts: the app is kept awake for it.
    Counted,
    /// It never counts. It is dialled whenever there is a backend, whether the gate is open or
    /// not: it needs no lease, and waits for no wake.
    Uncounted,
    /// A backend serves it, and no byte has gone over it for so long that it does not count.
    Silent,
    /// No backend has accepted it in time, so that the backup target is dialled for it or serves
    /// it.
    Backup,
    /// It was silent, and a byte has come while the gate is shut: the byte waits until
    /// there is a lease again.
    Resuming,
}

impl<S: Socket> Connection<S> {
    /// How it counts as use of the app.
    pub fn counted_as(&self) -> CountedAs {
        match self.usage {
            Usage::Uncounted | Usage::Silent | Usage::Backup => CountedAs::Nothing,
            Usage::Resuming => CountedAs::Resuming,
            Usage::Counted if self.is_waiting() => CountedAs::Waiting,
            Usage::Counted => CountedAs::Served,
        }
    }

    /// Whether the connection may be served only while the gate is open.
    pub(super) fn keeps_to_gate(&self) -> bool {
        matches!(self.usage, Usage::Counted | Usage::Resuming)
    }

    /// Whether a backend serves the connection though it does not count.
    pub fn is_served_uncounted(&self) -> bool {
        let is_uncounted = !matches!(self.usage, Usage::Counted | Usage::Backup);
        matches!(self.state, State::Relaying(_)) && is_uncounted
    }

    // --- Traffic ---

    /// Begins to measure the silence: a backend has accepted the connection.
    pub(super) fn begin_traffic<C>(&mut self, cx: &mut Context<'_, C>) {
        self.last_traffic = cx.now;
        self.is_half_closed = false;
        self.awaits_answer = false;
        self.is_kept_alive = false;
        let idle = cx.port.rules.idle.next(self.traffic());
        let keep_alive = cx.now + KEEPALIVE_AFTER;
        let first = idle.map_or(keep_alive, |at| at.min(keep_alive));
        self.schedule(Some(first), cx);
    }

    /// Records that bytes were read, or passed on, or a FIN was. What the backend has sent in the
    /// same turn as the client may be older than the client's bytes.
    pub(super) fn record_traffic<C>(
        &mut self,
        moved: Moved,
        before: Sent,
        after: Sent,
        cx: &mut Context<'_, C>,
    ) {
        if moved.bytes > 0 || before != after {
            self.last_traffic = cx.now;
        }
        if before.up != after.up {
            self.awaits_answer = true;
        } else if before.down != after.down {
            self.awaits_answer = false;
        }
        let watches_halves = cx.port.rules.idle.half_close_timeout.is_some();
        if watches_halves
            && !self.is_half_closed
            && let State::Relaying(relay) = &self.state
            && relay.is_half_closed(&self.client)
        {
            self.is_half_closed = true;
            self.last_traffic = cx.now;
            self.schedule_idle(cx);
        }
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            last: self.last_traffic,
            is_half_closed: self.is_half_closed,
            counts: self.usage == Usage::Counted,
        }
    }

    /// Sets the deadline to the time at which a rule applies next, if one does.
    pub(super) fn schedule_idle<C>(&mut self, cx: &mut Context<'_, C>) {
        let next = cx.port.rules.idle.next(self.traffic());
        self.schedule(next, cx);
    }

    // --- Silence ---

    /// Gives the share of the memory for bulk back, if the connection is silent and its queues
    /// are empty.
    pub fn return_unused_share(&mut self, key: usize, memory: &mut MemoryBudget, now: Time) {
        if now < self.last_traffic + SHARE_UNUSED_AFTER {
            return;
        }
        let sockets = match &mut self.state {
            State::Relaying(relay) => {
                if relay.is_at_rest(&mut self.client) != Some(false) {
                    return;
                }
                [self.client.socket.options(), relay.socket().options()]
            }
            State::Detached => [self.client.socket.options(), None],
            _ => return,
        };
        memory.take_back(key, &mut self.bulk_share, sockets);
    }

    /// Handles the deadline of a connection that a backend serves or has served: turns on
    /// keepalive, and applies the rules about silence.
    pub(super) fn check_traffic<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        self.enable_keepalive();
        match cx.port.rules.idle.check(self.traffic(), cx.now) {
            Idle::No => {}
            Idle::Silent => {
                debug!("#{} is silent and does not count", self.serial());
                cx.port.counters.excluded(Exclusion::Silent);
                self.usage = Usage::Silent;
            }
            Idle::Closed(limit) => return self.close_idle(CloseReason::Idle(limit)),
            Idle::HalfClosed(limit) => return self.close_idle(CloseReason::HalfClosed(limit)),
        }
        self.schedule_idle(cx);
        Transition::Stay
    }

    /// Closes a silent connection: with FINs where both sides have everything, so that a pool
    /// of connections sees an end and no error, else with resets.
    fn close_idle(&self, reason: CloseReason) -> Transition {
        let is_owed = match &self.state {
            State::Relaying(relay) => {
                self.client.socket.unacknowledged() > 0
                    || relay.socket().unacknowledged() > 0
                    || !relay.is_flushed(&self.client)
            }
            State::Closing(_) => true,
            _ => false,
        };
        if is_owed {
            self.reset_on_close();
        }
        Transition::Close(reason)
    }

    /// Both sides have ended, and one has not read everything yet. The rules about silence go on:
    /// what it reads is traffic.
    pub(super) fn begin_wait_for_reader<C>(&mut self, cx: &mut Context<'_, C>) {
        self.last_traffic = cx.now;
        if cx.port.rules.idle.half_close_timeout.is_some() {
            self.is_half_closed = true;
            self.schedule_idle(cx);
        }
    }

    /// Handles an event of a silent connection. Returns what to do in place of moving bytes, if
    /// none may be moved: a byte that ends a silence waits for the gate.
    pub(super) fn end_silence<C: Connect<Socket = S>>(
        &mut self,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) -> Option<Transition> {
        let is_silent = self.usage == Usage::Silent;
        if is_silent && (event.error || !self.has_bytes()) {
            return None;
        }
        match self.usage {
            Usage::Counted | Usage::Uncounted | Usage::Backup => None,
            // What a peer has sent that is gone needs no lease.
            Usage::Resuming if event.error => {
                self.usage = Usage::Uncounted;
                None
            }
            Usage::Resuming => Some(Transition::Stay),
            Usage::Silent if cx.port.gate_open => {
                self.count_again(cx);
                None
            }
            Usage::Silent => {
                self.usage = Usage::Resuming;
                self.schedule(None, cx);
                Some(Transition::AwaitGate)
            }
        }
    }

    fn has_bytes(&mut self) -> bool {
        match &mut self.state {
            State::Relaying(relay) => relay.has_bytes(&mut self.client),
            _ => false,
        }
    }

    fn count_again<C>(&mut self, cx: &mut Context<'_, C>) {
        self.usage = Usage::Counted;
        self.last_traffic = cx.now;
        self.schedule_idle(cx);
    }

    /// Passes on the byte that has waited for the gate, which is open now.
    pub fn pass_gate<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        if self.usage != Usage::Resuming {
            return Transition::Stay;
        }
        self.count_again(cx);
        self.relay_or_queue(cx)
    }
}
