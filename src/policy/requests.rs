//! [`InFlight`]: the request in flight; and which request the policy makes when.
//!
//! One request is in flight at a time. A wake and a renewal replace a read in flight; a read
//! waits until it is due and no request is in flight. A request for which connections have
//! waited too long is given up: it may still be applied, and its reply is ignored.

use std::time::Duration;

use super::Policy;
use super::command::Command;
use super::config::{MAX_PAUSE_WAITING, POLLS_PER_TTL, POLLS_PER_TTL_WATCHED};
use super::phase::Phase;
use super::seen::{POLLS_AFTER_FAILURE, RENEWALS_PER_SHORTER_TTL};
use crate::clock::Time;
use crate::cluster::{LeaseStore, Outcome, Renewal, Request, ResourceVersion};

/// The request in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    pub(super) id: u64,
    pub(super) request: Request,
    pub(super) sent: Time,
}

impl Policy {
    pub(super) fn send_due_request(&mut self, now: Time) {
        if let Phase::Waking {
            version: Some(guard),
            ..
        } = &self.phase
        {
            if now >= self.due && self.may_send_urgent() {
                let (replicas, guard) = (self.wake_replicas(), guard.clone());
                self.report_unknown_previous(replicas);
                self.send(Request::WriteScale { replicas, guard }, now);
            }
        } else if self.is_awake_or_starting()
            && self.may_send_urgent()
            && let Some(store) = self.lease.due_store(now)
        {
            self.lease.on_sent(now);
            self.renew(store, None, now);
        } else if now >= self.due && self.in_flight.is_none() {
            let read = if self.reads.may_be_tried(now) {
                Request::Read
            } else {
                Request::ReadScale
            };
            self.send(read, now);
        }
    }

    pub(super) fn renew(&mut self, store: LeaseStore, guard: Option<ResourceVersion>, now: Time) {
        let renewal = Renewal {
            nonce: self.random.bits(),
            ttl: self.config.idle_ttl,
            in_use: self.connections.open > 0,
            previous_replicas: self.replicas_to_keep(guard.is_some()),
            guard,
            store,
        };
        self.send(Request::RenewLease(renewal), now);
    }

    /// The number of replicas that the final renewal stores on the object, if it
    /// is not stored yet.
    fn replicas_to_keep(&self, before_sleep: bool) -> Option<u32> {
        let wanted = before_sleep && self.config.wakes_to_previous;
        let replicas = self.seen.as_ref().filter(|_| wanted)?.replicas;
        (self.previous_replicas != Some(replicas)).then_some(replicas)
    }

    /// Whether a wake or a renewal may be sent now: it supersedes a read in flight.
    pub(super) fn may_send_urgent(&self) -> bool {
        self.in_flight
            .as_ref()
            .is_none_or(|it| it.request.is_read())
    }

    pub(super) fn send(&mut self, request: Request, now: Time) {
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight = Some(InFlight {
            id,
            request: request.clone(),
            sent: now,
        });
        self.commands.push_back(Command::Send { id, request });
    }

    /// When the request in flight is given up, if connections wait.
    pub(super) fn gives_up_at(&self) -> Option<Time> {
        let in_flight = self.in_flight.as_ref()?;
        (self.connections.waiting > 0).then_some(in_flight.sent + MAX_PAUSE_WAITING)
    }

    /// Gives up the request in flight if connections have waited for it too long; returns whether
    /// it was given up.
    pub(super) fn give_up_overdue(&mut self, now: Time) -> bool {
        if self.gives_up_at().is_none_or(|at| now < at) {
            return false;
        }
        let Some(given_up) = self.in_flight.take() else {
            return false;
        };
        let unknown = Outcome::Unknown { retry_after: None };
        self.on_failure(&given_up.request, &unknown, now);
        let permission = given_up.request.permission();
        self.commands.push_back(Command::GaveUp(permission));
        // The connections have waited for as long as the longest pause already.
        self.due = self.due.min(now);
        true
    }

    /// When the scale target is read next if nothing happens. Close to a sleep it is read as
    /// often as without a watch, because the sleep depends on whether the API server was out of
    /// reach for all proxies ([`super::seen`]). `is_asleep`: the target has no replicas.
    pub(super) fn next_poll(&mut self, is_asleep: bool, now: Time) -> Time {
        let poll = self.config.poll();
        let pause = match self.watching {
            true => self.spread_out(self.config.poll_watched(), POLLS_PER_TTL_WATCHED, is_asleep),
            false => self.spread_out(poll, POLLS_PER_TTL, is_asleep),
        };
        let pause = pause.min(self.poll_hidden(now).unwrap_or(pause));
        let sleeps_at = self.sleeps_at().filter(|_| self.is_awake_or_starting());
        let closer = sleeps_at.map(|at| (at - poll * POLLS_AFTER_FAILURE).max(now + poll));
        (now + pause).min(closer.unwrap_or(now + pause))
    }

    /// The pause `poll`, or a longer one where several apps share the requests. It is random: at
    /// first from nothing up, so that apps that start together are read one after the other from
    /// then on, and the connection stays open; later from half of it up. An app that is awake is
    /// still read `per_ttl` times in a TTL; while it sleeps, no sleep depends on a read.
    fn spread_out(&mut self, poll: Duration, per_ttl: u32, is_asleep: bool) -> Duration {
        let longest = match is_asleep {
            true => self.spread,
            false => self.spread.min(self.config.idle_ttl / per_ttl),
        };
        if longest <= poll {
            return poll;
        }
        let least = match std::mem::replace(&mut self.is_spread_out, true) {
            true => longest / 2,
            false => Duration::ZERO,
        };
        poll.max(least + (longest - least).mul_f64(self.random.fraction()))
    }

    /// The interval of reads while a proxy with a shorter TTL may hide this proxy's lease: this
    /// proxy must renew again before the other one can have been idle for its TTL.
    fn poll_hidden(&self, now: Time) -> Option<Duration> {
        let is_leased = self.connections.open > 0 || self.lease.is_valid(now);
        let shorter = self.shorter_ttl.filter(|it| now < it.until && is_leased)?;
        Some(shorter.ttl / RENEWALS_PER_SHORTER_TTL)
    }
}
