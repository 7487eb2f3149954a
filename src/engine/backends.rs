//! The addresses that may be dialled, and which of them comes next.

use std::net::SocketAddr;

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
#[derive(Default)]
pub struct Backends {
    all: Vec<Backend>,
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

    /// Whether any address may be dialled.
    pub fn is_empty(&self) -> bool {
        self.all.iter().all(|b| !b.listed)
    }

    /// Takes the listed address with the fewest connections that is not among
    /// `tried`, and counts a connection on it.
    pub fn take(&mut self, tried: &[BackendId]) -> Option<(BackendId, SocketAddr)> {
        let candidates = self
            .all
            .iter_mut()
            .filter(|b| b.listed && !tried.contains(&b.id));
        let backend = candidates.min_by_key(|b| b.connections)?;
        backend.connections += 1;
        Some((backend.id, backend.address))
    }

    /// Takes `address` whether or not it is listed, and counts a connection.
    pub fn take_unlisted(&mut self, address: SocketAddr) -> BackendId {
        let at = match self.all.iter().position(|b| b.address == address) {
            Some(at) => at,
            None => self.add(address, false),
        };
        self.all[at].connections += 1;
        self.all[at].id
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

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, n], 80))
    }

    fn spec(n: u8) -> BackendSpec {
        BackendSpec {
            id: n.to_string(),
            addresses: vec![address(n)],
        }
    }

    #[test]
    fn the_address_with_the_fewest_connections_comes_first() {
        let mut backends = Backends::default();
        assert!(backends.set(&[spec(1), spec(2)]));
        let (first, one) = backends.take(&[]).unwrap();
        let (_, two) = backends.take(&[]).unwrap();
        assert_ne!(one, two);
        backends.release(first);
        assert_eq!(backends.take(&[]).unwrap().1, one);
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let mut backends = Backends::default();
        backends.set(&[spec(1), spec(2)]);
        let (first, _) = backends.take(&[]).unwrap();
        let (second, _) = backends.take(&[first]).unwrap();
        assert!(backends.take(&[first, second]).is_none());
    }

    #[test]
    fn an_address_that_leaves_is_counted_on_but_not_dialled() {
        let mut backends = Backends::default();
        backends.set(&[spec(1)]);
        let (id, _) = backends.take(&[]).unwrap();
        assert!(!backends.set(&[]));
        assert!(backends.is_empty() && backends.take(&[]).is_none());
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
    fn the_fallback_is_counted_like_the_others() {
        let mut backends = Backends::default();
        let id = backends.take_unlisted(address(9));
        assert_eq!(backends.take_unlisted(address(9)), id);
        assert!(backends.is_empty());
        backends.release(id);
        backends.release(id);
        assert_eq!(backends.address(id), None);
    }
}
