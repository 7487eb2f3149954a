//! What follows from an answer: the scale is known, by a read or by a write that
//! was applied, and so is what that makes of the phase.

use super::Policy;
use super::command::{Change, Command};
use super::config::POLL_STARTING;
use super::phase::Phase;
use super::requests::InFlight;
use super::seen::{LongestLease, Seen};
use crate::clock::Time;
use crate::cluster::{LeaseStore, Renewal, Request, ResourceVersion, Scale};

impl Policy {
    /// The scale is known, by a read or by a write that was applied.
    pub(super) fn learn(&mut self, answered: &InFlight, scale: Scale, now: Time) {
        let InFlight {
            request: asked,
            sent,
            ..
        } = answered;
        self.record_permission(asked);
        let before = self.learn_lease(Some(asked), &scale, now);
        let is_ours = is_guarded_renewal(asked);
        self.seen = Some(Seen::after(before, &scale, is_ours, &self.config, now));
        self.learn_the_rest(Some(asked), &scale, now);
        let settled = self.is_up() || matches!(self.phase, Phase::Asleep { .. });
        if settled || matches!(asked, Request::WriteScale { .. }) {
            self.backoff.reset();
        }
        if scale.replicas == 0 {
            self.due = self.next_poll(now);
            self.learn_zero(Some(asked), scale.version, now);
        } else {
            match asked {
                Request::RenewLease(_) => self.lease.granted(*sent),
                _ => self.lease.server_is_back(now),
            }
            self.due = self.next_poll(now);
            self.learn_replicas(Some(asked), scale, now);
        }
    }

    /// What the scale target shows beside its replicas and its lease, by the reply to
    /// `asked` or by an event of a watch.
    pub(super) fn learn_the_rest(&mut self, asked: Option<&Request>, scale: &Scale, now: Time) {
        self.is_missing = false;
        self.previous_replicas = scale.previous_replicas.or(self.previous_replicas);
        if self.update_generation(asked, scale) {
            self.handle_missed_sleep(now);
        }
    }

    /// What the reply to `asked`, or an event, shows of leases. Returns what was seen
    /// before.
    pub(super) fn learn_lease(
        &mut self,
        asked: Option<&Request>,
        scale: &Scale,
        now: Time,
    ) -> Option<Seen> {
        let before = self.seen.take();
        let token = before.as_ref().and_then(|seen| seen.lease_token.as_ref());
        let is_renewed = scale.lease_token.is_some() && scale.lease_token.as_ref() != token;
        self.announced &= !is_renewed;
        let is_ours = asked.is_some_and(is_guarded_renewal);
        let is_use = is_renewed && !is_ours && !scale.announces_sleep;
        if is_use && scale.replicas > 0 && before.is_some() {
            self.reset_set_backs();
        }
        if let Some(ttl) = scale.lease_ttl.filter(|_| is_renewed) {
            self.longest_lease = Some(LongestLease::after(self.longest_lease, ttl, now));
            if ttl != self.config.idle_ttl && !self.other_ttl_reported {
                self.other_ttl_reported = true;
                self.report(Change::OtherTtl { theirs: ttl });
            }
        }
        if scale.lease_token.is_some() {
            self.others_until = scale.others_lease.map(|left| now + left);
        }
        before
    }

    /// Whether the scale may have gone to zero and back since it was seen last:
    /// that takes two writes of the spec.
    fn update_generation(&mut self, asked: Option<&Request>, scale: &Scale) -> bool {
        let ours = u64::from(match asked {
            None | Some(Request::Read | Request::ReadScale) => false,
            Some(Request::WriteScale { .. }) => true,
            Some(Request::RenewLease(renewal)) => {
                self.config.annotation_moves_generation && renewal.store == LeaseStore::Annotation
            }
        });
        let expected = self.generation.map(|seen| seen + ours);
        self.generation = scale.generation.or(expected);
        let shown_and_expected = scale.generation.zip(expected);
        shown_and_expected.is_some_and(|(shown, expected)| shown >= expected + 2)
    }

    /// Somebody has woken the app: the idle clock starts again, and the pods of
    /// before are not to be dialled. Under a lease no proxy has put it to sleep, and
    /// what wrote twice is something else. To be wrong costs those who come in
    /// the next two seconds a wait until then.
    fn handle_missed_sleep(&mut self, now: Time) {
        if let Some(seen) = &mut self.seen {
            seen.since = now;
        }
        if self.config.single || !self.lease.holds(now) {
            self.commands.push_back(Command::QuarantinePods);
        }
    }

    /// The scale is zero, by the reply to `asked` or by an event.
    pub(super) fn learn_zero(
        &mut self,
        asked: Option<&Request>,
        version: ResourceVersion,
        now: Time,
    ) {
        self.lease.void();
        self.notice_set_back();
        self.commands.push_back(Command::QuarantinePods);
        let since = match self.phase {
            Phase::Waking { since, .. } => {
                match asked {
                    // The pause after a failure goes on.
                    None => {}
                    // A wake that is answered with zero was undone by somebody.
                    Some(Request::WriteScale { .. }) => self.due = now + POLL_STARTING,
                    Some(_) => self.due = now,
                }
                self.phase = Phase::Waking {
                    since,
                    version: Some(version),
                };
                return;
            }
            Phase::Starting { since } => since,
            _ => now,
        };
        match self.phase {
            Phase::ScalingDown => {
                let idle = self
                    .idle_since
                    .map_or(self.config.idle_ttl, |t| now.since(t));
                self.report(Change::Slept { idle });
            }
            Phase::Asleep { .. } => {}
            _ => self.report_found(false, 0),
        }
        if self.connections.waiting > 0 {
            self.due = now;
            self.report(Change::Waking {
                waiting: self.connections.waiting,
            });
            self.phase = Phase::Waking {
                since,
                version: Some(version),
            };
        } else {
            self.phase = Phase::Asleep { version };
        }
    }

    /// The scale is above zero, by the reply to `asked` or by an event.
    pub(super) fn learn_replicas(&mut self, asked: Option<&Request>, scale: Scale, now: Time) {
        let replicas = scale.replicas;
        self.commands.push_back(Command::ReleasePods);
        match self.phase {
            Phase::Awake if !self.scale_reported => self.report_found(true, replicas),
            Phase::Awake => {}
            Phase::Starting { .. } => self.poll_while_starting(asked, now),
            // A sleep follows from replies alone.
            Phase::ConfirmingIdle | Phase::ScalingDown => {
                if let Some(asked) = asked {
                    self.decide_sleep(asked, scale, now);
                }
            }
            Phase::Asleep { .. } => {
                self.is_set_back = true;
                self.report_found(true, replicas);
                self.phase = Phase::Awake;
            }
            Phase::Waking { since, .. } => {
                self.poll_while_starting(asked, now);
                let ours = matches!(asked, Some(Request::WriteScale { .. }));
                if ours {
                    self.report(Change::ScaledUp { replicas });
                } else {
                    self.report_found(true, replicas);
                }
                self.phase = Phase::Starting { since };
            }
        }
        self.scale_reported = true;
    }

    fn poll_while_starting(&mut self, asked: Option<&Request>, now: Time) {
        let poll = now + self.config.poll().min(POLL_STARTING);
        self.due = match asked {
            Some(_) => poll,
            None => self.due.min(poll),
        };
    }

    /// Reports a scale that is not this proxy's doing: the first one it sees, or
    /// one that somebody else has written.
    fn report_found(&mut self, from_zero: bool, replicas: u32) {
        let open = self.connections.open;
        let is_first = !std::mem::replace(&mut self.scale_reported, true);
        self.report(if is_first {
            Change::Found { replicas }
        } else {
            Change::ScaledByOthers {
                from_zero,
                replicas,
                open,
            }
        });
    }

    /// Whether a sleep needs no renewal before it: there is nobody else to see it, and
    /// nothing for it to keep, or no place to keep it.
    fn needs_no_last_renewal(&self, shows_leases: bool) -> bool {
        let can_keep = shows_leases && self.lease.store().is_some();
        let keeps = self.config.wakes_to_previous && can_keep;
        self.config.single && !keeps
    }

    /// A reply has shown replicas while a sleep is prepared. Takes the next step
    /// towards it if the app has not been used for the idle TTL, by anybody.
    ///
    /// A read is followed by a last renewal, guarded by the version just read: it says
    /// that nobody is there, and shows that leases can be written. If they cannot, the
    /// silence of the others says nothing. Its reply is followed by the write of zero.
    /// Our own lease ends with it. If that write meets a conflict, another read that
    /// shows our last renewal still is followed by it at once: where a renewal is an
    /// annotation, the controller of the scale target itself moves the version in answer
    /// (`status.observedGeneration`), and would do so after each further renewal.
    fn decide_sleep(&mut self, asked: &Request, scale: Scale, now: Time) {
        let guard = scale.version;
        let shows_leases = scale.lease_token.is_some();
        self.announced |= is_guarded_renewal(asked);
        let is_announced = self.announced && shows_leases;
        if !self.is_idle(now) {
            self.phase = Phase::Awake;
            self.announced = false;
        } else if is_announced || (asked.is_read() && self.needs_no_last_renewal(shows_leases)) {
            self.phase = Phase::ScalingDown;
            self.lease.void();
            self.ask(Request::WriteScale { replicas: 0, guard }, now);
        } else if asked.is_read()
            && shows_leases
            && let Some(store) = self.lease.store()
        {
            self.phase = Phase::ConfirmingIdle;
            self.renew(store, Some(guard), now);
        }
    }
}

/// Whether it is the renewal that comes before a sleep.
fn is_guarded_renewal(request: &Request) -> bool {
    matches!(request, Request::RenewLease(Renewal { guard: Some(_), .. }))
}
