//! Exhausted descriptors, and the connection limit.

use std::io::Write;

use support::sandbox::{Resource, on};
use support::sockets::leave_descriptors;
use support::streams::read_some;

use crate::fixture::{Fixture, expect_calm};
use crate::network::{Network, POD};
use crate::resets::reset;
use crate::{echo, expect};

#[test]
fn without_descriptors_accepting_pauses_without_a_spin_and_goes_on_by_itself() {
    let Some(network) = Network::new() else {
        return;
    };
    let fixture = Fixture::awake(network, &[POD], &[]);
    let _pod = fixture.echo_at(POD);
    let mut clients = fixture.connect_many(8);
    clients.iter_mut().for_each(|client| echo(client, "before"));
    fixture.settle();
    leave_descriptors(fixture.zpa.id(), 0).unwrap();

    let mut waiting = fixture.connect_many(4);
    for client in &mut waiting {
        client.write_all(b"bytes").unwrap();
    }
    fixture.zpa.expect_log("cannot accept connections for now");
    expect_calm(fixture.process());
    assert_eq!(
        fixture.zpa.logged("cannot accept connections for now"),
        1,
        "it is said once, however often it is tried"
    );
    echo(&mut clients[0], "those that are in are served");
    drop(clients);
    for client in &mut waiting {
        expect(client, b"bytes");
    }
    fixture.zpa.expect_log("accepting connections again");
}

#[test]
fn without_a_descriptor_for_the_pod_a_client_waits_and_is_served_when_there_is_one() {
    let Some(network) = Network::new() else {
        return;
    };
    let fixture = Fixture::awake(network, &[POD], &[]);
    let _pod = fixture.echo_at(POD);
    let mut clients = fixture.connect_many(4);
    clients.iter_mut().for_each(|client| echo(client, "before"));
    fixture.settle();
    leave_descriptors(fixture.zpa.id(), 1).unwrap();
    let lists = fixture.sandbox.count(&on("list", "endpointslices"));

    let mut waiting = fixture.connect();
    waiting.write_all(b"bytes").unwrap();
    fixture.zpa.expect_log_times(&number_of(libc::EMFILE), 5);
    expect_calm(fixture.process());
    echo(&mut clients[0], "those that have a pod are served");
    drop(clients);
    expect(&mut waiting, b"bytes");
    expect_nobody_blamed(&fixture, "descriptor", lists);
}

#[test]
fn without_a_port_for_the_pod_a_client_waits_and_is_served_when_there_is_one() {
    const PORTS: usize = 10;
    let Some(network) = Network::new() else {
        return;
    };
    // Others have theirs from the default range.
    let range = format!("20001 {}", 20_000 + PORTS);
    let range = ("ipv4/ip_local_port_range", range.as_str());
    let fixture = Fixture::awake(network, &[POD], &[]);
    let _pod = fixture.echo_at(POD);
    fixture.network.middle.set(range).unwrap();
    let mut clients = fixture.connect_many(PORTS);
    clients.iter_mut().for_each(|client| echo(client, "before"));
    let lists = fixture.sandbox.count(&on("list", "endpointslices"));

    let mut waiting = fixture.connect();
    waiting.write_all(b"bytes").unwrap();
    fixture
        .zpa
        .expect_log_times(&number_of(libc::EADDRNOTAVAIL), 5);
    expect_calm(fixture.process());
    echo(&mut clients[0], "those that have a pod are served");
    reset(clients.swap_remove(0));
    expect(&mut waiting, b"bytes");
    expect_nobody_blamed(&fixture, "port", lists);
}

/// Asserts that dials which failed for want of something of this machine were counted and
/// said as that, in one line, and neither as failures of the pod nor as a reason to list
/// the endpoints again.
#[track_caller]
fn expect_nobody_blamed(fixture: &Fixture, lacks: &str, lists: usize) {
    let metric = |series: &str| {
        let zpa = &fixture.zpa;
        fixture.network.middle.enter(|| zpa.metric(series)).unwrap()
    };
    assert!(metric("zpa_dial_local_errors_total") >= 5.0);
    assert_eq!(metric("zpa_dials_failed_total"), 0.0);
    assert_eq!(metric("zpa_backends_ejected"), 0.0);
    assert_eq!(
        fixture.sandbox.count(&on("list", "endpointslices")),
        lists,
        "the endpoints are what they were"
    );
    let log = fixture.zpa.log();
    let is_line = |line: &&str| line.contains("cannot dial") && line.contains(lacks);
    assert_eq!(log.lines().filter(is_line).count(), 1, "{log}");
}

#[test]
fn at_the_limit_of_descriptors_the_api_threads_still_have_theirs() {
    let Some(network) = Network::new() else {
        return;
    };
    // Room for (212 - 176) / 2 connections.
    let fixture = Fixture::awake_with_descriptors(network, 212);
    let _pod = fixture.echo_at(POD);
    let mut clients = fixture.connect_many(30);
    for client in &mut clients {
        client.write_all(b"hello").unwrap();
    }
    fixture
        .zpa
        .expect_log("the connection limit of 18 is reached");
    expect_calm(fixture.process());
    let watches = on("watch", "endpointslices");
    let before = fixture.sandbox.count(&watches);
    fixture.sandbox.reset_connections();
    let again = on("watch", "endpointslices");
    fixture.sandbox.expect("it watches again", |state| {
        state.count(&again) > before && state.open_watches(Resource::EndpointSlices) == 1
    });
    for mut client in clients {
        expect(&mut client, b"hello");
    }
    assert_eq!(fixture.zpa.logged("dialling"), 0, "{}", fixture.zpa.log());
}

#[test]
fn beyond_the_connection_limit_a_thousand_clients_wait_and_none_is_killed() {
    let Some(network) = Network::new() else {
        return;
    };
    let fixture = Fixture::awake(network, &[POD], &[("ZPA_MAX_CONNECTIONS", "50")]);
    let _pod = fixture.echo_at(POD);
    let mut clients = fixture.connect_many(1000);
    for (number, client) in clients.iter_mut().enumerate() {
        write!(client, "client {number:03}").unwrap();
    }
    fixture
        .zpa
        .expect_log("the connection limit of 50 is reached");
    expect_calm(fixture.process());
    for (number, mut client) in clients.into_iter().enumerate() {
        expect(&mut client, format!("client {number:03}").as_bytes());
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(
            read_some(&client, &mut [0; 16]).unwrap(),
            0,
            "an orderly end"
        );
    }
}

/// The end of the text of a logged error; its words are the C library's.
fn number_of(error: i32) -> String {
    format!("(os error {error})")
}
