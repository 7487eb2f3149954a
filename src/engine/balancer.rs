//! The [`Balancer`] picks the backend and the address that a connection is dialled to.
//!
//! - *The backend with the fewest connections first; among equals the one that was
//!   picked the longest ago.* This is HAProxy's `leastconn`, which is round-robin among
//!   servers with the same load. Backends that were never picked come in random order,
//!   so that several proxies do not all begin with the same backend.
//! - *An address is ejected after a failure* (Envoy's outlier ejection), for 1 s, doubled by
//!   each further failure up to 30 s. While it is ejected it is picked only if nothing else is
//!   left. After that, one connection at a time tries it; if another backend could take the
//!   connection, the address has [`TRIAL_TIMEOUT`] to answer.
//! - *An address that has not answered a dial for [`TRIAL_AFTER`] is put on trial*: until it
//!   answers, further connections are dialled to it only if nothing else is left. A
//!   backend that swallows SYNs thus delays the connections of a quarter of a second,
//!   not those of the whole connect timeout.
//! - *The addresses of one backend are alternatives.* The one that has answered is
//!   dialled first from then on. Backends that join later are dialled first at an address
//!   of its family, because they run the same program.
//! - *Errors of this machine are no failures of a backend* ([`DialFailure::Local`]).
//! - *Backends that are near come before others* ([`BackendSpec::is_near`]), however many
//!   connections they have; others are picked where none of those takes connections.
//! - *A client comes back to its backend* where the Service has session affinity
//!   ([`Affinity`](super::affinity::Affinity)), as long as that backend is listed, has room and
//!   has not failed. Else the client is bound to the backend that is picked.
//! - *A backend that joins others gets its share at once, and no more.* By connection count
//!   alone it would get every new connection until it has as many as the others, at the moment
//!   at which it is coldest. HAProxy and Envoy avoid that with a slow start that gives it less
//!   than its share. Here a handicap makes it count as one of the least loaded, so it gets its
//!   share; the handicap fades over [`SLOW_START`], and then it catches up. At a wake there are
//!   no others and no handicap. A backend that has recovered from failures joins in the same
//!   way.

mod backend;
mod dial_round;
mod order;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use self::backend::{Backend, Rank, SlowStart};
pub use self::dial_round::{DialFailure, DialRound};
use self::order::Order;
use super::port_group::PortGroup;
use crate::backoff::Random;
use crate::clock::Time;

/// The timeout of the first dial to an address after its ejection, if there is another
/// backend. A SYN within a cluster is answered within a few milliseconds.
pub const TRIAL_TIMEOUT: Duration = Duration::from_millis(250);

/// The time without an answer after which other addresses are preferred to one.
const TRIAL_AFTER: Duration = Duration::from_millis(250);

/// The duration of the slow start of a backend that joins others.
const SLOW_START: Duration = Duration::from_secs(30);

/// The number of the first pick. Lower numbers are random ones of backends that were
/// never picked.
const FIRST_PICK: u64 = 1 << 32;

/// A backend as the daemon lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// An opaque name of the backend, which stays the same while it is listed.
    pub id: String,
    /// Its addresses, which are alternatives, the preferred one first.
    pub addresses: Vec<SocketAddr>,
    /// Whether it is dialled before those that are not: it is in the same zone, or they are all
    /// alike.
    pub is_near: bool,
}

/// The identity of one address of one backend, which stays valid after the backend has
/// left the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressId {
    /// The key of the backend, which is never reused.
    backend: u32,
    address: u16,
}

/// A picked address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The identity of the address, for the calls that report the result.
    pub id: AddressId,
    /// The address to dial.
    pub address: SocketAddr,
    /// Whether it is dialled for the first time after its ejection, and there is another backend:
    /// it has [`TRIAL_TIMEOUT`] to answer.
    pub is_trial: bool,
}

/// The backends that are listed or in use.
///
/// A connection picks an address with [`Balancer::pick`] and reports the result with
/// [`Balancer::failed`], after which it picks again in the same [`DialRound`], or with
/// [`Balancer::succeeded`]. When a connection that has succeeded ends, it calls
/// [`Balancer::closed`].
pub struct Balancer {
    backends: BTreeMap<u32, Backend>,
    order: Order,
    /// How many backends are listed.
    listed: usize,
    /// Their keys.
    listed_by_id: HashMap<Rc<str>, u32>,
    /// Where connections to them are counted over all ports of the app.
    group: Rc<PortGroup>,
    /// How many connections a backend may have at a time, over all ports of the app.
    max_per_backend: u32,
    fallback: Option<SocketAddr>,
    /// The addresses of the backup target.
    backup: Vec<SocketAddr>,
    /// Whether the last address to answer, of a backend with addresses of both families,
    /// was an IPv6 address; `None` before there was one.
    prefers_ipv6: Option<bool>,
    random: Random,
    next_backend: u32,
    next_pick: u64,
}

impl Balancer {
    /// No backend yet. `seed` determines the order of backends that were never picked and
    /// the jitter of ejections, and differs between processes.
    pub fn new(seed: u64) -> Self {
        Balancer {
            backends: BTreeMap::new(),
            order: Order::default(),
            listed: 0,
            listed_by_id: HashMap::new(),
            group: Rc::default(),
            max_per_backend: u32::MAX,
            fallback: None,
            backup: Vec::new(),
            prefers_ipv6: None,
            random: Random::new(seed),
            next_backend: 0,
            next_pick: FIRST_PICK,
        }
    }

    /// Replaces the list. Connections to a backend that has left it continue. Returns
    /// whether a backend or an address was added.
    pub fn set(&mut self, specs: &[BackendSpec], now: Time) -> bool {
        let known = self
            .backends
            .iter()
            .filter(|(_, backend)| !backend.is_fallback());
        let known: HashMap<Rc<str>, u32> = known
            .map(|(&key, backend)| (backend.id.clone(), key))
            .collect();
        let mut listed = BTreeSet::new();
        let mut newcomers = BTreeSet::new();
        let mut joined = false;
        for spec in specs.iter().filter(|spec| !spec.addresses.is_empty()) {
            let key = match known.get(&*spec.id) {
                Some(&key) => key,
                None => self.add(Backend::new(&spec.id, self.group.pods.of(&spec.id))),
            };
            if !listed.insert(key) {
                continue; // The same id twice: the first one holds.
            }
            let prefers_ipv6 = self.prefers_ipv6;
            let was_listed = self
                .backends
                .get(&key)
                .is_some_and(|backend| backend.is_listed);
            self.change(key, now, |backend| {
                backend.is_near = spec.is_near;
                joined |= backend.list(&spec.addresses, prefers_ipv6)
            });
            if !was_listed {
                newcomers.insert(key);
            }
        }
        let gone = known.values().filter(|key| !listed.contains(key));
        for &key in gone {
            self.change(key, now, Backend::unlist);
        }
        self.listed = listed.len();
        self.update_listed_by_id(&listed);
        self.start_slowly(&newcomers, now);
        joined
    }

    fn update_listed_by_id(&mut self, listed: &BTreeSet<u32>) {
        let by_id = |key: &u32| Some((self.backends.get(key)?.id.clone(), *key));
        let now: HashMap<Rc<str>, u32> = listed.iter().filter_map(by_id).collect();
        let before = std::mem::take(&mut self.listed_by_id);
        let joined = now.keys().filter(|id| !before.contains_key(*id));
        joined.for_each(|id| self.group.note_listed(id));
        let left = before.keys().filter(|id| !now.contains_key(*id));
        left.for_each(|id| self.group.note_unlisted(id));
        self.listed_by_id = now;
    }

    /// Sets the address that is tried when no other has given any answer: the
    /// Service's own.
    pub fn set_fallback(&mut self, address: Option<SocketAddr>) {
        self.fallback = address;
    }

    /// The number of backends that are dialled before the others.
    pub fn near(&self) -> usize {
        let backends = self.backends.values();
        backends.filter(|it| it.is_listed && it.is_near).count()
    }

    /// Sets the addresses of the backup target.
    pub fn set_backup(&mut self, addresses: &[SocketAddr]) {
        self.backup = addresses.to_vec();
    }

    /// Whether there is a backup target.
    pub fn has_backup(&self) -> bool {
        !self.backup.is_empty()
    }

    /// Picks the address of the backup target in that place, and counts a connection to it.
    pub fn pick_backup(&mut self, place: usize, now: Time) -> Option<Pick> {
        let address = *self.backup.get(place)?;
        let key = self.add(Backend::fallback(address));
        let id = AddressId {
            backend: key,
            address: 0,
        };
        let last_pick = self.next_pick;
        self.change(key, now, |backend| backend.dial(0, last_pick, now))?;
        Some(Pick {
            id,
            address,
            is_trial: false,
        })
    }

    /// Whether no address may be dialled.
    pub fn is_empty(&self) -> bool {
        self.listed == 0
    }

    /// Has connections counted together with those of the other ports of the app. To be
    /// called before there is a backend.
    pub fn share_with(&mut self, group: &Rc<PortGroup>) {
        self.group = group.clone();
    }

    /// Whether connections of a client go to the same backend, so that the client is of
    /// interest.
    pub fn has_affinity(&self) -> bool {
        self.group.affinity.is_on()
    }

    /// Sets how many connections a backend may have at a time, over all ports of the app.
    /// Those that have more keep them.
    pub fn set_max_per_backend(&mut self, most: Option<NonZeroU32>) {
        self.max_per_backend = most.map_or(u32::MAX, NonZeroU32::get);
    }

    /// How many backends have as many connections as they may have.
    pub fn full(&self) -> usize {
        let backends = self.backends.values();
        let full = backends.filter(|backend| backend.is_full(self.max_per_backend));
        full.count()
    }

    /// Whether there are backends, and each has as many connections as it may have. It is
    /// not counted as it changes, because another port may change it; the first backend that
    /// has room ends the search.
    pub fn is_full(&self) -> bool {
        let most = self.max_per_backend;
        let mut backends = self.backends.values();
        most < u32::MAX
            && self.listed > 0
            && backends.all(|backend| !backend.is_listed || backend.is_full(most))
    }

    /// The listed addresses, of each backend the one that is dialled first at its head.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let listed = self.backends.values().filter(|backend| backend.is_listed);
        listed.flat_map(Backend::listed_addresses)
    }

    /// The number of avoided backends: those of which each address is ejected or on trial.
    pub fn avoided(&self) -> usize {
        self.order.avoided().count()
    }

    /// Picks the next address for a connection, if one is left, and counts a connection to it.
    ///
    /// After an address that has refused, or cannot be reached, another address of the
    /// same backend comes next: the app may listen on one family only. After a timeout it
    /// does not, because that address would probably time out too. Ejected addresses
    /// come after all others, in the order in which their ejections end. The fallback comes
    /// last, and only if no backend has answered: if one has refused, the cluster IP
    /// leads to none that accepts.
    ///
    /// With session affinity, a backend that takes connections and is that of the `client`
    /// comes before all others, and the client is bound to the one that is picked.
    pub fn pick(
        &mut self,
        client: Option<IpAddr>,
        round: &mut DialRound,
        now: Time,
    ) -> Option<Pick> {
        if round.has_local_error() {
            return None;
        }
        self.refresh(now);
        let client = client.filter(|_| self.has_affinity());
        let bound = client.and_then(|client| self.backend_of(client, now));
        let next = round
            .has_tries_left()
            .then(|| self.next(bound, round, now))
            .flatten();
        let at = next.or_else(|| self.next_fallback(round))?;
        if let (Some(client), Some(backend)) = (client, self.backends.get(&at.backend))
            && !backend.is_fallback()
            && (bound.is_some() || !self.is_bound_elsewhere(client, now))
        {
            self.group.affinity.bind(client, &backend.id, now);
        }
        let has_others = self.order.has_others(at.backend);
        let last_pick = self.next_pick;
        self.next_pick += 1;
        let is_trial = self.change(at.backend, now, |backend| {
            backend.dial(at.address, last_pick, now)
        })?;
        Some(Pick {
            id: at,
            address: self.address(at)?,
            is_trial: is_trial && has_others,
        })
    }

    /// The backend has accepted the connection.
    pub fn succeeded(&mut self, id: AddressId, now: Time) {
        let mut has_recovered = false;
        let mut family = None;
        self.change(id.backend, now, |backend| {
            has_recovered = backend.connected(id.address, now);
            family = backend.answering_family();
        });
        self.prefers_ipv6 = family.or(self.prefers_ipv6);
        if has_recovered {
            self.start_slowly(&BTreeSet::from([id.backend]), now);
        }
    }

    /// The dial has failed, or the backend broke off before the first byte. The
    /// connection counts no more.
    pub fn failed(&mut self, id: AddressId, cause: DialFailure, round: &mut DialRound, now: Time) {
        round.record(id, cause);
        let fraction = self.random.fraction();
        self.change(id.backend, now, |backend| {
            if cause != DialFailure::BrokeOff {
                backend.dial_ended(id.address);
            }
            if cause.is_of_the_backend() {
                backend.eject(id.address, fraction, now);
            }
            backend.connection_ended();
        });
    }

    /// The dial was given up before its result. The connection counts no more.
    pub fn abandon(&mut self, id: AddressId, now: Time) {
        let fraction = self.random.fraction();
        self.change(id.backend, now, |backend| {
            backend.abandoned(id.address, fraction, now);
            backend.connection_ended();
        });
    }

    /// A connection that the backend had accepted has ended.
    pub fn closed(&mut self, id: AddressId, now: Time) {
        self.change(id.backend, now, |backend| {
            backend.connection_closed(id.address);
            backend.connection_ended();
        });
    }

    /// The address with that identity, while it is listed or in use.
    pub fn address(&self, id: AddressId) -> Option<SocketAddr> {
        self.backends.get(&id.backend)?.address(id.address)
    }

    /// How many connections there are on all of them.
    #[cfg(test)]
    pub fn in_use(&self) -> u32 {
        self.backends
            .values()
            .map(|backend| backend.connections)
            .sum()
    }

    // --- Choice ---

    /// Ends the ejections and the slow starts whose time is over.
    fn refresh(&mut self, now: Time) {
        while let Some(key) = self.order.readmitted(now) {
            self.change(key, now, |_| ());
        }
        let started = |backend: &Backend| {
            let floor = self.order.lowest_load(backend.is_near);
            backend.slow_start_is_over(floor, now)
        };
        let ramping = self.order.ramping().iter().copied();
        let over: Vec<u32> = ramping.filter(|key| started(&self.backends[key])).collect();
        for key in over {
            self.change(key, now, |backend| backend.slow_start = None);
        }
    }

    /// The key of the listed backend that the client is bound to.
    fn backend_of(&self, client: IpAddr, now: Time) -> Option<u32> {
        let id = self.group.affinity.backend_of(client, now)?;
        self.listed_by_id.get(&id).copied()
    }

    /// Whether the backend that the client is bound to is listed at another port alone: the
    /// client keeps it for that.
    fn is_bound_elsewhere(&self, client: IpAddr, now: Time) -> bool {
        let bound = self.group.affinity.backend_of(client, now);
        bound.is_some_and(|id| self.group.is_listed(&id))
    }

    /// The next address, not counting the fallback. `bound` is the backend of the client.
    fn next(&mut self, bound: Option<u32>, round: &DialRound, now: Time) -> Option<AddressId> {
        if let Some(at) = self.next_alternative(round, now) {
            return Some(at);
        }
        let of_client = |this: &Self| {
            let at = this.address_of(bound?, round, now)?;
            let is_near = this.backends.get(&at.backend)?.is_near;
            let may_be_far = || this.least_loaded(true, round, now).is_none();
            (is_near || may_be_far()).then_some(at)
        };
        while let Some(at) = of_client(self).or_else(|| self.next_ready(round, now)) {
            let is_overdue = |backend: &Backend| backend.is_overdue(at.address, now);
            if !self.backends.get(&at.backend).is_some_and(is_overdue) {
                return Some(at);
            }
            self.change(at.backend, now, |backend| {
                backend.begin_trial(at.address, now)
            });
        }
        self.order.avoided().find_map(|key| {
            let address = self.with_room(key)?.next_avoided(key, round)?;
            Some(AddressId {
                backend: key,
                address,
            })
        })
    }

    /// The backend of that key, if it may have another connection.
    fn with_room(&self, key: u32) -> Option<&Backend> {
        let backend = self.backends.get(&key)?;
        backend.has_room(self.max_per_backend).then_some(backend)
    }

    /// Another address of the backend whose last address has refused or cannot be reached.
    fn next_alternative(&self, round: &DialRound, now: Time) -> Option<AddressId> {
        let key = round.alternatives_of()?;
        self.with_room(key).filter(|backend| backend.is_listed)?;
        self.address_of(key, round, now)
    }

    /// The address of a backend that is dialled next, if it takes connections.
    fn address_of(&self, key: u32, round: &DialRound, now: Time) -> Option<AddressId> {
        let address = self.with_room(key)?.next_address(key, round, now)?;
        Some(AddressId {
            backend: key,
            address,
        })
    }

    /// The least loaded backend that is not ejected, of those that are near, or else of the
    /// others.
    fn next_ready(&self, round: &DialRound, now: Time) -> Option<AddressId> {
        let near = self.least_loaded(true, round, now);
        near.or_else(|| self.least_loaded(false, round, now))
    }

    fn least_loaded(&self, is_near: bool, round: &DialRound, now: Time) -> Option<AddressId> {
        let at = |key: u32| self.address_of(key, round, now);
        // In the order of their load at this port: behind the first that is full by that alone,
        // all are.
        let most = self.max_per_backend;
        let ready = self.order.ready(is_near);
        let mut ready = ready.take_while(|&(load, ..)| load < most);
        let ready = ready.find_map(|(load, last_pick, key)| Some(((load, last_pick), at(key)?)));
        let floor = self.order.lowest_load(is_near);
        let ramping = self.order.ramping().iter().filter_map(|&key| {
            let backend = self.backends.get(&key)?;
            let backend = (backend.is_near == is_near).then_some(backend)?;
            Some((
                (backend.load_in_slow_start(floor, now), backend.last_pick),
                at(key)?,
            ))
        });
        let least = ready
            .into_iter()
            .chain(ramping)
            .min_by_key(|(rank, _)| *rank);
        least.map(|(_, at)| at)
    }

    fn next_fallback(&mut self, round: &mut DialRound) -> Option<AddressId> {
        let address = self.fallback.filter(|_| round.take_fallback())?;
        let found = self.backends.iter();
        let mut found = found.filter(|(_, backend)| backend.is_fallback_at(address));
        let key = match found.next() {
            Some((&key, _)) => key,
            None => self.add(Backend::fallback(address)),
        };
        self.with_room(key)?;
        Some(AddressId {
            backend: key,
            address: 0,
        })
    }

    /// Begins the slow start of backends that join others. The handicap is the number of
    /// connections of the least loaded of those others.
    fn start_slowly(&mut self, newcomers: &BTreeSet<u32>, now: Time) {
        let least = [false, true].map(|near| self.order.lowest_load_without(newcomers, near));
        for &key in newcomers {
            self.change(key, now, |backend| {
                let Some(least) = least[usize::from(backend.is_near)] else {
                    return;
                };
                let handicap = least.saturating_sub(backend.connections);
                backend.slow_start = (handicap > 0).then_some(SlowStart {
                    handicap,
                    since: now,
                });
            });
        }
    }

    // --- Keeping the order ---

    /// Adds a backend that is about to be listed or dialled.
    fn add(&mut self, mut backend: Backend) -> u32 {
        let key = self.next_backend;
        self.next_backend = self.next_backend.wrapping_add(1);
        backend.last_pick = self.random.bits() % FIRST_PICK;
        self.backends.insert(key, backend);
        key
    }

    /// Changes a backend, moves it to its new rank in the order, and removes it if it is
    /// neither listed nor in use. Every change of a backend is made here.
    fn change<T>(
        &mut self,
        key: u32,
        now: Time,
        change: impl FnOnce(&mut Backend) -> T,
    ) -> Option<T> {
        let backend = self.backends.get_mut(&key)?;
        let result = change(backend);
        let rank = backend.rank_at(now);
        self.order.replace(key, backend.rank, rank);
        backend.rank = rank;
        if rank == Rank::Unlisted && backend.connections == 0 {
            self.backends.remove(&key);
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests;
