//! What is remembered of the Deployment: what it has looked like, and since when
//! without a change. A sleep is judged by that.

use super::config::Config;
use crate::clock::Time;
use crate::cluster::{LeaseToken, Scale};

/// Which part of a TTL may lie between two answers of the API server. If it was
/// out of reach for longer, it may have been so for all, and the lease of others
/// may have run out: they must have the time to renew. For up to half a
/// TTL none that was kept up has ([`Lease::renewal`], [`Lease::length`]).
///
/// [`Lease::renewal`]: super::lease::Lease::renewal
/// [`Lease::length`]: super::lease::Lease::length
pub(super) const LONGEST_GAP: u32 = 2;

/// How many polls must pass before a sleep once a request has failed. If the API
/// server was out of reach for all, somebody may have come under an old lease that
/// ran out meanwhile: his proxy, which asks at least every
/// [`LONGEST_PAUSE_WAITING`](super::config::LONGEST_PAUSE_WAITING), must have the time to
/// renew him.
const POLLS_AFTER_FAILURE: u32 = 2;

/// What the Deployment has looked like, without a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) replicas: u32,
    pub(super) lease_token: Option<LeaseToken>,
    /// When the answer came that showed it first. What it showed is older, so
    /// counting from here can only make a sleep come later.
    pub(super) since: Time,
    /// When the answer came that showed it last.
    pub(super) last: Time,
    /// Whether a request has failed since then.
    pub(super) interrupted: bool,
}

impl Seen {
    /// What the Deployment looks like now, and since when. A reply that does
    /// not show the last renewal says nothing about it. After a long time
    /// without an answer, it is as if seen for the first time; after a failure,
    /// as if seen no earlier than that a sleep is still some polls away.
    pub(super) fn after(before: Option<Seen>, scale: &Scale, config: &Config, now: Time) -> Seen {
        let Scale {
            replicas,
            lease_token,
            ..
        } = scale;
        let longest_gap = config.idle_ttl / LONGEST_GAP;
        let unchanged = before.as_ref().filter(|seen| {
            let same = lease_token.is_none() || seen.lease_token == *lease_token;
            same && seen.replicas == *replicas && now.since(seen.last) <= longest_gap
        });
        let earliest = now + config.poll() * POLLS_AFTER_FAILURE - config.idle_ttl;
        let since = unchanged.map_or(now, |seen| match seen.interrupted {
            true => seen.since.max(earliest),
            false => seen.since,
        });
        let lease_token = lease_token
            .clone()
            .or(before.and_then(|seen| seen.lease_token));
        Seen {
            replicas: *replicas,
            lease_token,
            since,
            last: now,
            interrupted: false,
        }
    }
}
