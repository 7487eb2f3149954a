//! The part of [`Engine`] that gives events, deadlines and turns of the run queue to the
//! connections, and applies the transitions that they return.

use std::io;
use std::net::SocketAddr;

use log::debug;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Registry, Token};

use super::apps::{AppId, Apps};
use super::close_reason::CloseReason;
use super::connection::Connection;
use super::connector::Connector;
use super::context::{Connect, Context};
use super::counters::CountedAs;
use super::memory::BufferSizes;
use super::readiness::{Interest, Readiness};
use super::token::{Side, parse_token, token};
use super::transition::Transition;
use super::{
    DEADLINES_PER_TURN, DIALS_PER_TURN, Engine, LOOKED_AT_PER_TURN, SLEEPERS_PER_TURN, SOURCE,
    WAKER, admin_connections,
};
use crate::clock::Time;
use crate::duration;
use crate::rules::Preread;

/// A [`Connector`] that registers its sockets with the event loop.
struct Registering<'a> {
    registry: &'a Registry,
    connector: &'a mut Connector,
    now: Time,
}

impl Connect for Registering<'_> {
    type Socket = TcpStream;

    fn connect(
        &mut self,
        address: SocketAddr,
        sizes: BufferSizes,
        token: Token,
    ) -> io::Result<TcpStream> {
        let mut socket = self.connector.connect(address, sizes, self.now)?;
        let interest = Interest::Both.into();
        self.registry.register(&mut socket, token, interest)?;
        Ok(socket)
    }

    fn set_interest(
        &mut self,
        socket: &mut TcpStream,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.registry.reregister(socket, token, interest.into())
    }
}

impl Engine {
    pub(super) fn handle_event(&mut self, event: &Event, now: Time) {
        match event.token() {
            WAKER | SOURCE => {}
            token if admin_connections::is_admin_token(token) => self.admin.set_ready(token),
            token => {
                if let Some(slot) = Apps::listener_of(token) {
                    return self.apps.set_ready(slot);
                }
                if let Some(found) = self.inspectors.find_token(token) {
                    return self.handle_inspected(found, event.into(), now);
                }
                let Some((key, side)) = self.find_awake(token, now) else {
                    return;
                };
                let event = Readiness::from(event);
                self.handle_and_apply(key, now, |connection, cx| match side {
                    Side::Client => connection.handle_client_event(event, cx),
                    Side::Backend => connection.handle_backend_event(event, cx),
                });
            }
        }
    }

    pub(super) fn handle_deadlines(&mut self, now: Time) {
        for _ in 0..DEADLINES_PER_TURN {
            let Some(key) = self.shared.timers.due(now) else {
                return;
            };
            self.handle_and_apply(key, now, |connection, cx| connection.handle_timeout(cx));
        }
    }

    /// Dials the held connections of apps whose gate is open: the apps in turn, and of
    /// each app in the order in which its connections came.
    pub fn release(&mut self, now: Time) {
        self.pass_gates(now);
        for _ in 0..DIALS_PER_TURN {
            let Some(key) = self.apps.next_held(now) else {
                return;
            };
            self.handle_and_apply(key, now, |connection, cx| connection.dial(cx));
        }
    }

    /// Lets those go on which backends have served all the time, and whose next byte
    /// waits for the gate.
    fn pass_gates(&mut self, now: Time) {
        if !self.apps.can_pass() {
            return;
        }
        for token in self.apps.take_passing() {
            if let Some((key, _)) = self.find_awake(token, now) {
                self.handle_and_apply(key, now, |connection, cx| connection.pass_gate(cx));
            }
        }
    }

    /// An app sleeps: the turns that follow close what backends serve and does not count, or
    /// detach it where a rule says so.
    pub fn end_uncounted(&mut self, app: AppId) {
        self.sleeps.begin(app, self.accepted);
    }

    /// Ends some of the connections that do not count of an app that sleeps.
    pub(super) fn end_some_uncounted(&mut self, now: Time) {
        let mut ended = 0;
        for _ in 0..LOOKED_AT_PER_TURN {
            let Some(sleep) = self.sleeps.first() else {
                return;
            };
            let (app, key) = (sleep.app, sleep.next);
            sleep.next += 1;
            if key >= self.connections.capacity() {
                self.sleeps.end(app);
            } else if self.falls_asleep(key) {
                self.fall_asleep(key, now);
                ended += 1;
            }
            if ended == SLEEPERS_PER_TURN {
                return;
            }
        }
    }

    /// Whether a connection is to end because its app has fallen asleep.
    fn falls_asleep(&self, key: usize) -> bool {
        let Some(connection) = self.connections.get(key) else {
            return false;
        };
        let app = self.apps.get(connection.port()).app;
        connection.is_served_uncounted() && self.sleeps.includes(app, connection.serial())
    }

    fn fall_asleep(&mut self, key: usize, now: Time) {
        let accepts = self.listener_of(self.connections[key].port()).is_some();
        self.handle_and_apply(key, now, |connection, cx| {
            connection.fall_asleep(accepts, cx)
        });
    }

    /// Closes the connection of an app that has been silent for the longest of those that are
    /// detached: another needs its place. Returns whether there was one.
    pub(super) fn end_longest_detached(&mut self, app: AppId, now: Time) -> bool {
        let Some(key) = self.apps.longest_detached(app) else {
            return false;
        };
        self.close(key, CloseReason::Asleep, now);
        true
    }

    /// Closes the detached connections of the port in that slot: their clients connect again,
    /// and not here.
    pub(super) fn end_detached(&mut self, slot: usize, now: Time) {
        while let Some(&(_, key)) = self.apps.get(slot).detached.first() {
            self.close(key, CloseReason::Asleep, now);
        }
    }

    /// Dials a connection that has just come, if nobody has come before it whose turn it
    /// is. One that does not count has no turn.
    pub(super) fn dial_or_hold(&mut self, key: usize, now: Time) {
        let connection = &self.connections[key];
        let has_turn = connection.counted_as() != CountedAs::Nothing;
        let is_next = self.apps.pass(connection.port(), now) || !has_turn;
        self.handle_and_apply(key, now, |connection, cx| match is_next {
            true => connection.dial(cx),
            false => connection.hold(cx),
        });
    }

    /// Looks at a connection that has just been accepted, before it is dialled or held.
    pub(super) fn preread(&mut self, key: usize, preread: Preread, now: Time) {
        self.handle_and_apply(key, now, |connection, cx| {
            connection.begin_preread(preread, cx)
        });
    }

    /// Serves the run queue in order, until the byte budget of the turn is used up.
    pub(super) fn serve_queue(&mut self, now: Time) {
        if self.queue.is_empty() {
            return;
        }
        let budget = self.queue.begin_turn();
        let mut left = budget;
        // Connections that are queued meanwhile wait for the next turn.
        for _ in 0..self.queue.len() {
            let moved = self.serve_next(budget, now);
            left = left.saturating_sub(moved);
            if left == 0 {
                return;
            }
        }
    }

    /// Serves the next connection of the run queue; returns the number of bytes moved.
    fn serve_next(&mut self, budget: usize, now: Time) -> usize {
        let next = self.queue.pop();
        let next = next.and_then(|token| self.find_awake(token, now));
        let Some((key, _)) = next else {
            return 0;
        };
        let mut moved = 0;
        let transition = self.handle(key, now, |connection, cx| {
            let (bytes, transition) = connection.serve(budget, cx);
            moved = bytes;
            transition
        });
        match transition {
            Transition::Queue => {
                if let Some(token) = self.connections[key].enqueue(key) {
                    let app = self.apps.get(self.connections[key].port()).app;
                    self.queue.push_again(app, token, moved);
                }
            }
            other => {
                self.queue.end_row();
                self.apply(key, other, now);
            }
        }
        moved
    }

    /// Calls a handler of a connection, and applies the transition.
    fn handle_and_apply(
        &mut self,
        key: usize,
        now: Time,
        handler: impl FnOnce(
            &mut Connection<TcpStream>,
            &mut Context<'_, Registering<'_>>,
        ) -> Transition,
    ) {
        let transition = self.handle(key, now, handler);
        self.apply(key, transition, now);
    }

    fn handle(
        &mut self,
        key: usize,
        now: Time,
        handler: impl FnOnce(
            &mut Connection<TcpStream>,
            &mut Context<'_, Registering<'_>>,
        ) -> Transition,
    ) -> Transition {
        let connection = &mut self.connections[key];
        let slot = connection.port();
        let entry = self.apps.get_mut(slot);
        self.shared.buffers.set_app(entry.app);
        let port = &mut entry.port;
        let (use_before, counts_before) = (connection.counted_as(), port.counts);
        let detached_before = connection.detached_silence();
        let mut cx = Context {
            now,
            key,
            shared: &mut self.shared,
            port: &mut *port,
            connector: Registering {
                registry: self.poll.registry(),
                connector: &mut self.connector,
                now,
            },
        };
        let transition = handler(connection, &mut cx);
        let counts_as = connection.counted_as();
        port.counts.recount(use_before, counts_as);
        if use_before == CountedAs::Waiting && counts_as == CountedAs::Nothing {
            // It is answered, or the backup target has it.
            entry.held.remove(&connection.serial());
        }
        let detached = connection.detached_silence();
        if detached != detached_before {
            if let Some(silence) = detached_before {
                entry.detached.remove(&(silence, key));
            }
            if let Some(silence) = detached {
                entry.detached.insert((silence, key));
            }
        }
        if port.counts != counts_before {
            self.apps.note_change(slot);
        }
        // A backend may have room again.
        self.apps.queue_release(slot);
        transition
    }

    fn apply(&mut self, key: usize, transition: Transition, now: Time) {
        match transition {
            Transition::Stay => {}
            Transition::MovedMessage => self.queue.note_small_message(),
            Transition::Hold => {
                let connection = &self.connections[key];
                let (slot, serial) = (connection.port(), connection.serial());
                self.apps.get_mut(slot).held.insert(serial, key);
                self.apps.queue_release(slot);
            }
            Transition::AwaitGate => {
                let connection = &self.connections[key];
                let token = token(key, connection.serial(), Side::Client);
                let slot = connection.port();
                self.apps.get_mut(slot).awaiting_gate.push(token);
                self.apps.queue_pass(slot);
            }
            Transition::Queue => {
                if let Some(token) = self.connections[key].enqueue(key) {
                    let app = self.apps.get(self.connections[key].port()).app;
                    self.queue.push(app, token);
                }
            }
            Transition::Close(reason) => self.close(key, reason, now),
        }
    }

    pub(super) fn close(&mut self, key: usize, reason: CloseReason, now: Time) {
        let connection = self.connections.remove(key);
        let age = duration::display(connection.age(now));
        let verb = if reason == CloseReason::Finished {
            "finished"
        } else {
            "ended"
        };
        debug!("#{} {verb} after {age}: {reason}", connection.serial());
        let slot = connection.port();
        self.apps.note_change(slot);
        let entry = self.apps.get_mut(slot);
        entry.held.remove(&connection.serial());
        if let Some(silence) = connection.detached_silence() {
            entry.detached.remove(&(silence, key));
        }
        let app = entry.app;
        let port = &mut entry.port;
        port.counters.closed(reason);
        if connection.counted_as() == CountedAs::Waiting {
            port.counters.waited(connection.waited(now));
        }
        port.counts.open -= 1;
        port.counts
            .recount(connection.counted_as(), CountedAs::Nothing);
        self.shared.open -= 1;
        self.open.give_back(app);
        self.shared.buffers.set_app(app);
        connection.close(key, &mut self.shared, port, now);
        // Its backend has room for another.
        self.apps.queue_release(slot);
    }

    /// The same, unless the connection ends because its app has fallen asleep: then it moves no
    /// further byte.
    fn find_awake(&mut self, token: Token, now: Time) -> Option<(usize, Side)> {
        let (key, side) = self.find(token)?;
        if self.sleeps.is_empty() || !self.falls_asleep(key) {
            return Some((key, side));
        }
        self.fall_asleep(key, now);
        self.find(token)
    }

    fn find(&self, token: Token) -> Option<(usize, Side)> {
        let (key, _, side) = parse_token(token);
        let connection = self.connections.get(key)?;
        connection.has(key, token).then_some((key, side))
    }
}
