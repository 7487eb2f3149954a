//! [`RefusalClock`]: whether the refusal of a permission is confirmed, so that the permission
//! counts as missing.
//!
//! One 403 is no proof: an API server that has just started answers 403 to everything until it
//! has read the roles. The policy, the reflectors and the readiness have one rule: a refusal is
//! confirmed once every request that needs the permission was refused for [`CONFIRMED_AFTER`],
//! counted from the first refusal to the last. The time begins again with
//!
//! - *a grant*: the request was executed, or failed because of the object (404, 409), which the
//!   API server examines after the permission;
//! - *an interruption*: the request had no reply, or one that says nothing about the permission,
//!   such as 401, 429 or 503. The next refusal may come from a server that has just started;
//! - *a gap* of more than [`MAX_GAP`] between two refusals: the server may have restarted
//!   meanwhile. So a request is repeated after [`MAX_PAUSE`] at most.
//!
//! Only replies to requests that need the permission count: other requests that fail do not
//! keep its refusal from being confirmed.
//!
//! Only a grant ends a confirmed refusal, not an interruption or a gap: the permission is tried
//! rarely then.

use std::time::Duration;

use crate::clock::Time;

/// How long a permission must be refused until it counts as missing.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(30);

/// The longest time between two refusals, in fractions of [`CONFIRMED_AFTER`]: 15 s. Two that
/// are further apart may be those of two starts of the API server.
pub const MAX_GAP: u32 = 2;

/// The longest pause before a refused request is made again, while the refusal is not
/// confirmed: a reply may be 5 s late before the gap is too long.
pub const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What the replies have shown of one permission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RefusalClock {
    /// It was granted, or not needed yet.
    #[default]
    Granted,
    /// It is refused, and does not count as missing yet.
    Unconfirmed {
        /// The first refusal in a row.
        since: Time,
        /// The last one.
        last: Time,
    },
    /// It counts as missing.
    Confirmed {
        /// The first refusal in a row.
        since: Time,
    },
}

impl RefusalClock {
    /// A request was refused; returns whether the permission counts as missing now.
    /// `confirmed_after` is [`CONFIRMED_AFTER`], except in a model of shorter times.
    pub fn refused(&mut self, confirmed_after: Duration, now: Time) -> bool {
        let since = match *self {
            RefusalClock::Confirmed { since } => since,
            RefusalClock::Unconfirmed { since, .. } if !self.is_stale(confirmed_after, now) => {
                since
            }
            _ => now,
        };
        *self = if self.is_confirmed() || now.since(since) >= confirmed_after {
            RefusalClock::Confirmed { since }
        } else {
            RefusalClock::Unconfirmed { since, last: now }
        };
        self.is_confirmed()
    }

    /// A request has shown that the permission is granted.
    pub fn granted(&mut self) {
        *self = RefusalClock::Granted;
    }

    /// A request had no reply, or one that shows nothing about the permission.
    pub fn interrupted(&mut self) {
        if !self.is_confirmed() {
            self.granted();
        }
    }

    /// Whether the permission counts as missing.
    pub fn is_confirmed(&self) -> bool {
        matches!(self, RefusalClock::Confirmed { .. })
    }

    /// Since when it has been refused, if it counts as missing.
    pub fn confirmed_since(&self) -> Option<Time> {
        match *self {
            RefusalClock::Confirmed { since } => Some(since),
            RefusalClock::Granted | RefusalClock::Unconfirmed { .. } => None,
        }
    }

    /// Whether the last refusal is so old that the next one counts as the first.
    pub fn is_stale(&self, confirmed_after: Duration, now: Time) -> bool {
        match *self {
            RefusalClock::Unconfirmed { last, .. } => now.since(last) > confirmed_after / MAX_GAP,
            RefusalClock::Granted | RefusalClock::Confirmed { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(1000 + seconds))
    }

    fn refused(clock: &mut RefusalClock, seconds: &[u64]) -> bool {
        for &second in seconds {
            clock.refused(CONFIRMED_AFTER, at(second));
        }
        clock.is_confirmed()
    }

    #[test]
    fn a_refusal_is_confirmed_once_it_has_lasted_for_30_s_with_nothing_in_between() {
        for (label, refusals, confirmed) in [
            ("one refusal", &[0][..], false),
            ("for 29 s", &[0, 10, 20, 29], false),
            ("for 30 s", &[0, 10, 20, 30], true),
            ("two, with half a minute in between", &[0, 30], false),
            ("with a gap of 15 s", &[0, 15, 30], true),
            ("with a gap of 16 s", &[0, 16, 30], false),
            ("with a gap that lies back", &[0, 16, 26, 36, 46], true),
        ] {
            let mut clock = RefusalClock::default();
            assert_eq!(refused(&mut clock, refusals), confirmed, "{label}");
        }
    }

    #[test]
    fn a_grant_and_an_interruption_have_the_30_s_begin_again() {
        for (label, other) in [
            ("a grant", RefusalClock::granted as fn(&mut RefusalClock)),
            ("an outage, or 401", RefusalClock::interrupted),
        ] {
            let mut clock = RefusalClock::default();
            refused(&mut clock, &[0, 10, 20]);
            other(&mut clock);
            assert!(!refused(&mut clock, &[30, 40, 50]), "{label}");
            assert!(refused(&mut clock, &[60]), "{label}: 30 s after that");
        }
    }

    #[test]
    fn what_is_confirmed_is_ended_by_a_grant_alone() {
        let mut clock = RefusalClock::default();
        assert!(refused(&mut clock, &[0, 10, 20, 30]));
        clock.interrupted();
        assert!(refused(&mut clock, &[600]), "an interruption, and a gap");
        assert_eq!(clock, RefusalClock::Confirmed { since: at(0) });
        clock.granted();
        assert!(!refused(&mut clock, &[601]));
    }

    /// The longest pauses, and replies that each take 5 s.
    #[test]
    fn refusals_with_the_longest_pause_between_them_are_confirmed() {
        let mut clock = RefusalClock::default();
        assert!(MAX_PAUSE + Duration::from_secs(5) <= CONFIRMED_AFTER / MAX_GAP);
        assert!(refused(&mut clock, &[5, 20, 35]));
    }
}
