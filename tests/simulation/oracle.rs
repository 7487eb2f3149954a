//! What must be true, whatever happens: a shadow of every proxy, kept from
//! what goes in and out of it, and the rules that are checked against it.
//!
//! The oracle knows nothing of the policy. It knows when each renewal was
//! sent and answered, when each connection opened and closed, and which faults
//! have hit whom; a proxy that none has hit for a while is *calm*, and more is
//! asked of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{LeaseToken, Outcome, Request, ResourceVersion, Scale};
use zpa::daemon::pods::RELEASE_AFTER;
use zpa::policy;
use zpa::policy::lease::Lease;

use crate::deployment::{self, Change, Who};
use crate::plan::Plan;
use crate::pods::Cause;
use crate::sockets::End;

/// A rule that was broken, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// The name of the rule.
    pub rule: &'static str,
    /// What has happened.
    pub what: String,
}

/// What a client was told in the end, by the rule that allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientResult {
    /// It got every byte.
    Served,
    /// It has reset the connection itself.
    ResetByItself,
    /// No proxy was there to connect to.
    NoProxy,
    /// No pod took it up to the hold limit.
    HoldLimit,
    /// Its proxy was killed.
    ProxyKilled,
    /// Its proxy has been drained past the deadline.
    Drained,
    /// Its pod has crashed.
    PodCrashed,
    /// Its pod was killed by an operator, or by a controller that is not ours.
    ScaledByOthers,
    /// A proxy with a shorter TTL has put the app to sleep that has seen no lease of
    /// its proxy: other renewals have hidden them, and its proxy was stopped or in
    /// trouble, so that it could not renew again.
    LeaseHidden,
    /// Its proxy was stopped for so long that its lease has run out.
    ProxyStopped,
    /// Its proxy could not renew for longer than its lease, others could:
    /// the unavoidable loss.
    CutOff,
    /// It was let through without a lease, because its proxy could not renew.
    FailedOpen,
    /// The controllers have left a pod listed as ready for longer after a wake
    /// than any pod that is about to die should be.
    SlowControllers,
}

/// The longest that a proxy with a client that waits may do nothing about it: one
/// reply, header or hung request, or one pause. The half second is for the
/// messages themselves.
const LONGEST_SILENCE: Duration = Duration::from_millis(5_500);
/// How long after the last trouble a proxy that has connections may be without
/// lease: the longest pause between two renewals, and their time.
const RECOVERY: Duration = Duration::from_secs(11);
/// How long after it other things may be late: the longest pause there is.
const AFTERMATH: Duration = Duration::from_secs(45);
/// How long somebody may wait in a calm world.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The rule about how soon an app falls asleep.
pub const SLEEPS: &str =
    "the app sleeps within 1.1 TTL, or 1.3 where it is not watched or TTLs differ";
/// After how many TTLs without a connection it does if every proxy watches it, and all have
/// one TTL: a renewal at the last close is a tenth late at most.
const WATCHED_SLEEP: f64 = 1.1;
/// Otherwise such a renewal is seen a fifth late at most, or made once more within half of a
/// shorter TTL, if it was hidden.
const UNWATCHED_SLEEP: f64 = 1.3;
/// How late beyond that an app may fall asleep: replies, and a conflict.
const SLEEP_SLACK: Duration = Duration::from_secs(5);
/// How far a time may be off that was converted from one clock to another.
const ROUNDING: Duration = Duration::from_millis(1);
/// Requests in a minute, at most: asleep, awake, and under whatever faults.
/// Where the TTL is so short that a fifth of it is below the poll interval, as
/// many more as that makes.
const ASLEEP: usize = 10;
const ASLEEP_WATCHED: usize = 4;
const AWAKE: usize = 20;
/// Where neither place takes a lease, renewals alternate between them.
const STORM: usize = 120;
const MINUTE: Duration = Duration::from_secs(60);

/// A dial.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// When it began.
    pub at: Time,
    /// Whether under a lease.
    pub leased: bool,
}

/// A proxy with a client that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Its process.
    pub pid: usize,
    /// Since when the client waits.
    pub since: Time,
    /// Whether the client may be dialled, so that it waits for a pod alone.
    pub gate_open: bool,
}

/// What is known of one process.
struct Shadow {
    slot: usize,
    started: Time,
    alive: bool,
    stopped: bool,
    /// The send times of renewals that are out.
    renewing: BTreeMap<u64, Time>,
    /// Its lease: from when to when, by our clock.
    lease: Option<(Time, Time)>,
    /// Whether a reply has ended it that is going to be read in its next turn.
    lease_ends: bool,
    trouble: Time,
    /// Until when it is in trouble that is its own.
    own_trouble: Time,
    last_stop: Option<Time>,
    /// When it has last asked for something or heard of it, or has gone on.
    stirred: Time,
    /// The versions that replies have shown since the last write that may have
    /// been done, or was refused because of the version.
    read: Vec<ResourceVersion>,
    /// The newest version that it was shown.
    newest: u64,
    /// Since when it watches the Deployment, as far as it knows.
    watches_since: Option<Time>,
    /// The leases that replies have shown it.
    shown: Shown,
    open: usize,
    /// When a connection has ended last.
    last_close: Option<Time>,
    /// When one has that ended under a lease.
    last_leased: Option<Time>,
    requests: VecDeque<(Time, String)>,
}

/// What a process was shown of leases.
#[derive(Default)]
struct Shown {
    token: Option<LeaseToken>,
    /// When a renewal was first shown to it last, by the TTL of who has renewed.
    renewals: BTreeMap<Duration, Time>,
}

impl Shown {
    /// A reply has shown this.
    fn reply(&mut self, scale: &Scale, now: Time) {
        if scale.lease_token.is_some() && scale.lease_token != self.token {
            self.token.clone_from(&scale.lease_token);
            self.renewals.extend(scale.lease_ttl.map(|ttl| (ttl, now)));
        }
    }

    /// Whether it has seen a renewal since then by who has that TTL or a longer one.
    fn has_seen(&self, ttl: Duration, since: Time) -> bool {
        self.renewals.range(ttl..).any(|(_, at)| *at >= since)
    }
}

/// The watcher.
pub struct Oracle {
    /// The longest idle TTL,
    ttl: Duration,
    /// and that of each place.
    ttls: Vec<Duration>,
    drift: f64,
    shadows: Vec<Shadow>,
    /// Until when each place is in trouble.
    slots: BTreeMap<usize, Time>,
    /// Until when everybody is.
    world: Time,
    /// Until when the controllers are slow.
    slow: Time,
    /// Until when a pod fails that is listed, which makes proxies list again.
    pods_fail: Time,
    /// The last change of scale.
    last_change: Option<Change>,
    /// The last change from zero.
    last_wake: Time,
    /// What each proxy's open connections are excused with, by sleep.
    excuses: BTreeMap<(Time, usize), ClientResult>,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// Every change of scale.
    pub history: Vec<Change>,
    /// What the clients were told.
    pub told: BTreeMap<ClientResult, u64>,
    /// Effective wakes.
    pub wakes: u64,
    /// Sleeps.
    pub sleeps: u64,
    /// The most requests of a process in a minute.
    pub most_requests: usize,
}

impl Oracle {
    /// Knows nobody yet.
    pub fn new(plan: &Plan) -> Self {
        Oracle {
            ttl: plan.ttl,
            ttls: (0..plan.slots).map(|slot| plan.ttl_of(slot)).collect(),
            drift: plan.drift,
            shadows: Vec::new(),
            slots: BTreeMap::new(),
            world: Time::default(),
            slow: Time::default(),
            pods_fail: Time::default(),
            last_change: None,
            last_wake: Time::default(),
            excuses: BTreeMap::new(),
            violation: None,
            history: Vec::new(),
            told: BTreeMap::new(),
            wakes: 0,
            sleeps: 0,
            most_requests: 0,
        }
    }

    fn violated(&mut self, rule: &'static str, what: String, at: Time) {
        self.violation.get_or_insert(Violation { at, rule, what });
    }

    // --- What happens to a process ---

    /// A process has started.
    pub fn started(&mut self, slot: usize, now: Time) {
        self.shadows.push(Shadow {
            slot,
            started: now,
            alive: true,
            stopped: false,
            renewing: BTreeMap::new(),
            lease: None,
            lease_ends: false,
            trouble: Time::default(),
            own_trouble: Time::default(),
            last_stop: None,
            stirred: now,
            read: Vec::new(),
            newest: 0,
            watches_since: None,
            shown: Shown::default(),
            open: 0,
            last_close: None,
            last_leased: None,
            requests: VecDeque::new(),
        });
    }

    /// A process has ended, and with it all that it had open.
    pub fn died(&mut self, pid: usize, now: Time) {
        if std::mem::take(&mut self.shadows[pid].open) > 0 {
            self.closed(pid, now);
        }
        self.shadows[pid].alive = false;
    }

    /// A process was stopped.
    pub fn stopped(&mut self, pid: usize, now: Time) {
        self.shadows[pid].stopped = true;
        self.shadows[pid].last_stop = Some(now);
    }

    /// It goes on.
    pub fn resumed(&mut self, pid: usize, now: Time) {
        let shadow = &mut self.shadows[pid];
        (shadow.stopped, shadow.trouble, shadow.stirred) = (false, now, now);
    }

    /// One request of that process will have met with trouble; `alone` if not
    /// because everybody's does.
    pub fn troubled(&mut self, pid: usize, until: Time, alone: bool) {
        let shadow = &mut self.shadows[pid];
        shadow.trouble = until.max(shadow.trouble);
        if alone {
            shadow.own_trouble = until.max(shadow.own_trouble);
        }
    }

    /// One place, or everybody, is in trouble until then.
    pub fn hit(&mut self, slot: Option<usize>, until: Time) {
        let trouble = match slot {
            Some(slot) => self.slots.entry(slot).or_default(),
            None => &mut self.world,
        };
        *trouble = until.max(*trouble);
    }

    /// The controllers are slow until then.
    pub fn slowed(&mut self, until: Time) {
        self.slow = until;
        self.hit(None, until + Duration::from_secs(30));
    }

    /// A pod that is listed fails until then.
    pub fn pod_fails(&mut self, until: Time) {
        self.pods_fail = until.max(self.pods_fail);
    }

    /// A process that has been told that a wake would lead nowhere writes zero.
    pub fn sleeps_without_a_way_back(&mut self, pid: usize, now: Time) {
        let rule = "who could not wake the app does not put it to sleep";
        self.violated(rule, format!("p{pid} writes zero"), now);
    }

    /// Somebody waits for a pod that fails, and another one would take the connection.
    pub fn waits_in_vain(&mut self, what: String, now: Time) {
        let rule = "nobody waits for a pod that has failed beside another";
        self.violated(rule, what, now);
    }

    /// Since when a process has met with no trouble.
    fn calm_since(&self, pid: usize) -> Time {
        let shadow = &self.shadows[pid];
        let slot = self.slots.get(&shadow.slot).copied().unwrap_or_default();
        let own = shadow.started.max(shadow.trouble);
        own.max(slot).max(self.world)
    }

    // --- Its connections ---

    /// What it has open now.
    pub fn open(&mut self, pid: usize, open: usize) {
        self.shadows[pid].open = open;
    }

    /// Whoever leaves before there is a lease has left too early to stop a sleep
    /// that was on its way when he came.
    fn closed(&mut self, pid: usize, now: Time) {
        let leased = self.has_lease(pid, now);
        let shadow = &mut self.shadows[pid];
        shadow.last_close = Some(now);
        if leased {
            shadow.last_leased = Some(now);
        }
    }

    /// It dials for a client; whether under a lease.
    pub fn dialled(&mut self, pid: usize, now: Time) -> bool {
        let leased = self.has_lease(pid, now);
        if !leased && !self.may_lack_lease(pid, now) {
            let lease = self.shadows[pid].lease;
            let what = format!("p{pid} dials, and its lease is {lease:?}");
            self.violated("nothing is forwarded without a lease", what, now);
        }
        leased
    }

    /// It has read all replies. What it has dialled before it did was under the
    /// lease that it knew of. It may claim less of a lease than its renewals would give,
    /// here until `claimed`: it lets nothing through without one.
    pub fn turned(&mut self, pid: usize, claimed: Time) {
        let shadow = &mut self.shadows[pid];
        if std::mem::take(&mut shadow.lease_ends) {
            shadow.lease = None;
        }
        if let Some((_, until)) = &mut shadow.lease
            && claimed + ROUNDING < *until
        {
            *until = claimed;
        }
    }

    fn has_lease(&self, pid: usize, now: Time) -> bool {
        self.shadows[pid]
            .lease
            .is_some_and(|(_, until)| now < until)
    }

    fn may_lack_lease(&self, pid: usize, now: Time) -> bool {
        self.is_in_trouble(pid, now)
    }

    /// Whether it is in trouble, or has not had the time to get over it.
    fn is_in_trouble(&self, pid: usize, now: Time) -> bool {
        now < self.calm_since(pid) + RECOVERY && self.has_had_trouble(pid)
    }

    fn has_had_trouble(&self, pid: usize) -> bool {
        self.calm_since(pid) > self.shadows[pid].started
    }

    // --- Its requests ---

    /// A request has been sent.
    pub fn sent(&mut self, pid: usize, ticket: u64, request: &Request, now: Time) {
        let shadow = &mut self.shadows[pid];
        shadow.stirred = now;
        match request {
            Request::Read | Request::ReadScale => {}
            Request::RenewLease(_) => {
                shadow.renewing.insert(ticket, now);
            }
            Request::WriteScale { guard, replicas } => {
                if *replicas == 0 {
                    // Who puts the app to sleep gives its own lease up first.
                    shadow.lease = None;
                }
                if !shadow.read.contains(guard) {
                    let what = format!("p{pid} writes at {guard}, and has not seen that since");
                    self.violated("every write follows a fresh read", what, now);
                }
            }
        }
        self.counted(pid, deployment::asked(request), now);
    }

    /// A request to the API server counts, whatever it is.
    pub fn counted(&mut self, pid: usize, kind: String, now: Time) {
        let calm_since = self.calm_since(pid);
        let replicas = self.last_change;
        let polls = |interval: Duration| MINUTE.as_millis() / interval.as_millis();
        let short_ttl = polls((self.ttl_of(pid) / 5).min(policy::POLL)) - polls(policy::POLL);
        let short_ttl = 2 * short_ttl as usize;
        let watched_poll = (self.ttl_of(pid) / 4).min(policy::POLL_WATCHED);
        let watched_short_ttl = (polls(watched_poll) - polls(policy::POLL_WATCHED)) as usize;
        let shadow = &mut self.shadows[pid];
        shadow.requests.push_back((now, kind));
        while shadow
            .requests
            .front()
            .is_some_and(|(at, _)| now.since(*at) > MINUTE)
        {
            shadow.requests.pop_front();
        }
        let count = shadow.requests.len();
        self.most_requests = self.most_requests.max(count);
        let quiet = replicas.map_or(Time::default(), |change| change.at);
        let quiet = quiet.max(self.pods_fail);
        let is_calm = now.since(calm_since.max(quiet)) > MINUTE * 2;
        let asleep = replicas.is_some_and(|change| change.to == 0);
        let watches_since = shadow.watches_since;
        let is_watched = watches_since.is_some_and(|since| now.since(since) > MINUTE);
        let ceiling = match (is_calm, asleep) {
            (true, true) if shadow.open == 0 && is_watched => ASLEEP_WATCHED + watched_short_ttl,
            (true, true) if shadow.open == 0 => ASLEEP + short_ttl,
            (true, false) => AWAKE + short_ttl,
            _ => STORM + short_ttl,
        };
        if count > ceiling {
            let all: Vec<_> = shadow
                .requests
                .iter()
                .map(|(_, kind)| kind.as_str())
                .collect();
            let what = format!("p{pid}: {count} > {ceiling}: {}", all.join(", "));
            self.violated("requests per minute have a ceiling", what, now);
        }
    }

    /// The reply has come in; `rate` is how fast the proxy's clock runs.
    pub fn received(
        &mut self,
        pid: usize,
        ticket: u64,
        asked: &Request,
        outcome: &Outcome,
        rate: f64,
        now: Time,
    ) {
        let length = Lease::length(self.ttl_of(pid)).div_f64(rate);
        let shadow = &mut self.shadows[pid];
        shadow.stirred = now;
        let sent = shadow.renewing.remove(&ticket);
        match outcome {
            Outcome::Scale(scale) => {
                shadow.read.push(scale.version.clone());
                shadow.newest = shadow.newest.max(number(&scale.version));
                shadow.shown.reply(scale, now);
                if scale.replicas == 0 {
                    shadow.lease_ends = true;
                } else if let Some(sent) = sent {
                    shadow.lease = Some((sent, sent + length));
                }
            }
            // Nothing was written, so that what was seen still stands.
            Outcome::Busy { .. } | Outcome::Unreachable => {}
            Outcome::Forbidden | Outcome::Unauthorized => {}
            // What a watch has shown meanwhile is newer than what the write may have done,
            // or is what it has done: under its guard it is not done any more.
            _ => {
                if let Request::WriteScale { guard, .. } = asked {
                    shadow.read.retain(|seen| number(seen) > number(guard));
                }
            }
        }
    }

    /// A watch has shown the Deployment. What is older than a reply says nothing.
    pub fn observed(&mut self, pid: usize, scale: &Scale, now: Time) {
        let shadow = &mut self.shadows[pid];
        if number(&scale.version) > shadow.newest {
            shadow.newest = number(&scale.version);
            shadow.read.push(scale.version.clone());
            shadow.shown.reply(scale, now);
        }
    }

    /// Since when a process watches the Deployment, as far as it knows.
    pub fn watches(&mut self, pid: usize, since: Option<Time>) {
        self.shadows[pid].watches_since = since;
    }

    /// Whether everybody who lives has watched the Deployment since then.
    fn have_all_watched_since(&self, since: Time) -> bool {
        let mut alive = self.shadows.iter().filter(|shadow| shadow.alive);
        alive.all(|shadow| shadow.watches_since.is_some_and(|began| began <= since))
    }

    // --- The Deployment ---

    /// The number of replicas has changed; `blind` if by a proxy that could not
    /// share leases.
    pub fn scaled(&mut self, change: Change, blind: bool) {
        if let Who::Proxy(pid) = change.by {
            if blind && change.to == 0 {
                let what = format!("p{pid} sleeps, and could not share leases");
                let rule = "who cannot share leases never scales to zero";
                self.violated(rule, what, change.at);
            }
            match change.to {
                0 => self.slept(pid, change.at),
                _ => self.woke(pid, change),
            }
        }
        if change.from == 0 {
            self.last_wake = change.at;
        }
        self.last_change = Some(change);
        self.history.push(change);
    }

    fn woke(&mut self, pid: usize, change: Change) {
        self.wakes += 1;
        if change.from != 0 {
            let what = format!("p{pid} has scaled from {} to {}", change.from, change.to);
            self.violated("replicas above zero change to zero alone", what, change.at);
        }
    }

    fn slept(&mut self, writer: usize, now: Time) {
        self.sleeps += 1;
        self.check_the_writer(writer, now);
        for pid in 0..self.shadows.len() {
            if self.shadows[pid].alive {
                self.check_the_others(writer, pid, now);
            }
        }
    }

    fn ttl_of(&self, pid: usize) -> Duration {
        self.ttls[self.shadows[pid].slot]
    }

    /// Clocks may differ a little in speed.
    fn whole_ttl(&self, pid: usize) -> Duration {
        self.ttl_of(pid).mul_f64(1.0 - 2.0 * self.drift)
    }

    /// Whether the writer, whose TTL is the shorter one, may have missed every lease of
    /// that proxy: one that it sees is respected for twice its length, and one that it
    /// does not see is shown again by a proxy that is not hindered.
    fn is_hidden(&self, writer: usize, pid: usize, now: Time) -> bool {
        let ttl = self.ttl_of(pid);
        let since = now - self.whole_ttl(pid) * 2;
        let has_missed =
            self.ttl_of(writer) < ttl && !self.shadows[writer].shown.has_seen(ttl, since);
        has_missed && self.is_hindered(pid)
    }

    /// Whether that proxy has been stopped or in trouble since it has sent the renewal
    /// of its lease.
    fn is_hindered(&self, pid: usize) -> bool {
        let shadow = &self.shadows[pid];
        let sent = shadow.lease.map(|(sent, _)| sent).unwrap_or_default();
        shadow.stopped
            || self
                .calm_since(pid)
                .max(shadow.last_stop.unwrap_or_default())
                >= sent
    }

    fn check_the_writer(&mut self, writer: usize, now: Time) {
        let started = self.shadows[writer].started;
        if now < started + self.whole_ttl(writer) {
            let what = format!("p{writer} sleeps, and has started at {started:?}");
            self.violated("a restart needs a whole TTL before it sleeps", what, now);
        }
        let since = self.last_wake;
        let calm = self.calm_since(writer) < since && self.shadows[writer].started < since;
        if calm && now < since + self.whole_ttl(writer) {
            let what = format!("p{writer} sleeps, and somebody has woken the app at {since:?}");
            self.violated("a wake starts a whole TTL", what, now);
        }
    }

    fn check_the_others(&mut self, writer: usize, pid: usize, now: Time) {
        let is_hidden = self.is_hidden(writer, pid, now);
        if self.has_lease(pid, now) && !is_hidden {
            let what = format!(
                "p{writer} sleeps, and p{pid} is leased: {:?}",
                self.shadows[pid].lease
            );
            self.violated("nobody sleeps under the lease of another", what, now);
        }
        let hidden = is_hidden && self.has_lease(pid, now);
        let hidden = hidden.then_some(ClientResult::LeaseHidden);
        if let Some(told) = self.excuse(pid, now).or(hidden) {
            self.excuses.insert((now, pid), told);
        }
        let calm = self.calm_since(pid) + self.ttl * 2 < now && !self.shadows[pid].stopped;
        // At zero no lease is in force, and a wake starts the TTL of whoever sees it.
        let last = self.shadows[pid].last_leased;
        let last = last.filter(|last| *last > self.last_wake);
        let respected = if is_hidden { writer } else { pid };
        if calm && last.is_some_and(|last| now < last + self.whole_ttl(respected)) {
            let what = format!("p{writer} sleeps, and p{pid} had a connection until {last:?}");
            self.violated(
                "the app sleeps no sooner than a TTL after the last connection",
                what,
                now,
            );
        }
    }

    /// Why that proxy may have connections open while another one sleeps.
    fn excuse(&self, pid: usize, now: Time) -> Option<ClientResult> {
        let shadow = &self.shadows[pid];
        let lease = shadow.lease.map(|(sent, _)| sent);
        let since = lease.unwrap_or(shadow.started);
        if shadow.stopped || shadow.last_stop.is_some_and(|at| at + self.ttl >= since) {
            return Some(ClientResult::ProxyStopped);
        }
        let slot = self.slots.get(&shadow.slot).copied().unwrap_or_default();
        let own = shadow.own_trouble.max(slot);
        let is_cut_off = own > shadow.started && now < own + RECOVERY;
        is_cut_off.then_some(ClientResult::CutOff)
    }

    // --- The clients ---

    /// A client was told something that needs no excuse.
    pub fn told(&mut self, told: ClientResult) {
        *self.told.entry(told).or_default() += 1;
    }

    /// A proxy has closed a client's connection; the pod that it had last
    /// dialled for it has ended because of `cause`, if it has.
    pub fn ended(
        &mut self,
        client: usize,
        pid: usize,
        end: End,
        dial: Option<Dial>,
        cause: Option<Cause>,
        now: Time,
    ) {
        self.closed(pid, now);
        let told = match (end, cause) {
            (End::Finished, _) => Some(ClientResult::Served),
            (End::ClientGone, _) => Some(ClientResult::ResetByItself),
            (End::HeldTooLong, _) => Some(ClientResult::HoldLimit),
            (End::Drained, _) => Some(ClientResult::Drained),
            (End::BackendGone, Some(Cause::Crashed)) => Some(ClientResult::PodCrashed),
            (
                End::BackendGone,
                Some(Cause::Scaled(Change {
                    by: Who::Proxy(_),
                    at,
                    ..
                })),
            ) => self.cut_by_a_sleep(pid, at, dial),
            (End::BackendGone, Some(Cause::Scaled(_))) => Some(ClientResult::ScaledByOthers),
            (End::BackendGone, None) => None,
        };
        match told {
            Some(told) => self.told(told),
            None => {
                let what = format!("c{client} at p{pid}, {dial:?}: {end:?} by {cause:?}");
                self.violated("nobody is cut off by a sleep", what, now);
            }
        }
    }

    /// A connection that went to the pod after the sleep went to one that was
    /// about to die.
    fn cut_by_a_sleep(&self, pid: usize, slept: Time, dial: Option<Dial>) -> Option<ClientResult> {
        match (dial, self.excuses.get(&(slept, pid))) {
            (Some(dial), _) if !dial.leased => Some(ClientResult::FailedOpen),
            (Some(dial), Some(&excuse)) if dial.at < slept => Some(excuse),
            // It goes on believing in the lease until it hears of the sleep.
            (Some(_), Some(&excuse @ ClientResult::LeaseHidden)) => Some(excuse),
            (Some(dial), _) if slept < self.slow && dial.at >= slept + RELEASE_AFTER => {
                Some(ClientResult::SlowControllers)
            }
            _ => None,
        }
    }

    // --- What must come to pass ---

    /// Looks whether everything that had to happen has happened.
    pub fn check(&mut self, replicas: u32, waiting: &[Waiting], now: Time) {
        for &waiting in waiting {
            self.check_that_somebody_sees_to(waiting, now);
            self.check_that_it_is_served(waiting, replicas, now);
        }
        let quiet = self.quiet_since(now);
        let are_equal = self.ttls.iter().all(|ttl| *ttl == self.ttl);
        let longest = if are_equal && self.have_all_watched_since(quiet) {
            WATCHED_SLEEP
        } else {
            UNWATCHED_SLEEP
        };
        let late = quiet + self.ttl.mul_f64(longest) * self.set_back_factor() + SLEEP_SLACK;
        if replicas > 0 && now > late && self.shadows.iter().any(|s| s.alive) {
            let what = format!("{replicas} replicas, and all is quiet since {quiet:?}");
            self.violated(SLEEPS, what, now);
        }
    }

    fn check_that_somebody_sees_to(&mut self, waiting: Waiting, now: Time) {
        let Waiting {
            pid,
            since,
            gate_open,
        } = waiting;
        let shadow = &self.shadows[pid];
        let silent_since = since.max(shadow.stirred);
        if !gate_open && !shadow.stopped && now > silent_since + LONGEST_SILENCE {
            let what = format!("p{pid} holds somebody, and does nothing since {silent_since:?}");
            self.violated("no reply holds a client for longer than 5 s", what, now);
        }
    }

    fn check_that_it_is_served(&mut self, waiting: Waiting, replicas: u32, now: Time) {
        let Waiting { pid, since, .. } = waiting;
        let changed = self.last_change.map_or(Time::default(), |change| change.at);
        let calm = since.max(self.calm_since(pid) + AFTERMATH);
        let by_others = self.last_change.filter(|c| !matches!(c.by, Who::Proxy(_)));
        let calm = by_others.map_or(calm, |_| calm.max(changed));
        if now > calm + LONGEST_WAIT && !self.shadows[pid].stopped {
            let what = format!("p{pid} holds somebody since {since:?}, {replicas} replicas");
            self.violated("who is held is served", what, now);
        }
    }

    /// By how much an app may sleep later that others have scaled up from zero again and
    /// again: the pauses grow.
    fn set_back_factor(&self) -> u32 {
        let by_others = |change: &&Change| change.from == 0 && !matches!(change.by, Who::Proxy(_));
        let raised = self.history.iter().filter(by_others).count();
        1 << raised.saturating_sub(2).min(5)
    }

    /// Since when nothing has happened that keeps the app awake.
    fn quiet_since(&self, now: Time) -> Time {
        let alive = self.shadows.iter().enumerate().filter(|(_, s)| s.alive);
        let busy = alive.map(|(pid, shadow)| {
            let calm = if self.has_had_trouble(pid) {
                self.calm_since(pid) + AFTERMATH
            } else {
                shadow.started
            };
            let lease_token = shadow.open > 0 || shadow.stopped;
            let used = if lease_token {
                Some(now)
            } else {
                shadow.last_close
            };
            calm.max(used.unwrap_or_default())
        });
        // What the dead have sent may have arrived after them.
        let dead = self.shadows.iter().filter(|s| !s.alive);
        let dead = dead.map(|s| s.trouble.max(s.last_close.unwrap_or_default()));
        busy.chain(dead).fold(self.last_wake, Time::max)
    }
}

/// The number that a version is.
fn number(version: &ResourceVersion) -> u64 {
    version.0.parse().unwrap_or_default()
}
