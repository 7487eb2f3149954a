//! [`answer`] converts the replies of the client for a watcher.

use super::list_watch::Answer;
use super::reply::{Failure, Reply};

/// The answer of a call whose reply has a body.
pub(super) fn answer(ended: Result<Reply, Failure>) -> Answer<Vec<u8>> {
    match ended {
        Ok(reply) if reply.is_success() => Answer::Ok(reply.body),
        Ok(reply) => refused(&reply),
        Err(failure) => failure.into(),
    }
}

/// The answer of a reply with a status other than 2xx.
pub(super) fn refused<T>(reply: &Reply) -> Answer<T> {
    Answer::Refused {
        status: reply.status,
        retry_after: reply.retry_after,
        why: reply.explanation(),
    }
}

impl<T> From<Failure> for Answer<T> {
    fn from(failure: Failure) -> Self {
        match failure.too_large {
            true => Answer::TooLarge(failure.text),
            false => Answer::Failed(failure.text),
        }
    }
}
