//! The backends and fallback addresses of an [`App`].

use std::net::SocketAddr;

use log::{info, warn};

use super::super::interface::{Api, Sockets};
use super::super::port::LoopChange;
use super::super::topology::Nearness;
use super::{App, AppConfig, Process, TRUST_STATIC_AFTER};
use crate::accept_probe::Candidate;
use crate::clock::Time;
use crate::engine::PortId;
use crate::rules::ready_gate::ReadyGate;

impl<A: Api> App<A> {
    /// Passes the backends to the sockets, and to the policy whether there are any.
    pub(super) fn update_backends<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let now = process.now;
        if self.backends_until.is_none_or(|until| now < until) {
            return;
        }
        for index in 0..self.ports.len() {
            self.update_backends_at(index, process);
        }
        let (ready, replicas) = (self.ready_backends(), self.known_replicas());
        let may_dial = self.min_ready_wait.update(ready, replicas, now);
        self.policy.set_dialable(may_dial, now);
        let ports = self.ports.iter();
        let releases = ports.filter_map(|port| port.pods.poll_timeout(now));
        let releases = releases.chain(self.min_ready_wait.poll_timeout());
        self.backends_until = releases.chain(self.trusts_target_at(now)).min();
    }

    /// How many pods may be dialled, at the port that has the most of them.
    pub(super) fn ready_backends(&self) -> usize {
        let ports = self.ports.iter().map(|port| port.ready_backends);
        ports.max().unwrap_or_default()
    }

    /// The number of replicas of the scale target, if it is known not to be zero.
    pub(super) fn known_replicas(&self) -> Option<u32> {
        let (replicas, _) = self.policy.replicas()?;
        (replicas > 0).then_some(replicas)
    }

    fn update_backends_at<S: Sockets>(&mut self, index: usize, process: &mut Process<'_, S>) {
        let now = process.now;
        let (id, trusts_static_backend) = (self.port_id(index), self.trusts_static_backend(now));
        let is_port_known = !self.health.is_port_missing(index);
        let AppConfig {
            name,
            service,
            route,
            topology,
            ..
        } = &self.config;
        let Some(port) = self.ports.get_mut(index) else {
            return;
        };
        let mut backends =
            port.backends(route, topology, is_port_known, trusts_static_backend, now);
        match port.clear_if_looping(&mut backends, process.own_addresses, service) {
            LoopChange::Found(why) => warn!("{name}: {why}"),
            LoopChange::Gone => info!("{name}: nothing leads back to this proxy any more"),
            LoopChange::Unchanged => {}
        }
        port.backends = backends.iter().map(|it| it.addresses.len()).sum();
        port.ready_backends = backends.len();
        process.sockets.set_backends(id, &backends, now);
        process.sockets.set_fallback(id, port.fallback(route));
    }

    /// Sets the starting pods that are dialled until one accepts or greets, while connections wait
    /// and no ready pod can serve them.
    pub(super) fn probe_starting_pods<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        if self.config.ready_gate == ReadyGate::Probe {
            return;
        }
        let mut candidates = Vec::new();
        if process.sockets.counts(self.id).waiting > 0 {
            // That one greets, if the app does.
            let greeting_ports = match self.config.ready_gate {
                ReadyGate::Greeting => 1,
                ReadyGate::Accept | ReadyGate::Probe => self.ports.len(),
            };
            for (index, port) in self.ports.iter().enumerate().take(greeting_ports) {
                candidates.extend(port.pods.starting(process.now).map(|pod| Candidate {
                    port: index,
                    uid: pod.uid.clone(),
                    addresses: pod.unready_addresses.clone(),
                    is_to_greet: self.config.ready_gate == ReadyGate::Greeting,
                }));
            }
        }
        if candidates != self.candidates {
            self.candidates.clone_from(&candidates);
            self.api.probe(candidates);
        }
    }

    /// A starting pod accepts or greets. One that has greeted at a port is ready at all: the data
    /// port of FTP would take a dial for the client's.
    pub(super) fn note_accepting(&mut self, port: usize, uid: &str, now: Time) {
        let is_of_all = self.config.ready_gate == ReadyGate::Greeting;
        let ports = self.ports.iter_mut().enumerate();
        for (_, port) in ports.filter(|(index, _)| is_of_all || *index == port) {
            port.pods.accepts(uid.to_owned(), now);
        }
        self.backends_until = Some(now);
    }

    /// Passes the addresses of the backup target to the sockets; none if one is this proxy's own.
    pub(super) fn set_backup<S: Sockets>(
        &self,
        addresses: &[SocketAddr],
        process: &mut Process<'_, S>,
    ) {
        let mut all = addresses.iter();
        let addresses = match all.find(|&&it| process.own_addresses.contains(it)) {
            None => addresses,
            Some(own) => {
                warn!(
                    "{}: {own}, of the backup target, is this proxy's own address and is not \
                     dialled",
                    self.config.name
                );
                &[]
            }
        };
        process.sockets.set_backup(self.id, addresses);
    }

    /// Passes the fallback addresses to the sockets.
    pub(super) fn update_fallbacks<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        for (index, port) in self.ports.iter().enumerate() {
            let fallback = port.fallback(&self.config.route);
            process.sockets.set_fallback(self.port_id(index), fallback);
        }
    }

    /// Which pods of a port are dialled first.
    pub fn nearness(&self, id: PortId) -> Nearness {
        let port = self.ports.get(id.index);
        port.map_or_else(Nearness::default, |port| port.nearness)
    }

    /// Why no pod can be dialled although the endpoints can be listed; the reason of the
    /// first port that has one.
    pub fn no_address(&self) -> Option<&str> {
        self.port_ids().find_map(|id| self.no_address_at(id))
    }

    /// Why no pod can be dialled for a port although the endpoints can be listed.
    pub fn no_address_at(&self, id: PortId) -> Option<&str> {
        let port = self.ports.get(id.index)?;
        let leads_back = port.leads_back.as_deref();
        leads_back.or_else(|| self.health.no_address_because(id.index))
    }

    /// Whether the pods of the app are those of the Service, as far as can be seen. If not, its
    /// clients connect past this proxy, and would be served by nobody after a sleep.
    pub(super) fn leads_to_pods(&self) -> bool {
        let has_ready_pods = self.target_status.as_ref().is_some_and(|it| it.ready > 0);
        let is_empty = self.ports.iter().all(|port| port.pods.listed() == 0);
        self.no_address().is_none() && !(has_ready_pods && is_empty)
    }

    /// Whether the static backend is dialled although the endpoints were never listed.
    pub(super) fn trusts_static_backend(&self, now: Time) -> bool {
        self.endpoints_updated.is_none() && self.trusts_target_at(now).is_none()
    }

    fn trusts_target_at(&self, now: Time) -> Option<Time> {
        Some(self.started + TRUST_STATIC_AFTER).filter(|&at| at > now)
    }
}
