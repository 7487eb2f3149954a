//! Which rights are refused.

use std::collections::BTreeSet;

use super::Report;
use crate::cluster::{Permission, Refusal};

/// What is known of some rights. One that was never asked for counts as
/// granted.
#[derive(Debug, Default)]
pub(super) struct Rights {
    refused: BTreeSet<Permission>,
}

impl Rights {
    /// The server has refused `permission`, and said why; `fallback` is done in
    /// its place, if anything can be. To be reported each time: that it still
    /// is refused is news too.
    pub(super) fn refused(
        &mut self,
        permission: Permission,
        why: String,
        fallback: Option<&'static str>,
    ) -> Report {
        self.refused.insert(permission);
        Report::Right {
            permission,
            refusal: Some(Refusal { why, fallback }),
        }
    }

    /// The server has granted `permission`. To be reported if it was refused.
    pub(super) fn granted(&mut self, permission: Permission) -> Option<Report> {
        self.refused.remove(&permission).then_some(Report::Right {
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
        let mut rights = Rights::default();
        let right = Permission::GetService;
        assert_eq!(rights.granted(right), None, "never refused");
        for fallback in [None, Some("by its name")] {
            let Report::Right { refusal, .. } = rights.refused(right, "403".into(), fallback)
            else {
                panic!("a right is reported");
            };
            assert_eq!(refusal.and_then(|refusal| refusal.fallback), fallback);
        }
        let granted = Report::Right {
            permission: right,
            refusal: None,
        };
        assert_eq!(rights.granted(right), Some(granted));
        assert_eq!(rights.granted(right), None, "no news");
    }
}
