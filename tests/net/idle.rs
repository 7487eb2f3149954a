//! Open and silent connections: their memory, descriptors and wake-ups; for `ZPA_IDLE_MINUTES` if
//! it is set.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::memory::PER_CONNECTION;
use support::program::TEST_TIMEOUT;
use support::sandbox::anything;

use crate::fixture::{Fixture, greet, listen};
use crate::network::{CLIENT, Network, OTHER_POD, POD, THIRD_POD, is_slow, restricted};
use crate::open_files::OpenFiles;

/// How many connections are opened where that may take minutes,
const CONNECTIONS: usize = 100_000;
/// and elsewhere, if the limit of open files allows.
const FEWER: usize = 10_000;
/// Of `zpa`'s that come and go: its connections to the API server.
const OTHERS: usize = 4;

/// Clients come from two addresses, as each has 64 Ki ports at most.
const CLIENTS: [Ipv4Addr; 2] = [CLIENT, Ipv4Addr::new(10, 0, 0, 3)];
/// The first of their ports. They are assigned, since to look for a free one
/// among so many takes the kernel long.
const FIRST_PORT: usize = 2000;
/// The pods, each of which `zpa` can have as many connections with as it has ports.
/// Once half of them are taken, it takes the kernel long to find a free one.
const PODS: [Ipv4Addr; 4] = [POD, OTHER_POD, THIRD_POD, Ipv4Addr::new(10, 0, 1, 5)];
const PORTS: (&str, &str) = ("ipv4/ip_local_port_range", "1024 65535");

/// What is resident of `zpa`, its program included, with all of them open.
const RESIDENT: u64 = 64 << 20;

/// For how long it is watched doing nothing, unless that is set.
const WATCHED: Duration = Duration::from_secs(5);

#[test]
fn idle_connections_cost_two_descriptors_300_bytes_and_no_wake_up_and_all_answer_afterwards() {
    let Some(network) = Network::new() else {
        return;
    };
    let (count, _open_files) = possible();
    prepare(&network);
    let pod = listen(&network);
    // Not debug: the lines would be most of what is written.
    let fixture = Fixture::awake(network, &PODS, &[("ZPA_LOG", "info")]);
    drop(pair(&fixture, &pod, 0));
    fixture.settle();
    let descriptors = fixture.process().descriptors().unwrap();
    let memory = fixture.process().memory().unwrap().anonymous;

    let mut pairs = Vec::with_capacity(count);
    for number in 1..=count {
        pairs.push(pair(&fixture, &pod, number));
        if number % FEWER == 0 {
            println!("{number} connections are open");
        }
    }
    let held = fixture.process().memory().unwrap();
    let each = (held.anonymous - memory) / count as u64;
    assert!(each <= PER_CONNECTION, "{each} bytes for each of {count}");
    assert!(held.resident <= RESIDENT, "{} bytes", held.resident);
    let opened = fixture.process().descriptors().unwrap() - descriptors;
    assert!(opened <= 2 * count + OTHERS, "{opened} for {count}");
    let idle = expect_no_wake_up(&fixture);

    for (client, server) in &mut pairs {
        greet(client, server);
    }
    println!(
        "{count} connections: {each} bytes each, {} KiB resident; {idle}; all answer",
        held.resident >> 10
    );
}

/// As many connections as may be open here.
fn possible() -> (usize, OpenFiles) {
    let wanted = if is_slow() { CONNECTIONS } else { FEWER };
    let open_files = OpenFiles::take(2 * wanted);
    let count = open_files.count / 2;
    if count < wanted {
        restricted(&format!(
            "{count} connections in place of {wanted}: the limit of open files"
        ));
    }
    (count, open_files)
}

fn prepare(network: &Network) {
    for (namespace, address) in [(&network.clients, CLIENTS[1]), (&network.pods, PODS[3])] {
        let more = format!("address add {address}/24 dev eth0");
        namespace.run("ip", &more).unwrap();
    }
    network.middle.set(PORTS).unwrap();
}

/// Client and pod of the `number`-th connection, after a byte has gone each way.
fn pair(fixture: &Fixture, pod: &TcpListener, number: usize) -> (TcpStream, TcpStream) {
    let port = FIRST_PORT + number / CLIENTS.len();
    let from = SocketAddr::from((CLIENTS[number % CLIENTS.len()], port as u16));
    let mut client = fixture.network.clients.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&fixture.zpa.address().into()).unwrap();
        TcpStream::from(socket)
    });
    let (mut server, _) = pod.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    }
    greet(&mut client, &mut server);
    (client, server)
}

/// The loop sleeps but for the requests to the API server. What is done once for
/// a connection that stays is done before that. Says what was seen.
#[track_caller]
fn expect_no_wake_up(fixture: &Fixture) -> String {
    const TIMES: usize = 6;
    let mut restless = Vec::new();
    let mut length = WATCHED;
    let mut calm = Window::watch(fixture, length);
    while !calm.is_calm() {
        restless.push(calm);
        assert!(restless.len() < TIMES, "{restless:?}");
        calm = Window::watch(fixture, length);
    }
    if let Some(wanted) = wanted_length() {
        length = wanted;
        calm = Window::watch(fixture, length);
        assert!(calm.is_calm(), "{calm:?}");
    }
    format!(
        "{} wake-ups for {} requests in {length:?}",
        calm.wake_ups, calm.requests
    )
}

/// What has happened in a while.
#[derive(Debug)]
struct Window {
    wake_ups: u64,
    requests: usize,
}

impl Window {
    fn watch(fixture: &Fixture, length: Duration) -> Window {
        let requests = fixture.sandbox.count(&anything());
        let wake_ups = fixture.process().loop_wake_ups().unwrap();
        thread::sleep(length);
        Window {
            wake_ups: fixture.process().loop_wake_ups().unwrap() - wake_ups,
            // One more may have been on its way.
            requests: fixture.sandbox.count(&anything()) - requests + 1,
        }
    }

    /// The loop is woken to send a request, and by the reply.
    fn is_calm(&self) -> bool {
        self.wake_ups <= 2 * self.requests as u64
    }
}

fn wanted_length() -> Option<Duration> {
    let minutes = std::env::var("ZPA_IDLE_MINUTES").ok()?;
    let minutes: u64 = minutes.parse().expect("ZPA_IDLE_MINUTES is a whole number");
    Some(Duration::from_secs(minutes * 60))
}
