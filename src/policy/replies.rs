//! The transitions of the policy after a reply that shows the scale: a read, or a write that
//! was applied.

use std::time::Duration;

use super::Policy;
use super::command::{Change, Command};
use super::config::{POLL, POLL_STARTING};
use super::phase::Phase;
use super::requests::InFlight;
use super::seen::{LongerLeases, SHOWN_PER_SHORTER_TTL, Seen, SeenTtl};
use crate::clock::Time;
use crate::cluster::{LeaseStore, Renewal, Request, ResourceVersion, Scale};

impl Policy {
    /// A reply has shown the scale.
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

    /// Stores the other fields of the scale target, from the reply to `asked` or an event of
    /// the watch.
    pub(super) fn learn_the_rest(&mut self, asked: Option<&Request>, scale: &Scale, now: Time) {
        self.is_missing = false;
        self.previous_replicas = scale.previous_replicas.or(self.previous_replicas);
        if self.update_generation(asked, scale) {
            self.handle_missed_sleep(now);
        }
    }

    /// Stores the leases in the reply to `asked` or in an event. Returns the state that was
    /// seen before.
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
        if let Some(ttl) = scale.lease_ttl.filter(|ttl| *ttl != self.config.idle_ttl) {
            self.learn_other_ttl(ttl, is_renewed, now);
            if ttl < self.config.idle_ttl && scale.replicas > 0 {
                let pace = POLL.min(ttl / SHOWN_PER_SHORTER_TTL);
                self.lease.hidden(self.connections.open > 0, pace, now);
            }
        }
        if scale.lease_token.is_some() {
            self.others_until = scale.others_lease.map(|left| now + left);
        }
        before
    }

    /// The last renewal is that of a proxy with another TTL than ours.
    fn learn_other_ttl(&mut self, ttl: Duration, is_renewed: bool, now: Time) {
        if !std::mem::replace(&mut self.other_ttl_reported, true) {
            self.report(Change::OtherTtl { theirs: ttl });
        }
        if ttl < self.config.idle_ttl {
            let shorter = self.shorter_ttl.filter(|it| now < it.until && it.ttl < ttl);
            let seen = SeenTtl::new(ttl, self.config.idle_ttl, now);
            self.shorter_ttl = shorter.or(Some(seen));
        } else if is_renewed {
            self.longer_leases.renewed(ttl, now);
        }
    }

    /// Whether the scale may have gone to zero and back since it was seen last, which takes
    /// two writes of the spec.
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

    /// The app may have slept and been woken by something else: the idle clock starts again,
    /// and the pods are quarantined. Not under a lease: then no proxy has put it to sleep, and
    /// the two writes were others. If that is wrong, connections of the next two seconds wait
    /// until then.
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
        self.longer_leases = LongerLeases::default();
        self.commands.push_back(Command::QuarantinePods);
        let since = match self.phase {
            Phase::Waking { since, .. } => {
                match asked {
                    // The pause after a failure goes on.
                    None => {}
                    // The reply to the wake shows zero: something has undone it.
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
        if self.connections.waiting > 0 && self.may_wake(now) {
            self.pace.note_wake(now);
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
            // Only replies lead to a sleep.
            Phase::ConfirmingIdle | Phase::ScalingDown => {
                if let Some(asked) = asked {
                    self.decide_sleep(asked, scale, now);
                }
            }
            Phase::Asleep { .. } => {
                self.is_set_back = true;
                self.pace.note_awake(now);
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

    /// Reports a scale that this proxy has not written: the first one that it sees, or one
    /// that something else has written.
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

    /// Whether a sleep needs no renewal before it: there is no other proxy, and no number of
    /// replicas to keep, or no place to keep it.
    fn needs_no_last_renewal(&self, shows_leases: bool) -> bool {
        let can_keep = shows_leases && self.lease.store().is_some();
        let keeps = self.config.wakes_to_previous && can_keep;
        self.config.single && !keeps
    }

    /// A reply has shown replicas while a sleep is prepared. Takes the next step towards it,
    /// if the app was not used by any proxy for the idle TTL.
    ///
    /// After a read comes the last renewal, guarded by the version just read. It states that
    /// this proxy has no connections, and shows that leases can be written; if they cannot,
    /// the absence of renewals means nothing. After its reply comes the write of zero, with
    /// which this proxy's lease ends. If that write fails with a conflict, and another read
    /// still shows the last renewal, the write is repeated at once: after a renewal in an
    /// annotation, the controller of the scale target changes the version
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

/// Whether it is the last renewal before a sleep.
fn is_guarded_renewal(request: &Request) -> bool {
    matches!(request, Request::RenewLease(Renewal { guard: Some(_), .. }))
}
