//! The rules about clients: which are ignored or denied, and the pace at which held connections are
//! released.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use zpa::engine::{Counts, Limits};
use zpa::rules::Rules;
use zpa::rules::answer::HoldAnswer;
use zpa::rules::first_bytes::WakeOn;
use zpa::rules::idle::SilentConnections;
use zpa::rules::proxy_protocol::Version;
use zpa::rules::release::ReleaseRate;

use crate::rig::{APP, LIMITS, PORT, PROCESS, Rig, TEST_TIMEOUT, backend, reset};

/// A client that connects from `source`, an address of the loopback network.
pub fn connect_from(rig: &Rig, source: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    let address = rig.address();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.into()
}

/// Ignores 127.0.0.2 and denies 127.0.0.3.
fn with_sources() -> Rig {
    let mut rig = Rig::new(LIMITS);
    let mut rules = Rules::default();
    rules.sources.ignored = "127.0.0.2".parse().unwrap();
    rules.sources.denied = "127.0.0.3".parse().unwrap();
    rig.engine.set_rules(APP, &rules);
    rig
}

/// The rules by which connections did not count, and how many.
fn excluded(rig: &Rig) -> Vec<(&'static str, u64)> {
    let all = rig.engine.counters(PORT).unwrap().exclusions().into_iter();
    let counted = all.filter(|(_, count)| *count > 0);
    counted.map(|([name], count)| (name, count)).collect()
}

/// What the policy sees of them.
fn uses(counts: Counts) -> (usize, usize, u64) {
    (counts.counted, counts.waiting, counts.uses)
}

#[test]
fn an_ignored_client_is_accepted_and_closed_while_nothing_can_serve_it_and_counts_nowhere() {
    let mut rig = with_sources();
    let mut ignored = connect_from(&rig, [127, 0, 0, 2]);
    rig.expect_fin(&mut ignored);
    let counts = rig.counts();
    assert_eq!((counts.accepted, counts.open), (1, 0));
    assert_eq!(uses(counts), (0, 0, 0));
    assert_eq!(excluded(&rig), [("ignored", 1)]);
    let _other = rig.connect();
    rig.until("another one is held", |e| e.counts(APP).waiting == 1);
    assert_eq!(uses(rig.counts()), (1, 1, 1));
}

/// The gate is shut where there is no lease, and an ignored client takes none.
#[test]
fn an_ignored_client_is_served_by_a_backend_whatever_the_gate_and_counts_nowhere() {
    let backend = backend();
    let mut rig = with_sources();
    rig.set_backends(&[&backend]);
    let mut ignored = connect_from(&rig, [127, 0, 0, 2]);
    ignored.write_all(b"check").unwrap();
    let mut server = rig.accept(&backend);
    rig.expect(&mut server, b"check");
    server.write_all(b"well").unwrap();
    rig.expect(&mut ignored, b"well");
    let counts = rig.counts();
    assert_eq!((counts.open, counts.forwarded), (1, 1));
    assert_eq!(uses(counts), (0, 0, 0));
    drop((ignored, server));
    rig.until("it is closed", |e| e.counts(APP).open == 0);
    assert_eq!(uses(rig.counts()), (0, 0, 0));
}

#[test]
fn a_denied_client_is_reset_and_never_reaches_a_pod() {
    let backend = backend();
    let mut rig = with_sources();
    rig.set_gate(true);
    rig.set_backends(&[&backend]);
    let mut denied = connect_from(&rig, [127, 0, 0, 3]);
    rig.expect_reset(&mut denied);
    assert_eq!(rig.counts(), Counts::default());
    assert_eq!(excluded(&rig), [("denied", 1)]);
    backend.set_nonblocking(true).unwrap();
    assert_eq!(backend.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// A server that has room for so many clients at a time, and says no to any other, as
/// PostgreSQL does at `max_connections`. It answers each number with the same number.
struct Server {
    listener: TcpListener,
    room: usize,
    open: Vec<TcpStream>,
    /// The most that were open at a time.
    peak: usize,
    refused: usize,
    /// The numbers of the clients, in the order in which they were served.
    served: Vec<usize>,
}

impl Server {
    fn new(room: usize) -> Server {
        let listener = backend();
        listener.set_nonblocking(true).unwrap();
        Server {
            listener,
            room,
            open: Vec::new(),
            peak: 0,
            refused: 0,
            served: Vec::new(),
        }
    }

    fn turn(&mut self) {
        self.open.retain_mut(|stream| {
            let mut number = [0; 2];
            match stream.read(&mut number) {
                Ok(0) => return false,
                Ok(_) => {
                    self.served.push(u16::from_be_bytes(number).into());
                    stream.write_all(&number).unwrap();
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
            true
        });
        while let Ok((stream, _)) = self.listener.accept() {
            if self.open.len() == self.room {
                self.refused += 1;
                // The client may have gone.
                let _ = (&stream).write(b"E");
                continue;
            }
            stream.set_nonblocking(true).unwrap();
            self.open.push(stream);
            self.peak = self.peak.max(self.open.len());
        }
    }
}

const HERD: usize = 500;

/// So many clients that wait for a wake, each with its number.
fn herd(rules: Rules) -> (Rig, Vec<TcpStream>) {
    let limits = Limits {
        max_connections: 2 * HERD,
        ..PROCESS
    };
    let mut rig = Rig::within(limits, LIMITS);
    rig.engine.set_rules(APP, &rules);
    let clients = (0..HERD).map(|n| {
        let mut client = rig.connect();
        client.write_all(&(n as u16).to_be_bytes()).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    });
    let clients = clients.collect();
    rig.until("all are held", |e| e.counts(APP).waiting == HERD);
    (rig, clients)
}

/// Serves the clients until each has its number back; returns how many were let down.
fn serve(rig: &mut Rig, clients: Vec<TcpStream>, server: &mut Server) -> usize {
    let mut clients: Vec<_> = clients.into_iter().map(Some).collect();
    let mut let_down = 0;
    rig.set_backends(&[&server.listener]);
    rig.set_gate(true);
    rig.until("all are served or let down", |_| {
        server.turn();
        for client in &mut clients {
            let Some(stream) = client else { continue };
            match stream.read(&mut [0; 2]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Ok(2) => *client = None,
                _ => (*client, let_down) = (None, let_down + 1),
            }
        }
        clients.iter().all(Option::is_none)
    });
    let_down
}

#[test]
fn five_hundred_held_clients_and_a_server_with_room_for_a_hundred_nobody_is_refused() {
    let (mut rig, clients) = herd(Rules {
        max_connections_per_pod: NonZeroU32::new(100),
        ..Rules::default()
    });
    let mut server = Server::new(100);
    assert_eq!(serve(&mut rig, clients, &mut server), 0);
    assert_eq!((server.refused, server.peak), (0, 100));
    assert_eq!(server.served.len(), HERD);
    for (turn, &client) in server.served.iter().enumerate() {
        let displaced = turn.abs_diff(client);
        assert!(displaced < 100, "{client} was served as number {turn}");
    }
    assert_eq!(rig.counts().held_too_long, 0);
}

/// What the limit is for: without it the same server refuses.
#[test]
fn without_a_limit_that_server_refuses_some_of_them() {
    let (mut rig, clients) = herd(Rules::default());
    let mut server = Server::new(100);
    serve(&mut rig, clients, &mut server);
    assert!(server.refused > 0);
}

#[test]
fn while_the_app_is_awake_the_next_one_waits_until_a_backend_has_room() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let rules = Rules {
        max_connections_per_pod: NonZeroU32::new(1),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let first = rig.connect();
    let server = rig.accept(&backend);
    let mut second = rig.connect();
    second.write_all(b"next").unwrap();
    rig.until("it waits", |e| {
        e.counts(APP).forwarded == 1 && e.counts(APP).waiting == 1
    });
    rig.settle();
    assert_eq!(rig.counts().forwarded, 1);
    assert!(rig.counts().is_full);
    assert_eq!(rig.engine.full_backends(PORT), 1);
    drop((first, server));
    let mut server = rig.accept(&backend);
    rig.expect(&mut server, b"next");
}

#[test]
fn at_the_hold_limit_one_that_waits_for_room_is_reset() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let rules = Rules {
        max_connections_per_pod: NonZeroU32::new(1),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let _first = rig.connect();
    let _server = rig.accept(&backend);
    let mut second = rig.connect();
    rig.until("it waits", |e| {
        e.counts(APP).forwarded == 1 && e.counts(APP).waiting == 1
    });
    rig.skew += LIMITS.hold_timeout;
    rig.expect_reset(&mut second);
    assert_eq!(rig.counts().open, 1, "the first lives on");
}

#[test]
fn those_who_waited_are_let_through_in_batches_that_double() {
    let (mut rig, _clients) = herd(Rules {
        release_rate: ReleaseRate::Doubling,
        ..Rules::default()
    });
    let mut server = Server::new(HERD);
    rig.set_backends(&[&server.listener]);
    rig.set_gate(true);
    let start = rig.now();
    let mut seen = Vec::new();
    for batch in 0..9 {
        let since_start = Duration::from_millis(if batch == 0 { 0 } else { batch * 100 + 99 });
        // A turn dials 64 at most.
        for _ in 0..20 {
            let now = start + since_start;
            rig.engine.wait(Some(Duration::ZERO), now).unwrap();
            rig.engine.dispatch(now);
            server.turn();
        }
        seen.push(rig.counts().forwarded);
    }
    assert_eq!(seen, [1, 3, 7, 15, 31, 63, 127, 255, 500]);
    assert_eq!(server.refused, 0);
}

#[test]
fn when_the_app_sleeps_what_is_silent_or_ignored_is_closed_and_what_counts_is_not() {
    let pod = backend();
    let mut rig = with_sources();
    let mut rules = Rules::default();
    rules.sources.ignored = "127.0.0.2".parse().unwrap();
    rules.idle.silence = Some(Duration::from_secs(30));
    rig.engine.set_rules(APP, &rules);
    rig.set_backends(&[&pod]);
    rig.set_gate(true);
    let mut silent = rig.connect();
    let _pod_of_silent = rig.accept(&pod);
    rig.until("it is served", |e| e.counts(APP).waiting == 0);
    rig.skew += Duration::from_secs(30);
    rig.until("it is silent", |e| e.counts(APP).counted == 0);
    let mut ignored = connect_from(&rig, [127, 0, 0, 2]);
    let _pod_of_ignored = rig.accept(&pod);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    rig.until("all are served", |e| e.counts(APP).forwarded == 3);
    rig.skew += Duration::from_secs(5);
    rig.engine.end_uncounted(APP);
    rig.expect_fin(&mut silent);
    rig.expect_fin(&mut ignored);
    assert_eq!(rig.counts().open, 1);
    client.write_all(b"still here").unwrap();
    rig.expect(&mut server, b"still here");
    let slept = rig
        .engine
        .counters(PORT)
        .unwrap()
        .closed_by_reason()
        .into_iter();
    let slept: Vec<_> = slept.filter(|(_, count)| *count > 0).collect();
    assert_eq!(slept, [(["asleep", "relaying"], 2)]);
}

#[test]
fn a_detached_client_is_served_by_another_backend_and_ends_with_the_proxy() {
    let (pod, other) = (backend(), backend());
    let mut rig = Rig::open(&[&pod]);
    let mut rules = Rules::default();
    rules.idle.silence = Some(Duration::from_secs(30));
    rules.idle.silent = SilentConnections::Detach;
    rules.max_per_source = NonZeroU32::new(1);
    rig.engine.set_rules(APP, &rules);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    client.write_all(b"ask").unwrap();
    rig.expect(&mut server, b"ask");
    server.write_all(b"answer").unwrap();
    rig.expect(&mut client, b"answer");
    for (next, pod) in [(&b"second"[..], &other), (b"third", &pod)] {
        rig.skew += Duration::from_secs(30);
        rig.until("it is silent", |e| e.counts(APP).counted == 0);
        sleep(&mut rig);
        rig.expect_fin(&mut server);
        // It has its place at the proxy all the time.
        rig.expect_reset(&mut rig.connect());
        let counts = rig.counts();
        assert_eq!((counts.open, counts.counted, counts.detached), (1, 0, 1));
        rig.skew += Duration::from_secs(3600);
        client.write_all(next).unwrap();
        rig.until("it is held", |e| e.counts(APP).waiting == 1);
        rig.set_backends(&[pod]);
        rig.set_gate(true);
        server = rig.accept(pod);
        rig.expect(&mut server, next);
        server.write_all(b"answer").unwrap();
        rig.expect(&mut client, b"answer");
    }
    rig.skew += Duration::from_secs(30);
    rig.until("it is silent", |e| e.counts(APP).counted == 0);
    sleep(&mut rig);
    assert_eq!(rig.counts().detached, 1);
    let now = rig.now();
    rig.engine.stop_accepting(APP, now);
    rig.expect_fin(&mut client);
    assert_eq!((rig.counts().open, rig.counts().detached), (0, 0));
    assert_eq!(rig.engine.counters(PORT).unwrap().reattached, 2);
}

/// Nobody else is served by a place that is kept for a client that says nothing.
#[test]
fn the_longest_detached_connection_makes_room_for_a_new_one() {
    let pod = backend();
    let limits = Limits {
        max_connections: 2,
        ..PROCESS
    };
    let mut rig = Rig::within(limits, LIMITS);
    rig.set_gate(true);
    rig.set_backends(&[&pod]);
    let mut rules = Rules::default();
    rules.idle.silence = Some(Duration::from_secs(30));
    rules.idle.silent = SilentConnections::Detach;
    rig.engine.set_rules(APP, &rules);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = rig.connect();
        let mut server = rig.accept(&pod);
        server.write_all(b"hello").unwrap();
        rig.expect(&mut client, b"hello");
        rig.skew += Duration::from_secs(1);
        clients.push((client, server));
    }
    rig.skew += Duration::from_secs(30);
    rig.until("both are silent", |e| e.counts(APP).counted == 0);
    sleep(&mut rig);
    assert_eq!(rig.counts().detached, 2);
    let _new = rig.connect();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    rig.expect_fin(&mut clients[0].0);
    assert_eq!((rig.counts().open, rig.counts().detached), (2, 1));
}

/// Everything was acknowledged by then: the kernel delays that for 40 ms.
fn sleep(rig: &mut Rig) {
    rig.settle();
    rig.set_gate(false);
    rig.engine.end_uncounted(APP);
    rig.turn();
    rig.set_backends(&[]);
}

#[test]
fn a_byte_that_ends_a_silence_is_passed_on_when_the_gate_opens() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let mut rules = Rules::default();
    rules.idle.silence = Some(Duration::from_secs(30));
    // Its only pod is full, of itself: it needs no further room.
    rules.max_connections_per_pod = NonZeroU32::new(1);
    rig.engine.set_rules(APP, &rules);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    rig.until("it is served", |e| e.counts(APP).waiting == 0);
    rig.set_gate(false);
    rig.skew += Duration::from_secs(30);
    rig.until("it is silent", |e| e.counts(APP).counted == 0);
    client.write_all(b"again").unwrap();
    rig.until("its byte waits", |e| e.counts(APP).waiting == 1);
    rig.settle();
    server.set_nonblocking(true).unwrap();
    assert_eq!(
        server.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    rig.set_gate(true);
    rig.expect(&mut server, b"again");
    assert_eq!(uses(rig.counts()), (1, 0, 2));
}

#[test]
fn a_load_balancer_says_whose_connection_it_is_and_the_backend_gets_the_bytes_after_that() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let rules = Rules {
        accept_proxy_protocol: "127.0.0.1".parse().unwrap(),
        send_proxy_protocol: Some(Version::V2),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let mut client = rig.connect();
    client.write_all(b"PROXY TCP4 192.0.2.7 ").unwrap();
    rig.until("it is accepted", |e| e.counts(APP).open == 1);
    rig.settle();
    assert_eq!(uses(rig.engine.counts(APP)), (0, 0, 0));
    client.write_all(b"10.0.0.1 1 2\r\nhello").unwrap();
    let mut server = rig.accept(&backend);
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xC0\0\x02\x07\x0A\0\0\x01\0\x01\0\x02";
    rig.expect(&mut server, &[&header[..], b"hello"].concat());
    server.write_all(b"good day").unwrap();
    rig.expect(&mut client, b"good day");
    assert_eq!(uses(rig.engine.counts(APP)), (1, 0, 1));
}

#[test]
fn a_load_balancer_that_is_silent_is_reset_after_five_seconds() {
    let mut rig = Rig::new(LIMITS);
    let rules = Rules {
        accept_proxy_protocol: "127.0.0.1".parse().unwrap(),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let mut client = rig.connect();
    rig.until("it is accepted", |e| e.counts(APP).open == 1);
    rig.skew += Duration::from_secs(5);
    rig.expect_reset(&mut client);
    assert_eq!(uses(rig.engine.counts(APP)), (0, 0, 0));
}

/// The first bytes are looked at where they are, and a backend gets all of them.
#[test]
fn a_connection_is_dialled_and_counts_once_its_first_bytes_are_there() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut rules = Rules::default();
    rules.first_bytes.wake_on = WakeOn::Tls;
    rig.engine.set_rules(APP, &rules);
    let mut client = rig.connect();
    client.write_all(&[22, 3, 1]).unwrap();
    rig.until("it is accepted", |e| e.counts(APP).open == 1);
    rig.settle();
    assert_eq!(uses(rig.counts()), (0, 0, 0));
    client.write_all(&[0, 9, 1, 7]).unwrap();
    let mut server = rig.accept(&backend);
    rig.expect(&mut server, &[22, 3, 1, 0, 9, 1, 7]);
    assert_eq!(uses(rig.counts()), (1, 0, 1));
}

/// A port scan, and a check whether somebody listens.
#[test]
fn a_connection_without_a_byte_is_dialled_to_nobody_and_counts_nowhere() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut rules = Rules::default();
    rules.first_bytes.wake_on = WakeOn::FirstByte;
    rig.engine.set_rules(APP, &rules);
    for _ in 0..5 {
        let mut client = rig.connect();
        client.shutdown(Shutdown::Write).unwrap();
        rig.expect_fin(&mut client);
    }
    rig.settle();
    backend.set_nonblocking(true).unwrap();
    assert_eq!(backend.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(uses(rig.counts()), (0, 0, 0));
}

#[test]
fn at_the_hold_limit_a_client_reads_the_whole_answer_though_its_request_was_read_by_nobody() {
    let mut rig = Rig::new(LIMITS);
    let rules = Rules {
        hold_answer: Some(HoldAnswer::Http),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let mut client = rig.connect();
    client.write_all(&[b'x'; 9000]).unwrap();
    rig.until("it is held", |e| e.counts(APP).waiting == 1);
    rig.skew += LIMITS.hold_timeout;
    let mut answer = Vec::new();
    while !answer.ends_with(b"soon\n") {
        let more = rig.read(&mut client).unwrap();
        assert!(!more.is_empty(), "{answer:?}");
        answer.extend(more);
    }
    assert!(answer.starts_with(b"HTTP/1.1 503 "));
    rig.expect_fin(&mut client);
    drop(client);
    rig.until("it is closed", |e| e.counts(APP).open == 0);
    assert_eq!(rig.counts().held_too_long, 1);
}

#[test]
fn a_source_at_its_limit_is_reset_until_one_of_its_connections_ends() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let rules = Rules {
        max_per_source: NonZeroU32::new(2),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let first = rig.connect();
    let _second = rig.connect();
    rig.until("both are served", |e| e.counts(APP).forwarded == 2);
    let mut third = rig.connect();
    rig.expect_reset(&mut third);
    assert_eq!(excluded(&rig), [("source_limit", 1)]);
    let _other = connect_from(&rig, [127, 0, 0, 2]);
    rig.until("another source has room", |e| e.counts(APP).forwarded == 3);
    reset(first);
    rig.until("one has left", |e| e.counts(APP).open == 2);
    let _fourth = rig.connect();
    rig.until("there is room again", |e| e.counts(APP).forwarded == 4);
}

/// The limit is about the clients that a load balancer hands on, not about itself.
#[test]
fn a_client_that_is_handed_on_is_counted_for_its_own_source() {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let rules = Rules {
        max_per_source: NonZeroU32::new(1),
        accept_proxy_protocol: "127.0.0.1".parse().unwrap(),
        ..Rules::default()
    };
    rig.engine.set_rules(APP, &rules);
    let hand_on = |rig: &Rig, client: &str| {
        let mut stream = rig.connect();
        let header = format!("PROXY TCP4 {client} 10.0.0.1 1 2\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        stream
    };
    let first = hand_on(&rig, "192.0.2.1");
    let _other = hand_on(&rig, "192.0.2.2");
    rig.until("both are served", |e| e.counts(APP).forwarded == 2);
    let mut second = hand_on(&rig, "192.0.2.1");
    rig.expect_reset(&mut second);
    reset(first);
    rig.until("it has left", |e| e.counts(APP).open == 1);
    let _third = hand_on(&rig, "192.0.2.1");
    rig.until("there is room again", |e| e.counts(APP).forwarded == 3);
}
