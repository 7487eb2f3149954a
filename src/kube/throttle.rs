//! A [`Throttle`] limits how often an action is done that is requested all the time.

use std::time::Duration;

use crate::clock::Time;

/// The least gap between two actions.
const MIN_GAP: Duration = Duration::from_secs(1);
/// The gap at which doubling stops.
const MAX_GAP: Duration = Duration::from_secs(16);

/// Allows an action once a second at most, and less often while the requests continue: the
/// gap doubles to 16 s, and falls back to 1 s after four gaps without an action.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    last: Option<(Time, Duration)>,
}

impl Throttle {
    /// Whether the action is allowed now. If so, it counts as done.
    pub(super) fn allow(&mut self, now: Time) -> bool {
        let gap = match self.last {
            None => MIN_GAP,
            Some((at, gap)) if now.since(at) < gap => return false,
            Some((at, gap)) if now.since(at) < gap * 4 => (gap * 2).min(MAX_GAP),
            Some(_) => MIN_GAP,
        };
        self.last = Some((now, gap));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_throttled_thing_never_happens_twice_in_a_second(asks in prop::collection::vec(0u64..3000, 1..60)) {
            let (mut throttle, mut now, mut last) = (Throttle::default(), 0, None);
            for ask in asks {
                now += ask;
                if throttle.allow(Time::from_millis(now)) {
                    prop_assert!(last.is_none_or(|last| now - last >= 1000));
                    last = Some(now);
                }
            }
        }
    }

    #[test]
    fn a_thing_that_is_asked_for_without_end_happens_four_times_a_minute_at_last() {
        let mut throttle = Throttle::default();
        let turns: Vec<u64> = (0..300)
            .filter(|second| throttle.allow(Time::from_millis(second * 1000)))
            .collect();
        assert_eq!(turns[..6], [0, 1, 3, 7, 15, 31]);
        assert!(turns.iter().filter(|turn| **turn >= 240).count() <= 4);
        assert!(throttle.allow(Time::from_millis(3_600_000)));
        assert!(
            throttle.allow(Time::from_millis(3_601_000)),
            "the gap is a second again"
        );
    }
}
