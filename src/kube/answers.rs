//! What a watcher is told of the client's replies.

use super::client::{Failure, Reply};
use super::pages::Listed;
use super::watcher::Answer;

/// The body of a reply, or what it says in place of one.
impl From<Reply> for Answer<Vec<u8>> {
    fn from(reply: Reply) -> Self {
        if reply.is_success() {
            Answer::Ok(reply.body)
        } else {
            Answer::Refused {
                status: reply.status,
                retry_after: reply.retry_after,
                why: reply.explanation(),
            }
        }
    }
}

impl<T> From<Failure> for Answer<T> {
    fn from(failure: Failure) -> Self {
        Answer::Failed(failure.text)
    }
}

/// The version of a list, or what came in place of the list.
pub(super) fn listed(ended: Result<Listed, Failure>) -> Answer<String> {
    match ended {
        Ok(Listed::Whole { version }) => Answer::Ok(version),
        Ok(Listed::Refused(reply)) => refused(&reply),
        Err(failure) => failure.into(),
    }
}

/// A watch that was refused.
pub(super) fn refused<T>(reply: &Reply) -> Answer<T> {
    Answer::Refused {
        status: reply.status,
        retry_after: reply.retry_after,
        why: reply.explanation(),
    }
}
