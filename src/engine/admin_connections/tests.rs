use super::*;
use mio::{Events, Poll};
use socket2::{Domain, Socket, Type};

const LIMITS: AdminLimits = AdminLimits {
    max_connections: 64,
    timeout: Duration::from_secs(5),
    max_request_bytes: 1024,
};

/// The kubelet's address, and the first of the others'.
const KUBELET: [u8; 4] = [127, 0, 0, 2];
const OTHERS: [u8; 4] = [127, 0, 1, 0];

struct Port {
    poll: Poll,
    admin: AdminConnections,
}

impl Port {
    fn open() -> Port {
        let poll = Poll::new().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let admin = AdminConnections::bind(any, LIMITS, poll.registry()).unwrap();
        Port { poll, admin }
    }

    fn connect(&self, from: [u8; 4]) -> std::net::TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        let to = self.admin.local_addr().unwrap();
        socket.connect(&to.into()).unwrap();
        socket.into()
    }

    fn can_accept(&self) -> bool {
        let listener = &self.admin.listener.as_ref().unwrap().listener;
        listener.is_ready(Time::default())
    }

    /// Turns the loop until nothing happens any more.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            if events.is_empty() && !self.can_accept() {
                return;
            }
            for event in &events {
                self.admin.set_ready(event.token());
            }
            self.admin.dispatch(self.poll.registry(), Time::default());
        }
    }

    /// Whether a probe is written whose request comes after all these others.
    fn answers_a_probe_after(&mut self, others: usize, source: impl Fn(usize) -> [u8; 4]) -> bool {
        let mut probe = self.connect(KUBELET);
        self.turn();
        let mut silent = Vec::new();
        for number in 0..others {
            silent.push(self.connect(source(number)));
            self.turn();
            assert!(self.admin.len() <= LIMITS.max_connections);
        }
        probe.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        self.turn();
        self.admin.next_request().is_some()
    }
}

#[test]
fn a_flood_of_silent_connections_displaces_itself_and_not_the_kubelets_probe() {
    for (label, others, source) in [
        (
            "from one address",
            500,
            (|_| OTHERS) as fn(usize) -> [u8; 4],
        ),
        ("from twenty", 500, |number| {
            [127, 0, 1, (number % 20) as u8]
        }),
        (
            "from the kubelet's own, fewer than there is left for",
            63,
            |_| KUBELET,
        ),
    ] {
        assert!(
            Port::open().answers_a_probe_after(others, source),
            "{label}"
        );
    }
}

#[test]
fn addresses_that_one_host_can_have_are_one_source() {
    for (label, one, other, same) in [
        ("IPv4", "10.0.0.1", "10.0.0.2", false),
        (
            "IPv4 on a socket of IPv6",
            "10.0.0.1",
            "::ffff:10.0.0.1",
            true,
        ),
        ("one network of IPv6", "fd00::1", "fd00::2:3", true),
        ("two of them", "fd00::1", "fd00:0:0:1::1", false),
    ] {
        let source = |ip: &str| source_of(ip.parse().unwrap());
        assert_eq!(source(one) == source(other), same, "{label}");
    }
}

/// An answer that is longer than what the kernel takes of it.
fn long_answer() -> Arc<Vec<u8>> {
    Arc::new(vec![b'x'; 32 << 20])
}

#[test]
fn work_is_left_while_a_request_waits_and_the_oldest_is_next() {
    let mut port = Port::open();
    let mut clients: Vec<_> = (0..3).map(|_| port.connect(KUBELET)).collect();
    port.turn();
    for client in clients.iter_mut().rev() {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        port.turn();
    }
    let mut serials = Vec::new();
    while port.admin.has_work(Time::default()) {
        let (key, _) = port.admin.next_request().unwrap();
        serials.push(port.admin.connections[key].serial);
        port.admin.answer(key, Some(Arc::new(b"ok".to_vec())));
    }
    assert_eq!(serials, [1, 2, 3]);
}

#[test]
fn an_answer_that_many_do_not_read_is_there_once_and_ends_when_it_is_withdrawn() {
    let mut port = Port::open();
    let mut clients: Vec<_> = (0..4).map(|_| port.connect(KUBELET)).collect();
    let (answer, other) = (long_answer(), long_answer());
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        port.turn();
        let (key, _) = port.admin.next_request().unwrap();
        let answer = if number == 0 { &other } else { &answer };
        port.admin.answer(key, Some(answer.clone()));
    }
    assert_eq!(port.admin.len(), 4);
    assert_eq!(Arc::strong_count(&answer), 4, "here, and where it is read");
    port.admin.withdraw(&answer);
    assert_eq!(port.admin.len(), 1);
    assert_eq!(Arc::strong_count(&answer), 1);
    assert_eq!(Arc::strong_count(&other), 2);
}
