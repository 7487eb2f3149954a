//! How a connection finds a pod: held, dialled, and dialled again.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use log::debug;
use mio::net::TcpStream;

use super::backends::BackendId;
use super::connection::{Attempt, Round, Stage, Target};
use super::sockets::{self, KEEPALIVE_AFTER};
use super::{Engine, INTEREST};
use crate::clock::Time;

/// The first pause when no address takes a connection; it doubles up to
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// this one.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

impl Engine {
    /// Dials a connection that waits, or holds it.
    pub(super) fn place(&mut self, key: usize, now: Time) {
        // Those who came before it are served before it.
        if self.may_dial() && self.held.is_empty() {
            self.dial(key, Round::default(), now);
        } else {
            self.hold(key);
        }
    }

    fn hold(&mut self, key: usize) {
        let hold_timeout = self.limits.hold_timeout;
        let connection = &mut self.connections[key];
        connection.stage = Stage::Held;
        let limit = connection.opened + hold_timeout;
        self.timers.set(key, &mut connection.deadline, Some(limit));
        self.held.insert(connection.serial, key);
    }

    /// Dials the next address of the round; backs off when there is none left, and
    /// holds when the gate has been shut meanwhile.
    pub(super) fn dial(&mut self, key: usize, mut round: Round, now: Time) {
        while self.gate_open
            && let Some((backend, address)) = self.next_target(&mut round)
        {
            match self.connect(key, address) {
                Ok(upstream) => {
                    let attempt = Attempt {
                        upstream,
                        backend,
                        round,
                    };
                    self.connections[key].stage = Stage::Connecting(attempt);
                    self.set_deadline(key, Some(now + self.limits.connect_timeout));
                    return;
                }
                Err(e) => {
                    round.answered |= is_answer(&e);
                    self.record_failed_dial(key, backend, &e.to_string(), &mut round);
                }
            }
        }
        match self.gate_open {
            true => self.back_off(key, now),
            false => self.hold(key),
        }
    }

    /// The next address of the round. The Service's own comes last, and only
    /// if no pod has given any answer: one that refuses is there, and the
    /// Service leads to no other.
    fn next_target(&mut self, round: &mut Round) -> Option<Target> {
        if let Some(target) = self.backends.take(&round.tried) {
            return Some(target);
        }
        if round.answered || round.fell_back || round.tried.is_empty() {
            return None;
        }
        round.fell_back = true;
        let address = self.fallback?;
        Some((self.backends.take_unlisted(address), address))
    }

    fn connect(&mut self, key: usize, address: SocketAddr) -> io::Result<TcpStream> {
        let mut upstream = sockets::connect(address)?;
        let token = self.connections[key].next_backend_token(key);
        self.poll
            .registry()
            .register(&mut upstream, token, INTEREST)?;
        Ok(upstream)
    }

    pub(super) fn record_failed_dial(
        &mut self,
        key: usize,
        id: BackendId,
        why: &str,
        round: &mut Round,
    ) {
        let address = self.backends.address(id);
        let serial = self.connections[key].serial;
        debug!(
            "#{serial} dialling {}: {why}",
            address.map_or_else(String::new, |a| a.to_string())
        );
        self.counts.failed_dials += 1;
        self.backends.release(id);
        round.tried.push(id);
    }

    /// No address has taken the connection: tries again after a while.
    fn back_off(&mut self, key: usize, now: Time) {
        let connection = &mut self.connections[key];
        connection.stage = Stage::Backoff;
        let doublings = u32::from(connection.backoffs.min(7));
        connection.backoffs = connection.backoffs.saturating_add(1);
        self.set_deadline(
            key,
            Some(now + LONGEST_BACKOFF.min(FIRST_BACKOFF * (1 << doublings))),
        );
    }

    /// There is a new address: those that found none to take them try it now.
    pub(super) fn end_backoffs(&mut self, now: Time) {
        let resting = self
            .connections
            .iter()
            .filter(|(_, c)| matches!(c.stage, Stage::Backoff));
        let keys: Vec<usize> = resting.map(|(key, _)| key).collect();
        for key in keys {
            self.set_deadline(key, Some(now));
        }
    }

    /// The attempt of a connection has failed: on to the next address.
    pub(super) fn attempt_failed(&mut self, key: usize, why: &str, answered: bool, now: Time) {
        let Some(attempt) = self.connections[key].take_attempt() else {
            return;
        };
        let Attempt {
            upstream,
            backend,
            mut round,
        } = attempt;
        drop(upstream);
        round.answered |= answered;
        self.record_failed_dial(key, backend, why, &mut round);
        self.dial(key, round, now);
    }

    /// A pod has taken the connection: from now on bytes flow. If the gate has been
    /// shut meanwhile, the pod is left before it gets any.
    pub(super) fn attempt_succeeded(&mut self, key: usize, now: Time) {
        let connection = &mut self.connections[key];
        let Some(attempt) = connection.take_attempt() else {
            return;
        };
        let Attempt {
            upstream, backend, ..
        } = attempt;
        if !self.gate_open {
            self.backends.release(backend);
            return self.hold(key);
        }
        connection.stage = Stage::Relaying { upstream, backend };
        self.counts.waiting -= 1;
        self.counts.handed_over += 1;
        let waited = now.since(connection.opened);
        self.tally.hold.observe(waited);
        self.set_deadline(key, Some(now + KEEPALIVE_AFTER));
        if let Some(address) = self.backends.address(backend) {
            let connection = &self.connections[key];
            debug!(
                "#{} relaying to {address} after {waited:?}",
                connection.serial
            );
        }
    }

    /// The connection has lived for a while, so it may have a long life before
    /// it: makes the kernel look after the pod. Most are over before.
    pub(super) fn enable_keepalive(&mut self, key: usize) {
        let connection = &self.connections[key];
        if let Stage::Relaying { upstream, .. } = &connection.stage
            && let Err(why) = sockets::keep_alive(upstream)
        {
            debug!("#{} cannot be kept alive: {why}", connection.serial);
        }
    }
}

/// Whether a failed connect shows that somebody is there.
pub fn is_answer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}
