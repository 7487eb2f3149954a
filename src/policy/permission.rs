//! [`PermissionState`]: whether a permission counts as missing ([`RefusalClock`]), and when one
//! that does is tried again.

use std::time::Duration;

use crate::clock::Time;
use crate::refusal::RefusalClock;

/// The interval at which a missing permission is tried again, in multiples of
/// [`Config::refusal_confirmed_after`](super::Config::refusal_confirmed_after): a minute.
const RETRY: u32 = 2;

/// The interval at which a missing permission is tried again.
pub(super) fn retry_after(confirmed_after: Duration) -> Duration {
    confirmed_after * RETRY
}

/// The state of one permission, as the replies have shown it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct PermissionState {
    pub(super) clock: RefusalClock,
    /// When it is tried again, if it is missing.
    pub(super) retry: Option<Time>,
}

impl PermissionState {
    pub(super) fn is_missing(&self) -> bool {
        self.clock.is_confirmed()
    }

    /// When it may be tried.
    pub(super) fn next_attempt(&self) -> Time {
        self.retry.unwrap_or_default()
    }

    pub(super) fn may_be_tried(&self, now: Time) -> bool {
        self.next_attempt() <= now
    }

    /// The reply was a refusal. If refusals have lasted for `confirmed_after`, the permission
    /// counts as missing and is tried again after `retry`.
    pub(super) fn refused(&mut self, confirmed_after: Duration, retry: Duration, now: Time) {
        let is_missing = self.clock.refused(confirmed_after, now);
        self.retry = is_missing.then_some(now + retry);
    }

    /// The reply has shown that the permission is granted.
    pub(super) fn granted(&mut self) {
        *self = PermissionState::default();
    }

    /// The request has failed for another reason than a permission.
    pub(super) fn interrupted(&mut self) {
        self.clock.interrupted();
    }

    /// Lets a missing permission be tried at once.
    pub(super) fn retry_now(&mut self, now: Time) {
        self.retry = self.retry.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::CONFIRMED_AFTER;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(1000 + seconds))
    }

    fn refused(permission: &mut PermissionState, seconds: u64) {
        let retry = retry_after(CONFIRMED_AFTER);
        permission.refused(CONFIRMED_AFTER, retry, at(seconds));
    }

    #[test]
    fn a_missing_permission_is_asked_for_each_minute_and_no_outage_makes_it_a_granted_one() {
        let mut permission = PermissionState::default();
        for second in [0, 10, 20] {
            refused(&mut permission, second);
            assert!(permission.may_be_tried(at(second)), "it is unconfirmed");
        }
        refused(&mut permission, 30);
        assert!(!permission.may_be_tried(at(89)));
        assert!(permission.may_be_tried(at(90)));
        refused(&mut permission, 90);
        assert!(!permission.may_be_tried(at(149)));
        permission.interrupted();
        assert!(permission.is_missing());
        permission.retry_now(at(100));
        assert!(permission.may_be_tried(at(100)));
        permission.granted();
        assert_eq!(permission, PermissionState::default());
    }
}
