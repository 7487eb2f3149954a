//! The controllers of the cluster: pods for replicas, slices for pods, and the
//! watches that carry the slices to the proxies.

use std::rc::Rc;
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{AddressSource, NoAddress, Pod, Report};

use crate::app::{AppWorld, Event};
use crate::deployment::{Change, Deployment, Who};
use crate::pods::{Cause, Failure, Life, PodId};
use crate::process::State;
use crate::sockets::Event as OnSocket;
use crate::world::Pid;

/// How long the node answers for a pod's address after its process has ended.
const REFUSING: Duration = Duration::from_secs(2);
/// How long a watch takes to notice that its connection is dead.
pub const SILENCE: Duration = Duration::from_secs(75);

/// How long a permission is missing before a proxy that needs it must have noticed.
const NOTICED: Duration = Duration::from_secs(15);

impl AppWorld<'_> {
    /// How long a controller takes.
    fn lag(&mut self, usual: u64, longest: u64) -> Duration {
        let ms = Duration::from_millis;
        if self.now < self.app.slow_controllers {
            self.app.rng.between(ms(1000), ms(10_000))
        } else {
            self.app.rng.around(ms(usual), ms(longest))
        }
    }

    /// Does something that may change the number of replicas.
    pub(crate) fn scale_with<T>(&mut self, change: impl FnOnce(&mut Deployment, Time) -> T) -> T {
        let before = self.app.deployment.replicas();
        let result = change(&mut self.app.deployment, self.now);
        if self.app.deployment.replicas() != before
            && let Some(change) = self.app.deployment.last_change
        {
            self.trace(|| {
                format!(
                    "   replicas {} → {} by {:?}",
                    change.from, change.to, change.by
                )
            });
            self.app
                .oracle
                .scaled(change, self.shares_no_leases(change.by));
            let lag = self.lag(50, 500);
            self.later(lag, Event::Reconcile);
        }
        self.show_target();
        result
    }

    /// Whether that is a proxy that could neither see leases nor write one for so
    /// long that it must have noticed.
    fn shares_no_leases(&self, who: Who) -> bool {
        let Who::Proxy(pid) = who else {
            return false;
        };
        let slot = self.processes[pid].slot;
        let lacked = |ago| {
            let then = self.now - NOTICED * ago / 4;
            !self.permissions_of(slot, then).share_leases()
        };
        (0..=4).all(lacked)
    }

    /// The Deployment controller looks at replicas and pods, and writes its
    /// status, which moves the version.
    pub(crate) fn reconcile(&mut self) {
        let wanted = self.app.deployment.replicas() as usize;
        let there = self.app.pods.wanted();
        self.app.deployment.touch();
        self.show_target();
        for _ in there.len()..wanted {
            self.create_pod();
        }
        let lowered = self.app.deployment.last_lowered;
        if let Some(change) = lowered {
            for &pod in there.iter().skip(wanted) {
                self.end_pod(pod, change);
            }
        }
    }

    fn create_pod(&mut self) {
        let seconds = Duration::from_secs;
        let grace = if self.app.rng.chance(0.7) {
            Duration::ZERO
        } else {
            self.app.rng.between(Duration::ZERO, seconds(10))
        };
        let slow = self.now < self.app.slow_pods;
        let (shortest, longest) = if slow { (20, 100) } else { (1, 8) };
        let start = self.app.rng.between(seconds(shortest), seconds(longest));
        let start = start + self.app.no_pods.since(self.now);
        let pod = self.app.pods.create(grace);
        self.trace(|| format!("   pod-{pod} starts"));
        self.later(start, Event::PodReady(pod));
        self.slices_change();
    }

    fn end_pod(&mut self, pod: PodId, change: Change) {
        self.trace(|| format!("   pod-{pod} gets a SIGTERM"));
        let ending = self.app.pods.get(pod);
        ending.cause = Some(Cause::Scaled(change));
        let was_up = ending.life == Life::Serving;
        ending.life = if was_up { Life::Ending } else { Life::Gone };
        let grace = ending.grace;
        if was_up {
            let lag = self.lag(20, 200);
            self.later(lag + grace, Event::PodStops(pod));
        }
        self.slices_change();
    }

    pub(crate) fn pod_ready(&mut self, pod: PodId) {
        if self.app.pods.get(pod).life == Life::Starting {
            self.app.pods.get(pod).life = Life::Serving;
            self.trace(|| format!("   pod-{pod} is ready"));
            self.slices_change();
        }
    }

    /// Its process ends, and the kernel resets what is connected to it.
    pub(crate) fn pod_stops(&mut self, pod: PodId) {
        self.trace(|| format!("   pod-{pod} is gone"));
        self.app.pods.get(pod).life = Life::Refusing;
        let address = self.app.pods.get(pod).address;
        for pid in 0..self.processes.len() {
            for client in self.served_by(pid, address) {
                self.push_to_socket(pid, client, OnSocket::Broke);
            }
        }
        self.later(REFUSING, Event::PodGone(pod));
        self.slices_change();
    }

    /// A pod crashes: the controller replaces it.
    pub(crate) fn crash(&mut self) {
        let Some(&pod) = self.app.pods.wanted().first() else {
            return;
        };
        let crashed = self.app.pods.get(pod);
        crashed.cause = Some(Cause::Crashed);
        let was_up = crashed.serves();
        crashed.life = Life::Gone;
        if was_up {
            self.pod_stops(pod);
        }
        let lag = self.lag(50, 500);
        self.later(lag, Event::Reconcile);
    }

    /// A pod that is up fails for a while, and stays listed.
    pub(crate) fn fail_a_pod(&mut self, failure: Failure, time: Duration) {
        let up = self.app.pods.wanted();
        let serving = |&pod: &PodId| self.app.pods.get(pod).life == Life::Serving;
        let up: Vec<PodId> = up.into_iter().filter(serving).collect();
        if !up.is_empty() {
            let pod = self.app.rng.pick(&up);
            self.app.pods.get(pod).failure = Some((failure, self.now + time));
            self.trace(|| format!("   pod-{pod} fails: {failure:?}"));
        }
    }

    // --- Slices ---

    fn slices_change(&mut self) {
        let lag = self.lag(100, 1000);
        self.later(lag, Event::Slices);
    }

    pub(crate) fn write_slices(&mut self) {
        let listed = self.app.pods.listed();
        // Ready and available replicas are in the Deployment's status.
        self.app.deployment.touch();
        self.show_target();
        if *self.app.slices.1 == listed {
            return;
        }
        let number = self.app.slices.0 + 1;
        let pods = Rc::new(listed);
        self.app.slices = (number, pods.clone());
        for pid in 0..self.processes.len() {
            if self.now >= self.app.seats[pid].watch.broken_until {
                let ms = Duration::from_millis;
                let lag = self.app.rng.around(ms(5), ms(100));
                self.later(lag, Event::Watched(pid, number, pods.clone()));
            }
        }
    }

    /// A proxy is shown the slices. What comes late is known already.
    pub(crate) fn watched(&mut self, pid: Pid, number: u64, pods: &Rc<Vec<Pod>>) {
        let seat = &mut self.app.seats[pid];
        match self.processes[pid].state {
            State::Dead => return,
            State::Stopped => {
                let shown = Event::Watched(pid, number, pods.clone());
                return seat.held_back.push(shown);
            }
            State::Running => {}
        }
        if number >= seat.watch.seen {
            seat.watch.seen = number;
            seat.mailbox.push(Report::Pods {
                port: 0,
                pods: pods.to_vec(),
            });
            self.trace(|| format!("p{pid} is shown {}", short(pods)));
            self.wake(pid);
        }
    }

    /// A proxy requests that the endpoints are listed again.
    pub(crate) fn refresh(&mut self, pid: Pid) {
        if self.app.seats[pid].watch.allows(self.now) {
            self.list(pid);
        }
    }

    /// A proxy lists the slices after a while, unless it has done so before.
    pub(crate) fn list_later(&mut self, pid: Pid, after: Duration) {
        let round = self.app.seats[pid].watch.round;
        self.later(after, Event::List(pid, round));
    }

    pub(crate) fn list_if_still_due(&mut self, pid: Pid, round: u64) {
        if self.app.seats[pid].watch.round == round {
            self.list(pid);
        }
    }

    /// A proxy lists the slices, and watches them from there.
    pub(crate) fn list(&mut self, pid: Pid) {
        let ms = Duration::from_millis;
        self.app.seats[pid].watch.round += 1;
        match self.processes[pid].state {
            State::Running => {}
            State::Stopped => return self.list_later(pid, ms(1000)),
            State::Dead => return,
        }
        self.follow_request(pid, "service");
        if self.trouble_for(pid).is_some() {
            let pause = self.app.rng.between(ms(5000), ms(30_000));
            self.app.oracle.troubled(pid, self.now + pause, false);
            self.app.seats[pid].mailbox.push(Report::Synced(None));
            self.app.seats[pid].lacks_endpoints = true;
            return self.list_later(pid, pause);
        }
        self.follow_request(pid, "list");
        self.follow_request(pid, "watch");
        let seat = &mut self.app.seats[pid];
        seat.watch.broken_until = self.now;
        let source = Some(AddressSource::EndpointSlices);
        seat.mailbox.push(Report::Synced(source));
        self.tell_of_port(pid);
        let (number, pods) = self.app.slices.clone();
        let lag = self.app.rng.around(ms(10), ms(100));
        self.later(lag, Event::Watched(pid, number, pods));
    }

    /// A proxy learns whether the Service has its port, and lists again once it is back.
    fn tell_of_port(&mut self, pid: Pid) {
        let slot = self.processes[pid].slot;
        let lost = self.app.lost_ports.iter().filter(|it| it.0 == slot);
        let until = lost.map(|it| it.1).filter(|until| self.now < *until).max();
        let seat = &mut self.app.seats[pid];
        seat.lacks_endpoints = until.is_some();
        let why = || NoAddress::ServiceLacksPort("the Service has no such port".to_owned());
        let why = seat.lacks_endpoints.then(why);
        if !self.plan.flaws.hides_ports {
            seat.mailbox.push(Report::NoAddress { port: 0, why });
        }
        if let Some(until) = until {
            self.list_later(pid, until.since(self.now));
        }
    }

    fn follow_request(&mut self, pid: Pid, kind: &str) {
        self.app.totals.requests += 1;
        self.app.oracle.counted(pid, kind.to_owned(), self.now);
    }
}

fn short(pods: &[Pod]) -> String {
    let one = |pod: &Pod| {
        format!(
            "{}{}",
            pod.uid,
            if pod.is_ready() { "" } else { " (not ready)" }
        )
    };
    format!("[{}]", pods.iter().map(one).collect::<Vec<_>>().join(", "))
}
