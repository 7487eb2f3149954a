//! The pace of clients that send requests at given times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Clients by the time at which they ask next.
#[derive(Default)]
pub struct Pace(BinaryHeap<Reverse<(Instant, usize)>>);

impl Pace {
    /// The client asks at that time.
    pub fn plan(&mut self, key: usize, due: Instant) {
        self.0.push(Reverse((due, key)));
    }

    /// Who is to ask by now.
    pub fn next(&mut self, now: Instant) -> Option<usize> {
        let Reverse((due, key)) = *self.0.peek()?;
        if due > now {
            return None;
        }
        self.0.pop();
        Some(key)
    }

    /// How long until somebody asks, if anybody is going to.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let Reverse((due, _)) = self.0.peek()?;
        Some(due.saturating_duration_since(now))
    }

    /// Whether nobody is going to ask.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
