//! [`PermissionState`]: whether a permission counts as missing.
//!
//! A 403 is no proof: an API server that has just started answers 403 until it has read the
//! roles. So a permission counts as missing once all replies were refusals for
//! [`Config::refusal_believed_after`]. After that it is tried rarely, until it is granted.
//!
//! [`Config::refusal_believed_after`]: super::Config::refusal_believed_after

use std::time::Duration;

use crate::clock::Time;

/// The interval at which a missing permission is tried again, in multiples of
/// [`Config::refusal_believed_after`](super::Config::refusal_believed_after): a minute.
const RETRY: u32 = 2;

/// Two refusals that are further apart than this fraction of
/// [`Config::refusal_believed_after`](super::Config::refusal_believed_after) may be of two
/// restarts of the API server.
const REFUSALS: u32 = 2;

/// The interval at which a missing permission is tried again.
pub(super) fn retry_after(believed_after: Duration) -> Duration {
    believed_after * RETRY
}

/// The state of one permission, as the replies have shown it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum PermissionState {
    /// It was granted, or not needed yet.
    #[default]
    Granted,
    /// It is refused, and does not count as missing yet.
    Refused {
        /// The first refusal in a row.
        since: Time,
        /// The last refusal.
        last: Time,
    },
    /// It is missing.
    Missing {
        /// When it is tried again.
        retry: Time,
    },
}

impl PermissionState {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, PermissionState::Missing { .. })
    }

    /// When it may be tried.
    pub(super) fn next_attempt(&self) -> Time {
        match *self {
            PermissionState::Granted | PermissionState::Refused { .. } => Time::default(),
            PermissionState::Missing { retry } => retry,
        }
    }

    pub(super) fn may_be_asked(&self, now: Time) -> bool {
        self.next_attempt() <= now
    }

    /// The reply was a refusal. If refusals have lasted for `believed_after`, the permission
    /// counts as missing and is tried again after `retry`.
    pub(super) fn refused(&mut self, believed_after: Duration, retry: Duration, now: Time) {
        let since = match *self {
            PermissionState::Refused { since, .. } if !self.is_stale(believed_after, now) => since,
            _ => now,
        };
        *self = if self.is_missing() || now.since(since) >= believed_after {
            PermissionState::Missing { retry: now + retry }
        } else {
            PermissionState::Refused { since, last: now }
        };
    }

    /// Whether the last refusal is so old that the next one counts as the first.
    pub(super) fn is_stale(&self, believed_after: Duration, now: Time) -> bool {
        match *self {
            PermissionState::Refused { last, .. } => now.since(last) > believed_after / REFUSALS,
            PermissionState::Granted | PermissionState::Missing { .. } => false,
        }
    }

    /// The reply has shown that the permission is granted.
    pub(super) fn granted(&mut self) {
        *self = PermissionState::Granted;
    }

    /// The request has failed for another reason than a permission: refusals that come next
    /// may be of a server that has just started.
    pub(super) fn interrupted(&mut self) {
        if !self.is_missing() {
            *self = PermissionState::Granted;
        }
    }

    /// Lets a missing permission be tried at once.
    pub(super) fn retry_now(&mut self, now: Time) {
        if let PermissionState::Missing { retry } = self {
            *retry = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::REFUSAL_BELIEVED_AFTER;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(1000 + seconds))
    }

    fn refused(permission: &mut PermissionState, seconds: u64) {
        let retry = retry_after(REFUSAL_BELIEVED_AFTER);
        permission.refused(REFUSAL_BELIEVED_AFTER, retry, at(seconds));
    }

    #[test]
    fn a_refusal_is_believed_once_it_has_lasted_for_30_s_with_nothing_in_between() {
        for (label, refusals, missing) in [
            ("one refusal", &[0][..], false),
            ("for 29 s", &[0, 10, 20, 29], false),
            ("for 30 s", &[0, 10, 20, 30], true),
            ("two, with half a minute in between", &[0, 30], false),
            ("with a gap of 15 s", &[0, 15, 30], true),
            ("with a gap of 16 s", &[0, 16, 30], false),
            ("with a gap that lies back", &[0, 16, 26, 36, 46], true),
        ] {
            let mut permission = PermissionState::default();
            for &second in refusals {
                refused(&mut permission, second);
            }
            assert_eq!(permission.is_missing(), missing, "{label}");
        }
    }

    #[test]
    fn whatever_else_comes_back_has_the_30_s_begin_again() {
        for (label, other) in [
            (
                "granted",
                PermissionState::granted as fn(&mut PermissionState),
            ),
            ("an outage, or 401", PermissionState::interrupted),
        ] {
            let mut permission = PermissionState::default();
            for second in [0, 10, 20] {
                refused(&mut permission, second);
            }
            other(&mut permission);
            refused(&mut permission, 30);
            assert!(!permission.is_missing(), "{label}");
        }
    }

    #[test]
    fn a_missing_permission_is_asked_for_each_minute_and_no_outage_makes_it_a_granted_one() {
        let mut permission = PermissionState::Missing { retry: at(60) };
        assert!(!permission.may_be_asked(at(59)));
        assert!(permission.may_be_asked(at(60)));
        refused(&mut permission, 60);
        assert!(!permission.may_be_asked(at(119)));
        permission.interrupted();
        assert!(permission.is_missing());
        permission.retry_now(at(70));
        assert!(permission.may_be_asked(at(70)));
        permission.granted();
        assert_eq!(permission, PermissionState::Granted);
    }
}
