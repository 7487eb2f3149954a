//! The part that an app leaves to the others when it takes all that it can.

use std::io::Write;
use std::net::TcpStream;

use zpa::engine::{AppId, BackendSpec, Limits, PortId};

use crate::rig::{APP, LIMITS, PROCESS, Rig, backend};

/// The app beside the one that storms.
const QUIET: AppId = AppId(7);
const QUIETS: PortId = PortId {
    app: QUIET,
    index: 0,
};

/// One app sleeps, and has more clients than the process may have; another is awake.
#[test]
fn an_app_whose_clients_take_all_room_leaves_another_app_its_part() {
    let eight = Limits {
        max_connections: 8,
        ..PROCESS
    };
    let mut rig = Rig::within(eight, LIMITS);
    let pod = backend();
    let any = ([127, 0, 0, 1], 0).into();
    assert_eq!(rig.engine.add_port(QUIET, any, LIMITS).unwrap(), QUIETS);
    let spec = BackendSpec {
        is_near: true,
        id: "pod".to_owned(),
        addresses: vec![pod.local_addr().unwrap()],
    };
    rig.engine.set_backends(QUIETS, &[spec], rig.now());
    rig.engine.set_gate(QUIET, true, rig.now());
    let mut storm: Vec<TcpStream> = (0..8).map(|_| rig.connect()).collect();
    rig.until("it has its part and the common half", |e| {
        e.counts(APP).waiting == 6
    });
    rig.settle();
    assert_eq!(rig.counts().open, 6, "and no more");

    let address = rig.engine.local_addr(QUIETS).unwrap();
    let mut clients = Vec::new();
    for number in 1..=2 {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"quiet").unwrap();
        let mut server = rig.accept(&pod);
        rig.expect(&mut server, b"quiet");
        clients.push((client, server));
        assert_eq!(rig.engine.counts(QUIET).open, number);
    }
    // Nobody waits for the loop meanwhile: it sleeps.
    rig.settle();
    let late = TcpStream::connect(address).unwrap();
    rig.settle();
    assert_eq!(rig.engine.counts(QUIET).open, 2, "the process is full");
    // Who leaves makes room for another client of the same app.
    clients.pop();
    rig.until("the late one has come", |e| e.counts(QUIET).accepted == 3);
    assert_eq!(rig.counts().open, 6);
    drop(storm.remove(0));
    rig.until("so has the next of the storm", |e| {
        e.counts(APP).accepted == 7
    });
    drop(late);
}
