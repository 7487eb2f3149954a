//! [`World`]: the simulation: a queue of events in the order of their times, and the state that
//! they change.

use std::rc::Rc;
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{Observation, Outcome, Pod, Request};

use crate::deployment::{Change, Deployment};
use crate::detours::Learned;
use crate::oracle::{Oracle, Violation, Waiting};
use crate::plan::{Mutant, Plan, Script};
use crate::pods::{PodId, SimPods};
use crate::process::{Process, State};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::sockets::{ClientId, Event as OnSocket};
use crate::totals::Totals;
use crate::traffic::Client;
use crate::trouble::{Restriction, Window};

/// The interval at which the oracle checks liveness.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The turns in a second from which on a loop counts as busy.
const SPIN: u32 = 2000;

/// The number of a process; never used again.
pub type Pid = usize;

/// An event of the simulation.
pub enum Event {
    /// An action of the plan.
    Action(usize),
    /// A proxy's loop wakes up.
    Turn(Pid),
    /// An event on a socket of a proxy.
    Socket(Pid, ClientId, OnSocket),
    /// The API threads of a proxy make the requests that are due.
    Threads(Pid),
    /// A request reaches the server.
    Execute(Pid, u64, Request, Option<Duration>),
    /// A proxy receives the outcome of its request.
    Reply(Pid, u64, Request, Outcome),
    /// A stopped process continues.
    Resume(Pid),
    /// A process starts in that place.
    Start(usize),
    /// An old process gets a SIGTERM.
    Terminate(Pid),
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
    /// The oracle checks the rules about liveness.
    Check,
}

/// The result of a run.
pub struct End {
    /// The totals.
    pub totals: Totals,
    /// Every change of scale.
    pub history: Vec<Change>,
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// All events in words, if requested.
    pub trace: Vec<(Time, String)>,
}

/// The state of the simulation.
pub struct World<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) now: Time,
    pub(crate) queue: Queue<Event>,
    pub(crate) deployment: Deployment,
    /// The version of it that watches were shown last.
    pub(crate) shown_version: u64,
    pub(crate) restrictions: Vec<Restriction>,
    /// The places for which the Service has no port, each until then.
    pub(crate) lost_ports: Vec<(usize, Time)>,
    pub(crate) pods: SimPods,
    pub(crate) learned: Learned,
    pub(crate) slices: (u64, Rc<Vec<Pod>>),
    pub(crate) slow_controllers: Time,
    pub(crate) slow_pods: Time,
    pub(crate) windows: Vec<Window>,
    pub(crate) processes: Vec<Process>,
    pub(crate) clients: Vec<Client>,
    pub(crate) critical_clients: Vec<(usize, Script)>,
    pub(crate) oracle: Oracle,
    pub(crate) totals: Totals,
    pub(crate) rng: Rng,
    trace: Option<Vec<(Time, String)>>,
}

impl<'a> World<'a> {
    /// Plays the plan to its end, or up to the first rule that is broken.
    pub fn play(plan: &'a Plan, with_trace: bool) -> End {
        let mut world = World::new(plan, with_trace);
        world.begin();
        let end = Time::new(plan.horizon + plan.hold + plan.ttl * 6 + Duration::from_secs(400));
        while let Some((at, event)) = world.queue.take() {
            if at > end || world.oracle.violation.is_some() {
                break;
            }
            world.now = at;
            world.handle(event);
        }
        if world.oracle.violation.is_none() {
            world.check_that_every_client_has_ended();
        }
        world.finish()
    }

    fn new(plan: &'a Plan, with_trace: bool) -> Self {
        World {
            plan,
            now: Time::default(),
            queue: Queue::new(),
            deployment: Deployment::new(plan.replicas, plan.flaws),
            shown_version: 0,
            restrictions: Vec::new(),
            lost_ports: Vec::new(),
            pods: SimPods::default(),
            learned: Learned::default(),
            slices: (0, Rc::new(Vec::new())),
            slow_controllers: Time::default(),
            slow_pods: Time::default(),
            windows: Vec::new(),
            processes: Vec::new(),
            clients: Vec::new(),
            critical_clients: Vec::new(),
            oracle: Oracle::new(plan),
            totals: Totals::default(),
            rng: Rng::new(plan.seed, 1),
            trace: with_trace.then(Vec::new),
        }
    }

    fn begin(&mut self) {
        for slot in 0..self.plan.slots {
            self.start(slot);
        }
        for (number, (at, _)) in self.plan.actions.iter().enumerate() {
            self.queue.put(*at, Event::Action(number));
        }
        self.queue.put(self.now, Event::Reconcile);
        self.queue.put(self.now, Event::Check);
    }

    fn finish(mut self) -> End {
        self.totals.seeds = 1;
        self.totals.time = self.now.since(Time::default());
        self.totals.connections = self.clients.len() as u64;
        self.totals.wakes = self.oracle.wakes;
        self.totals.sleeps = self.oracle.sleeps;
        let neighbours = self.processes.iter().filter_map(|it| it.neighbour.as_ref());
        self.totals.neighbour_requests = neighbours.map(|it| it.requests).sum();
        self.totals.most_requests = self.oracle.most_requests;
        self.totals.results = std::mem::take(&mut self.oracle.results);
        End {
            totals: self.totals,
            history: self.oracle.history,
            violation: self.oracle.violation,
            trace: self.trace.unwrap_or_default(),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Action(number) => self.do_action(number),
            Event::Turn(pid) => self.turn_if_due(pid),
            Event::Socket(pid, client, event) => self.push_to_socket(pid, client, event),
            Event::Threads(pid) => self.work_on_requests(pid),
            Event::Execute(pid, ticket, request, received) => {
                self.execute(pid, ticket, request, received);
            }
            Event::Reply(pid, ticket, request, outcome) => {
                self.reply(pid, ticket, request, outcome);
            }
            Event::Resume(pid) => self.resume(pid),
            Event::Start(slot) => self.start(slot),
            Event::Terminate(pid) => self.terminate(pid),
            Event::Recreate(replicas) => self.recreate(replicas),
            Event::Reconcile => self.reconcile(),
            Event::PodReady(pod) => self.pod_ready(pod),
            Event::PodStops(pod) => self.pod_stops(pod),
            Event::PodGone(pod) => self.pods.get(pod).life = crate::pods::Life::Gone,
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
            Event::Check => self.check(),
        }
    }

    /// Adds a line to the trace, if one is requested.
    pub(crate) fn trace(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push((self.now, what()));
        }
    }

    /// Schedules an event.
    pub(crate) fn later(&mut self, after: Duration, event: Event) {
        self.queue.put(self.now + after, event);
    }

    fn check(&mut self) {
        let alive = self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, p)| p.is_alive());
        let waiting: Vec<_> = alive
            .filter_map(|(pid, process)| {
                let since = process.proxy.sockets.waiting_since()?;
                let shown = process.clock.shows(self.now);
                Some(Waiting {
                    pid,
                    since: process.clock.when(since),
                    gate_open: process.policy().gate_open(shown),
                })
            })
            .collect();
        self.oracle
            .check(self.deployment.replicas(), &waiting, self.now);
        self.check_for_detours();
        self.later(CHECK_INTERVAL, Event::Check);
    }

    fn check_that_every_client_has_ended(&mut self) {
        let open: Vec<_> = (0..self.clients.len())
            .filter(|&client| !self.clients[client].ended)
            .collect();
        if !open.is_empty() {
            let what = format!("clients {open:?} have neither been served nor closed");
            let (at, rule) = (self.now, "every client is served, or closed for a reason");
            self.oracle.violation = Some(Violation { at, rule, what });
        }
    }

    // --- The loops of the proxies ---

    /// Schedules a turn of a proxy's loop: mostly at once, sometimes a few milliseconds later, so
    /// that several events come to it in one turn.
    pub(crate) fn wake(&mut self, pid: Pid) {
        let lag = if self.rng.chance(0.7) {
            Duration::ZERO
        } else {
            self.rng.between(Duration::ZERO, Duration::from_millis(5))
        };
        self.turn_at(pid, self.now + lag);
    }

    fn turn_at(&mut self, pid: Pid, at: Time) {
        let process = &mut self.processes[pid];
        if process.turn_at.is_none_or(|planned| at < planned) {
            process.turn_at = Some(at);
            self.queue.put(at, Event::Turn(pid));
        }
    }

    fn turn_if_due(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        if process.turn_at == Some(self.now) {
            process.turn_at = None;
            if process.state == State::Running {
                self.turn(pid);
            }
        }
    }

    /// Runs one turn of the real composition, with its effects.
    fn turn(&mut self, pid: Pid) {
        self.check_for_busy_loop(pid);
        let process = &mut self.processes[pid];
        let shown = process.clock.shows(self.now);
        let before = process.policy().phase().clone();
        let reports = process.take_reports();
        let exit = process.proxy.turn(reports, shown);
        let phase = process.policy().phase().clone();
        if phase != before {
            self.trace(|| format!("p{pid} {phase:?}"));
            self.plan_critical_client(&phase);
        }
        self.after_a_turn(pid);
        match exit {
            Some(exit) => self.remove_process(pid, &format!("{exit:?}")),
            None => self.plan_next_turn(pid),
        }
    }

    /// Performs the effects of a turn.
    pub(crate) fn after_a_turn(&mut self, pid: Pid) {
        let effects = self.processes[pid].proxy.sockets.take_effects();
        for (client, effect) in effects {
            self.carry_out(pid, client, effect);
        }
        let process = &self.processes[pid];
        let shown = process.clock.shows(self.now);
        let left = process.policy().lease_left(shown);
        let claimed = process.clock.when(shown + left.unwrap_or_default());
        self.oracle.turned(pid, claimed, self.now);
        let open = self.processes[pid].proxy.sockets.clients().len();
        self.oracle.open(pid, open);
        let outbox = std::mem::take(&mut *self.processes[pid].outbox.borrow_mut());
        let process = &mut self.processes[pid];
        for job in outbox.requests {
            let sleeps = matches!(job.1, Request::WriteScale { replicas: 0, .. });
            if sleeps && process.cannot_wake {
                self.oracle.sleeps_without_a_way_back(pid, self.now);
            }
            process.threads.put(job);
        }
        if process.mailbox.is_empty() {
            process.cannot_wake = process.lacks_endpoints;
        }
        self.work_on_requests(pid);
        if outbox.refresh {
            self.refresh(pid);
        }
    }

    fn plan_next_turn(&mut self, pid: Pid) {
        let process = &self.processes[pid];
        if let Some(shown) = process.poll_timeout() {
            let mut at = process.clock.when(shown);
            if self.plan.mutant == Mutant::Late {
                at = at + Duration::from_secs(10);
            }
            self.turn_at(pid, at.max(self.now));
        }
    }

    fn check_for_busy_loop(&mut self, pid: Pid) {
        let (since, count) = &mut self.processes[pid].turns;
        if self.now.since(*since) > Duration::from_secs(1) {
            (*since, *count) = (self.now, 0);
        }
        *count += 1;
        if *count > SPIN {
            let (at, rule) = (self.now, "the loop does not spin");
            let what = format!("p{pid}: {SPIN} turns in a second");
            self.oracle
                .violation
                .get_or_insert(Violation { at, rule, what });
        }
    }
}
