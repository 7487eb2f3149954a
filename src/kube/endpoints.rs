//! The store of the endpoint reflector: the objects that list a Service's
//! endpoints, and the pods that they add up to.
//!
//! An EndpointSlice and a `v1` Endpoints object are stored in one form, with all
//! their TCP ports, so that a change of the Service (another port, another order
//! of IP families) needs no new list.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::de::DeserializeOwned;

use super::list_watch::{self, Applied};
use super::objects::{
    self, EndpointPort, EndpointSlice, List, ListMetadata, Metadata, TargetRef, WatchEvent, is_tcp,
};
use crate::cluster::{AddressSource, Pod};

/// Which port of an endpoint to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PortChoice {
    /// The one of this name (empty for a Service with a single, unnamed port).
    Named(String),
    /// The only TCP port, whatever it is called.
    Only,
}

impl PortChoice {
    fn pick(&self, ports: &[Port]) -> Option<u16> {
        match (self, ports) {
            (PortChoice::Named(name), _) => ports.iter().find(|it| it.name == *name)?.number,
            (PortChoice::Only, [only]) => only.number,
            (PortChoice::Only, _) => None,
        }
    }
}

/// An IP family, by its name in `spec.ipFamilies` and `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IpFamily {
    Ipv4,
    Ipv6,
}

impl IpFamily {
    /// None for a name that is neither: the API may gain others, as it has `FQDN`.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "IPv4" => Some(IpFamily::Ipv4),
            "IPv6" => Some(IpFamily::Ipv6),
            _ => None,
        }
    }

    fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => IpFamily::Ipv4,
            SocketAddr::V6(_) => IpFamily::Ipv6,
        }
    }
}

/// What the Service says of its endpoints: which port to dial, and which IP
/// family comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) port: PortChoice,
    /// The family of the Service's first cluster IP (`spec.ipFamilies[0]`).
    pub(super) first_family: IpFamily,
}

/// Why endpoints that are listed cannot be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortMissing {
    /// There are endpoints, and none has any port. The endpoint controllers leave
    /// a port out that they do not find in the pod: the Service's `targetPort` is
    /// a name that no container has.
    NoPort,
    /// There are ports, and nowhere the one that is wanted.
    OtherPorts,
}

/// A TCP port of endpoints. Its number is absent where it means "all ports".
#[derive(Clone, Debug)]
struct Port {
    name: String,
    number: Option<u16>,
}

/// One address of one pod.
#[derive(Clone, Debug)]
struct Endpoint {
    /// The pod's UID, or the address where no pod is named.
    uid: String,
    ip: IpAddr,
    ready: bool,
    terminating: bool,
}

/// Endpoints that share their ports.
#[derive(Clone, Debug)]
struct Group {
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
}

/// An object that lists endpoints, whatever its kind.
#[derive(Clone, Debug)]
pub(super) struct Object {
    metadata: Metadata,
    groups: Vec<Group>,
}

/// A kind of object that lists endpoints: EndpointSlice or Endpoints.
pub(super) trait Source: DeserializeOwned {
    /// What is stored of it.
    fn into_object(self) -> Object;
}

impl Source for EndpointSlice {
    fn into_object(self) -> Object {
        let is_ip = IpFamily::named(&self.address_type).is_some();
        let listed = self.endpoints.iter().flatten().filter(|_| is_ip);
        let group = Group {
            ports: tcp_ports(self.ports.as_deref()),
            endpoints: listed.filter_map(objects::Endpoint::stored).collect(),
        };
        Object {
            metadata: self.metadata,
            groups: vec![group],
        }
    }
}

impl objects::Endpoint {
    /// None if it has no address.
    fn stored(&self) -> Option<Endpoint> {
        // "No semantics are defined for additional addresses beyond the first,
        // and kube-proxy does not look at them" (discovery/v1 types.go).
        let ip = self.addresses.as_ref()?.first()?;
        let conditions = self.conditions.clone().unwrap_or_default();
        // `ready` is true for every endpoint of a Service with
        // `publishNotReadyAddresses`, and `serving` is the pod's own readiness.
        // An absent `ready` means true, an absent `serving` what `ready` says, an
        // absent `terminating` false (discovery/v1 types.go).
        let ready = conditions.ready.unwrap_or(true) && conditions.serving.unwrap_or(true);
        let terminating = conditions.terminating.unwrap_or(false);
        Endpoint::new(ip, self.target_ref.as_ref(), ready, terminating)
    }
}

impl Source for objects::Endpoints {
    /// `v1` Endpoints know neither `serving` nor `terminating`: a Service with
    /// `publishNotReadyAddresses` lists every address as ready.
    fn into_object(self) -> Object {
        let subsets = self.subsets.iter().flatten();
        Object {
            groups: subsets.map(objects::Subset::stored).collect(),
            metadata: self.metadata,
        }
    }
}

impl objects::Subset {
    fn stored(&self) -> Group {
        let listed = |addresses: &Option<Vec<objects::EndpointAddress>>, ready| {
            let addresses = addresses.iter().flatten();
            let stored = |it: &objects::EndpointAddress| {
                Endpoint::new(&it.ip, it.target_ref.as_ref(), ready, false)
            };
            addresses.filter_map(stored).collect::<Vec<_>>()
        };
        let mut endpoints = listed(&self.addresses, true);
        endpoints.extend(listed(&self.not_ready_addresses, false));
        Group {
            ports: tcp_ports(self.ports.as_deref()),
            endpoints,
        }
    }
}

fn tcp_ports(ports: Option<&[EndpointPort]>) -> Vec<Port> {
    let ports = ports.unwrap_or_default().iter();
    let tcp = ports.filter(|port| is_tcp(port.protocol.as_deref()));
    tcp.map(|port| Port {
        name: port.name.clone().unwrap_or_default(),
        number: port.port,
    })
    .collect()
}

impl Endpoint {
    /// None if the address is no IP address.
    fn new(ip: &str, pod: Option<&TargetRef>, ready: bool, terminating: bool) -> Option<Self> {
        let uid = pod.map(|pod| pod.uid.as_str()).unwrap_or_default();
        Some(Endpoint {
            uid: if uid.is_empty() { ip } else { uid }.to_owned(),
            ip: ip.parse().ok()?,
            ready,
            terminating,
        })
    }
}

/// Every object of the Service that lists endpoints, by name.
///
/// One thread writes it, from one source at a time: a list without a
/// resourceVersion is a consistent read, never older than the watch before it,
/// so that no versions need comparing.
#[derive(Debug)]
pub(super) struct Store {
    /// What the objects are.
    source: AddressSource,
    objects: BTreeMap<String, Object>,
    /// Those of a list that is not complete yet.
    incoming: BTreeMap<String, Object>,
    appeared: bool,
}

impl list_watch::Store for Store {
    fn add_page(&mut self, body: &[u8], is_first: bool) -> Result<ListMetadata, serde_json::Error> {
        if is_first {
            self.incoming.clear();
        }
        match self.source {
            AddressSource::EndpointSlices => self.add_items::<EndpointSlice>(body),
            AddressSource::Endpoints => self.add_items::<objects::Endpoints>(body),
        }
    }

    fn replace(&mut self) {
        self.objects = std::mem::take(&mut self.incoming);
    }

    fn apply(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error> {
        match self.source {
            AddressSource::EndpointSlices => self.apply_event::<EndpointSlice>(line),
            AddressSource::Endpoints => self.apply_event::<objects::Endpoints>(line),
        }
    }
}

impl Store {
    /// Nothing is known yet; objects of that kind are to come.
    pub(super) fn new(source: AddressSource) -> Self {
        Store {
            source,
            objects: BTreeMap::new(),
            incoming: BTreeMap::new(),
            appeared: false,
        }
    }

    /// What the objects are.
    pub(super) fn source(&self) -> AddressSource {
        self.source
    }

    /// Objects of that kind are to come, beginning with a list.
    pub(super) fn set_source(&mut self, source: AddressSource) {
        self.source = source;
    }

    /// Whether an event has shown a new object since this was last asked, as there
    /// is when a Service is made anew: its ports may have changed.
    pub(super) fn take_appeared(&mut self) -> bool {
        std::mem::take(&mut self.appeared)
    }

    fn add_items<T: Source>(&mut self, body: &[u8]) -> Result<ListMetadata, serde_json::Error> {
        let list: List<T> = serde_json::from_slice(body)?;
        let items = list.items.into_iter().flatten().map(T::into_object);
        let named = items.map(|item| (item.metadata.name.clone(), item));
        self.incoming.extend(named);
        Ok(list.metadata)
    }

    fn apply_event<T: Source>(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error> {
        let reached = match serde_json::from_slice::<WatchEvent<T>>(line)? {
            WatchEvent::Added(object) => {
                self.appeared = true;
                self.put(object.into_object())
            }
            WatchEvent::Modified(object) => self.put(object.into_object()),
            WatchEvent::Deleted(object) => {
                let metadata = object.into_object().metadata;
                self.objects.remove(&metadata.name);
                metadata.resource_version
            }
            WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
            WatchEvent::Error(status) => return Ok(Applied::Failed(status)),
        };
        Ok(Applied::Reached(reached))
    }

    /// Whether no object at all lists endpoints. A Service with a selector has
    /// one even if it has no pod.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Why nothing of what is listed can be dialled, if that is for want of a
    /// port. Neither endpoints nor ports is no reason: an app at zero has none.
    pub(super) fn port_missing(&self, port: &PortChoice) -> Option<PortMissing> {
        let mut missing = None;
        for group in self.objects.values().flat_map(|object| &object.groups) {
            if port.pick(&group.ports).is_some() {
                return None;
            }
            if !group.ports.is_empty() {
                missing = Some(PortMissing::OtherPorts);
            } else if !group.endpoints.is_empty() {
                missing = missing.or(Some(PortMissing::NoPort));
            }
        }
        missing
    }

    /// The union of all objects: one entry for each pod, ordered by UID.
    ///
    /// While the controller moves endpoints between slices, one may be in two
    /// of them. It is ready if one says so, unless one has seen its pod
    /// terminate: no pod comes back from that.
    pub(super) fn pods(&self, selection: &Selection) -> Vec<Pod> {
        let mut union: BTreeMap<&str, Union> = BTreeMap::new();
        for group in self.objects.values().flat_map(|object| &object.groups) {
            let Some(port) = selection.port.pick(&group.ports) else {
                continue;
            };
            for endpoint in &group.endpoints {
                let pod = union.entry(&endpoint.uid).or_default();
                pod.terminating |= endpoint.terminating;
                if endpoint.ready {
                    pod.ready.push(SocketAddr::new(endpoint.ip, port));
                }
            }
        }
        union
            .into_iter()
            .map(|(uid, pod)| Pod {
                uid: uid.to_owned(),
                addresses: pod.addresses(selection.first_family),
            })
            .collect()
    }

    /// Stores an object; returns its version.
    fn put(&mut self, object: Object) -> String {
        let Metadata {
            name,
            resource_version,
        } = object.metadata.clone();
        self.objects.insert(name, object);
        resource_version
    }
}

/// What all objects say of one pod.
#[derive(Default)]
struct Union {
    ready: Vec<SocketAddr>,
    terminating: bool,
}

impl Union {
    /// Where the pod may be dialled, that family first.
    fn addresses(mut self, first: IpFamily) -> Vec<SocketAddr> {
        if self.terminating {
            return Vec::new();
        }
        let rank = |address: &SocketAddr| (IpFamily::of(address) != first, *address);
        self.ready.sort_unstable_by_key(rank);
        self.ready.dedup();
        self.ready
    }
}

#[cfg(test)]
mod tests;
