//! The watches of the Deployment: which states they show, when, and how they end.
//!
//! A watch shows each state of the Deployment in order, a while after it was written.
//! What it has not delivered when it breaks is lost, and the list that follows shows the
//! state of that time; now and then something older is shown once more. A connection
//! that is half-open shows nothing, and its proxy does not know. The permission is asked
//! for when a watch begins, as the API server does.

use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{Observation, Outcome, Report};

use crate::app::{AppWorld, Event};
use crate::deployment::answered;
use crate::process::State;
use crate::world::Pid;

/// How long a watch is open before the next one goes on from where it has got.
const RENEWED_AFTER: Duration = Duration::from_secs(285);

/// The pauses after refusals double from the first to the last one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(300);

/// How likely a list is to be followed by something older.
const REPLAYED: f64 = 0.3;

/// The watch of one process.
#[derive(Default)]
pub struct TargetWatch {
    /// Whether one is open, as far as the process knows.
    pub is_open: bool,
    /// Which one it is.
    round: u64,
    /// Until when nothing comes through.
    broken_until: Time,
    /// When the last event is delivered that is on its way.
    last: Time,
    /// What was shown last.
    shown: Option<Observation>,
    /// How many refusals there were in a row.
    refusals: u32,
}

impl AppWorld<'_> {
    /// The Deployment was written, or may have been: whoever watches it is shown that.
    pub(crate) fn show_target(&mut self) {
        let version = self.app.deployment.version();
        if std::mem::replace(&mut self.app.shown_version, version) == version {
            return;
        }
        for pid in 0..self.processes.len() {
            let watch = &self.app.seats[pid].target_watch;
            if watch.is_open && self.now >= watch.broken_until && !self.plan.flaws.hides_events {
                self.send_event(pid);
            }
        }
    }

    /// Sends the Deployment as it is, behind what is on its way already.
    fn send_event(&mut self, pid: Pid) {
        let lag = self.app.rng.around(ms(5), ms(100));
        let observation = self.app.deployment.observation();
        let watch = &mut self.app.seats[pid].target_watch;
        watch.last = watch.last.max(self.now + lag);
        let (at, round) = (watch.last, watch.round);
        self.put(at, Event::Observed(pid, round, Box::new(observation)));
    }

    /// A proxy is shown the Deployment by that watch, if it reads from it still.
    pub(crate) fn observed(&mut self, pid: Pid, round: u64, observation: Observation) {
        let seat = &mut self.app.seats[pid];
        if seat.target_watch.round != round || !seat.target_watch.is_open {
            return;
        }
        match self.processes[pid].state {
            State::Dead => return,
            State::Stopped => {
                let event = Event::Observed(pid, round, Box::new(observation));
                return seat.held_back.push(event);
            }
            State::Running => {}
        }
        seat.target_watch.shown = Some(observation.clone());
        self.deliver(pid, observation);
    }

    fn deliver(&mut self, pid: Pid, observation: Observation) {
        let observation = match observation {
            Observation::Scale(scale) => {
                self.app.oracle.observed(pid, &scale, self.now);
                let outcome = Outcome::Scale(scale);
                self.trace(|| format!("p{pid} is shown {}", answered(&outcome)));
                match self.plan.flaws.read_by_a_proxy(outcome) {
                    Outcome::Scale(scale) => Observation::Scale(scale),
                    _ => Observation::Changed,
                }
            }
            Observation::Changed => Observation::Changed,
        };
        let report = Report::Observed(observation);
        self.app.seats[pid].mailbox.push(report);
        self.wake(pid);
    }

    /// A proxy lists the Deployment by its name, and watches it from there.
    pub(crate) fn watch_target(&mut self, pid: Pid, round: u64) {
        if self.app.seats[pid].target_watch.round != round {
            return;
        }
        match self.processes[pid].state {
            State::Running => {}
            State::Stopped => return self.later(ms(1000), Event::WatchTarget(pid, round)),
            State::Dead => return,
        }
        self.count_of_watch(pid, "list target");
        if self.trouble_for(pid).is_some() {
            let pause = self.app.rng.between(ms(500), ms(30_000));
            return self.later(pause, Event::WatchTarget(pid, round));
        }
        if !self
            .permissions_of(self.processes[pid].slot, self.now)
            .watch
        {
            let watch = &mut self.app.seats[pid].target_watch;
            let pause = RETRY_FIRST * 2_u32.saturating_pow(watch.refusals.min(10));
            watch.refusals += 1;
            return self.later(pause.min(RETRY_LAST), Event::WatchTarget(pid, round));
        }
        self.count_of_watch(pid, "watch target");
        self.open_target_watch(pid);
    }

    fn open_target_watch(&mut self, pid: Pid) {
        let watch = &mut self.app.seats[pid].target_watch;
        watch.round += 1;
        (watch.is_open, watch.refusals) = (true, 0);
        (watch.broken_until, watch.last) = (Time::default(), self.now);
        let (round, older) = (watch.round, watch.shown.clone());
        if self.app.deployment.exists {
            self.send_event(pid);
        }
        if let Some(older) = older.filter(|_| self.app.rng.chance(REPLAYED)) {
            let at = self.app.seats[pid].target_watch.last;
            self.put(at, Event::Observed(pid, round, Box::new(older)));
        }
        self.say_whether_watched(pid, true);
        self.later(RENEWED_AFTER, Event::RenewTargetWatch(pid, round));
    }

    /// A watch has ended at its time, and the next one goes on where it has got.
    pub(crate) fn renew_target_watch(&mut self, pid: Pid, round: u64) {
        let process = &self.processes[pid];
        let watch = &self.app.seats[pid].target_watch;
        if process.state == State::Running && watch.is_open && watch.round == round {
            self.count_of_watch(pid, "watch target");
            self.later(RENEWED_AFTER, Event::RenewTargetWatch(pid, round));
        }
    }

    /// Nothing comes through the watch of a proxy any more. It notices after a while.
    pub(crate) fn break_target_watch(&mut self, pid: Pid, noticed_after: Duration) {
        let until = self.now + noticed_after;
        let watch = &mut self.app.seats[pid].target_watch;
        if watch.is_open {
            watch.broken_until = until;
            let round = watch.round;
            self.later(noticed_after, Event::TargetWatchEnds(pid, round));
        }
    }

    /// A proxy notices that its watch is broken.
    pub(crate) fn target_watch_ends(&mut self, pid: Pid, round: u64) {
        let process = &self.processes[pid];
        let seat = &mut self.app.seats[pid];
        if seat.target_watch.round != round || !process.is_alive() {
            return;
        }
        if process.state == State::Stopped {
            return seat.held_back.push(Event::TargetWatchEnds(pid, round));
        }
        seat.target_watch.is_open = false;
        self.say_whether_watched(pid, false);
        self.watch_target(pid, round);
    }

    fn say_whether_watched(&mut self, pid: Pid, is_watched: bool) {
        self.trace(|| format!("p{pid} watches the Deployment: {is_watched}"));
        self.app.oracle.watches(pid, is_watched.then_some(self.now));
        let report = Report::Watching(is_watched);
        self.app.seats[pid].mailbox.push(report);
        self.wake(pid);
    }

    fn count_of_watch(&mut self, pid: Pid, kind: &str) {
        self.app.totals.requests += 1;
        self.app.oracle.counted(pid, kind.to_owned(), self.now);
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
