//! The transitions of the policy that need no reply: of the phase and of the lease, with their log
//! lines.

use super::command::{Change, Command};
use super::phase::Phase;
use super::requests::InFlight;
use super::{Connections, Policy};
use crate::clock::Time;
use crate::cluster::Request;

impl Policy {
    /// Makes the transitions that need no reply, then the request that is due.
    pub(super) fn advance(&mut self, now: Time) {
        if self.give_up_overdue(now) {
            self.apply_observed(now);
        }
        while let Some(next) = self.next_phase(now) {
            self.phase = next;
        }
        if !matches!(self.phase, Phase::Asleep { .. }) {
            self.delay = None;
        }
        self.maintain_lease(now);
        self.report_leases();
        self.send_due_request(now);
        self.check_invariants();
    }

    /// The next phase, if the transition needs no reply.
    fn next_phase(&mut self, now: Time) -> Option<Phase> {
        let Connections { waiting, .. } = self.connections;
        let is_idle = self.is_idle(now);
        match &self.phase {
            Phase::Awake if waiting > 0 && !self.dialable => {
                self.due = now;
                Some(Phase::Starting { since: now })
            }
            Phase::Awake | Phase::Starting { .. } if is_idle && self.config.dry_run => {
                self.report_dry_sleep(now);
                None
            }
            Phase::Awake | Phase::Starting { .. } if is_idle => {
                self.due = now;
                self.final_renewal_written = false;
                Some(Phase::ConfirmingIdle)
            }
            &Phase::Starting { since }
                if self.dialable && (self.may_forward(now) || waiting == 0) =>
            {
                self.wake_limits.begin_min_awake(now);
                self.report(Change::AddressReady {
                    took: now.since(since),
                    held: waiting,
                });
                Some(Phase::Awake)
            }
            Phase::ConfirmingIdle if !is_idle => Some(Phase::Awake),
            // The outcome of the write is unknown. Waiting connections need not wait for it: a
            // renewal shows the scale too, and makes the write fail if it is still in flight.
            Phase::ScalingDown if waiting > 0 && self.may_send_urgent() => Some(Phase::Awake),
            // The write has failed, or has not begun; it is not repeated during a pause.
            Phase::Waking {
                version: Some(version),
                ..
            } if self.writes_no_scale() && !self.is_writing_scale() => Some(Phase::Asleep {
                version: version.clone(),
            }),
            Phase::Asleep { version } => {
                let version = Some(version.clone());
                self.try_begin_wake(now).then_some(Phase::Waking {
                    since: now,
                    version,
                })
            }
            _ => None,
        }
    }

    fn is_writing_scale(&self) -> bool {
        let asked = self.in_flight.as_ref().map(|asked| &asked.request);
        matches!(asked, Some(Request::WriteScale { .. }))
    }

    /// Renews the lease while there are connections, and opens the gate without one if that
    /// fails.
    fn maintain_lease(&mut self, now: Time) {
        let Connections { open, waiting, .. } = self.connections;
        if self.is_awake_or_starting() && open > 0 {
            self.lease.schedule_renewal(now);
            self.lease.on_open_connections(waiting > 0, now);
        }
        if waiting == 0 {
            self.lease.on_none_waiting(now);
        }
        if !self.without_lease {
            self.lease.restart_after_stall(now);
        }
        let without_lease = self.is_awake_or_starting() && self.lease.fails_open(now);
        if without_lease && !self.without_lease && self.lease.store().is_some() {
            self.report(Change::WithoutLease { waiting });
        }
        self.without_lease = without_lease;
    }

    /// Reports changes of where leases are written, and of whether they can be read.
    fn report_leases(&mut self) {
        let (store, visible) = (self.lease.store(), self.sees_leases());
        let before = std::mem::replace(&mut self.leases_logged, (store, visible));
        if store != before.0 {
            self.report(Change::LeaseLocation(store));
        }
        if visible != before.1 {
            self.report(Change::LeasesVisible(visible));
        }
    }

    /// The number of replicas that a wake writes.
    pub(super) fn wake_replicas(&self) -> u32 {
        let previous = self
            .previous_replicas
            .filter(|_| self.config.wakes_to_previous);
        previous.unwrap_or(self.config.wake_replicas)
    }

    pub(super) fn report_unknown_previous(&mut self, replicas: u32) {
        let is_unknown = self.config.wakes_to_previous && self.previous_replicas.is_none();
        if is_unknown && !std::mem::replace(&mut self.unknown_previous_logged, true) {
            self.report(Change::PreviousUnknown { replicas });
        }
    }

    pub(super) fn report(&mut self, change: Change) {
        self.commands.push_back(Command::Log(change));
    }

    fn check_invariants(&self) {
        let writes = match &self.in_flight {
            Some(InFlight {
                request: Request::WriteScale { replicas, .. },
                ..
            }) => Some(*replicas),
            _ => None,
        };
        debug_assert!(
            writes.is_none_or(|n| match self.phase {
                Phase::ScalingDown => n == 0,
                Phase::Waking { .. } => n > 0,
                _ => false,
            }),
            "{writes:?} is being written in {:?}",
            self.phase
        );
        debug_assert_eq!(self.idle_since.is_none(), self.connections.open > 0);
    }
}
