//! [`AppWorld`]: one app of the simulation: its Deployment, pods, clients and oracle, and its side
//! of each process ([`Seat`]). Apps have nothing in common but the processes and the time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{Observation, Outcome, Pod, Report, Request};
use zpa::engine::AppId;
use zpa::policy::{Phase, Policy};

use crate::api::{Outbox, Threads};
use crate::deployment::Deployment;
use crate::detours::Learned;
use crate::oracle::{Oracle, Violation, Waiting};
use crate::plan::{AppPlan, Plan, Script, actor};
use crate::pods::{Life, PodId, SimPods};
use crate::process::{Process, Watch};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::sockets::{ClientId, Event as OnSocket, SimSockets};
use crate::target_watch::TargetWatch;
use crate::totals::Totals;
use crate::traffic::Client;
use crate::trouble::{Restriction, Window};
use crate::world::{self, Pid, Trace};

/// An event that concerns one app.
pub enum Event {
    /// An event on a socket of a proxy.
    Socket(Pid, ClientId, OnSocket),
    /// The API threads of a proxy make the requests that are due.
    Threads(Pid),
    /// A request reaches the server.
    Execute(Pid, u64, Request, Option<Duration>),
    /// A proxy receives the outcome of its request.
    Reply(Pid, u64, Request, Outcome),
    /// The Deployment is created again.
    Recreate(u32),
    /// The Deployment controller reconciles.
    Reconcile,
    /// A pod has come up.
    PodReady(PodId),
    /// A pod's process ends.
    PodStops(PodId),
    /// A pod's address is removed.
    PodGone(PodId),
    /// The endpoints controller reconciles.
    Slices,
    /// A watch shows the slices as they were with that number.
    Watched(Pid, u64, Rc<Vec<Pod>>),
    /// A proxy lists the slices, if it has not done so since that list.
    List(Pid, u64),
    /// A proxy lists the Deployment and watches it, unless it does so already.
    WatchTarget(Pid, u64),
    /// The watch with that number shows the Deployment.
    Observed(Pid, u64, Box<Observation>),
    /// A watch of the Deployment has ended at its timeout.
    RenewTargetWatch(Pid, u64),
    /// A proxy notices that its watch of the Deployment is broken.
    TargetWatchEnds(Pid, u64),
    /// A client performs the next step of its script.
    Client(ClientId),
    /// A client times out.
    Impatience(ClientId),
    /// Bytes of a client arrive at a pod, through a proxy.
    AtPod(Pid, ClientId, u64),
    /// Bytes of a pod arrive at a client.
    AtClient(ClientId, u64),
    /// A client connects at a critical moment: shortly after a proxy has changed its phase.
    CriticalClient(usize),
}

/// The side of an app that a process has.
pub struct Seat {
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
    /// When the process is shown what has come for the app, if something has.
    pub shown_at: Option<Time>,
    /// The numbers of the requests that are out, by ticket.
    pub ids: BTreeMap<u64, u64>,
    /// What has come for it while the process is stopped.
    pub held_back: Vec<Event>,
    /// What happens to its requests.
    pub rng: Rng,
}

/// The state of an app.
pub struct AppState {
    /// Its place among the apps of the run.
    pub index: usize,
    pub plan: AppPlan,
    pub deployment: Deployment,
    /// The version of it that watches were shown last.
    pub shown_version: u64,
    pub restrictions: Vec<Restriction>,
    /// The places for which the Service has no port, each until then.
    pub lost_ports: Vec<(usize, Time)>,
    pub pods: SimPods,
    pub learned: Learned,
    pub slices: (u64, Rc<Vec<Pod>>),
    pub slow_controllers: Time,
    pub slow_pods: Time,
    /// Until when no new pod is ready.
    pub no_pods: Time,
    pub windows: Vec<Window>,
    /// Its side of each process.
    pub seats: Vec<Seat>,
    pub clients: Vec<Client>,
    pub critical_clients: Vec<(usize, Script)>,
    pub oracle: Oracle,
    pub totals: Totals,
    pub rng: Rng,
}

/// An app with what it shares with others, for the time of an event.
pub struct AppWorld<'w> {
    pub plan: &'w Plan,
    pub now: Time,
    pub queue: &'w mut Queue<world::Event>,
    pub processes: &'w mut Vec<Process>,
    pub trace: &'w mut Trace,
    pub app: &'w mut AppState,
}

impl Seat {
    /// That of a process that starts.
    pub fn new(plan: &Plan, app: &AppPlan, pid: Pid) -> Seat {
        Seat {
            outbox: Rc::new(RefCell::new(Outbox::default())),
            mailbox: Vec::new(),
            threads: Threads::default(),
            watch: Watch::default(),
            target_watch: TargetWatch::default(),
            lacks_endpoints: false,
            cannot_wake: false,
            shown_at: None,
            ids: BTreeMap::new(),
            held_back: Vec::new(),
            rng: Rng::new(plan.seed, actor(app.number, 1000 + pid as u64)),
        }
    }
}

impl AppState {
    /// The app in that place of the plan.
    pub fn new(plan: &Plan, index: usize) -> AppState {
        let app = plan.apps[index].clone();
        AppState {
            index,
            deployment: Deployment::new(app.replicas, plan.flaws),
            shown_version: 0,
            restrictions: Vec::new(),
            lost_ports: Vec::new(),
            pods: SimPods::default(),
            learned: Learned::default(),
            slices: (0, Rc::new(Vec::new())),
            slow_controllers: Time::default(),
            slow_pods: Time::default(),
            no_pods: Time::default(),
            windows: Vec::new(),
            seats: Vec::new(),
            clients: Vec::new(),
            critical_clients: Vec::new(),
            oracle: Oracle::new(plan, &app),
            totals: Totals::default(),
            rng: Rng::new(plan.seed, actor(app.number, 5)),
            plan: app,
        }
    }

    /// Its id in every process.
    pub fn id(&self) -> AppId {
        AppId(self.plan.number as u32)
    }

    /// Records the rule that was broken, unless another one was before.
    pub fn violated(&mut self, rule: &'static str, what: String, at: Time) {
        let violation = Violation { at, rule, what };
        self.oracle.violation.get_or_insert(violation);
    }
}

impl AppWorld<'_> {
    /// Does what follows from an event.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Socket(pid, client, event) => self.push_to_socket(pid, client, event),
            Event::Threads(pid) => self.work_on_requests(pid),
            Event::Execute(pid, ticket, request, received) => {
                self.execute(pid, ticket, request, received);
            }
            Event::Reply(pid, ticket, request, outcome) => {
                self.reply(pid, ticket, request, outcome);
            }
            Event::Recreate(replicas) => self.recreate(replicas),
            Event::Reconcile => self.reconcile(),
            Event::PodReady(pod) => self.pod_ready(pod),
            Event::PodStops(pod) => self.pod_stops(pod),
            Event::PodGone(pod) => self.app.pods.get(pod).life = Life::Gone,
            Event::Slices => self.write_slices(),
            Event::Watched(pid, number, pods) => self.watched(pid, number, &pods),
            Event::List(pid, round) => self.list_if_still_due(pid, round),
            Event::WatchTarget(pid, round) => self.watch_target(pid, round),
            Event::Observed(pid, round, observation) => self.observed(pid, round, *observation),
            Event::RenewTargetWatch(pid, round) => self.renew_target_watch(pid, round),
            Event::TargetWatchEnds(pid, round) => self.target_watch_ends(pid, round),
            Event::Client(client) => self.client_acts(client),
            Event::Impatience(client) => self.client_resets(client),
            Event::AtPod(pid, client, bytes) => self.at_pod(pid, client, bytes),
            Event::AtClient(client, bytes) => self.at_client(client, bytes),
            Event::CriticalClient(number) => self.start_critical_client(number),
        }
    }

    /// Adds a line to the trace, if one is requested.
    pub fn trace(&mut self, what: impl FnOnce() -> String) {
        self.trace.add(self.now, Some(self.app.plan.number), what);
    }

    /// Schedules an event of the app.
    pub fn later(&mut self, after: Duration, event: Event) {
        self.put(self.now + after, event);
    }

    /// Schedules an event of the app at that time.
    pub fn put(&mut self, at: Time, event: Event) {
        let event = world::Event::OfApp(self.app.index, Box::new(event));
        self.queue.put(at, event);
    }

    /// The sockets of the app in a process.
    pub fn sockets(&self, pid: Pid) -> &SimSockets {
        self.processes[pid].proxy.sockets.of(self.app.id())
    }

    /// The same, to change them.
    pub fn sockets_mut(&mut self, pid: Pid) -> &mut SimSockets {
        self.processes[pid].proxy.sockets.of_mut(self.app.id())
    }

    /// What a process decides about the app.
    pub fn policy(&self, pid: Pid) -> &Policy {
        self.processes[pid].policy(self.app.id())
    }

    /// Shows a process what has come for the app: mostly at once, sometimes a few milliseconds
    /// later, so that several events come to it in one turn.
    pub fn wake(&mut self, pid: Pid) {
        let lag = if self.app.rng.chance(0.7) {
            Duration::ZERO
        } else {
            self.app
                .rng
                .between(Duration::ZERO, Duration::from_millis(5))
        };
        let at = self.now + lag;
        let seat = &mut self.app.seats[pid];
        if seat.shown_at.is_none_or(|planned| at < planned) {
            seat.shown_at = Some(at);
            self.queue.put_behind(at, pid, world::Event::Turn(pid));
        }
    }

    /// The reports for a turn in which the process is shown what has come for the app.
    pub fn begin_turn(&mut self, pid: Pid) -> Vec<Report> {
        let seat = &mut self.app.seats[pid];
        seat.shown_at = None;
        std::mem::take(&mut seat.mailbox)
    }

    /// Notes a new phase after a turn.
    pub fn has_changed_phase(&mut self, pid: Pid, before: &Phase) {
        let phase = self.policy(pid).phase().clone();
        if phase != *before {
            self.trace(|| format!("p{pid} {phase:?}"));
            self.plan_critical_client(&phase);
        }
    }

    /// Performs the effects of a turn. One in which there was nothing to do for the app should
    /// have none.
    pub fn after_a_turn(&mut self, pid: Pid, is_due: bool) {
        let effects = self.sockets_mut(pid).take_effects();
        for (client, effect) in effects {
            self.carry_out(pid, client, effect);
        }
        if is_due {
            let clock = self.processes[pid].clock;
            let shown = clock.shows(self.now);
            let left = self.policy(pid).lease_left(shown);
            let claimed = clock.when(shown + left.unwrap_or_default());
            self.app.oracle.turned(pid, claimed, self.now);
        }
        let open = self.sockets(pid).clients().len();
        self.app.oracle.open(pid, open);
        let seat = &mut self.app.seats[pid];
        let outbox = std::mem::take(&mut *seat.outbox.borrow_mut());
        for job in outbox.requests {
            let sleeps = matches!(job.1, Request::WriteScale { replicas: 0, .. });
            if sleeps && seat.cannot_wake {
                self.app.oracle.sleeps_without_a_way_back(pid, self.now);
            }
            seat.threads.put(job);
        }
        if seat.mailbox.is_empty() {
            seat.cannot_wake = seat.lacks_endpoints;
        }
        self.work_on_requests(pid);
        if outbox.refresh {
            self.refresh(pid);
        }
    }

    /// The oracle checks the rules about liveness.
    pub fn check(&mut self) {
        let alive = 0..self.processes.len();
        let alive = alive.filter(|&pid| self.processes[pid].is_alive());
        let waiting: Vec<_> = alive
            .filter_map(|pid| {
                let since = self.sockets(pid).waiting_since()?;
                let clock = self.processes[pid].clock;
                let shown = clock.shows(self.now);
                Some(Waiting {
                    pid,
                    since: clock.when(since),
                    gate_open: self.policy(pid).gate_open(shown),
                })
            })
            .collect();
        let replicas = self.app.deployment.replicas();
        self.app.oracle.check(replicas, &waiting, self.now);
        self.check_for_detours();
    }

    /// Checks the end of a run.
    pub fn check_that_every_client_has_ended(&mut self) {
        let open: Vec<_> = (0..self.app.clients.len())
            .filter(|&client| !self.app.clients[client].ended)
            .collect();
        if !open.is_empty() {
            let what = format!("clients {open:?} have neither been served nor closed");
            let rule = "every client is served, or closed for a reason";
            self.app.violated(rule, what, self.now);
        }
    }
}
