//! [`AdminConnections`] are the connections to the admin port, and its listener.
//!
//! The event loop serves them beside the clients' connections, so that a response proves
//! that the loop turns. They wake no app and do not count towards the connection limit.
//! They are untrusted: their number is limited, and each has a few seconds and a few KiB
//! for its request. If one too many comes, the oldest connection of the source with the
//! most connections is evicted, so that a flood of idle connections evicts itself and not
//! the kubelet's probe.
//!
//! Nothing is parsed here: [`AdminConnections::next_request`] returns the bytes that were
//! read, and [`AdminConnections::answer`] takes the response. It may be that of others too,
//! so that those who do not read have no copy each; and what waits in the kernel is bounded.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::listener::{BoundListener, Listener};
use super::memory::BufferSizes;
use crate::clock::Time;

/// The tokens from here up belong to the admin port; no other connection has one.
const FIRST: usize = usize::MAX - 1024;
const LISTENER: Token = Token(FIRST);
const LAST: usize = FIRST + 256;

/// The most connections that one turn of the loop accepts.
const ACCEPTS_PER_TURN: usize = 64;

/// The most bytes that are read and discarded after a response. A close with unread bytes
/// sends an RST (RFC 1122, 4.2.2.13), which may reach the peer before it has read the
/// response.
const DISCARDED: usize = 64 * 1024;

/// The most bytes of a response that wait in the kernel before they are sent
/// (`TCP_NOTSENT_LOWAT`).
const UNSENT: u64 = 32 * 1024;

/// The limits of the admin port.
#[derive(Clone, Copy, Debug)]
pub struct AdminLimits {
    /// The most connections at once, up to 256.
    pub max_connections: usize,
    /// The longest time that a connection may be open.
    pub timeout: Duration,
    /// The most bytes of a request.
    pub max_request_bytes: usize,
}

/// The admin connections and their listener.
#[derive(Default)]
pub struct AdminConnections {
    listener: Option<AdminListener>,
    connections: Slab<AdminConnection>,
    /// The number of connections accepted since the start.
    accepted: u64,
}

struct AdminListener {
    listener: Listener,
    limits: AdminLimits,
}

struct AdminConnection {
    stream: TcpStream,
    source: Source,
    /// The number of the connection: the oldest has the lowest.
    serial: u64,
    deadline: Time,
    /// Whether it has had an event.
    ready: bool,
    state: State,
}

/// The source of a connection: an IPv4 address, or the first 64 bits of an IPv6 address,
/// because one host usually has all addresses of such a prefix.
type Source = IpAddr;

enum State {
    /// The request is being read.
    Reading {
        request: Vec<u8>,
        /// Whether bytes have come since [`AdminConnections::next_request`] returned it.
        has_new_bytes: bool,
        /// Whether the peer has sent its FIN, or the most bytes that a request may have.
        ended: bool,
    },
    /// The response is being written.
    Writing {
        answer: Arc<Vec<u8>>,
        written: usize,
    },
    /// The response was written; what the peer still sends is discarded.
    Draining { discarded: usize },
}

/// Whether an admin connection is still open.
enum Status {
    Open,
    Closed,
}

/// Whether an event with that token is one for [`AdminConnections::set_ready`].
pub fn is_admin_token(token: Token) -> bool {
    (FIRST..=LAST).contains(&token.0)
}

fn token(key: usize) -> Token {
    Token(FIRST + 1 + key)
}

impl AdminConnections {
    /// Listens on `address`.
    ///
    /// # Errors
    /// Those of bind(2).
    pub(super) fn bind(
        address: SocketAddr,
        limits: AdminLimits,
        registry: &Registry,
    ) -> io::Result<AdminConnections> {
        let most = limits.max_connections.clamp(1, LAST - FIRST);
        let mut listener = Listener::new(BoundListener::bind(address)?, registry, LISTENER)?;
        listener.set_buffer_sizes(BufferSizes::of_admin(limits.max_request_bytes, UNSENT));
        Ok(AdminConnections {
            listener: Some(AdminListener {
                listener,
                limits: AdminLimits {
                    max_connections: most,
                    ..limits
                },
            }),
            ..AdminConnections::default()
        })
    }

    /// The address that it listens on, if any.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.listener.local_addr().ok()
    }

    /// The number of open connections.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// An event of one of them, or of the listener.
    pub(super) fn set_ready(&mut self, token: Token) {
        if token == LISTENER {
            if let Some(listener) = &mut self.listener {
                listener.listener.set_ready();
            }
        } else if let Some(connection) = self.connections.get_mut(token.0 - FIRST - 1) {
            // An event of the connection that had the slot before is harmless: it causes
            // one read or write that finds nothing to do.
            connection.ready = true;
        }
    }

    /// Whether [`AdminConnections::dispatch`] has work that no event will report.
    pub(super) fn has_work(&self, now: Time) -> bool {
        let listener = self.listener.as_ref();
        let can_accept = listener.is_some_and(|listener| listener.listener.is_ready(now));
        can_accept || self.connections.iter().any(|(_, it)| it.has_new_bytes())
    }

    /// When [`AdminConnections::dispatch`] is to be called even without an event.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let listener = self
            .listener
            .as_ref()
            .and_then(|it| it.listener.poll_timeout());
        let connections = self
            .connections
            .iter()
            .map(|(_, connection)| connection.deadline);
        connections.chain(listener).min()
    }

    /// Reads and writes after events, closes connections whose time has expired, and
    /// accepts.
    pub(super) fn dispatch(&mut self, registry: &Registry, now: Time) {
        let longest = self
            .listener
            .as_ref()
            .map_or(0, |listener| listener.limits.max_request_bytes);
        self.connections.retain(|_, connection| {
            let in_time = now < connection.deadline;
            in_time && matches!(connection.advance(longest), Status::Open)
        });
        self.accept(registry, now);
    }

    fn accept(&mut self, registry: &Registry, now: Time) {
        let Some(AdminListener { listener, limits }) = &mut self.listener else {
            return;
        };
        for _ in 0..ACCEPTS_PER_TURN {
            if self.connections.len() >= limits.max_connections
                && eviction_candidate(&self.connections).is_none()
            {
                return;
            }
            let Some((stream, peer)) = listener.accept(now) else {
                return;
            };
            if self.connections.len() >= limits.max_connections
                && let Some(key) = eviction_candidate(&self.connections)
            {
                self.connections.remove(key);
            }
            self.accepted += 1;
            let deadline = now + limits.timeout;
            let source = source_of(peer.ip());
            let mut connection = AdminConnection::new(stream, source, self.accepted, deadline);
            let slot = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let known = registry.register(&mut connection.stream, token(slot.key()), interest);
            // Most have sent their request before they are accepted.
            if known.is_ok() && matches!(connection.advance(limits.max_request_bytes), Status::Open)
            {
                slot.insert(connection);
            }
        }
    }

    /// Of the connections with new bytes the oldest, and all bytes of its request so far. The
    /// caller then calls [`AdminConnections::answer`].
    pub fn next_request(&mut self) -> Option<(usize, Vec<u8>)> {
        let connections = self.connections.iter_mut();
        let asking = connections.filter(|(_, it)| it.has_new_bytes());
        let (key, oldest) = asking.min_by_key(|(_, it)| it.serial)?;
        let State::Reading {
            request,
            has_new_bytes,
            ..
        } = &mut oldest.state
        else {
            return None;
        };
        *has_new_bytes = false;
        Some((key, request.clone()))
    }

    /// Closes the connections that have not read all of that answer.
    pub fn withdraw(&mut self, withdrawn: &Arc<Vec<u8>>) {
        self.connections.retain(|_, connection| {
            let State::Writing { answer, .. } = &connection.state else {
                return true;
            };
            !Arc::ptr_eq(answer, withdrawn)
        });
    }

    /// Writes `answer` to that connection, and then closes it. `None` means that the
    /// request is not complete yet; if the peer has ended, the connection is closed.
    pub fn answer(&mut self, key: usize, answer: Option<Arc<Vec<u8>>>) {
        let longest = self
            .listener
            .as_ref()
            .map_or(0, |listener| listener.limits.max_request_bytes);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let status = match (&connection.state, answer) {
            (_, Some(answer)) => {
                connection.state = State::Writing { answer, written: 0 };
                connection.ready = true;
                connection.advance(longest)
            }
            (State::Reading { ended: true, .. }, None) => Status::Closed,
            (_, None) => Status::Open,
        };
        if matches!(status, Status::Closed) {
            self.connections.remove(key);
        }
    }
}

/// The connection to close if one too many comes: one that was answered, else the oldest of
/// the source with the most connections. A connection with new bytes is not closed.
fn eviction_candidate(connections: &Slab<AdminConnection>) -> Option<usize> {
    let mut counts: HashMap<Source, usize> = HashMap::new();
    for (_, connection) in connections {
        *counts.entry(connection.source).or_default() += 1;
    }
    let all = connections.iter().filter(|(_, it)| !it.has_new_bytes());
    all.min_by_key(|(_, connection)| {
        let is_answered = matches!(connection.state, State::Draining { .. });
        let of_source = counts.get(&connection.source);
        (!is_answered, Reverse(of_source), connection.serial)
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
        let state = State::Reading {
            request: Vec::new(),
            has_new_bytes: false,
            ended: false,
        };
        AdminConnection {
            stream,
            source,
            serial,
            deadline,
            ready: true,
            state,
        }
    }

    /// Whether bytes of its request wait for an answer.
    fn has_new_bytes(&self) -> bool {
        matches!(
            self.state,
            State::Reading {
                has_new_bytes: true,
                ..
            }
        )
    }

    /// Reads or writes until the socket would block, if it has had an event.
    fn advance(&mut self, longest: usize) -> Status {
        if !std::mem::take(&mut self.ready) {
            return Status::Open;
        }
        let done = match &mut self.state {
            State::Reading {
                request,
                has_new_bytes,
                ended,
            } => {
                let before = request.len();
                let done = read_request(&mut self.stream, request, longest);
                *ended |= done.is_ok();
                *has_new_bytes |= *ended || request.len() > before;
                done
            }
            State::Writing { answer, written } => write(&mut self.stream, answer, written),
            State::Draining { discarded } => discard(&mut self.stream, discarded),
        };
        match (done, &self.state) {
            (Err(e), _) if e.kind() == ErrorKind::WouldBlock => Status::Open,
            (Err(_), _) | (Ok(()), State::Draining { .. }) => Status::Closed,
            (Ok(()), State::Reading { .. }) => Status::Open,
            (Ok(()), State::Writing { .. }) => self.begin_draining(longest),
        }
    }

    /// The response was written: shuts the sending side.
    fn begin_draining(&mut self, longest: usize) -> Status {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return Status::Closed;
        }
        self.state = State::Draining { discarded: 0 };
        self.ready = true;
        self.advance(longest)
    }
}

/// Reads to the end of the request, or to the size limit.
fn read_request(stream: &mut TcpStream, request: &mut Vec<u8>, longest: usize) -> io::Result<()> {
    let left = longest.saturating_sub(request.len()) as u64;
    Read::take(stream, left).read_to_end(request).map(drop)
}

/// Writes what is left of `answer` from `written` on.
fn write(stream: &mut TcpStream, answer: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < answer.len() {
        match stream.write(&answer[*written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads to the end, or up to [`DISCARDED`] bytes.
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
mod tests;
