//! Session affinity: a client comes back to its backend.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use zpa::rules::Rules;

use crate::rig::{APP, LIMITS, Rig, TEST_TIMEOUT, backend};

/// A rig with so many backends, whose app has affinity.
fn rig(count: usize) -> (Rig, Vec<TcpListener>) {
    let backends: Vec<TcpListener> = (0..count).map(|_| backend()).collect();
    let mut rig = Rig::new(LIMITS);
    rig.set_gate(true);
    rig.set_backends(&backends.iter().collect::<Vec<_>>());
    rig.engine.set_affinity(APP, Some(Duration::from_secs(60)));
    (rig, backends)
}

/// A client that connects from `source`, an address of the loopback network.
fn connect_from(rig: &Rig, source: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&rig.address().into()).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.into()
}

/// The backend that accepts next, with the connection.
fn accept(rig: &mut Rig, backends: &[TcpListener]) -> (usize, TcpStream) {
    let nonblocking = |it: &TcpListener| it.set_nonblocking(true).unwrap();
    backends.iter().for_each(nonblocking);
    let mut accepted = None;
    rig.until("a backend accepts", |_| {
        let each = backends.iter().enumerate();
        accepted = each
            .filter_map(|(n, it)| Some((n, it.accept().ok()?.0)))
            .next();
        accepted.is_some()
    });
    accepted.unwrap()
}

#[test]
fn clients_with_addresses_of_their_own_come_back_to_their_backends() {
    let (mut rig, backends) = rig(3);
    let mut open = Vec::new();
    let mut go = |rig: &mut Rig, last| {
        let client = connect_from(rig, [127, 0, 0, last]);
        let (n, server) = accept(rig, &backends);
        open.push((client, server));
        n
    };
    let homes: Vec<usize> = (2..5).map(|last| go(&mut rig, last)).collect();
    assert_eq!(homes.iter().sum::<usize>(), 3, "three backends: {homes:?}");
    // Not in the order in which they came first.
    for last in [4, 4, 4, 2, 3, 2] {
        assert_eq!(go(&mut rig, last), homes[usize::from(last) - 2], "{last}");
    }
    assert_eq!(rig.engine.remembered_clients(APP), Some(3));
    rig.engine.set_affinity(APP, None);
    let spread: Vec<usize> = (0..3).map(|_| go(&mut rig, 2)).collect();
    assert!(spread.iter().any(|n| *n != homes[0]), "{spread:?}");
    assert_eq!(rig.engine.remembered_clients(APP), None);
}

/// All connections come from one address, which the header says is not the client's.
#[test]
fn behind_a_load_balancer_the_client_is_the_one_of_the_proxy_header() {
    let (mut rig, backends) = rig(2);
    let rules = Rules {
        accept_proxy_protocol: "127.0.0.0/8".parse().unwrap(),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let mut open = Vec::new();
    let mut go = |rig: &mut Rig, header: &str| {
        let mut client = rig.connect();
        client.write_all(header.as_bytes()).unwrap();
        let (n, server) = accept(rig, &backends);
        open.push((client, server));
        n
    };
    let header = |last| format!("PROXY TCP4 192.0.2.{last} 10.0.0.1 1 2\r\n");
    let homes = [7, 8].map(|last| go(&mut rig, &header(last)));
    assert_ne!(homes[0], homes[1]);
    for (last, home) in [(7, homes[0]), (7, homes[0]), (8, homes[1]), (7, homes[0])] {
        assert_eq!(go(&mut rig, &header(last)), home);
    }
    // A client that nobody knows has no backend of its own.
    let unknown = [(); 2].map(|()| go(&mut rig, "PROXY UNKNOWN\r\n"));
    assert_eq!(rig.engine.remembered_clients(APP), Some(2), "{unknown:?}");
}
