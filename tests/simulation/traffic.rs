//! The clients, and their bytes on the way to the pods and back.

use std::net::SocketAddr;
use std::time::Duration;

use zpa::clock::Time;
use zpa::policy::Phase;

use crate::app::{AppWorld, Event};
use crate::oracle::{ClientResult, Dial};
use crate::plan::Script;
use crate::pods::{Failure, Life};
use crate::sockets::{ClientId, Effect, End, Event as OnSocket};
use crate::world::Pid;

/// Somebody who connects.
pub struct Client {
    pid: Pid,
    script: Script,
    /// How many exchanges it has begun.
    begun: usize,
    /// How many bytes of the last one it still awaits.
    owed: u64,
    /// When it was last dialled for,
    dial: Option<Dial>,
    /// and the pod that this led to, be it through the Service's address.
    pod: Option<SocketAddr>,
    /// Whether it was served, or closed for a reason.
    pub ended: bool,
}

/// How long a packet takes, and sometimes.
const HOP: Duration = Duration::from_micros(200);
const LONG_HOP: Duration = Duration::from_millis(20);

impl AppWorld<'_> {
    /// A client connects in that place: to any process that is there, an
    /// ending one included.
    pub(crate) fn connect(&mut self, slot: usize, script: Script) {
        let here: Vec<Pid> = (0..self.processes.len())
            .filter(|&pid| self.processes[pid].slot == slot)
            .filter(|&pid| self.processes[pid].is_alive() && self.sockets(pid).is_accepting())
            .collect();
        let client = self.app.clients.len();
        let refused = here.is_empty();
        let pid = if refused { 0 } else { self.app.rng.pick(&here) };
        let timeout = script.resets_after;
        self.app.clients.push(Client {
            pid,
            script,
            begun: 0,
            owed: 0,
            dial: None,
            pod: None,
            ended: refused,
        });
        if refused {
            self.trace(|| format!("c{client} finds no proxy"));
            return self.app.oracle.record_result(ClientResult::NoProxy);
        }
        self.trace(|| format!("c{client} connects to p{pid}"));
        self.push_to_socket(pid, client, OnSocket::Arrived);
        self.schedule_next(client);
        if let Some(timeout) = timeout {
            self.later(timeout, Event::Impatience(client));
        }
    }

    fn schedule_next(&mut self, client: ClientId) {
        let begun = self.app.clients[client].begun;
        let next = self.app.clients[client].script.exchanges.get(begun);
        let pause = next.map_or(HOP, |exchange| exchange.pause);
        self.later(pause, Event::Client(client));
    }

    /// It sends its next request, or closes.
    pub(crate) fn client_acts(&mut self, client: ClientId) {
        let it = &mut self.app.clients[client];
        if it.ended {
            return;
        }
        let pid = it.pid;
        let event = match it.script.exchanges.get(it.begun) {
            Some(exchange) => {
                it.begun += 1;
                it.owed = exchange.bytes;
                OnSocket::Data(exchange.bytes)
            }
            None => OnSocket::Finished,
        };
        self.push_to_socket(pid, client, event);
    }

    /// It gives up.
    pub(crate) fn client_resets(&mut self, client: ClientId) {
        if !self.app.clients[client].ended {
            self.trace(|| format!("c{client} resets"));
            self.push_to_socket(self.app.clients[client].pid, client, OnSocket::Gone);
        }
    }

    /// Clients that come at the worst of moments: when a proxy is about to
    /// put the app to sleep, or has just done so.
    pub(crate) fn plan_critical_client(&mut self, phase: &Phase) {
        let worst = matches!(phase, Phase::ConfirmingIdle | Phase::ScalingDown);
        if !worst || self.now > Time::new(self.plan.horizon) {
            return;
        }
        if self.app.rng.chance(self.app.plan.critical_clients) {
            let slot = self.app.rng.below(self.plan.slots);
            let script = Script::draw(&mut self.app.rng, self.app.plan.ttl);
            self.app.critical_clients.push((slot, script));
            let ms = Duration::from_millis;
            let after = self.app.rng.around(ms(40), ms(3000));
            let number = self.app.critical_clients.len() - 1;
            self.later(after, Event::CriticalClient(number));
        }
    }

    /// One of them comes.
    pub(crate) fn start_critical_client(&mut self, number: usize) {
        let (slot, script) = self.app.critical_clients[number].clone();
        self.connect(slot, script);
    }

    // --- Sockets ---

    /// Something happens on a socket; the loop will see it.
    pub(crate) fn push_to_socket(&mut self, pid: Pid, client: ClientId, event: OnSocket) {
        if self.processes[pid].is_alive() {
            self.sockets_mut(pid).push(client, event);
            self.wake(pid);
        }
    }

    /// Does what a proxy's sockets have done to the network.
    pub(crate) fn carry_out(&mut self, pid: Pid, client: ClientId, effect: Effect) {
        match effect {
            Effect::Dial { attempt, address } => self.dial(pid, client, attempt, address),
            Effect::ToPod(bytes) => {
                let hop = self.hop();
                self.later(hop, Event::AtPod(pid, client, bytes));
            }
            Effect::ToClient(bytes) => {
                let hop = self.hop();
                self.later(hop, Event::AtClient(client, bytes));
            }
            Effect::Ended(end) => self.client_ended(pid, client, end),
        }
    }

    fn hop(&mut self) -> Duration {
        self.app.rng.around(HOP, LONG_HOP)
    }

    fn dial(&mut self, pid: Pid, client: ClientId, attempt: u32, address: SocketAddr) {
        let leased = self.app.oracle.dialled(pid, self.now);
        let at = self.now;
        self.app.clients[client].dial = Some(Dial { at, leased });
        let pod = self.pod_behind(address);
        let life = pod
            .and_then(|pod| self.app.pods.at(pod))
            .map(|pod| pod.life);
        let failure = pod.and_then(|pod| self.app.pods.failure_at(pod, at));
        self.app.clients[client].pod = pod;
        self.trace(|| format!("p{pid} dials {address} for c{client}: {life:?}, {failure:?}"));
        let answered = true;
        let event = match (life, failure) {
            // Nobody answers: the proxy's own time-out ends it.
            (Some(Life::Gone) | None, _) | (_, Some(Failure::Swallows)) => return,
            (Some(Life::Serving | Life::Ending), None) => {
                self.app.learned.answered(pid, address);
                OnSocket::Connected { attempt }
            }
            _ => {
                self.app.learned.failed(pid, address, at);
                OnSocket::Failed { attempt, answered }
            }
        };
        let hop = self.hop() * 2;
        self.later(hop, Event::Socket(pid, client, event));
    }

    /// The pod that an address leads to; the Service's own leads to one that is
    /// listed as ready.
    fn pod_behind(&self, address: SocketAddr) -> Option<SocketAddr> {
        match address {
            SERVICE => self
                .app
                .slices
                .1
                .iter()
                .find_map(|pod| pod.addresses.first().copied()),
            pod => Some(pod),
        }
    }

    /// The clients of a process that the pod there serves.
    pub(crate) fn served_by(&self, pid: Pid, pod: SocketAddr) -> Vec<ClientId> {
        let relayed = self.sockets(pid).relaying();
        relayed
            .filter(|&client| self.app.clients[client].pod == Some(pod))
            .collect()
    }

    /// The pod echoes, if it is still there.
    pub(crate) fn at_pod(&mut self, pid: Pid, client: ClientId, bytes: u64) {
        let pod = self.app.clients[client]
            .pod
            .and_then(|pod| self.app.pods.at(pod));
        let serves = pod.is_some_and(|pod| pod.serves());
        let hop = self.hop();
        let event = if serves {
            OnSocket::FromPod(bytes)
        } else {
            OnSocket::Broke
        };
        self.later(hop, Event::Socket(pid, client, event));
    }

    /// Bytes have come back.
    pub(crate) fn at_client(&mut self, client: ClientId, bytes: u64) {
        let it = &mut self.app.clients[client];
        if it.ended {
            return;
        }
        self.app.totals.bytes += bytes;
        it.owed = it.owed.saturating_sub(bytes);
        if it.owed == 0 {
            self.schedule_next(client);
        }
    }

    fn client_ended(&mut self, pid: Pid, client: ClientId, end: End) {
        let pod = self.app.clients[client]
            .pod
            .and_then(|pod| self.app.pods.at(pod));
        let cause = pod.and_then(|pod| pod.cause);
        self.trace(|| format!("c{client} at p{pid}: {end:?}"));
        let it = &mut self.app.clients[client];
        it.ended = true;
        let (dial, owed) = (it.dial, it.owed);
        assert!(
            end != End::Finished || owed == 0,
            "c{client} has closed unserved"
        );
        self.app
            .oracle
            .ended(client, pid, end, dial, cause, self.now);
    }

    /// A process is gone, and the kernel resets all that it had.
    pub(crate) fn reset_clients_of(&mut self, pid: Pid) {
        for client in self.sockets(pid).clients() {
            if !self.app.clients[client].ended {
                self.trace(|| format!("c{client} is reset with p{pid}"));
                self.app.clients[client].ended = true;
                self.app.oracle.record_result(ClientResult::ProxyKilled);
            }
        }
    }
}

/// The Service's own address.
pub const SERVICE: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)),
    80,
);
