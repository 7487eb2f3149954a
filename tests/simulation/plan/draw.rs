//! A [`Plan`] that is drawn from a seed.

use std::ops::RangeInclusive;
use std::time::Duration;

use zpa::clock::Time;

use super::{Action, AppPlan, Exchange, Plan, Script, Step};
use crate::deployment::{Permissions, Who};
use crate::pods::Failure;
use crate::rng::Rng;
use crate::trouble::Trouble;

/// The idle TTLs, in seconds.
const TTLS: [u64; 4] = [20, 60, 60, 300];

/// The kinds of faults that are done to processes.
const PROCESS_FAULTS: RangeInclusive<usize> = 4..=6;

impl Plan {
    /// The run of that seed.
    pub fn draw(seed: u64) -> Plan {
        let mut rng = Rng::new(seed, 0);
        let ttl = Duration::from_secs(rng.pick(&TTLS));
        let slots = 1 + rng.below(3);
        let mut plan = Plan::quiet(seed, slots, ttl);
        plan.horizon = ttl * (6 + rng.below(10) as u32);
        plan.drift = rng.pick(&[0.0, 0.01]);
        plan.draw_apps(&mut Rng::new(seed, 7));
        let end = Time::new(plan.horizon);
        plan.actions.retain(|step| step.at <= end);
        plan.actions.sort_by_key(|step| step.at);
        plan
    }

    /// One to three apps.
    fn draw_apps(&mut self, rng: &mut Rng) {
        let count = 1 + rng.below(3);
        for number in 1..count {
            let ttl = Duration::from_secs(rng.pick(&TTLS));
            self.apps.push(AppPlan::quiet(number, ttl));
        }
        for number in 0..count {
            self.draw_app(number);
        }
        if rng.chance(0.5) {
            self.share_troubles();
        }
    }

    /// What hits the first app hits the others at the same time, as where the API server itself
    /// is in trouble.
    fn share_troubles(&mut self) {
        let is_shared = |step: &&Step| {
            let action = &step.action;
            let is_shared = matches!(action, Action::Hit(..) | Action::SlowControllers(_));
            step.app == 0 && is_shared
        };
        let shared: Vec<Step> = self.actions.iter().filter(is_shared).cloned().collect();
        for app in 1..self.apps.len() {
            let of_app = shared.iter().cloned().map(|step| Step { app, ..step });
            self.actions.extend(of_app);
        }
    }

    fn draw_app(&mut self, number: usize) {
        let rng = |stream| Rng::new(self.seed, actor(number, stream));
        let mut app = Drawing {
            slots: self.slots,
            horizon: self.horizon,
            app: self.apps[number].clone(),
            actions: Vec::new(),
        };
        app.draw(&mut rng(1));
        app.draw_failing_pods(&mut rng(2));
        app.draw_shorter_ttls(&mut rng(3));
        app.draw_lost_ports(&mut rng(4));
        if self.apps.len() > 1 {
            app.draw_lasting_trouble(&mut rng(6));
        }
        self.apps[number] = app.app;
        for (at, action) in app.actions {
            self.push(at, number, action);
        }
    }
}

/// The number of a random generator: those of one app are no other app's.
pub fn actor(app: usize, number: u64) -> u64 {
    app as u64 * 1_000_000 + number
}

/// An app that is drawn.
struct Drawing {
    slots: usize,
    horizon: Duration,
    app: AppPlan,
    actions: Vec<(Duration, Action)>,
}

impl Drawing {
    fn draw(&mut self, rng: &mut Rng) {
        let app = &mut self.app;
        app.replicas = rng.pick(&[0, 1, 1, 3]);
        app.noise = rng.pick(&[0.0, 0.0, 0.005, 0.03]);
        app.critical_clients = rng.pick(&[0.0, 0.5, 0.9]);
        app.fallback = rng.chance(0.3);
        app.role = rng.pick(&[
            Permissions::SHIPPED,
            Permissions::SHIPPED,
            Permissions::UNWATCHED,
            Permissions::ALL,
        ]);
        self.draw_clients(rng);
        self.draw_faults(rng);
    }

    /// Bursts, with pauses that are about as long as the TTL.
    fn draw_clients(&mut self, rng: &mut Rng) {
        let (ttl, mut at) = (self.app.ttl, Duration::ZERO);
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
                self.actions.push((when, Action::Connect(slot, script)));
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
            let at = from + interval * time;
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
        let kinds = (0..1 + rng.below(4)).map(|_| rng.below(13));
        // What is done to the processes is drawn with the first app.
        let is_drawn = |kind: &usize| self.app.number == 0 || !PROCESS_FAULTS.contains(kind);
        let kinds: Vec<usize> = kinds.filter(is_drawn).collect();
        if kinds.is_empty() {
            return;
        }
        let pace = rng.pick(&[1, 3]);
        loop {
            at += rng.between(self.app.ttl / 4, self.app.ttl * 2 * pace);
            if at >= self.horizon {
                return;
            }
            let action = self.draw_fault(rng.pick(&kinds), rng);
            self.actions.push((at, action));
        }
    }

    /// A trouble for the whole run, which the other apps must not notice.
    fn draw_lasting_trouble(&mut self, rng: &mut Rng) {
        match rng.below(8) {
            0 => {
                let permissions = Permissions::draw(rng);
                let action = Action::Restrict(None, permissions, self.horizon);
                self.actions.push((Duration::ZERO, action));
            }
            1 => {
                let action = Action::NoPods(self.horizon);
                self.actions.push((Duration::ZERO, action));
            }
            2 | 3 => self.draw_storms(rng),
            _ => {}
        }
    }

    /// Crowds of clients that come within a moment.
    fn draw_storms(&mut self, rng: &mut Rng) {
        let mut at = rng.between(Duration::ZERO, self.horizon / 2);
        while at < self.horizon {
            let slot = rng.below(self.slots);
            for _ in 0..50 + rng.below(50) {
                let comes = at + rng.between(Duration::ZERO, Duration::from_millis(50));
                let script = Script::draw(rng, self.app.ttl);
                self.actions.push((comes, Action::Connect(slot, script)));
            }
            at += rng.between(self.horizon / 4, self.horizon);
        }
    }

    /// At least one place keeps the longest one.
    fn draw_shorter_ttls(&mut self, rng: &mut Rng) {
        if self.slots == 1 || rng.chance(0.7) {
            return;
        }
        let longest = rng.below(self.slots);
        for slot in (0..self.slots).filter(|slot| *slot != longest) {
            let ttl = (self.app.ttl / rng.pick(&[2, 3, 5])).max(Duration::from_secs(10));
            if rng.chance(0.7) {
                self.app.shorter.insert(slot, ttl);
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
            at += rng.between(self.app.ttl, self.app.ttl * 4);
            if at >= self.horizon {
                return;
            }
            let time = rng.between(self.app.ttl / 4, self.app.ttl * 2);
            let action = Action::LosePort(rng.below(self.slots), time);
            self.actions.push((at, action));
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
            at += rng.between(self.app.ttl, self.app.ttl * 3);
            if at >= self.horizon {
                return;
            }
            let scale = Action::Adjust(2 + rng.below(3) as u32);
            self.actions.push((at, scale));
            let fails = at + rng.between(seconds(5), seconds(15));
            let failure = rng.pick(&[Failure::Refuses, Failure::Swallows, Failure::Swallows]);
            let time = rng.between(seconds(1), seconds(10));
            let fault = Action::Fail(failure, time);
            self.actions.push((fails, fault));
            for _ in 0..4 + rng.below(8) {
                let slot = rng.below(self.slots);
                let script = Script::draw(rng, self.app.ttl);
                let comes = fails + rng.between(Duration::ZERO, time);
                let client = Action::Connect(slot, script);
                self.actions.push((comes, client));
            }
        }
    }

    fn draw_fault(&self, kind: usize, rng: &mut Rng) -> Action {
        let (ttl, slot) = (self.app.ttl, rng.below(self.slots));
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
        let exchanges = (0..1 + rng.below(count)).map(|_| Exchange {
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
        let exchanges = vec![Exchange { pause, bytes: 1000 }];
        Script {
            exchanges,
            resets_after: None,
        }
    }
}
