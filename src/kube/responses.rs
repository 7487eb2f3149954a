//! [`answer`] converts the replies of the client for a watcher.

use super::reply::{Failure, Reply};
use super::watcher_io::Response;

/// The answer of a call whose reply has a body.
pub(super) fn answer(ended: Result<Reply, Failure>) -> Response<Vec<u8>> {
    match ended {
        Ok(reply) if reply.is_success() => Response::Ok(reply.body),
        Ok(reply) => refused(&reply),
        Err(failure) => failure.into(),
    }
}

/// The answer of a reply with a status other than 2xx.
pub(super) fn refused<T>(reply: &Reply) -> Response<T> {
    Response::Status {
        status: reply.status,
        retry_after: reply.retry_after,
        why: reply.explanation(),
    }
}

impl<T> From<Failure> for Response<T> {
    fn from(failure: Failure) -> Self {
        match failure.too_large {
            true => Response::TooLarge(failure.text),
            false => Response::Failed(failure.text),
        }
    }
}
