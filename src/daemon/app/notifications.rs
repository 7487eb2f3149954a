//! The notifications of others about an [`App`]: by the webhook, and as Events about its scale
//! target, which `kubectl describe` shows. All of them are made here.

use std::time::Duration;

use super::super::interface::{Api, Sockets};
use super::super::journal::State;
use super::super::messages;
use super::{App, Process};
use crate::clock::Time;
use crate::cluster::{Event, EventType};
use crate::duration;
use crate::policy::{Change, WakeReason};

impl<A: Api> App<A> {
    /// Notifies others of a change that the policy reports.
    pub(super) fn notify_of_change(&mut self, change: Change, now: Time) {
        let replicas = self.replicas();
        if let Some(event) = self.lifecycle.record(change, replicas, now) {
            self.api.notify(&event);
        }
        self.record_event_of(change);
    }

    /// Notifies others of a wake that has lasted as long as a connection waits at most, at the
    /// end of a turn.
    pub(super) fn notify_of_failed_wake<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let counts = process.sockets.counts(self.id);
        let is_wanted = self.state() == State::Waking
            || counts.waiting > 0
            || self.policy.delayed_by().is_some();
        let mut lifecycle = std::mem::take(&mut self.lifecycle);
        let (limit, replicas, now) = (self.config.hold_timeout, self.replicas(), process.now);
        let explain = || {
            let unready = self.unready(now).join("; ");
            match unready.is_empty() {
                true => self.facts(process.sockets).explain(),
                false => unready,
            }
        };
        // The last client that waits may be reset, and the wake be wanted no more.
        let event = match lifecycle.note_lost(counts.held_too_long) {
            true => lifecycle.fail(replicas, explain, now),
            false => lifecycle.overdue(limit, replicas, explain, now),
        };
        if let Some(event) = event {
            self.api.notify(&event);
        }
        lifecycle.update(is_wanted);
        self.lifecycle = lifecycle;
    }

    /// Has the Event of a change of the policy recorded.
    fn record_event_of(&mut self, change: Change) {
        match change {
            Change::Waking { .. } => self.woken_by = None,
            Change::WakingByOverride { by } => self.woken_by = Some(by),
            _ => {}
        }
        if let Some(event) = self.event_of(change) {
            self.api.record_event(event);
        }
    }

    /// Has an Event recorded that says that clients were reset at the hold limit, and why they were
    /// not served.
    pub(super) fn record_hold_timeout(&mut self, reason: &str) {
        if self.policy.config().dry_run {
            return;
        }
        let limit = duration::display(self.config.hold_timeout);
        let note = format!("clients were reset after {limit} (hold limit): {reason}");
        let event = Event::new(EventType::Warning, "WakeTimedOut", "ScaleUp", &note);
        self.api.record_event(event);
    }

    /// Has an Event recorded that says why a wake takes long, once for each reason in a row.
    pub(super) fn record_slow_wake(&mut self, why: String) {
        if self.policy.config().dry_run || self.slow_wake_note.as_ref() == Some(&why) {
            return;
        }
        let event = Event::new(EventType::Warning, "WakeSlow", "ScaleUp", &why);
        self.slow_wake_note = Some(why);
        self.api.record_event(event);
    }

    /// Has an Event recorded that says that clients are let go, because the app cannot start.
    pub(super) fn record_wake_failure(&mut self, why: &str, facts: &str) {
        if self.policy.config().dry_run {
            return;
        }
        let note = format!("clients are let go, because the app cannot start ({why}): {facts}");
        let event = Event::new(EventType::Warning, "WakeFailed", "ScaleUp", &note);
        self.api.record_event(event);
    }

    /// Has an Event recorded that says that connections are cut at the drain deadline.
    pub(in super::super) fn record_cut(&mut self, open: usize, timeout: Duration) {
        if self.policy.config().dry_run {
            return;
        }
        let (open, timeout) = (
            messages::connections(open as u64),
            duration::display(timeout),
        );
        let note = format!(
            "{open} cut, still open {timeout} after a proxy that ends has stopped accepting \
             (--drain-timeout)"
        );
        let event = Event::new(EventType::Warning, "DrainTimedOut", "Drain", &note);
        self.api.record_event(event);
    }

    /// Notifies others of a wake that is given up for that reason.
    pub(super) fn notify_of_given_up_wake(&mut self, why: &str, now: Time) {
        let replicas = self.replicas();
        if let Some(event) = self.lifecycle.fail(replicas, || why.to_owned(), now) {
            self.api.notify(&event);
        }
    }

    /// The Event of a change; `None`: it is in the log alone.
    fn event_of(&self, change: Change) -> Option<Event> {
        let normal =
            |reason, action, note: &str| Some(Event::new(EventType::Normal, reason, action, note));
        match change {
            Change::WakeWritten { replicas } => {
                let note = match self.woken_by {
                    None => format!("scaled from 0 to {replicas} for a connection"),
                    Some(by) => scaled_by_order(replicas, by),
                };
                normal("ScaledFromZero", "ScaleUp", &note)
            }
            Change::SleepWritten { .. } => {
                let ttl = duration::display(self.policy.config().idle_ttl);
                let note = format!("scaled to 0 after {ttl} or more without a connection");
                normal("ScaledToZero", "ScaleDown", &note)
            }
            Change::SleepUndone { .. } => Some(reverted("ScaleDown", messages::SLEEP_UNDONE)),
            Change::WakeUndone { .. } => Some(reverted("ScaleUp", messages::WAKE_UNDONE)),
            _ => None,
        }
    }

    fn replicas(&self) -> Option<u32> {
        self.policy.replicas().map(|(replicas, _)| replicas)
    }
}

/// Something else has undone what was written. All proxies see it.
fn reverted(action: &'static str, note: &str) -> Event {
    Event::new(EventType::Warning, "ScaleReverted", action, note).shared()
}

fn scaled_by_order(replicas: u32, by: WakeReason) -> String {
    format!("scaled from 0 to {replicas}: {}", messages::order(by))
}
