//! The pods of the sandbox: what they serve, when they are listed, and where.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use support::sandbox::{Endpoint, Options, PodBehaviour, PodProgram, Sandbox};
use support::streams::read_some;

use crate::misbehaviour::{awake, client, get_scale, sandbox, slices};

#[test]
fn pods_echo_and_answer_http_on_addresses_of_their_own() {
    let (echo, address) = awake(Options::default());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"there and back").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "there and back");
    assert_eq!(echo.pod_addresses(), [address]);

    let (http, address) = awake(Options {
        app: PodProgram::Http,
        ..Options::default()
    });
    let pod = http.state().listed()[0].pod.clone();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    assert_eq!(
        replies.matches(&format!("\r\n\r\n{pod}\n")).count(),
        3,
        "{replies}"
    );
}

#[test]
fn pods_refuse_or_reset_while_listed_as_ready() {
    let (sandbox, address) = awake(Options::default());
    sandbox.set_pod_behaviour(PodBehaviour::Refuse);
    assert_eq!(
        TcpStream::connect(address).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    sandbox.set_pod_behaviour(PodBehaviour::Reset);
    let first = TcpStream::connect(address).and_then(|stream| read_some(&stream, &mut [0]));
    assert_eq!(first.unwrap_err().kind(), ErrorKind::ConnectionReset);
    sandbox.set_pod_behaviour(PodBehaviour::Serve);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    sandbox.reset_pod_connections();
    assert_eq!(
        read_some(&stream, &mut [0]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        slices(&sandbox)[0]["endpoints"][0]["conditions"]["ready"],
        true
    );
}

#[test]
fn a_pod_is_listed_as_terminating_until_it_is_gone() {
    let stop_delay = Duration::from_secs(60);
    let (sandbox, address) = awake(Options {
        stop_delay,
        ..Options::default()
    });
    sandbox.set_replicas(0);
    sandbox.expect("no ready pod", |state| state.ready_pods() == 0);
    let conditions = slices(&sandbox)[0]["endpoints"][0]["conditions"].clone();
    assert_eq!(
        conditions,
        json!({"ready": false, "serving": true, "terminating": true})
    );
    TcpStream::connect(address).expect("it serves until it is gone");
    sandbox.set_stop_delay(Duration::ZERO);
    sandbox.set_replicas(1);
    sandbox.expect("a second pod beside it", |state| state.listed().len() == 2);
    sandbox.set_replicas(0);
    sandbox.expect("the second gone", |state| state.pods() == 1);
}

#[test]
fn endpoints_lag_behind_pods_and_some_pods_never_get_ready() {
    let sandbox = sandbox();
    sandbox.never_ready();
    sandbox.set_replicas(2);
    sandbox.expect("two pods", |state| state.pods() == 2);
    assert_eq!(sandbox.state().ready_pods(), 0);
    sandbox.set_endpoint_lag(Duration::from_secs(60));
    sandbox.set_start_delay(Duration::ZERO);
    sandbox.expect("two ready pods", |state| state.ready_pods() == 2);
    assert!(
        sandbox.state().listed().is_empty(),
        "the slices don't know yet"
    );
}

#[test]
fn deployment_and_service_are_deleted_and_made_again() {
    let (sandbox, _) = awake(Options::default());
    let uid = |s: &Sandbox| s.state().deployment().map(|d| d["metadata"]["uid"].clone());
    let old = uid(&sandbox);
    sandbox.delete_deployment();
    assert_eq!(get_scale(&sandbox).unwrap().status, 404);
    sandbox.expect("no pods", |state| state.pods() == 0);
    sandbox.create_deployment(1);
    assert_ne!(uid(&sandbox), old);
    sandbox.expect("a new pod", |state| state.listed().len() == 2);
    sandbox.delete_service();
    assert!(slices(&sandbox).is_empty());
    sandbox.create_service();
    sandbox.expect("the slice is filled", |state| {
        !state.listed_endpoints().is_empty()
    });
    assert_eq!(slices(&sandbox).len(), 1);
}

#[test]
fn a_second_slice_and_addresses_that_are_not_ready_are_published() {
    let sandbox = sandbox();
    let server = sandbox.server_at("[::1]:0".parse().unwrap(), "six", PodProgram::Echo);
    sandbox.publish_slice(
        "by-hand",
        "IPv6",
        &[Endpoint::ready("six", server.address())],
    );
    let slices_now = slices(&sandbox);
    assert_eq!(slices_now.len(), 2);
    assert_eq!(slices_now[0]["addressType"], "IPv6");
    assert_eq!(slices_now[0]["endpoints"][0]["addresses"], json!(["::1"]));
    sandbox.delete_slice("by-hand");
    assert_eq!(slices(&sandbox).len(), 1);
    sandbox.never_ready();
    sandbox.publish_not_ready(true);
    sandbox.set_replicas(1);
    sandbox.expect("an endpoint", |state| !state.listed_endpoints().is_empty());
    assert_eq!(
        slices(&sandbox)[0]["endpoints"][0]["conditions"]["ready"],
        true
    );
}

#[test]
fn a_target_port_that_no_container_has_leaves_endpoints_without_ports() {
    let (sandbox, address) = awake(Options::default());
    let published = |has_port| {
        let version = sandbox.state().store_version();
        sandbox.set_has_port(has_port);
        sandbox.expect("the slice and the Endpoints are written", |state| {
            state.store_version() >= version + 2
        });
        let endpoints = client(&sandbox).get("/api/v1/namespaces/default/endpoints/myapp");
        let endpoints: Value = serde_json::from_slice(&endpoints.unwrap().body).unwrap();
        (slices(&sandbox).remove(0), endpoints["subsets"].clone())
    };
    let (slice, subsets) = published(false);
    assert_eq!((&slice["ports"], &subsets), (&Value::Null, &Value::Null));
    assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
    let (slice, subsets) = published(true);
    assert_eq!(slice["ports"][0]["port"], address.port());
    assert_eq!(subsets[0]["ports"][0]["port"], address.port());
}
