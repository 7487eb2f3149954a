//! [`Time`]: a point in time, which is passed to every state machine as `now`.
//!
//! Only the daemon and the threads call a [`Clock`], which `main` gives them. A test, a
//! simulation or a model checker passes times of its own, and plays an hour in a
//! microsecond.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: the duration since an arbitrary epoch of this machine.
///
/// It is read from a clock that counts through suspend and never goes back
/// (`sys::boot_time`). No decision depends on the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

/// A function that returns the present time: `sys::boot_time` in the program, a
/// constant or a counter in a test.
pub type Clock = fn() -> Time;

/// A function that returns the time of day in seconds since 1970: `sys::unix_time` in
/// the program. It is used for timestamps, not for decisions.
pub type WallClock = fn() -> u64;

impl Time {
    /// The point `since_epoch` after the epoch.
    pub const fn new(since_epoch: Duration) -> Self {
        Time(since_epoch)
    }

    /// The point `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Time(Duration::from_millis(ms))
    }

    /// How many whole milliseconds after the epoch it is.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long it is from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a timeout too long to represent never expires.
    fn add(self, after: Duration) -> Time {
        Time(self.0.saturating_add(after))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    /// Saturates at the epoch.
    fn sub(self, before: Duration) -> Time {
        Time(self.0.saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_sums_saturate() {
        let (early, late) = (Time::from_millis(10), Time::from_millis(25));
        assert_eq!(late.since(early), Duration::from_millis(15));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early + Duration::MAX, Time::new(Duration::MAX));
        assert_eq!(early - Duration::from_secs(1), Time::default());
    }
}
