//! A backend: its addresses, how they have done, and where it stands in the order.

use std::net::SocketAddr;
use std::time::Duration;

use super::round::Round;
use super::{BackendId, DOUBT_AFTER, SLOW_START};
use crate::clock::Time;

/// How long an address rests after its first failure; doubled by each that
/// follows, up to
const FIRST_REST: Duration = Duration::from_secs(1);
/// this.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// By how much of itself a pause is shortened at random, at most, so that several
/// proxies do not come back to an address at the same moment.
const JITTER: f64 = 0.2;
/// A failure after so long without one is a first one.
const MEMORY: Duration = Duration::from_secs(120);

/// How long others are preferred to an address that is awaited, before it is looked
/// at again.
const AWAITED: Duration = Duration::from_secs(1);

/// How many addresses of a backend are remembered. It has one of each family.
const MAX_ADDRESSES: usize = 64;

/// A backend that is listed or in use.
#[derive(Debug)]
pub struct Backend {
    /// What it is called by whoever lists it; empty for the fallback.
    pub id: String,
    /// All that it has had since it was first listed, so that the position of one
    /// names it.
    addresses: Vec<Address>,
    /// Positions of those that are listed, the preferred one first.
    preferred: Vec<u16>,
    /// Position of the one that is dialled first.
    first: u16,
    /// Connections that are dialling it or relaying to it.
    pub connections: u32,
    /// The number of the last pick.
    pub turn: u64,
    /// Whether it may be dialled. One that may not stays until its last connection
    /// has ended.
    pub is_listed: bool,
    /// Its slow start.
    pub ramp: Option<Ramp>,
    /// Where the order has it.
    pub place: Place,
}

/// The slow start of a backend that has joined others.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    /// How many connections it counts for more than it has, at first.
    pub handicap: u32,
    /// When it joined.
    pub since: Time,
}

/// Where a backend stands in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is not listed.
    Nowhere,
    /// Among those that take connections.
    Ready { load: u32, turn: u64 },
    /// Likewise, with a handicap that time changes.
    Ramping,
    /// All its addresses rest.
    Resting { until: Time },
}

#[derive(Debug)]
struct Address {
    address: SocketAddr,
    health: Health,
    /// How many times it has failed since it last served.
    failures: u8,
    failed_at: Time,
    /// How many dials are under way,
    dialling: u32,
    /// and since when it owes an answer.
    owes_since: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    /// It has failed: picked only where nothing else is left.
    Failed {
        until: Time,
    },
    /// A dial is under way that shows how it is: others only where nothing else
    /// is left.
    Awaited {
        until: Time,
    },
}

impl Backend {
    /// A backend that is about to be listed.
    pub fn new(id: &str) -> Self {
        Backend {
            id: id.to_owned(),
            addresses: Vec::new(),
            preferred: Vec::new(),
            first: 0,
            connections: 0,
            turn: 0,
            is_listed: false,
            ramp: None,
            place: Place::Nowhere,
        }
    }

    /// The fallback, which is about to be dialled.
    pub fn fallback(address: SocketAddr) -> Self {
        Backend {
            addresses: vec![Address::new(address)],
            ..Backend::new("")
        }
    }

    /// Whether it is the fallback, of now or of before.
    pub fn is_fallback(&self) -> bool {
        self.id.is_empty()
    }

    /// Whether it is the fallback at that address.
    pub fn is_fallback_at(&self, address: SocketAddr) -> bool {
        self.is_fallback() && self.address(0) == Some(address)
    }

    /// Lists it with these addresses, one of the family first that is given; returns
    /// whether one of them has joined.
    pub fn list(&mut self, addresses: &[SocketAddr], prefers_ipv6: Option<bool>) -> bool {
        let before = if self.is_listed {
            std::mem::take(&mut self.preferred)
        } else {
            Vec::new()
        };
        if !self.is_listed {
            // What lists it says that it is well, for the first time or again.
            let all = self.addresses.iter_mut();
            all.for_each(|it| it.health = Health::Good);
        }
        self.is_listed = true;
        self.preferred = addresses
            .iter()
            .filter_map(|&it| self.position(it))
            .collect();
        let is_listed = |at: &u16| self.preferred.contains(at);
        if before.is_empty() || !is_listed(&self.first) {
            let of_family = |&at: &u16| {
                let address = self.address(at);
                address.map(|address| address.is_ipv6()) == prefers_ipv6
            };
            let listed = self.preferred.iter().copied();
            let first = listed.clone().find(of_family).or(listed.clone().next());
            self.first = first.unwrap_or(0);
        }
        self.preferred.iter().any(|at| !before.contains(at))
    }

    /// Whether it is listed and has `most` connections or more.
    pub fn is_full(&self, most: u32) -> bool {
        self.is_listed && self.connections >= most
    }

    /// It may not be dialled any more.
    pub fn unlist(&mut self) {
        self.is_listed = false;
        self.ramp = None;
    }

    /// The address at that position.
    pub fn address(&self, at: u16) -> Option<SocketAddr> {
        self.addresses.get(usize::from(at)).map(|it| it.address)
    }

    /// The position of an address, new or old.
    fn position(&mut self, address: SocketAddr) -> Option<u16> {
        let found = self.addresses.iter().position(|it| it.address == address);
        let at = match found {
            Some(at) => at,
            None if self.addresses.len() >= MAX_ADDRESSES => return None,
            None => {
                self.addresses.push(Address::new(address));
                self.addresses.len() - 1
            }
        };
        u16::try_from(at).ok()
    }

    // --- Choice ---

    /// Where it belongs in the order.
    pub fn place_at(&self, now: Time) -> Place {
        match self.rests_until(now) {
            _ if !self.is_listed => Place::Nowhere,
            Some(until) => Place::Resting { until },
            None if self.ramp.is_some() => Place::Ramping,
            None => Place::Ready {
                load: self.connections,
                turn: self.turn,
            },
        }
    }

    /// When the first pause of an address ends, if all of them rest.
    fn rests_until(&self, now: Time) -> Option<Time> {
        let mut first = None;
        for (_, address) in self.listed() {
            let until = address.rests_until(now)?;
            first = Some(first.map_or(until, |first: Time| first.min(until)));
        }
        first
    }

    /// The address to dial, among those that don't rest and that the round has not
    /// tried.
    pub fn next_address(&self, key: u32, round: &Round, now: Time) -> Option<u16> {
        let mut untried = self.untried(key, round);
        let found = untried.find(|(_, it)| it.rests_until(now).is_none());
        found.map(|(at, _)| at)
    }

    /// The address to dial where all of them rest.
    pub fn next_resting(&self, key: u32, round: &Round) -> Option<u16> {
        let untried = self.untried(key, round);
        let next = untried.min_by_key(|(_, it)| it.end_of_rest());
        next.map(|(at, _)| at)
    }

    /// Its load among backends of which the least loaded one has `floor` connections.
    pub fn load_within(&self, floor: Option<u32>, now: Time) -> u32 {
        let handicap = self.ramp.map_or(0, |ramp| ramp.left(now));
        let most = self.connections.max(floor.unwrap_or(0));
        self.connections.saturating_add(handicap).min(most)
    }

    /// Whether its slow start is over: it has as many connections as others, or has
    /// had the time.
    pub fn has_started(&self, floor: Option<u32>, now: Time) -> bool {
        let is_level = floor.is_none_or(|floor| self.connections >= floor);
        is_level || self.ramp.is_none_or(|ramp| ramp.left(now) == 0)
    }

    /// Whether an address that does not rest has owed an answer for too long.
    pub fn is_doubtful(&self, at: u16, now: Time) -> bool {
        let owes_since = self
            .addresses
            .get(usize::from(at))
            .and_then(|it| it.owes_since);
        owes_since.is_some_and(|since| now >= since + DOUBT_AFTER)
    }

    /// The listed addresses with their positions, the one first that is dialled first.
    fn listed(&self) -> impl Iterator<Item = (u16, &Address)> {
        let first = self.preferred.iter().filter(|&&at| at == self.first);
        let others = self.preferred.iter().filter(|&&at| at != self.first);
        let all = first.chain(others);
        all.filter_map(|&at| Some((at, self.addresses.get(usize::from(at))?)))
    }

    fn untried(&self, key: u32, round: &Round) -> impl Iterator<Item = (u16, &Address)> {
        self.listed().filter(move |&(address, _)| {
            !round.has_tried(BackendId {
                backend: key,
                address,
            })
        })
    }

    // --- What has come of it ---

    /// A dial begins; returns whether it shows if the address has recovered.
    pub fn dial(&mut self, at: u16, turn: u64, now: Time) -> bool {
        self.connections += 1;
        self.turn = turn;
        let Some(address) = self.addresses.get_mut(usize::from(at)) else {
            return false;
        };
        address.dialling += 1;
        address.owes_since.get_or_insert(now);
        let is_trial = matches!(address.health, Health::Failed { until } if until <= now);
        if is_trial {
            address.await_answer(now);
        }
        is_trial
    }

    /// An address has owed an answer for too long.
    pub fn doubt(&mut self, at: u16, now: Time) {
        if let Some(address) = self.addresses.get_mut(usize::from(at)) {
            address.await_answer(now);
        }
    }

    /// A dial has succeeded; returns whether the backend has recovered by that.
    pub fn connected(&mut self, at: u16, now: Time) -> bool {
        let rested = self.rests_until(now).is_some();
        self.dial_ended(at);
        let Some(address) = self.addresses.get_mut(usize::from(at)) else {
            return false;
        };
        address.health = Health::Good;
        // It answers, so that those which are still under way are young.
        if let Some(since) = &mut address.owes_since {
            *since = now;
        }
        if self.preferred.contains(&at) {
            self.first = at;
        }
        rested
    }

    /// Whether the address that is dialled first is one of IPv6, if there are others.
    pub fn answering_family(&self) -> Option<bool> {
        let is_ipv6 = |at: u16| self.address(at).map(|address| address.is_ipv6());
        let first = is_ipv6(self.first);
        let mut families = self.preferred.iter().map(|&at| is_ipv6(at));
        first.filter(|_| families.any(|family| family != first))
    }

    /// A dial is over.
    pub fn dial_ended(&mut self, at: u16) {
        if let Some(address) = self.addresses.get_mut(usize::from(at)) {
            address.dialling = address.dialling.saturating_sub(1);
            if address.dialling == 0 {
                address.owes_since = None;
            }
        }
    }

    /// An address has failed. Those that fail while it rests were dialled before, or
    /// because nothing else was left: they say nothing new.
    pub fn rest(&mut self, at: u16, fraction: f64, now: Time) {
        let Some(address) = self.addresses.get_mut(usize::from(at)) else {
            return;
        };
        if matches!(address.health, Health::Failed { until } if now < until) {
            return;
        }
        if now >= address.failed_at + MEMORY {
            address.failures = 0;
        }
        let doubled = FIRST_REST * (1 << address.failures.min(5));
        let rest = doubled.min(LONGEST_REST).mul_f64(1.0 - JITTER * fraction);
        address.failures = address.failures.saturating_add(1);
        address.failed_at = now;
        address.health = Health::Failed { until: now + rest };
    }

    /// A dial is given up by its client. If it was overdue, that is a failure: there
    /// may be no client with the patience to see the connect timeout.
    pub fn abandoned(&mut self, at: u16, fraction: f64, now: Time) {
        let is_overdue = self.is_doubtful(at, now);
        self.dial_ended(at);
        if is_overdue {
            self.rest(at, fraction, now);
        } else if let Some(address) = self.addresses.get_mut(usize::from(at))
            && matches!(address.health, Health::Awaited { .. })
        {
            address.health = Health::Failed { until: now };
        }
    }

    /// A connection that it had taken has come to its end.
    pub fn served(&mut self, at: u16) {
        if let Some(address) = self.addresses.get_mut(usize::from(at))
            && address.health == Health::Good
        {
            address.failures = 0;
        }
    }
}

impl Ramp {
    /// How much of the handicap is left.
    fn left(self, now: Time) -> u32 {
        let left = SLOW_START.saturating_sub(now.since(self.since));
        let share = left.as_secs_f64() / SLOW_START.as_secs_f64();
        (f64::from(self.handicap) * share).ceil() as u32
    }
}

impl Address {
    fn new(address: SocketAddr) -> Self {
        Address {
            address,
            health: Health::Good,
            failures: 0,
            failed_at: Time::default(),
            dialling: 0,
            owes_since: None,
        }
    }

    fn await_answer(&mut self, now: Time) {
        self.health = Health::Awaited {
            until: now + AWAITED,
        };
    }

    /// When its rest ends, if it rests.
    fn rests_until(&self, now: Time) -> Option<Time> {
        Some(self.end_of_rest()).filter(|&until| until > now)
    }

    fn end_of_rest(&self) -> Time {
        match self.health {
            Health::Good => Time::default(),
            Health::Failed { until } | Health::Awaited { until } => until,
        }
    }
}
