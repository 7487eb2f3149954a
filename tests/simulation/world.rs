//! [`World`]: the simulation: a queue of events in the order of their times, the processes, and the
//! apps, whose state they change.

use std::collections::BTreeMap;
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::Report;
use zpa::engine::AppId;

use crate::app::{self, AppState, AppWorld};
use crate::deployment::Change;
use crate::oracle::Violation;
use crate::plan::{Mutant, Plan};
use crate::process::{Process, State};
use crate::queue::Queue;
use crate::totals::Totals;

/// The interval at which the oracles check liveness.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The turns in a second from which on a loop counts as busy, for each app.
const SPIN: u32 = 2000;

/// The number of a process; never used again.
pub type Pid = usize;

/// An event of the simulation.
pub enum Event {
    /// An action of the plan.
    Action(usize),
    /// A proxy's loop wakes up.
    Turn(Pid),
    /// A stopped process continues.
    Resume(Pid),
    /// A process starts in that place.
    Start(usize),
    /// An old process gets a SIGTERM.
    Terminate(Pid),
    /// The oracles check the rules about liveness.
    Check,
    /// An event of the app in that place.
    OfApp(usize, Box<app::Event>),
}

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Time,
    /// The number of the app that it is about; none if it is about a process.
    pub app: Option<usize>,
    /// What has happened.
    pub what: String,
}

/// All that happens in words, if requested.
pub struct Trace(Option<Vec<Line>>);

/// The result of a run.
pub struct End {
    /// The totals of all apps.
    pub totals: Totals,
    /// Every change of scale of each app, one app after the other.
    pub history: Vec<Change>,
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// All events in words, if requested.
    pub trace: Vec<Line>,
}

/// The state of the simulation.
pub struct World<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) now: Time,
    pub(crate) queue: Queue<Event>,
    pub(crate) processes: Vec<Process>,
    pub(crate) apps: Vec<AppState>,
    pub(crate) faults: BTreeMap<String, u64>,
    trace: Trace,
}

impl Trace {
    /// Adds a line, if they are requested.
    pub fn add(&mut self, at: Time, app: Option<usize>, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0 {
            let what = what();
            lines.push(Line { at, app, what });
        }
    }
}

impl<'a> World<'a> {
    /// Plays the plan to its end, or up to the first rule that is broken.
    pub fn play(plan: &'a Plan, with_trace: bool) -> End {
        let mut world = World {
            plan,
            now: Time::default(),
            queue: Queue::new(),
            processes: Vec::new(),
            apps: (0..plan.apps.len())
                .map(|index| AppState::new(plan, index))
                .collect(),
            faults: BTreeMap::new(),
            trace: Trace(with_trace.then(Vec::new)),
        };
        world.begin();
        let end = world.end();
        while let Some((at, event)) = world.queue.take() {
            if at > end || world.violation().is_some() {
                break;
            }
            world.now = at;
            world.handle(event);
        }
        if world.violation().is_none() {
            world.for_each_app(|app| app.check_that_every_client_has_ended());
        }
        world.finish()
    }

    /// When everybody has had the time to leave and every app to fall asleep.
    fn end(&self) -> Time {
        let last = self.plan.apps.iter().map(|app| app.hold + app.ttl * 6);
        let last = last.max().unwrap_or_default();
        Time::new(self.plan.horizon + last + Duration::from_secs(400))
    }

    fn begin(&mut self) {
        for slot in 0..self.plan.slots {
            self.start(slot);
        }
        for (number, step) in self.plan.actions.iter().enumerate() {
            self.queue.put(step.at, Event::Action(number));
        }
        self.for_each_app(|app| app.later(Duration::ZERO, app::Event::Reconcile));
        self.queue.put(self.now, Event::Check);
    }

    fn violation(&self) -> Option<&Violation> {
        let mut violations = self.apps.iter().map(|app| &app.oracle.violation);
        violations.find_map(Option::as_ref)
    }

    fn finish(self) -> End {
        let violation = self.violation().cloned();
        let mut totals = Totals {
            seeds: 1,
            time: self.now.since(Time::default()),
            apps: self.apps.len() as u64,
            faults: self.faults,
            ..Totals::default()
        };
        let mut history = Vec::new();
        for app in self.apps {
            let oracle = app.oracle;
            totals.add(Totals {
                connections: app.clients.len() as u64,
                wakes: oracle.wakes,
                sleeps: oracle.sleeps,
                most_requests: oracle.most_requests,
                results: oracle.results,
                ..app.totals
            });
            history.extend(oracle.history);
        }
        End {
            totals,
            history,
            violation,
            trace: self.trace.0.unwrap_or_default(),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Action(number) => self.do_action(number),
            Event::Turn(pid) => self.turn_if_due(pid),
            Event::Resume(pid) => self.resume(pid),
            Event::Start(slot) => self.start(slot),
            Event::Terminate(pid) => self.terminate(pid),
            Event::Check => {
                self.for_each_app(|app| app.check());
                self.later(CHECK_INTERVAL, Event::Check);
            }
            Event::OfApp(index, event) => self.app(index).handle(*event),
        }
    }

    /// The app in that place, with what it shares with others.
    pub(crate) fn app(&mut self, index: usize) -> AppWorld<'_> {
        AppWorld {
            plan: self.plan,
            now: self.now,
            queue: &mut self.queue,
            processes: &mut self.processes,
            trace: &mut self.trace,
            app: &mut self.apps[index],
        }
    }

    /// Calls `work` with one app after the other.
    pub(crate) fn for_each_app(&mut self, mut work: impl FnMut(&mut AppWorld<'_>)) {
        for index in 0..self.apps.len() {
            work(&mut self.app(index));
        }
    }

    /// Adds a line about an app, or about a process, to the trace, if one is requested.
    pub(crate) fn trace(&mut self, app: Option<usize>, what: impl FnOnce() -> String) {
        self.trace.add(self.now, app, what);
    }

    /// Schedules an event.
    pub(crate) fn later(&mut self, after: Duration, event: Event) {
        self.queue.put(self.now + after, event);
    }

    // --- The loops of the proxies ---

    fn turn_if_due(&mut self, pid: Pid) {
        let now = self.now;
        let is_over = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let mut shown = self.apps.iter().map(|app| app.seats[pid].shown_at);
        let process = &mut self.processes[pid];
        let is_due = is_over(process.turn_at) || shown.any(is_over);
        if is_due && process.state == State::Running {
            process.turn_at = None;
            self.turn(pid);
        }
    }

    /// Runs one turn of the real composition, with its effects. An app is shown what has come
    /// for it in its own time, so that no app can tell by the turns what others do.
    fn turn(&mut self, pid: Pid) {
        let now = self.now;
        let most = SPIN * self.apps.len() as u32;
        if self.processes[pid].count_turn(now) > most {
            let what = format!("p{pid}: {most} turns in a second");
            self.apps[0].violated("the loop does not spin", what, now);
            return;
        }
        let process = &self.processes[pid];
        let clock = process.clock.shows(now);
        let is_due = |app: &AppState| {
            let shown_at = app.seats[pid].shown_at;
            shown_at.is_some_and(|at| at <= now) || process.is_due(app.id(), clock)
        };
        let due: Vec<bool> = self.apps.iter().map(is_due).collect();
        let phase = |app: &AppState| process.policy(app.id()).phase().clone();
        let phases: Vec<_> = self.apps.iter().map(phase).collect();
        let is_misrouting = self.plan.mutant == Mutant::Misrouting;
        let mut others: Vec<AppId> = self.apps.iter().map(AppState::id).collect();
        others.rotate_left(1);
        let mut reports = Vec::new();
        for index in (0..self.apps.len()).filter(|&index| due[index]) {
            let mut app = self.app(index);
            let id = app.app.id();
            let of_app = app.begin_turn(pid);
            let addressee = |report: &Report| match report {
                Report::Reply { id: 4.., .. } if is_misrouting => others[index],
                _ => id,
            };
            reports.extend(of_app.into_iter().map(|it| (addressee(&it), it)));
            self.processes[pid].proxy.sockets.of_mut(id).is_due = true;
        }
        let exit = self.processes[pid].proxy.turn(reports, clock);
        for (index, before) in phases.iter().enumerate() {
            let mut app = self.app(index);
            app.has_changed_phase(pid, before);
            app.after_a_turn(pid, due[index]);
        }
        match exit {
            Some(exit) => self.remove_process(pid, &format!("{exit:?}")),
            None => self.plan_next_turn(pid),
        }
    }

    /// Schedules the turn that is due without an event.
    pub(crate) fn plan_next_turn(&mut self, pid: Pid) {
        let process = &self.processes[pid];
        let Some(shown) = process.proxy.poll_timeout() else {
            return;
        };
        let mut at = process.clock.when(shown);
        if self.plan.mutant == Mutant::Late {
            at = at + Duration::from_secs(10);
        }
        self.plan_turn(pid, at.max(self.now));
    }

    /// Schedules a turn, unless there is one before.
    pub(crate) fn plan_turn(&mut self, pid: Pid, at: Time) {
        let process = &mut self.processes[pid];
        if process.turn_at.is_none_or(|planned| at < planned) {
            process.turn_at = Some(at);
            self.queue.put_behind(at, pid, Event::Turn(pid));
        }
    }
}
