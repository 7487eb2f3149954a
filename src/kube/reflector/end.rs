//! How a round of listing and watching ends, and which replies end it.

use std::time::Duration;

use super::super::client::{Failure, Reply};
use super::super::text::printable;
use crate::cluster::Permission;

/// Why a round is over.
#[derive(Debug)]
pub(super) enum End {
    /// A new list is wanted, at once.
    Wanted,
    /// The server has said for how long to leave it alone.
    Later(Duration, String),
    /// Something went wrong: again after a backoff.
    Failed(String),
    /// We may not, or there is no such thing.
    Refused(Refused),
}

/// Why there is nothing to be had.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    /// The right that we lack, if that is it.
    pub(super) lacking: Option<Permission>,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        End::Failed(failure.text)
    }
}

/// The reply, if it is good, to a request that takes that right.
pub(super) fn checked(reply: Reply, permission: Permission) -> Result<Reply, End> {
    match reply.is_success() {
        true => Ok(reply),
        false => Err(refused(&reply, permission)),
    }
}

/// What follows from a reply that is none of the good ones.
pub(super) fn refused(reply: &Reply, permission: Permission) -> End {
    let why = reply.explanation();
    match (reply.status, reply.retry_after) {
        // Not 401: whose token is being replaced may have another one soon.
        (403 | 404, _) => {
            let lacking = (reply.status == 403).then_some(permission);
            End::Refused(Refused { why, lacking })
        }
        (_, Some(wait)) if !wait.is_zero() => End::Later(wait, why),
        _ => End::Failed(why),
    }
}

/// What the reply, or the line of a watch, says.
pub(super) fn parsed<'a, T: serde::Deserialize<'a>>(json: &'a [u8]) -> Result<T, End> {
    serde_json::from_slice(json).map_err(|cause| {
        End::Failed(format!(
            "not what was asked for: {}",
            printable(&cause.to_string())
        ))
    })
}
