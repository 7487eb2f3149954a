//! The addresses that may be dialled, and which of them comes next.

use std::net::SocketAddr;

use crate::clock::Time;

/// What may be dialled, as the engine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Names the backend for as long as it lives. Opaque.
    pub id: String,
    /// Its addresses, the preferred one first: they all lead to the same place.
    pub addresses: Vec<SocketAddr>,
}

/// One address, named so that it can be counted after it has left the list.
/// Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendId(u32);

/// What has become of a dial that failed, or of a pod that broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Somebody is there, who has refused or reset the connection.
    Answered,
    /// There was no answer, or no way there.
    Silent,
}

/// What one connection has met with in one round through the addresses.
#[derive(Debug, Default)]
pub struct Round {
    /// Addresses that failed.
    tried: Vec<BackendId>,
    /// Whether one of them answered.
    answered: bool,
    /// Whether the fallback is among them.
    fell_back: bool,
}

struct Backend {
    id: BackendId,
    address: SocketAddr,
    /// Connections that are dialling it or relaying to it.
    connections: u32,
    /// Whether it may be dialled. One that may not stays here until its last
    /// connection has ended.
    listed: bool,
}

/// All addresses that are listed or in use.
///
/// A connection picks an address with [`Backends::pick`] and says what has come of
/// it: [`Backends::failed`], after which it picks again in the same [`Round`], or
/// [`Backends::succeeded`]. Whatever was picked and has not failed is given back
/// with [`Backends::release`].
#[derive(Default)]
pub struct Backends {
    all: Vec<Backend>,
    fallback: Option<SocketAddr>,
    next_id: u32,
}

impl Backends {
    /// Replaces the list. Connections to an address that is no longer on it
    /// live on. Returns whether an address has joined.
    pub fn set(&mut self, specs: &[BackendSpec]) -> bool {
        let addresses = specs.iter().flat_map(|spec| &spec.addresses);
        let addresses: Vec<SocketAddr> = addresses.copied().collect();
        let mut joined = false;
        for backend in &mut self.all {
            let listed = addresses.contains(&backend.address);
            joined |= listed && !backend.listed;
            backend.listed = listed;
        }
        for address in addresses {
            if !self.all.iter().any(|b| b.address == address) {
                self.add(address, true);
                joined = true;
            }
        }
        self.all.retain(|b| b.listed || b.connections > 0);
        joined
    }

    /// Sets the address that is tried when no other has given any answer: the
    /// Service's own.
    pub fn set_fallback(&mut self, address: Option<SocketAddr>) {
        self.fallback = address;
    }

    /// Whether no address may be dialled.
    pub fn is_empty(&self) -> bool {
        self.all.iter().all(|b| !b.listed)
    }

    /// The next address of the round, if one is left, with one connection more.
    ///
    /// That is the listed address with the fewest connections. The fallback comes
    /// last, and only if no pod has given any answer: one that refuses is there,
    /// and the Service leads to no other.
    pub fn pick(&mut self, round: &mut Round, _now: Time) -> Option<(BackendId, SocketAddr)> {
        let candidates = self
            .all
            .iter_mut()
            .filter(|b| b.listed && !round.tried.contains(&b.id));
        if let Some(backend) = candidates.min_by_key(|b| b.connections) {
            backend.connections += 1;
            return Some((backend.id, backend.address));
        }
        if round.answered || round.fell_back || round.tried.is_empty() {
            return None;
        }
        round.fell_back = true;
        let address = self.fallback?;
        Some((self.take(address), address))
    }

    /// The pod has taken the connection.
    pub fn succeeded(&mut self, _id: BackendId, _now: Time) {}

    /// The dial has failed, or the pod has broken off before the first byte. Gives
    /// the address back.
    pub fn failed(&mut self, id: BackendId, failure: Failure, round: &mut Round, _now: Time) {
        round.tried.push(id);
        round.answered |= failure == Failure::Answered;
        self.release(id);
    }

    /// A connection on `id` has ended.
    pub fn release(&mut self, id: BackendId) {
        let Some(at) = self.all.iter().position(|b| b.id == id) else {
            return;
        };
        self.all[at].connections -= 1;
        if self.all[at].connections == 0 && !self.all[at].listed {
            self.all.swap_remove(at);
        }
    }

    /// The address of one that is in use.
    pub fn address(&self, id: BackendId) -> Option<SocketAddr> {
        self.all.iter().find(|b| b.id == id).map(|b| b.address)
    }

    /// How many connections there are on all of them.
    #[cfg(test)]
    pub fn in_use(&self) -> u32 {
        self.all.iter().map(|b| b.connections).sum()
    }

    /// Counts a connection on `address`, whether or not it is listed.
    fn take(&mut self, address: SocketAddr) -> BackendId {
        let at = match self.all.iter().position(|b| b.address == address) {
            Some(at) => at,
            None => self.add(address, false),
        };
        self.all[at].connections += 1;
        self.all[at].id
    }

    fn add(&mut self, address: SocketAddr, listed: bool) -> usize {
        let id = BackendId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.all.push(Backend {
            id,
            address,
            connections: 0,
            listed,
        });
        self.all.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(0);

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, n], 80))
    }

    fn spec(n: u8) -> BackendSpec {
        BackendSpec {
            id: n.to_string(),
            addresses: vec![address(n)],
        }
    }

    fn pick(backends: &mut Backends) -> Option<(BackendId, SocketAddr)> {
        backends.pick(&mut Round::default(), NOW)
    }

    #[test]
    fn the_address_with_the_fewest_connections_comes_first() {
        let mut backends = Backends::default();
        assert!(backends.set(&[spec(1), spec(2)]));
        let (first, one) = pick(&mut backends).unwrap();
        let (_, two) = pick(&mut backends).unwrap();
        assert_ne!(one, two);
        backends.release(first);
        assert_eq!(pick(&mut backends).unwrap().1, one);
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let mut backends = Backends::default();
        backends.set(&[spec(1), spec(2)]);
        let mut round = Round::default();
        for _ in 0..2 {
            let (id, _) = backends.pick(&mut round, NOW).unwrap();
            backends.failed(id, Failure::Silent, &mut round, NOW);
        }
        assert!(backends.pick(&mut round, NOW).is_none());
    }

    #[test]
    fn an_address_that_leaves_is_counted_on_but_not_dialled() {
        let mut backends = Backends::default();
        backends.set(&[spec(1)]);
        let (id, _) = pick(&mut backends).unwrap();
        assert!(!backends.set(&[]));
        assert!(backends.is_empty() && pick(&mut backends).is_none());
        assert_eq!(backends.address(id), Some(address(1)));
        backends.release(id);
        assert_eq!(backends.address(id), None);
    }

    #[test]
    fn a_list_without_news_says_so() {
        let mut backends = Backends::default();
        assert!(backends.set(&[spec(1)]));
        assert!(!backends.set(&[spec(1)]));
        assert!(backends.set(&[spec(1), spec(2)]));
    }

    #[test]
    fn the_fallback_comes_last_and_only_if_nobody_has_answered() {
        for (label, failure, expected) in [
            ("no answer", Failure::Silent, Some(address(9))),
            ("a refusal", Failure::Answered, None),
        ] {
            let mut backends = Backends::default();
            backends.set(&[spec(1)]);
            backends.set_fallback(Some(address(9)));
            let mut round = Round::default();
            let (id, first) = backends.pick(&mut round, NOW).unwrap();
            assert_eq!(first, address(1), "{label}");
            backends.failed(id, failure, &mut round, NOW);
            let second = backends.pick(&mut round, NOW);
            assert_eq!(second.map(|(_, address)| address), expected, "{label}");
            if let Some((id, _)) = second {
                backends.failed(id, failure, &mut round, NOW);
            }
            assert!(backends.pick(&mut round, NOW).is_none(), "{label}");
        }
    }

    #[test]
    fn the_fallback_is_counted_like_the_others() {
        let mut backends = Backends::default();
        let id = backends.take(address(9));
        assert_eq!(backends.take(address(9)), id);
        assert!(backends.is_empty());
        backends.release(id);
        backends.release(id);
        assert_eq!(backends.address(id), None);
    }
}
