//! [`WakeLimits`]: the limit of wakes in a minute, the minimum times awake after a wake and
//! asleep after a sleep, the pause before a wake after wakes that something else has undone, and
//! the pause before a sleep after refusals.
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

/// The first pause before a wake after [`UNDONE_WAKES_DELAYED_FROM`] that were undone.
const FIRST_UNDONE_PAUSE: Duration = Duration::from_secs(1);

/// From this number of undone wakes in a row on, a warning is logged once and the next wakes are
/// delayed. A wake is *undone* if something else scales the app to zero although its idle TTL
/// has not passed since.
pub const UNDONE_WAKES_DELAYED_FROM: u32 = 2;

/// The number of TTLs after which a proxy that is refused tries again to write zero. Each attempt
/// renews its lease, from which the other proxies count a whole TTL: in the second one they can put
/// the app to sleep.
pub const TTLS_BETWEEN_REFUSED_SLEEPS: u32 = 2;

/// How long after an undone wake another one belongs to the same row.
const UNDONE_ROW_FOR: Duration = Duration::from_secs(600);

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
    /// The longest pause after an undone wake; zero: there is none.
    longest_undone_pause: Duration,
    /// A scale to zero within this time of a wake, which this proxy has not written, undoes the
    /// wake.
    undone_within: Duration,
    /// The last wake, while it may still be undone.
    woken_at: Option<Time>,
    /// The number of undone wakes in a row.
    undone: u32,
    /// When the last of them was undone.
    undone_at: Option<Time>,
    /// Whether they were reported.
    undone_reported: bool,
    /// Until when the next wake is delayed because of undone ones.
    delayed_until: Option<Time>,
    /// How long the app stays awake after two writes of zero in a row that were refused; zero: no
    /// longer than after any failure.
    refused_sleep_pause: Duration,
    /// Whether the last write of zero was refused.
    was_sleep_refused: bool,
    sleep_refused_until: Option<Time>,
}

impl WakeLimits {
    /// No wake yet.
    pub fn new(config: &Config) -> Self {
        WakeLimits {
            min_awake: config.min_awake,
            min_asleep: config.min_asleep,
            wakes_per_minute: config.wakes_per_minute,
            longest_undone_pause: config.longest_undone_wake_pause,
            undone_within: config.idle_ttl.min(MINUTE),
            refused_sleep_pause: match config.delays_refused_sleeps {
                true => config.idle_ttl * TTLS_BETWEEN_REFUSED_SLEEPS,
                false => Duration::ZERO,
            },
            ..WakeLimits::default()
        }
    }

    /// The app, which was asleep, is awake: the minimum time awake begins.
    pub fn begin_min_awake(&mut self, now: Time) {
        if !self.min_awake.is_zero() {
            self.awake_until = Some(now + self.min_awake);
        }
    }

    /// The app is awake because of connections here or an override: if somebody else scales it to
    /// zero within the window that begins now, the wake was undone.
    pub fn begin_undone_window(&mut self, now: Time) {
        if !self.longest_undone_pause.is_zero() {
            self.woken_at = Some(now);
        }
    }

    /// Records that a write of zero was refused, or has failed: from the second in a row on the
    /// next one waits.
    pub fn record_refused_sleep(&mut self, now: Time) {
        if self.refused_sleep_pause.is_zero() {
            return;
        }
        if std::mem::replace(&mut self.was_sleep_refused, true) {
            self.sleep_refused_until = Some(now + self.refused_sleep_pause);
        }
    }

    /// The earliest time at which zero is written again after refusals.
    pub fn sleep_refused_until(&self) -> Time {
        self.sleep_refused_until.unwrap_or_default()
    }

    /// Records that this proxy has put the app to sleep.
    pub fn record_own_sleep(&mut self) {
        (self.was_sleep_refused, self.sleep_refused_until) = (false, None);
        self.woken_at = None;
        self.end_undone_row();
    }

    /// Records that somebody else has scaled the app to zero. Returns how many wakes in a row were
    /// undone, once for each row, if the next ones are delayed because of that.
    ///
    /// A zero after a wake that nobody here has waited for says nothing: what was counted stays,
    /// and the pause with it, because another proxy may have woken the app meanwhile.
    pub fn record_zero_by_others(&mut self, now: Time) -> Option<u32> {
        let woken_at = self.woken_at.take()?;
        let is_old = |at: Time| now.since(at) >= UNDONE_ROW_FOR;
        if now.since(woken_at) >= self.undone_within {
            self.end_undone_row();
            return None;
        }
        if self.undone_at.replace(now).is_some_and(is_old) {
            (self.undone, self.undone_reported) = (0, false);
        }
        self.undone = self.undone.saturating_add(1);
        let doublings = self.undone.checked_sub(UNDONE_WAKES_DELAYED_FROM)?;
        let pause = FIRST_UNDONE_PAUSE.saturating_mul(1 << doublings.min(16));
        self.delayed_until = Some(now + pause.min(self.longest_undone_pause));
        let is_reported = std::mem::replace(&mut self.undone_reported, true);
        (!is_reported).then_some(self.undone)
    }

    fn end_undone_row(&mut self) {
        (self.undone, self.undone_at, self.undone_reported) = (0, None, false);
        self.delayed_until = None;
    }

    /// The earliest time at which the app may be woken after wakes that were undone.
    pub fn delayed_until(&self) -> Time {
        self.delayed_until.unwrap_or_default()
    }

    /// The app, which was awake, is asleep: the minimum time asleep begins.
    pub fn begin_min_asleep(&mut self, now: Time) {
        if !self.min_asleep.is_zero() {
            self.asleep_until = Some(now + self.min_asleep);
        }
    }

    /// The earliest time at which the app may be put to sleep.
    pub fn awake_until(&self) -> Time {
        self.awake_until.unwrap_or_default()
    }

    /// Counts a wake that this proxy begins, for the limit in a minute.
    pub fn count_wake(&mut self, now: Time) {
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
        let until = [
            &mut self.awake_until,
            &mut self.asleep_until,
            &mut self.woken_at,
            &mut self.delayed_until,
            &mut self.undone_at,
            &mut self.sleep_refused_until,
        ];
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
        limits.count_wake(MS(1_000));
        assert_eq!(limits.next_wake(), MS(0), "there is one left");
        limits.count_wake(MS(5_000));
        assert_eq!(limits.next_wake(), MS(61_000));
        limits.count_wake(MS(61_000));
        assert_eq!(limits.next_wake(), MS(65_000), "a minute after the second");
        limits.count_wake(MS(300_000));
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
        limits.begin_min_asleep(MS(1_000));
        limits.begin_min_awake(MS(30_000));
        assert_eq!(limits.asleep_until(), MS(11_000));
        assert_eq!(limits.awake_until(), MS(50_000));
        limits.begin_min_asleep(MS(60_000));
        assert_eq!(limits.asleep_until(), MS(70_000));
    }

    #[test]
    fn from_the_second_undone_wake_in_a_row_on_the_pause_doubles_up_to_a_limit() {
        let mut limits = WakeLimits::new(&Config {
            idle_ttl: Duration::from_secs(20),
            ..Config::default()
        });
        let mut undo = |woken: u64, zero: u64| {
            limits.begin_undone_window(MS(woken));
            let reported = limits.record_zero_by_others(MS(zero));
            let pause = limits.delayed_until().since(MS(zero)).as_secs();
            (limits.undone, pause, reported)
        };
        assert_eq!(undo(1_000, 2_000), (1, 0, None), "once may be an operator");
        assert_eq!(undo(3_000, 4_000), (2, 1, Some(2)));
        for (count, pause) in [(3, 2), (4, 4), (5, 8), (6, 16), (7, 32), (8, 60)] {
            assert_eq!(undo(3_000, 4_000), (count, pause, None), "reported once");
        }
        assert_eq!(
            undo(3_000, 23_000),
            (0, 0, None),
            "another proxy, after its TTL"
        );
        assert_eq!(undo(23_000, 24_000), (1, 0, None), "it begins again");
        assert_eq!(undo(23_000, 24_000), (2, 1, Some(2)));
        assert_eq!(undo(700_000, 701_000), (1, 0, None), "long after that");
        limits.begin_undone_window(MS(702_000));
        limits.record_zero_by_others(MS(703_000));
        let pause = limits.delayed_until();
        assert_eq!(pause, MS(704_000));
        assert_eq!(limits.record_zero_by_others(MS(703_500)), None);
        assert_eq!(
            limits.delayed_until(),
            pause,
            "a wake of another proxy changes nothing"
        );
        limits.record_own_sleep();
        assert_eq!((limits.undone, limits.delayed_until()), (0, MS(0)));
    }

    #[test]
    fn without_limits_nothing_waits_and_nothing_is_kept() {
        let mut limits = WakeLimits::new(&Config {
            longest_undone_wake_pause: Duration::ZERO,
            ..Config::default()
        });
        let before = limits.clone();
        for ms in 0..100 {
            limits.count_wake(MS(ms));
            limits.begin_min_awake(MS(ms));
            limits.begin_undone_window(MS(ms));
            limits.record_zero_by_others(MS(ms));
            limits.begin_min_asleep(MS(ms));
            assert_eq!((limits.next_wake(), limits.awake_until()), (MS(0), MS(0)));
            assert_eq!(limits.asleep_until(), MS(0));
        }
        assert_eq!(limits, before);
    }
}
