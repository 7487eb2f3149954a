//! The actions of a plan, and the lifecycle of the processes: starts, kills, stops and rollouts,
//! which concern all of their apps.

use std::time::Duration;

use zpa::cluster::Report;

use crate::app::AppWorld;
use crate::plan::Action;
use crate::process::{Process, State};
use crate::traffic::SERVICE;
use crate::world::{Event, Pid, World};

impl World<'_> {
    /// Does the action with that number.
    pub(crate) fn do_action(&mut self, number: usize) {
        let step = &self.plan.actions[number];
        let action = step.action.clone();
        let app = (!action.is_of_process()).then_some(step.app);
        if let Some(fault) = action.fault() {
            self.trace(app, || format!("=== {action:?}"));
            *self.faults.entry(fault).or_default() += 1;
        }
        match action {
            Action::Kill(slot, back) => self.kill(slot, back),
            Action::Stop(slot, time) => self.stop(slot, time),
            Action::Rollout(slot) => self.roll_out(slot),
            _ => {
                let is_meant = |app: &crate::app::AppState| app.plan.number == step.app;
                if let Some(index) = self.apps.iter().position(is_meant) {
                    self.app(index).do_action(action);
                }
            }
        }
    }

    /// A process starts in that place.
    pub(crate) fn start(&mut self, slot: usize) {
        let pid = self.processes.len();
        let process = Process::start(slot, self.plan, &mut self.apps, pid, self.now);
        self.processes.push(process);
        self.trace(None, || format!("p{pid} starts at {slot}"));
        self.for_each_app(|app| app.begin(pid));
        self.plan_turn(pid, self.now);
    }

    /// kill -9: what it has sent to the API server may still be executed.
    fn kill(&mut self, slot: usize, back: Duration) {
        if let Some(pid) = newest(&self.processes, slot) {
            self.remove_process(pid, "killed");
            self.later(back, Event::Start(slot));
        }
    }

    /// A process has ended.
    pub(crate) fn remove_process(&mut self, pid: Pid, why: &str) {
        self.trace(None, || format!("p{pid} ends: {why}"));
        self.for_each_app(|app| {
            app.reset_clients_of(pid);
            app.app.oracle.died(pid, app.now);
        });
        self.processes[pid].state = State::Dead;
    }

    fn stop(&mut self, slot: usize, time: Duration) {
        if let Some(pid) = newest(&self.processes, slot)
            && self.processes[pid].state == State::Running
        {
            self.processes[pid].state = State::Stopped;
            self.for_each_app(|app| app.app.oracle.stopped(pid, app.now));
            self.later(time, Event::Resume(pid));
        }
    }

    /// It goes on where it was, with a clock that has run on.
    pub(crate) fn resume(&mut self, pid: Pid) {
        if self.processes[pid].state != State::Stopped {
            return;
        }
        self.trace(None, || format!("p{pid} goes on"));
        self.processes[pid].state = State::Running;
        self.processes[pid].turn_at = None;
        self.for_each_app(|app| app.resume(pid));
        self.plan_turn(pid, self.now);
    }

    /// A new process starts beside the old one, which then gets a SIGTERM.
    fn roll_out(&mut self, slot: usize) {
        let old = newest(&self.processes, slot);
        self.start(slot);
        if let Some(old) = old {
            self.later(Duration::from_secs(1), Event::Terminate(old));
        }
    }

    pub(crate) fn terminate(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        if process.state != State::Running || std::mem::replace(&mut process.ending, true) {
            return;
        }
        let shown = process.clock.shows(self.now);
        let exit = process.proxy.end("SIGTERM", shown);
        self.trace(None, || format!("p{pid} gets SIGTERM"));
        self.for_each_app(|app| app.after_a_turn(pid, false));
        match exit {
            Some(_) => self.remove_process(pid, "SIGTERM"),
            None => self.plan_next_turn(pid),
        }
    }
}

impl AppWorld<'_> {
    /// A process has started.
    fn begin(&mut self, pid: Pid) {
        if self.app.plan.fallback {
            self.app.seats[pid].mailbox.push(Report::FallbackAddress {
                port: 0,
                address: Some(SERVICE),
            });
        }
        let slot = self.processes[pid].slot;
        self.app.oracle.started(slot, self.now);
        self.list(pid);
        self.watch_target(pid, 0);
        self.wake(pid);
    }

    /// A stopped process goes on. The replies that the kernel has for it come to it in any
    /// order with the turn of its loop.
    fn resume(&mut self, pid: Pid) {
        self.app.oracle.resumed(pid, self.now);
        for event in std::mem::take(&mut self.app.seats[pid].held_back) {
            let lag = self
                .app
                .rng
                .between(Duration::ZERO, Duration::from_millis(3));
            self.later(lag, event);
        }
        self.later(Duration::ZERO, crate::app::Event::Threads(pid));
        self.app.seats[pid].shown_at = None;
        self.wake(pid);
    }
}

/// The newest process in that place.
pub fn newest(processes: &[Process], slot: usize) -> Option<Pid> {
    let in_place = |process: &Process| process.slot == slot && process.is_alive();
    processes.iter().rposition(in_place)
}
