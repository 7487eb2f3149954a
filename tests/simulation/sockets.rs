//! The event loop of one app, simulated: `Proxy` asks it what it asks of the engine, and
//! it keeps the engine's rules of who is parked, dialled, redialled and given
//! up, and counts as the engine counts.
//!
//! Not simulated: the connection limit, the bounds on the work of one turn,
//! half-closes and flow control. Those are the engine's own tests' matter.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use zpa::clock::Time;
use zpa::engine::{BackendSpec, Counts};

use crate::balancer::{Balancer, CONNECT_TIMEOUT, TRIAL_AFTER, Use};
use crate::plan::Mutant;

/// Names a client; they come in the order of their numbers.
pub type ClientId = usize;

/// The first and the longest pause when no address takes a connection, as in
/// the engine.
const FIRST_REST: Duration = Duration::from_millis(10);
const MAX_REST: Duration = Duration::from_secs(1);

/// What the network does to a proxy.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A client has connected.
    Arrived,
    /// It has sent so many bytes.
    Data(u64),
    /// It has had all it wanted, and closes.
    Finished,
    /// It has reset the connection.
    Gone,
    /// That dial has been answered.
    Connected { attempt: u32 },
    /// That dial has failed; `answered` if by a refusal.
    Failed { attempt: u32, answered: bool },
    /// The pod has sent so many bytes.
    FromPod(u64),
    /// The pod has gone.
    Broke,
}

/// What a proxy does to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It dials.
    Dial { attempt: u32, address: SocketAddr },
    /// It passes so many bytes on to the pod.
    ToPod(u64),
    /// It passes so many bytes on to the client.
    ToClient(u64),
    /// It has closed the connection.
    Ended(End),
}

/// Why it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Finished,
    /// The client has reset it.
    ClientGone,
    /// The pod has broken off after bytes had gone to it.
    BackendGone,
    /// The hold limit has passed.
    HeldTooLong,
    /// The drain deadline has.
    Drained,
}

#[derive(Clone, Default)]
struct Attempts {
    tried: Vec<SocketAddr>,
    answered: bool,
    fell_back: bool,
}

enum State {
    Parked,
    Dialing {
        address: SocketAddr,
        since: Time,
        round: Attempts,
    },
    Resting,
    Relaying {
        address: SocketAddr,
    },
}

struct Connection {
    opened: Time,
    /// Since when it has waited for a pod, if it does: it may do so again.
    waits_since: Time,
    stage: State,
    deadline: Option<Time>,
    attempts: u32,
    rests: u8,
    /// What the client has sent and no pod has got.
    unread: u64,
    /// Whether a byte has gone either way.
    touched: bool,
}

impl Connection {
    fn is_waiting(&self) -> bool {
        !matches!(self.stage, State::Relaying { .. })
    }

    /// The address that owes it an answer, and since when.
    fn dial(&self) -> Option<(SocketAddr, Time)> {
        match self.stage {
            State::Dialing { address, since, .. } => Some((address, since)),
            State::Parked | State::Resting | State::Relaying { .. } => None,
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        match self.stage {
            State::Dialing { address, .. } | State::Relaying { address } => Some(address),
            State::Parked | State::Resting => None,
        }
    }
}

/// A proxy's sockets of one app.
pub struct SimSockets {
    /// Whether there is something to do in the turn that follows.
    pub is_due: bool,
    hold_timeout: Duration,
    /// A mutant that reports no connection.
    hides_counts: bool,
    /// A mutant whose gate is never shut.
    gateless: bool,
    inbox: Vec<(ClientId, Event)>,
    effects: Vec<(ClientId, Effect)>,
    connections: BTreeMap<ClientId, Connection>,
    backends: Vec<SocketAddr>,
    balancer: Balancer,
    fallback: Option<SocketAddr>,
    gate_open: bool,
    accepting: bool,
    counts: Counts,
    /// What was counted when the proxy last asked whether that has changed.
    reported: Counts,
}

impl SimSockets {
    /// Listens, with the gate shut and no address to dial.
    pub fn new(hold_timeout: Duration, mutant: Mutant) -> Self {
        SimSockets {
            is_due: false,
            hold_timeout,
            hides_counts: mutant == Mutant::NoCounts,
            gateless: mutant == Mutant::Gateless,
            inbox: Vec::new(),
            effects: Vec::new(),
            connections: BTreeMap::new(),
            backends: Vec::new(),
            balancer: Balancer::new(mutant == Mutant::Forgetful),
            fallback: None,
            gate_open: false,
            accepting: true,
            counts: Counts::default(),
            reported: Counts::default(),
        }
    }

    /// Something for the next turn.
    pub fn push(&mut self, client: ClientId, event: Event) {
        self.inbox.push((client, event));
    }

    /// What the last turns have done.
    pub fn take_effects(&mut self) -> Vec<(ClientId, Effect)> {
        std::mem::take(&mut self.effects)
    }

    /// Whether a new client is let in.
    pub fn is_accepting(&self) -> bool {
        self.accepting
    }

    /// Every client that is here, accepted or in the kernel's queue.
    pub fn clients(&self) -> Vec<ClientId> {
        let queued = self
            .inbox
            .iter()
            .filter(|(_, e)| matches!(e, Event::Arrived));
        let accepted = self.connections.keys().copied();
        accepted.chain(queued.map(|&(client, _)| client)).collect()
    }

    /// Those that a pod serves.
    pub fn relaying(&self) -> impl Iterator<Item = ClientId> + '_ {
        let served = self.connections.iter().filter(|(_, c)| !c.is_waiting());
        served.map(|(&client, _)| client)
    }

    /// The dials in progress: the client, the pod, and the time of each.
    pub fn dialing(&self) -> impl Iterator<Item = (ClientId, SocketAddr, Time)> + '_ {
        let dial = |(&client, it): (&ClientId, &Connection)| {
            let (address, since) = it.dial()?;
            Some((client, address, since))
        };
        self.connections.iter().filter_map(dial)
    }

    /// The addresses that may be dialled.
    pub fn backends(&self) -> &[SocketAddr] {
        &self.backends
    }

    /// Since when the one has waited that has waited longest.
    pub fn waiting_since(&self) -> Option<Time> {
        let waiting = self.connections.values().filter(|c| c.is_waiting());
        waiting.map(|c| c.waits_since).min()
    }

    fn handle(&mut self, client: ClientId, event: Event, now: Time) {
        if let Event::Arrived = event {
            return self.admit(client, now);
        }
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        let relaying = !connection.is_waiting();
        let attempts = connection.attempts;
        match event {
            Event::Arrived => {}
            Event::Data(bytes) => {
                connection.unread += bytes;
                self.pump(client);
            }
            Event::FromPod(bytes) if relaying => {
                connection.touched = true;
                self.effects.push((client, Effect::ToClient(bytes)));
            }
            Event::Finished => self.close(client, End::Finished),
            Event::Gone => {
                self.give_up_the_dial(client, now);
                self.close(client, End::ClientGone);
            }
            Event::Connected { attempt } if attempt == attempts => self.connected(client),
            Event::Failed { attempt, answered } if attempt == attempts => {
                self.attempt_failed(client, answered, now);
            }
            Event::Broke if relaying => self.broke(client, now),
            Event::FromPod(_) | Event::Broke | Event::Connected { .. } | Event::Failed { .. } => {}
        }
    }

    fn admit(&mut self, client: ClientId, now: Time) {
        self.counts.accepted += 1;
        self.counts.open += 1;
        // Every client of the simulation counts as use of the app.
        self.counts.counted += 1;
        self.counts.uses += 1;
        self.counts.waiting += 1;
        let connection = Connection {
            opened: now,
            waits_since: now,
            stage: State::Parked,
            deadline: None,
            attempts: 0,
            rests: 0,
            unread: 0,
            touched: false,
        };
        self.connections.insert(client, connection);
        self.place(client, now);
    }

    fn may_dial(&self) -> bool {
        self.is_open() && !self.backends.is_empty()
    }

    fn is_open(&self) -> bool {
        self.gate_open || self.gateless
    }

    fn first_parked(&self) -> Option<ClientId> {
        let parked = |(_, c): &(&ClientId, &Connection)| matches!(c.stage, State::Parked);
        self.connections
            .iter()
            .find(parked)
            .map(|(&client, _)| client)
    }

    /// Dials a connection that waits, or parks it.
    fn place(&mut self, client: ClientId, now: Time) {
        self.set(client, State::Resting, None);
        if self.may_dial() && self.first_parked().is_none() {
            self.dial(client, Attempts::default(), now);
        } else {
            self.park(client);
        }
    }

    fn park(&mut self, client: ClientId) {
        self.set(client, State::Parked, Some(Time::new(Duration::MAX)));
    }

    /// Dials the next address of the round, unless the gate has been shut.
    fn dial(&mut self, client: ClientId, mut round: Attempts, now: Time) {
        if !self.is_open() {
            return self.park(client);
        }
        let fell_back = round.fell_back;
        let target = self.next_target(&mut round, now);
        if (target.is_none() || round.fell_back) && !fell_back && !round.tried.is_empty() {
            self.counts.exhausted += 1;
        }
        let Some((address, timeout)) = target else {
            return self.rest(client, now);
        };
        let stage = State::Dialing {
            address,
            since: now,
            round,
        };
        self.set(client, stage, Some(now + timeout));
        if let Some(connection) = self.connections.get_mut(&client) {
            connection.attempts += 1;
            let attempt = connection.attempts;
            self.effects
                .push((client, Effect::Dial { attempt, address }));
        }
    }

    fn next_target(&mut self, round: &mut Attempts, now: Time) -> Option<(SocketAddr, Duration)> {
        let untried = self.backends.iter().copied();
        let untried: Vec<SocketAddr> = untried.filter(|a| !round.tried.contains(a)).collect();
        let listed = self.uses();
        if let Some(picked) = self.balancer.pick(&untried, &listed, now) {
            return Some(picked);
        }
        if round.answered || round.fell_back || round.tried.is_empty() {
            return None;
        }
        round.fell_back = true;
        self.fallback.map(|address| (address, CONNECT_TIMEOUT))
    }

    /// What the connections do at each address that is listed.
    fn uses(&self) -> BTreeMap<SocketAddr, Use> {
        let none = self.backends.iter().map(|&a| (a, Use::default()));
        let mut uses: BTreeMap<SocketAddr, Use> = none.collect();
        for connection in self.connections.values() {
            let address = connection.address();
            let Some(used) = address.and_then(|address| uses.get_mut(&address)) else {
                continue;
            };
            used.connections += 1;
            if let Some((_, since)) = connection.dial() {
                used.unanswered = Some(used.unanswered.map_or(since, |at| at.min(since)));
            }
        }
        uses
    }

    fn rest(&mut self, client: ClientId, now: Time) {
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        let doublings = u32::from(connection.rests.min(7));
        connection.rests = connection.rests.saturating_add(1);
        let pause = MAX_REST.min(FIRST_REST * (1 << doublings));
        self.set(client, State::Resting, Some(now + pause));
    }

    fn attempt_failed(&mut self, client: ClientId, answered: bool, now: Time) {
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        let State::Dialing { address, round, .. } = &connection.stage else {
            return;
        };
        let mut round = round.clone();
        let address = *address;
        round.tried.push(address);
        round.answered |= answered;
        self.balancer.failed(address, now);
        self.counts.failed_dials += 1;
        self.dial(client, round, now);
    }

    /// A pod has answered. If the gate has been shut meanwhile, it is left.
    fn connected(&mut self, client: ClientId) {
        let dial = self.connections.get(&client).and_then(Connection::dial);
        if let Some((address, _)) = dial {
            self.balancer.succeeded(address);
        }
        if !self.is_open() {
            return self.park(client);
        }
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        let State::Dialing { address, .. } = connection.stage else {
            return;
        };
        connection.stage = State::Relaying { address };
        connection.deadline = None;
        self.counts.waiting -= 1;
        self.counts.forwarded += 1;
        self.pump(client);
    }

    /// Passes on what the client has sent, if there is a pod to take it.
    fn pump(&mut self, client: ClientId) {
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        if !connection.is_waiting() && connection.unread > 0 {
            let bytes = std::mem::take(&mut connection.unread);
            connection.touched = true;
            self.effects.push((client, Effect::ToPod(bytes)));
        }
    }

    /// The pod has gone: another may take the connection only if no byte has
    /// gone either way.
    fn broke(&mut self, client: ClientId, now: Time) {
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        let Some(address) = connection.address() else {
            return;
        };
        connection.waits_since = now;
        let in_time = now < connection.opened + self.hold_timeout;
        if connection.touched || !in_time {
            return self.close(client, End::BackendGone);
        }
        self.counts.waiting += 1;
        self.counts.failed_dials += 1;
        self.balancer.failed(address, now);
        let round = Attempts {
            tried: vec![address],
            answered: true,
            fell_back: false,
        };
        self.dial(client, round, now);
    }

    /// A dial that is given up says something of its address if it was on trial.
    fn give_up_the_dial(&mut self, client: ClientId, now: Time) {
        let dial = self.connections.get(&client).and_then(Connection::dial);
        if let Some((address, since)) = dial
            && now >= since + TRIAL_AFTER
        {
            self.balancer.failed(address, now);
        }
    }

    fn close(&mut self, client: ClientId, end: End) {
        if let Some(connection) = self.connections.remove(&client) {
            self.counts.open -= 1;
            self.counts.counted -= 1;
            self.counts.waiting -= usize::from(connection.is_waiting());
            self.effects.push((client, Effect::Ended(end)));
        }
    }

    /// Never later than the hold limit of one that waits.
    fn set(&mut self, client: ClientId, stage: State, deadline: Option<Time>) {
        if let Some(connection) = self.connections.get_mut(&client) {
            let limit = connection.opened + self.hold_timeout;
            connection.deadline = deadline.map(|d| d.min(limit));
            connection.stage = stage;
        }
    }

    fn handle_deadlines(&mut self, now: Time) {
        while let Some(client) = self.first_due(now) {
            let connection = &self.connections[&client];
            if connection.is_waiting() && now >= connection.opened + self.hold_timeout {
                self.counts.held_too_long += 1;
                self.close(client, End::HeldTooLong);
                continue;
            }
            match connection.stage {
                State::Dialing { .. } => self.attempt_failed(client, false, now),
                State::Resting => self.place(client, now),
                State::Parked | State::Relaying { .. } => return,
            }
        }
    }

    fn first_due(&self, now: Time) -> Option<ClientId> {
        let due = |(_, c): &(&ClientId, &Connection)| c.deadline.is_some_and(|d| d <= now);
        let first = self
            .connections
            .iter()
            .filter(due)
            .min_by_key(|(_, c)| c.deadline);
        first.map(|(&client, _)| client)
    }

    // --- What the proxy asks of it ---

    /// What is counted.
    pub fn counts(&self) -> Counts {
        if self.hides_counts {
            return Counts::default();
        }
        self.counts
    }

    /// Whether that has changed since the last call.
    pub fn has_changed(&mut self) -> bool {
        let counts = self.counts();
        std::mem::replace(&mut self.reported, counts) != counts
    }

    /// When there is something to do without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.connections.values().filter_map(|c| c.deadline).min()
    }

    /// Opens or shuts the gate.
    pub fn set_gate(&mut self, open: bool) {
        self.gate_open = open;
    }

    /// Replaces the addresses that may be dialled.
    pub fn set_backends(&mut self, backends: &[BackendSpec], now: Time) {
        let addresses = backends.iter().flat_map(|it| &it.addresses).copied();
        let addresses: Vec<SocketAddr> = addresses.collect();
        let joined = addresses.iter().any(|a| !self.backends.contains(a));
        self.backends = addresses;
        let resting = |c: &&mut Connection| matches!(c.stage, State::Resting);
        for connection in self.connections.values_mut().filter(resting) {
            if joined {
                connection.deadline = connection.deadline.map(|d| d.min(now));
            }
        }
    }

    /// Replaces the address of last resort.
    pub fn set_fallback(&mut self, address: Option<SocketAddr>) {
        self.fallback = address;
    }

    /// Events, deadlines, then those who arrive, as the engine does.
    pub fn dispatch(&mut self, now: Time) {
        let mut arrived = Vec::new();
        let mut later = Vec::new();
        for (client, event) in std::mem::take(&mut self.inbox) {
            if let Event::Arrived = event {
                arrived.push(client);
            } else if arrived.contains(&client) {
                later.push((client, event));
            } else {
                self.handle(client, event, now);
            }
        }
        self.handle_deadlines(now);
        for client in arrived {
            self.handle(client, Event::Arrived, now);
        }
        for (client, event) in later {
            self.handle(client, event, now);
        }
        self.release(now);
    }

    /// Dials for those who are held, if it may.
    pub fn release(&mut self, now: Time) {
        while self.may_dial()
            && let Some(client) = self.first_parked()
        {
            self.dial(client, Attempts::default(), now);
        }
    }

    /// Lets in who has connected, and then nobody.
    pub fn stop_accepting(&mut self, now: Time) {
        self.dispatch(now);
        self.accepting = false;
    }

    /// Closes all that is open.
    pub fn reset_all(&mut self) {
        for client in self.clients() {
            self.close(client, End::Drained);
        }
    }
}
