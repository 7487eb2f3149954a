//! [`Diagnosis`]: decides when the pods of an app that is waking are read, to find out why it takes
//! long.

use std::time::Duration;

use crate::clock::Time;

/// How long a wake takes where none is known.
const USUAL: Duration = Duration::from_secs(10);

/// The shortest and the longest time after which a wake counts as longer than usual.
const MIN_SLOW_AFTER: Duration = Duration::from_secs(2);
const MAX_SLOW_AFTER: Duration = Duration::from_secs(30);

/// The longest such time where waiters are let go at once on a reason that waiting does not end.
const MAX_SLOW_AFTER_FAIL_FAST: Duration = Duration::from_secs(3);

/// The first interval between two reads, and the one at which doubling stops.
const INTERVALS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(300)];

/// The same where waiters are let go at once.
const INTERVALS_FAIL_FAST: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// The shortest interval, however often the app changes.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// When the pods of an app are read next. The intervals double while nothing changes.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    next: Option<Time>,
    /// When they were read last.
    last: Option<Time>,
    interval: Duration,
    /// Whether somebody waits, or has come since the last read.
    is_wanted: bool,
}

impl Diagnosis {
    /// Sets whether pods start since `since`, and whether somebody waits for them. `slow_after` is
    /// the duration after which that takes longer than usual.
    pub fn update(
        &mut self,
        since: Option<Time>,
        slow_after: impl FnOnce() -> Duration,
        fail_fast: bool,
        is_wanted: bool,
    ) {
        self.is_wanted = is_wanted;
        let Some(since) = since else {
            *self = Diagnosis::default();
            return;
        };
        if self.next.is_none() {
            self.next = Some(since + slow_after());
            self.interval = intervals(fail_fast)[0];
        }
    }

    /// When [`Diagnosis::is_due`] is to be called even without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next.filter(|_| self.is_wanted)
    }

    /// Whether the pods are to be read now. If so, it counts as done.
    pub fn is_due(&mut self, fail_fast: bool, now: Time) -> bool {
        let is_due = self.poll_timeout().is_some_and(|next| next <= now);
        if is_due {
            (self.last, self.next) = (Some(now), Some(now + self.interval));
            self.interval = (self.interval * 2).min(intervals(fail_fast)[1]);
        }
        is_due
    }

    /// When the pods were read last; `None`: not in this wake.
    pub fn last(&self) -> Option<Time> {
        self.last
    }

    /// Has the pods read soon, unless they were read since then.
    pub fn hasten(&mut self, since: Time) {
        if let Some(last) = self.last.filter(|&last| last < since) {
            let soon = since.max(last + MIN_INTERVAL);
            self.next = self.next.map(|next| next.min(soon));
        }
    }

    /// Begins with the first interval again: the reason has changed.
    pub fn restart_intervals(&mut self, fail_fast: bool, now: Time) {
        self.interval = intervals(fail_fast)[0];
        self.next = self.next.map(|next| next.min(now + self.interval));
    }
}

fn intervals(fail_fast: bool) -> [Duration; 2] {
    if fail_fast {
        INTERVALS_FAIL_FAST
    } else {
        INTERVALS
    }
}

/// The time after which a wake has taken longer than usual: half as long again as the median.
pub fn slow_after(took: impl Iterator<Item = Duration>, fail_fast: bool) -> Duration {
    let mut took: Vec<Duration> = took.collect();
    took.sort_unstable();
    let median = took.get(took.len() / 2);
    let usual = median.map_or(USUAL, |&median| median + median / 2);
    let longest = if fail_fast {
        MAX_SLOW_AFTER_FAIL_FAST
    } else {
        MAX_SLOW_AFTER
    };
    usual.clamp(MIN_SLOW_AFTER, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    #[test]
    fn the_pods_are_read_when_a_wake_takes_longer_than_usual_and_in_growing_intervals_then() {
        for (took, fail_fast, expected) in [
            (&[][..], false, [10, 20, 40, 80]),
            (&[], true, [3, 8, 18, 38]),
            (&[1], false, [2, 12, 32, 72]),
            (&[1], true, [2, 7, 17, 37]),
            (&[4, 100, 2, 6], false, [9, 19, 39, 79]),
            (&[600], false, [30, 40, 60, 100]),
        ] {
            let mut diagnosis = Diagnosis::default();
            let mut read = Vec::new();
            for second in 100..10_000 {
                let took = took.iter().map(|&seconds| Duration::from_secs(seconds));
                diagnosis.update(
                    Some(at(100)),
                    || slow_after(took, fail_fast),
                    fail_fast,
                    true,
                );
                if diagnosis.is_due(fail_fast, at(second)) {
                    read.push(second - 100);
                }
            }
            assert_eq!(read[..4], expected, "{took:?} {fail_fast}");
            let last = read[read.len() - 1] - read[read.len() - 2];
            assert_eq!(last, intervals(fail_fast)[1].as_secs());
        }
    }

    #[test]
    fn nothing_is_read_without_anybody_who_waits_and_once_the_wake_has_ended() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.update(Some(at(100)), || USUAL, false, false);
        assert_eq!(diagnosis.poll_timeout(), None);
        assert!(!diagnosis.is_due(false, at(500)));
        diagnosis.update(Some(at(100)), || USUAL, false, true);
        assert!(diagnosis.is_due(false, at(500)), "the first who comes");
        diagnosis.update(None, || USUAL, false, true);
        assert_eq!(diagnosis.poll_timeout(), None);
        assert!(!diagnosis.is_due(false, at(900)));
    }

    #[test]
    fn a_read_is_hastened_once_and_not_within_a_second_of_the_last() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.update(Some(at(100)), || MAX_SLOW_AFTER_FAIL_FAST, true, true);
        diagnosis.hasten(at(101));
        assert_eq!(diagnosis.poll_timeout(), Some(at(103)), "not the first");
        assert!(diagnosis.is_due(true, at(103)));
        diagnosis.hasten(at(103));
        assert_eq!(diagnosis.poll_timeout(), Some(at(108)), "read since then");
        let soon = Time::from_millis(103_200);
        diagnosis.hasten(soon);
        assert_eq!(diagnosis.poll_timeout(), Some(at(104)));
        assert!(diagnosis.is_due(true, at(104)));
        diagnosis.hasten(soon);
        assert_eq!(diagnosis.poll_timeout(), Some(at(114)));
    }

    #[test]
    fn another_reason_begins_with_the_first_interval_again() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.update(Some(at(100)), || USUAL, false, true);
        for second in [110, 120, 140] {
            assert!(diagnosis.is_due(false, at(second)));
        }
        diagnosis.restart_intervals(false, at(141));
        assert_eq!(diagnosis.poll_timeout(), Some(at(151)));
    }
}
