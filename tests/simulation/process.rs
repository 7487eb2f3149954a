//! A zpa process: the real composition over simulated sockets and a simulated
//! API, with a clock of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use zpa::accept_probe::ReadyGate;
use zpa::clock::Time;
use zpa::cluster::Report;
use zpa::daemon::app::{AppConfig, MinReady, Schedules};
use zpa::daemon::interface::Sockets;
use zpa::daemon::proxy::{DrainConfig, Proxy};
use zpa::daemon::route::Route;
use zpa::daemon::topology::Topology;
use zpa::engine::AppId;
use zpa::policy::{Config, Policy};

use crate::api::{Outbox, SimApi, Threads};
use crate::neighbour::{ProcessSockets, Surroundings};
use crate::plan::{Mutant, Plan};
use crate::rng::Rng;
use crate::sockets::SimSockets;
use crate::target_watch::TargetWatch;
use crate::world::Event;

/// How long a proxy goes on accepting after SIGTERM, and how long it lets
/// connections finish.
pub const DRAIN_DELAY: Duration = Duration::from_secs(5);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// The app of a process.
pub const APP: AppId = AppId(0);

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

    /// When it shows that; never sooner.
    pub fn when(&self, shown: Time) -> Time {
        let run = shown.since(Time::new(self.epoch));
        let exact = run.as_secs_f64() / self.rate;
        let exact = Duration::try_from_secs_f64(exact).unwrap_or(Duration::MAX);
        Time::new(exact) + Duration::from_nanos(1000)
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
    /// The world of its other app, if it has one.
    pub neighbour: Option<Surroundings>,
    /// What it has asked the API threads for.
    pub outbox: Rc<RefCell<Outbox>>,
    /// What the threads have for it.
    pub mailbox: Vec<Report>,
    /// The threads.
    pub threads: Threads,
    /// The watch.
    pub watch: Watch,
    /// The watch of the Deployment.
    pub target_watch: TargetWatch,
    /// Whether the last messages for it say that a wake would lead nowhere,
    pub lacks_endpoints: bool,
    /// and whether that was reported to it.
    pub cannot_wake: bool,
    /// Whether it runs.
    pub state: State,
    /// Whether it has got a SIGTERM.
    pub ending: bool,
    /// Its clock.
    pub clock: BootClock,
    /// When its next turn is.
    pub turn_at: Option<Time>,
    /// The turns of the last second, to notice a loop that spins.
    pub turns: (Time, u32),
    /// The numbers of the requests that are out, by ticket.
    pub ids: BTreeMap<u64, u64>,
    /// What has come for it while it is stopped.
    pub held_back: Vec<Event>,
    /// What happens to its requests.
    pub rng: Rng,
}

impl Process {
    /// Starts one.
    pub fn start(slot: usize, plan: &Plan, pid: usize, now: Time) -> Process {
        let mut rng = Rng::new(plan.seed, 1000 + pid as u64);
        let clock = BootClock::draw(plan, &mut rng);
        let sockets = SimSockets::new(plan.hold, plan.mutant);
        let sockets = ProcessSockets::new(sockets, plan, pid);
        let outbox = Rc::new(RefCell::new(Outbox::default()));
        let config = Config {
            idle_ttl: plan.ttl_of(slot),
            wake_replicas: 1,
            ..Config::default()
        };
        let policy = Policy::new(config, rng.bits(), clock.shows(now));
        let app = AppConfig {
            name: format!("default/app at p{pid}"),
            service: "app".to_owned(),
            route: Route::Pods,
            label: "default/app".to_owned(),
            ports: vec!["http".to_owned()],
            topology: Topology::default(),
            ready_gate: ReadyGate::Probe,
            min_ready: MinReady::default(),
            hold_timeout: plan.hold,
            schedules: Schedules::none(|| 0),
        };
        let drain = DrainConfig {
            delay: DRAIN_DELAY,
            timeout: DRAIN_TIMEOUT,
        };
        let api = SimApi(outbox.clone());
        let mut proxy = Proxy::new(sockets, drain);
        proxy.add(APP, api, policy, app, clock.shows(now));
        let neighbour = Surroundings::add(&mut proxy, plan, pid, clock.shows(now));
        Process {
            slot,
            proxy,
            neighbour,
            outbox,
            mailbox: Vec::new(),
            threads: Threads::default(),
            watch: Watch::default(),
            target_watch: TargetWatch::default(),
            lacks_endpoints: false,
            cannot_wake: false,
            state: State::Running,
            ending: false,
            clock,
            turn_at: None,
            turns: (now, 0),
            ids: BTreeMap::new(),
            held_back: Vec::new(),
            rng,
        }
    }

    /// What its apps are sent for the next turn.
    pub fn take_reports(&mut self) -> Vec<(AppId, Report)> {
        let reports = std::mem::take(&mut self.mailbox);
        let mut reports: Vec<_> = reports.into_iter().map(|it| (APP, it)).collect();
        if let Some(neighbour) = &mut self.neighbour {
            let clients = self.proxy.sockets.neighbours_clients();
            reports.extend(neighbour.reports(clients));
        }
        reports
    }

    /// When there is something to do for the app: see `neighbour`.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.neighbour.is_none() {
            return self.proxy.poll_timeout();
        }
        let sockets = &self.proxy.sockets;
        let app = self
            .proxy
            .app(APP)
            .and_then(|app| app.poll_timeout(sockets));
        app.into_iter().chain(sockets.poll_timeout()).min()
    }

    /// What it decides about the app.
    pub fn policy(&self) -> &Policy {
        self.proxy.app(APP).expect("it has the app").policy()
    }

    /// Whether it runs or will run on.
    pub fn is_alive(&self) -> bool {
        self.state != State::Dead
    }

    /// Whether it lets new clients in.
    pub fn is_accepting(&self) -> bool {
        self.is_alive() && self.proxy.sockets.is_accepting()
    }
}
