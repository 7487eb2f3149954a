//! The faults that a test orders: for which requests, how often, and what goes wrong.

use std::time::Duration;

use serde_json::json;

use super::access::{Target, matches};
use super::api::unauthorized;
use super::http::{Reply, Request};
use super::state::LoggedRequest;

/// Which requests: by verb and resource in the words of RBAC, with `*` for
/// any, and by whatever else a test asks for.
pub struct Pattern {
    verb: String,
    resource: String,
    also: Option<Condition>,
}

/// What else a request must be for a [`Pattern`].
type Condition = Box<dyn Fn(&LoggedRequest) -> bool + Send>;

/// Requests of that verb (`get`, `list`, `watch`, `patch`, `create`) on that
/// resource (`deployments/scale`, `endpointslices`, …); `*` is any.
pub fn on(verb: &str, resource: &str) -> Pattern {
    Pattern {
        verb: verb.to_owned(),
        resource: resource.to_owned(),
        also: None,
    }
}

/// Every request.
pub fn anything() -> Pattern {
    on("*", "*")
}

impl Pattern {
    /// Only those of which `also` is true.
    pub fn with(mut self, also: impl Fn(&LoggedRequest) -> bool + Send + 'static) -> Pattern {
        self.also = Some(Box::new(also));
        self
    }

    /// Whether the request is one of those meant.
    pub fn is(&self, exchange: &LoggedRequest) -> bool {
        matches(&self.verb, exchange.verb)
            && matches(&self.resource, &exchange.resource)
            && self.also.as_ref().is_none_or(|also| also(exchange))
    }
}

/// How often, counted over the requests that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Each one, until healed.
    Always,
    /// The first `n`.
    First(u32),
    /// The `n`-th only, counted from 1.
    Nth(u32),
}

impl Times {
    fn includes(self, count: u32) -> bool {
        match self {
            Times::Always => true,
            Times::First(n) => count <= n,
            Times::Nth(n) => count == n,
        }
    }
}

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It is read, and nothing ever comes back. It is not applied.
    Hang,
    /// It is applied at once, the reply comes that much later.
    Delay(Duration),
    /// It is applied and answered that much later, even if the client has
    /// gone by then.
    ApplyAfter(Duration),
    /// The same, as a real API server does it: it is not applied if the
    /// client has gone by then.
    AbortableDelay(Duration),
    /// It is applied; the connection is closed in place of a reply.
    LoseReply,
    /// It is not applied; the connection is reset in place of a reply.
    Reset,
    /// It is not applied, but refused with this status (401, 403, 409, 410,
    /// 429, 500, 503, …) and, if given, a Retry-After in seconds.
    Refuse(u16, Option<u32>),
    /// It is answered 302, to the address given.
    Redirect(String),
    /// It is a watch, begins as usual, and is then given this order.
    Watch(WatchFault),
}

/// The orders for a watch; see `Sandbox::order_watches`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// Half an event, then the end of the connection.
    CutInLine,
    /// Half an event that stops within a UTF-8 character, then the end of the
    /// connection.
    CutInCharacter,
    /// The clean end of the stream, as at its time-out but for the BOOKMARK.
    End,
    /// A line of that many bytes, and on as if nothing had been.
    LongLine(usize),
    /// Nothing is sent any more, and the connection stays open.
    Freeze,
    /// An ERROR event that says 410 (too old: `asked`, for `oldest` is the
    /// oldest that is known), then the clean end.
    Expire { asked: u64, oldest: u64 },
    /// A line that is not JSON, and on.
    Garbage,
}

impl WatchFault {
    /// Everything that breaks a watch in a way that its reader notices at once.
    pub const BREAKS: [WatchFault; 5] = [
        WatchFault::CutInLine,
        WatchFault::CutInCharacter,
        WatchFault::End,
        WatchFault::LongLine(10 << 20),
        WatchFault::Garbage,
    ];
}

/// A fault that waits for its requests.
struct Fault {
    id: u64,
    pattern: Pattern,
    times: Times,
    seen: u32,
    what: Misbehaviour,
}

/// All faults, the oldest first.
#[derive(Default)]
pub struct Faults {
    next_id: u64,
    faults: Vec<Fault>,
}

impl Faults {
    /// Adds one; the number is for [`Faults::remove`].
    pub fn add(&mut self, pattern: Pattern, times: Times, what: Misbehaviour) -> u64 {
        self.next_id += 1;
        self.faults.push(Fault {
            id: self.next_id,
            pattern,
            times,
            seen: 0,
            what,
        });
        self.next_id
    }

    /// Removes one.
    pub fn remove(&mut self, id: u64) {
        self.faults.retain(|fault| fault.id != id);
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.faults.clear();
    }

    /// What happens to this request: the first fault that is due. All faults
    /// that match count it.
    pub fn strike(&mut self, exchange: &LoggedRequest) -> Option<Misbehaviour> {
        let mut struck = None;
        for fault in self
            .faults
            .iter_mut()
            .filter(|fault| fault.pattern.is(exchange))
        {
            fault.seen += 1;
            if struck.is_none() && fault.times.includes(fault.seen) {
                struck = Some(fault.what.clone());
            }
        }
        struck
    }
}

/// The reply with which a request is refused.
pub fn refusal(
    status: u16,
    retry_after: Option<u32>,
    request: &Request,
    access: &super::access::Access,
) -> Reply {
    let reply = match (status, Target::of(request)) {
        (401, _) => unauthorized(),
        (403, Some(target)) => target.forbidden(access),
        (404, Some(target)) => target.not_found(),
        (409, Some(target)) => target.conflict(),
        (410, _) => Reply::failure(410, "Expired", "too old resource version: 1 (2)", None),
        // Priority and fairness says this in plain text.
        (429, _) => Reply {
            status,
            headers: vec![("Content-Type", "text/plain; charset=utf-8".to_owned())],
            body: "Too many requests, please try again later.\n".to_owned(),
        },
        (503, _) => {
            let message = "the server is currently unable to handle the request";
            Reply::failure(503, "ServiceUnavailable", message, None)
        }
        (504, _) => {
            let details = json!({ "retryAfterSeconds": retry_after });
            Reply::failure(
                504,
                "Timeout",
                "request did not complete in time",
                Some(details),
            )
        }
        (status, _) => {
            let message = "Internal error occurred: etcdserver: leader changed";
            Reply::failure(status, "InternalError", message, None)
        }
    };
    match retry_after {
        Some(seconds) => reply.with("Retry-After", seconds.to_string()),
        None => reply,
    }
}
