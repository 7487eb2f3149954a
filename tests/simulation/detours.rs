//! The rule about pods that fail while they are listed: once a proxy has seen a failure of a pod,
//! no later connection waits for that pod while another one would accept it.
//!
//! Nothing here is taken from the balancer: what a proxy has learned follows from
//! its dials and their answers alone. In doubt the rule says nothing: a failure
//! counts as learned at the check that follows, and only a pod that has never
//! failed before this proxy counts as one that would take the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use zpa::clock::Time;

use crate::app::AppWorld;
use crate::balancer::TRIAL_TIMEOUT;
use crate::pods::Life;
use crate::process::State;
use crate::traffic::SERVICE;
use crate::world::Pid;

/// How long a dial may take to a pod that is known to fail: the trial, and the turn
/// in which its end is noticed.
const MAX_TRIAL: Duration = TRIAL_TIMEOUT.saturating_add(Duration::from_millis(50));

/// One pod, as one proxy knows it.
type Known = (Pid, SocketAddr);

/// What the proxies have learned of the pods.
#[derive(Default)]
pub struct Learned {
    /// Since when a proxy knows that this pod fails.
    failing: BTreeMap<Known, Time>,
    /// The pods that have ever failed before a proxy.
    ever: BTreeSet<Known>,
    /// Since when a proxy may dial a pod.
    listed: BTreeMap<Known, Time>,
}

impl Learned {
    /// A proxy was refused by a pod, or has waited for it too long.
    pub fn failed(&mut self, pid: Pid, pod: SocketAddr, now: Time) {
        self.ever.insert((pid, pod));
        self.failing.entry((pid, pod)).or_insert(now);
    }

    /// A pod has answered a proxy.
    pub fn answered(&mut self, pid: Pid, pod: SocketAddr) {
        self.failing.remove(&(pid, pod));
    }
}

impl AppWorld<'_> {
    /// Looks whether somebody waits for a pod that is known to fail.
    pub(crate) fn check_for_detours(&mut self) {
        for pid in 0..self.processes.len() {
            match self.processes[pid].state {
                State::Running => self.check_the_dials_of(pid),
                // What it knew is old when it goes on.
                State::Stopped | State::Dead => {
                    self.app
                        .learned
                        .failing
                        .retain(|(whose, _), _| *whose != pid);
                }
            }
        }
    }

    fn check_the_dials_of(&mut self, pid: Pid) {
        let now = self.now;
        let clock = self.processes[pid].clock;
        let sockets = self.sockets(pid);
        let dials = sockets.dialing();
        let dials: Vec<_> = dials.map(|(c, pod, at)| (c, pod, clock.when(at))).collect();
        let backends = sockets.backends().to_vec();
        let listed = &mut self.app.learned.listed;
        listed.retain(|(whose, pod), _| *whose != pid || backends.contains(pod));
        for &pod in &backends {
            listed.entry((pid, pod)).or_insert(now);
        }
        let dials = dials.into_iter().filter(|(_, pod, _)| *pod != SERVICE);
        for (client, pod, since) in dials {
            let known = self.app.learned.failing.get(&(pid, pod));
            let is_known = known.is_some_and(|known| *known <= since);
            if is_known
                && now > since + MAX_TRIAL
                && let Some(other) = self.would_take(pid, &backends, since)
            {
                let what = format!(
                    "p{pid} dials {pod} for c{client} since {since:?}, which it knows to \
                     fail; {other} would take it"
                );
                self.app.oracle.waits_in_vain(what, now);
            }
            if now > since + MAX_TRIAL {
                self.app.learned.failed(pid, pod, now);
            }
        }
    }

    /// A pod that the proxy could have dialled at that time in place of another.
    fn would_take(&self, pid: Pid, backends: &[SocketAddr], then: Time) -> Option<SocketAddr> {
        let takes = |pod: &SocketAddr| {
            let known = (pid, *pod);
            let listed = self.app.learned.listed.get(&known);
            let is_up = |it: &crate::pods::SimPod| it.life == Life::Serving;
            listed.is_some_and(|since| *since <= then)
                && !self.app.learned.ever.contains(&known)
                && self.app.pods.at(*pod).is_some_and(is_up)
                && self.app.pods.failure_at(*pod, self.now).is_none()
        };
        backends.iter().copied().find(takes)
    }
}
