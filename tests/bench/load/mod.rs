//! The clients: one thread, one event loop, every byte checked.
//!
//! ```text
//! client    one of them: a connection and its request
//! pace      when those ask who ask at times of their own
//! probe     a message over a connection of its own
//! ```

mod client;
mod pace;
mod probe;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::Result;
use crate::protocol::{CHUNK_BYTES, HEADER_BYTES, Request};
use crate::stats::Latencies;
use crate::turns::Turns;

use client::Client;
use pace::Pace;
pub use probe::{exchange, probe};

/// How long nothing may happen before a load has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The length of the smallest request, and of the smallest reply.
pub const MESSAGE_BYTES: u64 = HEADER_BYTES as u64;

/// Clients that all do the same.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub clients: usize,
    /// The length of each request with its header.
    pub request_bytes: u64,
    pub reply_bytes: u64,
    /// Whether a reply begins while its request is under way.
    pub both_ways: bool,
    /// Whether each request has a connection of its own.
    pub reconnect: bool,
    /// How long it is from one request of a client to its next, if that does not
    /// come right after the reply.
    pub every: Option<Duration>,
    /// Whether a request that fails is counted, and does not end the run.
    pub may_fail: bool,
}

impl Group {
    /// Round trips, with as much in the request as in the reply.
    pub const fn round_trips(clients: usize, bytes: u64) -> Group {
        Group {
            clients,
            request_bytes: bytes,
            reply_bytes: bytes,
            both_ways: false,
            reconnect: false,
            every: None,
            may_fail: false,
        }
    }

    /// Streams of replies of that length to one connection each.
    pub const fn streams_down(clients: usize, bytes: u64) -> Group {
        Group {
            reply_bytes: bytes,
            ..Group::round_trips(clients, MESSAGE_BYTES)
        }
    }

    /// The same at so many milliseconds from one request to the next.
    pub const fn every_ms(self, ms: u64) -> Group {
        Group {
            every: Some(Duration::from_millis(ms)),
            ..self
        }
    }

    /// The same, of which some may fail.
    pub const fn that_may_fail(self) -> Group {
        Group {
            may_fail: true,
            ..self
        }
    }

    /// Connections for one message each.
    pub const fn connections(at_once: usize) -> Group {
        Group {
            reconnect: true,
            ..Group::round_trips(at_once, MESSAGE_BYTES)
        }
    }

    fn request(&self, serial: u64) -> Request {
        Request {
            serial,
            body_bytes: self.request_bytes - MESSAGE_BYTES,
            reply_bytes: self.reply_bytes,
            both_ways: self.both_ways,
        }
    }
}

/// What a group has come to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How many got their reply,
    pub requests: u64,
    /// and how many did not.
    pub failures: u64,
    /// Of requests and replies.
    pub bytes: u64,
    /// From before the request, or before the connect if each request has its
    /// own, to the last byte of the reply. A request that has to wait for the
    /// reply to the one before it begins when it was due.
    pub latencies: Latencies,
}

/// The clients of several groups, before one address.
pub struct Load {
    address: SocketAddr,
    groups: Vec<GroupState>,
    slots: Vec<ClientSlot>,
    poll: Poll,
    turns: Turns,
    pace: Pace,
    buffer: Vec<u8>,
    serial: u64,
    /// How many have a request under way.
    busy: usize,
    /// When to begin no more requests.
    until: Instant,
}

/// A group, and what it has come to.
struct GroupState {
    group: Group,
    bytes: u64,
    failures: u64,
    latencies: Vec<Duration>,
}

/// A client, or the place of one that connects anew.
struct ClientSlot {
    group: usize,
    client: Option<Client>,
}

impl Load {
    /// Connects the clients that keep their connection, and has each exchange
    /// a message, so that all are known to everybody before anything counts.
    ///
    /// # Errors
    /// A connection that breaks or stalls, a byte that is not what was sent.
    pub fn open(address: SocketAddr, groups: &[Group]) -> Result<Load> {
        let states = groups.iter().map(|&group| GroupState {
            group,
            bytes: 0,
            failures: 0,
            latencies: Vec::new(),
        });
        let slots = groups.iter().enumerate().flat_map(|(index, group)| {
            let slot = move |_| ClientSlot {
                group: index,
                client: None,
            };
            (0..group.clients).map(slot)
        });
        let mut load = Load {
            address,
            groups: states.collect(),
            slots: slots.collect(),
            poll: Poll::new()?,
            turns: Turns::default(),
            pace: Pace::default(),
            buffer: vec![0; CHUNK_BYTES],
            serial: 0,
            busy: 0,
            until: Instant::now(),
        };
        load.greet()?;
        Ok(load)
    }

    fn greet(&mut self) -> Result<()> {
        let greeting = Group::round_trips(1, MESSAGE_BYTES);
        for key in 0..self.slots.len() {
            if !self.group_state(key).group.reconnect {
                self.connect(key, &greeting, self.until)?;
            }
            if let Some(client) = &self.slots[key].client {
                client.keep()?;
            }
        }
        self.drive()?;
        for state in &mut self.groups {
            state.bytes = 0;
            state.latencies = Vec::with_capacity(1 << 16);
        }
        Ok(())
    }

    /// Has all do what they are there for. After `time` no more requests are
    /// begun; those that have begun are finished. Returns what each group has
    /// come to, and in what time.
    ///
    /// # Errors
    /// As [`open`](Load::open).
    pub fn run(&mut self, time: Duration) -> Result<(Vec<Outcome>, Duration)> {
        let begin = Instant::now();
        self.until = begin + time;
        for key in 0..self.slots.len() {
            match self.group_state(key).group.every {
                // One after the other, not all at once.
                Some(every) => {
                    let share = key as f64 / self.slots.len() as f64;
                    self.pace.plan(key, begin + every.mul_f64(share));
                }
                None => self.ask(key, begin)?,
            }
        }
        self.drive()?;
        let elapsed = begin.elapsed();
        let outcomes = self.groups.iter_mut().map(|state| Outcome {
            requests: state.latencies.len() as u64,
            failures: std::mem::take(&mut state.failures),
            bytes: std::mem::take(&mut state.bytes),
            latencies: Latencies::new(std::mem::take(&mut state.latencies)),
        });
        Ok((outcomes.collect(), elapsed))
    }

    /// Goes on until nobody has a request under way or is going to.
    fn drive(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        while self.busy > 0 || !self.pace.is_over() {
            let wait = self.pace.wait(Instant::now()).unwrap_or(STALL_TIMEOUT);
            self.turns.poll(&mut self.poll, &mut events, Some(wait))?;
            for event in &events {
                let Token(key) = event.token();
                if let Some(client) = &mut self.slots[key].client {
                    client.socket.handle(event);
                    self.turns.give(key);
                }
            }
            self.ask_on_time()?;
            if self.turns.len() == 0 && wait == STALL_TIMEOUT {
                self.give_up()?;
            }
            for _ in 0..self.turns.len() {
                self.take_a_turn()?;
            }
        }
        Ok(())
    }

    /// Nothing happens any more. Where requests may fail it may go on until the end,
    /// and those that have no reply by then have failed.
    fn give_up(&mut self) -> Result<()> {
        if !self.groups.iter().all(|state| state.group.may_fail) {
            return Err(self.stalled().into());
        }
        if Instant::now() < self.until {
            return Ok(());
        }
        for slot in &mut self.slots {
            if slot.client.take().is_some() {
                self.groups[slot.group].failures += 1;
            }
        }
        self.busy = 0;
        Ok(())
    }

    /// A request has failed. Where that may be, the client asks again soon.
    fn fail(&mut self, key: usize, error: crate::Error) -> Result<()> {
        const SOON: Duration = Duration::from_millis(10);
        let slot = &mut self.slots[key];
        let state = &mut self.groups[slot.group];
        if !state.group.may_fail {
            return Err(error);
        }
        slot.client = None;
        state.failures += 1;
        self.busy -= 1;
        let next = Instant::now() + SOON;
        if next < self.until {
            self.pace.plan(key, next);
        }
        Ok(())
    }

    /// What to say of a load in which nothing happens any more.
    fn stalled(&self) -> String {
        let clients = self.slots.iter().filter_map(|slot| slot.client.as_ref());
        let places: Vec<String> = clients.filter_map(Client::place).collect();
        format!(
            "{}: nothing for {STALL_TIMEOUT:?}; {} clients wait, one of them with {}",
            self.address,
            places.len(),
            places.first().map_or("nothing", String::as_str)
        )
    }

    fn take_a_turn(&mut self) -> Result<()> {
        let Some(key) = self.turns.take() else {
            return Ok(());
        };
        let Some(client) = &mut self.slots[key].client else {
            return Ok(());
        };
        if let Err(error) = client.turn(&mut self.buffer, self.poll.registry()) {
            return self.fail(key, error);
        }
        if let Some((begun, bytes)) = client.finish() {
            return self.finish(key, begun, bytes);
        }
        if client.has_more_to_do() {
            self.turns.give(key);
        }
        Ok(())
    }

    /// Counts a request that is done, and begins the next.
    fn finish(&mut self, key: usize, begun: Instant, bytes: u64) -> Result<()> {
        let now = Instant::now();
        let slot = &mut self.slots[key];
        let state = &mut self.groups[slot.group];
        state.latencies.push(now - begun);
        state.bytes += bytes;
        self.busy -= 1;
        // What should have been asked while the reply was awaited is late.
        let due = state.group.every.map_or(now, |every| begun + every);
        if due >= self.until || now >= self.until {
            if state.group.reconnect {
                slot.client = None;
            }
            return Ok(());
        }
        if due > now {
            self.pace.plan(key, due);
            return Ok(());
        }
        self.ask(key, due)
    }

    fn ask_on_time(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(key) = self.pace.next(now) {
            self.ask(key, now)?;
        }
        Ok(())
    }

    fn ask(&mut self, key: usize, now: Instant) -> Result<()> {
        let group = self.group_state(key).group;
        if group.reconnect {
            return self.connect(key, &group, now);
        }
        let request = group.request(self.next_serial());
        if let Some(client) = &mut self.slots[key].client {
            client.begin(&request, now);
        }
        self.send_first(key)
    }

    fn connect(&mut self, key: usize, group: &Group, now: Instant) -> Result<()> {
        // The old one is closed first: at no time are there more than asked.
        self.slots[key].client = None;
        let request = group.request(self.next_serial());
        let registry = self.poll.registry();
        match Client::connect(self.address, registry, Token(key), &request, now) {
            Ok(client) => self.slots[key].client = Some(client),
            Err(error) => {
                self.busy += 1;
                return self.fail(key, error);
            }
        }
        self.send_first(key)
    }

    /// Sends at once what can be sent at once.
    fn send_first(&mut self, key: usize) -> Result<()> {
        self.busy += 1;
        if let Some(client) = &mut self.slots[key].client {
            if let Err(error) = client.send(self.poll.registry()) {
                return self.fail(key, error);
            }
            if client.has_more_to_do() {
                self.turns.give(key);
            }
        }
        Ok(())
    }

    fn group_state(&self, key: usize) -> &GroupState {
        &self.groups[self.slots[key].group]
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}
