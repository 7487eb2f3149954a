//! [`Plan`]: the actions of a run and their times, drawn from a seed. It is data, so that a failing
//! plan can be shrunk.

use std::collections::BTreeMap;
use std::time::Duration;

use zpa::clock::Time;

use crate::deployment::{Flaws, Permissions, Who};
use crate::neighbour::Neighbour;
use crate::pods::Failure;
use crate::rng::Rng;
use crate::trouble::Trouble;

/// A request and the answer to it.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// How long the client waits before it sends.
    pub pause: Duration,
    /// How many bytes it sends, and wants back.
    pub bytes: u64,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its exchanges, after which it closes.
    pub exchanges: Vec<LoggedRequest>,
    /// When it loses timeout and resets.
    pub resets_after: Option<Duration>,
}

/// Something that happens because somebody does it.
#[derive(Clone, Debug)]
pub enum Action {
    /// A client connects to the proxy in that place.
    Connect(usize, Script),
    /// Somebody writes the number of replicas.
    Scale(u32, Who),
    /// The HPA does, which leaves zero alone.
    Adjust(u32),
    /// The Deployment is deleted, and made again later with so many replicas.
    Replace(Duration, u32),
    /// kill -9, and a restart so much later.
    Kill(usize, Duration),
    /// The process is stopped for that long.
    Stop(usize, Duration),
    /// A new proxy beside the old one, which gets SIGTERM.
    Rollout(usize),
    /// Requests from that place, or from all, meet with trouble.
    Hit(Option<usize>, Trouble, Duration),
    /// Nothing comes through that place's watch.
    BreakWatch(usize, Duration),
    /// The controllers take seconds for everything.
    SlowControllers(Duration),
    /// New pods take that long.
    SlowPods(Duration),
    /// The service account of that place, or of all, may do only that.
    Restrict(Option<usize>, Permissions, Duration),
    /// The Service does not have the port of the proxies in that place, for that long.
    LosePort(usize, Duration),
    /// A pod crashes.
    Crash,
    /// A pod fails for that long although it is listed.
    Fail(Failure, Duration),
}

impl Action {
    /// What the totals call it; `None` for what is no fault.
    pub fn fault(&self) -> Option<String> {
        let name = match self {
            Action::Connect(..) => return None,
            Action::Scale(_, Who::GitOps) => "GitOps reverts the scale",
            Action::Scale(0, _) => "an operator scales to 0",
            Action::Scale(..) => "an operator scales up",
            Action::Adjust(_) => "the HPA changes N",
            Action::Replace(..) => "Deployment deleted and made again",
            Action::Kill(..) => "kill -9 and restart",
            Action::Stop(..) => "process stopped",
            Action::Rollout(_) => "rollout of zpa",
            Action::Hit(None, trouble, _) => return Some(format!("API for all: {trouble:?}")),
            Action::Hit(_, trouble, _) => return Some(format!("API for one: {trouble:?}")),
            Action::BreakWatch(..) => "watch half-open",
            Action::SlowControllers(_) => "controllers slow",
            Action::SlowPods(_) => "pods slow to start",
            Action::Restrict(None, ..) => "permissions missing for all",
            Action::Restrict(..) => "permissions missing for one",
            Action::LosePort(..) => "port missing",
            Action::Crash => "pod crashes",
            Action::Fail(Failure::Refuses, _) => "listed pod refuses",
            Action::Fail(Failure::Swallows, _) => "listed pod swallows",
        };
        Some(name.to_owned())
    }
}

/// A proxy that is not what it should be, to see that the oracle notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    #[default]
    No,
    /// It does not see its connections.
    NoCounts,
    /// It dials with its gate shut.
    Gateless,
    /// Its clock runs twice as fast as everybody's.
    Fast,
    /// It asks everything eight times.
    Eager,
    /// It chooses pods without regard to what has failed.
    Forgetful,
    /// It notices ten seconds late what is due.
    Late,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of what is drawn while it runs.
    pub seed: u64,
    /// How many proxies there are, rollouts apart.
    pub slots: usize,
    /// The idle TTL, and the longest where they differ.
    pub ttl: Duration,
    /// The shorter idle TTLs of the proxies in some places.
    pub shorter: BTreeMap<usize, Duration>,
    /// The hold limit.
    pub hold: Duration,
    /// The replicas at first.
    pub replicas: u32,
    /// When the last action is done.
    pub horizon: Duration,
    /// How likely a single request is to meet with trouble.
    pub noise: f64,
    /// How likely a client is to come at the moment at which a proxy judges
    /// that the app has been idle long enough.
    pub critical_clients: f64,
    /// By how much the proxies' clocks differ in speed.
    pub drift: f64,
    /// Whether the Service has an address that leads to its pods.
    pub fallback: bool,
    /// What the service account may do where nothing restricts it.
    pub role: Permissions,
    /// What is done, and when.
    pub actions: Vec<(Time, Action)>,
    /// What is wrong with the world.
    pub flaws: Flaws,
    /// What is wrong with the proxies.
    pub mutant: Mutant,
    /// The other app of the proxies.
    pub neighbour: Neighbour,
}

impl Plan {
    /// A quiet run with nothing in it.
    pub fn quiet(seed: u64, slots: usize, ttl: Duration) -> Plan {
        Plan {
            seed,
            slots,
            ttl,
            shorter: BTreeMap::new(),
            hold: Duration::from_secs(300),
            replicas: 1,
            horizon: Duration::ZERO,
            noise: 0.0,
            critical_clients: 0.0,
            drift: 0.0,
            fallback: false,
            role: Permissions::SHIPPED,
            actions: Vec::new(),
            flaws: Flaws::default(),
            mutant: Mutant::No,
            neighbour: Neighbour::None,
        }
    }

    /// The same, with `action` done at that time.
    pub fn with(mut self, at: Duration, action: Action) -> Plan {
        self.actions.push((Time::new(at), action));
        self.horizon = self.horizon.max(at);
        self
    }

    /// The idle TTL of the proxies in that place.
    pub fn ttl_of(&self, slot: usize) -> Duration {
        self.shorter.get(&slot).copied().unwrap_or(self.ttl)
    }

    /// The run of that seed.
    pub fn draw(seed: u64) -> Plan {
        let mut rng = Rng::new(seed, 0);
        let ttl = Duration::from_secs(rng.pick(&[20, 60, 60, 300]));
        let slots = 1 + rng.below(3);
        let mut plan = Plan::quiet(seed, slots, ttl);
        plan.replicas = rng.pick(&[0, 1, 1, 3]);
        plan.horizon = ttl * (6 + rng.below(10) as u32);
        plan.noise = rng.pick(&[0.0, 0.0, 0.005, 0.03]);
        plan.critical_clients = rng.pick(&[0.0, 0.5, 0.9]);
        plan.drift = rng.pick(&[0.0, 0.01]);
        plan.fallback = rng.chance(0.3);
        plan.role = rng.pick(&[
            Permissions::SHIPPED,
            Permissions::SHIPPED,
            Permissions::UNWATCHED,
            Permissions::ALL,
        ]);
        plan.draw_clients(&mut rng);
        plan.draw_faults(&mut rng);
        plan.draw_failing_pods(&mut Rng::new(seed, 2));
        plan.draw_shorter_ttls(&mut Rng::new(seed, 3));
        plan.draw_lost_ports(&mut Rng::new(seed, 4));
        let end = Time::new(plan.horizon);
        plan.actions.retain(|(at, _)| *at <= end);
        plan.actions.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Bursts, with pauses that are about as long as the TTL.
    fn draw_clients(&mut self, rng: &mut Rng) {
        let (ttl, mut at) = (self.ttl, Duration::ZERO);
        while at < self.horizon {
            at += match rng.below(4) {
                0 => rng.between(ttl / 100, ttl / 2),
                1 => rng.between(ttl, ttl + ttl / 3),
                2 => rng.between(ttl * 4 / 5, ttl + ttl / 50),
                _ => rng.between(ttl / 2, ttl * 2),
            };
            if rng.chance(0.05) {
                at += self.draw_poller(at, rng);
            }
            let (burst, spread) = match rng.below(8) {
                0 => (10, Duration::from_secs(30)),
                1 | 2 => (4, Duration::from_millis(50)),
                _ => (1, Duration::ZERO),
            };
            for _ in 0..=rng.below(burst) {
                let slot = rng.below(self.slots);
                let script = Script::draw(rng, ttl);
                let when = at + rng.between(Duration::ZERO, spread);
                self.actions
                    .push((Time::new(when), Action::Connect(slot, script)));
            }
        }
    }

    /// Somebody who connects every few seconds, as a health check does.
    fn draw_poller(&mut self, from: Duration, rng: &mut Rng) -> Duration {
        let slot = rng.below(self.slots);
        let interval = rng.between(Duration::from_secs(1), Duration::from_secs(5));
        let times = rng.below(200) as u32;
        for time in 0..times {
            let script = Script::once(Duration::from_millis(5));
            let at = Time::new(from + interval * time);
            self.actions.push((at, Action::Connect(slot, script)));
        }
        interval * times
    }

    fn draw_faults(&mut self, rng: &mut Rng) {
        if rng.chance(0.2) {
            return;
        }
        let mut at = Duration::ZERO;
        // Few kinds in one run, so that each is seen without the others.
        let kinds: Vec<usize> = (0..1 + rng.below(4)).map(|_| rng.below(13)).collect();
        let pace = rng.pick(&[1, 3]);
        loop {
            at += rng.between(self.ttl / 4, self.ttl * 2 * pace);
            if at >= self.horizon {
                return;
            }
            let action = self.draw_fault(rng.pick(&kinds), rng);
            self.actions.push((Time::new(at), action));
        }
    }

    /// At least one place keeps the longest one.
    fn draw_shorter_ttls(&mut self, rng: &mut Rng) {
        if self.slots == 1 || rng.chance(0.7) {
            return;
        }
        let longest = rng.below(self.slots);
        for slot in (0..self.slots).filter(|slot| *slot != longest) {
            let ttl = (self.ttl / rng.pick(&[2, 3, 5])).max(Duration::from_secs(10));
            if rng.chance(0.7) {
                self.shorter.insert(slot, ttl);
            }
        }
    }

    /// Ports that the Service loses, for less than a TTL or more.
    fn draw_lost_ports(&mut self, rng: &mut Rng) {
        if rng.chance(0.8) {
            return;
        }
        let mut at = Duration::ZERO;
        loop {
            at += rng.between(self.ttl, self.ttl * 4);
            if at >= self.horizon {
                return;
            }
            let time = rng.between(self.ttl / 4, self.ttl * 2);
            let action = Action::LosePort(rng.below(self.slots), time);
            self.actions.push((Time::new(at), action));
        }
    }

    /// Pods that fail beside others, with clients who come meanwhile. A failure is
    /// short, so that it excuses nobody who waits where there is no other pod.
    fn draw_failing_pods(&mut self, rng: &mut Rng) {
        if rng.chance(0.7) {
            return;
        }
        let seconds = Duration::from_secs;
        let mut at = Duration::ZERO;
        loop {
            at += rng.between(self.ttl, self.ttl * 3);
            if at >= self.horizon {
                return;
            }
            let scale = Action::Adjust(2 + rng.below(3) as u32);
            self.actions.push((Time::new(at), scale));
            let fails = at + rng.between(seconds(5), seconds(15));
            let failure = rng.pick(&[Failure::Refuses, Failure::Swallows, Failure::Swallows]);
            let time = rng.between(seconds(1), seconds(10));
            let fault = Action::Fail(failure, time);
            self.actions.push((Time::new(fails), fault));
            for _ in 0..4 + rng.below(8) {
                let slot = rng.below(self.slots);
                let script = Script::draw(rng, self.ttl);
                let comes = fails + rng.between(Duration::ZERO, time);
                let client = Action::Connect(slot, script);
                self.actions.push((Time::new(comes), client));
            }
        }
    }

    fn draw_fault(&self, kind: usize, rng: &mut Rng) -> Action {
        let (ttl, slot) = (self.ttl, rng.below(self.slots));
        let short = rng.between(ttl / 50, ttl / 2);
        let long = rng.between(ttl / 2, ttl * 2);
        match kind {
            0 => Action::Scale(rng.pick(&[0, 0, 1, 2, 3]), Who::Operator),
            1 => Action::Scale(rng.pick(&[0, 1, 1, 3]), Who::GitOps),
            2 => Action::Adjust(1 + rng.below(5) as u32),
            3 => Action::Replace(short, rng.pick(&[0, 1, 2])),
            4 => Action::Kill(slot, rng.pick(&[short / 10, short, long])),
            5 => Action::Stop(slot, rng.pick(&[short, long, ttl * 2])),
            6 => Action::Rollout(slot),
            7 => Action::Hit(None, rng.pick(&Trouble::ALL), rng.pick(&[short, long])),
            8 => Action::Hit(
                Some(slot),
                rng.pick(&Trouble::ALL),
                rng.pick(&[short, long]),
            ),
            9 => Action::BreakWatch(slot, short.min(Duration::from_secs(75))),
            10 => rng.pick(&[Action::SlowControllers as fn(_) -> _, Action::SlowPods])(long),
            11 => {
                let victim = rng.pick(&[None, Some(slot)]);
                Action::Restrict(
                    victim,
                    Permissions::draw(rng),
                    rng.pick(&[short, long, ttl * 4]),
                )
            }
            _ => Action::Crash,
        }
    }
}

impl Permissions {
    fn draw(rng: &mut Rng) -> Permissions {
        let mut permissions = Permissions::ALL;
        match rng.below(7) {
            0 => permissions.status = false,
            1 => (permissions.status, permissions.annotation) = (false, false),
            2 => permissions.read = false,
            3 => (permissions.read, permissions.read_scale) = (false, false),
            4 => permissions.scale = false,
            5 => permissions.watch = false,
            _ => permissions = Permissions::NONE,
        }
        permissions
    }
}

impl Script {
    /// One of short, chatty, long and impatient.
    pub fn draw(rng: &mut Rng, ttl: Duration) -> Script {
        let long = rng.chance(0.2);
        let longest = if long {
            ttl / 2
        } else {
            Duration::from_secs(2)
        };
        let count = if long { 6 } else { 3 };
        let exchanges = (0..1 + rng.below(count)).map(|_| LoggedRequest {
            pause: rng.between(Duration::ZERO, longest),
            bytes: 1 + rng.below(100_000) as u64,
        });
        let exchanges = exchanges.collect();
        let timeout = rng.between(Duration::from_millis(1), ttl / 2);
        Script {
            exchanges,
            resets_after: rng.chance(0.15).then_some(timeout),
        }
    }

    /// One exchange, after a pause.
    pub fn once(pause: Duration) -> Script {
        let exchanges = vec![LoggedRequest { pause, bytes: 1000 }];
        Script {
            exchanges,
            resets_after: None,
        }
    }
}
