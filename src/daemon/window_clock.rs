//! [`WindowClock`]: the windows of an app's schedule that are open, for its policy. Nothing else
//! in the daemon depends on the time of day.

use std::time::Duration;

use crate::clock::{Time, WallClock};
use crate::policy::Windows;
use crate::schedule::{Opening, Schedule};

/// The longest interval at which the time of day is read, because it may be set.
const MAX_INTERVAL: Duration = Duration::from_secs(600);

/// The schedules of an app, and their clock.
#[derive(Clone, Debug)]
pub struct Schedules {
    /// When the app is kept awake.
    pub keep_awake: Schedule,
    /// When no connection wakes it.
    pub no_wake: Schedule,
    /// The time of day.
    pub wall_clock: WallClock,
}

impl Schedules {
    /// No windows.
    pub fn none(wall_clock: WallClock) -> Self {
        Schedules {
            keep_awake: Schedule::default(),
            no_wake: Schedule::default(),
            wall_clock,
        }
    }
}

/// The windows of an app: see the [module](self).
pub struct WindowClock {
    schedules: Schedules,
    /// The time until which an annotation keeps the app awake, in seconds since 1970.
    keep_awake_until: Option<u64>,
    /// When a window opens or closes, or the time of day is read again.
    due: Option<Time>,
}

impl WindowClock {
    /// The windows of those schedules, which are looked at for the first time at `now`.
    pub fn new(schedules: Schedules, now: Time) -> Self {
        let has_windows = !schedules.keep_awake.is_empty() || !schedules.no_wake.is_empty();
        WindowClock {
            schedules,
            keep_awake_until: None,
            due: has_windows.then_some(now),
        }
    }

    /// Replaces the schedules.
    pub fn set_schedules(&mut self, schedules: Schedules, now: Time) {
        self.schedules = schedules;
        self.due = Some(now);
    }

    /// When [`WindowClock::update`] is to be called without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.due
    }

    /// The windows that are open, if that may have changed: a deadline has passed, or the
    /// annotation has another time.
    pub fn update(&mut self, keep_awake_until: Option<u64>, now: Time) -> Option<Windows> {
        let is_due = self.due.is_some_and(|due| due <= now);
        if !is_due && self.keep_awake_until == keep_awake_until {
            return None;
        }
        self.keep_awake_until = keep_awake_until;
        let unix = (self.schedules.wall_clock)();
        let at = |then: u64| now + Duration::from_secs(then.saturating_sub(unix));
        let (keep_awake, no_wake) = (&self.schedules.keep_awake, &self.schedules.no_wake);
        let (keep_awake, no_wake) = (keep_awake.at(unix), no_wake.at(unix));
        let until = keep_awake_until.filter(|until| *until > unix);
        let changes = [keep_awake.changes_at(), no_wake.changes_at(), until];
        let change = changes.into_iter().flatten().min();
        self.due = change.map(|change| at(change).min(now + MAX_INTERVAL));
        Some(Windows {
            schedule_end: end(keep_awake).map(at),
            annotation_end: until.map(at),
            no_wake_end: end(no_wake).map(at),
        })
    }
}

/// The end of the window that is open.
fn end(opening: Opening) -> Option<u64> {
    match opening {
        Opening::OpenUntil(end) => Some(end),
        Opening::ClosedUntil(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// 2026-11-30T08:00:00Z, a Monday.
    const MONDAY_8: u64 = 1_796_025_600;
    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn schedules(keep_awake: &str, wall_clock: WallClock) -> Schedules {
        Schedules {
            keep_awake: keep_awake.parse().unwrap(),
            ..Schedules::none(wall_clock)
        }
    }

    #[test]
    fn without_windows_it_never_looks_at_the_time_of_day() {
        let schedules = Schedules::none(|| panic!("it has looked"));
        let mut clock = WindowClock::new(schedules, at(0));
        assert_eq!(clock.poll_timeout(), None);
        assert_eq!(clock.update(None, at(1)), None);
    }

    #[test]
    fn a_window_opens_and_closes_and_the_clock_is_looked_at_in_between() {
        static WALL: AtomicU64 = AtomicU64::new(MONDAY_8);
        let wall = || WALL.load(Ordering::Relaxed);
        let mut clock = WindowClock::new(schedules("09:00-18:00", wall), at(0));
        let closed = Some(Windows::default());
        assert_eq!(clock.update(None, at(0)), closed);
        assert_eq!(clock.poll_timeout(), Some(at(600)), "it may be set");
        assert_eq!(clock.update(None, at(599)), None);
        // Somebody sets it forward by nearly an hour.
        WALL.store(MONDAY_8 + HOUR - 10, Ordering::Relaxed);
        assert_eq!(clock.update(None, at(600)), closed);
        assert_eq!(clock.poll_timeout(), Some(at(610)));
        WALL.store(MONDAY_8 + HOUR, Ordering::Relaxed);
        let open = Windows {
            schedule_end: Some(at(610 + 9 * HOUR)),
            ..Windows::default()
        };
        assert_eq!(clock.update(None, at(610)), Some(open));
    }

    #[test]
    fn the_time_of_an_annotation_is_taken_when_it_changes_and_until_it_has_passed() {
        let mut clock = WindowClock::new(Schedules::none(|| MONDAY_8), at(0));
        let until = |seconds| Windows {
            annotation_end: Some(at(seconds)),
            ..Windows::default()
        };
        let (soon, later) = (Some(MONDAY_8 + 60), Some(MONDAY_8 + HOUR));
        assert_eq!(clock.update(soon, at(5)), Some(until(65)));
        assert_eq!(clock.poll_timeout(), Some(at(65)));
        assert_eq!(clock.update(soon, at(6)), None);
        assert_eq!(clock.update(later, at(7)), Some(until(7 + HOUR)));
        assert_eq!(clock.poll_timeout(), Some(at(607)));
        let none = Some(Windows::default());
        assert_eq!(clock.update(Some(MONDAY_8), at(8)), none, "it has passed");
        assert_eq!(clock.poll_timeout(), None);
        assert_eq!(clock.update(None, at(9)), none);
    }
}
