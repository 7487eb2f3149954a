//! The policy: a pure state machine that decides when to scale the app and when to let
//! connections through.
//!
//! Its inputs are how many connections there are, whether there is an address to dial,
//! whether a wake would lead to one, what the API server has answered, and the time.
//! Its outputs are [`Command`]s. It sees counts and versions, never an address, and
//! reads no clock.
//!
//! # Phases
//!
//! ```text
//!              idle for a TTL            read: still idle,
//!              and may sleep             last renewal written
//!   Awake ───────────────► ConfirmingIdle ──────────────► ScalingDown
//!    ▲  ▲ ◄─────────────────────┘    ▲   conflict, refused     │
//!    │  │   a connection, a lease    └─────────────────────────┤
//!    │  │   that is new, a failure                             │ zero written,
//!    │  └── seen above zero ─────────────────────┐             │ or seen
//!    │                                           │             ▼
//!    │  an address,                              └────────── Asleep
//!    │  and a lease                                            │ a connection
//!  Starting ◄──────────────── Waking ◄─────────────────────────┘
//!              wake count written,
//!              or seen above zero
//! ```
//!
//! - Replicas are written to wake (0 → N) and to sleep (N → 0), each guarded by the
//!   version at which the other value was read; never at start-up, and never from one
//!   number above zero to another, which is the HPA's job.
//! - A write whose outcome is unknown is followed by a read before any other write; a
//!   conflict too, and what was read is evaluated again. While somebody waits, a request
//!   without a reply is given up after five seconds, and its outcome is unknown.
//! - What is not known counts as awake.
//!
//! # Several proxies
//!
//! Any number of proxies may stand before one app. They agree through the object that
//! is scaled, whose changes the API server puts in one order; there is no leader, and
//! no clock that they share.
//!
//! *Lease.* A proxy that lets connections through has renewed its lease: it has written
//! a token that nobody has written before onto the object, which moves the object's
//! version, and the reply has shown replicas. The lease holds for 0.8 TTL from the
//! sending of that renewal. It is renewed every quarter of the TTL while a connection
//! lives, and once at the last close ([`lease`]). The token says for how long it is to
//! be respected: where TTLs differ, the longest that was seen lately counts.
//!
//! *Sleep.* A proxy may put the app to sleep if
//! 1. it has had no connection for a TTL, and has itself seen one and the same token,
//!    and the scale above zero, for a TTL;
//! 2. a fresh read shows that token still;
//! 3. a last renewal, guarded by the version just read, is written. It says that nobody
//!    is there (`InUse` is False), and shows that leases can be written. Its guard
//!    keeps it from hiding a newer lease;
//! 4. zero is written under the version of that renewal. The proxy's own lease ends
//!    before.
//!
//! If anybody renews meanwhile, 3 or 4 meets a conflict, and the idle check begins again.
//! After a request that failed, a sleep is at least two reads away: a proxy that could
//! not renew while the API server was gone does so first.
//!
//! *Whoever cannot share leases never scales to zero*: a proxy that may not read the
//! object sees no token, and one that may not write a lease can conclude nothing from
//! the silence of others, who may be refused as well. Nor does one that could not wake
//! the app again. Only the operator's word that there is no other proxy
//! ([`Config::single`]) makes leases unnecessary.
//!
//! *Refusals.* A 403 makes a permission a missing one once it has lasted for 30 s (`permission`);
//! until then, and on 401, the request is repeated. What is done in place of a missing
//! permission is the lesser thing, and never the more dangerous one: the scale is read
//! without its leases, an annotation carries the lease, connections are let through
//! without one and are counted.
//!
//! *No lease to be had.* Two seconds after the first attempt, connections are let
//! through without a lease: an API server that is down for everybody lets nobody scale
//! to zero. A proxy that is cut off alone for longer than its lease can lose its
//! connections to a sleep of another; nothing that the proxy can do prevents that.
//!
//! # Modules
//!
//! - `config`: what it keeps to, [`Config`] and the pace of asking;
//! - `phase`: what the app is taken to be doing, its [`Phase`];
//! - `command`: what the policy has others do, and say: [`Command`], [`Change`];
//! - `seen`: what is remembered of the object;
//! - [`lease`]: whether other proxies leave the app awake for this one;
//! - `permission`: when a refusal makes a permission a missing one;
//! - `requests`: when the API server is asked, and what;
//! - `replies` and `failures`: what follows from how a request ended;
//! - `observations`: what follows from what a watch of the object shows.
//!
//! [`Policy`] itself, here, moves on with counts, addresses and time. The last
//! four are parts of it; the others know nothing of it, nor of one another, but
//! for the types in `config` and `permission`.
//!
//! `model` explores the transition function itself, with every order of requests,
//! replies, refusals and crashes; `tests` has a table for each subject.

mod command;
mod config;
mod failures;
pub mod lease;
mod observations;
mod permission;
mod phase;
mod replies;
mod requests;
mod seen;

use std::collections::VecDeque;
use std::time::Duration;

pub use self::command::{Change, Command};
pub use self::config::{
    Config, LONGEST_PAUSE_WAITING, POLL, POLL_FORBIDDEN, POLL_STARTING, POLL_WATCHED,
};
use self::lease::Lease;
use self::permission::PermissionState;
pub use self::phase::Phase;
use self::requests::InFlight;
use self::seen::{LongestLease, Seen};
use crate::backoff::{Backoff, Random};
use crate::clock::Time;
use crate::cluster::{LeaseStore, Observation, Outcome, Request};

/// After how many set-backs in a row the operator is told.
const SET_BACKS_REPORTED: u32 = 2;

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
    /// Whether a wake would lead to an address that can be dialled.
    can_wake: bool,
    seen: Option<Seen>,
    /// How often something else has scaled the app up again after a sleep, with nobody
    /// who used it until the next sleep.
    set_backs: u32,
    /// Whether something else has scaled the app up, and nobody has used it since.
    is_set_back: bool,
    /// The longest lease that was seen lately, of whatever proxy.
    longest_lease: Option<LongestLease>,
    /// Until when an autoscaler that knows no leases takes the app to be in use.
    others_until: Option<Time>,
    /// How many replicas there were before the last sleep.
    previous_replicas: Option<u32>,
    /// Whether the operator knows that this is not known.
    unknown_previous_reported: bool,
    /// Whether the scale target was not there when it was last asked for.
    is_missing: bool,
    /// The generation that was seen last, our own writes since then included.
    generation: Option<u64>,
    lease: Lease,
    /// The permission to read the scale target.
    reads: PermissionState,
    /// Whether its scale, which is read in its place, was refused as well.
    scale_reads_refused: bool,
    /// The permission to write its scale.
    scale_writes: PermissionState,
    /// Whether the last renewal before a sleep has been made, and nobody has renewed
    /// since.
    announced: bool,
    /// Whether connections are being let through without a lease.
    without_lease: bool,
    /// Whether the scale was reported since the start, or since the scale target
    /// was missing.
    scale_reported: bool,
    /// What the operator knows of where leases are written and read.
    leases_reported: (Option<LeaseStore>, bool),
    /// Whether the operator knows that another proxy has another TTL.
    other_ttl_reported: bool,
    /// Whether a watch shows the changes of the scale target.
    watching: bool,
    /// The newest that it has shown while a request was out.
    observed: Option<Observation>,
    in_flight: Option<InFlight>,
    next_id: u64,
    /// When the next request is due.
    due: Time,
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
            can_wake: true,
            seen: None,
            set_backs: 0,
            is_set_back: false,
            longest_lease: None,
            others_until: None,
            previous_replicas: None,
            unknown_previous_reported: false,
            is_missing: false,
            generation: None,
            lease: Lease::new(&config, seed.rotate_left(16)),
            reads: PermissionState::Granted,
            scale_reads_refused: false,
            scale_writes: PermissionState::Granted,
            announced: false,
            without_lease: false,
            scale_reported: false,
            leases_reported: (Some(config.lease_store), true),
            other_ttl_reported: false,
            watching: false,
            observed: None,
            in_flight: None,
            next_id: 0,
            due: now,
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

    /// The scale target's replicas as last seen, and when the answer came that
    /// showed them.
    pub fn replicas(&self) -> Option<(u32, Time)> {
        self.seen.as_ref().map(|seen| (seen.replicas, seen.last))
    }

    /// What the app is taken to be doing, in a word: one of [`Phase::NAMES`].
    pub fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Awake | Phase::Starting { .. } if self.is_missing => Phase::MISSING,
            Phase::Awake if self.seen.is_none() => Phase::UNKNOWN,
            _ => self.phase.name(),
        }
    }

    /// Where the lease is written; `None` where that is forbidden everywhere.
    pub fn lease_location(&self) -> Option<LeaseStore> {
        self.lease.store()
    }

    /// Whether the leases of other proxies can be seen.
    pub fn sees_leases(&self) -> bool {
        !self.reads.is_missing()
    }

    /// For how long still nobody can put the app to sleep; `None` where the operator
    /// has said that there is nobody else.
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

    /// When [`Policy::gate_open`] becomes false though nothing happens, if it does.
    pub fn gate_until(&self, now: Time) -> Option<Time> {
        let until = self.lease.passes_until(now);
        until.filter(|_| self.gate_open(now))
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
        let is_up = self.is_up();
        [
            free.then_some(self.due),
            self.gives_up_at(),
            self.lease
                .due()
                .filter(|_| is_up && self.may_ask_urgently()),
            self.lease
                .fails_open_at()
                .filter(|_| is_up && !self.without_lease),
            self.sleeps_at().filter(|_| is_up),
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
    pub fn update_connections(&mut self, connections: Connections, now: Time) {
        let before = std::mem::replace(&mut self.connections, connections);
        let had_some = before.open > 0 || connections.accepted != before.accepted;
        if connections.open > 0 {
            self.idle_since = None;
        } else if had_some || self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
        if connections.waiting > 0 && before.waiting == 0 && !self.gate_open(now) {
            // A pause that was long because nobody waited is too long now, also one
            // that the server has asked for.
            self.due = self.due.min(now + LONGEST_PAUSE_WAITING);
        }
        if had_some || connections.open > 0 {
            self.reset_set_backs();
        }
        if connections.open == 0 && had_some {
            self.lease.last_close(now);
        }
        self.settle(now);
    }

    /// There is an address that may be dialled, or there is none.
    pub fn set_dialable(&mut self, dialable: bool, now: Time) {
        let appeared = dialable && !self.dialable;
        self.dialable = dialable;
        if appeared && matches!(self.phase, Phase::Asleep { .. }) {
            // A pod of a new generation: somebody else has scaled up.
            self.due = now;
        }
        self.settle(now);
    }

    /// A wake would lead to an address that can be dialled, or it would not: the
    /// endpoints cannot be listed, or the Service has no such port. Whoever cannot wake
    /// the app does not put it to sleep.
    pub fn set_can_wake(&mut self, can_wake: bool, now: Time) {
        if self.can_wake != can_wake {
            self.can_wake = can_wake;
            self.settle(now);
        }
    }

    /// The API server has answered, or failed to. An answer to anything but
    /// the last request is of no interest: the request was replaced.
    pub fn reply(&mut self, id: u64, outcome: Outcome, now: Time) {
        let Some(answered) = self.in_flight.take_if(|asked| asked.id == id) else {
            return;
        };
        match outcome {
            Outcome::Scale(scale) => self.learn(&answered, scale, now),
            failure => self.fail(&answered.request, &failure, now),
        }
        self.take_in_observed(now);
        self.settle(now);
    }

    // --- What follows from what is known ---

    /// Moves on from phases that have been overtaken, then asks what is due.
    fn settle(&mut self, now: Time) {
        if self.give_up_what_is_overdue(now) {
            self.take_in_observed(now);
        }
        while let Some(next) = self.next_phase(now) {
            self.phase = next;
        }
        self.maintain_lease(now);
        self.report_leases();
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
                self.announced = false;
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
        if without_lease && !self.without_lease && self.lease.store().is_some() {
            self.report(Change::WithoutLease { waiting });
        }
        self.without_lease = without_lease;
    }

    /// Tells the operator when leases are written to another place than before, or
    /// cannot be read any more, or can again.
    fn report_leases(&mut self) {
        let (store, visible) = (self.lease.store(), self.sees_leases());
        let before = std::mem::replace(&mut self.leases_reported, (store, visible));
        if store != before.0 {
            self.report(Change::LeaseLocation(store));
        }
        if visible != before.1 {
            self.report(Change::LeasesVisible(visible));
        }
    }

    fn is_idle(&self, now: Time) -> bool {
        self.sleeps_at().is_some_and(|at| now >= at)
    }

    /// When the app has not been used for so long that it may be put to sleep from
    /// here, if it may be at all.
    fn sleeps_at(&self) -> Option<Time> {
        if !self.can_wake || !self.shares_leases() {
            return None;
        }
        let unused_since = self.unused_since()?;
        let ours = unused_since + self.idle_ttl();
        let at = match &self.longest_lease {
            Some(longest) => ours.max(longest.ends(unused_since)),
            None => ours,
        };
        let others = self.others_until.unwrap_or_default();
        Some(at.max(others).max(self.scale_writes.next_attempt()))
    }

    /// The idle TTL, doubled for each time that the app was set back, but for the first.
    fn idle_ttl(&self) -> Duration {
        let doublings = if self.is_set_back {
            self.set_backs.saturating_sub(1)
        } else {
            0
        };
        let doublings = doublings.min(self.config.set_back_doublings);
        self.config.idle_ttl.saturating_mul(1 << doublings)
    }

    /// There is a sign that somebody uses the app.
    fn reset_set_backs(&mut self) {
        (self.set_backs, self.is_set_back) = (0, false);
    }

    /// The app is at zero again. If nobody has used it since something else has scaled
    /// it up, there is probably something that always does.
    fn notice_set_back(&mut self) {
        if !std::mem::take(&mut self.is_set_back) {
            return;
        }
        self.set_backs = self.set_backs.saturating_add(1);
        if self.set_backs == SET_BACKS_REPORTED {
            self.report(Change::SetBack {
                times: self.set_backs,
            });
        }
    }

    /// Whether the leases of others are seen, and can be answered with one of our
    /// own, or there are no others. What is seen alone would not do: where nobody may
    /// write a lease, everybody's silence means nothing.
    fn shares_leases(&self) -> bool {
        self.config.single || (self.sees_leases() && self.lease.store().is_some())
    }

    /// Since when there has been no sign that anybody uses the app: no
    /// connection here, no renewal of another proxy, no wake.
    /// Without a look at the scale target nothing is known of the others.
    fn unused_since(&self) -> Option<Time> {
        Some(self.idle_since?.max(self.seen.as_ref()?.since))
    }

    /// How many replicas a wake asks for.
    fn wake_replicas(&self) -> u32 {
        let previous = self
            .previous_replicas
            .filter(|_| self.config.wakes_to_previous);
        previous.unwrap_or(self.config.wake_replicas)
    }

    fn report_unknown_previous(&mut self, replicas: u32) {
        let is_unknown = self.config.wakes_to_previous && self.previous_replicas.is_none();
        if is_unknown && !std::mem::replace(&mut self.unknown_previous_reported, true) {
            self.report(Change::PreviousUnknown { replicas });
        }
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
                Phase::Waking { .. } => n > 0,
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
