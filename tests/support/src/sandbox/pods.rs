//! Pods: real servers on loopback addresses of their own.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;

use crate::streams::read_some;

use super::acceptor::{Acceptor, Threads, reset_on_close};
use super::programs::{Program, Running};

/// What the app in a pod does with a connection.
#[derive(Clone, Debug)]
pub enum PodProgram {
    /// Sends back what it gets; ends its side when the client has ended.
    Echo,
    /// A small HTTP/1.1 server: every request is answered 200 with the pod's
    /// name and a newline.
    Http,
    /// Reads and drops; ends its side when the client has ended.
    Sink,
    /// Sends that many zero bytes, then ends its side.
    Source(u64),
    /// A process of its own, which listens itself, also at the pod's other ports.
    Program(Arc<dyn Program>),
    /// Nothing that the sandbox runs: an other port of a program.
    OfProgram,
}

/// How a pod treats those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodBehaviour {
    /// Accepts and serves.
    Serve,
    /// Refuses, whatever the endpoints say.
    Refuse,
    /// Accepts and resets before any byte.
    Reset,
}

/// A server that stands for a pod; also good as a lone backend of a test.
pub struct PodServer {
    acceptor: Acceptor,
    clients: Arc<Clients>,
    /// The process in place of the acceptor, once it has been started.
    running: Option<Running>,
}

struct Clients {
    name: String,
    app: PodProgram,
    threads: Threads,
    behaviour: Mutex<PodBehaviour>,
    accepted: AtomicU64,
    open: Mutex<Open>,
}

/// The connections of a pod.
#[derive(Default)]
struct Open {
    streams: HashMap<u64, Arc<TcpStream>>,
    /// Set when the pod is gone: a connection that is accepted only now must
    /// not outlive it.
    closed: bool,
}

impl PodServer {
    /// Takes the address; nothing listens before [`PodServer::open`].
    pub fn reserve(
        address: SocketAddr,
        name: &str,
        app: PodProgram,
        threads: &Threads,
    ) -> io::Result<PodServer> {
        let clients = Arc::new(Clients {
            name: name.to_owned(),
            app,
            threads: threads.clone(),
            behaviour: Mutex::new(PodBehaviour::Serve),
            accepted: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let welcome = clients.clone();
        let acceptor = Acceptor::reserve(address, threads, move |stream| welcome.admit(stream))?;
        Ok(PodServer {
            acceptor,
            clients,
            running: None,
        })
    }

    /// Where it listens, or will.
    pub fn address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    /// Starts serving, with that behaviour. Fails for want of descriptors.
    pub fn open(&mut self, behaviour: PodBehaviour) -> io::Result<()> {
        *self
            .clients
            .behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = behaviour;
        if behaviour == PodBehaviour::Refuse {
            self.acceptor.close();
            self.running = None;
            return Ok(());
        }
        match self.clients.app {
            PodProgram::Program(_) | PodProgram::OfProgram => Ok(()),
            _ => self.acceptor.open(),
        }
    }

    /// Starts the program, if it is one and does not run, with the pod's other ports.
    pub fn run(&mut self, other_ports: &[u16]) {
        let PodProgram::Program(program) = &self.clients.app else {
            return;
        };
        if self.running.is_none() {
            let address = self.address();
            let others = other_ports.iter().map(|&port| (address.ip(), port).into());
            let all = std::iter::once(address).chain(others).collect();
            let threads = &self.clients.threads;
            self.running = Some(Running::start(program.clone(), all, threads));
        }
    }

    /// Has the program end, if it is one; tells whether nothing of it runs any longer.
    pub fn end(&self) -> bool {
        self.running.as_ref().is_none_or(Running::end)
    }

    /// Whether a readiness probe finds it ready, once it is open.
    pub fn is_ready(&self) -> bool {
        match self.clients.app {
            PodProgram::Program(_) => self.running.as_ref().is_some_and(Running::is_ready),
            _ => true,
        }
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> u64 {
        self.clients.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.clients.lock().streams.len()
    }

    /// Resets every open connection.
    pub fn reset_connections(&self) {
        for stream in self.clients.lock().streams.values() {
            reset_on_close(stream);
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

impl Drop for PodServer {
    /// Ends as a killed process does: the kernel closes its sockets.
    fn drop(&mut self) {
        self.acceptor.close();
        let mut open = self.clients.lock();
        open.closed = true;
        for stream in open.streams.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, stream: TcpStream) {
        let id = self.accepted.fetch_add(1, Ordering::SeqCst);
        if *self
            .behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            == PodBehaviour::Reset
        {
            return reset_on_close(&stream);
        }
        let stream = Arc::new(stream);
        let mut open = self.lock();
        if open.closed {
            return;
        }
        open.streams.insert(id, stream.clone());
        drop(open);
        let clients = self.clone();
        self.threads.spawn("pod", move || {
            // An error is the client's way of leaving.
            let _ = serve(&clients.app, &clients.name, &stream);
            clients.lock().streams.remove(&id);
        });
    }
}

fn serve(app: &PodProgram, name: &str, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match app {
        PodProgram::Echo => echo(stream)?,
        PodProgram::Http => http(name, stream)?,
        PodProgram::Sink => drop(io::copy(&mut &*stream, &mut io::sink())?),
        PodProgram::Source(bytes) => {
            io::copy(&mut io::repeat(0).take(*bytes), &mut &*stream)?;
        }
        PodProgram::Program(_) | PodProgram::OfProgram => {} // Its process has the listener.
    }
    if is_reset_pending(stream) {
        return Ok(()); // A FIN first would tell the client of an orderly end.
    }
    stream.shutdown(Shutdown::Write)
}

/// Whether [`PodServer::reset_connections`] has been here.
fn is_reset_pending(stream: &TcpStream) -> bool {
    SockRef::from(stream)
        .linger()
        .is_ok_and(|linger| linger == Some(Duration::ZERO))
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match read_some(stream, &mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn http(name: &str, mut stream: &TcpStream) -> io::Result<()> {
    let mut pending = Vec::new();
    while let Some(head) = read_head(stream, &mut pending)? {
        let length = header(&head, "content-length")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        skip_body(stream, &mut pending, length)?;
        let close = header(&head, "connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let connection = if close { "close" } else { "keep-alive" };
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n{name}\n",
            name.len() + 1
        );
        stream.write_all(reply.as_bytes())?;
        if close {
            break;
        }
    }
    Ok(())
}

/// Reads up to the empty line; `None` at the end of the stream.
fn read_head(stream: &TcpStream, pending: &mut Vec<u8>) -> io::Result<Option<String>> {
    let mut buffer = [0; 4 << 10];
    loop {
        if let Some(end) = pending.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = pending.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        match read_some(stream, &mut buffer)? {
            0 => return Ok(None),
            n => pending.extend_from_slice(&buffer[..n]),
        }
    }
}

fn skip_body(stream: &TcpStream, pending: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let buffered = length.min(pending.len());
    pending.drain(..buffered);
    let missing = (length - buffered) as u64;
    io::copy(&mut stream.take(missing), &mut io::sink()).map(drop)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Loopback addresses that belong to one sandbox: `127.a.b.1` to `127.a.b.253`,
/// all with the same ports.
///
/// The last address of the subnet is bound, with each port, for as long as the sandbox
/// lives. The kernel gives that address and port to nobody else, so two sandboxes
/// differ in subnet or in ports, in this process and in others.
pub struct Subnet {
    prefix: [u8; 3],
    /// The first one of the pods, and the others.
    ports: Vec<u16>,
    next_host: u8,
    _claims: Vec<TcpListener>,
}

impl Subnet {
    /// Claims a subnet, by process and by count within the process, for pods with so
    /// many ports.
    pub fn claim(ports: usize) -> io::Result<Subnet> {
        static CLAIMED: AtomicU32 = AtomicU32::new(0);
        let count = CLAIMED.fetch_add(1, Ordering::Relaxed);
        let number = std::process::id().wrapping_mul(61).wrapping_add(count);
        // 127.64.0 to 127.127.255: clear of the addresses that people use.
        let prefix = [127, 64 + (number >> 8 & 63) as u8, number as u8];
        let address = Ipv4Addr::new(prefix[0], prefix[1], prefix[2], 254);
        let claims = (0..ports).map(|_| TcpListener::bind((address, 0)));
        let claims: Vec<TcpListener> = claims.collect::<io::Result<_>>()?;
        let ports = claims.iter().map(|it| Ok(it.local_addr()?.port()));
        Ok(Subnet {
            prefix,
            ports: ports.collect::<io::Result<_>>()?,
            next_host: 1,
            _claims: claims,
        })
    }

    /// The first port of every pod.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The other ports of every pod.
    pub fn other_ports(&self) -> &[u16] {
        &self.ports[1..]
    }

    /// An address on which nothing ever listens: the Service's own.
    pub fn cluster_ip(&self) -> Ipv4Addr {
        self.ip(254)
    }

    /// The next address, in turn, so that one is not used again at once.
    pub fn next_address(&mut self) -> SocketAddr {
        let host = self.next_host;
        self.next_host = if host == 253 { 1 } else { host + 1 };
        SocketAddr::new(IpAddr::V4(self.ip(host)), self.port())
    }

    fn ip(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, host)
    }
}
