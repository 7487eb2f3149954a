//! The actions of a plan: what operators, the network and crashes do to the proxies and the
//! cluster.

use std::time::Duration;

use zpa::cluster::Report;

use crate::controllers::SILENCE;
use crate::deployment::Who;
use crate::plan::Action;
use crate::process::{Process, State};
use crate::traffic::SERVICE;
use crate::trouble::{Restriction, Window};
use crate::world::{Event, Pid, World};

impl World<'_> {
    /// Does the action with that number.
    pub(crate) fn do_action(&mut self, number: usize) {
        let action = self.plan.actions[number].1.clone();
        if let Some(fault) = action.fault() {
            self.trace(|| format!("=== {action:?}"));
            *self.totals.faults.entry(fault).or_default() += 1;
        }
        let now = self.now;
        match action {
            Action::Connect(slot, script) => self.connect(slot, script),
            Action::Scale(to, by) if self.deployment.exists => {
                self.scale_with(|deployment, now| deployment.scale(to, by, now));
            }
            Action::Adjust(to) if self.deployment.replicas() > 0 => {
                self.scale_with(|deployment, now| deployment.scale(to, Who::Hpa, now));
            }
            Action::Scale(..) | Action::Adjust(_) => {}
            Action::Replace(after, replicas) => self.replace(after, replicas),
            Action::Kill(slot, back) => self.kill(slot, back),
            Action::Stop(slot, time) => self.stop(slot, time),
            Action::Rollout(slot) => self.roll_out(slot),
            Action::Hit(slot, trouble, time) => {
                self.windows.push(Window {
                    from: now,
                    until: now + time,
                    slot,
                    trouble,
                });
                // A watch that finds no server tries again at most 30 s later.
                self.oracle.hit(slot, now + time);
                self.break_some_target_watches(slot);
            }
            Action::BreakWatch(slot, time) => self.break_watch(slot, time),
            Action::SlowControllers(time) => {
                self.slow_controllers = now + time;
                self.oracle.slowed(now + time);
            }
            Action::SlowPods(time) => {
                self.slow_pods = now + time;
                self.oracle.hit(None, now + time + Duration::from_secs(100));
            }
            Action::Restrict(slot, permissions, time) => {
                self.restrictions.push(Restriction {
                    from: now,
                    until: now + time,
                    slot,
                    permissions,
                });
                self.oracle.hit(slot, now + time);
            }
            Action::Fail(failure, time) => {
                self.fail_a_pod(failure, time);
                self.oracle.pod_fails(now + time);
            }
            Action::LosePort(slot, time) => self.lose_port(slot, time),
            Action::Crash => {
                self.crash();
                self.oracle.hit(None, now + Duration::from_secs(10));
            }
        }
    }

    // --- The Deployment ---

    fn replace(&mut self, after: Duration, replicas: u32) {
        self.scale_with(|deployment, now| deployment.delete(now));
        self.oracle
            .hit(None, self.now + after + Duration::from_secs(15));
        self.later(after, Event::Recreate(replicas));
    }

    pub(crate) fn recreate(&mut self, replicas: u32) {
        self.scale_with(|deployment, now| deployment.scale(replicas, Who::Operator, now));
        self.deployment.exists = true;
        self.deployment.touch();
        self.show_target();
    }

    // --- Processes ---

    /// A process starts in that place.
    pub(crate) fn start(&mut self, slot: usize) {
        let pid = self.processes.len();
        let mut process = Process::start(slot, self.plan, pid, self.now);
        if self.plan.fallback {
            process.mailbox.push(Report::FallbackAddress {
                port: 0,
                address: Some(SERVICE),
            });
        }
        self.processes.push(process);
        self.oracle.started(slot, self.now);
        self.trace(|| format!("p{pid} starts at {slot}"));
        self.list(pid);
        self.watch_target(pid, 0);
        self.wake(pid);
    }

    /// The newest process in that place.
    fn newest(&self, slot: usize) -> Option<Pid> {
        let all = 0..self.processes.len();
        all.rev().find(|&pid| {
            let process = &self.processes[pid];
            process.slot == slot && process.is_alive()
        })
    }

    /// kill -9: what it has sent to the API server may still be executed.
    fn kill(&mut self, slot: usize, back: Duration) {
        if let Some(pid) = self.newest(slot) {
            self.remove_process(pid, "killed");
            self.later(back, Event::Start(slot));
        }
    }

    /// A process has ended.
    pub(crate) fn remove_process(&mut self, pid: Pid, why: &str) {
        self.trace(|| format!("p{pid} ends: {why}"));
        self.reset_clients_of(pid);
        self.oracle.died(pid, self.now);
    }

    fn stop(&mut self, slot: usize, time: Duration) {
        if let Some(pid) = self.newest(slot)
            && self.processes[pid].state == State::Running
        {
            self.processes[pid].state = State::Stopped;
            self.oracle.stopped(pid, self.now);
            self.later(time, Event::Resume(pid));
        }
    }

    /// It goes on where it was, with a clock that has run on. The replies that
    /// the kernel has for it come to it in any order with the turn of its loop.
    pub(crate) fn resume(&mut self, pid: Pid) {
        if self.processes[pid].state != State::Stopped {
            return;
        }
        self.trace(|| format!("p{pid} goes on"));
        self.processes[pid].state = State::Running;
        self.oracle.resumed(pid, self.now);
        for event in std::mem::take(&mut self.processes[pid].held_back) {
            let lag = self.rng.between(Duration::ZERO, Duration::from_millis(3));
            self.later(lag, event);
        }
        self.later(Duration::ZERO, Event::Threads(pid));
        self.processes[pid].turn_at = None;
        self.wake(pid);
    }

    /// A new process starts beside the old one, which then gets a SIGTERM.
    fn roll_out(&mut self, slot: usize) {
        let old = self.newest(slot);
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
        self.trace(|| format!("p{pid} gets SIGTERM"));
        self.after_a_turn(pid);
        match exit {
            Some(_) => self.remove_process(pid, "SIGTERM"),
            None => self.wake(pid),
        }
    }

    /// What hits requests may also end the watches that are open.
    fn break_some_target_watches(&mut self, slot: Option<usize>) {
        for pid in 0..self.processes.len() {
            let is_hit = slot.is_none_or(|slot| slot == self.processes[pid].slot);
            if is_hit && self.rng.chance(0.5) {
                self.break_target_watch(pid, Duration::ZERO);
            }
        }
    }

    fn lose_port(&mut self, slot: usize, time: Duration) {
        let until = self.now + time;
        self.lost_ports.push((slot, until));
        self.oracle.hit(Some(slot), until);
        if let Some(pid) = self.newest(slot) {
            self.list(pid);
        }
    }

    fn break_watch(&mut self, slot: usize, time: Duration) {
        if let Some(pid) = self.newest(slot) {
            let until = self.now + time.min(SILENCE);
            self.processes[pid].watch.broken_until = until;
            self.oracle.troubled(pid, until, false);
            self.list_later(pid, until.since(self.now));
            self.break_target_watch(pid, until.since(self.now));
        }
    }
}
