//! A reset of one side, and the bytes and the end that its peer gets.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use zpa::sys;

use crate::rig::{APP, Rig, backend, fill, in_conversation, reset};
use support::streams::read_some;

#[test]
fn what_a_backend_sends_before_it_resets_arrives_before_the_reset() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    let mut server = rig.accept(&backend);
    client.write_all(b"request").unwrap();
    rig.expect(&mut server, b"request");
    let reply = vec![b'x'; 100_000];
    server.write_all(&reply).unwrap();
    rig.turn();
    reset(server);
    rig.expect(&mut client, &reply);
    rig.expect_reset(&mut client);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

/// Both sides have sent their FIN then, which the kernel reports as EPOLLHUP, as it
/// does when a side is gone.
#[test]
fn what_a_backend_sent_before_it_resets_waits_for_a_client_that_has_ended_its_upload() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect_with_small_window();
    let mut server = rig.accept(&backend);
    client.write_all(b"hello").unwrap();
    rig.expect(&mut server, b"hello");
    let answer = [b'x'; 40_000];
    server.write_all(&answer).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    rig.settle();
    client.write_all(b"more of the upload").unwrap();
    rig.settle();
    drop(server); // With bytes unread: an RST.
    rig.settle();
    client.write_all(b"the rest of it").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    rig.settle();
    rig.expect(&mut client, &answer);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

#[test]
fn what_a_backend_sent_before_it_resets_waits_for_a_client_that_reads_late() {
    let (mut rig, mut client, mut server) = in_conversation();
    let sent = fill(&mut rig, &mut server);
    let on_its_way = sys::unacknowledged(&server).unwrap();
    reset(server);
    for _ in 0..20 {
        rig.turn();
    }
    assert_eq!(rig.counts().open, 1, "there is something to deliver");
    let mut got = 0;
    let end = loop {
        match rig.read(&mut client) {
            Ok(bytes) if bytes.is_empty() => panic!("a FIN after {got} bytes"),
            Ok(bytes) => got += bytes.len(),
            Err(e) => break e.kind(),
        }
    };
    assert_eq!(end, ErrorKind::ConnectionReset);
    assert!(got >= sent - on_its_way, "{got} of {sent} - {on_its_way}");
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

#[test]
fn what_a_backend_sent_before_it_resets_waits_for_a_client_as_long_as_it_goes_on_reading() {
    const PIECE: usize = 1 << 20;
    let (mut rig, mut client, mut server) = in_conversation();
    // Nearly all of it is to wait on the way there, and not with the client.
    SockRef::from(&client)
        .set_recv_buffer_size(64 * 1024)
        .unwrap();
    let sent = fill(&mut rig, &mut server);
    let on_its_way = sys::unacknowledged(&server).unwrap();
    reset(server);
    let (mut got, mut pieces) = (0, 0);
    let end = loop {
        match rig.read(&mut client) {
            Ok(bytes) if bytes.is_empty() => panic!("a FIN after {got} bytes"),
            Ok(bytes) => got += bytes.len(),
            Err(e) => break e.kind(),
        }
        if got / PIECE > pieces {
            pieces = got / PIECE;
            rig.settle();
            rig.skew += Duration::from_secs(50);
            rig.turn();
        }
    };
    assert_eq!(end, ErrorKind::ConnectionReset);
    assert!(got >= sent - on_its_way, "{got} of {sent} - {on_its_way}");
    assert!(pieces >= 2, "it takes more than a minute");
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

/// Most of the upload is spliced, and the RST may come while splice(2) is at work, which then
/// says nothing of it.
#[test]
fn a_backend_that_resets_amid_an_upload_never_seems_to_have_ended_in_order() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    for round in 0..100 {
        let mut client = rig.connect();
        let mut server = rig.accept(&backend);
        let upload = thread::spawn(move || {
            loop {
                if let Err(why) = client.write_all(&[b'x'; 1 << 20]) {
                    return why.kind();
                }
            }
        });
        let some = 500_000 + round * 10_000;
        let taken = thread::spawn(move || {
            let mut buffer = [0; 65_536];
            let mut taken = 0;
            while taken < some {
                taken += read_some(&mut server, &mut buffer).unwrap();
            }
            reset(server);
        });
        rig.until("it is closed", |e| e.counts(APP).open == 0);
        taken.join().unwrap();
        // After a FIN the kernel reports the reset as EPIPE: tcp_reset().
        let end = upload.join().unwrap();
        assert_eq!(end, ErrorKind::ConnectionReset, "in round {round}");
    }
}

#[test]
fn a_client_that_resets_takes_the_backends_side_with_it() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    let mut server = rig.accept(&backend);
    client.write_all(b"last words").unwrap();
    rig.expect(&mut server, b"last words");
    reset(client);
    rig.expect_reset(&mut server);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

/// A side that does not read before it has written, and one that goes without
/// having read: nobody reads any more, and no event is ever going to come.
#[test]
fn a_client_that_resets_when_neither_reads_takes_the_backends_side_with_it_after_a_while() {
    let (mut rig, client, _server) = full_both_ways();
    reset(client);
    expect_end_after_a_while(&mut rig);
}

#[test]
fn a_backend_that_resets_when_neither_reads_takes_the_clients_side_with_it_after_a_while() {
    let (mut rig, _client, server) = full_both_ways();
    reset(server);
    expect_end_after_a_while(&mut rig);
}

#[test]
fn a_remaining_side_is_reset_a_minute_after_it_has_last_taken_something() {
    let (mut rig, client, mut server) = full_both_ways();
    reset(client);
    rig.settle();
    rig.skew += Duration::from_secs(50);
    let mut got = 0;
    while got < 1 << 20 {
        got += rig.read(&mut server).unwrap().len();
    }
    rig.settle();
    rig.skew += Duration::from_secs(50);
    rig.settle();
    assert_eq!(rig.counts().open, 1, "it has just taken something");
    expect_end_after_a_while(&mut rig);
}

/// The machine slept, and the first event after that is of a remaining side that has room
/// for more than is moved at once, but has acknowledged nothing for a minute.
#[test]
fn a_remaining_side_that_has_room_again_when_its_time_is_up_is_closed_like_any_other() {
    let (mut rig, mut client, server) = in_conversation();
    fill(&mut rig, &mut client);
    reset(client);
    rig.settle();
    let mut got = 0;
    while got < 2 << 20 {
        got += read_some(&server, &mut [0; 65536]).unwrap();
    }
    rig.skew += Duration::from_secs(10);
    rig.engine.dispatch(rig.now());
    rig.skew += Duration::from_secs(61);
    expect_end_after_a_while(&mut rig);
}

#[test]
fn a_remaining_side_that_dies_too_is_closed_at_once() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let client = rig.connect();
    let mut server = rig.accept(&backend);
    rig.until("handed over", |e| e.counts(APP).forwarded == 1);
    // more than the client's window holds, less than window plus our send buffer
    server.set_nonblocking(true).unwrap();
    let mut total = 0;
    let block = vec![b'x'; 65536];
    while let Ok(n) = server.write(&block) {
        total += n;
        for _ in 0..3 {
            rig.turn();
        }
        if sys::unacknowledged(&server).unwrap() == 0 && total > 3_000_000 {
            break;
        }
        if total > 8_000_000 {
            break;
        }
    }
    for _ in 0..50 {
        rig.turn();
    }
    reset(server);
    for _ in 0..50 {
        rig.turn();
    }
    assert_eq!(rig.counts().open, 1);
    reset(client);
    rig.until("it is closed, long before the lingering ends", |e| {
        e.counts(APP).open == 0
    });
}

fn full_both_ways() -> (Rig, TcpStream, TcpStream) {
    let (mut rig, mut client, mut server) = in_conversation();
    fill(&mut rig, &mut client);
    fill(&mut rig, &mut server);
    fill(&mut rig, &mut client);
    (rig, client, server)
}

/// Expects the connection to be closed when neither side takes anything any more.
/// For how long that has been so is the kernel's affair: by its own timers it may
/// find room for some bytes after any time, and then the side has a minute more.
/// `connection::tests` has the minute to the millisecond.
fn expect_end_after_a_while(rig: &mut Rig) {
    for _ in 0..100 {
        rig.settle();
        if rig.counts().open == 0 {
            return;
        }
        rig.skew += Duration::from_secs(61);
    }
    panic!("it is never closed; {:?}", rig.counts());
}

/// The client's event comes first in the batch, so that a write to the backend
/// meets its reset before a read does.
#[test]
fn a_backends_reset_noticed_by_a_write_is_not_shown_to_the_client_as_a_fin() {
    let (mut rig, mut client, mut server) = in_conversation();
    client.write_all(b"more").unwrap();
    server.write_all(b"half a reply").unwrap();
    reset(server);
    assert_eq!(
        story(&mut rig, &mut client),
        ["half a reply", "ConnectionReset"]
    );
}

#[test]
fn a_clients_reset_noticed_by_a_write_is_not_shown_to_the_backend_as_a_fin() {
    let (mut rig, mut client, mut server) = in_conversation();
    server.write_all(b"progress").unwrap();
    client.write_all(b"part").unwrap();
    reset(client);
    assert_eq!(story(&mut rig, &mut server), ["part", "ConnectionReset"]);
}

/// What a peer sees until its stream ends, one entry for each read, and how it
/// ends.
fn story(rig: &mut Rig, stream: &mut TcpStream) -> Vec<String> {
    let mut saw = Vec::new();
    loop {
        match rig.read(stream) {
            Ok(bytes) if bytes.is_empty() => saw.push("FIN".to_owned()),
            Ok(bytes) => {
                saw.push(String::from_utf8(bytes).unwrap());
                continue;
            }
            Err(e) => saw.push(format!("{:?}", e.kind())),
        }
        return saw;
    }
}
