//! The words of a list-and-watch: what its [`Watcher`](super::watcher::Watcher) is
//! told, what it has done next, and what it keeps up to date.

use std::time::Duration;

use super::objects::{ListMetadata, Status};

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// 2xx.
    Ok(T),
    /// Any other status, in the server's own words.
    Refused {
        status: u16,
        retry_after: Option<Duration>,
        why: String,
    },
    /// 2xx, with a body that is larger than allowed.
    TooLarge(String),
    /// No reply, or one that makes no sense.
    Failed(String),
}

/// What has happened.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// The reply to a read of one object, which is no matter of the watcher.
    Object(Answer<Vec<u8>>),
    /// The page of the list that was asked for.
    Page(Answer<Vec<u8>>),
    /// The watch was opened, or not.
    Opened(Answer<()>),
    /// A piece of its stream has come.
    Bytes(&'a [u8]),
    /// The stream has ended in order.
    Ended,
    /// The stream was broken off.
    Broken(String),
    /// What is stored is doubted.
    Relist,
    /// Whether somebody waits for what is watched.
    Waiting(bool),
    /// Time has passed.
    Timeout,
}

/// What an event has led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing that anybody else needs to know.
    Quiet,
    /// The list is complete and stored.
    Listed,
    /// The watch is open: the right to it is there.
    Opened,
    /// Lines of the watch were stored.
    Changed,
    /// The watch has ended, and a list or another watch follows.
    WatchEnded(String),
    /// 403, 404 or 405: the server refuses. No pause was made.
    Refused { status: u16, why: String },
    /// The server has asked for a pause.
    Busy(String),
    /// Anything else went wrong.
    Failed(String),
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask for a page of so many items, from where `token` says, which is empty for the
    /// first.
    List { limit: u32, token: String },
    /// Open a watch from that version that the server ends after that time.
    Watch { version: String, seconds: u64 },
    /// Read from the watch that is open.
    Read,
    /// Nothing before [`poll_timeout`](super::watcher::Watcher::poll_timeout).
    Wait,
}

/// What is kept up to date.
pub(super) trait Store {
    /// Takes in a page of a list, and returns its metadata. The first page makes
    /// everything void that an unfinished list has shown.
    ///
    /// # Errors
    /// The body is no list of what is watched.
    fn add_page(&mut self, body: &[u8], is_first: bool) -> Result<ListMetadata, serde_json::Error>;

    /// The list is complete, and replaces what was stored.
    fn replace(&mut self);

    /// Takes in a line of a watch.
    ///
    /// # Errors
    /// The line is no event of what is watched.
    fn apply(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error>;
}

/// What a line of a watch was.
#[derive(Debug)]
pub(super) enum Applied {
    /// A change or a bookmark: the version that the watch has reached, or nothing
    /// if the line names none.
    Reached(String),
    /// An ERROR event: the server has ended the watch.
    Failed(Status),
}
