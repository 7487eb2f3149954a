//! [`Apps`] are the apps that the engine serves, with their listeners, and the order in
//! which they accept and dial.
//!
//! Each turn of the loop accepts and dials a bounded number of connections, one of each
//! app in turn. An app that has nothing to accept and nothing to dial is in neither
//! queue and costs a turn nothing.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use mio::Token;
use mio::net::TcpStream;
use slab::Slab;

use super::counters::Counts;
pub use super::ids::{AppId, PortId};
use super::listener::Listener;
use super::port::Port;
use super::port_group::PortGroup;
use super::shares::Shares;
use crate::clock::Time;

/// No connection has a token from here up to those of the admin port: its slot would
/// be beyond 4 billion.
pub(super) const FIRST_LISTENER: usize = usize::MAX - 1024 - MAX_LISTENERS;

/// How many listeners there may be: the slot of one has 16 bits.
pub const MAX_LISTENERS: usize = 1 << 16;

/// A [`Port`] with its listener, and its connections that wait.
pub struct PortEntry {
    pub app: AppId,
    /// `None` once nothing is accepted any more, and where names choose the app.
    pub listener: Option<Listener>,
    /// The slot of the inspector at whose listener names choose the app.
    pub inspector: Option<usize>,
    /// The held connections in the order in which they came: serial number to slot.
    pub held: BTreeMap<u64, usize>,
    /// The detached connections: since when they are silent, and their slots.
    pub detached: BTreeSet<(Time, usize)>,
    /// Connections that backends serve, and whose next byte waits for the gate.
    pub awaiting_gate: Vec<Token>,
    pub port: Port,
    /// Whether the app has other ports.
    has_siblings: bool,
}

impl PortEntry {
    /// Whether a connection is held that may be dialled now.
    fn can_release(&self, now: Time) -> bool {
        !self.held.is_empty() && self.port.may_release(now)
    }

    /// When a held connection may be dialled, if only the release rate delays it.
    fn next_release(&self) -> Option<Time> {
        self.port.next_release().filter(|_| !self.held.is_empty())
    }
}

/// What the clients of a port come by.
pub enum Entrance {
    /// A listener of its own, whose token is [`Apps::listener_token`].
    Own(Listener),
    /// The listener of the inspector in that slot, by the names of the app.
    Inspector(usize),
}

/// The apps.
#[derive(Default)]
pub struct Apps {
    apps: BTreeMap<AppId, App>,
    /// How many apps have affinity.
    affinity_tables: Rc<Cell<usize>>,
    ports: Slab<PortEntry>,
    /// The apps with listeners at which connections may wait to be accepted.
    accepting: VecDeque<AppId>,
    /// The apps with held connections that may be dialled.
    releasing: VecDeque<AppId>,
    /// The slots of ports whose gate has opened and where relayed connections wait for it.
    passing: Vec<usize>,
    /// The apps whose counts have changed.
    changed: Vec<AppId>,
}

#[derive(Default)]
struct App {
    /// The slots of its ports, by the index of the port.
    ports: Rc<[usize]>,
    group: Rc<PortGroup>,
    /// The index of the port that accepts next.
    next: usize,
    /// Whether it is in [`Apps::accepting`]; the next two likewise.
    is_accepting: bool,
    is_releasing: bool,
    has_changed: bool,
}

impl Apps {
    /// Adds a port to an app, which is new if it has had none; `entrance` makes what clients
    /// come by from the slot.
    ///
    /// # Errors
    /// The error of `entrance`.
    pub fn add<E>(
        &mut self,
        app: AppId,
        mut port: Port,
        entrance: impl FnOnce(usize) -> Result<Entrance, E>,
    ) -> Result<PortId, E> {
        let slot = self.ports.vacant_entry();
        let key = slot.key();
        let (listener, inspector) = match entrance(key)? {
            Entrance::Own(listener) => (Some(listener), None),
            Entrance::Inspector(inspector) => (None, Some(inspector)),
        };
        let tables = &self.affinity_tables;
        let its = self.apps.entry(app).or_insert_with(|| {
            let app = App::default();
            app.group.affinity.share(tables);
            app
        });
        port.join(&its.group);
        slot.insert(PortEntry {
            app,
            listener,
            inspector,
            held: BTreeMap::new(),
            detached: BTreeSet::new(),
            awaiting_gate: Vec::new(),
            port,
            has_siblings: false,
        });
        its.ports = its.ports.iter().copied().chain([key]).collect();
        for &slot in its.ports.iter().filter(|_| its.ports.len() > 1) {
            self.ports[slot].has_siblings = true;
        }
        Ok(PortId {
            app,
            index: its.ports.len() - 1,
        })
    }

    /// Removes an app, which must have no connection any more.
    pub fn remove(&mut self, app: AppId) {
        let Some(removed) = self.apps.remove(&app) else {
            return;
        };
        for &slot in removed.ports.iter() {
            self.ports.remove(slot);
        }
        // Another app may get the slots.
        self.passing.retain(|slot| !removed.ports.contains(slot));
        self.accepting.retain(|id| *id != app);
        self.releasing.retain(|id| *id != app);
        self.changed.retain(|id| *id != app);
    }

    /// How many apps there are.
    pub fn count(&self) -> usize {
        self.apps.len()
    }

    /// How many listeners there are, those that have stopped included.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// The token of the listener of a port, by its slot.
    pub fn listener_token(slot: usize) -> Token {
        Token(FIRST_LISTENER + slot)
    }

    /// The slot of the listener that a token names, if it names one.
    pub fn listener_of(token: Token) -> Option<usize> {
        let slot = token.0.checked_sub(FIRST_LISTENER)?;
        (slot < MAX_LISTENERS).then_some(slot)
    }

    /// What the ports of an app share.
    pub fn group(&self, app: AppId) -> Option<&PortGroup> {
        self.apps.get(&app).map(|app| &*app.group)
    }

    /// The slot of a port's entry.
    pub fn slot(&self, id: PortId) -> Option<usize> {
        self.apps.get(&id.app)?.ports.get(id.index).copied()
    }

    /// The slots of an app's ports.
    pub fn slots(&self, app: AppId) -> Rc<[usize]> {
        let app = self.apps.get(&app);
        app.map_or_else(Rc::default, |app| app.ports.clone())
    }

    /// The slots of all ports.
    pub fn all_slots(&self) -> Vec<usize> {
        self.ports.iter().map(|(slot, _)| slot).collect()
    }

    /// The entry in that slot.
    pub fn get(&self, slot: usize) -> &PortEntry {
        &self.ports[slot]
    }

    /// The entry in that slot.
    pub fn get_mut(&mut self, slot: usize) -> &mut PortEntry {
        &mut self.ports[slot]
    }

    /// The ports of an app.
    pub fn ports(&self, app: AppId) -> impl Iterator<Item = &PortEntry> {
        let slots = self.apps.get(&app).map_or(&[][..], |app| &app.ports[..]);
        slots.iter().map(|&slot| &self.ports[slot])
    }

    /// What was counted at all ports of an app.
    pub fn counts(&self, app: AppId) -> Counts {
        self.ports(app).map(|it| it.port.counts()).sum()
    }

    /// Whether a connection waits for a backend, at any port.
    pub fn has_waiting(&self) -> bool {
        self.ports.iter().any(|(_, it)| it.port.counts.waiting > 0)
    }

    /// The slot of the connection that an app has held for the longest.
    pub fn oldest_held(&self, app: AppId) -> Option<usize> {
        let first = self.ports(app).filter_map(|it| it.held.first_key_value());
        first
            .min_by_key(|(serial, _)| **serial)
            .map(|(_, &key)| key)
    }

    // --- Accepting ---

    /// A connection waits at the listener in that slot.
    pub fn set_ready(&mut self, slot: usize) {
        let Some(entry) = self.ports.get_mut(slot) else {
            return;
        };
        let (Some(listener), Some(app)) = (&mut entry.listener, self.apps.get_mut(&entry.app))
        else {
            return;
        };
        listener.set_ready();
        if !std::mem::replace(&mut app.is_accepting, true) {
            self.accepting.push_back(entry.app);
        }
    }

    /// Whether [`Apps::accept`] has something to do now.
    pub fn can_accept(&self, open: &Shares, now: Time) -> bool {
        self.waiting_listeners(open).any(|it| it.is_ready(now))
    }

    /// When the first listener that has paused accepts again.
    pub fn poll_timeout(&self, open: &Shares) -> Option<Time> {
        let pauses = self
            .waiting_listeners(open)
            .filter_map(Listener::poll_timeout);
        pauses.min()
    }

    /// Those at which connections may wait for which their app has room.
    fn waiting_listeners(&self, open: &Shares) -> impl Iterator<Item = &Listener> {
        let apps = self.accepting.iter();
        let apps = apps.filter(|app| self.has_room(**app, open));
        apps.flat_map(|&app| self.ports(app))
            .filter_map(|entry| entry.listener.as_ref())
    }

    /// The next connection, of the app whose turn it is among those that have room, and the
    /// slot of its entry.
    pub fn accept(&mut self, open: &Shares, now: Time) -> Option<(usize, TcpStream, SocketAddr)> {
        for _ in 0..self.accepting.len() {
            let id = self.accepting.pop_front()?;
            if !self.has_room(id, open) {
                self.accepting.push_back(id);
                continue;
            }
            let Some(app) = self.apps.get_mut(&id) else {
                continue;
            };
            let accepted = app.accept(&mut self.ports, now);
            if accepted.is_some() || app.is_paused(&self.ports) {
                self.accepting.push_back(id);
            } else {
                app.is_accepting = false;
            }
            if accepted.is_some() {
                return accepted;
            }
        }
        None
    }

    /// Whether an app waits for room.
    pub fn waits_for_room(&self, open: &Shares) -> bool {
        self.accepting.iter().any(|app| !self.has_room(*app, open))
    }

    /// Whether an app may have one more connection, in the place of a detached one if need be.
    fn has_room(&self, app: AppId, open: &Shares) -> bool {
        open.has_room(app) || self.has_detached(app)
    }

    /// Whether an app has detached connections.
    pub fn has_detached(&self, app: AppId) -> bool {
        self.ports(app).any(|it| !it.detached.is_empty())
    }

    /// The slot of the detached connection of an app that has been silent for the longest.
    pub fn longest_detached(&self, app: AppId) -> Option<usize> {
        let first = self.ports(app).filter_map(|it| it.detached.first());
        first.min().map(|&(_, key)| key)
    }

    // --- Dialling ---

    /// Puts the app of the entry in that slot in the queue of those that dial, if
    /// it has a connection to dial, be that now or in a while: at any port, because a pod that
    /// has room again has it for all of them.
    pub fn queue_release(&mut self, slot: usize) {
        let entry = &self.ports[slot];
        if entry.held.is_empty() && !entry.has_siblings {
            return;
        }
        let id = entry.app;
        let Some(app) = self.apps.get_mut(&id).filter(|app| !app.is_releasing) else {
            return;
        };
        if app.can_dial_held(&self.ports) {
            app.is_releasing = true;
            self.releasing.push_back(id);
        }
    }

    /// Whether a connection that has just come to the port in that slot is dialled at once,
    /// which it counts as then: nobody has come before it whose turn it is.
    pub fn pass(&self, slot: usize, now: Time) -> bool {
        let entry = &self.ports[slot];
        let Some(app) = self.apps.get(&entry.app) else {
            return false;
        };
        let is_due = entry.held.is_empty() && entry.port.may_release(now);
        if !is_due || app.can_dial_held(&self.ports) {
            return false;
        }
        match app.has_held(&self.ports) {
            true => app.group.record_released(),
            false => app.group.end_release(),
        }
        true
    }

    /// Notes the entry in that slot for [`Apps::take_passing`] if connections
    /// there have waited for the gate, and it is open.
    pub fn queue_pass(&mut self, slot: usize) {
        let entry = &self.ports[slot];
        if entry.port.gate_open && !entry.awaiting_gate.is_empty() {
            self.passing.push(slot);
        }
    }

    /// Whether [`Apps::take_passing`] has something to return.
    pub fn can_pass(&self) -> bool {
        !self.passing.is_empty()
    }

    /// The connections that have waited for a gate which is open now.
    pub fn take_passing(&mut self) -> Vec<Token> {
        let mut all = Vec::new();
        for slot in std::mem::take(&mut self.passing) {
            if let Some(entry) = self.ports.get_mut(slot)
                && entry.port.gate_open
            {
                all.append(&mut entry.awaiting_gate);
            }
        }
        all
    }

    /// Whether [`Apps::next_held`] has something to return.
    pub fn can_release(&self, now: Time) -> bool {
        self.releasing_frontends().any(|it| it.can_release(now))
    }

    /// When it has, if only the release rate delays it.
    pub fn next_release(&self) -> Option<Time> {
        let times = self
            .releasing_frontends()
            .filter_map(PortEntry::next_release);
        times.min()
    }

    fn releasing_frontends(&self) -> impl Iterator<Item = &PortEntry> {
        self.releasing.iter().flat_map(|&app| self.ports(app))
    }

    /// The slot of the connection that is dialled next: the one that has come first
    /// of the app whose turn it is. It is no longer held.
    pub fn next_held(&mut self, now: Time) -> Option<usize> {
        for _ in 0..self.releasing.len() {
            let id = self.releasing.pop_front()?;
            let Some(app) = self.apps.get_mut(&id) else {
                continue;
            };
            let next = app.next_held(&mut self.ports, now);
            if next.is_some() || app.waits_for_its_pace(&self.ports) {
                self.releasing.push_back(id);
            } else {
                app.is_releasing = false;
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    // --- What was counted ---

    /// Something was counted at the entry in that slot.
    pub fn note_change(&mut self, slot: usize) {
        let id = self.ports[slot].app;
        if let Some(app) = self.apps.get_mut(&id)
            && !std::mem::replace(&mut app.has_changed, true)
        {
            self.changed.push(id);
        }
    }

    /// The apps of which something was counted since this was last asked.
    pub fn take_changed_apps(&mut self) -> Vec<AppId> {
        let changed = std::mem::take(&mut self.changed);
        for id in &changed {
            if let Some(app) = self.apps.get_mut(id) {
                app.has_changed = false;
            }
        }
        changed
    }
}

impl App {
    /// The next connection of its ports, which take turns.
    fn accept(
        &mut self,
        ports: &mut Slab<PortEntry>,
        now: Time,
    ) -> Option<(usize, TcpStream, SocketAddr)> {
        let count = self.ports.len();
        (self.next..self.next + count).find_map(|place| {
            let slot = self.ports[place % count];
            let listener = ports[slot].listener.as_mut()?;
            let (client, peer) = listener.accept(now)?;
            self.next = (place + 1) % count;
            Some((slot, client, peer))
        })
    }

    /// Whether a connection waits at one of its ports for the end of a pause.
    fn is_paused(&self, ports: &Slab<PortEntry>) -> bool {
        let mut listeners = self.ports.iter().map(|&slot| &ports[slot].listener);
        listeners.any(|it| it.as_ref().is_some_and(|it| it.poll_timeout().is_some()))
    }

    fn next_held(&self, ports: &mut Slab<PortEntry>, now: Time) -> Option<usize> {
        let slots = self.ports.iter().copied();
        let first = slots
            .filter(|&slot| ports[slot].can_release(now))
            .min_by_key(|&slot| ports[slot].held.first_key_value().map(|(&it, _)| it))?;
        let (_, key) = ports[first].held.pop_first()?;
        self.group.record_released();
        if !self.has_held(ports) && ports[first].port.may_release(now) {
            self.group.end_release();
        }
        Some(key)
    }

    /// Whether connections are held at ports that are ready.
    fn has_held(&self, ports: &Slab<PortEntry>) -> bool {
        let mut ports = self.ports.iter().map(|&slot| &ports[slot]);
        ports.any(|it| !it.held.is_empty() && it.port.is_ready())
    }

    /// Whether a connection is held that may be dialled, be that now or in a while.
    fn can_dial_held(&self, ports: &Slab<PortEntry>) -> bool {
        let mut ports = self.ports.iter().map(|&slot| &ports[slot]);
        ports.any(|it| !it.held.is_empty() && it.port.may_dial())
    }

    /// Whether a connection is held that only the release rate delays.
    fn waits_for_its_pace(&self, ports: &Slab<PortEntry>) -> bool {
        let mut slots = self.ports.iter();
        slots.any(|&slot| ports[slot].next_release().is_some())
    }
}
