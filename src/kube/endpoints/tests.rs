use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::super::testing::{recorded_body, recorded_lines};
use super::super::watcher_io::Store as _;
use super::*;

const UID: &str = "743150b8-a861-491f-8c37-de624266f5d9";

fn pod(uid: &str, addresses: &[&str]) -> Pod {
    Pod {
        uid: uid.into(),
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        ..Pod::default()
    }
}

/// One that is not ready, and does not terminate.
fn unready(uid: &str, addresses: &[&str]) -> Pod {
    let ready = pod(uid, addresses);
    Pod {
        addresses: Vec::new(),
        unready_addresses: ready.addresses,
        ..ready
    }
}

fn http() -> Selection {
    Selection {
        port: PortChoice::Named("http".into()),
        first_family: IpFamily::Ipv4,
    }
}

fn empty() -> Store {
    Store::new(AddressSource::EndpointSlices)
}

fn list(store: &mut Store, json: &[u8]) {
    store.add_page(json, true).unwrap();
    store.replace();
}

/// Applies a line of a watch; returns the version that it reaches.
fn event(store: &mut Store, line: &[u8]) -> String {
    match store.apply(line).unwrap() {
        Applied::Reached(version) => version,
        Applied::Failed(status) => panic!("{status:?}"),
    }
}

/// A slice with one endpoint of the pod `uid` at `address`.
fn slice(name: &str, kind: &str, uid: &str, address: &str, conditions: Value) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": "5" },
        "addressType": kind,
        "endpoints": [{
            "addresses": [address],
            "conditions": conditions,
            "targetRef": { "kind": "Pod", "uid": uid },
        }],
        "ports": [{ "name": "http", "protocol": "TCP", "port": 8000 }],
    })
}

fn happens(store: &mut Store, kind: &str, object: Value) -> String {
    let line = json!({ "type": kind, "object": object }).to_string();
    event(store, line.as_bytes())
}

/// What these slices add up to.
fn union(slices: impl IntoIterator<Item = Value>, selection: &Selection) -> Vec<Pod> {
    let mut store = empty();
    for slice in slices {
        happens(&mut store, "ADDED", slice);
    }
    store.pods(selection)
}

#[test]
fn an_empty_list_has_no_pods() {
    let mut store = empty();
    list(&mut store, &recorded_body("05-slices-list-empty"));
    assert_eq!(store.pods(&http()), []);
    assert_eq!(
        store.port_missing(&http().port),
        None,
        "an app at zero has neither endpoints nor ports"
    );
}

#[test]
fn a_list_shows_a_ready_pod_by_its_ports_name_or_by_the_only_port() {
    let mut store = empty();
    list(&mut store, &recorded_body("15-slices-list-ready"));
    for port in [PortChoice::Named("http".into()), PortChoice::Only] {
        let selection = Selection { port, ..http() };
        assert_eq!(
            store.pods(&selection),
            [pod(UID, &["10.244.0.232:8000"])],
            "{selection:?}"
        );
    }
}

#[test]
fn a_port_that_cannot_be_dialled_is_missed_for_a_reason() {
    let mut recorded = empty();
    list(&mut recorded, &recorded_body("15-slices-list-ready"));
    let grpc = PortChoice::Named("grpc".into());
    assert_eq!(recorded.port_missing(&grpc), Some(PortMissing::OtherPorts));
    let with_ports = |ports: Value| {
        let mut slice = slice("a", "IPv4", "u", "10.0.0.1", json!({}));
        slice["ports"] = ports;
        slice
    };
    let http_port = json!({ "name": "http", "port": 8000 });
    let udp = json!({ "name": "http", "port": 8000, "protocol": "UDP" });
    let every = json!({ "name": "http", "port": null });
    for (label, ports, missing) in [
        (
            "no ports at all",
            vec![json!(null)],
            Some(PortMissing::NoPort),
        ),
        ("an empty list", vec![json!([])], Some(PortMissing::NoPort)),
        ("UDP alone", vec![json!([udp])], Some(PortMissing::NoPort)),
        (
            "every port, and so none in particular",
            vec![json!([every])],
            Some(PortMissing::OtherPorts),
        ),
        (
            "one slice without, one with the port: a rollout",
            vec![json!(null), json!([http_port])],
            None,
        ),
    ] {
        let mut store = empty();
        for (number, ports) in ports.into_iter().enumerate() {
            let mut slice = with_ports(ports);
            slice["metadata"]["name"] = json!(number.to_string());
            happens(&mut store, "ADDED", slice);
        }
        assert_eq!(store.port_missing(&http().port), missing, "{label}");
        let dialled = store.pods(&http()).len();
        assert_eq!(dialled, usize::from(missing.is_none()), "{label}");
    }
}

#[test]
fn a_watch_shows_a_pod_from_unready_to_ready_to_terminating_to_gone() {
    let mut store = empty();
    list(&mut store, &recorded_body("05-slices-list-empty"));
    let steps: Vec<(Vec<Pod>, String)> = recorded_lines("07-slices-watch-zero-one-zero")
        .iter()
        .map(|line| {
            let version = event(&mut store, line);
            (store.pods(&http()), version)
        })
        .collect();
    let expected = [
        (vec![unready(UID, &["10.244.0.232:8000"])], "10312"),
        (vec![pod(UID, &["10.244.0.232:8000"])], "10318"),
        (vec![pod(UID, &[])], "10326"),
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
    let (mut store, mut version) = (Store::new(AddressSource::Endpoints), String::new());
    let steps: Vec<Vec<Pod>> = recorded_lines("09-endpoints-watch-zero-one-zero")
        .iter()
        .map(|line| {
            version = event(&mut store, line);
            store.pods(&http())
        })
        .collect();
    let address = ["10.244.0.232:8000"];
    let (starting, ready) = (unready(UID, &address), pod(UID, &address));
    assert_eq!(steps, [vec![starting], vec![ready], vec![], vec![]]);
    assert_eq!(version, "10327");
}

#[test]
fn initial_events_say_that_an_object_has_appeared() {
    let mut store = empty();
    let lines = recorded_lines("21-slices-watch-initial-events");
    event(&mut store, &lines[0]);
    assert!(store.take_appeared());
    assert_eq!(event(&mut store, &lines[1]), "10341");
    assert!(!store.take_appeared(), "a bookmark is no object");
}

#[test]
fn the_conditions_of_an_endpoint_say_whether_it_is_dialled() {
    for (label, conditions, dialled) in [
        ("none: ready by definition", json!({}), true),
        ("null conditions", Value::Null, true),
        ("ready: null", json!({ "ready": null }), true),
        (
            "ready",
            json!({ "ready": true, "serving": true, "terminating": false }),
            true,
        ),
        (
            "not ready",
            json!({ "ready": false, "serving": false }),
            false,
        ),
        (
            "published though not ready",
            json!({ "ready": true, "serving": false, "terminating": false }),
            false,
        ),
        (
            "serving says no, ready nothing",
            json!({ "serving": false }),
            false,
        ),
        (
            "published though terminating",
            json!({ "ready": true, "serving": true, "terminating": true }),
            false,
        ),
        (
            "terminating as recorded",
            json!({ "ready": false, "serving": true, "terminating": true }),
            false,
        ),
    ] {
        let pods = union([slice("a", "IPv4", "u", "10.0.0.1", conditions)], &http());
        assert_eq!(pods.len(), 1, "{label}: it is known in any case");
        assert_eq!(pods[0].is_ready(), dialled, "{label}");
    }
}

#[test]
fn addresses_of_both_families_are_alternatives_of_one_pod_the_services_first_family_first() {
    let four = || slice("a-4", "IPv4", "u", "10.0.0.1", json!({}));
    let six = || slice("a-6", "IPv6", "u", "fd00::1", json!({ "ready": null }));
    for (first_family, addresses) in [
        (IpFamily::Ipv4, ["10.0.0.1:8000", "[fd00::1]:8000"]),
        (IpFamily::Ipv6, ["[fd00::1]:8000", "10.0.0.1:8000"]),
    ] {
        let selection = Selection {
            first_family,
            ..http()
        };
        assert_eq!(union([four(), six()], &selection), [pod("u", &addresses)]);
    }
    let mut store = empty();
    happens(&mut store, "ADDED", four());
    happens(&mut store, "ADDED", six());
    let gone = json!({ "metadata": { "name": "a-4", "resourceVersion": "9" } });
    assert_eq!(happens(&mut store, "DELETED", gone), "9");
    assert_eq!(store.pods(&http()), [pod("u", &["[fd00::1]:8000"])]);
}

#[test]
fn a_pod_in_two_slices_is_one_ready_if_one_says_so_unless_one_has_seen_it_terminate() {
    let conditions = |ready, terminating| json!({ "ready": ready, "terminating": terminating });
    let (ready, starting) = (conditions(true, false), conditions(false, false));
    let terminating = conditions(true, true);
    let (address, none) = (&["10.0.0.1:8000"][..], &[][..]);
    for (label, first, second, expected) in [
        ("one says so", &starting, &ready, pod("u", address)),
        ("both say so", &ready, &ready, pod("u", address)),
        ("none says so", &starting, &starting, unready("u", address)),
        (
            "one has seen it terminate",
            &terminating,
            &ready,
            pod("u", none),
        ),
        (
            "also before it was ready",
            &terminating,
            &starting,
            pod("u", none),
        ),
    ] {
        let one = slice("a", "IPv4", "u", "10.0.0.1", first.clone());
        let other = slice("b", "IPv4", "u", "10.0.0.1", second.clone());
        assert_eq!(union([one, other], &http()), [expected], "{label}");
    }
    let one = slice("a", "IPv4", "u", "10.0.0.1", terminating);
    let other = slice("b", "IPv6", "u", "fd00::1", ready);
    assert_eq!(
        union([one, other], &http()),
        [pod("u", &[])],
        "its other address goes with it"
    );
}

#[test]
fn what_cannot_be_dialled_is_passed_over() {
    let no_addresses = json!({
        "metadata": { "name": "x" }, "addressType": "IPv4",
        "endpoints": [{ "addresses": null }], "ports": [{ "name": "http", "port": 1 }],
    });
    let slices = [
        slice("name", "FQDN", "u", "db.example", json!({})),
        slice("bad", "IPv4", "u", "10.0.0", json!({})),
        no_addresses,
    ];
    assert_eq!(union(slices, &http()), []);
}

#[test]
fn an_endpoint_without_a_pod_goes_by_the_first_of_its_addresses() {
    let bare = json!({
        "metadata": { "name": "x" }, "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.0.0.7", "10.0.0.8"] }],
        "ports": [{ "name": "http", "port": 1 }],
    });
    assert_eq!(union([bare], &http()), [pod("10.0.0.7", &["10.0.0.7:1"])]);
}

/// A watch event of the right form, with contents that may be anything.
fn any_event() -> impl Strategy<Value = Value> {
    let text = || {
        let known = select(vec![
            "http", "a", "10.0.0.1", "fd00::1", "IPv4", "IPv6", "TCP", "",
        ]);
        prop_oneof![4 => known.prop_map(str::to_owned), 1 => ".{0,8}"]
    };
    let endpoint = (
        option::of(vec(text(), 0..3)),
        option::of(any::<[Option<bool>; 3]>()),
        option::of(text()),
    );
    let endpoint = endpoint.prop_map(|(addresses, conditions, uid)| {
        json!({
            "addresses": addresses,
            "conditions": conditions.map(|[ready, serving, terminating]| json!({
                "ready": ready, "serving": serving, "terminating": terminating,
            })),
            "targetRef": uid.map(|uid| json!({ "uid": uid })),
        })
    });
    let port = (
        option::of(text()),
        option::of(text()),
        option::of(any::<u16>()),
    );
    let port = port.prop_map(
        |(name, protocol, port)| json!({ "name": name, "protocol": protocol, "port": port }),
    );
    (
        select(vec!["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]),
        (text(), text(), text()),
        option::of(vec(endpoint, 0..4)),
        option::of(vec(port, 0..3)),
    )
        .prop_map(|(kind, (name, version, family), endpoints, ports)| {
            json!({ "type": kind, "object": {
                "metadata": { "name": name, "resourceVersion": version },
                "addressType": family, "endpoints": endpoints, "ports": ports,
            }})
        })
}

proptest! {
    #[test]
    fn the_union_does_not_depend_on_the_order_of_slices(
        order in Just((0usize..6).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let slices: Vec<Value> = (0..6)
            .map(|n| {
                let address = format!("10.0.0.{}", n / 2);
                let conditions = json!({ "ready": n % 2 == 0, "terminating": n == 3 });
                slice(&format!("s{n}"), "IPv4", &format!("u{}", n / 2), &address, conditions)
            })
            .collect();
        let pods = union(order.into_iter().map(|index| slices[index].clone()), &http());
        prop_assert_eq!(pods, [
            pod("u0", &["10.0.0.0:8000"]),
            pod("u1", &[]),
            pod("u2", &["10.0.0.2:8000"]),
        ]);
    }

    #[test]
    fn no_event_makes_it_panic(events in vec(any_event(), 1..20)) {
        let mut store = empty();
        for event in events {
            let applied = store.apply(event.to_string().as_bytes());
            prop_assert!(matches!(applied, Ok(Applied::Reached(_))), "{event} is one");
            let pods = store.pods(&http());
            prop_assert!(pods.is_sorted_by_key(|pod| pod.uid.clone()));
            prop_assert!(store.port_missing(&http().port).is_none() || pods.is_empty());
        }
    }

    #[test]
    fn no_line_makes_it_panic(
        number in 0usize..6,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut line = recorded_lines("07-slices-watch-zero-one-zero")[number].clone();
        for (at, byte) in &changes {
            let at = at.index(line.len());
            line[at] = *byte;
        }
        let mut store = empty();
        let applied = store.apply(&line);
        prop_assert!(applied.is_ok() || !changes.is_empty(), "an unchanged line is an event");
        store.pods(&http());
    }
}

#[test]
fn the_hints_of_an_endpoint_are_those_of_its_pod() {
    let endpoint = |ip: &str, uid: &str, hints: &str| {
        format!(
            r#"{{"addresses":["{ip}"],"conditions":{{"ready":true}},"targetRef":{{"uid":"{uid}"}}{hints}}}"#
        )
    };
    let slice = |name: &str, family: &str, endpoints: &[String]| {
        format!(
            r#"{{"metadata":{{"name":"{name}","resourceVersion":"1"}},"addressType":"{family}",
            "ports":[{{"name":"http","port":80}}],"endpoints":[{}]}}"#,
            endpoints.join(",")
        )
    };
    let zone_a = r#","hints":{"forZones":[{"name":"a"}],"forNodes":[{"name":"n1"},{"name":"n2"}]}"#;
    let zones = r#","hints":{"forZones":[{"name":"b"},{"name":"a"}]}"#;
    let v4 = slice(
        "one",
        "IPv4",
        &[
            endpoint("10.0.0.1", "1", zone_a),
            endpoint("10.0.0.2", "2", r#","hints":{"forZones":null}"#),
            endpoint("10.0.0.3", "3", ""),
        ],
    );
    let v6 = slice("two", "IPv6", &[endpoint("fd00::1", "1", zones)]);
    let mut store = Store::new(AddressSource::EndpointSlices);
    for slice in [v4, v6] {
        let slice: EndpointSlice = serde_json::from_str(&slice).unwrap();
        store.put(slice.into_object());
    }
    let selection = Selection {
        port: PortChoice::Only,
        first_family: IpFamily::Ipv4,
    };
    let hints: Vec<TopologyHints> = store
        .pods(&selection)
        .into_iter()
        .map(|it| it.hints)
        .collect();
    let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
    let of_the_first = TopologyHints {
        zones: names(&["a", "b"]),
        nodes: names(&["n1", "n2"]),
    };
    let none = TopologyHints::default();
    assert_eq!(hints, [of_the_first, none.clone(), none]);
}
