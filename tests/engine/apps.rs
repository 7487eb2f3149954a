//! Several apps, and several ports of one, on one loop.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use zpa::engine::{AppId, Limits, PortId};

use crate::rig::{APP, LIMITS, PORT, PROCESS, Rig, TEST_TIMEOUT, backend, pod_at};

/// Another app, and its port,
const OTHER: AppId = AppId(7);
const OTHERS: PortId = PortId {
    app: OTHER,
    index: 0,
};
/// and a second port of the first.
const SECOND: PortId = PortId { app: APP, index: 1 };

impl Rig {
    /// Adds a port, with a backend to dial.
    fn add(&mut self, port: PortId, backend: &TcpListener) -> SocketAddr {
        let any = ([127, 0, 0, 1], 0).into();
        assert_eq!(self.engine.add_port(port.app, any, LIMITS).unwrap(), port);
        self.list(port, backend);
        self.engine.local_addr(port).unwrap()
    }

    fn list(&mut self, port: PortId, backend: &TcpListener) {
        let now = self.now();
        self.engine.set_backends(port, &[pod_at(backend)], now);
    }
}

#[test]
fn the_gate_of_one_app_lets_no_client_of_another_through() {
    let (pod, other_pod) = (backend(), backend());
    let mut rig = Rig::new(LIMITS);
    rig.list(PORT, &pod);
    let address = rig.add(OTHERS, &other_pod);
    let _held = rig.connect();
    let mut client = TcpStream::connect(address).unwrap();
    rig.until("both are held", |e| {
        e.counts(APP).waiting == 1 && e.counts(OTHER).waiting == 1
    });
    rig.engine.set_gate(OTHER, true, rig.now());
    let mut server = rig.accept(&other_pod);
    client.write_all(b"for the other").unwrap();
    rig.expect(&mut server, b"for the other");
    assert_eq!(rig.counts().waiting, 1, "the first app sleeps on");
    assert_eq!(rig.counts().forwarded, 0);
    let changed = rig.engine.take_changed_apps();
    assert_eq!(changed, [APP, OTHER], "each once");
    rig.settle();
    assert_eq!(
        rig.engine.take_changed_apps(),
        [],
        "nothing was counted since"
    );
}

#[test]
fn each_port_of_an_app_leads_to_its_own_backends_and_all_count_for_the_app() {
    let (pod, second_pod) = (backend(), backend());
    let mut rig = Rig::open(&[&pod]);
    let address = rig.add(SECOND, &second_pod);
    rig.set_gate(true);
    let mut clients = [rig.connect(), TcpStream::connect(address).unwrap()];
    let servers = [&pod, &second_pod].map(|pod| rig.accept(pod));
    for (client, mut server) in clients.iter_mut().zip(servers) {
        client.write_all(b"mine").unwrap();
        rig.expect(&mut server, b"mine");
    }
    assert_eq!(rig.counts().forwarded, 2);
    for port in [PORT, SECOND] {
        assert_eq!(rig.engine.port_counts(port).forwarded, 1, "{port:?}");
    }
}

#[test]
fn a_port_without_an_address_does_not_hold_up_those_who_came_later_to_another() {
    let pod = backend();
    let mut rig = Rig::new(LIMITS);
    rig.set_gate(true);
    let _held = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    let address = rig.add(SECOND, &pod);
    rig.set_gate(true);
    let _client = TcpStream::connect(address).unwrap();
    rig.accept(&pod);
    assert_eq!(rig.engine.port_counts(PORT).waiting, 1);
}

#[test]
fn apps_take_turns_whatever_the_number_of_their_clients() {
    let (pod, other_pod) = (backend(), backend());
    // Of 200 one of two apps can have 150: a quarter stays guaranteed to the other.
    let two_hundred = Limits {
        max_connections: 200,
        ..PROCESS
    };
    let mut rig = Rig::within(two_hundred, LIMITS);
    rig.list(PORT, &pod);
    let address = rig.add(OTHERS, &other_pod);
    let _storm: Vec<_> = (0..90).map(|_| rig.connect()).collect();
    let _client = TcpStream::connect(address).unwrap();
    rig.engine.wait(None, rig.now()).unwrap();
    rig.engine.dispatch(rig.now());
    let accepted = [APP, OTHER].map(|app| rig.engine.counts(app).accepted);
    assert_eq!(accepted, [63, 1], "in one turn");
    rig.until("all are held", |e| e.counts(APP).waiting == 90);
    for app in [APP, OTHER] {
        rig.engine.set_gate(app, true, rig.now());
    }
    // One turn dials 64, and there are 90 who came before.
    rig.engine.release(rig.now());
    rig.engine.wait(None, rig.now()).unwrap();
    other_pod.set_nonblocking(true).unwrap();
    assert!(
        other_pod.accept().is_ok(),
        "it was dialled in the first turn"
    );
}

/// An engine with room for two connections, and one app which has both: one is relayed, one
/// held, and a third client waits to be accepted.
#[test]
fn nothing_is_left_of_an_app_that_is_removed() {
    let (pod, other_pod) = (backend(), backend());
    let two = Limits {
        max_connections: 2,
        ..PROCESS
    };
    let mut rig = Rig::within(two, LIMITS);
    let first = rig.address();
    rig.list(PORT, &pod);
    rig.set_gate(true);
    let mut relayed = rig.connect();
    let mut server = rig.accept(&pod);
    relayed.write_all(b"relayed").unwrap();
    rig.expect(&mut server, b"relayed");
    rig.set_gate(false);
    let mut held = rig.connect();
    rig.until("one is held", |e| e.counts(APP).waiting == 1);
    let mut queued = rig.connect();
    rig.settle();

    rig.engine.remove_app(APP, rig.now());
    for client in [&mut relayed, &mut held, &mut queued] {
        let end = client.read(&mut [0]).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
    let end = server.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(first).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(rig.engine.counts(APP), Default::default());
    assert_eq!(rig.engine.local_addr(PORT), None);
    assert_eq!(rig.engine.poll_timeout(), None, "no timer is left");
    rig.settle();
    assert_eq!(rig.engine.take_changed_apps(), [], "nor any news of it");

    // Another app has the room, and the slot.
    let address = rig.add(OTHERS, &other_pod);
    rig.engine.set_gate(OTHER, true, rig.now());
    let mut clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    for client in &mut clients {
        client.write_all(b"new").unwrap();
        let mut server = rig.accept(&other_pod);
        rig.expect(&mut server, b"new");
    }
}

#[test]
fn a_listener_goes_to_another_app_with_those_who_wait_there() {
    let (pod, other_pod) = (backend(), backend());
    let mut rig = Rig::new(LIMITS);
    rig.list(PORT, &pod);
    rig.set_gate(true);
    let address = rig.address();
    let mut before = rig.connect();
    let mut server = rig.accept(&pod);
    let listener = rig.engine.take_listener(PORT).unwrap();
    assert_eq!(rig.engine.local_addr(PORT), None);
    assert_eq!(listener.local_addr().unwrap(), address);
    // In the queue of a listener that nobody serves.
    let mut between = TcpStream::connect(address).unwrap();
    let added = rig.engine.add_bound_port(OTHER, listener, LIMITS).unwrap();
    assert_eq!(added, OTHERS);
    rig.list(OTHERS, &other_pod);
    rig.engine.set_gate(OTHER, true, rig.now());
    between.write_all(b"between").unwrap();
    let mut other_server = rig.accept(&other_pod);
    rig.expect(&mut other_server, b"between");
    before.write_all(b"before").unwrap();
    rig.expect(&mut server, b"before");
    rig.engine.remove_app(APP, rig.now());
    before.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let end = before.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    between.write_all(b", still").unwrap();
    rig.expect(&mut other_server, b", still");
}
