//! The actions of a plan that concern one app: what operators, the network and crashes do to it.

use std::time::Duration;

use crate::app::{AppWorld, Event};
use crate::controllers::SILENCE;
use crate::deployment::Who;
use crate::plan::Action;
use crate::processes::newest;
use crate::trouble::{Restriction, Window};

impl AppWorld<'_> {
    /// Does an action to the app, or to its side of the processes.
    pub(crate) fn do_action(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Connect(slot, script) => self.connect(slot, script),
            Action::Scale(to, by) if self.app.deployment.exists => {
                self.scale_with(|deployment, now| deployment.scale(to, by, now));
            }
            Action::Adjust(to) if self.app.deployment.replicas() > 0 => {
                self.scale_with(|deployment, now| deployment.scale(to, Who::Hpa, now));
            }
            Action::Scale(..) | Action::Adjust(_) => {}
            // They are done to a process.
            Action::Kill(..) | Action::Stop(..) | Action::Rollout(_) => {}
            Action::Replace(after, replicas) => self.replace(after, replicas),
            Action::Hit(slot, trouble, time) => {
                self.app.windows.push(Window {
                    from: now,
                    until: now + time,
                    slot,
                    trouble,
                });
                // A watch that finds no server tries again at most 30 s later.
                self.app.oracle.hit(slot, now + time);
                self.break_some_target_watches(slot);
            }
            Action::BreakWatch(slot, time) => self.break_watch(slot, time),
            Action::SlowControllers(time) => {
                self.app.slow_controllers = now + time;
                self.app.oracle.slowed(now + time);
            }
            Action::SlowPods(time) => {
                self.app.slow_pods = now + time;
                self.app
                    .oracle
                    .hit(None, now + time + Duration::from_secs(100));
            }
            Action::NoPods(time) => {
                self.app.no_pods = now + time;
                self.app
                    .oracle
                    .hit(None, now + time + Duration::from_secs(100));
            }
            Action::Restrict(slot, permissions, time) => {
                self.app.restrictions.push(Restriction {
                    from: now,
                    until: now + time,
                    slot,
                    permissions,
                });
                self.app.oracle.hit(slot, now + time);
            }
            Action::Fail(failure, time) => {
                self.fail_a_pod(failure, time);
                self.app.oracle.pod_fails(now + time);
            }
            Action::LosePort(slot, time) => self.lose_port(slot, time),
            Action::Crash => {
                self.crash();
                self.app.oracle.hit(None, now + Duration::from_secs(10));
            }
        }
    }

    // --- The Deployment ---

    fn replace(&mut self, after: Duration, replicas: u32) {
        self.scale_with(|deployment, now| deployment.delete(now));
        self.app
            .oracle
            .hit(None, self.now + after + Duration::from_secs(15));
        self.later(after, Event::Recreate(replicas));
    }

    pub(crate) fn recreate(&mut self, replicas: u32) {
        self.scale_with(|deployment, now| deployment.scale(replicas, Who::Operator, now));
        self.app.deployment.exists = true;
        self.app.deployment.touch();
        self.show_target();
    }

    // --- Its side of the processes ---

    /// What hits requests may also end the watches that are open.
    fn break_some_target_watches(&mut self, slot: Option<usize>) {
        for pid in 0..self.processes.len() {
            let is_hit = slot.is_none_or(|slot| slot == self.processes[pid].slot);
            if is_hit && self.app.rng.chance(0.5) {
                self.break_target_watch(pid, Duration::ZERO);
            }
        }
    }

    fn lose_port(&mut self, slot: usize, time: Duration) {
        let until = self.now + time;
        self.app.lost_ports.push((slot, until));
        self.app.oracle.hit(Some(slot), until);
        if let Some(pid) = newest(self.processes, slot) {
            self.list(pid);
        }
    }

    fn break_watch(&mut self, slot: usize, time: Duration) {
        if let Some(pid) = newest(self.processes, slot) {
            let until = self.now + time.min(SILENCE);
            self.app.seats[pid].watch.broken_until = until;
            self.app.oracle.troubled(pid, until, false);
            self.list_later(pid, until.since(self.now));
            self.break_target_watch(pid, until.since(self.now));
        }
    }
}
