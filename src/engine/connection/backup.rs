//! A connection that has waited for a backend in vain is dialled to the *backup target* (HAProxy
//! and nginx: a backup server), a maintenance page or a replica, in place of its end at the hold
//! limit or because the app cannot start, or sooner. It does not count as use of the app from then
//! on, and needs no gate.

use std::mem;

use log::debug;

use super::super::balancer::DialRound;
use super::super::context::{Connect, Context};
use super::super::dialing::DialOutcome;
use super::super::sockets::Socket;
use super::super::transition::Transition;
use super::{Connection, State, Usage};
use crate::clock::Time;

impl<S: Socket> Connection<S> {
    /// Whether it waits for a backend of the app.
    pub(super) fn waits_for_backend(&self) -> bool {
        self.is_waiting() && self.usage != Usage::Backup
    }

    /// When its wait ends for now: the hold limit, or the time of the backup target before it.
    pub(super) fn wait_limit<C>(&self, cx: &Context<'_, C>) -> Time {
        let hold_limit = self.hold_limit(cx);
        let backup = self.backup_time(cx).filter(|&at| at > cx.now);
        backup.map_or(hold_limit, |at| at.min(hold_limit))
    }

    /// When it is dialled to the backup target, if there is one. Others than those that count
    /// wait for nothing.
    fn backup_time<C>(&self, cx: &Context<'_, C>) -> Option<Time> {
        let has_backup = self.usage == Usage::Counted && cx.port.balancer.has_backup();
        let hold_limit = self.hold_limit(cx);
        let after = cx.port.rules.backup_after;
        let at = after.map_or(hold_limit, |after| hold_limit.min(self.opened + after));
        has_backup.then_some(at)
    }

    /// Whether it is to be dialled to the backup target now.
    pub(super) fn is_backup_due<C>(&self, cx: &Context<'_, C>) -> bool {
        self.backup_time(cx).is_some_and(|at| cx.now >= at)
    }

    /// Dials the backup target.
    pub(super) fn dial_backup<C: Connect<Socket = S>>(
        &mut self,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        self.leave_wait(State::Held, cx);
        self.usage = Usage::Backup;
        self.dialer.begin_backup();
        self.dial_backup_round(DialRound::default(), cx)
    }

    /// Replaces the state of a connection that waits, and gives up its dial.
    pub(super) fn leave_wait<C>(&mut self, next: State<S>, cx: &mut Context<'_, C>) {
        match mem::replace(&mut self.state, next) {
            State::Connecting(attempt) => attempt.give_up(&mut cx.port.balancer, cx.now),
            State::Backoff => drop(cx.port.backing_off.remove(&cx.key)),
            _ => {}
        }
    }

    /// Dials the next address of the backup target. If none is left the connection waits on, and
    /// after the hold limit it ends.
    pub(super) fn dial_backup_round<C: Connect<Socket = S>>(
        &mut self,
        round: DialRound,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        match self.dialer.dial_backup(round, cx) {
            DialOutcome::Connecting(attempt) => {
                let timeout = attempt.timeout(cx.port.limits.connect_timeout);
                self.state = State::Connecting(attempt);
                self.schedule_within(timeout, cx);
                self.check_client(Transition::Stay, cx)
            }
            DialOutcome::NoneLeft => {
                debug!("#{} is not taken by the backup target", self.serial());
                self.usage = Usage::Counted;
                match cx.now >= self.hold_limit(cx) {
                    true => self.end_wait(cx),
                    false => self.hold(cx),
                }
            }
        }
    }

    /// Ends a connection that no backend has accepted: with an answer, if there is one.
    pub(super) fn end_wait<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let end = self.end_of_wait(cx);
        match cx.port.rules.hold_answer.clone() {
            Some(answer) => self.begin_answer(answer, end, cx),
            None => self.reset(end),
        }
    }
}
