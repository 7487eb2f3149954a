//! What keeps the pods of an [`App`] from getting ready, and what follows for those who wait.

use log::{info, warn};

use super::super::interface::{Api, Sockets};
use super::super::journal::WakeResult;
use super::{App, Process};
use crate::clock::Time;
use crate::cluster::PodProblem;
use crate::policy::Phase;

/// Why pods that a quota or a policy does not allow are not there.
const REFUSED: &str = "the API server refuses its pods";

impl<A: Api> App<A> {
    /// Applies what was read of the pods.
    pub(super) fn set_pod_problem(&mut self, problem: Option<PodProblem>, now: Time) {
        let Some(since) = self.starting_since() else {
            return;
        };
        let reason = |problem: &Option<PodProblem>| problem.as_ref().map(|it| it.reason);
        let is_new = reason(&problem) != reason(&self.pod_problem);
        if let Some(problem) = problem.as_ref().filter(|_| is_new) {
            let (name, took) = (&self.config.name, now.since(since).as_secs());
            warn!("{name} has been waking for {took}s: {}", problem.text);
            self.record_slow_wake(&problem.text);
        }
        self.pod_problem = problem;
    }

    /// Has the pods read if a wake takes longer than usual, and lets go of those who wait if waiting
    /// does not solve what is wrong.
    pub(super) fn diagnose<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let (now, fail_fast) = (process.now, self.config.fail_fast);
        let since = self.starting_since();
        let wakes = self.journal.wakes();
        let served = wakes.filter(|wake| wake.result == WakeResult::Served);
        let took = served.map(|wake| wake.took);
        self.diagnosis.update(since, took, fail_fast);
        if since.is_none() {
            self.pod_problem = None;
        }
        if self.diagnosis.is_due(fail_fast, now) {
            self.api.read_pods();
        }
        self.update_wake_failure(process);
    }

    fn update_wake_failure<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let failure = self.lasting_failure();
        if failure == self.wake_failure {
            return;
        }
        self.wake_failure = failure;
        process
            .sockets
            .set_wake_failure(self.id, failure, process.now);
        let name = &self.config.name;
        match failure {
            Some(why) => {
                let facts = self.facts(process.sockets).explain();
                warn!(
                    "{name}: connections are let go, because the app cannot start ({why}): {facts}"
                );
                self.notify_of_given_up_wake(&facts, process.now);
            }
            None => info!(
                "{name}: connections wait again: nothing is known that keeps it from starting"
            ),
        }
    }

    /// Why those who wait would wait in vain, if they are to be let go then.
    fn lasting_failure(&self) -> Option<&'static str> {
        self.starting_since().filter(|_| self.config.fail_fast)?;
        let problem = self.pod_problem.as_ref().filter(|it| it.is_lasting);
        let is_refused = self
            .target_status
            .as_ref()
            .is_some_and(|target| target.is_creation_refused && target.ready == 0);
        match problem {
            Some(problem) => Some(problem.reason),
            None => is_refused.then_some(REFUSED),
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
