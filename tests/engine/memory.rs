//! The bytes in the kernel's queues, which the container is charged for.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use zpa::engine::Limits;
use zpa::sys::unacknowledged;

use crate::rig::{LIMITS, PROCESS, Rig, backend};

/// Writes for as long as the other end takes something; returns how much.
fn flood(rig: &mut Rig, mut stream: &TcpStream) -> usize {
    const QUIET_TURNS: usize = 50;
    stream.set_nonblocking(true).unwrap();
    let (mut taken, mut quiet) = (0, 0);
    while quiet < QUIET_TURNS {
        match stream.write(&[b'f'; 65_536]) {
            Ok(len) => (taken, quiet) = (taken + len, 0),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock);
                quiet += 1;
                rig.turn();
            }
        }
    }
    taken
}

/// Lets the kernel of this end keep next to nothing.
fn modest(stream: &TcpStream) {
    SockRef::from(stream).set_send_buffer_size(4096).unwrap();
}

#[test]
fn a_held_client_may_send_16_kib_in_advance_and_all_the_rest_once_it_is_served() {
    let backend = backend();
    let mut rig = Rig::new(LIMITS);
    rig.set_backends(&[&backend]);
    let mut client = rig.connect();
    modest(&client);
    let held = flood(&mut rig, &client);
    assert!(held <= 32 * 1024, "{held} bytes");

    rig.set_gate(true);
    let server = rig.accept(&backend);
    client.set_nonblocking(false).unwrap();
    const MORE: usize = 4 << 20;
    let sender = thread::spawn(move || {
        client.write_all(&vec![b'f'; MORE]).unwrap();
        client
    });
    let receiver = thread::spawn(move || {
        let mut all = vec![0; held + MORE];
        (&server).read_exact(&mut all).unwrap();
        all.iter().all(|byte| *byte == b'f')
    });
    assert!(rig.join(receiver));
    rig.join(sender);
}

#[test]
fn with_a_limit_of_memory_bulk_that_stalls_leaves_its_share_in_the_kernel_and_no_more() {
    // Its share of what is left beside the connections is 1 MiB for each queue.
    let limits = Limits {
        memory: Some(56 << 20),
        ..PROCESS
    };
    let backend = backend();
    let mut rig = Rig::within(limits, LIMITS);
    rig.set_gate(true);
    rig.set_backends(&[&backend]);
    let mut client = rig.connect();
    client.write_all(b"?").unwrap();
    let mut server = rig.accept(&backend);
    rig.expect(&mut server, b"?");
    // It flows until the kernel has made its buffers as large as it makes them.
    client.set_nonblocking(true).unwrap();
    server.set_nonblocking(true).unwrap();
    let (mut sent, mut received, mut buffer) = (0, 0, vec![0; 1 << 20]);
    rig.until("64 MiB have come", |_| {
        while let Ok(len) = server.write(&[b'f'; 65_536]) {
            sent += len;
        }
        while let Ok(len) = client.read(&mut buffer) {
            received += len;
        }
        received > 64 << 20
    });
    sent += flood(&mut rig, &server);
    let at_the_backend = unacknowledged(&server).unwrap();
    let at_the_client = client.peek(&mut vec![0; 64 << 20]).unwrap();
    let ours = sent - received - at_the_backend - at_the_client;
    // To be read twice its share, in a pipe and to be sent once.
    assert!(ours <= 6 << 20, "{ours} bytes of {}", sent - received);
}

/// So many connections over which bulk has gone, one after the other and so far apart; and a
/// stream that comes after them. It is over within [`TEST_TIMEOUT`](crate::rig::TEST_TIMEOUT)
/// only if its sender need not wait for its persist timer all the time: over loopback, a segment
/// has 32 KiB or more.
fn stream_beside(others: usize, apart: Duration, memory: u64) {
    const BULK: usize = 160 << 10;
    const STREAM: usize = 24 << 20;
    let limits = Limits {
        memory: Some(memory),
        max_connections: 200,
    };
    let backend = backend();
    let mut rig = Rig::within(limits, LIMITS);
    rig.set_gate(true);
    rig.set_backends(&[&backend]);
    let mut open = Vec::new();
    for _ in 0..others {
        open.push(pass(&mut rig, &backend, BULK));
        rig.skew += apart;
        (0..3).for_each(|_| rig.turn());
    }
    pass(&mut rig, &backend, STREAM);
}

/// A connection over which a client has sent so many bytes.
fn pass(rig: &mut Rig, backend: &TcpListener, len: usize) -> (TcpStream, TcpStream) {
    let client = rig.connect();
    (&client).write_all(b"?").unwrap();
    let mut server = rig.accept(backend);
    rig.expect(&mut server, b"?");
    let sender = thread::spawn(move || {
        (&client).write_all(&vec![b'f'; len]).unwrap();
        client
    });
    let receiver = thread::spawn(move || {
        server.read_exact(&mut vec![0; len]).unwrap();
        server
    });
    let server = rig.join(receiver);
    (rig.join(sender), server)
}

#[test]
fn a_stream_beside_many_others_has_a_window_of_two_segments() {
    stream_beside(60, Duration::ZERO, 64 << 20);
}

#[test]
fn who_has_moved_bulk_and_is_silent_leaves_the_memory_to_others() {
    stream_beside(150, Duration::from_secs(1), 40 << 20);
}
