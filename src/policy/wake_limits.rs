//! [`WakeLimits`]: the limit of wakes in a minute, and the least times awake after a wake and
//! asleep after a sleep.
//!
//! The limit of wakes is against clients that connect again and again and can be excluded neither
//! by their addresses nor by their first bytes. The least time awake is for apps whose start costs
//! more than a while awake, the least time asleep for those that need a while to end, such as one
//! whose volume is detached from its node.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use super::config::Config;
use crate::clock::Time;

const MINUTE: Duration = Duration::from_secs(60);

/// The wakes of the last minute, and until when the app stays awake or asleep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WakeLimits {
    /// How long the app stays awake after a wake, at least.
    min_awake: Duration,
    /// How long the app stays asleep after a sleep, at least.
    min_asleep: Duration,
    /// How many times this proxy wakes it in a minute, at most.
    wakes_per_minute: Option<NonZeroU32>,
    awake_until: Option<Time>,
    asleep_until: Option<Time>,
    /// The times of the last wakes, as many as the limit allows.
    wakes: VecDeque<Time>,
}

impl WakeLimits {
    /// No wake yet.
    pub fn new(config: &Config) -> Self {
        WakeLimits {
            min_awake: config.min_awake,
            min_asleep: config.min_asleep,
            wakes_per_minute: config.wakes_per_minute,
            ..WakeLimits::default()
        }
    }

    /// Records that the app, which was asleep, is awake.
    pub fn record_awake(&mut self, now: Time) {
        if !self.min_awake.is_zero() {
            self.awake_until = Some(now + self.min_awake);
        }
    }

    /// Notes that the app, which was awake, is asleep.
    pub fn record_asleep(&mut self, now: Time) {
        if !self.min_asleep.is_zero() {
            self.asleep_until = Some(now + self.min_asleep);
        }
    }

    /// The earliest time at which the app may be put to sleep.
    pub fn awake_until(&self) -> Time {
        self.awake_until.unwrap_or_default()
    }

    /// Records that this proxy wakes the app.
    pub fn record_wake(&mut self, now: Time) {
        let Some(limit) = self.wakes_per_minute else {
            return;
        };
        self.wakes.push_back(now);
        while self.wakes.len() > limit.get() as usize {
            self.wakes.pop_front();
        }
    }

    /// The earliest time at which the app may be woken again after its last sleep.
    pub fn asleep_until(&self) -> Time {
        self.asleep_until.unwrap_or_default()
    }

    /// The earliest time at which the app may be woken by the limit of wakes per minute.
    pub fn next_wake(&self) -> Time {
        let is_full = |limit: NonZeroU32| self.wakes.len() >= limit.get() as usize;
        let first = self
            .wakes
            .front()
            .filter(|_| self.wakes_per_minute.is_some_and(is_full));
        first.map_or(Time::default(), |&first| first + MINUTE)
    }

    /// Everything that depends on the time, for the model checker.
    #[cfg(test)]
    pub fn times(&mut self) -> impl Iterator<Item = &mut Time> {
        let until = [&mut self.awake_until, &mut self.asleep_until];
        until.into_iter().flatten().chain(&mut self.wakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Time = Time::from_millis;

    #[test]
    fn the_third_wake_within_a_minute_of_the_first_waits_for_that_minute_to_end() {
        let mut limits = WakeLimits::new(&Config {
            wakes_per_minute: NonZeroU32::new(2),
            ..Config::default()
        });
        assert_eq!(limits.next_wake(), MS(0));
        limits.record_wake(MS(1_000));
        assert_eq!(limits.next_wake(), MS(0), "there is one left");
        limits.record_wake(MS(5_000));
        assert_eq!(limits.next_wake(), MS(61_000));
        limits.record_wake(MS(61_000));
        assert_eq!(limits.next_wake(), MS(65_000), "a minute after the second");
        limits.record_wake(MS(300_000));
        assert_eq!(limits.next_wake(), MS(121_000), "long over");
    }

    #[test]
    fn each_least_time_is_counted_from_the_last_change() {
        let mut limits = WakeLimits::new(&Config {
            min_awake: Duration::from_secs(20),
            min_asleep: Duration::from_secs(10),
            ..Config::default()
        });
        assert_eq!(
            (limits.asleep_until(), limits.awake_until()),
            (MS(0), MS(0))
        );
        limits.record_asleep(MS(1_000));
        limits.record_awake(MS(30_000));
        assert_eq!(limits.asleep_until(), MS(11_000));
        assert_eq!(limits.awake_until(), MS(50_000));
        limits.record_asleep(MS(60_000));
        assert_eq!(limits.asleep_until(), MS(70_000));
    }

    #[test]
    fn without_limits_nothing_waits_and_nothing_is_kept() {
        let mut limits = WakeLimits::new(&Config::default());
        for ms in 0..100 {
            limits.record_wake(MS(ms));
            limits.record_awake(MS(ms));
            limits.record_asleep(MS(ms));
            assert_eq!((limits.next_wake(), limits.awake_until()), (MS(0), MS(0)));
            assert_eq!(limits.asleep_until(), MS(0));
        }
        assert_eq!(limits, WakeLimits::default());
    }
}
