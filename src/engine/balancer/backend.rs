//! [`Backend`]: what the balancer picks: a pod or a static backend (HAProxy calls it a server,
//! Envoy a host). It has its addresses with their failures, its connections, and its rank in the
//! [`Order`](super::order::Order).

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::dial_round::DialRound;
use super::{AddressId, SLOW_START, TRIAL_AFTER};
use crate::clock::Time;

/// How long an address is ejected after its first failure; each further failure doubles it.
const FIRST_EJECTION: Duration = Duration::from_secs(1);
/// The longest ejection.
const MAX_EJECTION: Duration = Duration::from_secs(30);
/// The part of an ejection by which it is shortened at random, at most, so that several
/// proxies do not come back to an address at the same moment.
const JITTER: f64 = 0.2;
/// After this time without a failure, a failure counts as the first one.
const FAILURE_WINDOW: Duration = Duration::from_secs(120);

/// How long other addresses are preferred to one that is on trial.
const TRIAL: Duration = Duration::from_secs(1);

/// The most addresses of a backend that are kept. A pod has one of each family.
const MAX_ADDRESSES: usize = 64;

/// A backend that is listed or in use.
#[derive(Debug)]
pub struct Backend {
    /// [`BackendSpec::id`](super::BackendSpec::id); empty for the fallback.
    pub id: Rc<str>,
    /// All addresses since it was first listed: the position of an address identifies it.
    addresses: Vec<Address>,
    /// The positions of the listed addresses, the preferred one first.
    preferred: Vec<u16>,
    /// The position of the address that is dialled first.
    first: u16,
    /// The number of connections that are dialling it or relaying to it.
    pub connections: u32,
    /// The same over all ports of the app.
    connections_all_ports: Rc<Cell<u32>>,
    /// The sequence number of the last pick: among equals the smallest is picked next.
    pub last_pick: u64,
    /// Whether it may be dialled. A backend that is not listed any more is kept until its
    /// last connection has ended.
    pub is_listed: bool,
    /// Whether it is dialled before others.
    pub is_near: bool,
    /// Its slow start.
    pub slow_start: Option<SlowStart>,
    /// Its rank in the order.
    pub rank: Rank,
}

/// The slow start of a backend that has joined others.
#[derive(Clone, Copy, Debug)]
pub struct SlowStart {
    /// The number of connections that are added to its own at first.
    pub handicap: u32,
    /// When it joined.
    pub since: Time,
}

/// The rank of a backend: its key in the order of the least connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// It is not listed.
    Unlisted,
    /// It takes connections.
    Ready {
        is_near: bool,
        load: u32,
        last_pick: u64,
    },
    /// It takes connections, in its slow start: its load changes with time.
    InSlowStart,
    /// All its addresses are ejected or on trial.
    Avoided { until: Time },
}

#[derive(Debug)]
struct Address {
    address: SocketAddr,
    health: Health,
    /// The number of failures since it last served a connection.
    failures: u8,
    failed_at: Time,
    /// The number of dials in progress.
    dialling: u32,
    /// Since when a dial to it has had no answer; `None` without a dial in progress.
    unanswered_since: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    /// It has failed: until then it is picked only if nothing else is left.
    Ejected {
        until: Time,
    },
    /// A dial in progress decides whether it answers: the first one after an ejection, or one
    /// that is overdue. Until then it is picked only if nothing else is left.
    OnTrial {
        until: Time,
    },
}

impl Backend {
    /// A backend that is about to be listed, and where its connections are counted over all
    /// ports of the app.
    pub fn new(id: &str, connections_all_ports: Rc<Cell<u32>>) -> Self {
        Backend {
            id: id.into(),
            addresses: Vec::new(),
            preferred: Vec::new(),
            first: 0,
            connections: 0,
            connections_all_ports,
            last_pick: 0,
            is_listed: false,
            is_near: true,
            slow_start: None,
            rank: Rank::Unlisted,
        }
    }

    /// The fallback, which is about to be dialled.
    pub fn fallback(address: SocketAddr) -> Self {
        Backend {
            addresses: vec![Address::new(address)],
            ..Backend::new("", Rc::default())
        }
    }

    /// Whether it is the present or a former fallback.
    pub fn is_fallback(&self) -> bool {
        self.id.is_empty()
    }

    /// Whether it is the fallback at that address.
    pub fn is_fallback_at(&self, address: SocketAddr) -> bool {
        self.is_fallback() && self.address(0) == Some(address)
    }

    /// Lists it with `addresses`. An address of the family that `prefers_ipv6` names is
    /// dialled first. Returns whether an address was added.
    pub fn list(&mut self, addresses: &[SocketAddr], prefers_ipv6: Option<bool>) -> bool {
        let before = if self.is_listed {
            std::mem::take(&mut self.preferred)
        } else {
            Vec::new()
        };
        if !self.is_listed {
            // It is listed again: the ejections of its addresses end, and the failure counts stay.
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

    /// Whether it has fewer than `most` connections over all ports of the app.
    pub fn has_room(&self, most: u32) -> bool {
        self.connections_all_ports.get() < most
    }

    /// Whether it is listed and has no room.
    pub fn is_full(&self, most: u32) -> bool {
        self.is_listed && !self.has_room(most)
    }

    /// Counts the end of a connection to it.
    pub fn connection_ended(&mut self) {
        self.connections -= 1;
        let of_app = &self.connections_all_ports;
        of_app.set(of_app.get().saturating_sub(1));
    }

    /// It may not be dialled any more.
    pub fn unlist(&mut self) {
        self.is_listed = false;
        self.slow_start = None;
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

    /// Its rank by its present state.
    pub fn rank_at(&self, now: Time) -> Rank {
        match self.avoided_until(now) {
            _ if !self.is_listed => Rank::Unlisted,
            Some(until) => Rank::Avoided { until },
            None if self.slow_start.is_some() => Rank::InSlowStart,
            None => Rank::Ready {
                is_near: self.is_near,
                load: self.connections,
                last_pick: self.last_pick,
            },
        }
    }

    /// When the first of its addresses may be picked again, if all are ejected or on trial.
    fn avoided_until(&self, now: Time) -> Option<Time> {
        let mut first = None;
        for (_, address) in self.listed() {
            let until = address.avoided_until(now)?;
            first = Some(first.map_or(until, |first: Time| first.min(until)));
        }
        first
    }

    /// The address to dial among those that are neither ejected nor on trial and were not tried.
    pub fn next_address(&self, key: u32, round: &DialRound, now: Time) -> Option<u16> {
        let mut untried = self.untried(key, round);
        let found = untried.find(|(_, it)| it.avoided_until(now).is_none());
        found.map(|(at, _)| at)
    }

    /// The address to dial if all are ejected or on trial.
    pub fn next_avoided(&self, key: u32, round: &DialRound) -> Option<u16> {
        let untried = self.untried(key, round);
        let next = untried.min_by_key(|(_, it)| it.avoidance_end());
        next.map(|(at, _)| at)
    }

    /// Its load during the slow start: its connections and the handicap, which does not raise it
    /// above `least_load`, the load of the least loaded backend.
    pub fn load_in_slow_start(&self, least_load: Option<u32>, now: Time) -> u32 {
        let handicap = self.slow_start.map_or(0, |slow_start| slow_start.left(now));
        let most = self.connections.max(least_load.unwrap_or(0));
        self.connections.saturating_add(handicap).min(most)
    }

    /// Whether its slow start is over: it has as many connections as the least loaded
    /// backend, or the time has passed.
    pub fn slow_start_is_over(&self, least_load: Option<u32>, now: Time) -> bool {
        let is_level = least_load.is_none_or(|least_load| self.connections >= least_load);
        is_level
            || self
                .slow_start
                .is_none_or(|slow_start| slow_start.left(now) == 0)
    }

    /// Whether an address has not answered a dial for [`TRIAL_AFTER`].
    pub fn is_overdue(&self, at: u16, now: Time) -> bool {
        let unanswered_since = self
            .addresses
            .get(usize::from(at))
            .and_then(|it| it.unanswered_since);
        unanswered_since.is_some_and(|since| now >= since + TRIAL_AFTER)
    }

    /// The listed addresses, in the order in which they are dialled.
    pub fn listed_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listed().map(|(_, address)| address.address)
    }

    /// The listed addresses with their positions, in the order in which they are dialled.
    fn listed(&self) -> impl Iterator<Item = (u16, &Address)> {
        let first = self.preferred.iter().filter(|&&at| at == self.first);
        let others = self.preferred.iter().filter(|&&at| at != self.first);
        let all = first.chain(others);
        all.filter_map(|&at| Some((at, self.addresses.get(usize::from(at))?)))
    }

    fn untried(&self, key: u32, round: &DialRound) -> impl Iterator<Item = (u16, &Address)> {
        self.listed().filter(move |&(address, _)| {
            !round.has_tried(AddressId {
                backend: key,
                address,
            })
        })
    }

    // --- Results ---

    /// A dial begins; returns whether it is the first one after an ejection.
    pub fn dial(&mut self, at: u16, last_pick: u64, now: Time) -> bool {
        self.connections += 1;
        self.connections_all_ports
            .set(self.connections_all_ports.get() + 1);
        self.last_pick = last_pick;
        let Some(address) = self.addresses.get_mut(usize::from(at)) else {
            return false;
        };
        address.dialling += 1;
        address.unanswered_since.get_or_insert(now);
        let is_trial = matches!(address.health, Health::Ejected { until } if until <= now);
        if is_trial {
            address.begin_trial(now);
        }
        is_trial
    }

    /// An address has not answered for [`TRIAL_AFTER`]: others are preferred to it.
    pub fn begin_trial(&mut self, at: u16, now: Time) {
        if let Some(address) = self.addresses.get_mut(usize::from(at)) {
            address.begin_trial(now);
        }
    }

    /// A dial has succeeded; returns whether all addresses were ejected or on trial.
    pub fn connected(&mut self, at: u16, now: Time) -> bool {
        let was_avoided = self.avoided_until(now).is_some();
        self.dial_ended(at);
        let Some(address) = self.addresses.get_mut(usize::from(at)) else {
            return false;
        };
        address.health = Health::Good;
        // It answers: dials that are still in progress count from now on.
        if let Some(since) = &mut address.unanswered_since {
            *since = now;
        }
        if self.preferred.contains(&at) {
            self.first = at;
        }
        was_avoided
    }

    /// Whether the address that is dialled first is an IPv6 address; `None` if all
    /// addresses are of one family.
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
                address.unanswered_since = None;
            }
        }
    }

    /// Ejects an address that has failed. Further failures during the ejection do not count:
    /// those dials began before it, or were made because nothing else was left.
    pub fn eject(&mut self, at: u16, fraction: f64, now: Time) {
        let Some(address) = self.addresses.get_mut(usize::from(at)) else {
            return;
        };
        if matches!(address.health, Health::Ejected { until } if now < until) {
            return;
        }
        if now >= address.failed_at + FAILURE_WINDOW {
            address.failures = 0;
        }
        let doubled = FIRST_EJECTION * (1 << address.failures.min(5));
        let ejection = doubled.min(MAX_EJECTION).mul_f64(1.0 - JITTER * fraction);
        address.failures = address.failures.saturating_add(1);
        address.failed_at = now;
        address.health = Health::Ejected {
            until: now + ejection,
        };
    }

    /// A dial was given up by its client. If the address is overdue ([`Backend::is_overdue`]),
    /// that counts as a failure: there may be no client that waits for the connect timeout.
    pub fn abandoned(&mut self, at: u16, fraction: f64, now: Time) {
        let is_overdue = self.is_overdue(at, now);
        self.dial_ended(at);
        if is_overdue {
            self.eject(at, fraction, now);
        } else if let Some(address) = self.addresses.get_mut(usize::from(at))
            && matches!(address.health, Health::OnTrial { .. })
        {
            // The trial has ended without a result: the next dial is a trial again.
            address.health = Health::Ejected { until: now };
        }
    }

    /// A connection that the address had accepted has ended.
    pub fn connection_closed(&mut self, at: u16) {
        if let Some(address) = self.addresses.get_mut(usize::from(at))
            && address.health == Health::Good
        {
            address.failures = 0;
        }
    }
}

impl SlowStart {
    /// The rest of the handicap.
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
            unanswered_since: None,
        }
    }

    fn begin_trial(&mut self, now: Time) {
        self.health = Health::OnTrial { until: now + TRIAL };
    }

    /// When it may be picked again, if it is ejected or on trial.
    fn avoided_until(&self, now: Time) -> Option<Time> {
        Some(self.avoidance_end()).filter(|&until| until > now)
    }

    fn avoidance_end(&self) -> Time {
        match self.health {
            Health::Good => Time::default(),
            Health::Ejected { until } | Health::OnTrial { until } => until,
        }
    }
}
