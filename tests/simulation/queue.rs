//! [`Queue`]: the future events, by time.

use std::collections::BTreeMap;

use zpa::clock::Time;

/// Events by the time they happen at; those of one moment happen in the order
/// they were put in.
pub struct Queue<E> {
    events: BTreeMap<(Time, u64), E>,
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
        self.events.insert((at, self.next), event);
        self.next += 1;
    }

    /// What happens next, and when.
    pub fn take(&mut self) -> Option<(Time, E)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }
}
