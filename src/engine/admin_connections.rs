//! AdminConnections: connections that ask the program about itself.
//!
//! They are served by the same loop as the clients, so that an answer proves
//! that the loop turns, and are none of the clients: they are not counted, wake
//! nothing, and take no place among the connections. They are strangers all the
//! same. There may be only a few; each has a few seconds for everything and a
//! few KiB to speak. When one too many comes, one goes of the source that has the
//! most, the one that has been here longest, so that a flood of silent connections
//! displaces itself and not the kubelet's probe.
//!
//! Only sockets are known here. What an admin connection has said is handed out by
//! [`AdminConnections::next_request`], and what it is told comes in by
//! [`AdminConnections::answer`].

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::listener::Listener;
use super::memory::Queues;
use crate::clock::Time;

/// No connection has a token from here up: its slot would be beyond 4 billion.
const FIRST: usize = usize::MAX - 1024;
const LISTENER: Token = Token(FIRST);
const LAST: usize = FIRST + 256;

/// How many one turn of the loop accepts.
const ACCEPTS_PER_TURN: usize = 64;

/// How much is read and thrown away after an answer, in bytes. To close a
/// socket that has something to read is to reset it (RFC 1122, 4.2.2.13), and
/// that may overtake the answer.
const DISCARDED: usize = 64 * 1024;

/// What admin connections are held to.
#[derive(Clone, Copy, Debug)]
pub struct AdminLimits {
    /// How many there may be at once, at most 256.
    pub most: usize,
    /// How long one may stay.
    pub patience: Duration,
    /// How many bytes one may say.
    pub longest: usize,
}

/// The admin connections, and where they come in.
#[derive(Default)]
pub struct AdminConnections {
    listener: Option<AdminListener>,
    inside: Slab<AdminConnection>,
    /// How many have come since the start.
    came: u64,
}

struct AdminListener {
    listener: Listener,
    limits: AdminLimits,
}

/// One of them.
struct AdminConnection {
    stream: TcpStream,
    source: Source,
    /// Counts admin connections: the lowest has been here longest.
    serial: u64,
    deadline: Time,
    /// The loop has seen something happen to it.
    ready: bool,
    stage: Stage,
}

/// Who may be behind a connection: an IPv4 address, or the first 64 bits of an IPv6
/// address, of which whoever has one has all that begin so.
type Source = IpAddr;

enum Stage {
    /// It is speaking.
    Speaking {
        said: Vec<u8>,
        /// It has said something since it was last listened to.
        news: bool,
        /// It will say no more.
        over: bool,
    },
    /// It is being told.
    Listening { answer: Vec<u8>, heard: usize },
    /// It was told all, and is expected to go.
    Leaving { discarded: usize },
}

/// Whether an admin connection stays.
enum Visit {
    GoesOn,
    IsOver,
}

/// Whether an event with that token is one for [`AdminConnections::set_ready`].
pub fn is_theirs(token: Token) -> bool {
    (FIRST..=LAST).contains(&token.0)
}

fn token(key: usize) -> Token {
    Token(FIRST + 1 + key)
}

impl AdminConnections {
    /// Lets them in at `address`.
    ///
    /// # Errors
    /// What the kernel says to the address.
    pub(super) fn bind(
        address: SocketAddr,
        limits: AdminLimits,
        registry: &Registry,
    ) -> io::Result<AdminConnections> {
        let most = limits.most.clamp(1, LAST - FIRST);
        let mut listener = Listener::bind(address, registry, LISTENER)?;
        listener.set_queues(Queues::receiving(limits.longest));
        Ok(AdminConnections {
            listener: Some(AdminListener {
                listener,
                limits: AdminLimits { most, ..limits },
            }),
            ..AdminConnections::default()
        })
    }

    /// Where they come in, if anywhere.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.listener.local_addr().ok()
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.inside.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.inside.is_empty()
    }

    /// Something has happened to one of them, or to the listener.
    pub(super) fn set_ready(&mut self, token: Token) {
        if token == LISTENER {
            if let Some(listener) = &mut self.listener {
                listener.listener.set_ready();
            }
        } else if let Some(admin_connection) = self.inside.get_mut(token.0 - FIRST - 1) {
            // An event of whoever had the slot before does no harm: what is
            // done about it is a try that finds nothing.
            admin_connection.ready = true;
        }
    }

    /// Whether [`AdminConnections::dispatch`] has something to do that no event is
    /// going to report.
    pub(super) fn has_work(&self, now: Time) -> bool {
        let listener = self.listener.as_ref();
        listener.is_some_and(|listener| listener.listener.is_ready(now))
    }

    /// When it has something to do even if nothing happens.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let listener = self
            .listener
            .as_ref()
            .and_then(|it| it.listener.poll_timeout());
        let inside = self
            .inside
            .iter()
            .map(|(_, admin_connection)| admin_connection.deadline);
        inside.chain(listener).min()
    }

    /// Does what the loop has found: hears out who is here, sees out whose time
    /// is up, lets in who comes.
    pub(super) fn dispatch(&mut self, registry: &Registry, now: Time) {
        let longest = self
            .listener
            .as_ref()
            .map_or(0, |listener| listener.limits.longest);
        self.inside.retain(|_, admin_connection| {
            let in_time = now < admin_connection.deadline;
            in_time && matches!(admin_connection.go_on(longest), Visit::GoesOn)
        });
        self.accept(registry, now);
    }

    fn accept(&mut self, registry: &Registry, now: Time) {
        let Some(AdminListener { listener, limits }) = &mut self.listener else {
            return;
        };
        for _ in 0..ACCEPTS_PER_TURN {
            if self.inside.len() >= limits.most && displaced(&self.inside).is_none() {
                return;
            }
            let Some((stream, peer)) = listener.accept(now) else {
                return;
            };
            if self.inside.len() >= limits.most
                && let Some(key) = displaced(&self.inside)
            {
                self.inside.remove(key);
            }
            self.came += 1;
            let deadline = now + limits.patience;
            let source = source_of(peer.ip());
            let mut admin_connection = AdminConnection::new(stream, source, self.came, deadline);
            let slot = self.inside.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let known =
                registry.register(&mut admin_connection.stream, token(slot.key()), interest);
            // Most have said everything before they are let in.
            if known.is_ok() && matches!(admin_connection.go_on(limits.longest), Visit::GoesOn) {
                slot.insert(admin_connection);
            }
        }
    }

    /// Somebody who has said something that was not listened to yet, and all
    /// that they have said. To be followed by [`AdminConnections::answer`].
    pub fn next_request(&mut self) -> Option<(usize, Vec<u8>)> {
        self.inside.iter_mut().find_map(|(key, admin_connection)| {
            let Stage::Speaking { said, news, .. } = &mut admin_connection.stage else {
                return None;
            };
            std::mem::take(news).then(|| (key, said.clone()))
        })
    }

    /// Tells that admin connection `answer`, after which it has to leave; `None`: it has
    /// not said enough yet. Who has not, and can say no more, leaves at once.
    pub fn answer(&mut self, key: usize, answer: Option<Vec<u8>>) {
        let longest = self
            .listener
            .as_ref()
            .map_or(0, |listener| listener.limits.longest);
        let Some(admin_connection) = self.inside.get_mut(key) else {
            return;
        };
        let visit = match (&admin_connection.stage, answer) {
            (_, Some(answer)) => {
                admin_connection.stage = Stage::Listening { answer, heard: 0 };
                admin_connection.ready = true;
                admin_connection.go_on(longest)
            }
            (Stage::Speaking { over: true, .. }, None) => Visit::IsOver,
            (_, None) => Visit::GoesOn,
        };
        if matches!(visit, Visit::IsOver) {
            self.inside.remove(key);
        }
    }
}

/// Which one goes when one too many comes: one that was told everything, else the
/// oldest of the source that has the most; none that is about to be answered.
fn displaced(inside: &Slab<AdminConnection>) -> Option<usize> {
    let mut counts: HashMap<Source, usize> = HashMap::new();
    for (_, admin_connection) in inside {
        *counts.entry(admin_connection.source).or_default() += 1;
    }
    let may_go = |admin_connection: &AdminConnection| {
        !matches!(admin_connection.stage, Stage::Speaking { news: true, .. })
    };
    let all = inside
        .iter()
        .filter(|(_, admin_connection)| may_go(admin_connection));
    all.min_by_key(|(_, admin_connection)| {
        let told = matches!(admin_connection.stage, Stage::Leaving { .. });
        let of_source = counts.get(&admin_connection.source);
        (!told, Reverse(of_source), admin_connection.serial)
    })
    .map(|(key, _)| key)
}

fn source_of(peer: IpAddr) -> Source {
    match peer.to_canonical() {
        IpAddr::V6(peer) => {
            let [a, b, c, d, ..] = peer.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        peer => peer,
    }
}

impl AdminConnection {
    fn new(stream: TcpStream, source: Source, serial: u64, deadline: Time) -> AdminConnection {
        let stage = Stage::Speaking {
            said: Vec::new(),
            news: false,
            over: false,
        };
        AdminConnection {
            stream,
            source,
            serial,
            deadline,
            ready: true,
            stage,
        }
    }

    /// Goes on with the visit, if anything has happened.
    fn go_on(&mut self, longest: usize) -> Visit {
        if !std::mem::take(&mut self.ready) {
            return Visit::GoesOn;
        }
        let done = match &mut self.stage {
            Stage::Speaking { said, news, over } => {
                let before = said.len();
                let done = read_request(&mut self.stream, said, longest);
                *over |= done.is_ok();
                *news |= *over || said.len() > before;
                done
            }
            Stage::Listening { answer, heard } => write(&mut self.stream, answer, heard),
            Stage::Leaving { discarded } => discard(&mut self.stream, discarded),
        };
        match (done, &self.stage) {
            (Err(e), _) if e.kind() == ErrorKind::WouldBlock => Visit::GoesOn,
            (Err(_), _) | (Ok(()), Stage::Leaving { .. }) => Visit::IsOver,
            (Ok(()), Stage::Speaking { .. }) => Visit::GoesOn,
            (Ok(()), Stage::Listening { .. }) => self.write_answer(longest),
        }
    }

    /// It was told everything.
    fn write_answer(&mut self, longest: usize) -> Visit {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return Visit::IsOver;
        }
        self.stage = Stage::Leaving { discarded: 0 };
        self.ready = true;
        self.go_on(longest)
    }
}

/// Reads to the end of what is said, or to the end of the room for it.
fn read_request(stream: &mut TcpStream, said: &mut Vec<u8>, longest: usize) -> io::Result<()> {
    let room = longest.saturating_sub(said.len()) as u64;
    Read::take(stream, room).read_to_end(said).map(drop)
}

/// Writes what is left of `answer` from `heard` on.
fn write(stream: &mut TcpStream, answer: &[u8], heard: &mut usize) -> io::Result<()> {
    while *heard < answer.len() {
        match stream.write(&answer[*heard..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *heard += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads to the end, or for as long as it is worth it.
fn discard(stream: &mut TcpStream, discarded: &mut usize) -> io::Result<()> {
    let mut scratch = [0; 4096];
    while *discarded < DISCARDED {
        match stream.read(&mut scratch) {
            Ok(0) => return Ok(()),
            Ok(count) => *discarded += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use socket2::{Domain, Socket, Type};

    const LIMITS: AdminLimits = AdminLimits {
        most: 64,
        patience: Duration::from_secs(5),
        longest: 1024,
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

        /// Turns the loop until nothing happens any more.
        fn turn(&mut self) {
            let mut events = Events::with_capacity(1024);
            loop {
                self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
                if events.is_empty() && !self.admin.has_work(Time::default()) {
                    return;
                }
                for event in &events {
                    self.admin.set_ready(event.token());
                }
                self.admin.dispatch(self.poll.registry(), Time::default());
            }
        }

        /// Whether a probe is heard whose request comes after all these others.
        fn hears_a_probe_after(
            &mut self,
            others: usize,
            source: impl Fn(usize) -> [u8; 4],
        ) -> bool {
            let mut probe = self.connect(KUBELET);
            self.turn();
            let mut silent = Vec::new();
            for number in 0..others {
                silent.push(self.connect(source(number)));
                self.turn();
                assert!(self.admin.len() <= LIMITS.most);
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
                "from the kubelet's own, fewer than there is room for",
                63,
                |_| KUBELET,
            ),
        ] {
            assert!(Port::open().hears_a_probe_after(others, source), "{label}");
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
}
