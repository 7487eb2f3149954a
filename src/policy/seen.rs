//! [`Seen`]: the last state of the scale target, and since when it shows no use of the app. A sleep
//! depends on that.

use std::time::Duration;

use super::config::{Config, MAX_PAUSE_WAITING};
use crate::clock::Time;
use crate::cluster::{LeaseToken, ResourceVersion, Scale};

/// The largest gap between two replies, as a fraction of the TTL. If the API server was out of
/// reach for longer, it may have been so for all proxies, and their leases may have expired:
/// they must have time to renew them. Within half a TTL no lease expires that was renewed in
/// time ([`Lease::renew_interval`], [`Lease::duration`]).
///
/// [`Lease::renew_interval`]: super::lease::Lease::renew_interval
/// [`Lease::duration`]: super::lease::Lease::duration
pub(super) const MAX_GAP: u32 = 2;

/// The number of polls between a failed request and a sleep. If the API server was out of
/// reach for all proxies, another proxy may have got a connection under a lease that has
/// expired meanwhile. That proxy tries at least every
/// [`MAX_PAUSE_WAITING`](super::config::MAX_PAUSE_WAITING), and must have time to renew
/// it.
pub(super) const POLLS_AFTER_FAILURE: u32 = 2;

/// The time between an outage of the API server and a sleep at least, even where the TTL is
/// shorter: the other proxies, whose TTLs may be longer, try to renew at least every
/// [`MAX_PAUSE_WAITING`].
const AFTER_OUTAGE: Duration = MAX_PAUSE_WAITING.saturating_mul(2);

/// How long a TTL that differs from this proxy's is remembered after it was last seen, in
/// multiples of the longer one: renewals of a longer lease may be hidden for a while by those
/// of a proxy with a shorter TTL.
const TTLS_REMEMBERED: u32 = 2;

/// How often, within the shorter TTL of another proxy, the scale target is read and a hidden
/// lease is renewed.
pub(super) const RENEWALS_PER_SHORTER_TTL: u32 = 2;

/// The most leases that are remembered. If there are more, two become one with the longer TTL
/// and the later end.
const MAX_LEASES: usize = 4;

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
    /// The state after a reply. `is_final`: it is the reply to a final renewal, whose guard
    /// shows that no other renewal has come between.
    ///
    /// A change of the replicas is a sign of use only if they were or become zero: an HPA
    /// scales by the load of the pods, with or without connections. A reply without the lease
    /// shows nothing about it; a lease with the same token was not renewed meanwhile. After a
    /// long time without a reply, the state counts as new. After a failure, `since` is moved
    /// so that a sleep is still some polls away.
    pub(super) fn after(
        before: Option<Seen>,
        scale: &Scale,
        is_final: bool,
        config: &Config,
        now: Time,
    ) -> Seen {
        let longest_gap = config.idle_ttl / MAX_GAP;
        let is_gap = |seen: &Seen| now.since(seen.last) > longest_gap;
        let after = |pause| now + pause - config.idle_ttl;
        let since = match &before {
            Some(seen) if is_gap(seen) => now.max(after(AFTER_OUTAGE)),
            Some(seen) if !seen.is_unused(scale, is_final, config) => now,
            Some(seen) if seen.interrupted => {
                seen.since.max(after(config.poll() * POLLS_AFTER_FAILURE))
            }
            Some(seen) => seen.since,
            None => now,
        };
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
    fn is_unused(&self, scale: &Scale, is_final: bool, config: &Config) -> bool {
        let token = &scale.lease_token;
        let same = token.is_none() || is_final || config.single || self.lease_token == *token;
        same && (self.replicas > 0) == (scale.replicas > 0)
    }
}

/// A TTL that was seen in a renewal, and until when that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SeenTtl {
    pub(super) ttl: Duration,
    pub(super) until: Time,
}

impl SeenTtl {
    /// Seen now, and remembered for twice the longer TTL.
    pub(super) fn new(ttl: Duration, longer: Duration, now: Time) -> Self {
        let until = now + longer.saturating_mul(TTLS_REMEMBERED);
        SeenTtl { ttl, until }
    }
}

/// The leases longer than this proxy's TTL that were seen lately, of any proxy.
///
/// The object shows the last renewal alone, so that each one is remembered for twice its
/// length. Of two, the one that is shorter and forgotten sooner makes no difference and
/// is left out: the longest comes first, and is forgotten first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LongerLeases {
    pub(super) seen: Vec<SeenTtl>,
}

impl LongerLeases {
    /// A renewal of a lease of that length was seen.
    pub(super) fn renewed(&mut self, ttl: Duration, now: Time) {
        let renewed = SeenTtl::new(ttl, ttl, now);
        let is_longer = |lease: &SeenTtl| lease.until > now && lease.ttl > ttl;
        self.seen.retain(is_longer);
        if self.seen.iter().all(|lease| lease.until < renewed.until) {
            self.seen.push(renewed);
        }
        if self.seen.len() > MAX_LEASES
            && let Some(shortest) = self.seen.pop()
            && let Some(last) = self.seen.last_mut()
        {
            last.until = shortest.until;
        }
    }

    /// When the app has been unused for so long since then that no such lease can be
    /// in force.
    pub(super) fn end(&self, unused_since: Time) -> Time {
        let ends = self.seen.iter();
        let ends = ends.map(|lease| (unused_since + lease.ttl).min(lease.until));
        ends.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    /// What was seen of leases: how long, and when.
    fn seen(renewals: &[(u64, u64)]) -> LongerLeases {
        let mut leases = LongerLeases::default();
        for &(ttl, second) in renewals {
            leases.renewed(Duration::from_secs(ttl), at(second));
        }
        leases
    }

    #[test]
    fn each_lease_is_respected_for_twice_its_length_after_its_last_renewal() {
        for (label, renewals, unused_since, end) in [
            ("none was seen", &[][..], 120, 0),
            ("from the last sign of use", &[(30, 100)], 120, 150),
            ("for 60 s at most", &[(30, 100)], 140, 160),
            ("renewed", &[(30, 100), (30, 150)], 160, 190),
            ("a shorter one before", &[(3, 100), (30, 101)], 120, 150),
            ("a shorter one after", &[(30, 100), (3, 110)], 120, 150),
            (
                "the longest is forgotten first",
                &[(300, 0), (100, 590)],
                600,
                700,
            ),
            (
                "and was the longest until then",
                &[(300, 0), (100, 590)],
                490,
                600,
            ),
            (
                "which a shorter one that was seen before is not",
                &[(100, 0), (300, 1)],
                500,
                601,
            ),
        ] {
            assert_eq!(seen(renewals).end(at(unused_since)), at(end), "{label}");
        }
    }

    #[test]
    fn many_ttls_take_bounded_memory_and_none_of_them_ends_too_early() {
        let renewals: Vec<_> = (0..100).map(|n| (10_000 - n * 50, n * 120)).collect();
        let leases = seen(&renewals);
        assert_eq!(leases.seen.len(), MAX_LEASES);
        for (ttl, second) in renewals {
            let unused_since = second + 1;
            assert!(
                leases.end(at(unused_since)) >= at(unused_since + ttl),
                "{ttl}"
            );
        }
    }
}
