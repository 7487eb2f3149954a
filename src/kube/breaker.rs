//! A [`Breaker`] is a circuit breaker between all apps and the API server, as a pure state
//! machine: while the server fails, few requests are sent, whatever the number of apps.
//!
//! Each app tries again by itself, after pauses of its own. In an outage 500 apps would make
//! 17 requests a second together, and 100 a second if each had connections. So the breaker
//! *opens* once the requests of two apps have failed and none was answered between: then
//! requests get that failure for an answer without being sent. One request after each pause is
//! sent all the same, and the first answer closes the breaker. Requests that connections depend
//! on have pauses of their own, shorter ones, so that an app that is woken finds out by itself,
//! and for all, that the server is back; neither kind moves the pause of the other.
//!
//! An app that fails while others are answered is in trouble of its own, such as a webhook that
//! is down for its object, or an API of its kind that is not served. Until it is answered, its
//! failures neither open the breaker nor make a pause longer. A refusal (403) is an answer.

use std::collections::BTreeSet;
use std::time::Duration;

use super::reply::{Failure, Reply};
use super::scale_target::CallResult;
use super::scheduler::AppKey;
use crate::backoff::Backoff;
use crate::clock::Time;

/// The longest pause between two routine requests, also if the server asks for a longer one:
/// the app that it has asked keeps to that.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The pause between two that connections depend on.
const PAUSE_DEPENDED_ON: Duration = Duration::from_millis(100);

/// The pause after the failure of an app in trouble of its own.
const PAUSE_TROUBLED: Duration = Duration::from_secs(1);

/// How many apps must fail.
const ENOUGH: usize = 2;

/// The circuit breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    /// The apps whose last request has failed since the last answer.
    failed: BTreeSet<AppKey>,
    /// The apps whose last request has failed while others were answered.
    troubled: BTreeSet<AppKey>,
    open: Option<Open>,
    backoff: Backoff,
}

/// The state of a breaker that is open.
#[derive(Debug)]
struct Open {
    why: String,
    /// When the next request is sent that no connection depends on.
    next: Time,
    /// When the next one is sent that connections depend on.
    next_depended_on: Time,
}

/// The fault of the API server that an answer shows.
struct Fault {
    why: String,
    retry_after: Duration,
}

impl Breaker {
    /// A closed breaker. `seed` determines the jitter of the pauses.
    pub(super) fn new(seed: u64) -> Breaker {
        Breaker {
            failed: BTreeSet::new(),
            troubled: BTreeSet::new(),
            open: None,
            backoff: Backoff::new(seed),
        }
    }

    /// Whether a request is to be sent now. If so, the next one of its kind comes after a pause.
    /// `is_depended_on`: connections depend on it.
    ///
    /// # Errors
    /// What it fails with instead.
    pub(super) fn admit(&mut self, is_depended_on: bool, now: Time) -> Result<(), Failure> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        // Until it is answered, or has failed.
        let (next, pause) = match is_depended_on {
            true => (&mut open.next_depended_on, PAUSE_DEPENDED_ON),
            false => (&mut open.next, MAX_PAUSE),
        };
        if now < *next {
            let why = &open.why;
            let text = format!("not tried, because the requests of other apps fail: {why}");
            return Err(Failure::unsent(&text));
        }
        *next = now + pause;
        Ok(())
    }

    /// A request of an app, which was sent, has come to this.
    pub(super) fn answered(
        &mut self,
        app: AppKey,
        is_depended_on: bool,
        answer: &CallResult,
        now: Time,
    ) {
        let Some(fault) = fault(answer) else {
            return self.close(app);
        };
        let is_new = !self.troubled.contains(&app);
        if is_new {
            self.failed.insert(app);
        }
        if self.open.is_none() && is_new && self.failed.len() >= ENOUGH {
            self.open = Some(Open {
                why: String::new(),
                next: now + self.backoff.pause(MAX_PAUSE),
                next_depended_on: now + PAUSE_DEPENDED_ON,
            });
        }
        if let Some(open) = &mut self.open {
            open.why = fault.why;
            let retry_after = fault.retry_after.min(MAX_PAUSE);
            match (is_depended_on, is_new) {
                (true, _) => open.next_depended_on = now + PAUSE_DEPENDED_ON.max(retry_after),
                (false, true) => open.next = now + self.backoff.pause(MAX_PAUSE).max(retry_after),
                (false, false) => open.next = now + PAUSE_TROUBLED,
            }
        }
    }

    /// The request of an app was answered: those that have failed before are in trouble of
    /// their own, as far as it is known.
    fn close(&mut self, app: AppKey) {
        self.troubled.append(&mut self.failed);
        self.troubled.remove(&app);
        self.open = None;
        self.backoff.reset();
    }

    /// Forgets an app.
    pub(super) fn remove(&mut self, app: AppKey) {
        self.failed.remove(&app);
        self.troubled.remove(&app);
    }
}

/// The fault of the API server that an answer shows. A token that is refused (401) is refused
/// for all apps.
fn fault(answer: &CallResult) -> Option<Fault> {
    match answer {
        Err(Failure { text, .. }) => Some(Fault {
            why: text.clone(),
            retry_after: Duration::ZERO,
        }),
        Ok(reply) if matches!(reply.status, 401 | 429 | 500..=599) => Some(Fault {
            why: Reply::explanation(reply),
            retry_after: reply.retry_after.unwrap_or_default(),
        }),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests;
