//! [`Ancestor`]: one of the earlier autoscalers that this program replaces, with the
//! annotation by which its replicas mark an app as in use.
//!
//! During a rolling update, replicas of the ancestor and of this program serve the same
//! app, for as long as the grace period of the old pods lasts. The ancestor knows no
//! leases: it puts the app to sleep when its own annotation has expired. So this program
//! respects that annotation, and renews it while it has connections. The annotation holds
//! a wall clock time. A wrong clock can delay a sleep, but not for longer than
//! [`Sightings`] allow.

use std::time::Duration;

use super::rfc3339;
use crate::clock::Time;
use crate::workload::Dialect;

/// An earlier autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ancestor {
    /// zero-pod-autoscaler in Go.
    Go,
    /// traffic-pod-autoscaler in Python.
    Python,
}

impl Ancestor {
    /// The ancestor whose replicas may run for the same app, by the flags of this proxy.
    pub(super) fn of(dialect: Dialect) -> Option<Ancestor> {
        match dialect {
            Dialect::Zpa => None,
            Dialect::Go => Some(Ancestor::Go),
            Dialect::PythonDeployment | Dialect::PythonLabels => Some(Ancestor::Python),
        }
    }

    /// The key of its annotation.
    pub(super) fn annotation(self) -> &'static str {
        match self {
            Ancestor::Go => "zero-pod-autoscaler/scale-down-at",
            Ancestor::Python => "traffic-pod-autoscaler/last-call-at",
        }
    }

    /// The value that the ancestor writes at `unix` while the app is in use: the Go
    /// ancestor the time of the sleep, the Python ancestor the time of the last call.
    pub(super) fn text(self, unix: u64, ttl: Duration) -> String {
        match self {
            Ancestor::Go => rfc3339::utc(unix.saturating_add(ttl.as_secs())),
            Ancestor::Python => rfc3339::utc_of_python(unix),
        }
    }

    /// How long from `unix` on the app is in use according to the value `text`. A value
    /// that is no time counts as zero: the ancestors cannot read it either.
    pub(super) fn left(self, text: &str, unix: u64, ttl: Duration) -> Duration {
        let Some(written) = rfc3339::unix(text) else {
            return Duration::ZERO;
        };
        let end = match self {
            Ancestor::Go => written,
            Ancestor::Python => written.saturating_add(ttl.as_secs()),
        };
        Duration::from_secs(end.saturating_sub(unix))
    }
}

/// The values of an ancestor's annotation that were seen.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// The last value, and when it was first seen.
    last: Option<(String, Time)>,
}

impl Sightings {
    /// How long the value `text` is still to be respected: as long as it states, but not
    /// longer than two TTLs without a change. An ancestor with connections writes a new
    /// value at half of its TTL, so an unchanged value belongs to no running replica.
    pub(super) fn in_use_for(
        &mut self,
        ancestor: Ancestor,
        text: &str,
        ttl: Duration,
        unix: u64,
        now: Time,
    ) -> Duration {
        let since = match &self.last {
            Some((last, since)) if last == text => *since,
            _ => {
                self.last = Some((text.to_owned(), now));
                now
            }
        };
        let longest = ttl.saturating_mul(2).saturating_sub(now.since(since));
        ancestor.left(text, unix, ttl).min(longest)
    }

    /// The annotation is absent.
    pub(super) fn absent(&mut self) {
        self.last = None;
    }

    /// Whether the annotation is present.
    pub(super) fn is_there(&self) -> bool {
        self.last.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(600);
    /// 2026-11-25T03:00:00Z.
    const NOW: u64 = 1_795_575_600;

    #[test]
    fn each_ancestor_writes_in_its_own_way() {
        for (dialect, written) in [
            (Dialect::Zpa, None),
            (
                Dialect::Go,
                Some(("zero-pod-autoscaler/scale-down-at", "2026-11-25T03:10:00Z")),
            ),
            (
                Dialect::PythonDeployment,
                Some((
                    "traffic-pod-autoscaler/last-call-at",
                    "2026-11-25T03:00:00.000000+00:00",
                )),
            ),
            (
                Dialect::PythonLabels,
                Some((
                    "traffic-pod-autoscaler/last-call-at",
                    "2026-11-25T03:00:00.000000+00:00",
                )),
            ),
        ] {
            let ancestor = Ancestor::of(dialect);
            let text = ancestor.map(|it| (it.annotation(), it.text(NOW, TTL)));
            let text = text.as_ref().map(|(key, text)| (*key, text.as_str()));
            assert_eq!(text, written, "{dialect}");
        }
    }

    #[test]
    fn a_text_says_for_how_long_the_app_is_in_use() {
        for (label, ancestor, text, left) in [
            (
                "the time of the sleep",
                Ancestor::Go,
                "2026-11-25T03:05:00Z",
                300,
            ),
            ("is over", Ancestor::Go, "2026-11-25T02:59:59Z", 0),
            (
                "the last call and a TTL",
                Ancestor::Python,
                "2026-11-25T02:55:00.5+00:00",
                300,
            ),
            (
                "a TTL is over",
                Ancestor::Python,
                "2026-11-25T02:50:00.0+00:00",
                0,
            ),
            (
                "a clock that is fast",
                Ancestor::Python,
                "2026-11-25T03:01:00.0+00:00",
                660,
            ),
            ("no time", Ancestor::Go, "soon", 0),
            ("no offset", Ancestor::Python, "2026-11-25T02:55:00", 0),
            ("nothing", Ancestor::Go, "", 0),
        ] {
            let left_seconds = ancestor.left(text, NOW, TTL).as_secs();
            assert_eq!(left_seconds, left, "{label}");
        }
    }

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_text_that_does_not_change_is_respected_for_two_ttls_at_most() {
        let mut seen = Sightings::default();
        let far = "2099-01-01T00:00:00Z";
        let mut left = |text: &str, now: u64| {
            seen.in_use_for(Ancestor::Go, text, TTL, NOW, at(now))
                .as_secs()
        };
        for (label, text, now, expected) in [
            ("at first", far, 1000, 1200),
            ("a while later", far, 1700, 500),
            ("just before", far, 2199, 1),
            ("two TTLs later", far, 2200, 0),
            ("a new text begins anew", "2098-01-01T00:00:00Z", 2300, 1200),
            (
                "a short one ends when it says",
                "2026-11-25T03:00:05Z",
                2301,
                5,
            ),
        ] {
            assert_eq!(left(text, now), expected, "{label}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_kept_up() {
        let mut seen = Sightings::default();
        assert!(!seen.is_there());
        seen.in_use_for(Ancestor::Go, "long ago", TTL, NOW, at(0));
        assert!(seen.is_there(), "an old replica may still read it");
        seen.absent();
        assert!(!seen.is_there());
    }

    proptest! {
        #[test]
        fn what_is_written_is_in_use_for_a_ttl(unix in 0..4_000_000_000u64, ttl in 1..1_000_000u64) {
            let ttl = Duration::from_secs(ttl);
            for ancestor in [Ancestor::Go, Ancestor::Python] {
                let text = ancestor.text(unix, ttl);
                prop_assert_eq!(ancestor.left(&text, unix, ttl), ttl);
                let over = unix + ttl.as_secs();
                prop_assert_eq!(ancestor.left(&text, over, ttl), Duration::ZERO);
            }
        }

        #[test]
        fn no_text_is_respected_for_longer_than_two_ttls(
            text in ".{0,40}",
            unix in any::<u64>(),
            ttl in any::<u64>(),
        ) {
            let ttl = Duration::from_secs(ttl);
            for ancestor in [Ancestor::Go, Ancestor::Python] {
                let left = Sightings::default().in_use_for(ancestor, &text, ttl, unix, at(0));
                prop_assert!(left <= ttl.saturating_mul(2));
            }
        }
    }
}
