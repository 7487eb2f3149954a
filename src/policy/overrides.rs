//! [`Overrides`]: the present overrides of the idle rules by an operator: by a schedule in the
//! settings, or by annotations on the scale target.
//!
//! An override that keeps the app awake wakes it too, without a connection. A pause takes
//! precedence over every other override: while it lasts the scale is not written, in neither
//! direction.

use std::time::Duration;

use super::command::{WakeDelay, WakeReason};
use crate::clock::Time;
use crate::cluster::AnnotationOverrides;

/// How long before its end a window wakes the app no more. The clocks of several proxies differ,
/// so that one of them may put the app to sleep while the window is still open for another.
const NO_WAKE_BEFORE_END: Duration = Duration::from_secs(10);

/// The ends of the windows of time that are open now. `daemon::window_clock`, which reads the wall
/// clock, sets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Windows {
    /// The end of the window of the schedule in which the app is kept awake.
    pub schedule_end: Option<Time>,
    /// The time until which the annotation keeps the app awake.
    pub annotation_end: Option<Time>,
    /// The end of the window of the schedule in which no connection wakes the app.
    pub no_wake_end: Option<Time>,
}

/// The present overrides: see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Overrides {
    pub(super) windows: Windows,
    /// The annotations as they were last seen; `None` before the first time.
    pub(super) annotations: Option<AnnotationOverrides>,
    /// Whether the annotation wants a wake that has not begun.
    pub(super) is_wake_pending: bool,
}

/// The delay of a wake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Delay {
    pub(super) by: WakeDelay,
    /// When the delay ends; `None`: not by the passing of time alone.
    pub(super) until: Option<Time>,
    /// Whether it was logged.
    pub(super) is_logged: bool,
}

impl Overrides {
    /// Sets the windows; whether that is a change.
    pub(super) fn set_windows(&mut self, windows: Windows) -> bool {
        std::mem::replace(&mut self.windows, windows) != windows
    }

    pub(super) fn is_paused(&self) -> bool {
        let annotations = self.annotations.as_ref();
        annotations.is_some_and(|it| it.is_paused)
    }

    /// The time until which the app is kept awake; in the past if it is not.
    pub(super) fn awake_until(&self) -> Time {
        let Windows {
            schedule_end,
            annotation_end,
            ..
        } = self.windows;
        schedule_end.max(annotation_end).unwrap_or_default()
    }

    /// Whether an override wants a wake, without a connection.
    pub(super) fn wants_wake(&self, now: Time) -> bool {
        self.wake_reason(now).is_some()
    }

    /// The override that wants a wake.
    pub(super) fn wake_reason(&self, now: Time) -> Option<WakeReason> {
        let wakes = |until: Option<Time>| until.is_some_and(|at| now + NO_WAKE_BEFORE_END < at);
        if self.is_wake_pending {
            Some(WakeReason::Wake)
        } else if wakes(self.windows.annotation_end) {
            Some(WakeReason::KeepAwakeUntil)
        } else {
            wakes(self.windows.schedule_end).then_some(WakeReason::Schedule)
        }
    }

    /// Everything that depends on the time, for the model checker.
    #[cfg(test)]
    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut Time> {
        let Windows {
            schedule_end,
            annotation_end,
            no_wake_end,
        } = &mut self.windows;
        let times = [schedule_end, annotation_end, no_wake_end];
        times.into_iter().flatten()
    }
}
