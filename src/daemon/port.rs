//! A [`Port`] is what an app knows of one of its ports: the pods that serve it, and what
//! may be dialled for it.

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
    /// What else may be dialled.
    pub destinations: Destinations,
    /// How many addresses the sockets have.
    pub backends: usize,
    /// Why nothing is dialled, if what is to be dialled leads back to this proxy.
    pub leads_back: Option<String>,
}

/// What has come of a look for addresses that lead back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loop {
    /// Nothing has changed.
    Unchanged,
    /// One of them leads back, for that reason.
    Found(String),
    /// None does any more.
    Gone,
}

impl Port {
    /// What may be dialled, by what is known: see [`Destinations::backends`].
    pub fn backends(
        &self,
        route: &Route,
        is_port_known: bool,
        trusts_target: bool,
        now: Time,
    ) -> Vec<BackendSpec> {
        let pods = self.pods.dialable(now).map(backend_of_pod).collect();
        self.destinations
            .backends(route, pods, is_port_known, trusts_target)
    }

    /// Leaves no backend at all if one of them is this proxy: the others are, or may
    /// be, other proxies, each of which would hand the connection on for ever. A
    /// Service whose selector matches the proxies is what leads there.
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

    /// The way round where no pod answers.
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
