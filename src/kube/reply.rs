//! The result of a call to the API server: a [`Reply`] with its complete body, or a [`Failure`].

use std::io::Read;
use std::time::Duration;

use ureq::Body;
use ureq::http::Response;
use ureq::http::header::RETRY_AFTER;

use super::objects::Status;
use super::text::printable;

/// The largest body of a reply that reports an error, in bytes.
pub(super) const ERROR_BODY: u64 = 64 * 1024;
/// The longest `Retry-After` that is accepted.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A reply with its complete body.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// A 404 that is made here, for an object that was looked for and not found.
    pub(super) fn not_found(why: &str) -> Reply {
        Reply {
            status: 404,
            retry_after: None,
            body: serde_json::json!({ "message": why }).to_string().into(),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The status and the message of the server, in printable characters.
    pub(super) fn explanation(&self) -> String {
        let status: Status = serde_json::from_slice(&self.body).unwrap_or_default();
        Status {
            code: Some(self.status),
            ..status
        }
        .explanation()
    }
}

/// The failure of a call without a reply.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether some of the request may have reached the server.
    pub(super) sent: bool,
    /// Whether it was sent on a connection from the pool that the server had closed.
    pub(super) stale: bool,
    /// Whether the body of a successful reply was larger than allowed.
    pub(super) too_large: bool,
    /// The reason.
    pub(super) text: String,
}

impl Failure {
    /// The failure of a request that was not sent.
    pub(super) fn unsent(why: &str) -> Self {
        Failure {
            sent: false,
            stale: false,
            too_large: false,
            text: printable(why),
        }
    }

    /// The failure of a request whose reply cannot be parsed.
    pub(super) fn malformed(why: &str) -> Self {
        Failure {
            sent: true,
            stale: false,
            too_large: false,
            text: printable(why),
        }
    }
}

pub(super) fn whole(reply: Response<Body>, cap: u64) -> Result<Reply, Failure> {
    let status = reply.status().as_u16();
    let retry_after = retry_after(&reply);
    let success = reply.status().is_success();
    let cap = if success { cap } else { ERROR_BODY };
    let body = reply.into_body().into_with_config().limit(cap).reader();
    match read_all(body) {
        Ok(body) => Ok(Reply {
            status,
            retry_after,
            body,
        }),
        // Without a body, the status is enough.
        Err(_) if !success => Ok(Reply {
            status,
            retry_after,
            body: Vec::new(),
        }),
        Err(cause) => Err(Failure {
            sent: true,
            stale: false,
            too_large: is_too_large(&cause),
            text: printable(&cause.to_string()),
        }),
    }
}

fn read_all(mut body: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `Retry-After` in seconds, as the API server sends it; a date is ignored.
pub(super) fn retry_after(reply: &Response<Body>) -> Option<Duration> {
    let value = reply.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Whether a body has met the limit that [`whole`] has set.
fn is_too_large(cause: &std::io::Error) -> bool {
    let inner = cause.get_ref();
    let inner = inner.and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::BodyExceedsLimit(_)))
}
