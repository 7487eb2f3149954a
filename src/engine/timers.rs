//! [`Timers`] is the set of the connections' deadlines.
//!
//! A connection has at most one deadline. An idle relayed connection has none, so that
//! the set is as small as the number of connections that wait for something.

use std::collections::BTreeSet;

use crate::clock::Time;

/// A set of deadlines, one per key at most.
#[derive(Default)]
pub struct Timers {
    set: BTreeSet<(Time, usize)>,
}

impl Timers {
    /// Replaces the deadline of `key`; the caller keeps a copy in `deadline`.
    pub fn set(&mut self, key: usize, deadline: &mut Option<Time>, new: Option<Time>) {
        if *deadline == new {
            return;
        }
        if let Some(old) = *deadline {
            self.set.remove(&(old, key));
        }
        if let Some(new) = new {
            self.set.insert((new, key));
        }
        *deadline = new;
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.set.first().map(|&(time, _)| time)
    }

    /// The key of the earliest deadline, if it has passed. The caller sets a new deadline
    /// or clears it.
    pub fn due(&self, now: Time) -> Option<usize> {
        self.set
            .first()
            .filter(|&&(time, _)| time <= now)
            .map(|&(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_at_its_time_and_not_before_it() {
        let mut timers = Timers::default();
        let (mut first, mut second) = (None, None);
        timers.set(1, &mut first, Some(Time::from_millis(20)));
        timers.set(2, &mut second, Some(Time::from_millis(10)));
        assert_eq!(timers.next(), Some(Time::from_millis(10)));
        assert_eq!(timers.due(Time::from_millis(9)), None);
        assert_eq!(timers.due(Time::from_millis(10)), Some(2));
        timers.set(2, &mut second, None);
        assert_eq!(timers.due(Time::from_millis(10)), None);
        timers.set(1, &mut first, Some(Time::from_millis(5)));
        assert_eq!(timers.due(Time::from_millis(5)), Some(1));
        assert_eq!((first, second), (Some(Time::from_millis(5)), None));
    }
}
