//! The part of [`Engine`] that accepts connections.

use std::net::SocketAddr;

use log::{Level, debug, log};
use mio::net::TcpStream;

use super::apps::PortEntry;
use super::close_reason::{CloseReason, ConnectionPhase};
use super::connection::{Connection, Usage};
use super::counters::{CountedAs, Exclusion};
use super::limit_log::LimitChange;
use super::readiness::Interest;
use super::sockets::Socket;
use super::token::{self, Side};
use super::{ACCEPTS_PER_TURN, Engine};
use crate::clock::Time;
use crate::rules::sources::Admission;

impl Engine {
    pub(super) fn accept(&mut self, now: Time) {
        for _ in 0..ACCEPTS_PER_TURN {
            self.log_limit(now);
            let Some((slot, client, peer)) = self.apps.accept(&self.open, now) else {
                return;
            };
            self.admit(slot, client, peer, now);
        }
    }

    /// Logs when the connection limit is reached, or what an app may have of it.
    fn log_limit(&mut self, now: Time) {
        let is_full = self.open.is_exhausted() || self.apps.waits_for_room(&self.open);
        let (limit, part) = (self.limits.max_connections, self.open.part());
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
            let reason = CloseReason::Refused(ConnectionPhase::Holding);
            debug!("#{serial} {reason}: {e}");
            port.counters.closed(reason);
            source
                .into_iter()
                .for_each(|it| port.per_source.release(it));
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
