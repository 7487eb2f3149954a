//! [`Diagnosis`]: decides when the pods of an app that is waking are read, to find out why it takes
//! long.

use std::time::Duration;

use crate::clock::Time;

/// How long a wake takes where none is known.
const USUAL: Duration = Duration::from_secs(10);

/// The shortest and the longest time after which a wake counts as longer than usual.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);

/// The longest such time where waiters are let go at once on a reason that waiting does not end.
const LONGEST_FAIL_FAST: Duration = Duration::from_secs(3);

/// The interval between two reads,
const INTERVAL: Duration = Duration::from_secs(10);

/// and where waiters are let go at once.
const INTERVAL_FAIL_FAST: Duration = Duration::from_secs(5);

/// When the pods of an app are read next.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    next: Option<Time>,
}

impl Diagnosis {
    /// Sets whether pods start since `since`. `took` are the durations of the last wakes.
    pub fn update(
        &mut self,
        since: Option<Time>,
        took: impl Iterator<Item = Duration>,
        fail_fast: bool,
    ) {
        let Some(since) = since else {
            self.next = None;
            return;
        };
        if self.next.is_none() {
            self.next = Some(since + slow_after(took, fail_fast));
        }
    }

    /// When [`Diagnosis::is_due`] is to be called even without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next
    }

    /// Whether the pods are to be read now. If so, it counts as done.
    pub fn is_due(&mut self, fail_fast: bool, now: Time) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            let interval = if fail_fast {
                INTERVAL_FAIL_FAST
            } else {
                INTERVAL
            };
            self.next = Some(now + interval);
        }
        is_due
    }
}

/// The time after which a wake has taken longer than usual: half as long again as the median.
fn slow_after(took: impl Iterator<Item = Duration>, fail_fast: bool) -> Duration {
    let mut took: Vec<Duration> = took.collect();
    took.sort_unstable();
    let median = took.get(took.len() / 2);
    let usual = median.map_or(USUAL, |&median| median + median / 2);
    let longest = if fail_fast {
        LONGEST_FAIL_FAST
    } else {
        LONGEST
    };
    usual.clamp(SHORTEST, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    #[test]
    fn the_pods_are_read_when_a_wake_takes_longer_than_usual_and_in_intervals_then() {
        for (took, fail_fast, expected) in [
            (&[][..], false, [10, 20, 30]),
            (&[], true, [3, 8, 13]),
            (&[1], false, [2, 12, 22]),
            (&[1], true, [2, 7, 12]),
            (&[4, 100, 2, 6], false, [9, 19, 29]),
            (&[600], false, [30, 40, 50]),
        ] {
            let mut diagnosis = Diagnosis::default();
            let mut read = Vec::new();
            for second in 100..160 {
                let took = took.iter().map(|&seconds| Duration::from_secs(seconds));
                diagnosis.update(Some(at(100)), took, fail_fast);
                if diagnosis.is_due(fail_fast, at(second)) {
                    read.push(second - 100);
                }
            }
            assert_eq!(read[..3], expected, "{took:?} {fail_fast}");
        }
    }

    #[test]
    fn nothing_is_read_once_the_wake_has_ended() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.update(Some(at(100)), [].into_iter(), false);
        diagnosis.update(None, [].into_iter(), false);
        assert_eq!(diagnosis.poll_timeout(), None);
        assert!(!diagnosis.is_due(false, at(500)));
    }
}
