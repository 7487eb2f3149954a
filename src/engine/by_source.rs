//! [`BySource`] is the clients of a listener by their sources, those of each in the order in
//! which they came.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::rules::per_source::source;

/// The clients: see the [module](self).
#[derive(Debug, Default)]
pub struct BySource {
    /// The serial numbers of the clients of each source, with their slots.
    sources: BTreeMap<IpAddr, BTreeMap<u64, usize>>,
    len: usize,
}

impl BySource {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a client.
    pub fn insert(&mut self, address: IpAddr, serial: u64, slot: usize) {
        let clients = self.sources.entry(source(address)).or_default();
        self.len += usize::from(clients.insert(serial, slot).is_none());
    }

    /// Removes a client.
    pub fn remove(&mut self, address: IpAddr, serial: u64) {
        let source = source(address);
        let Some(clients) = self.sources.get_mut(&source) else {
            return;
        };
        self.len -= usize::from(clients.remove(&serial).is_some());
        if clients.is_empty() {
            self.sources.remove(&source);
        }
    }

    /// The slots of all clients.
    pub fn slots(&self) -> impl Iterator<Item = usize> {
        self.sources.values().flat_map(BTreeMap::values).copied()
    }

    /// The slot of the oldest client of the source that has the most; of the source whose
    /// client is the oldest, if several have as many.
    pub fn oldest_of_most(&self) -> Option<usize> {
        let sources = self.sources.values();
        let most = sources.min_by_key(|clients| (Reverse(clients.len()), clients.keys().next()))?;
        most.values().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_with_the_most_makes_room_and_among_equals_the_oldest_client() {
        let mut clients = BySource::default();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().unwrap());
        let network = ["2001:db8::1", "2001:db8::2"].map(|it| it.parse().unwrap());
        assert_eq!(clients.oldest_of_most(), None);
        clients.insert(other, 1, 10);
        clients.insert(one, 2, 20);
        assert_eq!(clients.oldest_of_most(), Some(10), "the oldest");
        clients.insert(network[0], 3, 30);
        clients.insert(network[1], 4, 40);
        assert_eq!(clients.oldest_of_most(), Some(30), "the network has two");
        clients.remove(network[0], 3);
        clients.remove(other, 1);
        assert_eq!(clients.oldest_of_most(), Some(20));
        assert_eq!(clients.slots().collect::<Vec<_>>(), [20, 40]);
        clients.remove(one, 2);
        clients.remove(one, 2);
        assert_eq!(clients.len(), 1);
    }
}
