//! A zpa process: the real composition of all apps over simulated sockets and a simulated
//! API, with a clock of its own.

use std::time::Duration;

use zpa::clock::Time;
use zpa::daemon::app::{AppConfig, MinReady, Schedules};
use zpa::daemon::proxy::{DrainConfig, Proxy};
use zpa::daemon::route::Route;
use zpa::daemon::topology::Topology;
use zpa::engine::AppId;
use zpa::policy::{self, Policy};
use zpa::rules::ready_gate::ReadyGate;

use crate::api::SimApi;
use crate::app::{AppState, Seat};
use crate::plan::{AppPlan, Mutant, Plan};
use crate::process_sockets::ProcessSockets;
use crate::rng::Rng;

/// How long a proxy goes on accepting after SIGTERM, and how long it lets
/// connections finish.
pub const DRAIN_DELAY: Duration = Duration::from_secs(5);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// A boot-time clock: it has an epoch and a speed of its own, and it runs on
/// while the process is stopped. There is no wall clock: the composition is
/// handed none, so that it cannot jump.
#[derive(Clone, Copy)]
pub struct BootClock {
    epoch: Duration,
    /// How fast it runs.
    pub rate: f64,
}

impl BootClock {
    fn draw(plan: &Plan, rng: &mut Rng) -> Self {
        let slack = Duration::from_secs(86_400 * 30);
        let faster = 1.0 + rng.pick(&[-1.0, 0.0, 1.0]) * plan.drift;
        let rate = if plan.mutant == Mutant::Fast {
            2.0
        } else {
            faster
        };
        BootClock {
            epoch: rng.between(Duration::ZERO, slack),
            rate,
        }
    }

    /// What it shows at that time of the world.
    pub fn shows(&self, now: Time) -> Time {
        Time::new(self.epoch + now.since(Time::default()).mul_f64(self.rate))
    }

    /// When it shows that first.
    pub fn when(&self, shown: Time) -> Time {
        let run = shown.since(Time::new(self.epoch));
        let exact = run.as_secs_f64() / self.rate;
        let exact = Duration::try_from_secs_f64(exact).unwrap_or(Duration::MAX);
        let rounding = Duration::from_nanos(100);
        let mut when = Time::new(exact.saturating_sub(rounding));
        let last = when + rounding * 2;
        while self.shows(when) < shown && when < last {
            when = when + Duration::from_nanos(1);
        }
        when
    }
}

/// What the watch of a process does.
#[derive(Default)]
pub struct Watch {
    /// What it has delivered.
    pub seen: u64,
    /// Until when nothing comes through.
    pub broken_until: Time,
    /// How many lists it has begun.
    pub round: u64,
    /// The last turn that `kube::throttle` has let happen, and the gap after it.
    last: Option<(Time, Duration)>,
}

impl Watch {
    /// Whether the endpoints are listed afresh on demand: at most once a
    /// second, and less often while it goes on.
    pub fn allows(&mut self, now: Time) -> bool {
        let shortest = Duration::from_secs(1);
        let gap = match self.last {
            None => shortest,
            Some((at, gap)) if now.since(at) < gap => return false,
            Some((at, gap)) if now.since(at) < gap * 4 => (gap * 2).min(shortest * 16),
            Some(_) => shortest,
        };
        self.last = Some((now, gap));
        true
    }
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Running,
    /// Its loop and its threads stand still; the kernel goes on for it.
    Stopped,
    /// It has ended.
    Dead,
}

/// One process.
pub struct Process {
    /// Its place: the pod that a rollout replaces.
    pub slot: usize,
    /// The real thing.
    pub proxy: Proxy<ProcessSockets, SimApi>,
    /// Whether it runs.
    pub state: State,
    /// Whether it has got a SIGTERM.
    pub ending: bool,
    /// Its clock.
    pub clock: BootClock,
    /// When its next turn without an event is.
    pub turn_at: Option<Time>,
    /// The turns of the last second, to notice a loop that spins.
    turns: (Time, u32),
}

impl Process {
    /// Starts one, with a seat for each app.
    pub fn start(
        slot: usize,
        plan: &Plan,
        apps: &mut [AppState],
        pid: usize,
        now: Time,
    ) -> Process {
        let clock = BootClock::draw(plan, &mut Rng::new(plan.seed, 500_000 + pid as u64));
        let drain = DrainConfig {
            delay: DRAIN_DELAY,
            timeout: DRAIN_TIMEOUT,
        };
        let mut proxy = Proxy::new(ProcessSockets::new(plan), drain);
        if plan.apps.len() > 1 {
            proxy.set_list();
        }
        for app in apps {
            let mut seat = Seat::new(plan, &app.plan, pid);
            let config = policy::Config {
                idle_ttl: app.plan.ttl_of(slot),
                wake_replicas: 1,
                ..policy::Config::default()
            };
            let shown = clock.shows(now);
            let policy = Policy::new(config, seat.rng.bits(), shown);
            let api = SimApi(seat.outbox.clone());
            proxy.add(app.id(), api, policy, config_of(&app.plan, pid), shown);
            app.seats.push(seat);
        }
        Process {
            slot,
            proxy,
            state: State::Running,
            ending: false,
            clock,
            turn_at: None,
            turns: (now, 0),
        }
    }

    /// Counts a turn; returns how many there were within a second.
    pub fn count_turn(&mut self, now: Time) -> u32 {
        let (since, count) = &mut self.turns;
        if now.since(*since) > Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count
    }

    /// Whether there is something to do for an app when its clock shows that, whatever has come
    /// for it.
    pub fn is_due(&self, app: AppId, shown: Time) -> bool {
        let sockets = &self.proxy.sockets;
        let deadlines = [
            sockets.of(app).poll_timeout(),
            self.proxy.app(app).and_then(|it| it.poll_timeout(sockets)),
        ];
        deadlines.into_iter().flatten().any(|at| at <= shown)
    }

    /// What it decides about an app.
    pub fn policy(&self, app: AppId) -> &Policy {
        self.proxy.app(app).expect("it has the app").policy()
    }

    /// Whether it runs or will run on.
    pub fn is_alive(&self) -> bool {
        self.state != State::Dead
    }
}

fn config_of(app: &AppPlan, pid: usize) -> AppConfig {
    let name = format!("default/app-{}", app.number);
    AppConfig {
        name: format!("{name} at p{pid}"),
        service: format!("app-{}", app.number),
        route: Route::Pods,
        label: name,
        ports: vec!["http".to_owned()],
        ready_gate: ReadyGate::Probe,
        min_ready: MinReady::default(),
        topology: Topology::default(),
        hold_timeout: app.hold,
        fail_fast: false,
        schedules: Schedules::none(|| 0),
    }
}
