//! The choice of the backend, the time of the dial, and the next dial after a backend that fails
//! before the first byte.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use zpa::engine::BackendSpec;
use zpa::rules::Rules;

use crate::rig::{APP, LIMITS, PORT, Rig, backend, refusing, reset, silent};

#[test]
fn an_address_that_refuses_is_followed_by_the_next() {
    let (dead, backend) = (refusing(), backend());
    let mut rig = Rig::open(&[&dead, &backend]);
    let clients: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    for _ in &clients {
        rig.accept(&backend);
    }
    rig.until("all are handed over", |e| e.counts(APP).forwarded == 4);
    assert!(rig.counts().failed_dials >= 1);
}

#[test]
fn an_address_that_swallows_syns_is_given_up_after_the_connect_timeout() {
    let ((hole, _filling), backend) = (silent(), backend());
    let mut rig = Rig::open(&[&hole]);
    let _client = rig.connect();
    rig.until("it is being dialled", |e| e.counts(APP).waiting == 1);
    rig.set_backends(&[&hole, &backend]);
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.counts().failed_dials, 0);
    rig.skew += LIMITS.connect_timeout;
    rig.accept(&backend);
    assert_eq!(rig.counts().failed_dials, 1);
}

#[test]
fn when_no_backend_answers_at_all_the_way_leads_through_the_service() {
    let ((hole, _filling), service) = (silent(), backend());
    let mut rig = Rig::open(&[&hole]);
    rig.engine
        .set_fallback(PORT, Some(service.local_addr().unwrap()));
    let _client = rig.connect();
    rig.until("it is being dialled", |e| e.counts(APP).waiting == 1);
    rig.skew += LIMITS.connect_timeout;
    rig.accept(&service);
}

#[test]
fn a_backend_that_refuses_is_not_sought_through_the_service() {
    let (dead, service) = (refusing(), backend());
    let mut rig = Rig::open(&[&dead]);
    rig.engine
        .set_fallback(PORT, Some(service.local_addr().unwrap()));
    let _client = rig.connect();
    rig.until("it was refused twice", |e| e.counts(APP).failed_dials >= 2);
    service.set_nonblocking(true).unwrap();
    assert_eq!(service.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_backend_that_is_ready_before_it_listens_is_dialled_until_it_does() {
    let dead = refusing();
    let mut rig = Rig::open(&[&dead]);
    let mut client = rig.connect();
    client.write_all(b"bytes").unwrap();
    rig.until("it was refused", |e| e.counts(APP).failed_dials >= 3);
    SockRef::from(&dead).listen(16).unwrap();
    let mut server = rig.accept(&dead);
    rig.expect(&mut server, b"bytes");
}

#[test]
fn an_address_that_refuses_is_dialled_with_pauses_that_grow_to_a_second() {
    const SECONDS: u64 = 10;
    const STEP: Duration = Duration::from_millis(20);
    let dead = refusing();
    let mut rig = Rig::open(&[&dead]);
    let _client = rig.connect();
    rig.until("it was refused", |e| e.counts(APP).failed_dials >= 1);
    let start = rig.now();
    while rig.now().since(start) < Duration::from_secs(SECONDS) {
        rig.skew += STEP;
        rig.turn();
    }
    let dials = rig.counts().failed_dials;
    // 10, 20, … 640 ms, and then a second each time.
    assert!((7..=8 + SECONDS).contains(&dials), "{dials}");
}

#[test]
fn a_new_address_is_tried_at_once_by_those_that_found_none_to_take_them() {
    let (dead, backend) = (refusing(), backend());
    let mut rig = Rig::open(&[&dead]);
    let _client = rig.connect();
    rig.until("it was refused often", |e| e.counts(APP).failed_dials >= 8);
    rig.set_backends(&[&dead, &backend]);
    // In less time than the pause takes.
    rig.settle();
    backend.set_nonblocking(true).unwrap();
    assert!(backend.accept().is_ok());
}

#[test]
fn a_backend_that_breaks_off_before_the_first_byte_is_replaced_by_another() {
    let (first, second) = (backend(), backend());
    let mut rig = Rig::open(&[&first]);
    let mut client = rig.connect();
    let server = rig.accept(&first);
    rig.until("it is handed over", |e| e.counts(APP).forwarded == 1);
    rig.set_backends(&[&second]);
    reset(server);
    let mut server = rig.accept(&second);
    client.write_all(b"hello").unwrap();
    rig.expect(&mut server, b"hello");
    assert_eq!(rig.counts().waiting, 0);
}

#[test]
fn a_backend_that_dies_with_bytes_of_the_client_is_not_replaced() {
    let (first, second) = (backend(), backend());
    let mut rig = Rig::open(&[&first]);
    let mut client = rig.connect();
    let mut server = rig.accept(&first);
    client.write_all(b"pay 100").unwrap();
    rig.expect(&mut server, b"pay 100");
    rig.set_backends(&[&second]);
    reset(server);
    rig.expect_reset(&mut client);
    second.set_nonblocking(true).unwrap();
    assert!(second.accept().is_err());
}

#[test]
fn a_backend_that_breaks_off_as_the_client_first_writes_is_replaced() {
    let (first, second) = (backend(), backend());
    let mut rig = Rig::open(&[&first]);
    let mut client = rig.connect();
    let server = rig.accept(&first);
    rig.until("handed over", |e| e.counts(APP).forwarded == 1);
    for _ in 0..5 {
        rig.turn();
    }
    rig.set_backends(&[&second]);
    client.write_all(b"hello").unwrap();
    reset(server);
    let mut server = rig.accept(&second);
    rig.expect(&mut server, b"hello");
}

/// The client's FIN and the backend's RST share a batch.
#[test]
fn an_event_of_the_old_backend_socket_does_not_fail_the_new_attempt() {
    let (first, second) = (backend(), backend());
    let mut rig = Rig::open(&[&first]);
    let client = rig.connect();
    let server = rig.accept(&first);
    rig.until("handed over", |e| e.counts(APP).forwarded == 1);
    for _ in 0..5 {
        rig.turn();
    }
    rig.set_backends(&[&second]);
    client.shutdown(Shutdown::Write).unwrap();
    reset(server);
    let _server = rig.accept(&second);
    for _ in 0..20 {
        rig.turn();
    }
    assert_eq!(
        rig.counts().failed_dials,
        1,
        "only the first backend has failed"
    );
}

#[test]
fn the_backend_with_the_fewest_connections_gets_the_next() {
    let (one, other) = (backend(), backend());
    let mut rig = Rig::open(&[&one, &other]);
    let _clients: Vec<_> = (0..6).map(|_| rig.connect()).collect();
    let mut served = Vec::new();
    for backend in [&one, &other] {
        served.extend((0..3).map(|_| rig.accept(backend)));
    }
}

/// What stands in front of the app in its backend may accept when the app does not yet.
#[test]
fn a_backend_that_closes_before_the_first_byte_right_after_a_wake_is_dialled_again() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    for _ in 0..3 {
        drop(rig.accept(&backend));
    }
    let mut server = rig.accept(&backend);
    client.write_all(b"hello").unwrap();
    rig.expect(&mut server, b"hello");
}

#[test]
fn an_app_that_listens_on_the_second_of_its_addresses_costs_one_failed_dial_in_sixty() {
    let (dead, backend) = (refusing(), backend());
    let mut rig = Rig::open(&[]);
    let addresses = [&dead, &backend].map(|it| it.local_addr().unwrap());
    let both = BackendSpec {
        is_near: true,
        id: "backend".to_owned(),
        addresses: addresses.to_vec(),
    };
    rig.engine.set_backends(PORT, &[both], rig.now());
    let connect = |_| (rig.connect(), rig.accept(&backend));
    let _pairs: Vec<_> = (0..60).map(connect).collect();
    assert_eq!(rig.counts().failed_dials, 1);
    assert_eq!(rig.counts().exhausted, 0, "the backend was there");
}

#[test]
fn a_round_in_which_no_backend_takes_the_connection_is_counted() {
    let (dead, backend) = (refusing(), backend());
    for (label, backends, exhausted) in [
        ("one of two", vec![&dead, &backend], false),
        ("all", vec![&dead], true),
    ] {
        let mut rig = Rig::open(&backends);
        let _clients: Vec<_> = (0..2).map(|_| rig.connect()).collect();
        rig.until("it was refused", |e| e.counts(APP).failed_dials >= 1);
        rig.settle();
        assert_eq!(rig.counts().exhausted > 0, exhausted, "{label}");
    }
}

/// Whatever is known of the pod: another proxy may have its other connections, and it may have
/// been unready for a moment.
#[test]
fn a_greeting_is_awaited_of_each_connection_at_the_first_port_and_at_no_other() {
    let server = backend();
    let mut rig = Rig::new(LIMITS);
    let second = rig.engine.add_port(APP, ([127, 0, 0, 1], 0).into(), LIMITS);
    let second = second.unwrap();
    let rules = Rules {
        awaits_greeting: true,
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let (at, now) = (server.local_addr().unwrap(), rig.now());
    let pod = BackendSpec {
        id: "pod".to_owned(),
        addresses: vec![at],
        is_near: true,
    };
    for port in [PORT, second] {
        rig.engine
            .set_backends(port, std::slice::from_ref(&pod), now);
    }
    rig.set_gate(true);
    // No connection of this proxy's was greeted: an upload is passed on all the same.
    let data = rig.engine.local_addr(second).unwrap();
    let mut data = std::net::TcpStream::connect(data).unwrap();
    let mut taken = rig.accept(&server);
    data.write_all(b"a file").unwrap();
    data.shutdown(Shutdown::Write).unwrap();
    rig.expect(&mut taken, b"a file");
    rig.expect_fin(&mut taken);
    for _ in 0..2 {
        let mut client = rig.connect();
        let mut first = rig.accept(&server);
        client.write_all(b"me first").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        rig.settle();
        assert_eq!(rig.counts().waiting, 1);
        first.write_all(b"220").unwrap();
        rig.expect(&mut client, b"220");
        rig.expect(&mut first, b"me first");
        rig.expect_fin(&mut first);
    }
    // Nor does a server that is given up take nothing for all.
    let mut client = rig.connect();
    let mut first = rig.accept(&server);
    client.write_all(b"me first").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    rig.settle();
    rig.skew += Duration::from_secs(30);
    rig.expect_reset(&mut first);
}
