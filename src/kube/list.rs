//! [`list`] reads a list page by page on the calling thread.

use serde::de::DeserializeOwned;

use super::client::Calls;
use super::objects::List;
use super::pages::{Pages, max_body};
use super::paths;
use super::reply::{Failure, Reply};

/// One page of a list.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Whether it is the first page. If the list begins again there is another first page,
    /// and the pages before it must be dropped.
    pub(super) is_first: bool,
}

/// How a list ended.
pub(super) enum Listed {
    /// All pages were passed to the callback.
    Whole,
    /// The server has replied with another status than 2xx.
    Refused(Reply),
}

/// Lists the objects at `path`, which has a query, and passes each page to the callback.
///
/// # Errors
/// A request without a reply, a body that is no list, or a list with too many pages.
pub(super) fn list<T: DeserializeOwned>(
    calls: &Calls<'_>,
    path: &str,
    mut take: impl FnMut(Page<T>),
) -> Result<Listed, Failure> {
    let mut pages = Pages::new();
    while pages.may_ask() {
        let page = paths::page(path, pages.limit, &pages.token);
        let reply = match calls.list(&page, max_body(&page)) {
            Ok(reply) => reply,
            Err(failure) if failure.too_large && pages.halve() => continue,
            Err(failure) => return Err(failure),
        };
        if !reply.is_success() {
            match pages.restart_after(reply.status) {
                true => continue,
                false => return Ok(Listed::Refused(reply)),
            }
        }
        let list: List<T> = serde_json::from_slice(&reply.body)
            .map_err(|cause| Failure::malformed(&format!("not what was asked for: {cause}")))?;
        take(Page {
            items: list.items.unwrap_or_default(),
            is_first: pages.is_first(),
        });
        if pages.advance(list.metadata).is_some() {
            return Ok(Listed::Whole);
        }
    }
    Err(Failure::malformed("a list without an end"))
}

#[cfg(test)]
mod tests;
