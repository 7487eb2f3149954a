//! [`Pages`]: how far a list that is read page by page has got.
//!
//! The API server ends a page after `limit` items and names with `continue`
//! where the next one begins, so that no reply outgrows the limit on its size,
//! however many endpoints a Service has. All pages show the cluster at the
//! resourceVersion of the first one. A token outlives its list by some minutes
//! (etcd's compaction, 5 min by default); then the list begins again.

use super::objects::ListMetadata;

/// How many items to ask for at first. 64 full EndpointSlices of a hundred
/// endpoints, 40 KiB each, fit [`PAGE_BODY`].
const ITEMS: u32 = 64;
/// The largest page, in bytes.
pub(super) const PAGE_BODY: u64 = 4 * 1024 * 1024;
/// The most requests for one list, whatever the server says: 6.4 million
/// endpoints in full slices of a hundred.
const MOST_REQUESTS: u32 = 1000;
/// How often a list may begin again because its token is no longer good.
const MOST_RESTARTS: u32 = 3;

/// How far a list has got.
#[derive(Debug)]
pub(super) struct Pages {
    /// Items of a page.
    pub(super) limit: u32,
    /// The token of the next page; empty for the first.
    pub(super) token: String,
    /// The resourceVersion of the first page.
    version: String,
    requests: u32,
    restarts: u32,
}

impl Pages {
    /// The first page is next.
    pub(super) fn new() -> Self {
        Pages {
            limit: ITEMS,
            token: String::new(),
            version: String::new(),
            requests: 0,
            restarts: 0,
        }
    }

    /// Counts a request; false if there were too many.
    pub(super) fn may_ask(&mut self) -> bool {
        self.requests += 1;
        self.requests <= MOST_REQUESTS
    }

    /// Whether the first page is next. After a restart there is another first page:
    /// what came before it is void.
    pub(super) fn is_first(&self) -> bool {
        self.token.is_empty()
    }

    /// Takes note of a page; after the last one, the resourceVersion of all.
    pub(super) fn advance(&mut self, page: ListMetadata) -> Option<String> {
        if self.is_first() {
            self.version = page.resource_version;
        }
        self.token = page.r#continue;
        self.is_first().then(|| std::mem::take(&mut self.version))
    }

    /// Begins again with half as many items to a page; false if there is only
    /// one. A token is good only with the `limit` that it was handed out for
    /// (`ListOptions.continue` in `meta/v1` types.go).
    pub(super) fn halve(&mut self) -> bool {
        let can = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        self.token.clear();
        can
    }

    /// Begins again if `status` says that the token is no longer good: 410, or
    /// 400 from a server that does not understand it, as after an upgrade.
    pub(super) fn restart_after(&mut self, status: u16) -> bool {
        let restarts = !self.is_first() && matches!(status, 400 | 410);
        self.restarts += u32::from(restarts);
        self.token.clear();
        restarts && self.restarts <= MOST_RESTARTS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_a_server_says_a_list_comes_to_an_end(
            says in prop::collection::vec((0u8..4, "[a-c]{0,2}"), 1..8)
        ) {
            let mut pages = Pages::new();
            let mut asked = 0;
            for (what, token) in says.iter().cycle() {
                if !pages.may_ask() {
                    break;
                }
                asked += 1;
                prop_assert!((1..=ITEMS).contains(&pages.limit));
                let over = match what {
                    0 => !pages.halve(),
                    1 => !pages.restart_after(410),
                    2 => !pages.restart_after(400),
                    _ => pages
                        .advance(ListMetadata { resource_version: "7".into(), r#continue: token.clone() })
                        .is_some(),
                };
                if over {
                    break;
                }
            }
            prop_assert!(asked <= MOST_REQUESTS);
        }
    }
}
