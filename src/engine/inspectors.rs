//! [`Inspectors`] are the listeners at which the TLS server name chooses the app, with the
//! clients whose name is awaited. (Envoy has the name "TLS inspector" for it.)
//!
//! A client has no app before its ClientHello has come, which is peeked at: it counts for none,
//! wakes none and takes no place of theirs. Its name is awaited for 5 s. Such clients are
//! untrusted, so their number is limited. If there are too many, one is evicted: at the listener
//! with the most clients, of the source with the most clients there, the oldest. So a flood of
//! silent connections evicts itself, and neither the clients of another listener nor those of
//! another source, whose ClientHello comes within a round trip.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use log::{debug, info};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::by_source::BySource;
use super::lingering::{Lingered, Lingering};
use super::listener::{BoundListener, Listener};
use super::log_limiter::LogLimiter;
use super::memory::BufferSizes;
use super::readiness::Readiness;
use super::sockets::Socket;
use super::stream::Stream;
use super::timers::Timers;
use super::token::{generation, inspected_token, parse_inspected};
use crate::clock::Time;
use crate::rules::client_hello::{self, Hello, Refusal};
use crate::rules::server_name::{MAX_PEEK, NameTable, ServerNames, Verdict};

/// The token of the first inspector, below those of the other listeners. No connection has so
/// large a token: its slot would be beyond 4 billion.
const FIRST: usize = super::apps::FIRST_LISTENER - MAX_INSPECTORS;

/// How many there may be.
const MAX_INSPECTORS: usize = super::apps::MAX_LISTENERS;

/// How long a client may take to send its ClientHello, which it sends at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client that was sent an alert may take to end.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The listeners and their clients.
#[derive(Default)]
pub struct Inspectors {
    all: Slab<Inspector>,
    clients: Slab<Client>,
    /// The inspectors at whose listeners connections may wait to be accepted.
    accepting: VecDeque<usize>,
    /// Clients refused, by listen address and reason. The key is the address, so a new listener
    /// there continues the counts.
    refused: BTreeMap<SocketAddr, BTreeMap<&'static str, u64>>,
    /// The deadlines of the clients.
    timers: Timers,
    /// How many clients there were since the start.
    accepted: u64,
    log: LogLimiter,
}

/// A listener, and which port each server name leads to.
struct Inspector {
    /// `None` once it was handed to a port without server names ([`Inspectors::take_listener`]), or
    /// nothing is accepted any more.
    listener: Option<Listener>,
    address: SocketAddr,
    /// Whether it is in [`Inspectors::accepting`].
    is_accepting: bool,
    /// The slots of ports by the names of their apps.
    names: NameTable<usize>,
    /// Its ports, by slot. `None` while a port takes clients; else the serial number of the first
    /// client that it does not get.
    ports: BTreeMap<usize, Option<u64>>,
    clients: BySource,
}

/// A client.
struct Client {
    socket: TcpStream,
    peer: SocketAddr,
    serial: u64,
    inspector: usize,
    /// Its entry in the timers.
    deadline: Option<Time>,
    is_registered: bool,
    /// What follows its refusal; `None` while its name is awaited.
    lingering: Option<Lingering>,
}

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOwner {
    /// A listener.
    Listener(usize),
    /// A client.
    Client(usize),
    /// A client that was there when the event was taken from the kernel.
    Gone,
}

/// The clients that were refused at an address since apps are chosen by name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedByName {
    /// Where they have connected to.
    pub listen: SocketAddr,
    /// How many clients are there: those whose name is awaited, and those that were sent an alert
    /// and linger.
    pub waiting: usize,
    /// How many were refused, by the reason: each from zero.
    pub refused: Vec<(&'static str, u64)>,
}

impl Inspectors {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// How many of them have not named their app yet.
    pub fn undecided(&self) -> usize {
        let clients = self.clients.iter();
        clients.filter(|(_, it)| it.lingering.is_none()).count()
    }

    /// The last deadline of those that have yet to name their app, and that a port of that
    /// inspector gets if they name its app.
    pub fn awaited_until(&self, key: usize, port: usize) -> Option<Time> {
        let inspector = self.all.get(key)?;
        let clients = inspector.clients.slots();
        let clients = clients.filter_map(|slot| self.clients.get(slot));
        let awaited = clients
            .filter(|it| it.lingering.is_none() && inspector.accepts(port, it.serial))
            .filter_map(|it| it.deadline);
        awaited.max()
    }

    /// What has become of clients at each address.
    pub fn refused(&self) -> impl Iterator<Item = RefusedByName> {
        let mut waiting: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for (_, inspector) in &self.all {
            *waiting.entry(inspector.address).or_default() += inspector.clients.len();
        }
        self.refused.iter().map(move |(listen, refused)| {
            let count = |it: Refusal| (it.name(), refused.get(it.name()).copied().unwrap_or(0));
            RefusedByName {
                listen: *listen,
                waiting: waiting.get(listen).copied().unwrap_or(0),
                refused: Refusal::ALL.map(count).to_vec(),
            }
        })
    }

    // --- Listeners and ports ---

    /// Adds an inspector for `listener`.
    ///
    /// # Errors
    /// Those of epoll_ctl(2) and getsockname(2), or that there are too many.
    pub fn add(&mut self, listener: BoundListener, registry: &Registry) -> io::Result<usize> {
        if self.all.len() >= MAX_INSPECTORS {
            return Err(io::Error::other("there are too many listeners"));
        }
        let address = listener.local_addr()?;
        let slot = self.all.vacant_entry();
        let key = slot.key();
        let listener = Listener::new(listener, registry, Token(FIRST + key))?;
        slot.insert(Inspector {
            listener: Some(listener),
            address,
            is_accepting: false,
            names: NameTable::default(),
            ports: BTreeMap::new(),
            clients: BySource::default(),
        });
        self.refused.entry(address).or_default();
        Ok(key)
    }

    /// The inspector that listens at `address`.
    pub fn find(&self, address: SocketAddr) -> Option<usize> {
        let is_there = |listener: &Listener| listener.is_at(address);
        let mut all = self.all.iter();
        let found = all.find(|(_, it)| it.listener.as_ref().is_some_and(is_there));
        found.map(|(key, _)| key)
    }

    /// Replaces the names of a port of inspector `key`. A name that another of its ports had
    /// moves to this one.
    pub fn set_names(&mut self, key: usize, port: usize, names: &ServerNames) {
        if let Some(inspector) = self.all.get_mut(key) {
            inspector.ports.entry(port).or_default();
            inspector.names.set(port, names);
        }
    }

    /// The listener of a port; `None` once it accepts no more.
    pub fn listener(&self, key: usize, port: usize) -> Option<&Listener> {
        let inspector = self.all.get(key)?;
        let has_stopped = inspector.ports.get(&port)?.is_some();
        inspector.listener.as_ref().filter(|_| !has_stopped)
    }

    /// Takes the listener out, for a port that has it alone from now on. Clients that were accepted
    /// here stay until their name has come.
    pub fn take_listener(&mut self, key: usize, registry: &Registry) -> Option<BoundListener> {
        let listener = self.all.get_mut(key)?.listener.take()?;
        listener.into_bound(registry).ok()
    }

    /// Sends a port no client that comes from now on. The listener is closed with the last of
    /// its ports.
    pub fn stop(&mut self, key: usize, port: usize) {
        let Some(inspector) = self.all.get_mut(key) else {
            return;
        };
        if let Some(stopped @ None) = inspector.ports.get_mut(&port) {
            *stopped = Some(self.accepted);
        }
        if inspector.ports.values().all(Option::is_some) {
            inspector.listener = None;
        }
    }

    /// Removes a port, and with the last one the listener and all clients there.
    pub fn remove(&mut self, key: usize, port: usize) {
        let Some(inspector) = self.all.get_mut(key) else {
            return;
        };
        inspector.names.remove(port);
        inspector.ports.remove(&port);
        if !inspector.ports.is_empty() {
            return;
        }
        let clients: Vec<usize> = inspector.clients.slots().collect();
        for client in clients {
            if let Some(client) = self.take(client) {
                client.socket.reset_on_close();
            }
        }
        let address = self.all.remove(key).address;
        if self.all.iter().all(|(_, other)| other.address != address) {
            self.refused.remove(&address);
        }
        self.accepting.retain(|it| *it != key);
    }

    /// Sets the buffer sizes of sockets that are accepted from now on.
    pub fn set_buffer_sizes(&mut self, sizes: BufferSizes) {
        for (_, inspector) in &mut self.all {
            if let Some(listener) = &mut inspector.listener {
                listener.set_buffer_sizes(sizes);
            }
        }
    }

    // --- Accepting ---

    /// What that token names here, if anything.
    pub fn find_token(&self, token: Token) -> Option<TokenOwner> {
        if let Some(key) = token.0.checked_sub(FIRST) {
            return (key < MAX_INSPECTORS).then_some(TokenOwner::Listener(key));
        }
        let (key, of) = parse_inspected(token)?;
        let client = self.clients.get(key);
        match client.is_some_and(|client| generation(client.serial) == of) {
            true => Some(TokenOwner::Client(key)),
            false => Some(TokenOwner::Gone),
        }
    }

    /// A connection waits at that listener.
    pub fn set_ready(&mut self, key: usize) {
        let Some(inspector) = self.all.get_mut(key) else {
            return;
        };
        if let Some(listener) = &mut inspector.listener {
            listener.set_ready();
            if !std::mem::replace(&mut inspector.is_accepting, true) {
                self.accepting.push_back(key);
            }
        }
    }

    /// Whether [`Inspectors::accept`] has something to do now.
    pub fn can_accept(&self, now: Time) -> bool {
        self.waiting_listeners().any(|it| it.is_ready(now))
    }

    /// When there is something to do though nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        let pauses = self.waiting_listeners().filter_map(Listener::poll_timeout);
        pauses.chain(self.timers.next()).min()
    }

    fn waiting_listeners(&self) -> impl Iterator<Item = &Listener> {
        let inspectors = self.accepting.iter().filter_map(|&key| self.all.get(key));
        inspectors.filter_map(|inspector| inspector.listener.as_ref())
    }

    /// Accepts the next client of the listener whose turn it is.
    pub fn accept(&mut self, now: Time) -> Option<usize> {
        for _ in 0..self.accepting.len() {
            let key = self.accepting.pop_front()?;
            let accepted = self.accept_at(key, now);
            let Some(inspector) = self.all.get_mut(key) else {
                continue;
            };
            let listener = inspector.listener.as_ref();
            let is_paused = listener.is_some_and(|it| it.poll_timeout().is_some());
            if accepted.is_some() || is_paused {
                self.accepting.push_back(key);
            } else {
                inspector.is_accepting = false;
            }
            if accepted.is_some() {
                return accepted;
            }
        }
        None
    }

    /// Accepts the next client at that one.
    pub fn accept_at(&mut self, key: usize, now: Time) -> Option<usize> {
        let inspector = self.all.get_mut(key)?;
        let (socket, peer) = inspector.listener.as_mut()?.accept(now)?;
        let serial = self.accepted;
        self.accepted += 1;
        let slot = self.clients.vacant_entry();
        inspector.clients.insert(peer.ip(), serial, slot.key());
        let client = slot.key();
        let added = slot.insert(Client {
            socket,
            peer,
            serial,
            inspector: key,
            deadline: None,
            is_registered: false,
            lingering: None,
        });
        let until = Some(now + HELLO_TIMEOUT);
        self.timers.set(client, &mut added.deadline, until);
        Some(client)
    }

    /// The client that makes room for another: see the [module](self).
    pub fn oldest_of_most(&self) -> Option<usize> {
        let (_, most) = self.all.iter().max_by_key(|(_, it)| it.clients.len())?;
        most.clients.oldest_of_most()
    }

    // --- Clients ---

    /// A client whose deadline has passed.
    pub fn due(&self, now: Time) -> Option<usize> {
        self.timers.due(now)
    }

    /// Whether its name is awaited.
    pub fn is_awaited(&self, client: usize) -> bool {
        let client = self.clients.get(client);
        client.is_some_and(|client| client.lingering.is_none())
    }

    /// Who gets that client, by the bytes that it has sent. `reads_header`: whether a port
    /// expects a PROXY header from an address.
    ///
    /// # Errors
    /// That the client is gone.
    pub fn inspect(
        &self,
        client: usize,
        scratch: &mut [u8],
        reads_header: impl Fn(usize, IpAddr) -> bool,
    ) -> io::Result<Verdict<usize>> {
        let gone = || io::Error::from(ErrorKind::NotConnected);
        let client = self.clients.get(client).ok_or_else(gone)?;
        let inspector = self.all.get(client.inspector).ok_or_else(gone)?;
        let bytes = match client.socket.peek(&mut scratch[..MAX_PEEK]) {
            Ok(0) => return Err(gone()),
            Ok(len) => &scratch[..len],
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(Verdict::Undecided);
            }
            Err(e) => return Err(e),
        };
        let peer = client.peer.ip().to_canonical();
        let accepts = |port| inspector.accepts(port, client.serial);
        let verdict = inspector.names.route(bytes, false, accepts);
        if verdict != Verdict::Refused(Refusal::NotTls) {
            return Ok(verdict);
        }
        // A header is the load balancer's only where the app expects one of it.
        let has_header = inspector.ports.keys().any(|&port| reads_header(port, peer));
        let verdict = match has_header {
            true => inspector.names.route(bytes, true, accepts),
            false => verdict,
        };
        Ok(match verdict {
            Verdict::Chosen(port) if !reads_header(port, peer) => Verdict::Refused(Refusal::NotTls),
            verdict => verdict,
        })
    }

    /// Has the event loop report what that client sends.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watch(&mut self, client: usize, registry: &Registry) -> io::Result<()> {
        let Some(found) = self.clients.get_mut(client).filter(|it| !it.is_registered) else {
            return Ok(());
        };
        let token = inspected_token(client, found.serial);
        registry.register(&mut found.socket, token, Interest::READABLE)?;
        found.is_registered = true;
        Ok(())
    }

    /// Removes a client that an app gets; `None` if its socket is of no use any more.
    pub fn choose(
        &mut self,
        client: usize,
        registry: &Registry,
    ) -> Option<(TcpStream, SocketAddr)> {
        let mut client = self.take(client)?;
        if client.is_registered {
            registry.deregister(&mut client.socket).ok()?;
        }
        Some((client.socket, client.peer))
    }

    /// Refuses a client; returns whether it gets an alert and stays for a moment.
    pub fn refuse(
        &mut self,
        client: usize,
        refusal: Refusal,
        scratch: &mut [u8],
        now: Time,
    ) -> bool {
        let Some(found) = self.clients.get_mut(client) else {
            return false;
        };
        let from = found.peer.ip().to_canonical();
        debug!("a connection of {from} is refused: it {refusal}");
        if let Some(inspector) = self.all.get_mut(found.inspector) {
            let refused = self.refused.entry(inspector.address).or_default();
            *refused.entry(refusal.name()).or_default() += 1;
            if let Some(count) = self.log.note(now) {
                let (address, name) = (inspector.address, found.name(refusal, scratch));
                info!(
                    "a connection of {from} to {address} is refused: it {refusal}{name} \
                     ({count} such)"
                );
            }
        }
        let has_alert = refusal.alert().is_some_and(|it| found.send_last(&it));
        if has_alert {
            found.lingering = Some(Lingering::default());
            let until = Some(now + LINGER_TIMEOUT);
            self.timers.set(client, &mut found.deadline, until);
        } else {
            found.socket.reset_on_close();
        }
        has_alert
    }

    /// Reads and drops what a client sends that was refused; returns whether it is over.
    pub fn linger(&mut self, client: usize, scratch: &mut [u8]) -> bool {
        let Some(found) = self.clients.get_mut(client) else {
            return true;
        };
        let Some(lingering) = &mut found.lingering else {
            return false;
        };
        match lingering.drop_input(&mut found.socket, scratch) {
            Lingered::Waits => false,
            Lingered::Over => true,
            Lingered::TooMuch => {
                found.socket.reset_on_close();
                true
            }
        }
    }

    /// Removes a client, whose socket is closed with it.
    pub fn remove_client(&mut self, client: usize) {
        drop(self.take(client));
    }

    fn take(&mut self, client: usize) -> Option<Client> {
        let mut taken = self.clients.try_remove(client)?;
        self.timers.set(client, &mut taken.deadline, None);
        if let Some(inspector) = self.all.get_mut(taken.inspector) {
            inspector.clients.remove(taken.peer.ip(), taken.serial);
        }
        Some(taken)
    }
}

impl Inspector {
    /// Whether a port gets the client with that serial number: one that had stopped when it came
    /// does not.
    fn accepts(&self, port: usize, serial: u64) -> bool {
        let stopped = self.ports.get(&port).copied().flatten();
        stopped.is_none_or(|first| serial < first)
    }
}

impl Client {
    /// The name that no app has, for the log.
    fn name(&self, refusal: Refusal, scratch: &mut [u8]) -> String {
        let found = match self.socket.peek(&mut scratch[..MAX_PEEK]) {
            Ok(len) if refusal == Refusal::UnknownName => client_hello::read(&scratch[..len]),
            _ => return String::new(),
        };
        match found {
            Hello::Complete(Some(name)) => format!(", {name}"),
            // Behind a PROXY header.
            _ => String::new(),
        }
    }

    /// Sends the last bytes for the client, and a FIN.
    fn send_last(&mut self, bytes: &[u8]) -> bool {
        let is_sent = self.socket.write(bytes).is_ok_and(|len| len == bytes.len());
        is_sent && self.socket.shut_write().is_ok()
    }
}

/// Whether an event says that a client sends nothing more.
pub fn has_ended(event: Readiness) -> bool {
    event.read_closed || event.error || event.hang_up
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::token::{Side, backend_token, token};

    /// A connection may have the same slot and serial number.
    #[test]
    fn an_event_of_a_client_that_is_gone_is_no_event_of_a_connection() {
        let none = Inspectors::default();
        assert_eq!(
            none.find_token(inspected_token(0, 0)),
            Some(TokenOwner::Gone)
        );
        let listener = Some(TokenOwner::Listener(3));
        assert_eq!(none.find_token(Token(FIRST + 3)), listener);
        for other in [token(0, 0, Side::Client), backend_token(0, 0, 1)] {
            assert_eq!(none.find_token(other), None);
        }
    }
}
