//! [`Time`]: a point in time, which is passed to every state machine as `now`.
//!
//! Only the daemon and the threads call a [`Clock`], which `main` gives them. A test, a
//! simulation or a model checker passes times of its own, and plays an hour in a
//! microsecond.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: the duration since an arbitrary epoch of this machine.
///
/// It is read from a clock that counts through suspend and never goes back
/// (`sys::boot_time`). No decision depends on the wall clock.
///
/// Its resolution is a nanosecond, and its range 584 years. It takes eight bytes, also in an
/// `Option`: each connection has several. A `Duration` takes sixteen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(
    /// The nanoseconds since the epoch, and one, so that zero stands for `None`.
    NonZeroU64,
);

/// A function that returns the present time: `sys::boot_time` in the program, a
/// constant or a counter in a test.
pub type Clock = fn() -> Time;

/// A function that returns the time of day in seconds since 1970: `sys::unix_time` in
/// the program. It is used for timestamps, not for decisions.
pub type WallClock = fn() -> u64;

impl Time {
    /// The latest time: a timeout at it never expires.
    const MAX: Time = Time(NonZeroU64::MAX);

    /// The point `since_epoch` after the epoch. Saturates.
    pub const fn new(since_epoch: Duration) -> Self {
        match NonZeroU64::MIN.checked_add(saturating_nanos(since_epoch)) {
            Some(nanos) => Time(nanos),
            None => Time::MAX,
        }
    }

    /// The point `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Time::new(Duration::from_millis(ms))
    }

    /// How many whole milliseconds after the epoch it is.
    pub fn as_millis(self) -> u64 {
        (self.0.get() - 1) / 1_000_000
    }

    /// How long it is from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

/// The nanoseconds of a duration, `u64::MAX` at most.
const fn saturating_nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 {
        return u64::MAX;
    }
    nanos as u64
}

impl Default for Time {
    /// The epoch.
    fn default() -> Self {
        Time(NonZeroU64::MIN)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Time")
            .field(&self.since(Time::default()))
            .finish()
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a timeout too long to represent never expires.
    fn add(self, after: Duration) -> Time {
        Time(self.0.saturating_add(saturating_nanos(after)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    /// Saturates at the epoch.
    fn sub(self, before: Duration) -> Time {
        let nanos = self.0.get().saturating_sub(saturating_nanos(before));
        NonZeroU64::new(nanos).map_or_else(Time::default, Time)
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
        assert_eq!(early - Duration::from_millis(10), Time::default());
    }

    #[test]
    fn a_time_says_how_long_after_the_epoch_it_is() {
        let time = Time::from_millis(10) + Duration::from_nanos(999_999);
        assert_eq!(time.as_millis(), 10);
        assert_eq!(
            time.since(Time::default()),
            Duration::from_nanos(10_999_999)
        );
        assert_eq!(format!("{time:?}"), "Time(10.999999ms)");
    }

    #[test]
    fn no_time_takes_no_more_bytes_than_a_time() {
        assert_eq!(size_of::<Option<Time>>(), 8);
    }
}
