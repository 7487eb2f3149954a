//! [`Requests`] counts the requests to the API server by verb and result.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::metrics::Histogram;

/// The verb of a request, as RBAC names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object.
    Get,
    /// All objects of a kind.
    List,
    /// Every change from now on.
    Watch,
    /// A change.
    Patch,
    /// A new object.
    Create,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// 2xx.
    Ok,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 429.
    Busy,
    /// Any other status.
    Error,
    /// Nothing, though some of the request may have arrived.
    NoReply,
    /// Nothing, and nothing of it was sent.
    Unreachable,
}

const VERBS: [(Verb, &str); 5] = [
    (Verb::Get, "get"),
    (Verb::List, "list"),
    (Verb::Watch, "watch"),
    (Verb::Patch, "patch"),
    (Verb::Create, "create"),
];

const REACTIONS: [(Reaction, &str); 9] = [
    (Reaction::Ok, "ok"),
    (Reaction::Unauthorized, "unauthorized"),
    (Reaction::Forbidden, "forbidden"),
    (Reaction::NotFound, "not_found"),
    (Reaction::Conflict, "conflict"),
    (Reaction::Busy, "busy"),
    (Reaction::Error, "error"),
    (Reaction::NoReply, "no_reply"),
    (Reaction::Unreachable, "unreachable"),
];

impl Reaction {
    /// What a reply with that status is.
    pub(super) fn to(status: u16) -> Reaction {
        match status {
            200..=299 => Reaction::Ok,
            401 => Reaction::Unauthorized,
            403 => Reaction::Forbidden,
            404 => Reaction::NotFound,
            409 => Reaction::Conflict,
            429 => Reaction::Busy,
            _ => Reaction::Error,
        }
    }
}

/// The requests since the start, of all threads: each one that went out, those
/// included that were repeated with a new token or on a new connection.
#[derive(Debug, Default)]
pub struct Requests {
    counts: [[AtomicU64; REACTIONS.len()]; VERBS.len()],
    /// The durations up to the head of the reply, of the requests that had one.
    replies: Mutex<[Histogram; VERBS.len()]>,
}

impl Requests {
    pub(super) fn count(&self, verb: Verb, reaction: Reaction, took: Duration) {
        self.counts[verb as usize][reaction as usize].fetch_add(1, Relaxed);
        if !matches!(reaction, Reaction::NoReply | Reaction::Unreachable) {
            let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
            replies[verb as usize].observe(took);
        }
    }

    /// How long the API server took for the head of its reply, by the name of the verb.
    pub fn replies(&self) -> Vec<([&'static str; 1], Histogram)> {
        let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(verb, name): (Verb, &'static str)| ([name], replies[verb as usize].clone());
        VERBS.into_iter().map(of).collect()
    }

    /// How many there were, by the names of verb and reaction.
    pub fn read(&self) -> Vec<([&'static str; 2], u64)> {
        let read = |(verb, of_verb): (Verb, &'static str)| {
            REACTIONS.map(|(reaction, name)| {
                let count = &self.counts[verb as usize][reaction as usize];
                ([of_verb, name], count.load(Relaxed))
            })
        };
        VERBS.into_iter().flat_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_every_reaction_stands_at_its_own_place() {
        assert!(
            VERBS
                .iter()
                .enumerate()
                .all(|(at, (verb, _))| *verb as usize == at)
        );
        let placed = |(at, (reaction, _)): (usize, &(Reaction, _))| *reaction as usize == at;
        assert!(REACTIONS.iter().enumerate().all(placed));
    }

    #[test]
    fn what_was_counted_is_read_under_its_names() {
        let requests = Requests::default();
        let took = Duration::from_millis(3);
        requests.count(Verb::Watch, Reaction::to(200), took);
        requests.count(Verb::Patch, Reaction::to(409), took);
        requests.count(Verb::Patch, Reaction::to(409), took);
        let counted: Vec<_> = requests
            .read()
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect();
        assert_eq!(counted, [(["watch", "ok"], 1), (["patch", "conflict"], 2)]);
        assert_eq!(
            requests.read().len(),
            45,
            "zeros too, so that rates begin at zero"
        );
        requests.count(Verb::Patch, Reaction::NoReply, took);
        let replies = requests.replies();
        let sums: Vec<_> = replies
            .iter()
            .map(|(name, it)| (name[0], it.sum()))
            .collect();
        let none = Duration::ZERO;
        assert_eq!(
            sums,
            [
                ("get", none),
                ("list", none),
                ("watch", took),
                ("patch", took * 2),
                ("create", none)
            ],
            "what had no reply took no time for one"
        );
    }
}
