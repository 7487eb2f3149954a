//! Bytes both ways: bulk, stalled readers, urgent data.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use socket2::SockRef;

use crate::rig::{APP, Rig, TEST_TIMEOUT, backend, fill, in_conversation, reset};

#[test]
fn the_first_bytes_of_a_server_that_speaks_first_arrive() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    let mut server = rig.accept(&backend);
    server.write_all(b"220 ready").unwrap();
    rig.expect(&mut client, b"220 ready");
}

#[test]
fn fifty_mebibytes_each_way_and_a_half_close_arrive_byte_by_byte() {
    const LEN: usize = 50 << 20;
    fn send(mut stream: TcpStream, seed: u8) {
        let chunk: Vec<u8> = (0..=250u8).map(|n| n ^ seed).collect();
        let mut left = LEN;
        while left > 0 {
            let len = left.min(chunk.len());
            stream.write_all(&chunk[..len]).unwrap();
            left -= len;
        }
        stream.shutdown(Shutdown::Write).unwrap();
    }
    fn receive(mut stream: TcpStream, seed: u8) {
        let mut all = Vec::with_capacity(LEN);
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), LEN);
        assert!(
            all.iter()
                .enumerate()
                .all(|(at, &b)| b == (at % 251) as u8 ^ seed)
        );
    }
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let client = rig.connect();
    let server = rig.accept(&backend);
    let handles = [
        (
            client.try_clone().unwrap(),
            server.try_clone().unwrap(),
            0x55,
        ),
        (server, client, 0xAA),
    ]
    .map(|(from, to, seed)| {
        (
            thread::spawn(move || send(from, seed)),
            thread::spawn(move || receive(to, seed)),
        )
    });
    for (sender, receiver) in handles {
        rig.join(sender);
        rig.join(receiver);
    }
    rig.until("it is closed", |e| e.counts(APP).open == 0);
}

#[test]
fn when_both_write_and_neither_reads_nothing_grows_and_nothing_is_lost() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    let mut server = rig.accept(&backend);
    let mut up = fill(&mut rig, &mut client);
    let down = fill(&mut rig, &mut server);
    up += fill(&mut rig, &mut client);
    for (stream, len) in [(&mut server, up), (&mut client, down)] {
        let mut got = 0;
        while got < len {
            got += rig.read(stream).unwrap().len();
        }
        assert_eq!(got, len);
    }
}

#[test]
fn a_reader_that_stalls_does_not_hold_up_the_others() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let _stalled = rig.connect();
    let mut flooding = rig.accept(&backend);
    fill(&mut rig, &mut flooding);
    let mut client = rig.connect();
    let mut server = rig.accept(&backend);
    client.write_all(b"ping").unwrap();
    rig.expect(&mut server, b"ping");
    server.write_all(b"pong").unwrap();
    rig.expect(&mut client, b"pong");
}

#[test]
fn connections_to_a_backend_that_leaves_the_list_live_on() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    let mut server = rig.accept(&backend);
    rig.until("it is handed over", |e| e.counts(APP).forwarded == 1);
    rig.set_backends(&[]);
    rig.set_gate(false);
    client.write_all(b"still here").unwrap();
    rig.expect(&mut server, b"still here");
}

#[test]
fn bytes_behind_urgent_data_are_not_forgotten() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    let mut server = rig.accept(&backend);
    rig.until("handed over", |e| e.counts(APP).forwarded == 1);
    for _ in 0..5 {
        rig.turn();
    }
    client.write_all(b"abc").unwrap();
    SockRef::from(&client).send_out_of_band(b"X").unwrap();
    client.write_all(b"def").unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"def") {
        got.extend(rig.read(&mut server).unwrap());
    }
}

/// The kernel splices nothing past urgent data, and if it knows of the end it says
/// there that the stream has ended.
#[test]
fn bytes_between_urgent_data_and_the_end_of_bulk_are_not_forgotten() {
    let (mut rig, mut client, mut server) = in_bulk();
    look_before(&mut rig, &mut client);
    drop(client);
    assert_eq!(last_words(&mut rig, &mut server), None);
}

#[test]
fn bytes_between_urgent_data_and_a_reset_of_bulk_are_not_forgotten() {
    let (mut rig, mut client, mut server) = in_bulk();
    look_before(&mut rig, &mut client);
    reset(client);
    let end = last_words(&mut rig, &mut server);
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
}

/// A client and a backend after bulk from the one to the other.
fn in_bulk() -> (Rig, TcpStream, TcpStream) {
    const LEN: usize = 8 << 20;
    let (mut rig, client, mut server) = in_conversation();
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&vec![b'z'; LEN]).unwrap());
    let mut got = 0;
    while got < LEN {
        got += rig.read(&mut server).unwrap().len();
    }
    rig.join(writing);
    rig.settle();
    (rig, client, server)
}

/// The loop sees more bulk, and what the client says last only after that.
fn look_before(rig: &mut Rig, client: &mut TcpStream) {
    client.write_all(&[b'z'; 60_000]).unwrap();
    rig.engine.wait(Some(TEST_TIMEOUT), rig.now()).unwrap();
    SockRef::from(&*client).send_out_of_band(b"X").unwrap();
    client.write_all(b"the end").unwrap();
}

/// Expects what the client has said last; returns how the stream ends.
fn last_words(rig: &mut Rig, server: &mut TcpStream) -> Option<ErrorKind> {
    rig.engine.dispatch(rig.now());
    let mut got = Vec::new();
    let end = loop {
        match rig.read(server) {
            Ok(bytes) if bytes.is_empty() => break None,
            Ok(bytes) => got.extend(bytes),
            Err(e) => break Some(e.kind()),
        }
    };
    assert!(
        got.ends_with(b"Xthe end"),
        "{} bytes and {end:?}",
        got.len()
    );
    end
}
