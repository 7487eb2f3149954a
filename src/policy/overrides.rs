//! The [`Overrides`] are what an operator has ordered for the app for a time: by a schedule in
//! the settings, or by annotations on the scale target.
//!
//! An order to keep the app awake wakes it too, though no connection waits. A pause is stronger
//! than every other order: the scale is not written while it lasts, in neither direction.

use super::command::{WakeDelay, WakeOrder};
use crate::clock::Time;
use crate::cluster::Orders;

/// The windows of time that are open now, by their ends. Whoever has a wall clock sets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Windows {
    /// The end of the window of the schedule in which the app is kept awake.
    pub keep_awake: Option<Time>,
    /// The end of the window that the annotation states.
    pub keep_awake_until: Option<Time>,
    /// The end of the window of the schedule in which no connection wakes the app.
    pub no_wake: Option<Time>,
}

/// What was ordered: see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Overrides {
    pub(super) windows: Windows,
    /// The annotations as they were last seen; `None` before the first time.
    pub(super) orders: Option<Orders>,
    /// Whether a wake was ordered that has not begun.
    pub(super) wakes_once: bool,
}

/// A wake that is wanted and delayed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Delay {
    pub(super) by: WakeDelay,
    /// When the rule ends; `None` if no passing of time leads there.
    pub(super) until: Option<Time>,
    /// Whether it was logged.
    pub(super) is_reported: bool,
}

impl Overrides {
    /// Sets the windows; whether that is a change.
    pub(super) fn set_windows(&mut self, windows: Windows) -> bool {
        std::mem::replace(&mut self.windows, windows) != windows
    }

    pub(super) fn is_paused(&self) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.is_paused)
    }

    /// Until when the app is kept awake; the epoch if it is not.
    pub(super) fn keep_awake_until(&self) -> Time {
        let Windows {
            keep_awake,
            keep_awake_until,
            ..
        } = self.windows;
        keep_awake.max(keep_awake_until).unwrap_or_default()
    }

    /// Whether a wake is ordered though no connection waits for it.
    pub(super) fn orders_wake(&self, now: Time) -> bool {
        self.wake_order(now).is_some()
    }

    /// What orders it.
    pub(super) fn wake_order(&self, now: Time) -> Option<WakeOrder> {
        let is_open = |until: Option<Time>| until.is_some_and(|until| now < until);
        if self.wakes_once {
            Some(WakeOrder::Wake)
        } else if is_open(self.windows.keep_awake_until) {
            Some(WakeOrder::KeepAwakeUntil)
        } else {
            is_open(self.windows.keep_awake).then_some(WakeOrder::Schedule)
        }
    }

    /// Everything that depends on the time, for the model checker.
    #[cfg(test)]
    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut Time> {
        let Windows {
            keep_awake,
            keep_awake_until,
            no_wake,
        } = &mut self.windows;
        let times = [keep_awake, keep_awake_until, no_wake];
        times.into_iter().flatten()
    }
}
