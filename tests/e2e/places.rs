//! Which pod a client is led to: the same as before, or one that is near.

use super::*;
use std::collections::BTreeSet;

use serde_json::json;

use crate::clients::connect_from;

/// A sandbox whose app has so many ready pods.
fn pods(count: u32) -> Sandbox {
    let sandbox = Sandbox::start(Options {
        replicas: count,
        ..Options::default()
    });
    sandbox.expect("the pods are listed as ready", |state| {
        ready(state).len() == count as usize
    });
    sandbox
}

/// The addresses of the pods that connections were relayed to, in their order.
fn served_by(zpa: &Zpa) -> Vec<String> {
    let log = zpa.log();
    let addresses = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" relaying to ")?;
        Some(rest.split(' ').next()?.to_owned())
    });
    addresses.collect()
}

/// Clients of that source, all at the same time; the pods that serve them.
fn come(zpa: &Zpa, source: [u8; 4], count: usize) -> BTreeSet<String> {
    let before = served_by(zpa).len();
    let mut clients: Vec<TcpStream> = (0..count).map(|_| connect_from(zpa, source)).collect();
    clients.iter_mut().for_each(|client| echo(client, "hello"));
    zpa.expect_log_times(" relaying to ", before + count);
    served_by(zpa)[before..].iter().cloned().collect()
}

#[test]
fn with_session_affinity_a_client_comes_back_to_its_pod() {
    let sandbox = pods(3);
    sandbox.edit_service("myapp", |service| {
        service["spec"]["sessionAffinity"] = "ClientIP".into();
        service["spec"]["sessionAffinityConfig"] = json!({ "clientIP": { "timeoutSeconds": 600 } });
    });
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_status("the affinity is known", |status| {
        status["addresses"]["same_client_same_pod_for_seconds"] == 600.0
    });
    zpa.expect_metric("zpa_backends", 3.0);
    let first = come(&zpa, [127, 0, 0, 2], 4);
    assert_eq!(first.len(), 1, "{first:?}");
    let other = come(&zpa, [127, 0, 0, 3], 4);
    assert_eq!(other.len(), 1, "{other:?}");
    assert_eq!(come(&zpa, [127, 0, 0, 2], 4), first);
    zpa.expect_metric("zpa_affinity_clients", 2.0);
}

#[test]
fn without_it_a_client_is_spread_and_nobody_is_remembered() {
    let sandbox = pods(3);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_metric("zpa_backends", 3.0);
    assert_eq!(come(&zpa, [127, 0, 0, 2], 6).len(), 3);
    assert_eq!(zpa.metric("zpa_affinity_clients"), None);
}

#[test]
fn pods_with_hints_for_the_zone_are_dialled_first_and_hints_for_others_are_ignored() {
    let sandbox = pods(2);
    sandbox.set_zones(&["a", "b"]);
    let zone = |endpoint: &serde_json::Value| endpoint["hints"]["forZones"][0]["name"].clone();
    sandbox.expect("the slice has hints", |state| {
        ready(state)
            .iter()
            .all(|endpoint| zone(endpoint).is_string())
    });
    let listed = ready(&sandbox.state());
    for name in ["a", "b"] {
        let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_ZONE", name)]);
        zpa.expect_metric("zpa_backends", 2.0);
        zpa.expect_metric("zpa_backends_near", 1.0);
        let near = listed.iter().find(|endpoint| zone(endpoint) == name);
        let near = near.unwrap()["addresses"][0].as_str().unwrap();
        let served = come(&zpa, [127, 0, 0, 1], 4);
        let is_near = |address: &String| address.starts_with(&format!("{near}:"));
        assert!(served.iter().all(is_near), "{served:?} {near}");
        assert_eq!(zpa.status()["ports"][0]["hints"], "zone");
    }
    for settings in [&[LONG_TTL][..], &[LONG_TTL, ("ZPA_ZONE", "c")]] {
        let zpa = start_zpa(&sandbox, settings);
        zpa.expect_metric("zpa_backends_near", 2.0);
        assert_eq!(come(&zpa, [127, 0, 0, 1], 4).len(), 2);
        assert_eq!(zpa.status()["ports"][0]["hints"], "ignored");
    }
}

#[test]
fn a_sleep_forgets_the_clients() {
    let sandbox = pods(1);
    sandbox.edit_service("myapp", |service| {
        service["spec"]["sessionAffinity"] = "ClientIP".into();
    });
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    zpa.expect_status("the affinity is known", |status| {
        status["addresses"]["same_client_same_pod_for_seconds"] == 10_800.0
    });
    let mut client = zpa.connect();
    echo(&mut client, "hello");
    zpa.expect_metric("zpa_affinity_clients", 1.0);
    drop(client);
    zpa.expect_log("scaled to 0 after");
    zpa.expect_metric("zpa_affinity_clients", 0.0);
}
