//! The part of [`Policy`] that decides whether the app is idle, and whether something else keeps
//! scaling it up or down.

use std::time::Duration;

use super::Policy;
use super::command::Change;
use crate::clock::Time;

/// The number of undone sleeps in a row after which a warning is logged. A sleep is *undone*
/// if something else scales the app up again although no connection came.
const UNDONE_SLEEPS_REPORTED: u32 = 2;

impl Policy {
    pub(super) fn is_idle(&self, now: Time) -> bool {
        self.sleeps_at().is_some_and(|at| now >= at)
    }

    /// When this proxy may put the app to sleep; `None`: not by the passing of time alone.
    pub(super) fn sleeps_at(&self) -> Option<Time> {
        self.kept_awake().at
    }

    /// The idle TTL, doubled for each undone sleep in a row after the first.
    pub(super) fn lengthened_idle_ttl(&self) -> Duration {
        let doublings = if self.woken_by_others {
            self.undone_sleeps.saturating_sub(1)
        } else {
            0
        };
        let doublings = doublings.min(self.config.undone_sleep_doublings);
        self.config.idle_ttl.saturating_mul(1 << doublings)
    }

    /// To be called when the app is used: undone sleeps are counted from zero again.
    pub(super) fn forget_undone_sleeps(&mut self) {
        (self.undone_sleeps, self.woken_by_others) = (0, false);
    }

    /// To be called when the scale is zero: counts the sleep before as undone if something
    /// else had scaled the app up and it was not used since.
    pub(super) fn count_undone_sleep(&mut self) {
        if !std::mem::take(&mut self.woken_by_others) {
            return;
        }
        self.undone_sleeps = self.undone_sleeps.saturating_add(1);
        if self.undone_sleeps == UNDONE_SLEEPS_REPORTED {
            self.report(Change::SleepUndone {
                times: self.undone_sleeps,
            });
        }
    }

    /// To be called when somebody else has scaled the app to zero: counts the wake before as undone
    /// if the idle TTL had not passed.
    pub(super) fn count_undone_wake(&mut self, now: Time) {
        if let Some(times) = self.wake_limits.record_zero_by_others(now) {
            self.report(Change::WakeUndone { times });
        }
    }
}
