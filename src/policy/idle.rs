//! The part of [`Policy`] that decides whether the app is idle: since when it has been unused,
//! when it may sleep from here, and whether something else keeps scaling it up.

use std::time::Duration;

use super::Policy;
use super::command::Change;
use crate::clock::Time;

/// The number of set-backs in a row after which a warning is logged. A *set-back* is a sleep
/// that something else has undone although no connection came.
const SET_BACKS_REPORTED: u32 = 2;

impl Policy {
    pub(super) fn is_idle(&self, now: Time) -> bool {
        self.sleeps_at().is_some_and(|at| now >= at)
    }

    /// When the app may be put to sleep from here, if at all.
    pub(super) fn sleeps_at(&self) -> Option<Time> {
        if !self.can_wake || !self.shares_leases() {
            return None;
        }
        let unused_since = self.unused_since()?;
        let ours = unused_since + self.idle_ttl();
        let longer = self.longer_leases.end(unused_since);
        let others = self.others_until.unwrap_or_default();
        let at = ours.max(longer).max(others).max(self.pace.sleeps_at());
        Some(at.max(self.scale_writes.next_attempt()))
    }

    /// The idle TTL, doubled for each set-back in a row after the first.
    pub(super) fn idle_ttl(&self) -> Duration {
        let doublings = if self.is_set_back {
            self.set_backs.saturating_sub(1)
        } else {
            0
        };
        let doublings = doublings.min(self.config.set_back_doublings);
        self.config.idle_ttl.saturating_mul(1 << doublings)
    }

    /// There is a sign of use.
    pub(super) fn reset_set_backs(&mut self) {
        (self.set_backs, self.is_set_back) = (0, false);
    }

    /// The app is at zero again. If it was not used since something else has scaled it up,
    /// that is a set-back.
    pub(super) fn notice_set_back(&mut self) {
        if !std::mem::take(&mut self.is_set_back) {
            return;
        }
        self.set_backs = self.set_backs.saturating_add(1);
        if self.set_backs == SET_BACKS_REPORTED {
            self.report(Change::SetBack {
                times: self.set_backs,
            });
        }
    }

    /// Whether leases can be read and written, or are not needed. To read them is not enough:
    /// if no proxy may write a lease, the absence of renewals means nothing.
    pub(super) fn shares_leases(&self) -> bool {
        self.config.single || (self.sees_leases() && self.lease.store().is_some())
    }

    /// Since when there has been no sign of use: no connection here, no renewal of another
    /// proxy, no wake. `None` if the scale target was not read.
    pub(super) fn unused_since(&self) -> Option<Time> {
        Some(self.idle_since?.max(self.seen.as_ref()?.since))
    }
}
