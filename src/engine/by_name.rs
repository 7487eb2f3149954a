//! The part of [`Engine`] for apps that share a listener, where the TLS server name of a client
//! chooses the app ([`super::inspectors`]). Once it is chosen the client is as one that the app
//! has just accepted: its own rules hold, and a preread sees the same bytes again.

use std::io;
use std::net::SocketAddr;

use super::apps::{AppId, Entrance, PortId};
use super::inspectors::{RefusedByName, TokenOwner, has_ended};
use super::limits::AppLimits;
use super::listener::BoundListener;
use super::port::Port;
use super::readiness::Readiness;
use super::{ACCEPTS_PER_TURN, DEADLINES_PER_TURN, Engine};
use crate::clock::Time;
use crate::rules::client_hello::Refusal;
use crate::rules::server_name::{MAX_PEEK, ServerNames, Verdict};

/// The most clients at once whose name is awaited.
const MAX_INSPECTED: usize = 1024;

/// The part of the connection limit that they have at most: one in this many.
const INSPECTED_PART: usize = 8;

/// The listener of a port where names choose the app.
#[derive(Debug)]
pub enum NamedListener {
    /// No other port has it.
    New(BoundListener),
    /// It is that of other ports at this address too.
    Shared(SocketAddr),
}

impl Engine {
    // --- Ports ---

    /// Adds a port to an app whose clients name one of these servers, with the gate shut and no
    /// address to dial.
    ///
    /// # Errors
    /// What the kernel says to watching another socket, that there are too many listeners, or
    /// none at that address.
    pub fn add_named_port(
        &mut self,
        app: AppId,
        listener: NamedListener,
        names: &ServerNames,
        limits: AppLimits,
    ) -> io::Result<PortId> {
        self.check_room_for_port()?;
        let inspector = match listener {
            NamedListener::New(listener) => self.inspectors.add(listener, self.poll.registry())?,
            NamedListener::Shared(address) => {
                let found = self.inspectors.find(address);
                found.ok_or_else(|| io::Error::other("nothing listens there"))?
            }
        };
        let port = Port::new(limits, self.random.bits());
        let inspectors = &mut self.inspectors;
        let added = self.apps.add(app, port, |slot| {
            inspectors.set_names(inspector, slot, names);
            io::Result::Ok(Entrance::Inspector(inspector))
        });
        self.divide_among_apps();
        self.fit_inspectors();
        added
    }

    /// Whether names choose the app of those who connect to that address.
    pub fn is_named(&self, address: SocketAddr) -> bool {
        self.inspectors.find(address).is_some()
    }

    /// Replaces the names of an app, for clients whose name has yet to come.
    pub fn set_names(&mut self, app: AppId, names: &ServerNames) {
        for &slot in self.apps.slots(app).iter() {
            if let Some(inspector) = self.apps.get(slot).inspector {
                self.inspectors.set_names(inspector, slot, names);
            }
        }
    }

    /// Forgets the names of an app that is about to be removed.
    pub(super) fn remove_names(&mut self, app: AppId) {
        for &slot in self.apps.slots(app).iter() {
            if let Some(inspector) = self.apps.get(slot).inspector {
                self.inspectors.remove(inspector, slot);
            }
        }
        self.follow_inspected();
    }

    /// Accepts who has connected so far, and then no more for the port in that slot.
    pub(super) fn stop_names(&mut self, inspector: usize, slot: usize, now: Time) {
        self.inspectors.set_ready(inspector);
        while let Some(client) = self.inspectors.accept_at(inspector, now) {
            self.begin_inspection(client, now);
        }
        self.inspectors.stop(inspector, slot);
    }

    /// The clients that were refused where names choose the app, by address.
    pub fn refused_by_name(&self) -> Vec<RefusedByName> {
        self.inspectors.refused().collect()
    }

    /// How many clients have connected whose app is not known yet.
    pub fn inspected(&self) -> usize {
        self.inspectors.undecided()
    }

    /// When the last client will have named its app or be refused, of those whose app is not
    /// known yet and that may be this one's; `None` if there is none.
    pub fn inspected_until(&self, app: AppId) -> Option<Time> {
        let ports = self.apps.slots(app);
        let inspected = ports.iter().filter_map(|&slot| {
            let inspector = self.apps.get(slot).inspector?;
            self.inspectors.awaited_until(inspector, slot)
        });
        inspected.max()
    }

    /// How many connections of the limit are kept for clients whose name is awaited.
    pub(super) fn kept_for_inspected(&self) -> usize {
        let limit = self.limits.max_connections;
        match self.inspectors.is_empty() {
            true => 0,
            false => self.most_inspected().min(limit.saturating_sub(1)),
        }
    }

    fn most_inspected(&self) -> usize {
        let part = self.limits.max_connections / INSPECTED_PART;
        part.clamp(1, MAX_INSPECTED)
    }

    /// Gives those who come next room for a whole ClientHello.
    pub(super) fn fit_inspectors(&mut self) {
        if !self.inspectors.is_empty() {
            let memory = &mut self.shared.memory;
            let sizes = memory.buffer_sizes_to_peek(self.shared.open, MAX_PEEK);
            self.inspectors.set_buffer_sizes(sizes);
        }
    }

    // --- Clients ---

    /// Accepts clients, and ends those whose time has passed.
    pub(super) fn serve_inspectors(&mut self, now: Time) {
        if self.inspectors.is_empty() {
            return;
        }
        for _ in 0..DEADLINES_PER_TURN {
            let Some(client) = self.inspectors.due(now) else {
                break;
            };
            self.end_inspected(client, Refusal::TooLate, now);
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(client) = self.inspectors.accept(now) else {
                return;
            };
            self.begin_inspection(client, now);
        }
    }

    /// Their sockets take memory as those of connections do.
    fn follow_inspected(&mut self) {
        self.shared.open = self.connections.len() + self.inspectors.len();
    }

    fn begin_inspection(&mut self, client: usize, now: Time) {
        self.follow_inspected();
        self.inspect(client, false, now);
        if self.inspectors.len() > self.most_inspected()
            && let Some(oldest) = self.inspectors.oldest_of_most()
        {
            self.end_inspected(oldest, Refusal::Evicted, now);
        }
    }

    pub(super) fn handle_inspected(&mut self, found: TokenOwner, event: Readiness, now: Time) {
        match found {
            TokenOwner::Listener(key) => self.inspectors.set_ready(key),
            TokenOwner::Gone => {}
            TokenOwner::Client(client) if self.inspectors.is_awaited(client) => {
                self.inspect(client, has_ended(event), now);
            }
            TokenOwner::Client(client) => self.linger(client),
        }
    }

    /// Looks at what a client has sent. `has_ended`: it sends no more.
    fn inspect(&mut self, client: usize, has_ended: bool, now: Time) {
        let apps = &self.apps;
        let scratch = &mut self.shared.buffers.scratch[..];
        let verdict = self.inspectors.inspect(client, scratch, |slot, peer| {
            let rules = &apps.get(slot).port.rules;
            rules.accept_proxy_protocol.contains(peer)
        });
        match verdict {
            // A TCP health check: it connects and closes.
            Err(_) => self.remove_inspected(client),
            Ok(Verdict::Undecided) if has_ended => self.remove_inspected(client),
            Ok(Verdict::Undecided) => self.watch_inspected(client),
            Ok(Verdict::Chosen(slot)) if !self.has_or_makes_room(slot, now) => {
                // Those who would wait for it here would take the places of other apps'.
                self.refuse(client, Refusal::NoRoom, now);
            }
            Ok(Verdict::Chosen(slot)) => self.hand_over(client, slot, now),
            Ok(Verdict::Refused(refusal)) => self.refuse(client, refusal, now),
        }
    }

    /// Whether the app of that port may have one more connection; closes a detached one if not.
    pub(super) fn has_or_makes_room(&mut self, slot: usize, now: Time) -> bool {
        let app = self.apps.get(slot).app;
        self.open.has_room(app) || self.end_longest_detached(app, now) && self.open.has_room(app)
    }

    fn hand_over(&mut self, client: usize, slot: usize, now: Time) {
        let chosen = self.inspectors.choose(client, self.poll.registry());
        self.follow_inspected();
        if let Some((socket, peer)) = chosen {
            self.admit(slot, socket, peer, now);
        }
    }

    /// Ends a client for that reason, unless it was refused for another before.
    fn end_inspected(&mut self, client: usize, refusal: Refusal, now: Time) {
        match self.inspectors.is_awaited(client) {
            true => self.refuse(client, refusal, now),
            false => self.remove_inspected(client),
        }
    }

    fn refuse(&mut self, client: usize, refusal: Refusal, now: Time) {
        let scratch = &mut self.shared.buffers.scratch[..];
        match self.inspectors.refuse(client, refusal, scratch, now) {
            true => self.watch_inspected(client),
            false => self.remove_inspected(client),
        }
    }

    /// Reads and drops what a client sends that has got an alert.
    fn linger(&mut self, client: usize) {
        let scratch = &mut self.shared.buffers.scratch[..];
        if self.inspectors.linger(client, scratch) {
            self.remove_inspected(client);
        }
    }

    fn watch_inspected(&mut self, client: usize) {
        let watched = self.inspectors.watch(client, self.poll.registry());
        if watched.is_err() {
            self.remove_inspected(client);
        }
    }

    fn remove_inspected(&mut self, client: usize) {
        self.inspectors.remove_client(client);
        self.follow_inspected();
    }
}
