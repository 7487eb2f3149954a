//! [`Queue`]: the future events, by time.

use std::collections::BTreeMap;

use zpa::clock::Time;

/// Events by the time they happen at; those of one moment happen in the order
/// they were put in, and then those that were put behind them.
pub struct Queue<E> {
    /// By time, rank and number.
    events: BTreeMap<(Time, usize, u64), E>,
    next: u64,
}

impl<E> Queue<E> {
    /// Nothing to happen.
    pub fn new() -> Self {
        Queue {
            events: BTreeMap::new(),
            next: 0,
        }
    }

    /// Has `event` happen at that time.
    pub fn put(&mut self, at: Time, event: E) {
        self.insert(at, 0, event);
    }

    /// Has `event` happen behind the others of that time, before those of a higher rank.
    pub fn put_behind(&mut self, at: Time, rank: usize, event: E) {
        self.insert(at, 1 + rank, event);
    }

    fn insert(&mut self, at: Time, rank: usize, event: E) {
        self.events.insert((at, rank, self.next), event);
        self.next += 1;
    }

    /// What happens next, and when.
    pub fn take(&mut self) -> Option<(Time, E)> {
        let ((at, ..), event) = self.events.pop_first()?;
        Some((at, event))
    }
}
