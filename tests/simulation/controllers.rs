//! The controllers of the cluster: pods for replicas, slices for pods, and the
//! watches that carry the slices to the proxies.

use std::rc::Rc;
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{AddressSource, NoAddress, Pod, Report};

use crate::deployment::{Change, Deployment, Who};
use crate::pods::{Cause, Failure, Life, PodId};
use crate::process::State;
use crate::sockets::Event as OnSocket;
use crate::world::{Event, Pid, World};

/// How long the node answers for a pod's address after its process has ended.
const REFUSING: Duration = Duration::from_secs(2);
/// How long a watch takes to notice that its connection is dead.
pub const SILENCE: Duration = Duration::from_secs(75);

/// How long a permission is missing before a proxy that needs it must have noticed.
const NOTICED: Duration = Duration::from_secs(15);

impl World<'_> {
    /// How long a controller takes.
    fn lag(&mut self, usual: u64, longest: u64) -> Duration {
        let ms = Duration::from_millis;
        if self.now < self.slow_controllers {
            self.rng.between(ms(1000), ms(10_000))
        } else {
            self.rng.around(ms(usual), ms(longest))
        }
    }

    /// Does something that may change the number of replicas.
    pub(crate) fn scale_with<T>(&mut self, change: impl FnOnce(&mut Deployment, Time) -> T) -> T {
        let before = self.deployment.replicas();
        let result = change(&mut self.deployment, self.now);
        if self.deployment.replicas() != before
            && let Some(change) = self.deployment.last_change
        {
            self.trace(|| {
                format!(
                    "   replicas {} → {} by {:?}",
                    change.from, change.to, change.by
                )
            });
            self.oracle.scaled(change, self.shares_no_leases(change.by));
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
        let wanted = self.deployment.replicas() as usize;
        let there = self.pods.wanted();
        self.deployment.touch();
        self.show_target();
        for _ in there.len()..wanted {
            self.create_pod();
        }
        let lowered = self.deployment.last_lowered;
        if let Some(change) = lowered {
            for &pod in there.iter().skip(wanted) {
                self.end_pod(pod, change);
            }
        }
    }

    fn create_pod(&mut self) {
        let seconds = Duration::from_secs;
        let grace = if self.rng.chance(0.7) {
            Duration::ZERO
        } else {
            self.rng.between(Duration::ZERO, seconds(10))
        };
        let slow = self.now < self.slow_pods;
        let (shortest, longest) = if slow { (20, 100) } else { (1, 8) };
        let start = self.rng.between(seconds(shortest), seconds(longest));
        let pod = self.pods.create(grace);
        self.trace(|| format!("   pod-{pod} starts"));
        self.later(start, Event::PodReady(pod));
        self.slices_change();
    }

    fn end_pod(&mut self, pod: PodId, change: Change) {
        self.trace(|| format!("   pod-{pod} gets a SIGTERM"));
        let ending = self.pods.get(pod);
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
        if self.pods.get(pod).life == Life::Starting {
            self.pods.get(pod).life = Life::Serving;
            self.trace(|| format!("   pod-{pod} is ready"));
            self.slices_change();
        }
    }

    /// Its process ends, and the kernel resets what is connected to it.
    pub(crate) fn pod_stops(&mut self, pod: PodId) {
        self.trace(|| format!("   pod-{pod} is gone"));
        self.pods.get(pod).life = Life::Refusing;
        let address = self.pods.get(pod).address;
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
        let Some(&pod) = self.pods.wanted().first() else {
            return;
        };
        let crashed = self.pods.get(pod);
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
        let up = self.pods.wanted();
        let serving = |&pod: &PodId| self.pods.get(pod).life == Life::Serving;
        let up: Vec<PodId> = up.into_iter().filter(serving).collect();
        if !up.is_empty() {
            let pod = self.rng.pick(&up);
            self.pods.get(pod).failure = Some((failure, self.now + time));
            self.trace(|| format!("   pod-{pod} fails: {failure:?}"));
        }
    }

    // --- Slices ---

    fn slices_change(&mut self) {
        let lag = self.lag(100, 1000);
        self.later(lag, Event::Slices);
    }

    pub(crate) fn write_slices(&mut self) {
        let listed = self.pods.listed();
        // Ready and available replicas are in the Deployment's status.
        self.deployment.touch();
        self.show_target();
        if *self.slices.1 == listed {
            return;
        }
        let number = self.slices.0 + 1;
        let pods = Rc::new(listed);
        self.slices = (number, pods.clone());
        for pid in 0..self.processes.len() {
            if self.now >= self.processes[pid].watch.broken_until {
                let ms = Duration::from_millis;
                let lag = self.rng.around(ms(5), ms(100));
                self.later(lag, Event::Watched(pid, number, pods.clone()));
            }
        }
    }

    /// A proxy is shown the slices. What comes late is known already.
    pub(crate) fn watched(&mut self, pid: Pid, number: u64, pods: &Rc<Vec<Pod>>) {
        let process = &mut self.processes[pid];
        match process.state {
            State::Dead => return,
            State::Stopped => {
                let shown = Event::Watched(pid, number, pods.clone());
                return process.held_back.push(shown);
            }
            State::Running => {}
        }
        if number >= process.watch.seen {
            process.watch.seen = number;
            process.mailbox.push(Report::Pods {
                port: 0,
                pods: pods.to_vec(),
            });
            self.trace(|| format!("p{pid} is shown {}", short(pods)));
            self.wake(pid);
        }
    }

    /// A proxy requests that the endpoints are listed again.
    pub(crate) fn refresh(&mut self, pid: Pid) {
        if self.processes[pid].watch.allows(self.now) {
            self.list(pid);
        }
    }

    /// A proxy lists the slices after a while, unless it has done so before.
    pub(crate) fn list_later(&mut self, pid: Pid, after: Duration) {
        let round = self.processes[pid].watch.round;
        self.later(after, Event::List(pid, round));
    }

    pub(crate) fn list_if_still_due(&mut self, pid: Pid, round: u64) {
        if self.processes[pid].watch.round == round {
            self.list(pid);
        }
    }

    /// A proxy lists the slices, and watches them from there.
    pub(crate) fn list(&mut self, pid: Pid) {
        let ms = Duration::from_millis;
        let process = &mut self.processes[pid];
        process.watch.round += 1;
        match process.state {
            State::Running => {}
            State::Stopped => return self.list_later(pid, ms(1000)),
            State::Dead => return,
        }
        self.follow_request(pid, "service");
        if self.trouble_for(pid).is_some() {
            let pause = self.rng.between(ms(5000), ms(30_000));
            self.oracle.troubled(pid, self.now + pause, false);
            self.processes[pid].mailbox.push(Report::Synced(None));
            self.processes[pid].lacks_endpoints = true;
            return self.list_later(pid, pause);
        }
        self.follow_request(pid, "list");
        self.follow_request(pid, "watch");
        let process = &mut self.processes[pid];
        process.watch.broken_until = self.now;
        let source = Some(AddressSource::EndpointSlices);
        process.mailbox.push(Report::Synced(source));
        self.tell_of_port(pid);
        let (number, pods) = self.slices.clone();
        let lag = self.rng.around(ms(10), ms(100));
        self.later(lag, Event::Watched(pid, number, pods));
    }

    /// A proxy learns whether the Service has its port, and lists again once it is back.
    fn tell_of_port(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        let lost = self.lost_ports.iter().filter(|it| it.0 == process.slot);
        let until = lost.map(|it| it.1).filter(|until| self.now < *until).max();
        process.lacks_endpoints = until.is_some();
        let why = || NoAddress::ServiceLacksPort("the Service has no such port".to_owned());
        let why = process.lacks_endpoints.then(why);
        if !self.plan.flaws.hides_ports {
            process.mailbox.push(Report::NoAddress { port: 0, why });
        }
        if let Some(until) = until {
            self.list_later(pid, until.since(self.now));
        }
    }

    fn follow_request(&mut self, pid: Pid, kind: &str) {
        self.totals.requests += 1;
        self.oracle.counted(pid, kind.to_owned(), self.now);
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
