//! The log lines of an [`App`]: its changes, why a wake takes long, and clients that were reset at
//! the hold limit.

use std::time::Duration;

use log::{Level, log, warn};

use super::super::interface::{Api, Sockets};
use super::super::messages::{clients, describe};
use super::super::slow_wake::{Facts, SlowWake};
use super::failures::slow_after;
use super::{App, Process};
use crate::cluster::LeaseStore;
use crate::duration;
use crate::policy::{Change, Phase};

impl<A: Api> App<A> {
    pub(super) fn log_change(&self, change: Change, sockets: &impl Sockets) {
        let level = match change {
            Change::PreviousUnknown { .. }
            | Change::WithoutLease { .. }
            | Change::LeaseLocation(Some(LeaseStore::Annotation) | None)
            | Change::LeasesVisible(false)
            | Change::SleepUndone { .. }
            | Change::WakeUndone { .. }
            | Change::OtherTtl { .. }
            | Change::InvalidAnnotation(_) => Level::Warn,
            // Another proxy must have had no lease of this one before it.
            Change::ScaledByOthers {
                from_zero: false,
                open: 1..,
                ..
            } => Level::Warn,
            _ => Level::Info,
        };
        let client = match change {
            Change::Waking { .. } => sockets.longest_waiting(self.id),
            _ => None,
        };
        log!(level, "{}", describe(&self.config.name, change, client));
    }

    /// The wake in progress; `None` while there is none.
    pub fn slow_wake(&self, sockets: &impl Sockets) -> Option<SlowWake> {
        let since = self.slow_wake_log.since()?;
        let facts = self.facts(sockets);
        Some(SlowWake {
            since,
            why: facts.explain(),
            code: facts.code(),
        })
    }

    /// The facts about a wake.
    pub(super) fn facts(&self, sockets: &impl Sockets) -> Facts<'_> {
        let listed = self.ports.iter().map(|port| port.pods.listed());
        Facts {
            delay: self.policy.delayed_by(),
            release: self
                .min_ready_wait
                .explain(self.ready_backends(), self.known_replicas()),
            service: &self.config.service,
            no_address: self.no_address_for_waiting(sockets),
            is_synced: self.health.is_synced(),
            listed: listed.max().unwrap_or_default(),
            dialable: self.backends(),
            is_full: sockets.counts(self.id).is_full,
            target: self.target_status.as_ref(),
            pods: self.pod_verdict.problem(),
        }
    }

    /// Why the waiting connections cannot be dialled, or why none could be. A missing port does
    /// not concern connections at other ports.
    fn no_address_for_waiting(&self, sockets: &impl Sockets) -> Option<&str> {
        let awaited = self.port_ids().filter(|&id| sockets.waiting(id) > 0);
        let reason = awaited.filter_map(|id| self.no_address_at(id)).next();
        reason.or_else(|| self.no_address().filter(|_| self.backends() == 0))
    }

    pub(super) fn log_slow_wake<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let now = process.now;
        let phase = self.policy.phase();
        let is_waking = matches!(phase, Phase::Waking { .. } | Phase::Starting { .. });
        let slow_after = || slow_after(&self.journal, false);
        self.slow_wake_log.update(is_waking, slow_after, now);
        if self.slow_wake_log.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let mut slow_wake_log = std::mem::take(&mut self.slow_wake_log);
        if let Some((took, reason)) = slow_wake_log.report(&self.facts(process.sockets), now) {
            let took = duration::display(Duration::from_secs(took.as_secs()));
            warn!("{} has been waking for {took}: {reason}", self.config.name);
            self.record_refused_pods();
        }
        self.slow_wake_log = slow_wake_log;
    }

    /// Has an Event recorded if it is for a quota, or the like, that a wake takes long.
    fn record_refused_pods(&mut self) {
        let target = self.target_status.as_ref();
        let messages = target.map(|target| target.condition_messages.join("; "));
        if let Some(messages) = messages.filter(|it| !it.is_empty()) {
            self.record_slow_wake(messages);
        }
    }

    pub(super) fn log_hold_timeouts<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let held_too_long = process.sockets.counts(self.id).held_too_long;
        let Some(lost) = self.hold_timeout_log.due(held_too_long, process.now) else {
            return;
        };
        let limit = duration::display(self.config.hold_timeout);
        let (name, reason) = (&self.config.name, self.facts(process.sockets).explain());
        let lost = clients(lost);
        warn!("{name}: {lost} reset after {limit} (hold limit): {reason}");
        self.record_hold_timeout(&reason);
    }
}
