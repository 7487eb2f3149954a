//! [`Policy`]: the pure state machine of an app. It decides when to scale the app, and when its
//! connections may be dialled (the *gate*).
//!
//! Its inputs are the number of connections, whether there is an address to dial, whether a
//! wake would lead to one, the outcomes of requests, and the time. Its outputs are
//! [`Command`]s. It sees counts and versions, never an address, and reads no clock.
//!
//! # Phases
//!
//! ```text
//!              idle for a TTL            read: still idle,
//!              and may sleep             final renewal written
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
//! - After a write with an unknown outcome, or a conflict, the object is read before any
//!   other write. While connections wait, a request without a reply is given up after five
//!   seconds, and its outcome is unknown.
//! - An app whose scale is not known counts as awake.
//!
//! # Several proxies
//!
//! Any number of proxies may serve one app. They coordinate through the scale target: the API
//! server serialises its changes. There is no leader and no common clock.
//!
//! *Lease.* A proxy opens its gate under a lease. To get one, it *renews*: it writes a new token
//! onto the object, which changes the object's version, and the reply must show replicas. The lease
//! lasts for 0.8 TTL from the moment at which the renewal was sent. It is renewed every quarter of
//! the TTL while a connection is open, and once at the last close ([`lease`]).
//!
//! *Unequal TTLs.* The token states the TTL of its proxy, and every proxy respects each lease that
//! it has seen lately for that TTL. But the object shows the last renewal only: that of a proxy
//! with a shorter TTL hides a longer lease from every proxy that has not read the object in
//! between. A proxy that finds a shorter lease than its own on the object therefore
//! renews again while it has a connection or a lease. It reads the object, and renews, twice
//! within the shorter TTL. A proxy with that TTL may sleep only after a whole TTL without a
//! connection, in which the longer lease is then shown.
//!
//! *Sleep.* A proxy may put the app to sleep if
//! 1. it has had no connection for a TTL, and has itself seen one and the same token,
//!    and the scale above zero, for a TTL;
//! 2. a fresh read shows that token still;
//! 3. the *final renewal*, guarded by the version just read, is written. It states that the
//!    proxy has no connections (`InUse` is False), and proves that leases can be written. Its
//!    guard keeps it from replacing a newer lease;
//! 4. zero is written, guarded by the version of that renewal. The proxy's own lease ends before
//!    this write.
//!
//! If another proxy renews meanwhile, 3 or 4 fails with a conflict, and the idle check begins
//! again. After a failed request, at least two more reads come before a sleep, so that
//! another proxy that could not renew during an outage does so first.
//!
//! *A proxy that cannot share leases never scales to zero.* Without permission to read the
//! object it sees no tokens. Without permission to write a lease it cannot rely on the absence
//! of renewals, because the other proxies may be refused too. A proxy that could not wake the
//! app again does not scale it to zero either. Leases are unnecessary only if the operator has
//! declared that there is no other proxy ([`Config::single`]).
//!
//! *Refusals.* A permission counts as missing once every reply was a 403 for 30 s
//! ([`crate::refusal`]). Until then, and after a 401, the request is repeated. The fallbacks for a
//! missing permission are never less safe: the scale is read without the leases, the lease is
//! written into an annotation, connections are dialled without a lease and counted.
//!
//! *Fail-open.* If no renewal has succeeded for two seconds, the gate opens without a lease:
//! while the API server is down, no proxy can scale to zero. A proxy that alone has lost the
//! API server for longer than its lease may lose its connections to another proxy's sleep,
//! which it cannot prevent.
//!
//! # Modules
//!
//! - `config`: [`Config`], and the intervals between requests;
//! - `phase`: the [`Phase`] of the app;
//! - `command`: the outputs, [`Command`] and [`Change`];
//! - `seen`: the last state of the object, and since when it shows no use;
//! - [`lease`]: the lease of this proxy;
//! - `permission`: whether a permission is missing, and when it is tried again;
//! - `idle`: whether the app is idle, and whether something keeps scaling it up or down;
//! - `overrides`: what an operator has ordered by a schedule or by annotations;
//! - `wakes`: when a wake begins;
//! - `sleep_due`: when it may sleep, and what keeps it awake until then;
//! - `requests`: which request is made when;
//! - `replies` and `failures`: the transitions after a reply and after a failure;
//! - `observations`: the transitions after an event of the watch of the object;
//! - `transitions`: the transitions that need no reply;
//! - `wake_limits`: how often the app may be woken, and its least times awake and asleep.
//!
//! [`Policy`], in this file, has the inputs and the outputs. `idle`, `wakes`, `sleep_due`,
//! `requests`, `replies`, `failures`, `observations` and `transitions` are parts of it. The others
//! use neither it nor one another, except the types in `command`, `config` and `permission`.
//!
//! `model` explores the transition function with every order of requests, replies, refusals
//! and crashes. `tests` has a table of cases for each subject.

mod command;
mod config;
mod failures;
mod idle;
pub mod lease;
mod observations;
mod overrides;
mod permission;
mod phase;
mod replies;
mod requests;
mod rollout;
mod seen;
mod sleep_due;
mod transitions;
mod wake_limits;
mod wakes;

use std::collections::VecDeque;
use std::time::Duration;

pub use self::command::{Change, Command, WakeDelay, WakeReason};
pub use self::config::{
    Config, MAX_PAUSE_WAITING, POLL, POLL_AMONG_APPS, POLL_FORBIDDEN, POLL_STARTING, POLL_WATCHED,
};
use self::lease::Lease;
pub use self::overrides::Windows;
use self::overrides::{Delay, Overrides};
use self::permission::PermissionState;
pub use self::phase::Phase;
use self::requests::InFlight;
use self::rollout::{RolloutChange, RolloutWatch};
use self::seen::{LongerLeases, Seen, SeenTtl};
pub use self::sleep_due::{KeepAwakeRule, SleepDue};
use self::wake_limits::WakeLimits;
use crate::backoff::{Backoff, Random};
use crate::clock::Time;
use crate::cluster::{LeaseStore, LeaseToken, Observation, Outcome, Permission, Rollout};

/// The numbers of counted connections, as the engine counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Connections {
    /// How often a connection has begun to count, since the start.
    pub uses: u64,
    /// Counted connections that are open now.
    pub open: usize,
    /// The open connections that wait for a pod, or for the lease alone.
    pub waiting: usize,
    /// The waiting connections that a pod serves, and whose next byte waits for the lease. A
    /// sleep ends them.
    pub resuming: usize,
}

/// The state machine of an app: see the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    config: Config,
    phase: Phase,
    connections: Connections,
    /// When the last connection ended, or the program started; `None` while a connection is
    /// open.
    idle_since: Option<Time>,
    dialable: bool,
    /// Whether a wake would lead to an address that can be dialled.
    can_wake: bool,
    seen: Option<Seen>,
    /// Whether the app would be asleep but for the dry run.
    would_sleep: bool,
    /// The number of sleeps in a row that something else has undone (`idle`).
    undone_sleeps: u32,
    /// Whether something else has scaled the app up, and it was not used since.
    woken_by_others: bool,
    /// The leases longer than this proxy's TTL that were seen lately.
    longer_leases: LongerLeases,
    /// The shortest TTL below this proxy's own that was seen lately.
    shorter_ttl: Option<SeenTtl>,
    /// Until when the app is in use according to an ancestor's replica, which knows no leases.
    ancestor_until: Option<Time>,
    /// How often the app may be woken, and how soon it may sleep after that.
    wake_limits: WakeLimits,
    /// What an operator has ordered for now.
    overrides: Overrides,
    /// The rollout in progress.
    rollout: RolloutWatch,
    /// What delays the next wake; `None` if none is wanted, or nothing delays it.
    delay: Option<Delay>,
    /// The number of replicas before the last sleep.
    previous_replicas: Option<u32>,
    /// Whether a warning was logged that this number is not known.
    unknown_previous_logged: bool,
    /// Whether the last request found no scale target.
    is_missing: bool,
    /// The generation that was seen last, with this proxy's own writes since then added.
    generation: Option<u64>,
    lease: Lease,
    /// The permission to read the scale target.
    reads: PermissionState,
    /// Whether reading its scale, which is the fallback, was refused too.
    scale_reads_refused: bool,
    /// The permission to write its scale.
    scale_writes: PermissionState,
    /// Whether the final renewal was written, and no proxy has renewed since.
    final_renewal_written: bool,
    /// Whether the gate is open without a lease.
    without_lease: bool,
    /// Whether the scale was reported since the start, or since the scale target
    /// was missing.
    scale_logged: bool,
    /// The places of the leases that were logged.
    leases_logged: (Option<LeaseStore>, bool),
    /// Whether a warning was logged that another proxy has another TTL.
    other_ttl_logged: bool,
    /// Whether a watch shows the changes of the scale target.
    watching: bool,
    /// The newest event of the watch while a request was in flight.
    observed: Option<Observation>,
    in_flight: Option<InFlight>,
    next_id: u64,
    /// The longest interval between reads while nothing happens, where several apps of a process
    /// share the requests.
    spread: Duration,
    /// Whether the first interval of that kind has begun.
    is_spread_out: bool,
    /// When the next request is due.
    due: Time,
    backoff: Backoff,
    random: Random,
    commands: VecDeque<Command>,
}

impl Policy {
    /// The policy of an app at the start of the proxy. The app counts as awake, and is not
    /// put to sleep before a whole idle TTL.
    pub fn new(config: Config, seed: u64, now: Time) -> Self {
        Policy {
            phase: Phase::Awake,
            connections: Connections::default(),
            idle_since: Some(now),
            dialable: false,
            can_wake: true,
            seen: None,
            would_sleep: false,
            undone_sleeps: 0,
            woken_by_others: false,
            longer_leases: LongerLeases::default(),
            shorter_ttl: None,
            ancestor_until: None,
            wake_limits: WakeLimits::new(&config),
            overrides: Overrides::default(),
            rollout: RolloutWatch::default(),
            delay: None,
            previous_replicas: None,
            unknown_previous_logged: false,
            is_missing: false,
            generation: None,
            lease: Lease::new(&config, seed.rotate_left(16)),
            reads: PermissionState::default(),
            scale_reads_refused: false,
            scale_writes: PermissionState::default(),
            final_renewal_written: false,
            without_lease: false,
            scale_logged: false,
            leases_logged: (Some(config.lease_store), true),
            other_ttl_logged: false,
            watching: false,
            observed: None,
            in_flight: None,
            next_id: 0,
            spread: Duration::ZERO,
            is_spread_out: false,
            due: now,
            backoff: Backoff::new(seed),
            random: Random::new(seed.rotate_left(32)),
            commands: VecDeque::new(),
            config,
        }
    }

    /// The policy that replaces this one when the settings change: that of a start of the proxy,
    /// with the present connections. Replies to requests of this one are ignored by it.
    pub fn restarted(&self, config: Config, seed: u64, now: Time) -> Self {
        Policy {
            connections: self.connections,
            idle_since: (self.connections.open == 0).then_some(now),
            dialable: self.dialable,
            can_wake: self.can_wake,
            watching: self.watching,
            overrides: self.overrides.clone(),
            spread: self.spread,
            is_spread_out: self.is_spread_out,
            next_id: self.next_id,
            ..Policy::new(config, seed, now)
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The phase of the app.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The replicas of the scale target as last seen, and when the reply came.
    pub fn replicas(&self) -> Option<(u32, Time)> {
        self.seen.as_ref().map(|seen| (seen.replicas, seen.last))
    }

    /// The name of the phase: one of [`Phase::NAMES`].
    pub fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Awake | Phase::Starting { .. } if self.is_missing => Phase::MISSING,
            Phase::Awake if self.seen.is_none() => Phase::UNKNOWN,
            _ => self.phase.name(),
        }
    }

    /// Where the lease is written; `None` if that is forbidden everywhere.
    pub fn lease_location(&self) -> Option<LeaseStore> {
        self.lease.store()
    }

    /// The token of the last renewal that was seen, of any proxy.
    pub fn lease_token(&self) -> Option<&LeaseToken> {
        self.seen.as_ref()?.lease_token.as_ref()
    }

    /// Whether the leases of other proxies can be seen.
    pub fn sees_leases(&self) -> bool {
        !self.reads.is_missing()
    }

    /// Whether leases can be read and written, or are not needed. To read them is not enough:
    /// if no proxy may write a lease, the absence of renewals means nothing.
    fn shares_leases(&self) -> bool {
        self.config.single || (self.sees_leases() && self.lease.store().is_some())
    }

    /// The rest of the lease; `None` if none is needed.
    pub fn lease_left(&self, now: Time) -> Option<Duration> {
        self.lease.remaining(now)
    }

    /// Whether there is a valid lease now, or none is needed.
    pub fn has_lease(&self, now: Time) -> bool {
        self.lease.is_valid(now)
    }

    /// Whether connections may be dialled now.
    pub fn gate_open(&self, now: Time) -> bool {
        let awake = matches!(self.phase, Phase::Awake | Phase::ConfirmingIdle);
        awake && self.dialable && self.may_forward(now)
    }

    /// The permission that the request in flight needs, if it has that number.
    pub fn permission_of(&self, id: u64) -> Option<Permission> {
        let in_flight = self.in_flight.as_ref().filter(|it| it.id == id);
        in_flight.map(|it| it.request.permission())
    }

    /// When [`Policy::gate_open`] becomes false without another input, if it does.
    pub fn gate_until(&self, now: Time) -> Option<Time> {
        let until = self.lease.open_until(now);
        until.filter(|_| self.gate_open(now))
    }

    /// Whether this proxy has a valid lease, or fails open.
    fn may_forward(&self, now: Time) -> bool {
        self.lease.is_valid(now) || self.lease.fails_open(now)
    }

    /// The next command; `None` after the last one.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Policy::handle_timeout`] is to be called even without another input.
    pub fn poll_timeout(&self) -> Option<Time> {
        let free = self.in_flight.is_none();
        let is_awake_or_starting = self.is_awake_or_starting();
        [
            free.then_some(self.due),
            self.gives_up_at(),
            self.lease
                .due()
                .filter(|_| is_awake_or_starting && self.may_send_urgent()),
            self.lease
                .fails_open_at()
                .filter(|_| is_awake_or_starting && !self.without_lease),
            self.sleeps_at().filter(|_| is_awake_or_starting),
            self.delay.as_ref().and_then(|delay| delay.until),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether the app counts as awake and no sleep is being prepared.
    fn is_awake_or_starting(&self) -> bool {
        matches!(self.phase, Phase::Awake | Phase::Starting { .. })
    }

    /// Makes the transitions that are due. To be called at [`Policy::poll_timeout`] or later.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance(now);
    }

    /// Sets the counts of the engine.
    pub fn update_connections(&mut self, connections: Connections, now: Time) {
        let before = std::mem::replace(&mut self.connections, connections);
        let had_some = before.open > 0 || connections.uses != before.uses;
        if connections.open > 0 {
            self.idle_since = None;
        } else if had_some || self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
        if connections.waiting > 0 && before.waiting == 0 && !self.gate_open(now) {
            // A pause is shortened now that connections wait, also one that the server has
            // asked for.
            self.due = self.due.min(now + MAX_PAUSE_WAITING);
        }
        if had_some || connections.open > 0 {
            self.would_sleep = false;
            self.forget_undone_sleeps();
        }
        if connections.open == 0 && had_some {
            self.lease.on_last_close(now);
        }
        self.advance(now);
    }

    /// Sets the windows of the schedule that are open now.
    pub fn set_windows(&mut self, windows: Windows, now: Time) {
        if self.overrides.set_windows(windows) {
            self.advance(now);
        }
    }

    /// Sets whether there is an address that may be dialled.
    pub fn set_dialable(&mut self, dialable: bool, now: Time) {
        let appeared = dialable && !self.dialable;
        self.dialable = dialable;
        if appeared && matches!(self.phase, Phase::Asleep { .. }) {
            // A pod that is not quarantined: something else has scaled up.
            self.due = now;
        }
        self.advance(now);
    }

    /// Sets whether a wake would lead to an address. It would not if the endpoints cannot be
    /// listed, or the Service has no such port. Then the app is not put to sleep.
    pub fn set_can_wake(&mut self, can_wake: bool, now: Time) {
        if self.can_wake != can_wake {
            self.can_wake = can_wake;
            self.advance(now);
        }
    }

    /// Sets the rollout in progress. It counts as use: the idle time begins again at its end.
    pub fn set_rollout(&mut self, rollout: Option<Rollout>, now: Time) {
        match self.rollout.update(rollout, now) {
            None => return,
            Some(RolloutChange::Begun { updated, pods }) => {
                self.report(Change::RolloutBegun { updated, pods });
            }
            Some(RolloutChange::Over) => {
                self.idle_since = self.idle_since.map(|since| since.max(now));
                self.report(Change::RolloutOver);
            }
        }
        self.advance(now);
    }

    /// Sets the number of apps of the process. They share the requests while nothing happens.
    pub fn set_apps(&mut self, apps: usize) {
        let others = u32::try_from(apps.saturating_sub(1)).unwrap_or(u32::MAX);
        self.spread = POLL_AMONG_APPS.saturating_mul(others);
    }

    /// Handles the outcome of a request. It is ignored unless it belongs to the last request,
    /// because earlier ones were replaced.
    pub fn reply(&mut self, id: u64, outcome: Outcome, now: Time) {
        let Some(answered) = self.in_flight.take_if(|it| it.id == id) else {
            return;
        };
        match outcome {
            Outcome::Scale(scale) => self.on_scale(&answered, scale, now),
            failure => self.on_failure(&answered.request, &failure, now),
        }
        self.apply_observed(now);
        self.advance(now);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
