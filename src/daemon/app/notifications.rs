//! The notifications of others about an [`App`].

use super::super::interface::{Api, Sockets};
use super::super::journal::State;
use super::{App, Process};
use crate::clock::Time;
use crate::policy::Change;

impl<A: Api> App<A> {
    /// Notifies others of a change that the policy reports.
    pub(super) fn notify_of_change(&mut self, change: Change, now: Time) {
        let replicas = self.replicas();
        if let Some(event) = self.lifecycle.record(change, replicas, now) {
            self.api.notify(&event);
        }
    }

    /// Notifies others of a wake that has lasted as long as a connection waits at most, at the
    /// end of a turn.
    pub(super) fn notify_of_failed_wake<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        self.lifecycle.update(self.state() == State::Waking);
        let mut lifecycle = std::mem::take(&mut self.lifecycle);
        let (limit, replicas, now) = (self.config.hold_timeout, self.replicas(), process.now);
        let explain = || {
            let unready = self.unready(now).join("; ");
            match unready.is_empty() {
                true => self.facts(process.sockets).explain(),
                false => unready,
            }
        };
        if let Some(event) = lifecycle.overdue(limit, replicas, explain, now) {
            self.api.notify(&event);
        }
        self.lifecycle = lifecycle;
    }

    fn replicas(&self) -> Option<u32> {
        self.policy.replicas().map(|(replicas, _)| replicas)
    }
}
