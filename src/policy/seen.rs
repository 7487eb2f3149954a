//! [`Seen`]: the last state of the scale target, and since when it has shown no sign of use.
//! A sleep depends on that.

use std::time::Duration;

use super::config::Config;
use crate::clock::Time;
use crate::cluster::{LeaseToken, ResourceVersion, Scale};

/// The largest gap between two replies, as a fraction of the TTL. If the API server was out of
/// reach for longer, it may have been so for all proxies, and their leases may have expired:
/// they must have time to renew them. Within half a TTL no lease expires that was renewed in
/// time ([`Lease::renewal`], [`Lease::length`]).
///
/// [`Lease::renewal`]: super::lease::Lease::renewal
/// [`Lease::length`]: super::lease::Lease::length
pub(super) const LONGEST_GAP: u32 = 2;

/// The number of polls between a failed request and a sleep. If the API server was out of
/// reach for all proxies, another proxy may have got a connection under a lease that has
/// expired meanwhile. That proxy tries at least every
/// [`LONGEST_PAUSE_WAITING`](super::config::LONGEST_PAUSE_WAITING), and must have time to renew
/// it.
pub(super) const POLLS_AFTER_FAILURE: u32 = 2;

/// How long the longest lease is respected after it was last renewed, in multiples of its
/// duration: its renewals may be replaced by those of a proxy with a shorter TTL.
const LEASES_REMEMBERED: u32 = 2;

/// A state of the scale target, unchanged since a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) replicas: u32,
    /// The version of the last reply or event that has shown it.
    pub(super) version: ResourceVersion,
    pub(super) lease_token: Option<LeaseToken>,
    /// When the first reply or event that has shown it came. The state itself is older, so
    /// counting from here can only delay a sleep.
    pub(super) since: Time,
    /// When the last reply that has shown it came. An event of a watch changes it only
    /// together with `since`: an event may be late, and bookmarks come even while etcd is out
    /// of reach and no renewal succeeds.
    pub(super) last: Time,
    /// Whether a request has failed since then.
    pub(super) interrupted: bool,
}

impl Seen {
    /// The state after a reply. `is_ours`: the reply belongs to a guarded renewal of this
    /// proxy, so that no other renewal can have come between.
    ///
    /// A change of the replicas is a sign of use only if they were or become zero: an HPA
    /// scales by the load of the pods, with or without connections. A reply without the lease
    /// shows nothing about it; a lease with the same token was not renewed meanwhile. After a
    /// long time without a reply, the state counts as new. After a failure, `since` is moved
    /// so that a sleep is still some polls away.
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

    /// The state after an event of a watch: the same, except that an event does not prove that
    /// the API server is within reach.
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

    /// A state that is new now.
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

    /// Whether `scale` shows no sign of use since `since`.
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
    /// The longer lease: `before`, if it is still respected, or that of a renewal that was
    /// just seen.
    pub(super) fn after(before: Option<Self>, ttl: Duration, now: Time) -> Self {
        let renewed = LongestLease {
            ttl,
            until: now + ttl.saturating_mul(LEASES_REMEMBERED),
        };
        let before = before.filter(|longest| longest.until > now && longest.ttl > ttl);
        before.unwrap_or(renewed)
    }

    /// The time after `since` from which on no such lease can be in force.
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
