//! [`Order`]: the order of the backends by their ranks, in which the next one is found in
//! logarithmic time.

use std::collections::BTreeSet;

use super::backend::Rank;
use crate::clock::Time;

/// The keys of the backends, sorted by their ranks.
#[derive(Debug, Default)]
pub struct Order {
    /// Those that are near, by load, and among equals by turn: load, turn, key.
    near: BTreeSet<(u32, u64, u32)>,
    /// The others, likewise.
    far: BTreeSet<(u32, u64, u32)>,
    /// Those in their slow start.
    ramping: BTreeSet<u32>,
    /// By the time at which an address may be picked again.
    avoided: BTreeSet<(Time, u32)>,
}

impl Order {
    /// Moves a backend from its old rank to the new one.
    pub fn replace(&mut self, key: u32, old: Rank, new: Rank) {
        if old == new {
            return;
        }
        match old {
            Rank::Unlisted => true,
            Rank::Ready {
                is_near,
                load,
                last_pick,
            } => self.tier(is_near).remove(&(load, last_pick, key)),
            Rank::InSlowStart => self.ramping.remove(&key),
            Rank::Avoided { until } => self.avoided.remove(&(until, key)),
        };
        match new {
            Rank::Unlisted => true,
            Rank::Ready {
                is_near,
                load,
                last_pick,
            } => self.tier(is_near).insert((load, last_pick, key)),
            Rank::InSlowStart => self.ramping.insert(key),
            Rank::Avoided { until } => self.avoided.insert((until, key)),
        };
    }

    fn tier(&mut self, is_near: bool) -> &mut BTreeSet<(u32, u64, u32)> {
        match is_near {
            true => &mut self.near,
            false => &mut self.far,
        }
    }

    /// Backends that take connections, of those that are near or of the others: load, turn, key.
    pub fn ready(&self, is_near: bool) -> impl Iterator<Item = (u32, u64, u32)> {
        let tier = if is_near { &self.near } else { &self.far };
        tier.iter().copied()
    }

    /// Backends in their slow start.
    pub fn ramping(&self) -> &BTreeSet<u32> {
        &self.ramping
    }

    /// Backends whose addresses are all ejected or on trial, by the time at which the first of
    /// these may be picked again.
    pub fn avoided(&self) -> impl Iterator<Item = u32> {
        self.avoided.iter().map(|&(_, key)| key)
    }

    /// A backend whose ejection is over.
    pub fn readmitted(&self, now: Time) -> Option<u32> {
        let first = self.avoided.first().filter(|(until, _)| *until <= now);
        first.map(|&(_, key)| key)
    }

    /// The load of the least loaded backend that is ready, of those that are near or of the
    /// others.
    pub fn lowest_load(&self, is_near: bool) -> Option<u32> {
        self.ready(is_near).next().map(|(load, ..)| load)
    }

    /// The same without these backends.
    pub fn lowest_load_without(&self, keys: &BTreeSet<u32>, is_near: bool) -> Option<u32> {
        let mut others = self.ready(is_near).filter(|(.., key)| !keys.contains(key));
        others.next().map(|(load, ..)| load)
    }

    /// Whether any backend but this one takes connections.
    pub fn has_others(&self, key: u32) -> bool {
        let mut ready = self.near.iter().chain(&self.far).map(|&(.., key)| key);
        ready.any(|other| other != key) || self.ramping.iter().any(|&other| other != key)
    }
}
