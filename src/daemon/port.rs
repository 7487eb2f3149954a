//! [`Port`]: one port of an app in the daemon. From the pods of the Service's port and the other
//! addresses it makes the list of backends for the engine, and detects a list that leads back to
//! the proxy.

use super::own_addresses::{self, OwnAddresses};
use super::pods::Pods;
use super::route::{Destinations, Route};
use super::topology::{Nearness, Topology};
use crate::clock::Time;
use crate::cluster::Pod;
use crate::engine::BackendSpec;

/// One port of an app.
#[derive(Default)]
pub struct Port {
    /// The pods that the Service lists, with their addresses for this port.
    pub pods: Pods,
    /// The addresses other than those of pods.
    pub destinations: Destinations,
    /// Which pods are dialled first.
    pub nearness: Nearness,
    /// The number of addresses that the engine was given.
    pub backends: usize,
    /// The number of pods, or of static backends, whose addresses these are.
    pub ready_backends: usize,
    /// The reason why nothing is dialled, if a backend leads back to this proxy.
    pub leads_back: Option<String>,
}

/// The change that a search for a forwarding loop has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoopChange {
    /// There is a loop as before, or none as before.
    Unchanged,
    /// A backend leads back to this proxy now; the text explains it.
    Found(String),
    /// No backend leads back any more.
    Gone,
}

impl Port {
    /// The backends for the engine: see [`Destinations::backends`]. The proxy runs at `place`.
    pub fn backends(
        &mut self,
        route: &Route,
        place: &Topology,
        is_port_known: bool,
        trusts_static_backend: bool,
        now: Time,
    ) -> Vec<BackendSpec> {
        let pods: Vec<&Pod> = self.pods.dialable(now).collect();
        let nearness = place.nearness(pods.iter().copied());
        let backend = |pod: &&Pod| backend_of_pod(pod, place.is_near(pod, nearness));
        let pods = pods.iter().map(backend).collect();
        self.nearness = nearness;
        self.destinations
            .backends(route, pods, is_port_known, trusts_static_backend)
    }

    /// Removes all backends if one of them is this proxy. The cause is a Service whose
    /// selector matches the proxies: the other backends may be other proxies, which would
    /// pass the connection on for ever.
    pub fn clear_if_looping(
        &mut self,
        backends: &mut Vec<BackendSpec>,
        own_addresses: &OwnAddresses,
        service: &str,
    ) -> LoopChange {
        let mut addresses = backends.iter().flat_map(|backend| &backend.addresses);
        let own = addresses.find(|&&address| own_addresses.contains(address));
        let leads_back = own.map(|&own| own_addresses::explain(own, service));
        if leads_back.is_some() {
            backends.clear();
        }
        let before = std::mem::replace(&mut self.leads_back, leads_back.clone());
        match (leads_back, before) {
            (Some(why), None) => LoopChange::Found(why),
            (None, Some(_)) => LoopChange::Gone,
            _ => LoopChange::Unchanged,
        }
    }

    /// The address that is dialled if no backend answers.
    pub fn fallback(&self, route: &Route) -> Option<std::net::SocketAddr> {
        let fallback = self.destinations.fallback(route);
        fallback.filter(|_| self.leads_back.is_none())
    }
}

fn backend_of_pod(pod: &Pod, is_near: bool) -> BackendSpec {
    BackendSpec {
        is_near,
        id: pod.uid.clone(),
        addresses: match pod.is_ready() {
            true => pod.addresses.clone(),
            false => pod.unready_addresses.clone(),
        },
    }
}
