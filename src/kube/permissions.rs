//! [`Permissions`] are the refused permissions of a thread.

use crate::cluster::{Permission, Refusal, Report};
use std::collections::BTreeSet;

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
