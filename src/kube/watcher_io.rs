//! What a [`Watcher`](super::watcher::Watcher) takes and returns: [`WatcherInput`] in,
//! [`WatcherOutcome`] and [`WatcherAction`] out, and the [`Store`] that it keeps up to date.

use std::time::Duration;

use super::items::Skipped;
use super::objects::{ListMetadata, Status};

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Response<T> {
    /// 2xx.
    Ok(T),
    /// Any other status, with the message of the server.
    Status {
        status: u16,
        retry_after: Option<Duration>,
        why: String,
    },
    /// 2xx with a body that is larger than allowed.
    TooLarge(String),
    /// No reply, or one that cannot be parsed.
    Failed(String),
}

impl<T> Response<T> {
    /// Whether the server has replied.
    fn is_reply(&self) -> bool {
        !matches!(self, Response::Failed(_))
    }
}

/// An input of the watcher: the result of a call, or what happens meanwhile.
#[derive(Debug)]
pub(super) enum WatcherInput<'a> {
    /// The reply to a read of one object, which the watcher ignores.
    Object(Response<Vec<u8>>),
    /// The page of the list that was requested.
    Page(Response<Vec<u8>>),
    /// Whether the watch was opened.
    Opened(Response<()>),
    /// Bytes of the stream.
    Bytes(&'a [u8]),
    /// The stream has ended.
    Ended,
    /// The stream has failed.
    Broken(String),
    /// A request to list again: the store may be out of date.
    Relist,
    /// Whether connections wait for what is watched.
    Waiting(bool),
    /// Time has passed.
    Timeout,
}

impl WatcherInput<'_> {
    /// Whether the server has sent something, even if only an error status: its connection
    /// works, and the next call has its own timeout.
    pub(super) fn is_from_server(&self) -> bool {
        match self {
            WatcherInput::Object(answer) | WatcherInput::Page(answer) => answer.is_reply(),
            WatcherInput::Opened(answer) => answer.is_reply(),
            WatcherInput::Bytes(_) => true,
            _ => false,
        }
    }
}

/// The result of an input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WatcherOutcome {
    /// Nothing to report.
    Quiet,
    /// The list is complete and stored.
    Listed,
    /// The watch is open: the permission is granted.
    Opened,
    /// Lines of the watch were stored.
    Changed,
    /// The watch has ended; a list or another watch follows.
    WatchEnded(String),
    /// 403, 404 or 405: what is watched may not be listed, or is not there. No pause was begun.
    Denied { status: u16, why: String },
    /// The server has asked for a pause.
    Busy(String),
    /// Anything else went wrong.
    Failed(String),
}

/// The next action of the thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatcherAction {
    /// Request a page of at most `limit` items; `continue_token` is the `continue` of the page
    /// before, and empty for the first one.
    List { limit: u32, continue_token: String },
    /// Open a watch from a version; the server ends it after a time.
    Watch { version: String, seconds: u64 },
    /// Read from the watch that is open.
    Read,
    /// Nothing before [`poll_timeout`](super::watcher::Watcher::poll_timeout).
    Wait,
}

/// The store that a watcher keeps up to date.
pub(super) trait Store {
    /// Adds a page of a list, and returns its metadata. The first page drops the pages of an
    /// unfinished list.
    ///
    /// # Errors
    /// If the body is no list.
    fn add_page(&mut self, body: &[u8], is_first: bool) -> Result<ListMetadata, serde_json::Error>;

    /// The list is complete: replaces the stored objects by it.
    fn replace(&mut self);

    /// Applies a line of a watch.
    ///
    /// # Errors
    /// If the line is no event.
    fn apply(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error>;

    /// The objects that were skipped since the last call, because they cannot be parsed.
    fn take_skipped(&mut self) -> Vec<Skipped>;
}

/// The kind of a line of a watch.
#[derive(Debug)]
pub(super) enum Applied {
    /// A change or a bookmark, with the version that the watch has reached; empty if the
    /// line has none.
    Reached(String),
    /// An ERROR event: the server has ended the watch.
    Failed(Status),
}
