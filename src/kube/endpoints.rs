//! The [`Store`] of the endpoint reflector: the EndpointSlices or Endpoints of a Service, and
//! the pods that they list together.
//!
//! EndpointSlices and `v1` Endpoints are stored in one form, with all their TCP ports, so
//! that a change of the Service (another port, another order of IP families) needs no new
//! list.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::de::DeserializeOwned;

use super::items::{self, Skipped, WatchEvent};
use super::objects::{
    self, EndpointPort, EndpointSlice, ListMetadata, Metadata, SliceMetadata, TargetRef, is_tcp,
};
use super::watcher_io::{self, Applied};
use crate::cluster::{AddressSource, Pod, TopologyHints};

/// The port of an endpoint to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PortChoice {
    /// The port with this name (empty for a Service with a single, unnamed port).
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
    /// `None` for another name: the API has `FQDN` too, and may get others.
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

/// The port to dial and the first IP family, as the Service defines them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) port: PortChoice,
    /// The family of the Service's first cluster IP (`spec.ipFamilies[0]`).
    pub(super) first_family: IpFamily,
}

/// Why listed endpoints cannot be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortMissing {
    /// The endpoints have no port. The endpoint controllers leave out a port that they do
    /// not find in the pod: the Service's `targetPort` is a name that no container has.
    NoPort,
    /// The endpoints have ports, and none of them is the wanted one.
    OtherPorts,
}

/// A TCP port of endpoints. Its number is absent where it means "all ports", or is no port.
#[derive(Clone, Debug)]
struct Port {
    name: String,
    number: Option<u16>,
}

/// One address of one pod.
#[derive(Clone, Debug)]
struct Endpoint {
    /// The pod's UID, or the address if no pod is named.
    uid: String,
    ip: IpAddr,
    ready: bool,
    terminating: bool,
    /// On the heap, since most have none.
    hints: Option<Box<TopologyHints>>,
}

/// Endpoints that share their ports.
#[derive(Clone, Debug)]
struct Group {
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
}

/// An EndpointSlice or an Endpoints object, as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    groups: Vec<Group>,
}

/// A kind of object that lists endpoints.
pub(super) trait Source: DeserializeOwned {
    /// The Service whose endpoints it has.
    fn service(&self) -> Option<&str>;

    /// Its namespace, and that of its Service.
    fn namespace(&self) -> &str;

    /// The parts that are stored.
    fn into_object(self) -> Object;
}

impl Source for EndpointSlice {
    fn service(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.service_name.as_deref()
    }

    fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    fn into_object(self) -> Object {
        let is_ip = IpFamily::named(&self.address_type).is_some();
        let listed = self.endpoints.iter().flatten().filter(|_| is_ip);
        let group = Group {
            ports: tcp_ports(self.ports.as_deref()),
            endpoints: listed.filter_map(objects::Endpoint::stored).collect(),
        };
        let SliceMetadata {
            name,
            namespace,
            resource_version,
            ..
        } = self.metadata;
        Object {
            metadata: Metadata {
                name,
                namespace,
                resource_version,
            },
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
        // An absent `ready` means true, an absent `serving` the value of `ready`, an absent
        // `terminating` false (discovery/v1 types.go).
        let ready = conditions.ready.unwrap_or(true) && conditions.serving.unwrap_or(true);
        let terminating = conditions.terminating.unwrap_or(false);
        let endpoint = Endpoint::new(ip, self.target_ref.as_ref(), ready, terminating)?;
        let hints = self.hints.as_ref().map(objects::Hints::stored);
        Some(Endpoint { hints, ..endpoint })
    }
}

impl objects::Hints {
    fn stored(&self) -> Box<TopologyHints> {
        let names = |named: &Option<Vec<objects::Named>>| {
            let named = named.iter().flatten();
            named.map(|it| it.name.clone()).collect()
        };
        Box::new(TopologyHints {
            zones: names(&self.for_zones),
            nodes: names(&self.for_nodes),
        })
    }
}

impl Source for objects::Endpoints {
    fn service(&self) -> Option<&str> {
        Some(&self.metadata.name)
    }

    fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// `v1` Endpoints have neither `serving` nor `terminating`: with
    /// `publishNotReadyAddresses`, every address is listed as ready.
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
        number: port.port.and_then(dialable),
    })
    .collect()
}

fn dialable(port: i64) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
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
            hints: None,
        })
    }
}

/// The objects that list the Service's endpoints, by name.
///
/// One thread writes the store, from one source at a time. A list without a resourceVersion
/// is a consistent read and never older than the watch before it, so that versions need not
/// be compared.
#[derive(Debug)]
pub(super) struct Store {
    /// The kind of the objects.
    source: AddressSource,
    pub(super) objects: BTreeMap<String, Object>,
    /// Those of a list that is not complete yet.
    pub(super) incoming: BTreeMap<String, Object>,
    pub(super) appeared: bool,
    skipped: Vec<Skipped>,
}

impl watcher_io::Store for Store {
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

    fn take_skipped(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.skipped)
    }
}

impl Store {
    /// An empty store for objects of that kind.
    pub(super) fn new(source: AddressSource) -> Self {
        Store {
            source,
            objects: BTreeMap::new(),
            incoming: BTreeMap::new(),
            appeared: false,
            skipped: Vec::new(),
        }
    }

    /// The kind of the objects.
    pub(super) fn source(&self) -> AddressSource {
        self.source
    }

    /// Sets the kind of the objects; a list of them must follow.
    pub(super) fn set_source(&mut self, source: AddressSource) {
        self.source = source;
    }

    /// Whether an event has added an object since the last call. A Service that was created
    /// again causes that, and its ports may have changed.
    pub(super) fn take_appeared(&mut self) -> bool {
        std::mem::take(&mut self.appeared)
    }

    fn add_items<T: Source>(&mut self, body: &[u8]) -> Result<ListMetadata, serde_json::Error> {
        items::page(body, |item: Result<T, Skipped>| match item {
            Ok(item) => {
                let object = item.into_object();
                self.incoming.insert(object.metadata.name.clone(), object);
            }
            Err(skipped) => self.skipped.push(skipped),
        })
    }

    fn apply_event<T: Source>(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error> {
        let reached = match items::event::<T>(line)? {
            WatchEvent::Added(object) => {
                self.appeared = true;
                self.put(object.into_object())
            }
            WatchEvent::Modified(object) => self.put(object.into_object()),
            WatchEvent::Deleted(metadata) => {
                self.objects.remove(&metadata.name);
                metadata.resource_version
            }
            WatchEvent::Skipped(skipped) => {
                self.objects.remove(&skipped.metadata.name);
                let version = skipped.metadata.resource_version.clone();
                self.skipped.push(skipped);
                version
            }
            WatchEvent::Bookmark(metadata) => metadata.resource_version,
            WatchEvent::Error(status) => return Ok(Applied::Failed(status)),
        };
        Ok(Applied::Reached(reached))
    }

    /// Whether there is no object. A Service with a selector has one even without pods.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Why no endpoint can be dialled, if the reason is a missing port. `None` if there are
    /// neither endpoints nor ports, as with an app at zero.
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

    /// The pods of all objects: one entry for each pod, ordered by UID.
    ///
    /// While the controller moves endpoints between slices, an endpoint may be in two of
    /// them. It is ready if one slice lists it as ready, unless one lists it as terminating:
    /// a pod that terminates never becomes ready again.
    pub(super) fn pods(&self, selection: &Selection) -> Vec<Pod> {
        let mut union: BTreeMap<&str, Union> = BTreeMap::new();
        for group in self.objects.values().flat_map(|object| &object.groups) {
            let Some(port) = selection.port.pick(&group.ports) else {
                continue;
            };
            for endpoint in &group.endpoints {
                let pod = union.entry(&endpoint.uid).or_default();
                pod.terminating |= endpoint.terminating;
                if let Some(hints) = &endpoint.hints {
                    pod.hints.zones.extend(hints.zones.iter().cloned());
                    pod.hints.nodes.extend(hints.nodes.iter().cloned());
                }
                let address = SocketAddr::new(endpoint.ip, port);
                match endpoint.ready {
                    true => pod.ready.push(address),
                    false => pod.unready.push(address),
                }
            }
        }
        union
            .into_iter()
            .map(|(uid, pod)| pod.merged(uid, selection.first_family))
            .collect()
    }

    /// Stores an object; returns its version.
    pub(super) fn put(&mut self, object: Object) -> String {
        let Metadata {
            name,
            resource_version,
            ..
        } = object.metadata.clone();
        self.objects.insert(name, object);
        resource_version
    }
}

/// One pod, merged from all objects.
#[derive(Default)]
struct Union {
    ready: Vec<SocketAddr>,
    unready: Vec<SocketAddr>,
    terminating: bool,
    hints: TopologyHints,
}

impl Union {
    /// The pod, with the addresses of `first` first.
    fn merged(mut self, uid: &str, first: IpFamily) -> Pod {
        for names in [&mut self.hints.zones, &mut self.hints.nodes] {
            names.sort_unstable();
            names.dedup();
        }
        let in_order = |mut addresses: Vec<SocketAddr>| {
            let rank = |address: &SocketAddr| (IpFamily::of(address) != first, *address);
            addresses.sort_unstable_by_key(rank);
            addresses.dedup();
            addresses
        };
        let (addresses, unready_addresses) = match (self.terminating, self.ready.is_empty()) {
            (true, _) => (Vec::new(), Vec::new()),
            (false, false) => (in_order(self.ready), Vec::new()),
            (false, true) => (Vec::new(), in_order(self.unready)),
        };
        Pod {
            uid: uid.to_owned(),
            addresses,
            unready_addresses,
            hints: self.hints,
        }
    }
}

#[cfg(test)]
mod tests;
