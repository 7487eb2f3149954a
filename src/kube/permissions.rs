//! [`Permissions`] are the refused permissions of a thread; a [`RefusalClock`] decides when a
//! refusal is believed.

use crate::clock::Time;
use crate::cluster::{Permission, REFUSAL_BELIEVED_AFTER, Refusal, Report};
use std::collections::BTreeSet;

/// Since when every request that takes a permission was refused.
#[derive(Debug, Default)]
pub(super) struct RefusalClock {
    since: Option<Time>,
}

impl RefusalClock {
    /// The permission was refused; returns whether that is believed.
    pub(super) fn refused(&mut self, now: Time) -> bool {
        self.since.get_or_insert(now);
        self.is_believed(now)
    }

    /// Whether the permission counts as missing.
    pub(super) fn is_believed(&self, now: Time) -> bool {
        self.since
            .is_some_and(|since| now.since(since) >= REFUSAL_BELIEVED_AFTER)
    }

    /// The permission was granted.
    pub(super) fn granted(&mut self) {
        self.since = None;
    }
}

/// The permissions that are refused. One that was never requested counts as granted.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    refused: BTreeSet<Permission>,
}

impl Permissions {
    /// The server has refused `permission`; `fallback` is done instead, if anything. The
    /// caller reports it each time, because the daemon needs to know that it is still
    /// refused.
    pub(super) fn refused(
        &mut self,
        permission: Permission,
        why: String,
        fallback: Option<&'static str>,
    ) -> Report {
        self.refused.insert(permission);
        Report::Permission {
            permission,
            refusal: Some(Refusal { why, fallback }),
        }
    }

    /// The server has granted `permission`; returns a report if it was refused before.
    pub(super) fn granted(&mut self, permission: Permission) -> Option<Report> {
        self.refused
            .remove(&permission)
            .then_some(Report::Permission {
                permission,
                refusal: None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_believed_when_it_has_lasted_for_30_seconds_without_a_grant() {
        for (label, refused, granted, now, believed) in [
            ("the first", &[][..], None, 100, false),
            ("just before", &[70_001], None, 100_000, false),
            ("at 30 s", &[70_000], None, 100_000, true),
            (
                "as long as it lasts",
                &[70_000, 80_000, 110_000],
                None,
                140_000,
                true,
            ),
            (
                "granted between",
                &[70_000, 80_000],
                Some(90_000),
                100_000,
                false,
            ),
        ] {
            let mut doubt = RefusalClock::default();
            for &ms in refused {
                doubt.refused(Time::from_millis(ms));
            }
            if granted.is_some() {
                doubt.granted();
            }
            assert_eq!(doubt.refused(Time::from_millis(now)), believed, "{label}");
        }
    }

    #[test]
    fn every_refusal_is_news_and_a_grant_is_after_a_refusal() {
        let mut permissions = Permissions::default();
        let permission = Permission::GetService;
        assert_eq!(permissions.granted(permission), None, "never refused");
        for fallback in [None, Some("by its name")] {
            let Report::Permission { refusal, .. } =
                permissions.refused(permission, "403".into(), fallback)
            else {
                panic!("a permission is reported");
            };
            assert_eq!(refusal.and_then(|refusal| refusal.fallback), fallback);
        }
        let granted = Report::Permission {
            permission,
            refusal: None,
        };
        assert_eq!(permissions.granted(permission), Some(granted));
        assert_eq!(permissions.granted(permission), None, "no news");
    }
}
