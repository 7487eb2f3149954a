//! The store over slices of several Services.

use serde_json::{Value, json};

use super::super::endpoints::{IpFamily, PortChoice, Selection};
use super::super::testing::{recorded_body, recorded_lines};
use super::super::watcher_io::Store as _;
use super::*;

fn slice(name: &str, service: &str, ip: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "resourceVersion": "7",
            "labels": { "kubernetes.io/service-name": service, "app": "any" }
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 80 }],
        "endpoints": [{ "addresses": [ip] }]
    })
}

fn list(store: &mut NamespaceStore, items: &[Value]) {
    let body = json!({ "metadata": { "resourceVersion": "9" }, "items": items });
    store.add_page(body.to_string().as_bytes(), true).unwrap();
    store.replace();
}

fn event(store: &mut NamespaceStore, kind: &str, object: &Value) {
    let line = json!({ "type": kind, "object": object });
    let applied = store.apply(line.to_string().as_bytes()).unwrap();
    assert!(matches!(applied, Applied::Reached(version) if version == "7"));
}

fn store(services: &[&str]) -> NamespaceStore {
    let mut store = NamespaceStore::new(Namespaces::default(), AddressSource::EndpointSlices);
    services.iter().for_each(|service| store.add(service));
    store
}

fn addresses(store: &mut NamespaceStore, service: &str) -> Vec<String> {
    let selection = Selection {
        port: PortChoice::Only,
        first_family: IpFamily::Ipv4,
    };
    let pods = store.of(service).map(|store| store.pods(&selection));
    let pods = pods.into_iter().flatten();
    pods.flat_map(|pod| pod.addresses)
        .map(|address| address.to_string())
        .collect()
}

fn changed(store: &mut NamespaceStore) -> Vec<String> {
    store.take_changed().into_iter().collect()
}

#[test]
fn every_service_has_the_slices_with_its_label_and_others_are_not_kept() {
    let mut store = store(&["shop", "blog"]);
    let mut unlabelled = slice("made-by-hand", "shop", "10.0.0.9");
    unlabelled["metadata"]["labels"] = Value::Null;
    list(
        &mut store,
        &[
            slice("shop-1", "shop", "10.0.0.1"),
            slice("shop-2", "shop", "10.0.0.2"),
            slice("blog-1", "blog", "10.0.1.1"),
            slice("other-1", "other", "10.0.2.1"),
            unlabelled,
        ],
    );
    assert_eq!(
        addresses(&mut store, "shop"),
        ["10.0.0.1:80", "10.0.0.2:80"]
    );
    assert_eq!(addresses(&mut store, "blog"), ["10.0.1.1:80"]);
    assert!(store.of("other").is_none());
    assert_eq!(store.services.len(), 3, "nothing is kept of the others");
}

#[test]
fn an_event_changes_its_service_alone() {
    let mut store = store(&["shop", "blog"]);
    list(&mut store, &[slice("blog-1", "blog", "10.0.1.1")]);
    changed(&mut store);
    event(&mut store, "ADDED", &slice("shop-1", "shop", "10.0.0.1"));
    event(&mut store, "ADDED", &slice("other-1", "other", "10.0.2.1"));
    assert_eq!(changed(&mut store), ["shop"]);
    assert!(store.of("shop").unwrap().take_appeared());
    assert!(!store.of("blog").unwrap().take_appeared());
    event(&mut store, "MODIFIED", &slice("shop-1", "shop", "10.0.0.5"));
    assert_eq!(addresses(&mut store, "shop"), ["10.0.0.5:80"]);
    event(&mut store, "DELETED", &slice("shop-1", "shop", "10.0.0.5"));
    event(
        &mut store,
        "DELETED",
        &slice("other-1", "other", "10.0.2.1"),
    );
    assert_eq!(changed(&mut store), ["shop"]);
    assert_eq!(addresses(&mut store, "shop"), Vec::<String>::new());
    assert_eq!(addresses(&mut store, "blog"), ["10.0.1.1:80"]);
}

#[test]
fn a_slice_whose_label_changes_moves_to_the_other_service() {
    let mut store = store(&["shop", "blog"]);
    list(&mut store, &[slice("one", "shop", "10.0.0.1")]);
    event(&mut store, "MODIFIED", &slice("one", "blog", "10.0.0.1"));
    assert_eq!(changed(&mut store), ["blog", "shop"]);
    assert_eq!(addresses(&mut store, "shop"), Vec::<String>::new());
    assert_eq!(addresses(&mut store, "blog"), ["10.0.0.1:80"]);
    event(&mut store, "MODIFIED", &slice("one", "other", "10.0.0.1"));
    assert_eq!(addresses(&mut store, "blog"), Vec::<String>::new());
}

#[test]
fn of_a_service_that_is_removed_nothing_is_kept() {
    let mut store = store(&["shop", "blog"]);
    list(&mut store, &[slice("one", "shop", "10.0.0.1")]);
    store.remove("shop");
    event(&mut store, "MODIFIED", &slice("one", "shop", "10.0.0.2"));
    assert!(store.of("shop").is_none());
    assert_eq!(changed(&mut store), Vec::<String>::new());
    assert!(store.services.is_empty());
}

#[test]
fn the_recorded_slices_and_endpoints_name_their_service() {
    for (source, listed, watched) in [
        (
            AddressSource::EndpointSlices,
            "15-slices-list-ready",
            "07-slices-watch-zero-one-zero",
        ),
        (
            AddressSource::Endpoints,
            "",
            "09-endpoints-watch-zero-one-zero",
        ),
    ] {
        let mut store = NamespaceStore::new(Namespaces::default(), source);
        store.add("myapp");
        if !listed.is_empty() {
            store.add_page(&recorded_body(listed), true).unwrap();
            store.replace();
            assert_eq!(addresses(&mut store, "myapp").len(), 1);
        }
        let mut counts = Vec::new();
        for line in recorded_lines(watched) {
            store.apply(&line).unwrap();
            counts.push(addresses(&mut store, "myapp").len());
        }
        assert!(counts.contains(&1), "{source}: the pod was ready");
        assert_eq!(counts.last(), Some(&0), "{source}: and went");
    }
}

#[test]
fn services_of_one_name_in_two_namespaces_are_two() {
    let mut store = NamespaceStore::new(Namespaces::All, AddressSource::EndpointSlices);
    store.add("a/shop");
    store.add("b/shop");
    let of = |namespace: &str, ip: &str| {
        let mut slice = slice("shop-1", "shop", ip);
        slice["metadata"]["namespace"] = namespace.into();
        slice
    };
    let listed = [
        of("a", "10.0.0.1"),
        of("b", "10.0.0.2"),
        of("c", "10.0.0.3"),
    ];
    list(&mut store, &listed);
    assert_eq!(addresses(&mut store, "a/shop"), ["10.0.0.1:80"]);
    assert_eq!(addresses(&mut store, "b/shop"), ["10.0.0.2:80"]);
    event(&mut store, "MODIFIED", &of("b", "10.0.0.4"));
    event(&mut store, "MODIFIED", &of("c", "10.0.0.5"));
    assert_eq!(changed(&mut store), ["b/shop"]);
    event(&mut store, "DELETED", &of("a", "10.0.0.1"));
    assert_eq!(changed(&mut store), ["a/shop"]);
    assert_eq!(addresses(&mut store, "a/shop"), [""; 0]);
    assert_eq!(addresses(&mut store, "b/shop"), ["10.0.0.4:80"]);
}
