//! Who is behind the Service: from lists and events to pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::de::DeserializeOwned;

use super::objects::{self, Endpoint, EndpointPort, EndpointSlice, Metadata, TargetRef};
use super::objects::{WatchEvent, is_tcp};
use crate::cluster::{AddressSource, Permission, Pod};

/// Which port of an endpoint to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PortChoice {
    /// The one of this name (empty for a Service with a single, unnamed port).
    Named(String),
    /// The only TCP port, whatever it is called.
    Only,
}

impl PortChoice {
    fn pick(&self, ports: &[EndpointPort]) -> Option<u16> {
        let mut tcp = ports.iter().filter(|port| is_tcp(port.protocol.as_deref()));
        match self {
            PortChoice::Named(name) => {
                tcp.find(|port| port.name.as_deref().unwrap_or_default() == name)?
                    .port
            }
            PortChoice::Only => match (tcp.next(), tcp.next()) {
                (Some(only), None) => only.port,
                _ => None,
            },
        }
    }
}

/// One address of one pod, as one object lists it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    uid: String,
    address: SocketAddr,
    ready: bool,
    terminating: bool,
}

/// What one object says.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    listed: Vec<Listed>,
    /// Whether the wanted port is among its ports; None if it has no ports.
    has_port: Option<bool>,
}

/// A kind of object that lists endpoints: EndpointSlice or Endpoints.
pub(super) trait Source: DeserializeOwned {
    /// Its name in RBAC and in messages.
    const RESOURCE: &'static str;
    /// Its name to everybody else.
    const NAME: AddressSource;
    /// The right to follow it.
    const PERMISSION: Permission;
    fn metadata(&self) -> &Metadata;
    fn content(&self, port: &PortChoice) -> Content;
}

impl Source for EndpointSlice {
    const RESOURCE: &'static str = "endpointslices";
    const NAME: AddressSource = AddressSource::EndpointSlices;
    const PERMISSION: Permission = Permission::FollowSlices;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn content(&self, port: &PortChoice) -> Content {
        if !matches!(self.address_type.as_str(), "IPv4" | "IPv6") {
            return Content::default();
        }
        let ports = self.ports.as_deref().unwrap_or_default();
        let Some(number) = port.pick(ports) else {
            return Content::without_port(ports);
        };
        let endpoints = self.endpoints.iter().flatten();
        Content {
            listed: endpoints.filter_map(|one| one.listed(number)).collect(),
            has_port: Some(true),
        }
    }
}

impl Endpoint {
    fn listed(&self, port: u16) -> Option<Listed> {
        // "No semantics are defined for additional addresses beyond the first,
        // and kube-proxy does not look at them" (discovery/v1 types.go).
        let ip = self.addresses.as_ref()?.first()?;
        let conditions = self.conditions.as_ref();
        Listed::new(
            ip,
            port,
            self.target_ref.as_ref(),
            conditions.and_then(|it| it.ready).unwrap_or(true),
            conditions.and_then(|it| it.terminating).unwrap_or(false),
        )
    }
}

impl Source for objects::Endpoints {
    const RESOURCE: &'static str = "endpoints";
    const NAME: AddressSource = AddressSource::Endpoints;
    const PERMISSION: Permission = Permission::FollowEndpoints;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn content(&self, port: &PortChoice) -> Content {
        let mut content = Content::default();
        for subset in self.subsets.iter().flatten() {
            let ports = subset.ports.as_deref().unwrap_or_default();
            let Some(number) = port.pick(ports) else {
                content.has_port = content.has_port.or(Content::without_port(ports).has_port);
                continue;
            };
            content.has_port = Some(true);
            for (addresses, ready) in [
                (&subset.addresses, true),
                (&subset.not_ready_addresses, false),
            ] {
                let listed = addresses.iter().flatten().filter_map(|it| {
                    Listed::new(&it.ip, number, it.target_ref.as_ref(), ready, false)
                });
                content.listed.extend(listed);
            }
        }
        content
    }
}

impl Content {
    fn without_port(ports: &[EndpointPort]) -> Self {
        Content {
            listed: Vec::new(),
            has_port: (!ports.is_empty()).then_some(false),
        }
    }
}

impl Listed {
    /// None if the address is none.
    fn new(
        ip: &str,
        port: u16,
        pod: Option<&TargetRef>,
        ready: bool,
        terminating: bool,
    ) -> Option<Self> {
        let address = SocketAddr::new(ip.parse::<IpAddr>().ok()?, port);
        let uid = pod.map(|pod| pod.uid.as_str()).unwrap_or_default();
        Some(Listed {
            uid: if uid.is_empty() { ip } else { uid }.to_owned(),
            address,
            ready,
            terminating,
        })
    }
}

/// What an event asks for beyond taking it in.
#[derive(Debug)]
pub(super) enum Applied {
    /// Nothing.
    Done,
    /// A new object, as there is when a Service is made anew: its ports may
    /// have changed.
    Appeared,
    /// The server has ended the watch: list again.
    Failed(objects::Status),
}

/// Every object of the Service that lists endpoints, by name.
///
/// One thread writes it, from one source at a time: a list without a
/// resourceVersion is a consistent read, never older than the watch before it,
/// so that no versions need comparing.
#[derive(Debug)]
pub(super) struct Store {
    port: PortChoice,
    objects: BTreeMap<String, Content>,
}

impl Store {
    pub(super) fn new(port: PortChoice) -> Self {
        Store {
            port,
            objects: BTreeMap::new(),
        }
    }

    /// Which port to dial from the next list on.
    pub(super) fn set_port(&mut self, port: PortChoice) {
        self.port = port;
    }

    /// The same port, and no objects: what a list begins with.
    pub(super) fn emptied(&self) -> Self {
        Store::new(self.port.clone())
    }

    /// Takes in the items of a list, or of a page of one.
    pub(super) fn add<T: Source>(&mut self, items: &[T]) {
        items.iter().for_each(|item| self.put(item));
    }

    /// Takes in an event, and moves `version` to where the watch has got.
    pub(super) fn apply<T: Source>(
        &mut self,
        event: WatchEvent<T>,
        version: &mut String,
    ) -> Applied {
        let (metadata, applied) = match event {
            WatchEvent::Added(object) => {
                self.put(&object);
                (object.metadata().clone(), Applied::Appeared)
            }
            WatchEvent::Modified(object) => {
                self.put(&object);
                (object.metadata().clone(), Applied::Done)
            }
            WatchEvent::Deleted(object) => {
                self.objects.remove(&object.metadata().name);
                (object.metadata().clone(), Applied::Done)
            }
            WatchEvent::Bookmark(bookmark) => (bookmark.metadata, Applied::Done),
            WatchEvent::Error(status) => return Applied::Failed(status),
        };
        if !metadata.resource_version.is_empty() {
            *version = metadata.resource_version;
        }
        applied
    }

    /// Whether no object at all lists endpoints. A Service with a selector has
    /// one even if it has no pod.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether there are ports, but nowhere the wanted one.
    pub(super) fn port_missing(&self) -> bool {
        let has = |answer| {
            let mut contents = self.objects.values();
            contents.any(|content| content.has_port == Some(answer))
        };
        has(false) && !has(true)
    }

    /// The union: one entry for each address of each pod, in a stable order.
    ///
    /// While the controller moves endpoints between slices, one may be in two
    /// of them. It is ready if one says so, unless one has seen it terminate:
    /// no pod comes back from that.
    pub(super) fn pods(&self) -> Vec<Pod> {
        let mut union: BTreeMap<(&str, SocketAddr), (bool, bool)> = BTreeMap::new();
        for listed in self.objects.values().flat_map(|content| &content.listed) {
            let (ready, terminating) = union
                .entry((&listed.uid, listed.address))
                .or_insert((false, false));
            *ready |= listed.ready;
            *terminating |= listed.terminating;
        }
        union
            .into_iter()
            .map(|((uid, address), (ready, terminating))| Pod {
                uid: uid.to_owned(),
                address,
                ready: ready && !terminating,
            })
            .collect()
    }

    fn put<T: Source>(&mut self, object: &T) {
        let content = object.content(&self.port);
        self.objects.insert(object.metadata().name.clone(), content);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{recorded_body, recorded_lines};
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "743150b8-a861-491f-8c37-de624266f5d9";

    fn pod(uid: &str, address: &str, ready: bool) -> Pod {
        Pod {
            uid: uid.into(),
            address: address.parse().unwrap(),
            ready,
        }
    }

    fn http() -> Store {
        Store::new(PortChoice::Named("http".into()))
    }

    fn list<T: Source>(known: &mut Store, json: &[u8]) -> String {
        let list: objects::List<T> = serde_json::from_slice(json).unwrap();
        *known = known.emptied();
        known.add(&list.items.unwrap_or_default());
        list.metadata.resource_version
    }

    fn event<T: Source>(known: &mut Store, line: &[u8], version: &mut String) -> Applied {
        known.apply(
            serde_json::from_slice::<WatchEvent<T>>(line).unwrap(),
            version,
        )
    }

    /// A slice with one endpoint `uid` at `address`, as the text of an object.
    fn slice(name: &str, kind: &str, uid: &str, address: &str, conditions: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}","resourceVersion":"5"}},"addressType":"{kind}",
            "endpoints":[{{"addresses":["{address}"],"conditions":{conditions},
            "targetRef":{{"kind":"Pod","uid":"{uid}"}}}}],
            "ports":[{{"name":"http","protocol":"TCP","port":8000}}]}}"#
        )
    }

    fn added(known: &mut Store, slice: &str) -> Applied {
        let line = format!(r#"{{"type":"ADDED","object":{slice}}}"#);
        event::<EndpointSlice>(known, line.as_bytes(), &mut String::new())
    }

    #[test]
    fn an_empty_list_has_no_pods_and_a_version_to_go_on_from() {
        let mut known = http();
        let version = list::<EndpointSlice>(&mut known, &recorded_body("05-slices-list-empty"));
        assert_eq!(version, "10298");
        assert_eq!(known.pods(), []);
        assert!(
            !known.port_missing(),
            "a slice without endpoints has no ports"
        );
    }

    #[test]
    fn a_list_shows_a_ready_pod_by_its_ports_name_or_by_the_only_port() {
        for port in [PortChoice::Named("http".into()), PortChoice::Only] {
            let mut known = Store::new(port);
            list::<EndpointSlice>(&mut known, &recorded_body("15-slices-list-ready"));
            assert_eq!(known.pods(), [pod(UID, "10.244.0.232:8000", true)]);
        }
    }

    #[test]
    fn a_port_that_no_slice_has_is_missed() {
        let mut known = Store::new(PortChoice::Named("grpc".into()));
        list::<EndpointSlice>(&mut known, &recorded_body("15-slices-list-ready"));
        assert_eq!(known.pods(), []);
        assert!(known.port_missing());
    }

    #[test]
    fn a_watch_follows_a_pod_from_unready_to_ready_to_terminating_to_gone() {
        let mut known = http();
        let mut version = list::<EndpointSlice>(&mut known, &recorded_body("05-slices-list-empty"));
        let steps: Vec<(Vec<Pod>, String)> = recorded_lines("07-slices-watch-zero-one-zero")
            .iter()
            .map(|line| {
                let applied = event::<EndpointSlice>(&mut known, line, &mut version);
                assert!(matches!(applied, Applied::Done));
                (known.pods(), version.clone())
            })
            .collect();
        let one = |ready| vec![pod(UID, "10.244.0.232:8000", ready)];
        let expected = [
            (one(false), "10312"),
            (one(true), "10318"),
            (one(false), "10326"),
            (vec![], "10334"),
            (vec![], "10334"),
            (vec![], "10334"),
        ];
        assert_eq!(
            steps,
            expected.map(|(pods, version)| (pods, version.to_owned()))
        );
    }

    #[test]
    fn endpoints_tell_the_same_story_as_slices() {
        let (mut known, mut version) = (http(), String::new());
        let steps: Vec<Vec<Pod>> = recorded_lines("09-endpoints-watch-zero-one-zero")
            .iter()
            .map(|line| {
                event::<objects::Endpoints>(&mut known, line, &mut version);
                known.pods()
            })
            .collect();
        let one = |ready| vec![pod(UID, "10.244.0.232:8000", ready)];
        assert_eq!(steps, [one(false), one(true), vec![], vec![]]);
        assert_eq!(version, "10327");
    }

    #[test]
    fn initial_events_say_that_an_object_has_appeared() {
        let (mut known, mut version) = (http(), String::new());
        let lines = recorded_lines("21-slices-watch-initial-events");
        let first = event::<EndpointSlice>(&mut known, &lines[0], &mut version);
        assert!(matches!(first, Applied::Appeared));
        event::<EndpointSlice>(&mut known, &lines[1], &mut version);
        assert_eq!(version, "10341");
    }

    #[test]
    fn a_pod_of_two_families_is_listed_once_for_each_until_one_slice_is_emptied() {
        let mut known = http();
        added(&mut known, &slice("a-4", "IPv4", "u", "10.0.0.1", "{}"));
        added(
            &mut known,
            &slice("a-6", "IPv6", "u", "fd00::1", r#"{"ready":null}"#),
        );
        assert_eq!(
            known.pods(),
            [
                pod("u", "10.0.0.1:8000", true),
                pod("u", "[fd00::1]:8000", true)
            ],
            "an absent ready means ready"
        );
        let gone =
            r#"{"type":"DELETED","object":{"metadata":{"name":"a-4","resourceVersion":"9"}}}"#;
        let mut version = String::new();
        event::<EndpointSlice>(&mut known, gone.as_bytes(), &mut version);
        assert_eq!(known.pods(), [pod("u", "[fd00::1]:8000", true)]);
        assert_eq!(version, "9");
    }

    #[test]
    fn a_pod_that_terminates_is_not_ready_whatever_the_service_publishes() {
        let mut known = http();
        let publish_not_ready = r#"{"ready":true,"serving":true,"terminating":true}"#;
        added(
            &mut known,
            &slice("a", "IPv4", "u", "10.0.0.1", publish_not_ready),
        );
        added(
            &mut known,
            &slice("b", "IPv4", "u", "10.0.0.1", r#"{"ready":true}"#),
        );
        assert_eq!(known.pods(), [pod("u", "10.0.0.1:8000", false)]);
    }

    #[test]
    fn a_pod_in_two_slices_is_one_and_ready_if_one_says_so() {
        let mut known = http();
        added(
            &mut known,
            &slice("a", "IPv4", "u", "10.0.0.1", r#"{"ready":false}"#),
        );
        added(
            &mut known,
            &slice("b", "IPv4", "u", "10.0.0.1", r#"{"ready":true}"#),
        );
        assert_eq!(known.pods(), [pod("u", "10.0.0.1:8000", true)]);
    }

    #[test]
    fn what_cannot_be_dialled_is_passed_over() {
        let mut known = http();
        added(&mut known, &slice("name", "FQDN", "u", "db.example", "{}"));
        added(&mut known, &slice("bad", "IPv4", "u", "10.0.0", "{}"));
        let null_port = slice("null", "IPv4", "u", "10.0.0.1", "{}").replace("8000", "null");
        added(&mut known, &null_port);
        let udp = slice("udp", "IPv4", "u", "10.0.0.1", "{}").replace("TCP", "UDP");
        added(&mut known, &udp);
        added(
            &mut known,
            r#"{"metadata":{"name":"x"},"addressType":"IPv4","endpoints":[{"addresses":null}],
            "ports":[{"name":"http","port":1}]}"#,
        );
        assert_eq!(known.pods(), []);
    }

    #[test]
    fn an_endpoint_without_a_pod_goes_by_its_address() {
        let mut known = http();
        let bare = r#"{"metadata":{"name":"x"},"addressType":"IPv4",
            "endpoints":[{"addresses":["10.0.0.7","10.0.0.8"]}],"ports":[{"name":"http","port":1}]}"#;
        added(&mut known, bare);
        assert_eq!(
            known.pods(),
            [pod("10.0.0.7", "10.0.0.7:1", true)],
            "and by the first of its addresses alone"
        );
    }

    proptest! {
        #[test]
        fn the_union_does_not_depend_on_the_order_of_slices(order in Just((0usize..6).collect::<Vec<_>>()).prop_shuffle()) {
            let slices: Vec<String> = (0..6)
                .map(|n| {
                    let address = format!("10.0.0.{}", n / 2);
                    let conditions = format!(r#"{{"ready":{},"terminating":{}}}"#, n % 2 == 0, n == 3);
                    slice(&format!("s{n}"), "IPv4", &format!("u{}", n / 2), &address, &conditions)
                })
                .collect();
            let mut known = http();
            for index in order {
                added(&mut known, &slices[index]);
            }
            prop_assert_eq!(known.pods(), [
                pod("u0", "10.0.0.0:8000", true),
                pod("u1", "10.0.0.1:8000", false),
                pod("u2", "10.0.0.2:8000", true),
            ]);
        }

        #[test]
        fn no_line_makes_it_panic(line in ".{0,200}") {
            let _ = serde_json::from_slice::<WatchEvent<EndpointSlice>>(line.as_bytes());
        }
    }
}
