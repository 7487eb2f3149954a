//! The engine over real loopback sockets, without Kubernetes. One thread plays
//! the client, the pod and the loop; time can be made to pass.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use zpa::clock::Time;
use zpa::engine::{AdminLimits, Engine, Limits};
use zpa::sys;

const PATIENCE: Duration = Duration::from_secs(20);

const LIMITS: Limits = Limits {
    max_connections: 100,
    hold_timeout: Duration::from_secs(60),
    connect_timeout: Duration::from_secs(2),
};

/// An engine, and a clock that can be put forward.
struct Rig {
    engine: Engine,
    skew: Duration,
}

impl Rig {
    fn new(limits: Limits) -> Rig {
        let engine = Engine::new(([127, 0, 0, 1], 0).into(), limits).unwrap();
        Rig {
            engine,
            skew: Duration::ZERO,
        }
    }

    /// The gate is open and these may be dialled.
    fn open(backends: &[&TcpListener]) -> Rig {
        let mut rig = Rig::new(LIMITS);
        rig.engine.set_gate(true);
        rig.set_backends(backends);
        rig
    }

    fn set_backends(&mut self, backends: &[&TcpListener]) {
        let addresses: Vec<_> = backends.iter().map(|b| b.local_addr().unwrap()).collect();
        let now = self.now();
        self.engine.set_backends(&addresses, now);
    }

    fn now(&self) -> Time {
        sys::boot_time() + self.skew
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.engine.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn turn(&mut self) {
        self.engine
            .wait(Some(Duration::from_millis(2)), self.now())
            .unwrap();
        self.engine.dispatch(self.now());
    }

    /// Turns for a while in which whatever is going to happen at once happens.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.turn();
        }
    }

    /// Turns until `done`; fails after a while.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Engine) -> bool) {
        let start = Instant::now();
        while !done(&mut self.engine) {
            assert!(
                start.elapsed() < PATIENCE,
                "never: {what}; {:?}",
                self.engine.counts()
            );
            self.turn();
        }
    }

    /// Turns until the thread has ended, and returns what it returns.
    fn join<T>(&mut self, handle: thread::JoinHandle<T>) -> T {
        self.until("the other side is done", |_| handle.is_finished());
        handle.join().unwrap()
    }

    /// Turns until a pod has accepted.
    fn accept(&mut self, listener: &TcpListener) -> TcpStream {
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        self.until("a pod accepts", |_| {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Turns until `stream` has something to read, and reads it once.
    fn read(&mut self, stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        stream.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 65536];
        let mut result = None;
        self.until("something to read", |_| {
            match stream.read(&mut buffer) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                other => result = Some(other),
            }
            result.is_some()
        });
        stream.set_nonblocking(false).unwrap();
        result.unwrap().map(|len| buffer[..len].to_vec())
    }

    fn expect(&mut self, stream: &mut TcpStream, bytes: &[u8]) {
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let more = self.read(stream).unwrap();
            assert!(!more.is_empty(), "the stream ended after {got:?}");
            got.extend(more);
        }
        assert_eq!(got, bytes);
    }

    fn expect_reset(&mut self, stream: &mut TcpStream) {
        match self.read(stream) {
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
            Ok(bytes) => panic!("{} bytes in place of a reset", bytes.len()),
        }
    }

    fn expect_fin(&mut self, stream: &mut TcpStream) {
        assert_eq!(self.read(stream).unwrap(), b"");
    }
}

fn backend() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Closes with an RST.
fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// An address that refuses.
fn refusing() -> TcpListener {
    // Bound and not listening: nobody else can get the port either.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.into()
}

/// An address that does not answer: its queue is full, so that the kernel
/// drops every further SYN. Keep what fills it.
fn silent() -> (TcpListener, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        filling.push(stream);
    }
    (listener, filling)
}

#[test]
fn what_comes_while_the_gate_is_shut_is_held_unread_and_handed_over_in_order() {
    let pod = backend();
    let mut rig = Rig::new(LIMITS);
    rig.set_backends(&[&pod]);
    let mut clients: Vec<_> = (0..20u8)
        .map(|n| {
            let mut client = rig.connect();
            client.write_all(&[n]).unwrap();
            client
        })
        .collect();
    rig.until("all are held", |e| e.counts().waiting == 20);
    assert_eq!(rig.engine.counts().handed_over, 0);
    rig.engine.set_gate(true);
    let mut served: Vec<_> = (0..20).map(|_| rig.accept(&pod)).collect();
    for (n, (client, pod)) in clients.iter_mut().zip(&mut served).enumerate() {
        rig.expect(pod, &[n as u8]);
        pod.write_all(b"hello").unwrap();
        rig.expect(client, b"hello");
    }
    let counts = rig.engine.counts();
    assert_eq!(
        (counts.open, counts.waiting, counts.handed_over),
        (20, 0, 20)
    );
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    server.write_all(b"220 ready").unwrap();
    rig.expect(&mut client, b"220 ready");
}

#[test]
fn a_client_that_half_closes_while_held_is_served_and_its_fin_comes_after_its_bytes() {
    let pod = backend();
    let mut rig = Rig::new(LIMITS);
    let mut client = rig.connect();
    client.write_all(b"request").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    rig.until("it is held", |e| e.counts().waiting == 1);
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.engine.counts().open, 1, "a FIN is no reason to go");
    rig.engine.set_gate(true);
    rig.set_backends(&[&pod]);
    let mut server = rig.accept(&pod);
    rig.expect(&mut server, b"request");
    rig.expect_fin(&mut server);
    server.write_all(b"reply").unwrap();
    drop(server);
    rig.expect(&mut client, b"reply");
    rig.expect_fin(&mut client);
    rig.until("it is closed", |e| e.counts().open == 0);
}

#[test]
fn a_client_that_resets_while_held_frees_its_slot_at_once() {
    let mut rig = Rig::new(LIMITS);
    let mut client = rig.connect();
    client.write_all(b"unread").unwrap();
    rig.until("it is held", |e| e.counts().waiting == 1);
    reset(client);
    rig.until("it is gone", |e| e.counts().open == 0);
    assert_eq!(rig.engine.counts().waiting, 0);
}

#[test]
fn fifty_mebibytes_each_way_and_a_half_close_arrive_byte_by_byte() {
    const LEN: usize = 50 << 20;
    fn send(mut stream: TcpStream, seed: u8) {
        let chunk: Vec<u8> = (0..=250u8).map(|n| n ^ seed).collect();
        let mut left = LEN;
        while left > 0 {
            let len = left.min(chunk.len());
            stream.write_all(&chunk[..len]).unwrap();
            left -= len;
        }
        stream.shutdown(Shutdown::Write).unwrap();
    }
    fn receive(mut stream: TcpStream, seed: u8) {
        let mut all = Vec::with_capacity(LEN);
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), LEN);
        assert!(
            all.iter()
                .enumerate()
                .all(|(at, &b)| b == (at % 251) as u8 ^ seed)
        );
    }
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let client = rig.connect();
    let server = rig.accept(&pod);
    let handles = [
        (
            client.try_clone().unwrap(),
            server.try_clone().unwrap(),
            0x55,
        ),
        (server, client, 0xAA),
    ]
    .map(|(from, to, seed)| {
        (
            thread::spawn(move || send(from, seed)),
            thread::spawn(move || receive(to, seed)),
        )
    });
    for (sender, receiver) in handles {
        rig.join(sender);
        rig.join(receiver);
    }
    rig.until("it is closed", |e| e.counts().open == 0);
}

#[test]
fn an_address_that_refuses_is_followed_by_the_next() {
    let (dead, pod) = (refusing(), backend());
    let mut rig = Rig::open(&[&dead, &pod]);
    let clients: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    for _ in &clients {
        rig.accept(&pod);
    }
    rig.until("all are handed over", |e| e.counts().handed_over == 4);
    assert!(rig.engine.counts().failed_dials >= 1);
}

#[test]
fn an_address_that_swallows_syns_is_given_up_after_the_connect_timeout() {
    let ((hole, _filling), pod) = (silent(), backend());
    let mut rig = Rig::open(&[&hole]);
    let _client = rig.connect();
    rig.until("it is being dialled", |e| e.counts().waiting == 1);
    rig.set_backends(&[&hole, &pod]);
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.engine.counts().failed_dials, 0);
    rig.skew += LIMITS.connect_timeout;
    rig.accept(&pod);
    assert_eq!(rig.engine.counts().failed_dials, 1);
}

#[test]
fn when_no_pod_answers_at_all_the_way_leads_through_the_service() {
    let ((hole, _filling), service) = (silent(), backend());
    let mut rig = Rig::open(&[&hole]);
    rig.engine.set_fallback(Some(service.local_addr().unwrap()));
    let _client = rig.connect();
    rig.until("it is being dialled", |e| e.counts().waiting == 1);
    rig.skew += LIMITS.connect_timeout;
    rig.accept(&service);
}

#[test]
fn a_pod_that_refuses_is_not_sought_through_the_service() {
    let (dead, service) = (refusing(), backend());
    let mut rig = Rig::open(&[&dead]);
    rig.engine.set_fallback(Some(service.local_addr().unwrap()));
    let _client = rig.connect();
    rig.until("it was refused twice", |e| e.counts().failed_dials >= 2);
    service.set_nonblocking(true).unwrap();
    assert_eq!(service.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_pod_that_is_ready_before_it_listens_is_dialled_until_it_does() {
    let dead = refusing();
    let mut rig = Rig::open(&[&dead]);
    let mut client = rig.connect();
    client.write_all(b"patience").unwrap();
    rig.until("it was refused", |e| e.counts().failed_dials >= 3);
    SockRef::from(&dead).listen(16).unwrap();
    let mut server = rig.accept(&dead);
    rig.expect(&mut server, b"patience");
}

#[test]
fn an_address_that_refuses_is_dialled_with_pauses_that_grow_to_a_second() {
    const SECONDS: u64 = 10;
    const STEP: Duration = Duration::from_millis(20);
    let dead = refusing();
    let mut rig = Rig::open(&[&dead]);
    let _client = rig.connect();
    rig.until("it was refused", |e| e.counts().failed_dials >= 1);
    let start = rig.now();
    while rig.now().since(start) < Duration::from_secs(SECONDS) {
        rig.skew += STEP;
        rig.turn();
    }
    let dials = rig.engine.counts().failed_dials;
    // 10, 20, … 640 ms, and then a second each time.
    assert!((7..=8 + SECONDS).contains(&dials), "{dials}");
}

#[test]
fn a_new_address_is_tried_at_once_by_those_that_found_none_to_take_them() {
    let (dead, pod) = (refusing(), backend());
    let mut rig = Rig::open(&[&dead]);
    let _client = rig.connect();
    rig.until("it was refused often", |e| e.counts().failed_dials >= 8);
    rig.set_backends(&[&dead, &pod]);
    let start = Instant::now();
    rig.accept(&pod);
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn at_the_hold_limit_and_not_before_it_the_client_is_reset() {
    let mut rig = Rig::new(LIMITS);
    let mut client = rig.connect();
    rig.until("it is held", |e| e.counts().waiting == 1);
    rig.skew += LIMITS.hold_timeout - Duration::from_secs(10);
    rig.turn();
    assert_eq!(rig.engine.counts().open, 1);
    rig.skew += Duration::from_secs(10);
    rig.expect_reset(&mut client);
    assert_eq!(rig.engine.counts().held_too_long, 1);
    assert_eq!(rig.engine.counts().open, 0);
}

#[test]
fn the_hold_limit_ends_the_dialling_too() {
    let dead = refusing();
    let mut rig = Rig::open(&[&dead]);
    let mut client = rig.connect();
    rig.until("it was refused", |e| e.counts().failed_dials >= 2);
    rig.skew += LIMITS.hold_timeout;
    rig.expect_reset(&mut client);
    assert_eq!(rig.engine.counts().held_too_long, 1);
}

#[test]
fn a_pod_that_breaks_off_before_the_first_byte_is_replaced_by_another() {
    let (first, second) = (backend(), backend());
    let mut rig = Rig::open(&[&first]);
    let mut client = rig.connect();
    let server = rig.accept(&first);
    rig.until("it is handed over", |e| e.counts().handed_over == 1);
    rig.set_backends(&[&second]);
    reset(server);
    let mut server = rig.accept(&second);
    client.write_all(b"hello").unwrap();
    rig.expect(&mut server, b"hello");
    assert_eq!(rig.engine.counts().waiting, 0);
}

#[test]
fn a_pod_that_dies_with_bytes_of_the_client_is_not_replaced() {
    let (first, second) = (backend(), backend());
    let mut rig = Rig::open(&[&first]);
    let mut client = rig.connect();
    let mut server = rig.accept(&first);
    client.write_all(b"pay 100").unwrap();
    rig.expect(&mut server, b"pay 100");
    rig.set_backends(&[&second]);
    reset(server);
    rig.expect_reset(&mut client);
    second.set_nonblocking(true).unwrap();
    assert!(second.accept().is_err());
}

#[test]
fn what_a_pod_sends_before_it_resets_arrives_before_the_reset() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    client.write_all(b"request").unwrap();
    rig.expect(&mut server, b"request");
    let reply = vec![b'x'; 100_000];
    server.write_all(&reply).unwrap();
    rig.turn();
    reset(server);
    rig.expect(&mut client, &reply);
    rig.expect_reset(&mut client);
    rig.until("it is closed", |e| e.counts().open == 0);
}

#[test]
fn what_a_pod_sent_before_it_resets_waits_for_a_client_that_reads_late() {
    let (mut rig, mut client, mut server) = in_conversation();
    let sent = fill(&mut rig, &mut server);
    let on_its_way = sys::unacknowledged(&server).unwrap();
    reset(server);
    for _ in 0..20 {
        rig.turn();
    }
    assert_eq!(rig.engine.counts().open, 1, "there is something to deliver");
    let mut got = 0;
    let end = loop {
        match rig.read(&mut client) {
            Ok(bytes) if bytes.is_empty() => panic!("a FIN after {got} bytes"),
            Ok(bytes) => got += bytes.len(),
            Err(e) => break e.kind(),
        }
    };
    assert_eq!(end, ErrorKind::ConnectionReset);
    assert!(got >= sent - on_its_way, "{got} of {sent} - {on_its_way}");
    rig.until("it is closed", |e| e.counts().open == 0);
}

#[test]
fn what_a_pod_sent_before_it_resets_waits_for_a_client_as_long_as_it_goes_on_reading() {
    const PIECE: usize = 1 << 20;
    let (mut rig, mut client, mut server) = in_conversation();
    // Nearly all of it is to wait on the way there, and not with the client.
    SockRef::from(&client)
        .set_recv_buffer_size(64 * 1024)
        .unwrap();
    let sent = fill(&mut rig, &mut server);
    let on_its_way = sys::unacknowledged(&server).unwrap();
    reset(server);
    let (mut got, mut pieces) = (0, 0);
    let end = loop {
        match rig.read(&mut client) {
            Ok(bytes) if bytes.is_empty() => panic!("a FIN after {got} bytes"),
            Ok(bytes) => got += bytes.len(),
            Err(e) => break e.kind(),
        }
        if got / PIECE > pieces {
            pieces = got / PIECE;
            rig.settle();
            rig.skew += Duration::from_secs(50);
            rig.turn();
        }
    };
    assert_eq!(end, ErrorKind::ConnectionReset);
    assert!(got >= sent - on_its_way, "{got} of {sent} - {on_its_way}");
    assert!(pieces >= 2, "it takes more than a minute");
    rig.until("it is closed", |e| e.counts().open == 0);
}

#[test]
fn a_client_that_resets_takes_the_pods_side_with_it() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    client.write_all(b"last words").unwrap();
    rig.expect(&mut server, b"last words");
    reset(client);
    rig.expect_reset(&mut server);
    rig.until("it is closed", |e| e.counts().open == 0);
}

/// More than fits into [`ended`]'s reader's window, less than fits into that and our
/// send buffer.
const REST: usize = 100_000;

/// A connection of which both sides have sent their FIN, and whose client has not
/// read yet what it was sent before.
fn ended() -> (Rig, TcpStream) {
    let (mut rig, client, mut server) = in_conversation();
    let window = SockRef::from(&client).set_recv_buffer_size(16 * 1024);
    window.unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.write_all(&[b'x'; REST]).unwrap();
    rig.expect_fin(&mut server);
    drop(server);
    rig.settle();
    (rig, client)
}

/// Closed, its sockets would belong to nobody, and the kernel forgets those of a
/// reader that pauses, and all when the network goes.
#[test]
fn a_connection_that_has_ended_is_open_until_a_reader_that_pauses_has_everything() {
    let (mut rig, mut client) = ended();
    rig.skew += Duration::from_secs(3600);
    rig.settle();
    assert_eq!(rig.engine.counts().open, 1, "there is something to deliver");
    let mut got = 0;
    while got < REST {
        got += rig.read(&mut client).unwrap().len();
    }
    rig.expect_fin(&mut client);
    rig.until("it is closed", |e| e.counts().open == 0);
}

#[test]
fn a_reader_that_resets_after_the_end_of_its_connection_is_let_go() {
    let (mut rig, client) = ended();
    assert_eq!(rig.engine.counts().open, 1, "there is something to deliver");
    reset(client);
    rig.until("it is closed", |e| e.counts().open == 0);
}

/// Writes until nothing more is taken, also not after a while in which the
/// kernel may have widened its windows; returns how much was.
fn fill(rig: &mut Rig, stream: &mut TcpStream) -> usize {
    let mut total = 0;
    loop {
        match stuff(rig, stream) {
            0 => return total,
            len => total += len,
        }
        assert!(total < 64 << 20, "the bytes must be somewhere");
    }
}

/// Writes until nothing more is taken; returns how much was.
fn stuff(rig: &mut Rig, stream: &mut TcpStream) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut total, mut blocked) = (0, 0);
    while blocked < 20 {
        match stream.write(&[b'z'; 65536]) {
            Ok(len) => (total, blocked) = (total + len, 0),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock);
                blocked += 1;
                rig.turn();
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    total
}

#[test]
fn when_both_write_and_neither_reads_nothing_grows_and_nothing_is_lost() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    let mut up = fill(&mut rig, &mut client);
    let down = fill(&mut rig, &mut server);
    up += fill(&mut rig, &mut client);
    for (stream, len) in [(&mut server, up), (&mut client, down)] {
        let mut got = 0;
        while got < len {
            got += rig.read(stream).unwrap().len();
        }
        assert_eq!(got, len);
    }
}

/// A side that does not read before it has written, and one that goes without
/// having read: nobody reads any more, and no event is ever going to come.
#[test]
fn a_client_that_resets_when_neither_reads_takes_the_pods_side_with_it_after_a_while() {
    let (mut rig, client, _server) = full_both_ways();
    reset(client);
    expect_end_after_a_while(&mut rig);
}

#[test]
fn a_pod_that_resets_when_neither_reads_takes_the_clients_side_with_it_after_a_while() {
    let (mut rig, _client, server) = full_both_ways();
    reset(server);
    expect_end_after_a_while(&mut rig);
}

#[test]
fn a_remaining_side_is_reset_a_minute_after_it_has_last_taken_something() {
    let (mut rig, client, mut server) = full_both_ways();
    reset(client);
    rig.settle();
    rig.skew += Duration::from_secs(50);
    let mut got = 0;
    while got < 1 << 20 {
        got += rig.read(&mut server).unwrap().len();
    }
    rig.settle();
    rig.skew += Duration::from_secs(50);
    rig.settle();
    assert_eq!(rig.engine.counts().open, 1, "it has just taken something");
    rig.skew += Duration::from_secs(11);
    rig.until("it is closed", |e| e.counts().open == 0);
}

/// The machine slept, and the first event after that is of a remaining side that has room
/// for more than is moved at once, but has acknowledged nothing for a minute.
#[test]
fn a_remaining_side_that_has_room_again_when_its_time_is_up_is_closed_like_any_other() {
    let (mut rig, mut client, mut server) = in_conversation();
    fill(&mut rig, &mut client);
    reset(client);
    rig.settle();
    let mut got = 0;
    while got < 2 << 20 {
        got += server.read(&mut [0; 65536]).unwrap();
    }
    rig.skew += Duration::from_secs(10);
    rig.engine.dispatch(rig.now());
    rig.skew += Duration::from_secs(61);
    rig.until("it is closed", |e| e.counts().open == 0);
}

fn full_both_ways() -> (Rig, TcpStream, TcpStream) {
    let (mut rig, mut client, mut server) = in_conversation();
    fill(&mut rig, &mut client);
    fill(&mut rig, &mut server);
    fill(&mut rig, &mut client);
    (rig, client, server)
}

fn expect_end_after_a_while(rig: &mut Rig) {
    rig.settle();
    rig.skew += Duration::from_secs(600);
    rig.until("it is closed", |e| e.counts().open == 0);
}

#[test]
fn a_reader_that_stalls_does_not_hold_up_the_others() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let _stalled = rig.connect();
    let mut flooding = rig.accept(&pod);
    fill(&mut rig, &mut flooding);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    client.write_all(b"ping").unwrap();
    rig.expect(&mut server, b"ping");
    server.write_all(b"pong").unwrap();
    rig.expect(&mut client, b"pong");
}

#[test]
fn beyond_the_limit_connections_wait_in_the_kernel_and_none_is_refused() {
    let pod = backend();
    let mut rig = Rig::new(Limits {
        max_connections: 2,
        ..LIMITS
    });
    rig.engine.set_gate(true);
    rig.set_backends(&[&pod]);
    let mut clients: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    clients[2].write_all(b"third").unwrap();
    let first = rig.accept(&pod);
    let _second = rig.accept(&pod);
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.engine.counts().open, 2);
    drop((first, clients.remove(0)));
    let mut third = rig.accept(&pod);
    rig.expect(&mut third, b"third");
}

#[test]
fn the_pod_with_the_fewest_connections_gets_the_next() {
    let (one, other) = (backend(), backend());
    let mut rig = Rig::open(&[&one, &other]);
    let _clients: Vec<_> = (0..6).map(|_| rig.connect()).collect();
    let mut served = Vec::new();
    for pod in [&one, &other] {
        served.extend((0..3).map(|_| rig.accept(pod)));
    }
}

#[test]
fn connections_to_a_pod_that_leaves_the_list_live_on() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    rig.until("it is handed over", |e| e.counts().handed_over == 1);
    rig.set_backends(&[]);
    rig.engine.set_gate(false);
    client.write_all(b"still here").unwrap();
    rig.expect(&mut server, b"still here");
}

#[test]
fn after_the_last_accept_those_in_the_queue_are_served_and_later_ones_refused() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let address = rig.engine.local_addr().unwrap();
    let mut client = rig.connect();
    rig.engine.stop_accepting(rig.now());
    assert!(TcpStream::connect(address).is_err());
    let mut server = rig.accept(&pod);
    client.write_all(b"made it").unwrap();
    rig.expect(&mut server, b"made it");
    rig.engine.reset_all();
    rig.expect_reset(&mut client);
    rig.expect_reset(&mut server);
    assert_eq!(rig.engine.counts().open, 0);
}

#[test]
fn a_thousand_connections_that_come_and_go_leave_nothing_behind() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let address = rig.engine.local_addr().unwrap();
    let serving = thread::spawn(move || {
        for _ in 0..1000 {
            let (mut stream, _) = pod.accept().unwrap();
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|len| len > 0) {
                    if stream.write_all(&byte).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let before = descriptors();
    let clients = thread::spawn(move || {
        for n in 0..1000 {
            let mut stream = TcpStream::connect(address).unwrap();
            if n % 3 > 0 {
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
            }
            if n % 5 == 0 {
                reset(stream);
            }
        }
    });
    rig.join(clients);
    rig.until("all are closed", |e| {
        e.counts().accepted == 1000 && e.counts().open == 0
    });
    // A client that is gone before it was dialled is not dialled, so the pod
    // may have seen fewer: let it go.
    drop(serving);
    let counts = rig.engine.counts();
    assert_eq!((counts.waiting, counts.held_too_long), (0, 0));
    assert!(
        descriptors() < before + 50,
        "the other tests' sockets, not ours"
    );
}

/// What a peer sees until its stream ends, one entry for each read, and how it
/// ends.
fn story(rig: &mut Rig, stream: &mut TcpStream) -> Vec<String> {
    let mut saw = Vec::new();
    loop {
        match rig.read(stream) {
            Ok(bytes) if bytes.is_empty() => saw.push("FIN".to_owned()),
            Ok(bytes) => {
                saw.push(String::from_utf8(bytes).unwrap());
                continue;
            }
            Err(e) => saw.push(format!("{:?}", e.kind())),
        }
        return saw;
    }
}

/// A client and a pod that have spoken, and a loop that has nothing to do.
fn in_conversation() -> (Rig, TcpStream, TcpStream) {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    client.write_all(b"hello").unwrap();
    rig.expect(&mut server, b"hello");
    for _ in 0..5 {
        rig.turn();
    }
    (rig, client, server)
}

/// The client's event comes first in the batch, so that a write to the pod
/// meets its reset before a read does.
#[test]
fn a_pods_reset_noticed_by_a_write_is_not_shown_to_the_client_as_a_fin() {
    let (mut rig, mut client, mut server) = in_conversation();
    client.write_all(b"more").unwrap();
    server.write_all(b"half a reply").unwrap();
    reset(server);
    assert_eq!(
        story(&mut rig, &mut client),
        ["half a reply", "ConnectionReset"]
    );
}

#[test]
fn a_clients_reset_noticed_by_a_write_is_not_shown_to_the_pod_as_a_fin() {
    let (mut rig, mut client, mut server) = in_conversation();
    server.write_all(b"progress").unwrap();
    client.write_all(b"part").unwrap();
    reset(client);
    assert_eq!(story(&mut rig, &mut server), ["part", "ConnectionReset"]);
}

#[test]
fn a_pod_that_breaks_off_as_the_client_first_writes_is_replaced() {
    let (first, second) = (backend(), backend());
    let mut rig = Rig::open(&[&first]);
    let mut client = rig.connect();
    let server = rig.accept(&first);
    rig.until("handed over", |e| e.counts().handed_over == 1);
    for _ in 0..5 {
        rig.turn();
    }
    rig.set_backends(&[&second]);
    client.write_all(b"hello").unwrap();
    reset(server);
    let mut server = rig.accept(&second);
    rig.expect(&mut server, b"hello");
}

/// The client's FIN and the pod's RST share a batch.
#[test]
fn an_event_of_the_old_pod_socket_does_not_fail_the_new_attempt() {
    let (first, second) = (backend(), backend());
    let mut rig = Rig::open(&[&first]);
    let client = rig.connect();
    let server = rig.accept(&first);
    rig.until("handed over", |e| e.counts().handed_over == 1);
    for _ in 0..5 {
        rig.turn();
    }
    rig.set_backends(&[&second]);
    client.shutdown(Shutdown::Write).unwrap();
    reset(server);
    let _server = rig.accept(&second);
    for _ in 0..20 {
        rig.turn();
    }
    assert_eq!(
        rig.engine.counts().failed_dials,
        1,
        "only the first pod has failed"
    );
}

#[test]
fn bytes_behind_urgent_data_are_not_forgotten() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let mut client = rig.connect();
    let mut server = rig.accept(&pod);
    rig.until("handed over", |e| e.counts().handed_over == 1);
    for _ in 0..5 {
        rig.turn();
    }
    client.write_all(b"abc").unwrap();
    SockRef::from(&client).send_out_of_band(b"X").unwrap();
    client.write_all(b"def").unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"def") {
        got.extend(rig.read(&mut server).unwrap());
    }
}

/// The kernel splices nothing past urgent data, and if it knows of the end it says
/// there that the stream has ended.
#[test]
fn bytes_between_urgent_data_and_the_end_of_bulk_are_not_forgotten() {
    let (mut rig, mut client, mut server) = in_bulk();
    look_before(&mut rig, &mut client);
    drop(client);
    assert_eq!(last_words(&mut rig, &mut server), None);
}

#[test]
fn bytes_between_urgent_data_and_a_reset_of_bulk_are_not_forgotten() {
    let (mut rig, mut client, mut server) = in_bulk();
    look_before(&mut rig, &mut client);
    reset(client);
    let end = last_words(&mut rig, &mut server);
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
}

/// A client and a pod after bulk from the one to the other.
fn in_bulk() -> (Rig, TcpStream, TcpStream) {
    const LEN: usize = 8 << 20;
    let (mut rig, client, mut server) = in_conversation();
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&vec![b'z'; LEN]).unwrap());
    let mut got = 0;
    while got < LEN {
        got += rig.read(&mut server).unwrap().len();
    }
    rig.join(writing);
    rig.settle();
    (rig, client, server)
}

/// The loop sees more bulk, and what the client says last only after that.
fn look_before(rig: &mut Rig, client: &mut TcpStream) {
    client.write_all(&[b'z'; 60_000]).unwrap();
    rig.engine.wait(Some(PATIENCE), rig.now()).unwrap();
    SockRef::from(&*client).send_out_of_band(b"X").unwrap();
    client.write_all(b"the end").unwrap();
}

/// Expects what the client has said last; returns how the stream ends.
fn last_words(rig: &mut Rig, server: &mut TcpStream) -> Option<ErrorKind> {
    rig.engine.dispatch(rig.now());
    let mut got = Vec::new();
    let end = loop {
        match rig.read(server) {
            Ok(bytes) if bytes.is_empty() => break None,
            Ok(bytes) => got.extend(bytes),
            Err(e) => break Some(e.kind()),
        }
    };
    assert!(
        got.ends_with(b"Xthe end"),
        "{} bytes and {end:?}",
        got.len()
    );
    end
}

#[test]
fn a_remaining_side_that_dies_too_is_closed_at_once() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let client = rig.connect();
    let mut server = rig.accept(&pod);
    rig.until("handed over", |e| e.counts().handed_over == 1);
    // more than the client's window holds, less than window plus our send buffer
    server.set_nonblocking(true).unwrap();
    let mut total = 0;
    let block = vec![b'x'; 65536];
    while let Ok(n) = server.write(&block) {
        total += n;
        for _ in 0..3 {
            rig.turn();
        }
        if sys::unacknowledged(&server).unwrap() == 0 && total > 3_000_000 {
            break;
        }
        if total > 8_000_000 {
            break;
        }
    }
    for _ in 0..50 {
        rig.turn();
    }
    reset(server);
    for _ in 0..50 {
        rig.turn();
    }
    assert_eq!(rig.engine.counts().open, 1);
    reset(client);
    rig.until("it is closed, long before the lingering ends", |e| {
        e.counts().open == 0
    });
}

#[test]
fn while_the_gate_is_shut_no_further_address_is_dialled() {
    let (dead, _filling) = silent();
    let pod = backend();
    let mut rig = Rig::open(&[&dead, &pod]);
    let _client = rig.connect();
    rig.until("it is being dialled", |e| e.counts().waiting == 1);
    rig.turn();
    rig.engine.set_gate(false);
    rig.skew += LIMITS.connect_timeout;
    for _ in 0..50 {
        rig.turn();
    }
    assert_eq!(rig.engine.counts().handed_over, 0, "through a shut gate");
}

/// The kernel repeats the SYN after a second.
#[test]
fn a_pod_that_answers_only_when_the_gate_is_shut_again_gets_no_byte_before_it_opens() {
    let (slow, filling) = silent();
    let mut rig = Rig::open(&[&slow]);
    let mut client = rig.connect();
    client.write_all(b"hello").unwrap();
    rig.until("it is being dialled", |e| e.counts().waiting == 1);
    rig.turn();
    rig.engine.set_gate(false);
    for _ in &filling {
        drop(slow.accept().unwrap());
    }
    let mut early = rig.accept(&slow);
    rig.settle();
    assert_eq!(rig.engine.counts().handed_over, 0, "through a shut gate");
    assert_eq!(early.read(&mut [0]).unwrap(), 0, "it has got nothing");
    rig.engine.set_gate(true);
    let mut server = rig.accept(&slow);
    rig.expect(&mut server, b"hello");
}

const ADMIN_LIMITS: AdminLimits = AdminLimits {
    most: 3,
    patience: Duration::from_secs(3600),
    longest: 64,
};

/// An engine that lets admin connections in.
fn visited(limits: AdminLimits) -> Rig {
    let mut rig = Rig::new(LIMITS);
    let address = ([127, 0, 0, 1], 0).into();
    rig.engine.listen_for_admin(address, limits).unwrap();
    rig
}

impl Rig {
    fn visit(&mut self) -> TcpStream {
        let address = self.engine.admin().local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A turn in which each admin connection that has said a whole line, or all that it
    /// may, is told `answer`.
    fn answer(&mut self, answer: &[u8]) {
        self.turn();
        while let Some((admin_connection, said)) = self.engine.admin().next_request() {
            let whole = said.ends_with(b"\n") || said.len() >= ADMIN_LIMITS.longest;
            let answer = whole.then(|| answer.to_vec());
            self.engine.admin().answer(admin_connection, answer);
        }
    }

    /// Answers until `stream` has ended, and returns what came.
    fn told(&mut self, stream: &mut TcpStream, answer: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let mut told = Vec::new();
        loop {
            assert!(start.elapsed() < PATIENCE, "told only {} bytes", told.len());
            match stream.read_to_end(&mut told) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.answer(answer),
                other => return other.map(|_| told),
            }
        }
    }
}

#[test]
fn a_admin_connection_is_answered_and_is_no_connection() {
    let mut rig = visited(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"how ").unwrap();
    for _ in 0..5 {
        rig.answer(b"fine");
    }
    assert_eq!(rig.engine.admin().len(), 1, "it has not said everything");
    admin_connection.write_all(b"are you?\n").unwrap();
    assert_eq!(rig.told(&mut admin_connection, b"fine").unwrap(), b"fine");
    drop(admin_connection);
    rig.until("it has left", |e| e.admin().is_empty());
    let counts = rig.engine.counts();
    assert_eq!((counts.accepted, counts.open, counts.waiting), (0, 0, 0));
}

#[test]
fn an_answer_of_any_length_reaches_a_admin_connection_that_reads_slowly() {
    let mut rig = visited(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"tell me all\n").unwrap();
    let all = vec![b'x'; 8 << 20];
    for _ in 0..20 {
        rig.answer(&all);
    }
    assert_eq!(
        rig.told(&mut admin_connection, &all).unwrap().len(),
        all.len()
    );
}

#[test]
fn an_answer_is_not_lost_to_what_the_admin_connection_has_said_beyond_its_limit() {
    let mut rig = visited(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(&[b'x'; 4096]).unwrap();
    assert_eq!(
        rig.told(&mut admin_connection, b"enough").unwrap(),
        b"enough"
    );
}

#[test]
fn a_admin_connection_that_ends_before_it_has_said_everything_is_let_go() {
    let mut rig = visited(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"ne").unwrap();
    admin_connection.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.told(&mut admin_connection, b"?").unwrap(), b"");
    assert!(rig.engine.admin().is_empty());
}

#[test]
fn a_admin_connection_that_shuts_its_side_after_its_line_is_answered() {
    let mut rig = visited(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"all\n").unwrap();
    admin_connection.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.told(&mut admin_connection, b"fine").unwrap(), b"fine");
}

#[test]
fn a_admin_connection_that_dawdles_is_shown_out_at_its_deadline_and_not_before() {
    let mut rig = visited(ADMIN_LIMITS);
    let (mut silent, mut slow) = (rig.visit(), rig.visit());
    slow.write_all(b"on and ").unwrap();
    rig.until("both are in", |e| e.admin().len() == 2);
    rig.skew += ADMIN_LIMITS.patience - Duration::from_secs(600);
    slow.write_all(b"on ").unwrap();
    rig.answer(b"?");
    assert_eq!(rig.engine.admin().len(), 2);
    assert!(rig.engine.poll_timeout().is_some_and(|at| at > rig.now()));
    rig.skew += Duration::from_secs(600);
    rig.until("they are out", |e| e.admin().is_empty());
    for admin_connection in [&mut silent, &mut slow] {
        assert_eq!(rig.told(admin_connection, b"?").unwrap(), b"");
    }
    assert_eq!(rig.engine.poll_timeout(), None, "nothing is left of them");
}

#[test]
fn however_many_sit_and_say_nothing_the_next_one_is_heard() {
    let mut rig = visited(ADMIN_LIMITS);
    let mut silent: Vec<_> = (0..ADMIN_LIMITS.most).map(|_| rig.visit()).collect();
    rig.until("the room is full", |e| e.admin().len() == ADMIN_LIMITS.most);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"and me?\n").unwrap();
    assert_eq!(rig.told(&mut admin_connection, b"fine").unwrap(), b"fine");
    let first = rig.told(&mut silent[0], b"?").unwrap();
    assert_eq!(first, b"", "it was there longest");
    silent[2].write_all(b"me too\n").unwrap();
    assert_eq!(rig.told(&mut silent[2], b"fine").unwrap(), b"fine");
}

#[test]
fn a_crowd_of_admin_connections_is_answered_to_the_last() {
    let mut rig = visited(ADMIN_LIMITS);
    let mut all: Vec<_> = (0..50).map(|_| rig.visit()).collect();
    for admin_connection in &mut all {
        admin_connection.write_all(b"hello\n").unwrap();
    }
    for admin_connection in &mut all {
        assert_eq!(rig.told(admin_connection, b"fine").unwrap(), b"fine");
        assert!(rig.engine.admin().len() <= ADMIN_LIMITS.most);
    }
}

#[test]
fn admin_connections_are_heard_while_nothing_is_accepted_any_more() {
    let mut rig = visited(ADMIN_LIMITS);
    rig.engine.stop_accepting(rig.now());
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"still there?\n").unwrap();
    assert_eq!(rig.told(&mut admin_connection, b"yes").unwrap(), b"yes");
}

#[test]
fn the_ends_of_connections_are_counted_by_reason_and_phase() {
    let pod = backend();
    let mut rig = Rig::open(&[&pod]);
    let client = rig.connect();
    let server = rig.accept(&pod);
    rig.until("handed over", |e| e.counts().handed_over == 1);
    reset(server);
    let server = rig.accept(&pod);
    drop((client, server));
    rig.until("it is closed", |e| e.counts().open == 0);
    rig.engine.set_gate(false);
    let waiting = rig.connect();
    rig.until("it waits", |e| e.counts().waiting == 1);
    reset(waiting);
    rig.until("it is closed", |e| e.counts().open == 0);
    let ends = rig.engine.tally().ends();
    let total: u64 = ends.iter().map(|(_, count)| count).sum();
    assert_eq!(total, rig.engine.counts().accepted);
    assert!(ends.contains(&(["finished", "relaying"], 1)), "{ends:?}");
    assert!(ends.contains(&(["client_gone", "holding"], 1)), "{ends:?}");
    let held: u64 = rig.engine.tally().hold.buckets().map(|(_, n)| n).sum();
    assert_eq!(held, rig.engine.counts().handed_over);
}
