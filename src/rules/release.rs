//! [`ReleaseRate`] is the pace at which the connections that waited for a wake are let
//! through, and [`Release`] is one such release.
//!
//! An app that has just started is at its slowest: caches are empty, a pool to its own
//! database is not filled, code is not compiled yet. Without a pace, all that waited
//! reach it in the same millisecond.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Time;

/// How long a batch has before the next one, which is twice as large.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// The pace of a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReleaseRate {
    /// All at once.
    #[default]
    Off,
    /// One first, then 2, then 4, then 8, a batch each 100 ms: 500 within 800 ms.
    Doubling,
    /// So many in a second, evenly, the first at once.
    PerSecond(NonZeroU32),
}

impl ReleaseRate {
    /// How long after the start of a release the connection goes that follows
    /// `released` others.
    fn due_after(self, released: u64) -> Duration {
        match self {
            ReleaseRate::Off => Duration::ZERO,
            // The n-th is of the batch whose size is the largest power of two up to n.
            ReleaseRate::Doubling => {
                let batch = released.saturating_add(1).ilog2();
                BATCH_INTERVAL * batch
            }
            ReleaseRate::PerSecond(rate) => {
                let nanos = u128::from(released) * 1_000_000_000 / u128::from(rate.get());
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
}

impl FromStr for ReleaseRate {
    type Err = String;

    /// Reads `off`, `doubling`, or a number of connections per second.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(ReleaseRate::Off),
            "doubling" => Ok(ReleaseRate::Doubling),
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => number
                .parse()
                .map(ReleaseRate::PerSecond)
                .map_err(|_| format!("is not a whole number from 1 to {}", u32::MAX)),
            _ => Err("is neither off, doubling nor a number per second".to_owned()),
        }
    }
}

impl fmt::Display for ReleaseRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseRate::Off => f.write_str("off"),
            ReleaseRate::Doubling => f.write_str("doubling"),
            ReleaseRate::PerSecond(rate) => rate.fmt(f),
        }
    }
}

/// The release that goes on, if one does: from a wake until nobody is left who waited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release {
    rate: ReleaseRate,
    /// When it began; `None` if none goes on.
    since: Option<Time>,
    released: u64,
}

impl Release {
    /// None goes on yet.
    pub fn new(rate: ReleaseRate) -> Self {
        Release {
            rate,
            since: None,
            released: 0,
        }
    }

    /// The app has become ready.
    pub fn begin(&mut self, now: Time) {
        self.since = (self.rate != ReleaseRate::Off).then_some(now);
        self.released = 0;
    }

    /// Nobody waits any more.
    pub fn end(&mut self) {
        self.since = None;
    }

    /// One that waited was let through.
    pub fn note(&mut self) {
        self.released += 1;
    }

    /// When the next one may be let through; `None` if it need not wait.
    pub fn next(&self) -> Option<Time> {
        Some(self.since? + self.rate.due_after(self.released))
    }

    /// Whether the next one may be let through now.
    pub fn may_go_on(&self, now: Time) -> bool {
        self.next().is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Time = Time::from_millis;

    /// How many of `waiting` are let through at each of the times.
    fn released(rate: &str, waiting: usize, times: &[u64]) -> Vec<usize> {
        let mut release = Release::new(rate.parse().unwrap());
        release.begin(MS(1000));
        let mut left = waiting;
        let at = |ms: &u64| {
            let before = left;
            while left > 0 && release.may_go_on(MS(1000 + ms)) {
                release.note();
                left -= 1;
            }
            before - left
        };
        times.iter().map(at).collect()
    }

    #[test]
    fn the_pace_of_those_who_waited() {
        for (label, rate, waiting, times, expected) in [
            ("all at once", "off", 500, &[0][..], &[500][..]),
            ("one first", "doubling", 500, &[0, 0, 99], &[1, 0, 0]),
            (
                "then twice as many in each step",
                "doubling",
                500,
                &[0, 100, 200, 300, 400, 500, 600, 700, 800],
                &[1, 2, 4, 8, 16, 32, 64, 128, 245],
            ),
            (
                "a step that comes late makes up for those before it",
                "doubling",
                500,
                &[0, 250],
                &[1, 6],
            ),
            (
                "four per second",
                "4",
                9,
                &[0, 249, 250, 1000],
                &[1, 0, 1, 3],
            ),
            (
                "more per second than there are turns",
                "1000",
                500,
                &[0, 10, 100],
                &[1, 10, 90],
            ),
        ] {
            assert_eq!(released(rate, waiting, times), expected, "{label}");
        }
    }

    #[test]
    fn the_time_of_the_next_one_is_the_time_at_which_it_may_go() {
        for rate in ["doubling", "3", "1000000"] {
            let mut release = Release::new(rate.parse().unwrap());
            release.begin(MS(7));
            for _ in 0..100 {
                let next = release.next().unwrap();
                assert!(release.may_go_on(next), "{rate}");
                let before = next - Duration::from_nanos(1);
                assert!(before < MS(7) || !release.may_go_on(before), "{rate}");
                release.note();
            }
        }
    }

    #[test]
    fn who_comes_after_those_who_waited_need_not_wait() {
        let mut release = Release::new(ReleaseRate::Doubling);
        assert_eq!(release.next(), None, "before any wake");
        release.begin(MS(0));
        release.note();
        assert!(!release.may_go_on(MS(0)));
        release.end();
        assert!(release.may_go_on(MS(0)));
        release.begin(MS(0));
        assert!(release.may_go_on(MS(0)), "the next wake begins with one");
    }

    #[test]
    fn a_rate_is_read_as_it_is_shown() {
        for text in ["off", "doubling", "1", "50", "4294967295"] {
            let rate: ReleaseRate = text.parse().unwrap();
            assert_eq!(rate.to_string(), text);
        }
        for (text, expected) in [
            ("0", "is not a whole number from 1"),
            ("4294967296", "is not a whole number from 1"),
            ("", "is not a whole number from 1"),
            ("-1", "is neither off, doubling"),
            ("50/s", "is neither off, doubling"),
            ("Doubling", "is neither off, doubling"),
        ] {
            let error = text.parse::<ReleaseRate>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
