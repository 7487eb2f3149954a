//! [`Rig`]: an engine over real loopback sockets, whose peers the test plays.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use zpa::clock::Time;
use zpa::engine::{AppId, AppLimits, BackendSpec, Counts, Engine, Limits, PortId};
use zpa::sys;

pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The app of a rig, and its port.
pub const APP: AppId = AppId(0);
pub const PORT: PortId = PortId { app: APP, index: 0 };

pub const PROCESS: Limits = Limits {
    memory: None,
    max_connections: 100,
};

pub const LIMITS: AppLimits = AppLimits {
    hold_timeout: Duration::from_secs(60),
    connect_timeout: Duration::from_secs(2),
    abort_on_close: false,
};

/// An engine, and a clock that can be put forward.
pub struct Rig {
    pub engine: Engine,
    pub skew: Duration,
}

impl Rig {
    pub fn new(limits: AppLimits) -> Rig {
        Rig::within(PROCESS, limits)
    }

    pub fn within(process: Limits, limits: AppLimits) -> Rig {
        let mut engine = Engine::new(process, 1).unwrap();
        let any = ([127, 0, 0, 1], 0).into();
        assert_eq!(engine.add_port(APP, any, limits).unwrap(), PORT);
        Rig {
            engine,
            skew: Duration::ZERO,
        }
    }

    /// The gate is open and these may be dialled.
    pub fn open(backends: &[&TcpListener]) -> Rig {
        let mut rig = Rig::new(LIMITS);
        rig.set_gate(true);
        rig.set_backends(backends);
        rig
    }

    pub fn set_backends(&mut self, backends: &[&TcpListener]) {
        let spec = |it: &&TcpListener| BackendSpec {
            is_near: true,
            id: it.local_addr().unwrap().to_string(),
            addresses: vec![it.local_addr().unwrap()],
        };
        let backends: Vec<_> = backends.iter().map(spec).collect();
        let now = self.now();
        self.engine.set_backends(PORT, &backends, now);
    }

    pub fn set_gate(&mut self, open: bool) {
        let now = self.now();
        self.engine.set_gate(APP, open, now);
    }

    pub fn counts(&self) -> Counts {
        self.engine.counts(APP)
    }

    pub fn address(&self) -> SocketAddr {
        self.engine.local_addr(PORT).unwrap()
    }

    pub fn now(&self) -> Time {
        sys::boot_time() + self.skew
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream
    }

    /// A client that takes next to nothing before it reads.
    pub fn connect_with_small_window(&self) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let address = self.address();
        socket.connect(&address.into()).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket.into()
    }

    pub fn turn(&mut self) {
        self.engine
            .wait(Some(Duration::from_millis(2)), self.now())
            .unwrap();
        self.engine.dispatch(self.now());
    }

    /// Turns for a while in which whatever is going to happen at once happens.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            self.turn();
        }
    }

    /// Turns until `done`; fails after a while.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Engine) -> bool) {
        let start = Instant::now();
        while !done(&mut self.engine) {
            assert!(
                start.elapsed() < TEST_TIMEOUT,
                "never: {what}; {:?}",
                self.counts()
            );
            self.turn();
        }
    }

    /// Turns until the thread has ended, and returns what it returns.
    pub fn join<T>(&mut self, handle: thread::JoinHandle<T>) -> T {
        self.until("the other side is done", |_| handle.is_finished());
        handle.join().unwrap()
    }

    /// Turns until a backend has accepted.
    pub fn accept(&mut self, listener: &TcpListener) -> TcpStream {
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        self.until("a backend accepts", |_| {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream
    }

    /// Turns until `stream` has something to read, and reads it once.
    pub fn read(&mut self, stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
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

    pub fn expect(&mut self, stream: &mut TcpStream, bytes: &[u8]) {
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let more = self.read(stream).unwrap();
            assert!(!more.is_empty(), "the stream ended after {got:?}");
            got.extend(more);
        }
        assert_eq!(got, bytes);
    }

    pub fn expect_reset(&mut self, stream: &mut TcpStream) {
        match self.read(stream) {
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
            Ok(bytes) => panic!("{} bytes in place of a reset", bytes.len()),
        }
    }

    pub fn expect_fin(&mut self, stream: &mut TcpStream) {
        assert_eq!(self.read(stream).unwrap(), b"");
    }
}

/// The backend that a listener is, as the daemon lists it.
pub fn pod_at(listener: &TcpListener) -> BackendSpec {
    BackendSpec {
        is_near: true,
        id: "pod".to_owned(),
        addresses: vec![listener.local_addr().unwrap()],
    }
}

pub fn backend() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Closes with an RST.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// An address that refuses.
pub fn refusing() -> TcpListener {
    // Bound and not listening: nobody else can get the port either.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.into()
}

/// An address that does not answer: its queue is full, so that the kernel
/// drops every further SYN. Keep what fills it.
pub fn silent() -> (TcpListener, Vec<TcpStream>) {
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

/// A client and a backend that have spoken, and a loop that has nothing to do.
pub fn in_conversation() -> (Rig, TcpStream, TcpStream) {
    let backend = backend();
    let mut rig = Rig::open(&[&backend]);
    let mut client = rig.connect();
    let mut server = rig.accept(&backend);
    client.write_all(b"hello").unwrap();
    rig.expect(&mut server, b"hello");
    for _ in 0..5 {
        rig.turn();
    }
    (rig, client, server)
}

/// Writes until nothing more is taken, also not after a while in which the
/// kernel may have widened its windows; returns how much was.
pub fn fill(rig: &mut Rig, stream: &mut TcpStream) -> usize {
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
pub fn stuff(rig: &mut Rig, stream: &mut TcpStream) -> usize {
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
