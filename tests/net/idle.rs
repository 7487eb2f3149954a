//! Connections that are open and silent.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::limits::raise_open_files;
use crate::memory::PER_CONNECTION;
use crate::network::{CLIENT, Network, OTHER_POD, POD, is_slow, restricted};
use crate::program::PATIENCE;
use crate::sandbox::anything;
use crate::stage::{Stage, greet, listen};

/// How many connections are opened where that may take minutes,
const CONNECTIONS: usize = 100_000;
/// and elsewhere, if the limit of open files allows.
const FEWER: usize = 10_000;
/// Descriptors of the test that are not connections'.
const RESERVED: usize = 500;
/// Of `zpa`'s that come and go: its connections to the API server.
const OTHERS: usize = 4;

/// Clients come from two addresses, as each has 64 Ki ports at most.
const CLIENTS: [Ipv4Addr; 2] = [CLIENT, Ipv4Addr::new(10, 0, 0, 3)];
const PORTS: (&str, &str) = ("ipv4/ip_local_port_range", "1024 65535");

/// For how long it is watched doing nothing.
const WATCHED: Duration = Duration::from_secs(5);

#[test]
fn idle_connections_cost_two_descriptors_300_bytes_and_no_wake_up_and_all_answer_afterwards() {
    let Some(network) = Network::new() else {
        return;
    };
    let count = possible();
    prepare(&network);
    let pod = listen(&network);
    // Not debug: the lines would be most of what is written.
    let stage = Stage::awake(network, &[POD, OTHER_POD], &[("ZPA_LOG", "info")]);
    drop(pair(&stage, &pod, 0));
    stage.settle();
    let descriptors = stage.process().descriptors().unwrap();
    let memory = stage.process().memory().unwrap().anonymous;

    let mut pairs: Vec<_> = (0..count).map(|n| pair(&stage, &pod, n)).collect();
    let grown = stage.process().memory().unwrap().anonymous - memory;
    let each = grown / count as u64;
    assert!(each <= PER_CONNECTION, "{each} bytes for each of {count}");
    let opened = stage.process().descriptors().unwrap() - descriptors;
    assert!(opened <= 2 * count + OTHERS, "{opened} for {count}");
    expect_no_wake_up(&stage);

    for (client, server) in &mut pairs {
        greet(client, server);
    }
}

/// As many connections as may be open here.
fn possible() -> usize {
    let wanted = if is_slow() { CONNECTIONS } else { FEWER };
    let allowed = raise_open_files((2 * wanted + RESERVED) as u64).unwrap() as usize;
    let count = wanted.min(allowed.saturating_sub(RESERVED) / 2);
    if count < wanted {
        restricted(&format!(
            "{count} connections in place of {wanted}: the limit of open files"
        ));
    }
    count
}

fn prepare(network: &Network) {
    let more = format!("address add {}/24 dev eth0", CLIENTS[1]);
    network.clients.run("ip", &more).unwrap();
    for namespace in [&network.clients, &network.middle] {
        namespace.set(PORTS).unwrap();
    }
}

/// Client and pod of the `number`-th connection, after a byte has gone each way.
fn pair(stage: &Stage, pod: &TcpListener, number: usize) -> (TcpStream, TcpStream) {
    let from = SocketAddr::from((CLIENTS[number % CLIENTS.len()], 0));
    let mut client = stage.network.clients.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&stage.zpa.address().into()).unwrap();
        TcpStream::from(socket)
    });
    let (mut server, _) = pod.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    greet(&mut client, &mut server);
    (client, server)
}

/// The loop sleeps but for the requests to the API server: it is woken to send
/// one, and by the reply. What is done once for a connection that stays may be
/// done before that.
#[track_caller]
fn expect_no_wake_up(stage: &Stage) {
    const TIMES: usize = 6;
    let mut seen = Vec::new();
    for _ in 0..TIMES {
        let requests = stage.sandbox.count(&anything());
        let wake_ups = stage.process().loop_wake_ups().unwrap();
        thread::sleep(WATCHED);
        let wake_ups = stage.process().loop_wake_ups().unwrap() - wake_ups;
        // One more may have been on its way.
        let requests = stage.sandbox.count(&anything()) - requests + 1;
        if wake_ups <= 2 * requests as u64 {
            return;
        }
        seen.push((wake_ups, requests));
    }
    panic!("wake-ups and requests in {WATCHED:?} each: {seen:?}");
}
