//! The end of connections with bytes in flight, and the resources that remain after many.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::rig::{APP, PORT, Rig, backend, in_conversation, reset};

/// More than fits into [`ended`]'s reader's window, less than fits into that and our
/// send buffer.
const REST: usize = 100_000;

/// A connection of which both sides have sent their FIN, and whose client has not
/// read yet what it was sent before.
fn ended() -> (Rig, TcpStream) {
    let (mut rig, client, mut server) = in_conversation();
    let window = SockRef::from(&client).set_recv_buffer_size(16 * 1024);
    window.unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.write_all(&[b'x'; REST]).unwrap();
    rig.expect_fin(&mut server);
    drop(server);
    rig.settle();
    (rig, client)
}

/// Closed, its sockets would belong to nobody, and the kernel forgets those of a
/// reader that pauses, and all when the network goes.
#[test]
fn a_connection_that_has_ended_is_open_until_a_reader_that_pauses_has_everything() {
    let (mut rig, mut client) = ended();
    rig.skew += Duration::from_secs(3600);
    rig.settle();
    assert_eq!(rig.counts().open, 1, "there is something to deliver");
    let mut got = 0;
    while got < REST {
        got += rig.read(&mut client).unwrap().len();
    }
    rig.expect_fin(&mut client);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

#[test]
fn a_reader_that_resets_after_the_end_of_its_connection_is_let_go() {
    let (mut rig, client) = ended();
    assert_eq!(rig.counts().open, 1, "there is something to deliver");
    reset(client);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

#[test]
fn a_thousand_connections_that_come_and_go_leave_nothing_behind() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let address = rig.address();
    let serving = thread::spawn(move || {
        for _ in 0..1000 {
            let (mut stream, _) = backend.accept().unwrap();
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|len| len > 0) {
                    if stream.write_all(&byte).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let before = descriptors();
    let clients = thread::spawn(move || {
        for n in 0..1000 {
            let mut stream = TcpStream::connect(address).unwrap();
            if n % 3 > 0 {
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
            }
            if n % 5 == 0 {
                reset(stream);
            }
        }
    });
    rig.join(clients);
    rig.until("all are closed", |e| {
        e.counts(APP).accepted == 1000 && e.counts(APP).open == 0
    });
    // A client that is gone before it was dialled is not dialled, so the backend
    // may have seen fewer: let it go.
    drop(serving);
    let counts = rig.counts();
    assert_eq!((counts.waiting, counts.held_too_long), (0, 0));
    // Of what the tests beside it have open there are hundreds at most.
    assert!(descriptors() < before + 500, "half of them are left");
}

#[test]
fn the_ends_of_connections_are_counted_by_reason_and_phase() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    let server = rig.accept(&backend);
    rig.until("handed over", |e| e.counts(APP).forwarded == 1);
    reset(server);
    let mut server = rig.accept(&backend);
    client.write_all(b"hello").unwrap();
    rig.expect(&mut server, b"hello");
    drop((client, server));
    rig.until("it is closed", |e| e.counts(APP).open == 0);
    rig.set_gate(false);
    let waiting = rig.connect();
    rig.until("it waits", |e| e.counts(APP).waiting == 1);
    reset(waiting);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
    let ends = rig.engine.counters(PORT).unwrap().closed_by_reason();
    let total: u64 = ends.iter().map(|(_, count)| count).sum();
    assert_eq!(total, rig.counts().accepted);
    assert!(ends.contains(&(["finished", "relaying"], 1)), "{ends:?}");
    assert!(ends.contains(&(["client_gone", "holding"], 1)), "{ends:?}");
    let held: u64 = rig
        .engine
        .counters(PORT)
        .unwrap()
        .hold
        .buckets()
        .map(|(_, n)| n)
        .sum();
    assert_eq!(held, rig.counts().forwarded);
}

/// So few bytes that any other peer would have room for them.
#[test]
fn a_connection_that_has_ended_is_open_until_a_reader_with_a_small_window_has_everything() {
    const REST: usize = 12_000;
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect_with_small_window();
    let mut server = rig.accept(&backend);
    client.write_all(b"hello").unwrap();
    rig.expect(&mut server, b"hello");
    client.shutdown(Shutdown::Write).unwrap();
    server.write_all(&[b'x'; REST]).unwrap();
    rig.expect_fin(&mut server);
    drop(server);
    rig.settle();
    assert_eq!(rig.counts().open, 1, "there is something to deliver");
    rig.expect(&mut client, &[b'x'; REST]);
    rig.expect_fin(&mut client);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}
