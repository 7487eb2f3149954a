//! A list that is read page by page.
//!
//! The API server ends a page after `limit` items and names with `continue`
//! where the next one begins, so that no reply outgrows the limit on its size,
//! however many endpoints a Service has. All pages show the cluster at the
//! resourceVersion of the first one. A token outlives its list by some minutes
//! (etcd's compaction, 5 min by default); then the list begins again.

use serde::de::DeserializeOwned;

use super::client::{Calls, Failure, Reply};
use super::objects::{List, ListMetadata};
use super::paths;

/// How many items to ask for at first. 64 full EndpointSlices of a hundred
/// endpoints, 40 KiB each, fit [`PAGE_BODY`].
const ITEMS: u32 = 64;
/// The largest page, in bytes.
const PAGE_BODY: u64 = 4 * 1024 * 1024;
/// The most requests for one list, whatever the server says: 6.4 million
/// endpoints in full slices of a hundred.
const MOST_REQUESTS: u32 = 1000;
/// How often a list may begin again because its token is no longer good.
const MOST_RESTARTS: u32 = 3;

/// One page of a list.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Whether it is the first page. After a restart there is another first
    /// page: what came before it is void.
    pub(super) is_first: bool,
}

/// How a list ended.
pub(super) enum Listed {
    /// All pages were handed over.
    Whole {
        /// The resourceVersion to watch from.
        version: String,
    },
    /// The server has answered with another status than 2xx.
    Refused(Reply),
}

/// Lists the objects at `path`, which has a query, and hands over each page.
///
/// # Errors
/// A request without a reply, a reply that is no list, or a list without end.
pub(super) fn list<T: DeserializeOwned>(
    calls: &Calls<'_>,
    path: &str,
    mut take: impl FnMut(Page<T>),
) -> Result<Listed, Failure> {
    let mut cursor = Cursor::new();
    while cursor.may_ask() {
        let reply = match calls.list(&cursor.path(path), PAGE_BODY) {
            Ok(reply) => reply,
            Err(failure) if failure.too_large && cursor.halve() => continue,
            Err(failure) => return Err(failure),
        };
        if !reply.is_success() {
            if cursor.restart_after(reply.status) {
                continue;
            } else {
                return Ok(Listed::Refused(reply));
            }
        }
        let list: List<T> = serde_json::from_slice(&reply.body)
            .map_err(|cause| Failure::malformed(&format!("not what was asked for: {cause}")))?;
        take(Page {
            items: list.items.unwrap_or_default(),
            is_first: cursor.is_first(),
        });
        if let Some(version) = cursor.advance(list.metadata) {
            return Ok(Listed::Whole { version });
        }
    }
    Err(Failure::malformed("a list without an end"))
}

/// How far a list has got.
#[derive(Debug)]
struct Cursor {
    /// Items of a page.
    limit: u32,
    /// The token of the next page; empty for the first.
    token: String,
    /// The resourceVersion of the first page.
    version: String,
    requests: u32,
    restarts: u32,
}

impl Cursor {
    fn new() -> Self {
        Cursor {
            limit: ITEMS,
            token: String::new(),
            version: String::new(),
            requests: 0,
            restarts: 0,
        }
    }

    /// Counts a request; false if there were too many.
    fn may_ask(&mut self) -> bool {
        self.requests += 1;
        self.requests <= MOST_REQUESTS
    }

    fn path(&self, list: &str) -> String {
        paths::page(list, self.limit, &self.token)
    }

    fn is_first(&self) -> bool {
        self.token.is_empty()
    }

    /// Takes note of a page; after the last one, the resourceVersion of all.
    fn advance(&mut self, page: ListMetadata) -> Option<String> {
        if self.is_first() {
            self.version = page.resource_version;
        }
        self.token = page.r#continue;
        self.is_first().then(|| std::mem::take(&mut self.version))
    }

    /// Begins again with half as many items to a page; false if there is only
    /// one. A token is good only with the `limit` that it was handed out for
    /// (`ListOptions.continue` in `meta/v1` types.go).
    fn halve(&mut self) -> bool {
        let can = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        self.token.clear();
        can
    }

    /// Begins again if `status` says that the token is no longer good: 410, or
    /// 400 from a server that does not understand it, as after an upgrade.
    fn restart_after(&mut self, status: u16) -> bool {
        let restarts = !self.is_first() && matches!(status, 400 | 410);
        self.restarts += u32::from(restarts);
        self.token.clear();
        restarts && self.restarts <= MOST_RESTARTS
    }
}

#[cfg(test)]
mod tests;
