//! Whether a permission counts as missing.
//!
//! A 403 is no proof: an API server that has just started answers 403 to whoever has
//! the permission, until it has read the roles. So a permission counts as missing once it has
//! been refused again and again for [`Config::refusal_believed_after`], with nothing
//! in between but refusals. It is then asked for rarely, until it is granted.
//!
//! [`Config::refusal_believed_after`]: super::Config::refusal_believed_after

use std::time::Duration;

use crate::clock::Time;

/// How often a permission that is missing is asked for again, in times of the time until
/// belief: each minute.
const RETRY: u32 = 2;

/// Into how many parts the time until belief is divided by refusals at least: two
/// that lie further apart are two restarts of the API server.
const REFUSALS: u32 = 2;

/// How long a permission that is missing is left alone.
pub(super) fn retry_after(believed_after: Duration) -> Duration {
    believed_after * RETRY
}

/// One permission, as the replies have shown it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum PermissionState {
    /// It was granted, or was not asked for yet.
    #[default]
    Granted,
    /// It is being refused, and that is not believed yet.
    Refused {
        /// The first of the refusals in a row.
        since: Time,
        /// The last one.
        last: Time,
    },
    /// It is missing.
    Missing {
        /// When it is asked for again.
        retry: Time,
    },
}

impl PermissionState {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, PermissionState::Missing { .. })
    }

    /// When it may be asked for.
    pub(super) fn next_attempt(&self) -> Time {
        match *self {
            PermissionState::Granted | PermissionState::Refused { .. } => Time::default(),
            PermissionState::Missing { retry } => retry,
        }
    }

    pub(super) fn may_be_asked(&self, now: Time) -> bool {
        self.next_attempt() <= now
    }

    /// The reply was a refusal. It makes the permission a missing one, asked for again
    /// after `retry`, if refusals have lasted for `believed_after`.
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

    /// Whether the refusals are so old that the next one is a first one again.
    pub(super) fn is_stale(&self, believed_after: Duration, now: Time) -> bool {
        match *self {
            PermissionState::Refused { last, .. } => now.since(last) > believed_after / REFUSALS,
            PermissionState::Granted | PermissionState::Missing { .. } => false,
        }
    }

    /// The reply has shown that the permission is there.
    pub(super) fn granted(&mut self) {
        *self = PermissionState::Granted;
    }

    /// The request has failed in a way that says nothing of permissions: refusals that
    /// come now may be those of a server that has just started.
    pub(super) fn interrupted(&mut self) {
        if !self.is_missing() {
            *self = PermissionState::Granted;
        }
    }

    /// Has a missing permission asked for at the next occasion.
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
