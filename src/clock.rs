//! Points in time, as values that are passed in.
//!
//! Nothing but `main` and the daemon reads a clock; everyone else is told what
//! time it is. That is what lets a test, a simulation or a model checker play
//! an hour in a microsecond.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: how long after an arbitrary epoch of this machine.
///
/// The clock behind it counts through suspend and never goes back (see
/// `sys::boot_time`); the wall clock plays no part in any decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

/// Whatever tells the time: `sys::boot_time` in the program, a
/// constant or a counter in a test.
pub type Clock = fn() -> Time;

/// Whatever tells the time of day, in seconds since 1970: `sys::unix_time` in
/// the program. For what people read, and for no decision.
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

    /// How long it is from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a time-out too long to represent is one that never comes.
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
