//! Lost packets without a reply, and peers that have vanished.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::program::TEST_TIMEOUT;
use support::sockets::connected_to;
use support::streams::read_some;

use crate::fixture::{Fixture, listen};
use crate::network::{CLIENT, Network, OTHER_POD, POD, skipped};
use crate::resets::expect_reset;
use crate::{echo, until};

/// What every socket of `zpa` is set to; see manifests/FAILURES.md.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;
/// When all probes are through.
const GIVEN_UP: Duration = Duration::from_secs(120);

/// The kernel's timers fire late, by an eighth and by one probe at most.
const AT_MOST: Duration = Duration::from_secs(180);

#[test]
fn an_address_that_swallows_syns_delays_the_first_client_alone() {
    let Some(network) = Network::new() else {
        return;
    };
    let settings = [("ZPA_CONNECT_TIMEOUT", "300ms")];
    let fixture = Fixture::awake(network, &[POD, OTHER_POD], &settings);
    let _pod = fixture.echo_at(OTHER_POD);
    fixture.network.vanish(POD);
    let failed = format!("dialling {POD}:80: no answer in time");
    let mut clients = Vec::new();
    while fixture.zpa.logged(&failed) == 0 {
        clients.push(served(&fixture));
    }
    let since = Instant::now();
    // All of these prefer the hole by the number of connections.
    clients.extend((0..40).map(|_| served(&fixture)));
    // The pauses last 1, 2, 4, … s, a fifth less at most.
    let pauses = (since.elapsed().as_secs_f64() / 0.8 + 1.0).log2() as usize;
    let paid = fixture.zpa.logged(&failed);
    assert!(
        (1..=1 + pauses).contains(&paid),
        "{paid}: {}",
        fixture.zpa.log()
    );
    let served = format!("relaying to {OTHER_POD}:80");
    fixture.zpa.expect_logged(&served, clients.len());
}

fn served(fixture: &Fixture) -> TcpStream {
    let mut client = fixture.connect();
    echo(&mut client, "served");
    client
}

#[test]
fn a_service_that_is_not_routed_yet_is_dialled_until_it_is() {
    let Some(network) = Network::new() else {
        return;
    };
    let service = format!("{POD}:80");
    let fixture = Fixture::awake(network, &[POD], &[("ZPA_TARGET", &service)]);
    let _pod = fixture.echo_at(POD);
    fixture
        .network
        .reject(service.parse::<SocketAddr>().unwrap());
    let mut client = fixture.connect();
    fixture.zpa.expect_log_times("Connection refused", 3);
    fixture.network.restore();
    echo(&mut client, "at last");
}

#[test]
fn every_socket_is_set_to_notice_that_its_peer_has_vanished() {
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let pairs = [fixture.pair(&pod), fixture.pair(&pod), fixture.pair(&pod)];
    pairs[1].0.shutdown(Shutdown::Write).unwrap();
    pairs[2].1.shutdown(Shutdown::Write).unwrap();
    for (peer, half_closed) in [(CLIENT, &pairs[1].1), (POD, &pairs[2].0)] {
        assert_eq!(read_some(half_closed, &mut [0]).unwrap(), 0);
        until(
            TEST_TIMEOUT,
            "a timer runs for each, half-closed or not",
            || keepalive_timers(&fixture, peer) == pairs.len(),
        );
        let sockets = connected_to(IpAddr::V4(peer), fixture.zpa.id()).unwrap();
        assert_eq!(sockets.len(), pairs.len());
        for socket in sockets {
            // One that is asked for later is asked for sooner after that.
            assert!(socket.tcp_keepalive_time().unwrap() <= KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
            let timeout = socket.tcp_user_timeout().unwrap();
            assert_eq!(timeout, None, "a stall is no end");
        }
    }
}

/// For how many of its connections to `peer` the kernel is going to ask whether
/// that is still there.
fn keepalive_timers(fixture: &Fixture, peer: Ipv4Addr) -> usize {
    let arguments = format!("--tcp --numeric --options --no-header dst {peer}");
    let connections = fixture.network.middle.run("ss", &arguments).unwrap();
    connections.matches("timer:(keepalive,").count()
}

/// What a connection was at when its peer vanished.
#[derive(Clone, Copy, PartialEq)]
enum Moment {
    Idle,
    /// The one that vanishes has sent its FIN.
    HalfClosed,
}

const MOMENTS: [Moment; 2] = [Moment::Idle, Moment::HalfClosed];

#[test]
fn clients_that_vanish_are_given_up_after_two_minutes_and_the_app_sleeps() {
    let Some(network) = Network::for_minutes() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[("ZPA_IDLE_TTL", "1s")]);
    let pairs = MOMENTS.map(|moment| {
        let (client, server) = fixture.pair(&pod);
        if moment == Moment::HalfClosed {
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_some(&server, &mut [0]).unwrap(), 0);
        }
        (moment, client, server)
    });
    fixture.network.vanish(CLIENT);
    expect_resets(pairs.iter().map(|(_, _, server)| server));
    fixture
        .zpa
        .expect_log_times("client/relaying: reset or gone", 2);
    fixture
        .sandbox
        .expect("it sleeps", |state| state.replicas() == 0);
}

#[test]
fn pods_that_vanish_are_given_up_after_two_minutes() {
    let Some(network) = Network::for_minutes() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let pairs = MOMENTS.map(|moment| {
        let (client, server) = fixture.pair(&pod);
        if moment == Moment::HalfClosed {
            server.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_some(&client, &mut [0]).unwrap(), 0);
        }
        (moment, client, server)
    });
    fixture.network.vanish(POD);
    expect_resets(pairs.iter().map(|(_, client, _)| client));
    fixture
        .zpa
        .expect_log_times("backend/relaying: reset or gone", 2);
}

/// With `TCP_USER_TIMEOUT` the kernel would count a window that stays shut like
/// an acknowledgement that stays out, although the reader is there.
#[test]
fn a_reader_that_takes_nothing_for_minutes_is_kept() {
    let Some(network) = Network::for_minutes() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let (mut client, mut server) = fixture.pair(&pod);
    let sent = fill(&server);
    let start = Instant::now();
    while start.elapsed() < AT_MOST {
        assert!(server.take_error().unwrap().is_none(), "broken off");
        thread::sleep(Duration::from_secs(1)); // This is what is promised.
    }
    let reading = thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).map(|_| got)
    });
    server.write_all(b"the end").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let got = reading.join().unwrap().unwrap();
    assert_eq!(got.len(), sent + b"the end".len());
    assert!(got[..sent].iter().all(|&byte| byte == FILLING));
}

/// The kernel gives up a socket that was closed with bytes still to be sent as soon
/// as it waits as long as it ever does between two questions whether the window has
/// opened.
#[test]
fn a_reader_that_pauses_before_and_after_the_end_of_its_connection_gets_everything() {
    /// More than fits into the window, less than fits into that and `zpa`'s
    /// send buffer.
    const LEN: usize = 100_000;
    const PAUSE: Duration = Duration::from_secs(70);
    let Some(network) = Network::for_minutes() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let send = |(client, mut server): (TcpStream, TcpStream)| {
        let window = SockRef::from(&client).set_recv_buffer_size(16 * 1024);
        window.unwrap();
        server.write_all(&[FILLING; LEN]).unwrap();
        (client, server)
    };
    let end = |(client, server): (TcpStream, TcpStream)| {
        client.shutdown(Shutdown::Write).unwrap();
        drop(server);
        client
    };
    let old = send(fixture.pair(&pod));
    thread::sleep(PAUSE); // This is what is promised.
    let young = send(fixture.pair(&pod));
    let clients = [end(old), end(young)];
    thread::sleep(PAUSE);
    assert_eq!(fixture.zpa.logged("finished"), 0, "nobody has everything");
    for mut client in clients {
        // The next question whether the window has opened is as far away as the
        // last one, where the kernel's pauses have no cap.
        client.set_read_timeout(Some(AT_MOST)).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), LEN);
    }
    fixture.zpa.expect_log_times("both sides have ended", 2);
}

/// How often the kernel repeats what is not acknowledged, or asks whether a
/// window has opened, before it gives up: this often takes seconds, and the
/// 15 times that are the default a quarter of an hour (tcp(7), `tcp_retries2`).
const REPEATS: (&str, &str) = ("ipv4/tcp_retries2", "3");
/// The longest that this takes. After each time the kernel waits twice as long.
const REPEATED: Duration = Duration::from_secs(60);

#[test]
fn a_client_that_vanishes_and_owes_acknowledgements_is_given_up_and_the_app_sleeps() {
    let Some(network) = Network::new() else {
        return;
    };
    network.middle.set(REPEATS).unwrap();
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[("ZPA_IDLE_TTL", "1s")]);
    let [owing, stalled] = [fixture.pair(&pod), fixture.pair(&pod)];
    fill(&stalled.1);
    fixture.network.vanish(CLIENT);
    (&owing.1).write_all(b"into the void").unwrap();
    for server in [&owing.1, &stalled.1] {
        expect_reset(server, REPEATED);
    }
    fixture
        .zpa
        .expect_log_times("client/relaying: reset or gone", 2);
    fixture
        .sandbox
        .expect("it sleeps", |state| state.replicas() == 0);
}

#[test]
fn a_pod_that_vanishes_and_owes_acknowledgements_is_given_up_and_the_client_is_reset() {
    let Some(network) = Network::new() else {
        return;
    };
    network.middle.set(REPEATS).unwrap();
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let [owing, stalled] = [fixture.pair(&pod), fixture.pair(&pod)];
    fill(&stalled.0);
    fixture.network.vanish(POD);
    (&owing.0).write_all(b"into the void").unwrap();
    for client in [&owing.0, &stalled.0] {
        expect_reset(client, REPEATED);
    }
    fixture
        .zpa
        .expect_log_times("backend/relaying: reset or gone", 2);
}

#[test]
fn peers_that_vanish_and_owe_acknowledgements_are_given_up_in_minutes_by_default() {
    let Some(network) = Network::for_minutes() else {
        return;
    };
    if !can_cap_retransmission() {
        skipped("this kernel has no TCP_RTO_MAX_MS (Linux 6.15)");
        return;
    }
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let [owing, stalled] = [fixture.pair(&pod), fixture.pair(&pod)];
    fill(&stalled.1);
    fixture.network.vanish(CLIENT);
    (&owing.1).write_all(b"into the void").unwrap();
    for server in [&owing.1, &stalled.1] {
        expect_reset(server, AT_MOST);
    }
}

fn can_cap_retransmission() -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    zpa::sys::cap_retransmission(&listener, Duration::from_secs(10)).is_ok()
}

/// What [`fill`] writes.
const FILLING: u8 = b'z';

/// Writes until nothing more is taken, also not after a while in which the
/// kernel may have widened its windows; returns how much was.
fn fill(mut stream: &TcpStream) -> usize {
    const QUIET: Duration = Duration::from_millis(500);
    let timeout = stream.write_timeout().unwrap();
    stream.set_write_timeout(Some(QUIET)).unwrap();
    let mut sent = 0;
    while let Ok(len) = stream.write(&[FILLING; 65_536]) {
        sent += len;
    }
    stream.set_write_timeout(timeout).unwrap();
    sent
}

/// All of them are reset, and not before the time-out.
fn expect_resets<'a>(remaining: impl Iterator<Item = &'a TcpStream>) {
    let start = Instant::now();
    for socket in remaining {
        expect_reset(socket, AT_MOST);
        assert!(start.elapsed() + KEEPALIVE_INTERVAL >= GIVEN_UP);
    }
}
