//! The transitions of the policy when a reply (to a read, or to a write that was applied) or an
//! event of the watch shows the scale.

use std::time::Duration;

use super::Policy;
use super::command::{Change, Command};
use super::config::{POLL, POLL_STARTING};
use super::phase::Phase;
use super::requests::InFlight;
use super::seen::{LongerLeases, RENEWALS_PER_SHORTER_TTL, Seen, SeenTtl};
use crate::clock::Time;
use crate::cluster::{LeaseStore, Renewal, Request, ResourceVersion, Scale};

impl Policy {
    /// Handles the reply to a request that shows the scale.
    pub(super) fn on_scale(&mut self, answered: &InFlight, scale: Scale, now: Time) {
        let InFlight { request, sent, .. } = answered;
        self.record_permission(request);
        let before = self.on_lease(Some(request), &scale, now);
        let is_final = is_final_renewal(request);
        self.seen = Some(Seen::after(before, &scale, is_final, &self.config, now));
        self.on_generation(Some(request), &scale, now);
        // While a wake or a sleep is under way, a read in between does not end the pauses
        // between its failed writes.
        let is_settled = self.is_awake_or_starting() || matches!(self.phase, Phase::Asleep { .. });
        if is_settled || matches!(request, Request::WriteScale { .. }) {
            self.backoff.reset();
        }
        if scale.replicas == 0 {
            self.due = self.next_poll(true, now);
            self.on_zero(Some(request), scale.version, now);
        } else {
            match request {
                Request::RenewLease(_) => self.lease.on_renewed(*sent),
                _ => self.lease.on_server_reachable(now),
            }
            // After the lease, on which the interval depends.
            self.due = self.next_poll(false, now);
            self.on_replicas(Some(request), scale, now);
        }
    }

    /// Stores the generation and the number of replicas before the last sleep, which the reply to
    /// `request` or an event shows. Handles a sleep that was missed.
    pub(super) fn on_generation(&mut self, request: Option<&Request>, scale: &Scale, now: Time) {
        self.is_missing = false;
        self.on_annotations(scale, now);
        self.previous_replicas = scale.previous_replicas.or(self.previous_replicas);
        if self.skips_a_sleep(request, scale) {
            self.handle_missed_sleep(now);
            // Another proxy has woken it, and that was undone.
            if scale.replicas == 0 && matches!(self.phase, Phase::Waking { .. }) {
                self.wake_limits.begin_undone_window(now);
                self.count_undone_wake(now);
            }
        }
    }

    /// Stores the leases that the reply to `request` or an event shows: they may show that the app
    /// is used, or hide this proxy's lease. Takes and returns the state that was seen before; the
    /// caller sets the new one.
    pub(super) fn on_lease(
        &mut self,
        request: Option<&Request>,
        scale: &Scale,
        now: Time,
    ) -> Option<Seen> {
        let before = self.seen.take();
        let last_token = before.as_ref().and_then(|seen| seen.lease_token.as_ref());
        let is_renewed = scale.lease_token.is_some() && scale.lease_token.as_ref() != last_token;
        // The reply to this proxy's own final renewal sets it again (`decide_sleep`).
        self.final_renewal_written &= !is_renewed;
        let is_final = scale.is_final_renewal || request.is_some_and(is_final_renewal);
        if is_renewed && !is_final && scale.replicas > 0 && before.is_some() {
            self.forget_undone_sleeps();
        }
        if let Some(ttl) = scale.lease_ttl.filter(|ttl| *ttl != self.config.idle_ttl) {
            self.on_other_ttl(ttl, is_renewed, now);
            if ttl < self.config.idle_ttl && scale.replicas > 0 {
                let interval = POLL.min(ttl / RENEWALS_PER_SHORTER_TTL);
                self.lease
                    .on_hidden(self.connections.open > 0, interval, now);
            }
        }
        if scale.lease_token.is_some() {
            self.ancestor_until = scale.ancestor_in_use_for.map(|left| now + left);
        }
        before
    }

    /// Remembers the TTL of another proxy that differs from this proxy's own.
    fn on_other_ttl(&mut self, ttl: Duration, is_renewed: bool, now: Time) {
        if !std::mem::replace(&mut self.other_ttl_logged, true) {
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

    /// Stores the generation. Returns whether the scale may have gone to zero and back since it
    /// was seen last, which takes two writes of the spec beside this proxy's own.
    fn skips_a_sleep(&mut self, request: Option<&Request>, scale: &Scale) -> bool {
        let own_writes = u64::from(match request {
            None | Some(Request::Read | Request::ReadScale) => false,
            Some(Request::WriteScale { .. }) => true,
            Some(Request::RenewLease(renewal)) => {
                self.config.annotation_moves_generation && renewal.store == LeaseStore::Annotation
            }
        });
        let expected = self.generation.map(|seen| seen + own_writes);
        self.generation = scale.generation.or(expected);
        let shown_and_expected = scale.generation.zip(expected);
        shown_and_expected.is_some_and(|(shown, expected)| shown >= expected + 2)
    }

    /// Handles that the app may have slept and been woken by something else. The idle time starts
    /// again, and the pods are quarantined, so that new connections wait for up to two seconds.
    /// While this proxy's lease is valid they are not: then no proxy has put the app to sleep, and
    /// the two writes of the spec were something else.
    fn handle_missed_sleep(&mut self, now: Time) {
        if let Some(seen) = &mut self.seen {
            seen.since = now;
        }
        if !self.config.needs_leases() || !self.lease.is_valid(now) {
            self.commands.push_back(Command::QuarantinePods);
        }
    }

    /// Makes the transition to a scale of zero, which the reply to `request` or an event shows.
    pub(super) fn on_zero(
        &mut self,
        request: Option<&Request>,
        version: ResourceVersion,
        now: Time,
    ) {
        self.lease.end();
        self.would_sleep = false;
        self.count_undone_sleep();
        self.longer_leases = LongerLeases::default();
        self.commands.push_back(Command::QuarantinePods);
        let since = match self.phase {
            Phase::Waking { since, .. } if self.wake_limits.delayed_until() <= now => {
                match request {
                    // An event does not end the pause after a failed write.
                    None => {}
                    // The reply to the write of a wake shows zero: an admission webhook, for
                    // example, has changed it.
                    Some(Request::WriteScale { .. }) => self.due = now + POLL_STARTING,
                    Some(_) => self.due = now,
                }
                self.phase = Phase::Waking {
                    since,
                    version: Some(version),
                };
                return;
            }
            Phase::Starting { since } | Phase::Waking { since, .. } => since,
            _ => now,
        };
        let was_seen_awake = self.scale_logged && !matches!(self.phase, Phase::Asleep { .. });
        match self.phase {
            Phase::ScalingDown => {
                let idle = self
                    .idle_since
                    .map_or(self.config.idle_ttl, |t| now.since(t));
                self.wake_limits.record_own_sleep();
                self.report(Change::SleepWritten { idle });
            }
            Phase::Asleep { .. } | Phase::Waking { .. } => {}
            _ => {
                self.report_found(false, 0);
                self.count_undone_wake(now);
            }
        }
        if was_seen_awake {
            self.wake_limits.begin_min_asleep(now);
        }
        self.end_resuming(now);
        self.phase = if self.try_begin_wake(now) {
            let version = Some(version);
            Phase::Waking { since, version }
        } else {
            Phase::Asleep { version }
        };
    }

    /// Subtracts the connections that the old pods still served, which the quarantine ends. They
    /// wake nothing: their clients connect again, and the byte may have been the pod's own.
    fn end_resuming(&mut self, now: Time) {
        let ended = std::mem::take(&mut self.connections.resuming);
        self.connections.waiting -= ended;
        self.connections.open -= ended;
        if self.connections.open == 0 {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Makes the transition to a scale above zero, which the reply to `request` or an event shows.
    pub(super) fn on_replicas(&mut self, request: Option<&Request>, scale: Scale, now: Time) {
        let replicas = scale.replicas;
        self.commands.push_back(Command::ScaleAboveZero);
        match self.phase {
            Phase::Awake if !self.scale_logged => self.report_found(true, replicas),
            Phase::Awake => {}
            Phase::Starting { .. } => self.schedule_poll_while_starting(request, now),
            // An event may be late, so that only a reply leads on to a sleep.
            Phase::ConfirmingIdle | Phase::ScalingDown => {
                if let Some(request) = request {
                    self.decide_sleep(request, scale, now);
                }
            }
            Phase::Asleep { .. } => {
                self.woken_by_others = !self.overrides.wants_wake(now);
                self.wake_limits.begin_min_awake(now);
                if self.connections.waiting > 0 {
                    self.wake_limits.begin_undone_window(now);
                }
                self.report_found(true, replicas);
                self.phase = Phase::Awake;
            }
            Phase::Waking { since, .. } => {
                self.schedule_poll_while_starting(request, now);
                let is_own_write = matches!(request, Some(Request::WriteScale { .. }));
                if is_own_write {
                    self.report(Change::WakeWritten { replicas });
                } else {
                    self.report_found(true, replicas);
                }
                self.wake_limits.begin_undone_window(now);
                self.phase = Phase::Starting { since };
            }
        }
        self.scale_logged = true;
        self.overrides.is_wake_pending = false;
    }

    fn schedule_poll_while_starting(&mut self, request: Option<&Request>, now: Time) {
        let poll = now + self.config.poll().min(POLL_STARTING);
        self.due = match request {
            Some(_) => poll,
            None => self.due.min(poll),
        };
    }

    /// Reports a scale that this proxy has not written: the first one that it sees, or one
    /// that something else has written.
    fn report_found(&mut self, from_zero: bool, replicas: u32) {
        let open = self.connections.open;
        let is_first = !std::mem::replace(&mut self.scale_logged, true);
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

    /// Whether zero may be written without a final renewal before it: there is no other proxy,
    /// and there is no number of replicas to keep for the next wake, or nowhere to keep it.
    fn may_skip_final_renewal(&self, shows_leases: bool) -> bool {
        let can_keep = shows_leases && self.lease.store().is_some();
        let keeps = self.config.wakes_to_previous && can_keep;
        self.config.single && !keeps
    }

    /// Takes the next step towards a sleep, after a reply that shows replicas in the phase
    /// `ConfirmingIdle` or `ScalingDown`. Ends the sleep if a proxy has used the app within
    /// the idle TTL.
    ///
    /// After a read comes the final renewal, guarded by the version just read. It states that
    /// this proxy has no connections, and shows that leases can be written; if they cannot,
    /// the absence of the other proxies' renewals means nothing. After its reply comes the
    /// write of zero, with which this proxy's lease ends. If that write fails with a conflict,
    /// and another read still shows the final renewal, the write is repeated at once: after a
    /// renewal in an annotation, the controller of the scale target writes
    /// `status.observedGeneration`, which changes the version, and would do so after each
    /// further renewal. After a read that shows no leases the next read follows.
    fn decide_sleep(&mut self, request: &Request, scale: Scale, now: Time) {
        let guard = scale.version;
        let shows_leases = scale.lease_token.is_some();
        self.final_renewal_written |= is_final_renewal(request);
        let is_written = self.final_renewal_written && shows_leases;
        if !self.is_idle(now) {
            self.phase = Phase::Awake;
            self.final_renewal_written = false;
        } else if is_written || (request.is_read() && self.may_skip_final_renewal(shows_leases)) {
            self.phase = Phase::ScalingDown;
            self.lease.end();
            self.send(Request::WriteScale { replicas: 0, guard }, now);
        } else if request.is_read()
            && shows_leases
            && let Some(store) = self.lease.store()
        {
            self.phase = Phase::ConfirmingIdle;
            self.renew(store, Some(guard), now);
        }
    }
}

/// Whether a request is a final renewal: no other renewal has a guard.
fn is_final_renewal(request: &Request) -> bool {
    matches!(request, Request::RenewLease(Renewal { guard: Some(_), .. }))
}
