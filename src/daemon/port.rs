//! A [`Port`] is one port of an app: its pods, and the addresses that are dialled for it.

use super::own::{self, OwnAddresses};
use super::pods::Pods;
use super::route::{Destinations, Route};
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
    /// The number of addresses that the engine has.
    pub backends: usize,
    /// Why nothing is dialled, if an address leads back to this proxy.
    pub leads_back: Option<String>,
}

/// The result of the search for addresses that lead back to this proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loop {
    /// The result is the same as before.
    Unchanged,
    /// An address leads back; the text explains it.
    Found(String),
    /// No address leads back any more.
    Gone,
}

impl Port {
    /// The backends for the engine: see [`Destinations::backends`].
    pub fn backends(
        &self,
        route: &Route,
        is_port_known: bool,
        trusts_static_backend: bool,
        now: Time,
    ) -> Vec<BackendSpec> {
        let pods = self.pods.dialable(now).map(backend_of_pod).collect();
        self.destinations
            .backends(route, pods, is_port_known, trusts_static_backend)
    }

    /// Removes all backends if one of them is this proxy. The cause is a Service whose
    /// selector matches the proxies: the other backends may be other proxies, which would
    /// pass the connection on for ever.
    pub fn refuse_own(
        &mut self,
        backends: &mut Vec<BackendSpec>,
        own_addresses: &OwnAddresses,
        service: &str,
    ) -> Loop {
        let mut addresses = backends.iter().flat_map(|backend| &backend.addresses);
        let own = addresses.find(|&&address| own_addresses.contains(address));
        let leads_back = own.map(|&own| own::explain(own, service));
        if leads_back.is_some() {
            backends.clear();
        }
        let before = std::mem::replace(&mut self.leads_back, leads_back.clone());
        match (leads_back, before) {
            (Some(why), None) => Loop::Found(why),
            (None, Some(_)) => Loop::Gone,
            _ => Loop::Unchanged,
        }
    }

    /// The address that is dialled if no backend answers.
    pub fn fallback(&self, route: &Route) -> Option<std::net::SocketAddr> {
        let fallback = self.destinations.fallback(route);
        fallback.filter(|_| self.leads_back.is_none())
    }
}

fn backend_of_pod(pod: &Pod) -> BackendSpec {
    BackendSpec {
        id: pod.uid.clone(),
        addresses: pod.addresses.clone(),
    }
}
