//! The part of [`Engine`] that accepts connections.

use std::io;
use std::net::SocketAddr;

use log::{Level, debug, log};
use mio::net::TcpStream;

use super::apps::{AppId, PortEntry, PortId};
use super::close_reason::{CloseReason, ConnectionPhase};
use super::connection::{Connection, Usage};
use super::counters::{CountedAs, Exclusion};
use super::limit_log::LimitChange;
use super::listener::{BoundListener, Listener};
use super::readiness::Interest;
use super::sockets::Socket;
use super::token::{self, Side};
use super::{ACCEPTS_PER_TURN, Engine};
use crate::clock::Time;
use crate::rules::sources::Admission;

impl Engine {
    // --- Listeners ---

    /// Where a port listens; `None` after [`Engine::stop_accepting`].
    pub fn local_addr(&self, port: PortId) -> Option<SocketAddr> {
        self.listener(port)?.local_addr().ok()
    }

    /// Whether a port listens where somebody asks for that address: the IPv6 wildcard may have
    /// become that of IPv4.
    pub fn is_at(&self, port: PortId, address: SocketAddr) -> bool {
        let listener = self.listener(port);
        listener.is_some_and(|listener| listener.is_at(address))
    }

    /// Listens on an address beside ports at addresses that overlap with it, which the kernel
    /// refuses otherwise. Until those are closed it divides the clients among them.
    ///
    /// # Errors
    /// Those of bind(2) and setsockopt(2); then nothing has changed.
    pub fn bind_beside(&self, ports: &[PortId], address: SocketAddr) -> io::Result<BoundListener> {
        let listeners = || ports.iter().filter_map(|&port| self.listener(port));
        let set = |shares| listeners().try_for_each(|it| it.set_shares_address(shares));
        let bound = set(true).and_then(|()| BoundListener::bind_beside(address));
        set(false)?;
        bound
    }

    fn listener(&self, port: PortId) -> Option<&Listener> {
        self.listener_of(self.apps.slot(port)?)
    }

    /// The listener of the entry in that slot, until it has stopped.
    pub(super) fn listener_of(&self, slot: usize) -> Option<&Listener> {
        let entry = self.apps.get(slot);
        match entry.inspector {
            Some(inspector) => self.inspectors.listener(inspector, slot),
            None => entry.listener.as_ref(),
        }
    }

    /// Accepts what the kernel has queued for an app, and then no more.
    pub fn stop_accepting(&mut self, app: AppId, now: Time) {
        for &slot in self.apps.slots(app).iter() {
            self.stop_slot(slot, now);
        }
    }

    /// The same for one port.
    pub fn stop_listening(&mut self, port: PortId, now: Time) {
        if let Some(slot) = self.apps.slot(port) {
            self.stop_slot(slot, now);
        }
    }

    fn stop_slot(&mut self, slot: usize, now: Time) {
        self.end_detached(slot, now);
        let entry = self.apps.get_mut(slot);
        let (app, inspector) = (entry.app, entry.inspector);
        if let Some(inspector) = inspector {
            self.stop_names(inspector, slot, now);
        }
        let Some(mut listener) = self.apps.get_mut(slot).listener.take() else {
            return;
        };
        listener.set_ready();
        while self.open.has_room(app) {
            let Some((client, peer)) = listener.accept(now) else {
                break;
            };
            self.admit(slot, client, peer, now);
        }
    }

    // --- Connections ---

    pub(super) fn accept(&mut self, now: Time) {
        for _ in 0..ACCEPTS_PER_TURN {
            self.log_limit(now);
            let Some((slot, client, peer)) = self.apps.accept(&self.open, now) else {
                return;
            };
            self.has_or_makes_room(slot, now);
            self.admit(slot, client, peer, now);
        }
    }

    /// Logs when the connection limit is reached, or what an app may have of it.
    fn log_limit(&mut self, now: Time) {
        let is_full = self.open.is_exhausted() || self.apps.waits_for_room(&self.open);
        let (limit, part) = (self.limits.max_connections, self.open.guaranteed());
        let kept = match part == limit {
            true => String::new(),
            false => format!(", of which {part} are kept for each app,"),
        };
        if let Some(word) = self.limit_log.note(is_full, now) {
            let level = match word {
                LimitChange::Reached | LimitChange::Again(_) => Level::Warn,
                LimitChange::Over(_) => Level::Info,
            };
            log!(level, "the connection limit of {limit}{kept} {word}");
        }
    }

    /// Takes in a client that the listener in that slot has accepted.
    pub(super) fn admit(
        &mut self,
        slot: usize,
        mut client: TcpStream,
        peer: SocketAddr,
        now: Time,
    ) {
        let from = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.apps.note_change(slot);
        let PortEntry { app, port, .. } = self.apps.get_mut(slot);
        let app = *app;
        let admission = port.rules.admission(from.ip());
        let preread = port.rules.preread(from.ip());
        port.counters.admitted(admission);
        if admission == Admission::Denied {
            debug!("denied to {from}");
            client.reset_on_close();
            return;
        }
        // Of a load balancer's connections, the source is known later.
        let is_limited = preread.is_none_or(|preread| !preread.awaits_header);
        let limited = is_limited.then(|| port.per_source.acquire(from.ip()));
        let Ok(source) = limited.unwrap_or(Ok(None)) else {
            debug!("{from} has as many connections as it may have");
            port.counters.excluded(Exclusion::SourceLimit);
            client.reset_on_close();
            return;
        };
        let usage = match (admission, preread) {
            (Admission::Counted, None) => Usage::Counted,
            _ => Usage::Uncounted,
        };
        let serial = self.accepted;
        self.accepted += 1;
        port.counts.accepted += 1;
        debug!("#{serial} accepted from {from}");
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let token = token::token(key, serial, Side::Client);
        if let Err(e) = self
            .poll
            .registry()
            .register(&mut client, token, Interest::Both.into())
        {
            let reason = CloseReason::OutOfResources(ConnectionPhase::Holding);
            debug!("#{serial} {reason}: {e}");
            port.counters.closed(reason);
            source
                .into_iter()
                .for_each(|it| port.per_source.release(it));
            // A FIN would look like a complete stream.
            client.reset_on_close();
            return;
        }
        // There are at most MAX_LISTENERS.
        let mut connection = Connection::new(serial, slot as u16, client, usage, now);
        source.into_iter().for_each(|it| connection.set_source(it));
        let counted_as = entry.insert(connection).counted_as();
        self.shared.open += 1;
        self.open.take(app);
        port.counts.open += 1;
        port.counts.recount(CountedAs::Nothing, counted_as);
        match preread {
            None => self.dial_or_hold(key, now),
            Some(preread) => self.preread(key, preread, now),
        }
    }

    /// A backend or an address was added at the entry in that slot: ends the pauses of
    /// connections that no address has accepted.
    pub(super) fn end_backoffs(&mut self, slot: usize, now: Time) {
        for &key in &self.apps.get(slot).port.backing_off {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.end_backoff(key, &mut self.shared, now);
            }
        }
    }
}
