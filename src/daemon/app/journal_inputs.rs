//! The inputs of the journal of an [`App`].

use super::super::interface::{Api, Sockets};
use super::super::journal::{Inputs, Journal, State};
use super::{App, Process};
use crate::cluster::{NoAddress, TargetStatus};
use crate::engine::PortId;
use crate::policy::Phase;

impl<A: Api> App<A> {
    /// The history of the app.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The state of the app, as its journal and the page at `/` show it.
    pub fn state(&self) -> State {
        match self.policy.phase() {
            _ if self.policy.replicas().is_none() => State::Unknown,
            Phase::Asleep { .. } => State::Asleep,
            Phase::Waking { .. } | Phase::Starting { .. } => State::Waking,
            Phase::ScalingDown => State::ScalingDown,
            Phase::Awake | Phase::ConfirmingIdle => State::Awake,
        }
    }

    /// The last status that the controller of the scale target has written.
    pub fn target_status(&self) -> Option<&TargetStatus> {
        self.target_status.as_ref()
    }

    /// The code with which `zpa explain` says more about a port without an address.
    pub fn code_of_no_address(&self, id: PortId) -> &'static str {
        let leads_back = self
            .ports
            .get(id.index)
            .map(|port| port.leads_back.is_some());
        match self.health.no_address_of(id.index) {
            _ if leads_back == Some(true) => "LOOP",
            Some(NoAddress::ServiceMissing(_)) => "SERVICE",
            _ => "PORT",
        }
    }

    /// Updates the journal at the end of a turn.
    pub(super) fn update_journal<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let counts = process.sockets.counts(self.id);
        let policy = &self.policy;
        let waiting_since = match *policy.phase() {
            Phase::Waking { since, .. } | Phase::Starting { since } => Some(since),
            _ => None,
        };
        let lease = policy.lease_token().map(|token| token.0.as_str());
        let inputs = Inputs {
            phase: policy.phase_name(),
            state: self.state(),
            waiting_since,
            from_zero: matches!(policy.phase(), Phase::Waking { .. }),
            replicas: policy.replicas().map(|(replicas, _)| replicas),
            waiting: counts.waiting,
            forwarded: counts.forwarded - counts.forwarded_uncounted,
            held_too_long: counts.held_too_long,
            wake_failed: counts.wake_failed,
            lease: lease.filter(|token| !token.is_empty()),
        };
        self.journal.update(&inputs, process.now);
    }
}
