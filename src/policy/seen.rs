//! What is remembered of the scale target: what it has looked like, and since when
//! without a sign of use. A sleep is judged by that.

use std::time::Duration;

use super::config::Config;
use crate::clock::Time;
use crate::cluster::{LeaseToken, ResourceVersion, Scale};

/// Which part of a TTL may lie between two answers of the API server. If the API
/// server was out of reach for longer, it may have been so for all, and the leases
/// of others may have run out: they must have the time to renew. For up to half a
/// TTL no lease that was kept up has ([`Lease::renewal`], [`Lease::length`]).
///
/// [`Lease::renewal`]: super::lease::Lease::renewal
/// [`Lease::length`]: super::lease::Lease::length
pub(super) const LONGEST_GAP: u32 = 2;

/// How many polls must pass before a sleep once a request has failed. If the API
/// server was out of reach for all, a connection may have come to another proxy under
/// a lease that ran out meanwhile: that proxy, which asks at least every
/// [`LONGEST_PAUSE_WAITING`](super::config::LONGEST_PAUSE_WAITING), must have the time
/// to renew it.
pub(super) const POLLS_AFTER_FAILURE: u32 = 2;

/// For how many times its own length the longest lease is respected after it was
/// last renewed: a renewal may be hidden by those of a proxy with a shorter TTL.
const LEASES_REMEMBERED: u32 = 2;

/// What the scale target has looked like, without a sign of use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) replicas: u32,
    /// The version that has shown it last.
    pub(super) version: ResourceVersion,
    pub(super) lease_token: Option<LeaseToken>,
    /// When the answer or the event came that showed it first. What it showed is
    /// older, so counting from here can only make a sleep come later.
    pub(super) since: Time,
    /// When the answer came that showed it last. An event of a watch moves it only
    /// together with `since`: it may have been on its way for long, and a bookmark comes
    /// though etcd, and with it every renewal, is out of reach.
    pub(super) last: Time,
    /// Whether a request has failed since then.
    pub(super) interrupted: bool,
}

impl Seen {
    /// What the scale target looks like by an answer, and since when. `is_ours` says that
    /// the reply is to a guarded renewal of our own, which no other renewal can have
    /// come before.
    ///
    /// A number of replicas that changes is a sign of use only if it was or becomes
    /// zero: an HPA takes its steps by the load of the pods, connections or not. A reply
    /// that does not show the lease says nothing about it; a lease that is the same when
    /// it is seen again was not renewed meanwhile. After a long time without an answer,
    /// it is as if seen for the first time; after a failure, as if seen no earlier than
    /// that a sleep is still some polls away.
    pub(super) fn after(
        before: Option<Seen>,
        scale: &Scale,
        is_ours: bool,
        config: &Config,
        now: Time,
    ) -> Seen {
        let longest_gap = config.idle_ttl / LONGEST_GAP;
        let unchanged = before.as_ref().filter(|seen| {
            seen.is_unused(scale, is_ours, config) && now.since(seen.last) <= longest_gap
        });
        let earliest = now + config.poll() * POLLS_AFTER_FAILURE - config.idle_ttl;
        let since = unchanged.map_or(now, |seen| {
            if seen.interrupted {
                seen.since.max(earliest)
            } else {
                seen.since
            }
        });
        Seen {
            since,
            ..Seen::first(before, scale, now)
        }
    }

    /// What it looks like by an event of a watch, and since when: the same, but that no
    /// event proves that the API server is within reach.
    pub(super) fn after_event(
        before: Option<Seen>,
        scale: &Scale,
        config: &Config,
        now: Time,
    ) -> Seen {
        let unchanged = before
            .as_ref()
            .filter(|seen| seen.is_unused(scale, false, config));
        let (since, last, interrupted) = match unchanged {
            Some(seen) => (seen.since, seen.last, seen.interrupted),
            None => (now, now, false),
        };
        Seen {
            since,
            last,
            interrupted,
            ..Seen::first(before, scale, now)
        }
    }

    /// Seen now, and never like this before.
    fn first(before: Option<Seen>, scale: &Scale, now: Time) -> Seen {
        let lease_token = scale.lease_token.clone();
        Seen {
            replicas: scale.replicas,
            version: scale.version.clone(),
            lease_token: lease_token.or(before.and_then(|seen| seen.lease_token)),
            since: now,
            last: now,
            interrupted: false,
        }
    }

    /// Whether `scale` shows no sign of use since then.
    fn is_unused(&self, scale: &Scale, is_ours: bool, config: &Config) -> bool {
        let token = &scale.lease_token;
        let same = token.is_none() || is_ours || config.single || self.lease_token == *token;
        same && (self.replicas > 0) == (scale.replicas > 0)
    }
}

/// The longest lease that was seen lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LongestLease {
    ttl: Duration,
    until: Time,
}

impl LongestLease {
    /// The longer of the two: what was `before`, if it is respected still, or that of
    /// a renewal that was seen just now.
    pub(super) fn after(before: Option<Self>, ttl: Duration, now: Time) -> Self {
        let renewed = LongestLease {
            ttl,
            until: now + ttl.saturating_mul(LEASES_REMEMBERED),
        };
        let before = before.filter(|longest| longest.until > now && longest.ttl > ttl);
        before.unwrap_or(renewed)
    }

    /// When the app has been unused for so long since then that no such lease can be
    /// in force.
    pub(super) fn ends(&self, unused_since: Time) -> Time {
        (unused_since + self.ttl).min(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_lease_is_respected_for_twice_its_length_after_its_last_renewal() {
        let at = |seconds| Time::new(Duration::from_secs(seconds));
        let seconds = Duration::from_secs;
        let long = LongestLease::after(None, seconds(30), at(100));
        let both = LongestLease::after(Some(long), seconds(3), at(110));
        assert_eq!(both.ends(at(120)), at(150));
        assert_eq!(both.ends(at(140)), at(160));
        let later = LongestLease::after(Some(both), seconds(3), at(160));
        assert_eq!(later.ends(at(160)), at(163));
        let renewed = LongestLease::after(Some(both), seconds(30), at(150));
        assert_eq!(renewed.ends(at(160)), at(190));
    }
}
