//! Clients that wait while the gate is shut, and the hold limit.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::Duration;

use zpa::engine::{AppLimits, Engine};
use zpa::rules::Rules;

use crate::rig::{APP, LIMITS, PORT, Rig, backend, refusing, reset, silent};
use support::streams::read_some;

#[test]
fn what_comes_while_the_gate_is_shut_is_held_unread_and_handed_over_in_order() {
    let backend = backend();
    let mut rig = Rig::new(LIMITS);
    rig.set_backends(&[&backend]);
    let mut clients: Vec<_> = (0..20u8)
        .map(|n| {
            let mut client = rig.connect();
            client.write_all(&[n]).unwrap();
            client
        })
        .collect();
    rig.until("all are held", |e| e.counts(APP).waiting == 20);
    assert_eq!(rig.counts().forwarded, 0);
    rig.set_gate(true);
    let mut served: Vec<_> = (0..20).map(|_| rig.accept(&backend)).collect();
    for (n, (client, backend)) in clients.iter_mut().zip(&mut served).enumerate() {
        rig.expect(backend, &[n as u8]);
        backend.write_all(b"hello").unwrap();
        rig.expect(client, b"hello");
    }
    let counts = rig.counts();
    assert_eq!((counts.open, counts.waiting, counts.forwarded), (20, 0, 20));
}

#[test]
fn a_client_that_half_closes_while_held_is_served_and_its_fin_comes_after_its_bytes() {
    let backend = backend();
    let mut rig = Rig::new(LIMITS);
    let mut client = rig.connect();
    client.write_all(b"request").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.counts().open, 1, "a FIN is no reason to go");
    rig.set_gate(true);
    rig.set_backends(&[&backend]);
    let mut server = rig.accept(&backend);
    rig.expect(&mut server, b"request");
    rig.expect_fin(&mut server);
    server.write_all(b"reply").unwrap();
    drop(server);
    rig.expect(&mut client, b"reply");
    rig.expect_fin(&mut client);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

#[test]
fn a_client_that_resets_while_held_frees_its_slot_at_once() {
    let mut rig = Rig::new(LIMITS);
    let mut client = rig.connect();
    client.write_all(b"unread").unwrap();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    reset(client);
    rig.until("it is gone", |e| e.counts(APP).open == 0);
    assert_eq!(rig.counts().waiting, 0);
}

#[test]
fn at_the_hold_limit_and_not_before_it_the_client_is_reset() {
    let mut rig = Rig::new(LIMITS);
    let mut client = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    rig.skew += LIMITS.hold_timeout - Duration::from_secs(10);
    rig.turn();
    assert_eq!(rig.counts().open, 1);
    rig.skew += Duration::from_secs(10);
    rig.expect_reset(&mut client);
    assert_eq!(rig.counts().held_too_long, 1);
    assert_eq!(rig.counts().open, 0);
}

#[test]
fn the_hold_limit_ends_the_dialling_too() {
    let dead = refusing();
    let mut rig = Rig::open(&[&dead]);
    let mut client = rig.connect();
    rig.until("it was refused", |e| e.counts(APP).failed_dials >= 2);
    rig.skew += LIMITS.hold_timeout;
    rig.expect_reset(&mut client);
    assert_eq!(rig.counts().held_too_long, 1);
}

#[test]
fn while_the_gate_is_shut_no_further_address_is_dialled() {
    let (dead, _filling) = silent();
    let backend = backend();
    let mut rig = Rig::open(&[&dead]);
    let _client = rig.connect();
    rig.until("it is being dialled", |e| e.counts(APP).waiting == 1);
    rig.turn();
    rig.set_backends(&[&dead, &backend]);
    rig.set_gate(false);
    rig.skew += LIMITS.connect_timeout;
    for _ in 0..50 {
        rig.turn();
    }
    assert_eq!(rig.counts().forwarded, 0, "through a shut gate");
}

/// The kernel repeats the SYN after a second.
#[test]
fn a_backend_that_answers_only_when_the_gate_is_shut_again_gets_no_byte_before_it_opens() {
    let (slow, filling) = silent();
    let mut rig = Rig::open(&[&slow]);
    let mut client = rig.connect();
    client.write_all(b"hello").unwrap();
    rig.until("it is being dialled", |e| e.counts(APP).waiting == 1);
    rig.turn();
    rig.set_gate(false);
    for _ in &filling {
        drop(slow.accept().unwrap());
    }
    let early = rig.accept(&slow);
    rig.settle();
    assert_eq!(rig.counts().forwarded, 0, "through a shut gate");
    let ended = read_some(&early, &mut [0]).unwrap_err().kind();
    assert_eq!(ended, ErrorKind::ConnectionReset, "it has got nothing");
    rig.set_gate(true);
    let mut server = rig.accept(&slow);
    rig.expect(&mut server, b"hello");
}

/// A connect without a byte, as of a port scan or of somebody who has given up.
#[test]
fn a_held_client_that_ends_without_a_byte_is_dropped() {
    let mut rig = Rig::new(LIMITS);
    let mut client = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    client.shutdown(Shutdown::Write).unwrap();
    rig.until("it is gone", |e| e.counts(APP).open == 0);
    rig.expect_fin(&mut client);
    assert_eq!(rig.counts().waiting, 0);
}

/// `curl -m 1`: a request, and a close.
#[test]
fn held_clients_that_have_given_up_are_dropped_where_that_was_asked_for() {
    let backend = backend();
    let mut rig = Rig::new(AppLimits {
        abort_on_close: true,
        ..LIMITS
    });
    for _ in 0..5 {
        let mut client = rig.connect();
        client.write_all(b"order").unwrap();
        rig.until("it is held", |e| e.counts(APP).waiting == 1);
        drop(client);
        rig.until("it is gone", |e| e.counts(APP).open == 0);
    }
    rig.set_gate(true);
    rig.set_backends(&[&backend]);
    rig.settle();
    backend.set_nonblocking(true).unwrap();
    assert_eq!(backend.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn while_the_app_cannot_start_nobody_is_held_and_once_it_can_they_are_again() {
    let backend = backend();
    let mut rig = Rig::new(LIMITS);
    let mut waiting = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    let now = rig.now();
    rig.engine
        .set_wake_failure(APP, Some("ImagePullBackOff"), now);
    rig.expect_reset(&mut waiting);
    let mut next = rig.connect();
    rig.expect_reset(&mut next);
    assert_eq!((rig.counts().open, rig.counts().held_too_long), (0, 0));
    // With an address to dial it is over, whatever is known of the pods.
    rig.set_gate(true);
    rig.set_backends(&[&backend]);
    let mut served = rig.connect();
    served.write_all(b"hello").unwrap();
    let mut server = rig.accept(&backend);
    rig.expect(&mut server, b"hello");
    rig.set_gate(false);
    let now = rig.now();
    rig.engine.set_wake_failure(APP, None, now);
    let _held = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
}

#[test]
fn the_longest_wait_is_that_of_who_waits_now_and_then_of_who_has_waited_in_vain() {
    let mut rig = Rig::new(LIMITS);
    assert!(rig.engine.waits(rig.now()).is_empty());
    let _held = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    let passed = LIMITS.hold_timeout / 2;
    rig.skew += passed;
    assert!(rig.engine.waits(rig.now())[&APP] >= passed);
    let ended = |engine: &Engine| engine.counters(PORT).unwrap().longest_wait;
    assert_eq!(ended(&rig.engine), Duration::ZERO);
    rig.skew += LIMITS.hold_timeout;
    rig.until("it is reset", |e| e.counts(APP).open == 0);
    assert!(rig.engine.waits(rig.now()).is_empty());
    assert!(ended(&rig.engine) >= LIMITS.hold_timeout);
}

/// It has left the queue of those that are held: the next one is released in its place.
#[test]
fn who_waits_in_vain_gets_the_backup_target_and_stays_there_over_a_wake_and_a_sleep() {
    let (pod, backup) = (backend(), backend());
    let mut rig = Rig::new(LIMITS);
    rig.engine.set_backup(APP, &[backup.local_addr().unwrap()]);
    let mut first = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    rig.skew += LIMITS.hold_timeout;
    let mut page = rig.accept(&backup);
    rig.until("it waits no more", |e| e.counts(APP).waiting == 0);
    assert_eq!(rig.engine.longest_waiting(APP), None);
    let mut second = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    rig.set_backends(&[&pod]);
    rig.set_gate(true);
    let mut server = rig.accept(&pod);
    second.write_all(b"to the app").unwrap();
    rig.expect(&mut server, b"to the app");
    rig.set_gate(false);
    rig.engine.end_uncounted(APP);
    first.write_all(b"still here").unwrap();
    rig.expect(&mut page, b"still here");
    let counts = rig.counts();
    assert_eq!((counts.open, counts.counted, counts.forwarded), (2, 1, 1));
}

/// Only what is decided to be held need not wait.
#[test]
fn while_the_app_cannot_start_the_first_bytes_are_awaited_all_the_same() {
    let mut rig = Rig::new(LIMITS);
    let rules = Rules {
        accept_proxy_protocol: "127.0.0.0/8".parse().unwrap(),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let now = rig.now();
    rig.engine
        .set_wake_failure(APP, Some("ImagePullBackOff"), now);
    let mut client = rig.connect();
    rig.until("it is accepted", |e| e.counts(APP).open == 1);
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.counts().open, 1, "its header may come");
    client
        .write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        .unwrap();
    rig.expect_reset(&mut client);
    let closed = rig.engine.counters(PORT).unwrap().closed_by_reason();
    let reasons: Vec<_> = closed.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(reasons, [(["wake_failed", "holding"], 1)]);
}
