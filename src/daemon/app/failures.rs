//! What keeps the pods of an [`App`] from getting ready, and what follows for those who wait.

use std::time::Duration;

use log::{info, warn};

use super::super::diagnosis;
use super::super::interface::{Api, Sockets};
use super::super::journal::{Journal, WakeResult};
use super::super::pod_verdict::PodVerdict;
use super::{App, Process};
use crate::clock::Time;
use crate::cluster::PodsRead;
use crate::engine::Counts;
use crate::policy::Phase;

/// Why pods that a quota or a policy does not allow are not there.
const REFUSED: &str = "the API server refuses its pods";

/// How long the API server has to refuse all pods until waiting counts as in vain. The pods of the
/// last sleep may use the quota until they have ended.
const REFUSED_FOR: Duration = Duration::from_secs(10);

impl<A: Api> App<A> {
    /// Applies what was read of the pods.
    pub(super) fn set_pods_read(&mut self, read: PodsRead, now: Time) {
        let Some(asked) = self
            .diagnosis
            .last()
            .filter(|_| self.starting_since().is_some())
        else {
            return;
        };
        let Some(new) = self.pod_verdict.update(read, asked, now) else {
            return;
        };
        let text = new.text.clone();
        self.slow_wake_log.note_news();
        self.record_slow_wake(text);
        self.diagnosis.restart_intervals(self.config.fail_fast, now);
    }

    /// Handles that the scale target or its endpoints have changed: what was wrong with the pods
    /// may be mended.
    pub(super) fn note_change(&mut self, now: Time) {
        if self.pod_verdict.problem().is_some() {
            self.diagnosis.restart_intervals(self.config.fail_fast, now);
        }
        self.pod_verdict.outdate(now);
    }

    /// Has the pods read if a wake takes longer than usual and somebody waits for it, and lets go
    /// of those who wait if waiting does not solve what is wrong.
    pub(super) fn diagnose<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let (now, fail_fast) = (process.now, self.config.fail_fast);
        let since = self.starting_since();
        let counts = process.sockets.counts(self.id);
        self.pod_verdict.handle_timeout(now);
        let is_wanted = self.is_read_wanted(counts);
        let slow_after = || slow_after(&self.journal, fail_fast);
        self.diagnosis
            .update(since, slow_after, fail_fast, is_wanted);
        if since.is_none() {
            self.pod_verdict = PodVerdict::default();
            self.slow_wake_note = None;
        }
        if self.diagnosis.is_due(fail_fast, now) {
            self.uses_at_read = counts.uses;
            self.api.read_pods();
        }
        self.update_wake_failure(process);
    }

    /// Whether it matters to somebody what the pods show. While it is known that waiting is in vain
    /// nobody waits, and it matters again to the next who comes after that is valid no longer; and
    /// once after each change.
    fn is_read_wanted(&mut self, counts: Counts) -> bool {
        let has_come = counts.waiting > 0 || counts.uses != self.uses_at_read;
        if !self.config.fail_fast || self.pod_verdict.lasting().is_none() {
            return has_come;
        }
        let Some((since, has_change)) = self.pod_verdict.outdated() else {
            return false;
        };
        let is_unread = self.diagnosis.last().is_none_or(|last| last < since);
        let is_wanted = counts.waiting > 0 || (has_change && is_unread);
        if is_wanted {
            self.diagnosis.hasten(since);
        }
        is_wanted
    }

    /// When [`App::diagnose`] has something to do even without an event.
    pub(super) fn diagnosis_due(&self) -> Option<Time> {
        let is_open = self.config.fail_fast
            && self.wake_failure.is_none()
            && self.pod_verdict.problem().is_none();
        let refused = self.refused_since.filter(|_| is_open);
        let refused = refused.map(|since| since + REFUSED_FOR);
        self.diagnosis
            .poll_timeout()
            .into_iter()
            .chain(refused)
            .chain(self.pod_verdict.poll_timeout())
            .min()
    }

    fn update_wake_failure<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let (known, in_force) = self.lasting_failure(process.now);
        if in_force != self.wake_failure {
            self.wake_failure = in_force;
            process
                .sockets
                .set_wake_failure(self.id, in_force, process.now);
        }
        self.update_wake_trouble(process);
        if std::mem::replace(&mut self.logged_failure, known) == known {
            return;
        }
        let name = &self.config.name;
        match known {
            Some(why) => {
                let facts = self.facts(process.sockets).explain();
                warn!(
                    "{name}: connections are let go, because the app cannot start ({why}): {facts}"
                );
                self.record_wake_failure(why, &facts);
                self.notify_of_given_up_wake(&facts, process.now);
            }
            None => info!(
                "{name}: connections wait again: nothing is known that keeps it from starting"
            ),
        }
    }

    /// Passes what is wrong with the pods to the connections, for the reason with which they end.
    fn update_wake_trouble<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let of_pods = self.pod_verdict.problem().map(|problem| problem.reason);
        let trouble = of_pods.or(self.refused_since.map(|_| REFUSED));
        if std::mem::replace(&mut self.wake_trouble, trouble) != trouble {
            process.sockets.set_wake_trouble(self.id, trouble);
        }
    }

    /// Why those who wait would wait in vain, if they are to be let go then: as it is known, and as
    /// it is in force. What the pods show has the last word.
    fn lasting_failure(&mut self, now: Time) -> (Option<&'static str>, Option<&'static str>) {
        let is_starting = self.starting_since().is_some();
        let target = self.target_status.as_ref();
        let is_refused = is_starting && target.is_some_and(|target| target.is_creation_refused);
        self.refused_since = is_refused.then(|| self.refused_since.unwrap_or(now));
        if !is_starting || !self.config.fail_fast {
            return (None, None);
        }
        let is_long = |since| now.since(since) >= REFUSED_FOR;
        match self.pod_verdict.problem() {
            None if self.refused_since.is_some_and(is_long) => (Some(REFUSED), Some(REFUSED)),
            _ => (self.pod_verdict.lasting(), self.pod_verdict.in_force()),
        }
    }

    /// Since when pods start; `None` if there are none to come.
    fn starting_since(&self) -> Option<Time> {
        match self.policy.phase() {
            &Phase::Starting { since } if self.backends() == 0 => Some(since),
            _ => None,
        }
    }
}

/// The duration after which a wake takes longer than usual.
pub(super) fn slow_after(journal: &Journal, fail_fast: bool) -> Duration {
    let wakes = journal.wakes();
    let served = wakes.filter(|wake| wake.result == WakeResult::Served);
    diagnosis::slow_after(served.map(|wake| wake.took), fail_fast)
}
