//! The connection limit, and the end of accepting.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use zpa::engine::{AppId, BoundListener, Limits};

use crate::rig::{APP, LIMITS, PORT, PROCESS, Rig, backend};

#[test]
fn beyond_the_limit_connections_wait_in_the_kernel_and_none_is_refused() {
    let backend = backend();
    let two = Limits {
        max_connections: 2,
        ..PROCESS
    };
    let mut rig = Rig::within(two, LIMITS);
    rig.set_gate(true);
    rig.set_backends(&[&backend]);
    let mut clients: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    clients[2].write_all(b"third").unwrap();
    let first = rig.accept(&backend);
    let _second = rig.accept(&backend);
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.counts().open, 2);
    drop((first, clients.remove(0)));
    let mut third = rig.accept(&backend);
    rig.expect(&mut third, b"third");
}

#[test]
fn after_the_last_accept_those_in_the_queue_are_served_and_later_ones_refused() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let address = rig.address();
    let mut client = rig.connect();
    rig.engine.stop_accepting(APP, rig.now());
    assert!(TcpStream::connect(address).is_err());
    let mut server = rig.accept(&backend);
    client.write_all(b"made it").unwrap();
    rig.expect(&mut server, b"made it");
    rig.engine.reset_all(APP, rig.now());
    rig.expect_reset(&mut client);
    rig.expect_reset(&mut server);
    assert_eq!(rig.counts().open, 0);
}

/// As where `127.0.0.1:8080` becomes `0.0.0.0:8080`.
#[test]
fn a_listener_takes_the_place_of_one_that_overlaps_and_no_connect_is_refused() {
    let mut rig = Rig::new(LIMITS);
    let (address, other) = (rig.address(), AppId(1));
    let _queued = rig.connect();
    let wide = SocketAddr::from(([0, 0, 0, 0], address.port()));
    assert!(BoundListener::bind(wide).is_err());
    let bound = rig.engine.bind_beside(&[PORT], wide).unwrap();
    rig.engine.add_bound_port(other, bound, LIMITS).unwrap();
    let now = rig.now();
    rig.engine.stop_listening(PORT, now);
    let _later = TcpStream::connect(address).unwrap();
    rig.until("each is held by its app", |engine| {
        [APP, other].map(|app| engine.counts(app).waiting) == [1, 1]
    });
    assert!(
        BoundListener::bind(address).is_err(),
        "it is shared no more"
    );
}
