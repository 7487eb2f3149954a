//! [`Pages`]: the progress of a list that is read page by page.
//!
//! The API server ends a page after `limit` items and returns the token of the next one
//! (`continue`), so that replies are bounded however many endpoints a Service has. All pages
//! show the cluster at the resourceVersion of the first one. A token is valid for some
//! minutes (etcd's compaction, 5 min by default); after that the list begins again.

use super::objects::ListMetadata;

/// The first `limit`. 64 full EndpointSlices of a hundred endpoints, 40 KiB each, fit into
/// [`PAGE_BODY`].
const ITEMS: u32 = 64;
/// The largest page of several items, in bytes.
const PAGE_BODY: u64 = 4 * 1024 * 1024;
/// The largest page of one item: any object that etcd takes fits into it. It stores 1.5 MiB at most
/// (`--max-request-bytes`), and a character may become six in JSON (`<` is `\u003c`).
const OBJECT_PAGE_BODY: u64 = 16 * 1024 * 1024;
/// The most requests for one list: one for each of five thousand objects where large ones are among
/// them, or 32 million endpoints in full slices of a hundred.
pub(super) const MAX_REQUESTS: u32 = 5000;
/// The most times that a list begins again because its token has expired.
const MAX_RESTARTS: u32 = 3;

/// The largest body of the page at `path`, in bytes.
pub(super) fn max_body(path: &str) -> u64 {
    match path.split(['?', '&']).any(|part| part == "limit=1") {
        true => OBJECT_PAGE_BODY,
        false => PAGE_BODY,
    }
}

/// The progress of a list.
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
    /// A list whose first page is next.
    pub(super) fn new() -> Self {
        Pages {
            limit: ITEMS,
            token: String::new(),
            version: String::new(),
            requests: 0,
            restarts: 0,
        }
    }

    /// Counts a request; returns false if there were too many.
    pub(super) fn may_ask(&mut self) -> bool {
        self.requests += 1;
        self.requests <= MAX_REQUESTS
    }

    /// Whether the first page is next. If the list has begun again, the pages before must be
    /// dropped.
    pub(super) fn is_first(&self) -> bool {
        self.token.is_empty()
    }

    /// Notes a page; returns the resourceVersion of the list after the last one.
    pub(super) fn advance(&mut self, page: ListMetadata) -> Option<String> {
        if self.is_first() {
            self.version = page.resource_version;
        }
        self.token = page.r#continue;
        self.is_first().then(|| std::mem::take(&mut self.version))
    }

    /// Begins again with half the `limit`; returns false if that is one already. A token is
    /// valid only with the same `limit` (`ListOptions.continue` in `meta/v1` types.go).
    pub(super) fn halve(&mut self) -> bool {
        let can = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        self.token.clear();
        can
    }

    /// Begins again if `status` shows that the token is not valid: 410, or 400 from a server
    /// that does not understand it after an upgrade.
    pub(super) fn restart_after(&mut self, status: u16) -> bool {
        let restarts = !self.is_first() && matches!(status, 400 | 410);
        self.restarts += u32::from(restarts);
        self.token.clear();
        restarts && self.restarts <= MAX_RESTARTS
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
            prop_assert!(asked <= MAX_REQUESTS);
        }
    }
}
