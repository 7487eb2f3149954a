//! When to scale, and whether to let connections through.
//!
//! A pure state machine. It is told how many connections there are, whether
//! there is an address to dial, what the API server has answered and what time
//! it is; it answers with [`Command`]s. It sees counts and versions, never an
//! address, and reads no clock.
//!
//! Rules that hold in every phase:
//! - replicas are written to wake (0 → N) and to sleep (N → 0), each guarded by
//!   the version at which the other value was read; never at start-up, and
//!   never from one number above zero to another, which is the HPA's job;
//! - a write whose outcome is unknown is followed by a read before any other
//!   write; a conflict too, and what was read is judged anew;
//! - what is not known counts as awake: only a fresh read leads to a sleep, after
//!   a whole idle TTL without a connection, in which nobody has scaled the app
//!   or renewed that it is in use ([`lease`]);
//! - connections are let through only under a lease: while no other proxy can have
//!   seen the app unused for a TTL.
//!
//! # Modules
//!
//! - `config`: what it keeps to, [`Config`] and the pace of asking;
//! - `phase`: what the app is taken to be doing, its [`Phase`];
//! - `command`: what the policy has others do, and say: [`Command`], [`Change`];
//! - `seen`: what is remembered of the Deployment;
//! - [`lease`]: whether other proxies leave the app awake for us;
//! - [`pods`]: which pods may be dialled, for the daemon;
//! - `requests`: when the API server is asked, and what;
//! - `replies` and `failures`: what follows from how a request ended.
//!
//! [`Policy`] itself, here, moves on with counts, addresses and time. The last
//! three are parts of it; the others know nothing of it, nor of one another, but
//! for the terms in `config`.

mod command;
mod config;
mod failures;
pub mod lease;
mod phase;
pub mod pods;
mod replies;
mod requests;
mod seen;

use std::collections::VecDeque;
use std::time::Duration;

pub use self::command::{Change, Command};
use self::config::LONGEST_PAUSE_WAITING;
pub use self::config::{Config, POLL, POLL_FORBIDDEN, POLL_STARTING};
use self::lease::Lease;
pub use self::phase::Phase;
use self::requests::InFlight;
use self::seen::Seen;
use crate::backoff::{Backoff, Random};
use crate::clock::Time;
use crate::cluster::{LeaseStore, Outcome, Request};

/// What the engine has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Connections {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now.
    pub open: usize,
    /// Those of them that wait for a pod.
    pub waiting: usize,
}

/// The state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    config: Config,
    phase: Phase,
    connections: Connections,
    /// When our last connection ended, or the program started; `None` while a
    /// connection is open.
    idle_since: Option<Time>,
    dialable: bool,
    seen: Option<Seen>,
    /// The generation that was seen last, our own writes since then included.
    generation: Option<u64>,
    lease: Lease,
    /// Whether connections are being let through without a lease.
    without_lease: bool,
    /// Whether the scale was reported since the start, or since the Deployment
    /// was missing.
    scale_reported: bool,
    in_flight: Option<InFlight>,
    next_id: u64,
    /// When the next request is due.
    due: Time,
    /// Until when the API server has asked to be left alone.
    not_before: Time,
    backoff: Backoff,
    nonces: Random,
    commands: VecDeque<Command>,
}

impl Policy {
    /// Starts out with an app that is taken to be awake: what is unknown does
    /// not sleep before a whole idle TTL.
    pub fn new(config: Config, seed: u64, now: Time) -> Self {
        Policy {
            phase: Phase::Awake,
            connections: Connections::default(),
            idle_since: Some(now),
            dialable: false,
            seen: None,
            generation: None,
            lease: Lease::new(config.idle_ttl, seed.rotate_left(16)),
            without_lease: false,
            scale_reported: false,
            in_flight: None,
            next_id: 0,
            due: now,
            not_before: now,
            backoff: Backoff::new(seed),
            nonces: Random::new(seed.rotate_left(32)),
            commands: VecDeque::new(),
            config,
        }
    }

    /// What is known and being done.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The Deployment's replicas as last seen, and when the answer came that
    /// showed them.
    pub fn replicas(&self) -> Option<(u32, Time)> {
        self.seen.as_ref().map(|seen| (seen.replicas, seen.last))
    }

    /// Where the lease is written; `None` where that is
    /// forbidden everywhere.
    pub fn lease_location(&self) -> Option<LeaseStore> {
        self.lease.store()
    }

    /// For how long still nobody can put the app to sleep; `None` where
    /// renewing is forbidden, so that there is no lease to be had.
    pub fn lease_left(&self, now: Time) -> Option<Duration> {
        self.lease.left(now)
    }

    /// Whether what is let through at this moment is let through under a lease,
    /// or needs none.
    pub fn has_lease(&self, now: Time) -> bool {
        self.lease.holds(now)
    }

    /// Whether connections may be dialled at this moment.
    pub fn gate_open(&self, now: Time) -> bool {
        let awake = matches!(self.phase, Phase::Awake | Phase::ConfirmingIdle);
        awake && self.dialable && self.may_forward(now)
    }

    /// Whether a connection may be let through as far as other proxies are
    /// concerned.
    fn may_forward(&self, now: Time) -> bool {
        self.lease.holds(now) || self.lease.fails_open(now)
    }

    /// The next thing to do, until there is nothing left.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Policy::handle_timeout`] has something to do even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        let free = self.in_flight.is_none();
        let lease_token = self.is_up();
        let sleep = self
            .unused_since()
            .map(|since| since + self.config.idle_ttl);
        [
            free.then_some(self.due),
            self.lease
                .due()
                .filter(|_| lease_token && self.may_ask_urgently()),
            self.lease
                .fails_open_at()
                .filter(|_| lease_token && !self.without_lease),
            sleep.filter(|_| lease_token),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether the app is taken to be up and no sleep is being prepared.
    fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Awake | Phase::Starting { .. })
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.settle(now);
    }

    /// The engine has counted.
    pub fn connections(&mut self, connections: Connections, now: Time) {
        let before = std::mem::replace(&mut self.connections, connections);
        let had_some = before.open > 0 || connections.accepted != before.accepted;
        if connections.open > 0 {
            self.idle_since = None;
        } else if had_some || self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
        if connections.waiting > 0 && before.waiting == 0 && !self.gate_open(now) {
            // A pause that was long because nobody waited is too long now.
            let soon = (now + LONGEST_PAUSE_WAITING).max(self.not_before);
            self.due = self.due.min(soon);
        }
        if connections.open == 0 && had_some {
            self.lease.last_close(now);
        }
        self.settle(now);
    }

    /// There is an address that may be dialled, or there is none.
    pub fn dialable(&mut self, dialable: bool, now: Time) {
        let appeared = dialable && !self.dialable;
        self.dialable = dialable;
        if appeared && matches!(self.phase, Phase::Asleep { .. }) {
            // A pod of a new generation: somebody else has scaled up.
            self.due = now;
        }
        self.settle(now);
    }

    /// The API server has answered, or failed to. An answer to anything but
    /// the last request is of no interest: the request was replaced.
    pub fn reply(&mut self, id: u64, outcome: Outcome, now: Time) {
        let Some(answered) = self.in_flight.take_if(|asked| asked.id == id) else {
            return;
        };
        match outcome {
            Outcome::Scale(scale) => self.learn(&answered.request, scale, now),
            failure => self.fail(&answered.request, &failure, now),
        }
        self.settle(now);
    }

    // --- What follows from what is known ---

    /// Moves on from phases that have been overtaken, then asks what is due.
    fn settle(&mut self, now: Time) {
        while let Some(next) = self.next_phase(now) {
            self.phase = next;
        }
        self.maintain_lease(now);
        self.send_due_request(now);
        self.check_invariants();
    }

    /// The phase that follows without any answer from the API server.
    fn next_phase(&mut self, now: Time) -> Option<Phase> {
        let Connections { waiting, .. } = self.connections;
        let is_idle = self.is_idle(now);
        match &self.phase {
            Phase::Awake if waiting > 0 && !self.dialable => {
                self.due = now;
                Some(Phase::Starting { since: now })
            }
            Phase::Awake | Phase::Starting { .. } if is_idle => {
                self.due = now;
                Some(Phase::ConfirmingIdle)
            }
            &Phase::Starting { since }
                if self.dialable && (self.may_forward(now) || waiting == 0) =>
            {
                self.report(Change::Woke {
                    took: now.since(since),
                    held: waiting,
                });
                Some(Phase::Awake)
            }
            Phase::ConfirmingIdle if !is_idle => Some(Phase::Awake),
            // Whether the write was applied is not known, and who waits must
            // not wait for that alone: a renewal shows it as well, and
            // bars the write if it is still on its way.
            Phase::ScalingDown if waiting > 0 && self.may_ask_urgently() => Some(Phase::Awake),
            Phase::Asleep { version } if waiting > 0 => {
                let version = Some(version.clone());
                self.due = now;
                self.report(Change::Waking { waiting });
                Some(Phase::Waking {
                    since: now,
                    version,
                })
            }
            _ => None,
        }
    }

    /// Sees to it that there is a lease while there are connections, and notices
    /// when there is none to be had.
    fn maintain_lease(&mut self, now: Time) {
        let Connections { open, waiting, .. } = self.connections;
        if self.is_up() && open > 0 {
            self.lease.keep_up(now);
            self.lease.wanted(waiting > 0, now);
        }
        if waiting == 0 {
            self.lease.unwanted(now);
        }
        if !self.without_lease {
            self.lease.restart_after_absence(now);
        }
        let without_lease = self.is_up() && self.lease.fails_open(now);
        if without_lease && !self.without_lease {
            self.report(Change::WithoutLease { waiting });
        }
        self.without_lease = without_lease;
    }

    fn is_idle(&self, now: Time) -> bool {
        self.unused_since()
            .is_some_and(|since| now.since(since) >= self.config.idle_ttl)
    }

    /// Since when there has been no sign that anybody uses the app: no
    /// connection here, no renewal of another proxy, no change of scale.
    /// Without a look at the Deployment nothing is known of the others.
    fn unused_since(&self) -> Option<Time> {
        Some(self.idle_since?.max(self.seen.as_ref()?.since))
    }

    fn report(&mut self, change: Change) {
        self.commands.push_back(Command::Report(change));
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
                Phase::Waking { .. } => n == self.config.wake_replicas,
                _ => false,
            }),
            "{writes:?} is being written in {:?}",
            self.phase
        );
        debug_assert_eq!(self.idle_since.is_none(), self.connections.open > 0);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
