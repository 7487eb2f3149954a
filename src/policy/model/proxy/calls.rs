//! [`Call`]: a request of a policy in flight, and the execution of the policy's commands.

use super::super::super::{Command, Policy};
use super::super::canonical::{self, CONFIRMED_AFTER, NOW};
use super::super::deployment::Breach;
use super::{Effects, Proxy, steps_in};
use crate::cluster::{LeaseStore, Outcome, Renewal, Request, ResourceVersion, Scale};
use crate::refusal::RefusalClock;

/// A request of the policy, or the reply to it, in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub request: Request,
    /// The reply; `None` while the request is in flight.
    pub outcome: Option<Outcome>,
}

impl Proxy {
    /// The reply arrives, or the client reports a failure.
    pub fn receive(&mut self, outcome: Outcome) -> Effects {
        let Some(call) = self.call.take() else {
            return Effects::default();
        };
        let shown = match &outcome {
            Outcome::Scale(scale) => Some(scale.replicas),
            _ => None,
        };
        match outcome {
            Outcome::Scale(_) => self.ghost.needs_read = false,
            Outcome::Unknown { .. } | Outcome::Conflict => {
                self.ghost.needs_read |= call.writes_scale()
            }
            _ => {}
        }
        let id = self.policy.in_flight.as_ref().map_or(0, |asked| asked.id);
        let before = self.seen_version();
        self.policy.reply(id, outcome, NOW);
        if shown.is_some() && call.writes_scale() {
            self.ghost.unanswered_write = None;
        }
        if matches!(call.request, Request::RenewLease(_)) {
            self.ghost.hindered |= shown.is_none() && call.renews();
            if self.holds_lease() {
                (self.ghost.hindered, self.ghost.was_stopped) = (false, false);
                self.ghost.unanswered_write = None;
            }
        }
        self.execute_commands(self.seen_version() != before)
    }

    /// The reply is late, and the client reports wrongly that nothing was sent.
    pub fn receive_unsent(&mut self) -> Effects {
        self.ghost.needs_read |= self.call.as_ref().is_some_and(Call::writes_scale);
        self.receive(Outcome::Unreachable)
    }

    /// Executes the commands of the policy. `has_seen_newer`: it was shown a newer version before.
    pub(super) fn execute_commands(&mut self, has_seen_newer: bool) -> Effects {
        let mut effects = Effects::default();
        while let Some(command) = self.policy.poll_command() {
            match command {
                Command::Send { request, .. } => self.send(request, has_seen_newer, &mut effects),
                Command::QuarantinePods => self.policy.set_dialable(false, NOW),
                Command::ScaleAboveZero | Command::GaveUp(_) | Command::Log(_) => {}
            }
        }
        if self.policy.in_flight.is_none() {
            self.abandon_call(&mut effects);
        }
        self.ghost.needs_read &= !has_seen_newer;
        effects
    }

    /// The policy waits no longer for the reply: it has given the request up, or has superseded
    /// a read.
    fn abandon_call(&mut self, effects: &mut Effects) {
        let Some(call) = self.call.take() else {
            return;
        };
        self.ghost.needs_read |= call.writes_scale();
        self.ghost.hindered |= call.renews();
        if call.outcome.is_none() {
            effects.replaced = Some(call.request);
        }
    }

    fn send(&mut self, mut request: Request, has_seen_newer: bool, effects: &mut Effects) {
        self.abandon_call(effects);
        self.ghost.needs_read &= !has_seen_newer;
        if let Request::WriteScale { replicas, .. } = request {
            if self.ghost.needs_read {
                effects.breach = Some(Breach::Unread);
            } else if replicas == 0 && self.ghost.steps < steps_in(self.ttl()) {
                effects.breach = Some(Breach::Hasty);
            } else if replicas == 0 && !self.can_wake {
                effects.breach = Some(Breach::Unwakeable);
            }
        }
        canonical::forget_nonce(&mut request);
        let call = Call {
            request,
            outcome: None,
        };
        if !call.request.is_read() {
            self.ghost.unanswered_write.get_or_insert(0);
        }
        self.call = Some(call);
    }

    /// Has the lease that the next reply grants begin with that reply.
    pub fn grant_lease_from_reply(&mut self) {
        if let Some(asked) = &mut self.policy.in_flight {
            asked.sent = NOW;
        }
    }

    /// Has the next refusal be the one that confirms the refusals before it.
    pub fn confirm_refusal(&mut self) {
        let refused = RefusalClock::Unconfirmed {
            since: NOW - CONFIRMED_AFTER,
            last: NOW,
        };
        let Policy {
            lease,
            reads,
            scale_writes,
            ..
        } = &mut self.policy;
        let permission = match self.call.as_ref().map(|call| &call.request) {
            Some(Request::RenewLease(renewal)) => match renewal.store {
                LeaseStore::Status => &mut lease.status_permission,
                LeaseStore::Annotation => &mut lease.annotation_permission,
            },
            Some(Request::WriteScale { .. }) => scale_writes,
            _ => reads,
        };
        if !permission.is_missing() {
            permission.clock = refused;
        }
    }
}

impl Call {
    pub fn writes_scale(&self) -> bool {
        matches!(self.request, Request::WriteScale { .. })
    }

    /// Whether it is a renewal that connections need in order to be forwarded.
    fn renews(&self) -> bool {
        matches!(
            self.request,
            Request::RenewLease(Renewal { guard: None, .. })
        )
    }

    pub(super) fn guard(&mut self) -> Option<&mut ResourceVersion> {
        canonical::guard(&mut self.request)
    }

    pub(super) fn shown(&mut self) -> Option<&mut Scale> {
        match &mut self.outcome {
            Some(Outcome::Scale(scale)) => Some(scale),
            _ => None,
        }
    }
}
