//! The *neighbour*: another app of the same processes. What happens to it must show nowhere at
//! the app of the simulation: a run beside a neighbour that sleeps and one beside a neighbour in
//! every trouble are the same, to the last event.
//!
//! The neighbour has an API server, pods and clients of its own, which are no more than random
//! numbers: its requests are refused, lost and answered with whatever there is, its endpoints
//! come, go and may not be listed, and thousands of clients come and leave. Its deadlines are
//! dealt with when a turn is made for the app: a turn more would be a difference.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use zpa::accept_probe::ReadyGate;
use zpa::clock::Time;
use zpa::cluster::{
    AddressSource, NoAddress, Observation, Outcome, Permission, Pod, Refusal, Report, Request,
    Scale,
};
use zpa::daemon::app::{AppConfig, MinReady, Schedules};
use zpa::daemon::interface::Sockets;
use zpa::daemon::proxy::Proxy;
use zpa::daemon::route::Route;
use zpa::daemon::topology::Topology;
use zpa::engine::{AppId, BackendSpec, Counts, PortId};
use zpa::policy::{Config, Policy};

use crate::api::{Outbox, SimApi};
use crate::plan::{Action, Plan};
use crate::rng::Rng;
use crate::shrink::play;
use crate::sockets::SimSockets;

/// The id of the neighbour.
const NEIGHBOUR: AppId = AppId(1);

/// How many runs are compared.
const SEEDS: u64 = 30;

/// What becomes of the neighbour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Neighbour {
    /// There is none.
    #[default]
    None,
    /// It sleeps, and nobody connects.
    Asleep,
    /// It meets with every fault and a storm of clients.
    InTrouble,
}

/// The sockets of a process: those of the app, and what is counted of the neighbour.
pub struct ProcessSockets {
    app: SimSockets,
    neighbour: Option<Clients>,
}

/// The clients of the neighbour.
struct Clients {
    rng: Rng,
    in_trouble: bool,
    counts: Counts,
    gate_open: bool,
    has_changed: bool,
}

/// The world of the neighbour.
pub struct Surroundings {
    rng: Rng,
    in_trouble: bool,
    outbox: Rc<RefCell<Outbox>>,
    replicas: u32,
    version: u64,
    /// What the neighbour has requested since the start, for the totals.
    pub requests: u64,
}

impl ProcessSockets {
    /// The sockets of the app, with those of a neighbour if the plan has one.
    pub fn new(app: SimSockets, plan: &Plan, pid: usize) -> ProcessSockets {
        let neighbour = (plan.neighbour != Neighbour::None).then(|| Clients {
            rng: Rng::new(plan.seed, 50_000 + pid as u64),
            in_trouble: plan.neighbour == Neighbour::InTrouble,
            counts: Counts::default(),
            gate_open: false,
            has_changed: false,
        });
        ProcessSockets { app, neighbour }
    }

    /// How many clients the neighbour has.
    pub fn neighbours_clients(&self) -> usize {
        let neighbour = self.neighbour.as_ref();
        neighbour.map_or(0, |it| it.counts.open)
    }

    fn of_neighbour(&self, app: AppId) -> Option<&Clients> {
        self.neighbour.as_ref().filter(|_| app == NEIGHBOUR)
    }
}

impl Deref for ProcessSockets {
    type Target = SimSockets;

    fn deref(&self) -> &SimSockets {
        &self.app
    }
}

impl DerefMut for ProcessSockets {
    fn deref_mut(&mut self) -> &mut SimSockets {
        &mut self.app
    }
}

impl Clients {
    /// Clients come and go, thousands at a time; those that wait are served while the gate is
    /// open.
    fn turn(&mut self) {
        if !self.in_trouble || self.rng.chance(0.3) {
            return;
        }
        let before = self.counts;
        let counts = &mut self.counts;
        if self.rng.chance(0.3) {
            let many = self.rng.below(10_000);
            counts.accepted += many as u64;
            counts.uses += many as u64;
            counts.open += many;
            counts.waiting += many;
        }
        if self.gate_open {
            counts.forwarded += counts.waiting as u64;
            counts.waiting = 0;
        }
        if self.rng.chance(0.3) {
            counts.held_too_long += counts.waiting as u64;
            (counts.open, counts.waiting) = (0, 0);
        }
        counts.counted = counts.open;
        counts.is_full = self.rng.chance(0.2);
        self.has_changed |= *counts != before;
    }
}

impl Sockets for ProcessSockets {
    fn counts(&self, app: AppId) -> Counts {
        match self.of_neighbour(app) {
            Some(clients) => clients.counts,
            None => self.app.counts(app),
        }
    }

    fn waiting(&self, port: PortId) -> usize {
        match self.of_neighbour(port.app) {
            Some(clients) => clients.counts.waiting,
            None => self.app.waiting(port),
        }
    }

    fn take_changed_apps(&mut self) -> Vec<AppId> {
        let mut changed = self.app.take_changed_apps();
        let neighbour = self.neighbour.as_mut();
        if neighbour.is_some_and(|it| std::mem::take(&mut it.has_changed)) {
            changed.push(NEIGHBOUR);
        }
        changed
    }

    fn longest_waiting(&self, app: AppId) -> Option<std::net::IpAddr> {
        self.app.longest_waiting(app)
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.app.poll_timeout()
    }

    fn set_gate(&mut self, app: AppId, open: bool, now: Time) {
        match self.neighbour.as_mut().filter(|_| app == NEIGHBOUR) {
            Some(clients) => clients.gate_open = open,
            None => self.app.set_gate(app, open, now),
        }
    }

    fn set_backends(&mut self, port: PortId, backends: &[BackendSpec], now: Time) {
        if self.of_neighbour(port.app).is_none() {
            self.app.set_backends(port, backends, now);
        }
    }

    fn set_fallback(&mut self, port: PortId, address: Option<SocketAddr>) {
        if self.of_neighbour(port.app).is_none() {
            self.app.set_fallback(port, address);
        }
    }

    fn dispatch(&mut self, now: Time) {
        self.app.dispatch(now);
        if let Some(clients) = &mut self.neighbour {
            clients.turn();
        }
    }

    fn release(&mut self, now: Time) {
        self.app.release(now);
    }

    fn end_uncounted(&mut self, app: AppId, now: Time) {
        self.app.end_uncounted(app, now);
    }

    fn stop_accepting(&mut self, app: AppId, now: Time) {
        if self.of_neighbour(app).is_none() {
            self.app.stop_accepting(app, now);
        }
    }

    fn reset_all(&mut self, app: AppId, now: Time) {
        if self.of_neighbour(app).is_none() {
            self.app.reset_all(app, now);
        }
    }

    fn remove_app(&mut self, app: AppId, now: Time) {
        self.app.remove_app(app, now);
    }
}

impl Surroundings {
    /// Adds the neighbour to a process, if the plan has one.
    pub fn add(
        proxy: &mut Proxy<ProcessSockets, SimApi>,
        plan: &Plan,
        pid: usize,
        now: Time,
    ) -> Option<Surroundings> {
        if plan.neighbour == Neighbour::None {
            return None;
        }
        let mut rng = Rng::new(plan.seed, 60_000 + pid as u64);
        let outbox = Rc::new(RefCell::new(Outbox::default()));
        let config = Config {
            idle_ttl: plan.ttl,
            ..Config::default()
        };
        let app = AppConfig {
            name: format!("default/neighbour at p{pid}"),
            service: "neighbour".to_owned(),
            route: Route::Pods,
            label: "default/neighbour".to_owned(),
            ports: vec!["http".to_owned()],
            topology: Topology::default(),
            ready_gate: ReadyGate::Probe,
            hold_timeout: plan.hold,
            schedules: Schedules::none(|| 0),
            min_ready: MinReady::default(),
        };
        let policy = Policy::new(config, rng.bits(), now);
        proxy.add(NEIGHBOUR, SimApi(outbox.clone()), policy, app, now);
        Some(Surroundings {
            rng,
            in_trouble: plan.neighbour == Neighbour::InTrouble,
            outbox,
            replicas: 0,
            version: 1,
            requests: 0,
        })
    }

    /// What the neighbour is sent for the next turn. Panics if it has asked for its sleep
    /// while it had clients.
    pub fn reports(&mut self, clients: usize) -> Vec<(AppId, Report)> {
        let requested = std::mem::take(&mut *self.outbox.borrow_mut());
        let mut reports = Vec::new();
        for (id, request) in requested.requests {
            let is_sleep = matches!(request, Request::WriteScale { replicas: 0, .. });
            assert!(
                !is_sleep || clients == 0,
                "it sleeps under {clients} clients"
            );
            self.requests += 1;
            let outcome = self.outcome(&request);
            // Some replies are lost.
            if !self.in_trouble || self.rng.chance(0.9) {
                reports.push(Report::Reply { id, outcome });
            }
        }
        if self.in_trouble && self.rng.chance(0.5) {
            reports.push(self.news());
        }
        reports.into_iter().map(|it| (NEIGHBOUR, it)).collect()
    }

    fn scale(&mut self) -> Scale {
        self.version += 1;
        Scale::of(self.replicas, &self.version.to_string())
    }

    fn outcome(&mut self, request: &Request) -> Outcome {
        if self.in_trouble && self.rng.chance(0.6) {
            let retry_after = self.rng.chance(0.3).then_some(Duration::from_secs(7));
            return match self.rng.below(7) {
                0 => Outcome::Forbidden,
                1 => Outcome::Unauthorized,
                2 => Outcome::NotFound,
                3 => Outcome::Conflict,
                4 => Outcome::Unreachable,
                5 => Outcome::Busy { retry_after },
                _ => Outcome::Unknown { retry_after },
            };
        }
        if let Request::WriteScale { replicas, .. } = request {
            self.replicas = *replicas;
        }
        Outcome::Scale(self.scale())
    }

    /// Something that nobody has asked for.
    fn news(&mut self) -> Report {
        let refusal = |refused: bool| {
            refused.then(|| Refusal {
                why: "RBAC: not allowed".to_owned(),
                fallback: None,
            })
        };
        match self.rng.below(8) {
            0 => Report::Synced(None),
            1 => Report::Synced(Some(AddressSource::Endpoints)),
            2 | 3 => Report::Pods {
                port: 0,
                pods: self.pods(),
            },
            4 => Report::NoAddress {
                port: 0,
                why: self
                    .rng
                    .chance(0.5)
                    .then(|| NoAddress::ServiceMissing("404".to_owned())),
            },
            5 => Report::Permission {
                permission: self.rng.pick(&Permission::ALL),
                refusal: refusal(self.rng.chance(0.7)),
            },
            6 => {
                self.replicas = self.rng.below(3) as u32;
                Report::Observed(Observation::Scale(self.scale()))
            }
            _ => Report::RequestFailed("the API server cannot be reached".to_owned()),
        }
    }

    fn pods(&mut self) -> Vec<Pod> {
        let count = self.rng.below(4) as u8;
        let pod = |n: u8| {
            let address = vec![SocketAddr::from(([10, 99, 0, n + 1], 80))];
            let is_ready = self.rng.chance(0.5);
            Pod {
                uid: format!("neighbour-{n}"),
                addresses: if is_ready {
                    address.clone()
                } else {
                    Vec::new()
                },
                unready_addresses: if is_ready { Vec::new() } else { address },
                ..Pod::default()
            }
        };
        (0..count).map(pod).collect()
    }
}

/// A rollout is left out: a process ends when all of its apps have drained.
fn beside(seed: u64, neighbour: Neighbour) -> Plan {
    let mut plan = Plan::draw(seed);
    plan.actions
        .retain(|(_, action)| !matches!(action, Action::Rollout(_)));
    plan.neighbour = neighbour;
    plan
}

#[test]
fn what_happens_to_one_app_shows_nowhere_at_another_of_the_same_process() {
    let (mut wakes, mut requests) = (0, [0; 2]);
    for seed in 0..SEEDS {
        let runs = [Neighbour::Asleep, Neighbour::InTrouble]
            .map(|neighbour| play(&beside(seed, neighbour), true));
        let [calm, troubled] = &runs;
        for (run, sum) in runs.iter().zip(&mut requests) {
            assert_eq!(run.violation, None, "seed {seed}");
            *sum += run.totals.neighbour_requests;
        }
        let mut events = calm.trace.iter().zip(&troubled.trace);
        if let Some((calm, troubled)) = events.find(|(calm, troubled)| calm != troubled) {
            panic!("seed {seed}: {troubled:?} in place of {calm:?}");
        }
        assert_eq!(calm.trace.len(), troubled.trace.len(), "seed {seed}");
        assert_eq!(calm.totals.results, troubled.totals.results, "seed {seed}");
        wakes += calm.totals.wakes;
    }
    assert!(wakes > SEEDS, "the app is used: {wakes}");
    assert!(
        requests[1] > requests[0] + 1000,
        "so is the other: {requests:?}"
    );
}
