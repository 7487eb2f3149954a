//! The connection limit, and the end of accepting.

use std::io::Write;
use std::net::TcpStream;

use zpa::engine::Limits;

use crate::fixture::{APP, LIMITS, PROCESS, Rig, backend};

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
