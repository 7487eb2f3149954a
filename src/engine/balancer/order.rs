//! The [`Order`] of the backends, from which the next one is found in logarithmic time.

use std::collections::BTreeSet;

use super::backend::Place;
use crate::clock::Time;

/// The keys of the backends, sorted by their places.
#[derive(Debug, Default)]
pub struct Order {
    /// By load, and among equals by turn: load, turn, key.
    ready: BTreeSet<(u32, u64, u32)>,
    /// Those in their slow start.
    ramping: BTreeSet<u32>,
    /// By the end of their ejections.
    ejected: BTreeSet<(Time, u32)>,
}

impl Order {
    /// Moves a backend from its old place to the new one.
    pub fn replace(&mut self, key: u32, old: Place, new: Place) {
        if old == new {
            return;
        }
        match old {
            Place::Nowhere => true,
            Place::Ready { load, turn } => self.ready.remove(&(load, turn, key)),
            Place::Ramping => self.ramping.remove(&key),
            Place::Ejected { until } => self.ejected.remove(&(until, key)),
        };
        match new {
            Place::Nowhere => true,
            Place::Ready { load, turn } => self.ready.insert((load, turn, key)),
            Place::Ramping => self.ramping.insert(key),
            Place::Ejected { until } => self.ejected.insert((until, key)),
        };
    }

    /// Backends that take connections: load, turn, key.
    pub fn ready(&self) -> impl Iterator<Item = (u32, u64, u32)> {
        self.ready.iter().copied()
    }

    /// Backends in their slow start.
    pub fn ramping(&self) -> &BTreeSet<u32> {
        &self.ramping
    }

    /// Ejected backends, in the order in which their ejections end.
    pub fn ejected(&self) -> impl Iterator<Item = u32> {
        self.ejected.iter().map(|&(_, key)| key)
    }

    /// A backend whose ejection is over.
    pub fn readmitted(&self, now: Time) -> Option<u32> {
        let first = self.ejected.first().filter(|(until, _)| *until <= now);
        first.map(|&(_, key)| key)
    }

    /// The load of the least loaded backend that is ready.
    pub fn lowest_load(&self) -> Option<u32> {
        self.ready.first().map(|&(load, ..)| load)
    }

    /// The same without these backends.
    pub fn lowest_load_without(&self, keys: &BTreeSet<u32>) -> Option<u32> {
        let mut others = self.ready.iter().filter(|(.., key)| !keys.contains(key));
        others.next().map(|&(load, ..)| load)
    }

    /// Whether any backend but this one takes connections.
    pub fn has_others(&self, key: u32) -> bool {
        let mut ready = self.ready.iter().map(|&(.., key)| key);
        ready.any(|other| other != key) || self.ramping.iter().any(|&other| other != key)
    }
}
