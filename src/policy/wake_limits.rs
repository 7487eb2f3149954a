//! [`WakeLimits`]: the limit of wakes in a minute, and the least time awake after a wake.
//!
//! The limit of wakes is against clients that connect again and again and can be excluded neither
//! by their addresses nor by their first bytes. The least time awake is for apps whose start costs
//! more than a while awake.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::clock::Time;

const MINUTE: Duration = Duration::from_secs(60);

/// The wakes of the last minute, and until when the app stays awake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WakeLimits {
    /// How long the app stays awake after a wake, at least.
    min_awake: Duration,
    /// How many times this proxy wakes it in a minute, at most.
    wakes_per_minute: Option<NonZeroU32>,
    awake_until: Option<Time>,
    /// The times of the last wakes, as many as the limit allows.
    wakes: VecDeque<Time>,
    /// Whether the delay of the next wake was logged.
    is_delay_reported: bool,
}

impl WakeLimits {
    /// No wake yet.
    pub fn new(min_awake: Duration, wakes_per_minute: Option<NonZeroU32>) -> Self {
        WakeLimits {
            min_awake,
            wakes_per_minute,
            ..WakeLimits::default()
        }
    }

    /// Records that the app, which was asleep, is awake.
    pub fn record_awake(&mut self, now: Time) {
        if !self.min_awake.is_zero() {
            self.awake_until = Some(now + self.min_awake);
        }
    }

    /// The earliest time at which the app may be put to sleep.
    pub fn sleeps_at(&self) -> Time {
        self.awake_until.unwrap_or_default()
    }

    /// Records that this proxy wakes the app.
    pub fn record_wake(&mut self, now: Time) {
        self.is_delay_reported = false;
        let Some(limit) = self.wakes_per_minute else {
            return;
        };
        self.wakes.push_back(now);
        while self.wakes.len() > limit.get() as usize {
            self.wakes.pop_front();
        }
    }

    /// The earliest time at which the app may be woken.
    pub fn wakes_at(&self) -> Time {
        let is_full = |limit: NonZeroU32| self.wakes.len() >= limit.get() as usize;
        let first = self
            .wakes
            .front()
            .filter(|_| self.wakes_per_minute.is_some_and(is_full));
        first.map_or(Time::default(), |&first| first + MINUTE)
    }

    /// The delay of a wake; `None` if there is none or it was logged before.
    pub fn report_delay(&mut self, now: Time) -> Option<Duration> {
        let wait = self.wakes_at().since(now);
        let is_new = !wait.is_zero() && !self.is_delay_reported;
        self.is_delay_reported |= is_new;
        is_new.then_some(wait)
    }

    /// Everything that depends on the time, for the model checker.
    #[cfg(test)]
    pub fn times(&mut self) -> impl Iterator<Item = &mut Time> {
        self.awake_until.iter_mut().chain(&mut self.wakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Time = Time::from_millis;

    #[test]
    fn the_third_wake_within_a_minute_of_the_first_waits_for_that_minute_to_end() {
        let mut limits = WakeLimits::new(Duration::ZERO, NonZeroU32::new(2));
        assert_eq!(limits.wakes_at(), MS(0));
        limits.record_wake(MS(1_000));
        assert_eq!(limits.wakes_at(), MS(0), "there is one left");
        limits.record_wake(MS(5_000));
        assert_eq!(limits.wakes_at(), MS(61_000));
        limits.record_wake(MS(61_000));
        assert_eq!(limits.wakes_at(), MS(65_000), "a minute after the second");
        limits.record_wake(MS(300_000));
        assert_eq!(limits.wakes_at(), MS(121_000), "long over");
    }

    #[test]
    fn a_delay_is_said_once_for_each_wake_that_waits() {
        let mut limits = WakeLimits::new(Duration::ZERO, NonZeroU32::new(1));
        assert_eq!(limits.report_delay(MS(0)), None);
        limits.record_wake(MS(0));
        assert_eq!(
            limits.report_delay(MS(20_000)),
            Some(Duration::from_secs(40))
        );
        assert_eq!(limits.report_delay(MS(30_000)), None);
        assert_eq!(limits.report_delay(MS(60_000)), None, "it need not wait");
        limits.record_wake(MS(60_000));
        assert_eq!(
            limits.report_delay(MS(61_000)),
            Some(Duration::from_secs(59))
        );
    }

    #[test]
    fn without_limits_nothing_waits_and_nothing_is_kept() {
        let mut limits = WakeLimits::new(Duration::ZERO, None);
        for ms in 0..100 {
            limits.record_wake(MS(ms));
            limits.record_awake(MS(ms));
            assert_eq!((limits.wakes_at(), limits.sleeps_at()), (MS(0), MS(0)));
        }
        assert_eq!(limits, WakeLimits::default());
    }
}
