//! A [`Release`] limits how fast the connections that were held during a wake are dialled once
//! the app is ready. [`ReleaseRate`] is the setting. (HAProxy's `slowstart` and nginx's
//! `slow_start` serve the same purpose.)
//!
//! An app that has just started is at its slowest: its caches are empty, its pool of database
//! connections too, and its code is not compiled yet. Without a limit, all held connections
//! reach it in the same millisecond.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Time;

/// The interval between two batches. Each is twice as large as the one before.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How fast held connections are dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReleaseRate {
    /// All at once: there is no limit.
    #[default]
    Off,
    /// 1, then 2, then 4, then 8 and so on, a batch every 100 ms: 500 within 800 ms.
    Doubling,
    /// That many per second, evenly spaced, the first one at once.
    PerSecond(NonZeroU32),
}

impl ReleaseRate {
    /// The delay, from the start of the release, of the connection after the first
    /// `released` ones.
    fn delay_of(self, released: u64) -> Duration {
        match self {
            ReleaseRate::Off => Duration::ZERO,
            // Connection n is in the batch whose size is the largest power of two up to n.
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

    /// Parses `off`, `doubling`, or a number of connections per second. The error is a clause
    /// without its subject, the setting.
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

/// The release in progress, if there is one: from the moment at which the app is ready until
/// no held connection is left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release {
    rate: ReleaseRate,
    /// When the release began; `None` if none is in progress.
    started: Option<Time>,
    /// The connections that it has released.
    released: u64,
}

impl Release {
    /// No release is in progress.
    pub fn new(rate: ReleaseRate) -> Self {
        Release {
            rate,
            started: None,
            released: 0,
        }
    }

    /// How fast connections are released.
    pub fn rate(&self) -> ReleaseRate {
        self.rate
    }

    /// Begins a release. To be called when the app is ready.
    pub fn begin(&mut self, now: Time) {
        self.started = (self.rate != ReleaseRate::Off).then_some(now);
        self.released = 0;
    }

    /// Whether it has begun and not ended.
    pub fn is_in_progress(&self) -> bool {
        self.started.is_some()
    }

    /// Ends the release. To be called when no connection is held.
    pub fn end(&mut self) {
        self.started = None;
    }

    /// Counts a held connection that is dialled.
    pub fn record_released(&mut self) {
        self.released += 1;
    }

    /// When the next held connection may be dialled; `None` if it need not wait.
    pub fn next_at(&self) -> Option<Time> {
        Some(self.started? + self.rate.delay_of(self.released))
    }

    /// Whether the next held connection may be dialled now.
    pub fn is_due(&self, now: Time) -> bool {
        self.next_at().is_none_or(|at| at <= now)
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
            while left > 0 && release.is_due(MS(1000 + ms)) {
                release.record_released();
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
                "more per second than there are turns of the loop",
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
    fn the_next_connection_is_due_at_the_time_that_is_given_and_not_before() {
        for rate in ["doubling", "3", "1000000"] {
            let mut release = Release::new(rate.parse().unwrap());
            release.begin(MS(7));
            for _ in 0..100 {
                let next = release.next_at().unwrap();
                assert!(release.is_due(next), "{rate}");
                let before = next - Duration::from_nanos(1);
                assert!(before < MS(7) || !release.is_due(before), "{rate}");
                release.record_released();
            }
        }
    }

    #[test]
    fn connections_after_the_release_are_not_delayed() {
        let mut release = Release::new(ReleaseRate::Doubling);
        assert_eq!(release.next_at(), None, "before any wake");
        release.begin(MS(0));
        release.record_released();
        assert!(!release.is_due(MS(0)));
        release.end();
        assert!(release.is_due(MS(0)));
        release.begin(MS(0));
        assert!(release.is_due(MS(0)), "the next wake begins with one");
    }

    #[test]
    fn a_rate_is_parsed_from_the_text_that_shows_it() {
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
