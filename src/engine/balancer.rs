//! The balancer: which pod a connection is dialled to.
//!
//! - *Fewest connections first; among equals the pod that was picked the longest
//!   ago.* That is HAProxy's `leastconn`, which takes turns within a group of the
//!   same load. Pods that were never picked come in an order that each process
//!   draws at random, so that several proxies do not all begin with the same pod.
//! - *A failure is remembered.* The address rests for 1 s, doubled by each failure
//!   that follows up to 30 s, and is picked only where nothing else is left. Then
//!   one connection at a time tries it again; if another pod could take that
//!   connection, the address has [`TRIAL_PATIENCE`] to answer.
//! - *An address that owes an answer for [`DOUBT_AFTER`] is doubted*: only where
//!   nothing else is left is a further connection dialled to it before that answer.
//!   So a pod that swallows SYNs delays those who come within that time, not
//!   those of the whole connect timeout.
//! - *The addresses of one pod are alternatives.* The one that has answered is
//!   dialled first from then on, and its family first at pods that come later,
//!   since they run the same program.
//! - *Errors of this machine say nothing about a pod* ([`Cause::Local`]).
//! - *A pod that joins others gets its share at once, and no more.* By the number of
//!   connections alone it would get every new one until it has as many as the
//!   others: after a scale-up by an HPA that is a flood, at the moment at which the
//!   pod is coldest. HAProxy's and Envoy's slow start withholds its share in
//!   place of the flood. Here it counts as one of the least loaded, so that
//!   it takes its turn, by a handicap that fades over [`SLOW_START`]; after that
//!   it catches up. At a wake there is nobody to be handicapped against. A pod that
//!   has recovered from failures joins in the same way.

mod order;
mod pod;
mod round;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use self::order::Order;
use self::pod::{Place, Pod, Ramp};
pub use self::round::{Cause, Round};
use crate::backoff::Random;
use crate::clock::Time;

/// How long an address that has failed may take to answer its first dial after
/// that, if another pod is there. A SYN within a cluster is answered within a few
/// milliseconds.
pub const TRIAL_PATIENCE: Duration = Duration::from_millis(250);

/// How long an address may owe an answer before others are preferred to it.
const DOUBT_AFTER: Duration = Duration::from_millis(250);

/// How long a pod that joins others is kept from catching up with them.
const SLOW_START: Duration = Duration::from_secs(30);

/// Numbers below are turns of pods that were never picked.
const FIRST_TURN: u64 = 1 << 32;

/// What may be dialled, as the engine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Names the backend for as long as it lives. Opaque.
    pub id: String,
    /// Its addresses, the preferred one first: they all lead to the same place.
    pub addresses: Vec<SocketAddr>,
}

/// One address of one pod, named so that it can be counted after it has left
/// the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendId {
    /// Never that of another pod.
    pod: u32,
    address: u16,
}

/// What is to be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// What to call it.
    pub id: BackendId,
    /// Where it is.
    pub address: SocketAddr,
    /// How long it may take to answer, if that is less than usual.
    pub patience: Option<Duration>,
}

/// All pods that are listed or in use.
///
/// A connection picks an address with [`Balancer::pick`] and says what has come of
/// it: [`Balancer::failed`], after which it picks again in the same [`Round`], or
/// [`Balancer::succeeded`]. What was picked and has not failed is given back with
/// [`Balancer::release`].
pub struct Balancer {
    pods: BTreeMap<u32, Pod>,
    order: Order,
    /// How many pods are listed,
    listed: usize,
    /// and how many of them have as many connections as they may have.
    full: usize,
    /// How many connections a pod may have at a time.
    most_per_pod: u32,
    fallback: Option<SocketAddr>,
    /// Whether the address that has answered last at a pod of both families is
    /// one of IPv6.
    prefers_ipv6: Option<bool>,
    random: Random,
    next_pod: u32,
    next_turn: u64,
}

impl Balancer {
    /// No pod yet. The seed makes the order of pods that were never picked, and the
    /// jitter of pauses: one of each process's own.
    pub fn new(seed: u64) -> Self {
        Balancer {
            pods: BTreeMap::new(),
            order: Order::default(),
            listed: 0,
            full: 0,
            most_per_pod: u32::MAX,
            fallback: None,
            prefers_ipv6: None,
            random: Random::new(seed),
            next_pod: 0,
            next_turn: FIRST_TURN,
        }
    }

    /// Replaces the list. Connections to a pod that is no longer on it live on.
    /// Returns whether a pod or an address has joined.
    pub fn set(&mut self, specs: &[BackendSpec], now: Time) -> bool {
        let known = self.pods.iter().filter(|(_, pod)| !pod.is_fallback());
        let known: HashMap<String, u32> = known.map(|(&key, pod)| (pod.id.clone(), key)).collect();
        let mut listed = BTreeSet::new();
        let mut newcomers = BTreeSet::new();
        let mut joined = false;
        for spec in specs.iter().filter(|spec| !spec.addresses.is_empty()) {
            let key = match known.get(&spec.id) {
                Some(&key) => key,
                None => self.add(Pod::new(&spec.id)),
            };
            if !listed.insert(key) {
                continue; // The same id twice: the first one holds.
            }
            let prefers_ipv6 = self.prefers_ipv6;
            let was_listed = self.pods.get(&key).is_some_and(|pod| pod.is_listed);
            self.change(key, now, |pod| {
                joined |= pod.list(&spec.addresses, prefers_ipv6)
            });
            if !was_listed {
                newcomers.insert(key);
            }
        }
        let gone = known.values().filter(|key| !listed.contains(key));
        for &key in gone {
            self.change(key, now, Pod::unlist);
        }
        self.listed = listed.len();
        self.start_slowly(&newcomers, now);
        joined
    }

    /// Sets the address that is tried when no other has given any answer: the
    /// Service's own.
    pub fn set_fallback(&mut self, address: Option<SocketAddr>) {
        self.fallback = address;
    }

    /// Whether no address may be dialled.
    pub fn is_empty(&self) -> bool {
        self.listed == 0
    }

    /// Sets how many connections a pod may have at a time. Those that have more keep
    /// them.
    pub fn set_most_per_pod(&mut self, most: Option<NonZeroU32>) {
        self.most_per_pod = most.map_or(u32::MAX, NonZeroU32::get);
        let pods = self.pods.values();
        self.full = pods.filter(|pod| pod.is_full(self.most_per_pod)).count();
    }

    /// How many pods have as many connections as they may have.
    pub fn full(&self) -> usize {
        self.full
    }

    /// Whether there are pods, and each has as many connections as it may have.
    pub fn is_full(&self) -> bool {
        self.listed > 0 && self.full == self.listed
    }

    /// How many pods rest after failures.
    pub fn resting(&self) -> usize {
        self.order.resting().count()
    }

    /// The next address of the round, if one is left, with one connection more.
    ///
    /// Where an address of a pod has failed at once, another one of it comes next: the
    /// app may listen on one family alone. Where it was silent that one is likely
    /// to be silent too. Addresses that rest come after all others, the one first
    /// whose pause ends first. The fallback comes last, and only if no pod has given
    /// any answer: one that refuses is there, and the Service leads to no other.
    pub fn pick(&mut self, round: &mut Round, now: Time) -> Option<Pick> {
        if round.is_over() {
            return None;
        }
        self.refresh(now);
        let next = round.may_go_on().then(|| self.next(round, now)).flatten();
        let at = next.or_else(|| self.next_fallback(round))?;
        let has_others = self.order.has_others(at.pod);
        let turn = self.next_turn;
        self.next_turn += 1;
        let is_trial = self.change(at.pod, now, |pod| pod.dial(at.address, turn, now))?;
        Some(Pick {
            id: at,
            address: self.address(at)?,
            patience: (is_trial && has_others).then_some(TRIAL_PATIENCE),
        })
    }

    /// The pod has taken the connection.
    pub fn succeeded(&mut self, id: BackendId, now: Time) {
        let mut has_recovered = false;
        let mut family = None;
        self.change(id.pod, now, |pod| {
            has_recovered = pod.connected(id.address, now);
            family = pod.answering_family();
        });
        self.prefers_ipv6 = family.or(self.prefers_ipv6);
        if has_recovered {
            self.start_slowly(&BTreeSet::from([id.pod]), now);
        }
    }

    /// The dial has failed, or the pod has broken off before the first byte. Gives
    /// the address back.
    pub fn failed(&mut self, id: BackendId, cause: Cause, round: &mut Round, now: Time) {
        round.note(id, cause);
        let fraction = self.random.fraction();
        self.change(id.pod, now, |pod| {
            if cause != Cause::BrokeOff {
                pod.dial_ended(id.address);
            }
            if cause.is_of_the_pod() {
                pod.rest(id.address, fraction, now);
            }
            pod.connections -= 1;
        });
    }

    /// A dial is given up, whatever its address would have said.
    pub fn abandon(&mut self, id: BackendId, now: Time) {
        let fraction = self.random.fraction();
        self.change(id.pod, now, |pod| {
            pod.abandoned(id.address, fraction, now);
            pod.connections -= 1;
        });
    }

    /// A connection that the pod has taken is over.
    pub fn release(&mut self, id: BackendId, now: Time) {
        self.change(id.pod, now, |pod| {
            pod.served(id.address);
            pod.connections -= 1;
        });
    }

    /// The address of one that is in use.
    pub fn address(&self, id: BackendId) -> Option<SocketAddr> {
        self.pods.get(&id.pod)?.address(id.address)
    }

    /// How many connections there are on all of them.
    #[cfg(test)]
    pub fn in_use(&self) -> u32 {
        self.pods.values().map(|pod| pod.connections).sum()
    }

    // --- Choice ---

    /// Ends the pauses that are over, and slow starts.
    fn refresh(&mut self, now: Time) {
        while let Some(key) = self.order.rested(now) {
            self.change(key, now, |_| ());
        }
        let floor = self.order.lowest_load();
        let started = |pod: &Pod| pod.has_started(floor, now);
        let ramping = self.order.ramping().iter().copied();
        let over: Vec<u32> = ramping.filter(|key| started(&self.pods[key])).collect();
        for key in over {
            self.change(key, now, |pod| pod.ramp = None);
        }
    }

    /// The pod's address that comes next, the fallback aside.
    fn next(&mut self, round: &Round, now: Time) -> Option<BackendId> {
        if let Some(at) = self.next_alternative(round, now) {
            return Some(at);
        }
        while let Some(at) = self.next_ready(round, now) {
            let is_doubtful = |pod: &Pod| pod.is_doubtful(at.address, now);
            if !self.pods.get(&at.pod).is_some_and(is_doubtful) {
                return Some(at);
            }
            self.change(at.pod, now, |pod| pod.doubt(at.address, now));
        }
        self.order.resting().find_map(|key| {
            let address = self.with_room(key)?.next_resting(key, round)?;
            Some(BackendId { pod: key, address })
        })
    }

    /// The pod of that key, if it may have another connection.
    fn with_room(&self, key: u32) -> Option<&Pod> {
        let pod = self.pods.get(&key)?;
        (pod.connections < self.most_per_pod).then_some(pod)
    }

    /// Another address of the pod that has failed last, if that took no time.
    fn next_alternative(&self, round: &Round, now: Time) -> Option<BackendId> {
        let key = round.alternatives_of()?;
        let pod = self.with_room(key).filter(|pod| pod.is_listed)?;
        let address = pod.next_address(key, round, now)?;
        Some(BackendId { pod: key, address })
    }

    /// The least loaded pod that does not rest.
    fn next_ready(&self, round: &Round, now: Time) -> Option<BackendId> {
        let at = |key: u32| {
            let address = self.with_room(key)?.next_address(key, round, now)?;
            Some(BackendId { pod: key, address })
        };
        // In the order of their load: behind the first that is full, all are.
        let most = self.most_per_pod;
        let mut ready = self.order.ready().take_while(|&(load, ..)| load < most);
        let ready = ready.find_map(|(load, turn, key)| Some(((load, turn), at(key)?)));
        let floor = self.order.lowest_load();
        let ramping = self.order.ramping().iter().filter_map(|&key| {
            let pod = self.pods.get(&key)?;
            Some(((pod.load_within(floor, now), pod.turn), at(key)?))
        });
        let least = ready
            .into_iter()
            .chain(ramping)
            .min_by_key(|(rank, _)| *rank);
        least.map(|(_, at)| at)
    }

    fn next_fallback(&mut self, round: &mut Round) -> Option<BackendId> {
        let address = self.fallback.filter(|_| round.falls_back())?;
        let found = self.pods.iter();
        let mut found = found.filter(|(_, pod)| pod.is_fallback_at(address));
        let key = match found.next() {
            Some((&key, _)) => key,
            None => self.add(Pod::fallback(address)),
        };
        self.with_room(key)?;
        Some(BackendId {
            pod: key,
            address: 0,
        })
    }

    /// Handicaps pods that join others by what the least loaded of those has.
    fn start_slowly(&mut self, newcomers: &BTreeSet<u32>, now: Time) {
        let Some(least) = self.order.lowest_load_without(newcomers) else {
            return;
        };
        for &key in newcomers {
            self.change(key, now, |pod| {
                let handicap = least.saturating_sub(pod.connections);
                pod.ramp = (handicap > 0).then_some(Ramp {
                    handicap,
                    since: now,
                });
            });
        }
    }

    // --- Keeping the order ---

    /// Takes in a pod that is about to be listed or dialled.
    fn add(&mut self, mut pod: Pod) -> u32 {
        let key = self.next_pod;
        self.next_pod = self.next_pod.wrapping_add(1);
        pod.turn = self.random.bits() % FIRST_TURN;
        self.pods.insert(key, pod);
        key
    }

    /// Changes a pod, moves it to where it then belongs, and forgets it when it is
    /// neither listed nor in use. Every change of a pod goes through here.
    fn change<T>(&mut self, key: u32, now: Time, change: impl FnOnce(&mut Pod) -> T) -> Option<T> {
        let pod = self.pods.get_mut(&key)?;
        let was_full = pod.is_full(self.most_per_pod);
        let result = change(pod);
        let is_full = pod.is_full(self.most_per_pod);
        self.full = self.full + usize::from(is_full) - usize::from(was_full);
        let place = pod.place_at(now);
        self.order.replace(key, pod.place, place);
        pod.place = place;
        if place == Place::Nowhere && pod.connections == 0 {
            self.pods.remove(&key);
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests;
