//! What is to happen in a run: drawn from a seed, and data, so that a smaller
//! plan can be made of one that fails.

use std::time::Duration;

use zpa::clock::Time;

use crate::deployment::{Flaws, Rights, Who};
use crate::dice::Dice;
use crate::trouble::Trouble;

/// A request and the answer to it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// How long the client waits before it sends.
    pub pause: Duration,
    /// How many bytes it sends, and wants back.
    pub bytes: u64,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its exchanges, after which it closes.
    pub exchanges: Vec<Exchange>,
    /// When it loses patience and resets.
    pub resets_after: Option<Duration>,
}

/// Something that happens because somebody does it.
#[derive(Clone, Debug)]
pub enum Deed {
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
    /// The service account may do only that.
    Restrict(Rights, Duration),
    /// A pod crashes.
    Crash,
}

impl Deed {
    /// What the totals call it; `None` for what is no fault.
    pub fn fault(&self) -> Option<String> {
        let name = match self {
            Deed::Connect(..) => return None,
            Deed::Scale(_, Who::GitOps) => "GitOps reverts the scale",
            Deed::Scale(0, _) => "a human scales to 0",
            Deed::Scale(..) => "a human scales up",
            Deed::Adjust(_) => "the HPA changes N",
            Deed::Replace(..) => "Deployment deleted and made again",
            Deed::Kill(..) => "kill -9 and restart",
            Deed::Stop(..) => "process stopped",
            Deed::Rollout(_) => "rollout of zpa",
            Deed::Hit(None, trouble, _) => return Some(format!("API for all: {trouble:?}")),
            Deed::Hit(_, trouble, _) => return Some(format!("API for one: {trouble:?}")),
            Deed::BreakWatch(..) => "watch half-open",
            Deed::SlowControllers(_) => "controllers slow",
            Deed::SlowPods(_) => "pods slow to start",
            Deed::Restrict(..) => "403",
            Deed::Crash => "pod crashes",
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
    Blind,
    /// It dials with its gate shut.
    Gateless,
    /// Its clock runs twice as fast as everybody's.
    Fast,
    /// It asks everything eight times.
    Eager,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of what is drawn while it runs.
    pub seed: u64,
    /// How many proxies there are, rollouts apart.
    pub slots: usize,
    /// The idle TTL.
    pub ttl: Duration,
    /// The hold limit.
    pub hold: Duration,
    /// The replicas at first.
    pub replicas: u32,
    /// When the last deed is done.
    pub horizon: Duration,
    /// How likely a single request is to meet with trouble.
    pub noise: f64,
    /// How likely a client is to come at the moment at which a proxy judges
    /// that the app has been idle long enough.
    pub ambush: f64,
    /// By how much the proxies' clocks differ in speed.
    pub drift: f64,
    /// Whether the Service has an address that leads to its pods.
    pub fallback: bool,
    /// What is done, and when.
    pub deeds: Vec<(Time, Deed)>,
    /// What is wrong with the world.
    pub flaws: Flaws,
    /// What is wrong with the proxies.
    pub mutant: Mutant,
}

impl Plan {
    /// A quiet run with nothing in it.
    pub fn quiet(seed: u64, slots: usize, ttl: Duration) -> Plan {
        Plan {
            seed,
            slots,
            ttl,
            hold: Duration::from_secs(300),
            replicas: 1,
            horizon: Duration::ZERO,
            noise: 0.0,
            ambush: 0.0,
            drift: 0.0,
            fallback: false,
            deeds: Vec::new(),
            flaws: Flaws::default(),
            mutant: Mutant::No,
        }
    }

    /// The same, with `deed` done at that time.
    pub fn with(mut self, at: Duration, deed: Deed) -> Plan {
        self.deeds.push((Time::new(at), deed));
        self.horizon = self.horizon.max(at);
        self
    }

    /// The run of that seed.
    pub fn draw(seed: u64) -> Plan {
        let mut dice = Dice::new(seed, 0);
        let ttl = Duration::from_secs(dice.pick(&[20, 60, 60, 300]));
        let slots = 1 + dice.below(3);
        let mut plan = Plan::quiet(seed, slots, ttl);
        plan.replicas = dice.pick(&[0, 1, 1, 3]);
        plan.horizon = ttl * (6 + dice.below(10) as u32);
        plan.noise = dice.pick(&[0.0, 0.0, 0.005, 0.03]);
        plan.ambush = dice.pick(&[0.0, 0.5, 0.9]);
        plan.drift = dice.pick(&[0.0, 0.01]);
        plan.fallback = dice.chance(0.3);
        plan.draw_clients(&mut dice);
        plan.draw_faults(&mut dice);
        let end = Time::new(plan.horizon);
        plan.deeds.retain(|(at, _)| *at <= end);
        plan.deeds.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Bursts, with pauses that are about as long as the TTL.
    fn draw_clients(&mut self, dice: &mut Dice) {
        let (ttl, mut at) = (self.ttl, Duration::ZERO);
        while at < self.horizon {
            at += match dice.below(4) {
                0 => dice.between(ttl / 100, ttl / 2),
                1 => dice.between(ttl, ttl + ttl / 3),
                2 => dice.between(ttl * 4 / 5, ttl + ttl / 50),
                _ => dice.between(ttl / 2, ttl * 2),
            };
            if dice.chance(0.05) {
                at += self.draw_poller(at, dice);
            }
            let (burst, spread) = match dice.below(8) {
                0 => (10, Duration::from_secs(30)),
                1 | 2 => (4, Duration::from_millis(50)),
                _ => (1, Duration::ZERO),
            };
            for _ in 0..=dice.below(burst) {
                let slot = dice.below(self.slots);
                let script = Script::draw(dice, ttl);
                let when = at + dice.between(Duration::ZERO, spread);
                self.deeds
                    .push((Time::new(when), Deed::Connect(slot, script)));
            }
        }
    }

    /// Somebody who connects every few seconds, as a health check does.
    fn draw_poller(&mut self, from: Duration, dice: &mut Dice) -> Duration {
        let slot = dice.below(self.slots);
        let interval = dice.between(Duration::from_secs(1), Duration::from_secs(5));
        let times = dice.below(200) as u32;
        for time in 0..times {
            let script = Script::once(Duration::from_millis(5));
            let at = Time::new(from + interval * time);
            self.deeds.push((at, Deed::Connect(slot, script)));
        }
        interval * times
    }

    fn draw_faults(&mut self, dice: &mut Dice) {
        if dice.chance(0.2) {
            return;
        }
        let mut at = Duration::ZERO;
        // Few kinds in one run, so that each is seen without the others.
        let kinds: Vec<usize> = (0..1 + dice.below(4)).map(|_| dice.below(13)).collect();
        let pace = dice.pick(&[1, 3]);
        loop {
            at += dice.between(self.ttl / 4, self.ttl * 2 * pace);
            if at >= self.horizon {
                return;
            }
            let deed = self.draw_fault(dice.pick(&kinds), dice);
            self.deeds.push((Time::new(at), deed));
        }
    }

    fn draw_fault(&self, kind: usize, dice: &mut Dice) -> Deed {
        let (ttl, slot) = (self.ttl, dice.below(self.slots));
        let short = dice.between(ttl / 50, ttl / 2);
        let long = dice.between(ttl / 2, ttl * 2);
        match kind {
            0 => Deed::Scale(dice.pick(&[0, 0, 1, 2, 3]), Who::Human),
            1 => Deed::Scale(dice.pick(&[0, 1, 1, 3]), Who::GitOps),
            2 => Deed::Adjust(1 + dice.below(5) as u32),
            3 => Deed::Replace(short, dice.pick(&[0, 1, 2])),
            4 => Deed::Kill(slot, dice.pick(&[short / 10, short, long])),
            5 => Deed::Stop(slot, dice.pick(&[short, long, ttl * 2])),
            6 => Deed::Rollout(slot),
            7 => Deed::Hit(None, dice.pick(&Trouble::ALL), dice.pick(&[short, long])),
            8 => Deed::Hit(
                Some(slot),
                dice.pick(&Trouble::ALL),
                dice.pick(&[short, long]),
            ),
            9 => Deed::BreakWatch(slot, short.min(Duration::from_secs(75))),
            10 => dice.pick(&[Deed::SlowControllers as fn(_) -> _, Deed::SlowPods])(long),
            11 => Deed::Restrict(Rights::draw(dice), long),
            _ => Deed::Crash,
        }
    }
}

impl Rights {
    fn draw(dice: &mut Dice) -> Rights {
        let mut rights = Rights::ALL;
        match dice.below(4) {
            0 => rights.status = false,
            1 => (rights.status, rights.annotation) = (false, false),
            2 => rights.read = false,
            _ => rights.scale = false,
        }
        rights
    }
}

impl Script {
    /// One of short, chatty, long and impatient.
    pub fn draw(dice: &mut Dice, ttl: Duration) -> Script {
        let long = dice.chance(0.2);
        let longest = if long {
            ttl / 2
        } else {
            Duration::from_secs(2)
        };
        let count = if long { 6 } else { 3 };
        let exchanges = (0..1 + dice.below(count)).map(|_| Exchange {
            pause: dice.between(Duration::ZERO, longest),
            bytes: 1 + dice.below(100_000) as u64,
        });
        let exchanges = exchanges.collect();
        let patience = dice.between(Duration::from_millis(1), ttl / 2);
        Script {
            exchanges,
            resets_after: dice.chance(0.15).then_some(patience),
        }
    }

    /// One exchange, after a pause.
    pub fn once(pause: Duration) -> Script {
        let exchanges = vec![Exchange { pause, bytes: 1000 }];
        Script {
            exchanges,
            resets_after: None,
        }
    }
}
