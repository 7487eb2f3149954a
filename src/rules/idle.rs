//! [`IdleRules`]: the timeouts of a connection that carries no byte.
//!
//! Each rule is off unless it is set: in some protocols both sides are silent for hours.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::names;
use crate::clock::Time;

/// The limits of silence, and what follows each. By default there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleRules {
    /// A connection without a byte in either direction is closed after this time.
    pub idle_timeout: Option<Duration>,
    /// The same for a half-closed connection.
    pub half_close_timeout: Option<Duration>,
    /// A connection without a byte in either direction stops counting as use of the app after
    /// this time, until the next byte.
    pub silence: Option<Duration>,
    /// What becomes of such a connection when the app sleeps.
    pub silent: SilentConnections,
}

/// What becomes of connections that have been silent for so long that they would not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SilentConnections {
    /// They go on counting, as if there were no limit: for one of many apps.
    KeepAwake,
    /// They are closed when the app sleeps.
    #[default]
    Close,
    /// They are detached when the app sleeps: the backend's side ends, and the client's stays
    /// open until its next byte, which counts as use of the app and is sent to a backend that
    /// is dialled for it.
    Detach,
}

/// Every value by its spelling in the setting.
const NAMES: [(&str, SilentConnections); 3] = [
    ("keep-awake", SilentConnections::KeepAwake),
    ("close", SilentConnections::Close),
    ("detach", SilentConnections::Detach),
];

impl FromStr for SilentConnections {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        names::parse(&NAMES, text)
    }
}

impl fmt::Display for SilentConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(names::name(&NAMES, self))
    }
}

/// The traffic of a connection that a pod serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// When the last byte or FIN was passed on, or else the pod has accepted the connection.
    pub last: Time,
    /// Whether a side has sent its FIN.
    pub is_half_closed: bool,
    /// Whether the connection counts as use of the app.
    pub counts: bool,
}

/// What the rules decide about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Nothing changes.
    No,
    /// It stops counting as use of the app.
    Silent,
    /// It is closed: the idle timeout has passed.
    Closed(Duration),
    /// It is closed: the half-close timeout has passed.
    HalfClosed(Duration),
}

impl IdleRules {
    /// Whether no rule is set.
    pub fn is_off(&self) -> bool {
        *self == IdleRules::default()
    }

    /// What the rules decide about a connection at this time.
    pub fn check(&self, traffic: Traffic, now: Time) -> Idle {
        let is_over = |limit: &Duration| now >= traffic.last + *limit;
        let half_closed = self.half_close_timeout.filter(|_| traffic.is_half_closed);
        if let Some(limit) = half_closed.filter(is_over) {
            return Idle::HalfClosed(limit);
        }
        if let Some(limit) = self.idle_timeout.filter(is_over) {
            return Idle::Closed(limit);
        }
        match self.silence().filter(is_over) {
            Some(_) if traffic.counts => Idle::Silent,
            _ => Idle::No,
        }
    }

    /// When the decision changes by the time alone.
    pub fn next(&self, traffic: Traffic) -> Option<Time> {
        let half_closed = self.half_close_timeout.filter(|_| traffic.is_half_closed);
        let silence = self.silence().filter(|_| traffic.counts);
        let limits = [half_closed, self.idle_timeout, silence];
        let first = limits.into_iter().flatten().min()?;
        Some(traffic.last + first)
    }

    /// The time after which a silent connection stops counting, if it does.
    fn silence(&self) -> Option<Duration> {
        self.silence
            .filter(|_| self.silent != SilentConnections::KeepAwake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    const RULES: IdleRules = IdleRules {
        idle_timeout: Some(seconds(60)),
        half_close_timeout: Some(seconds(10)),
        silence: Some(seconds(30)),
        silent: SilentConnections::Close,
    };

    /// The last byte went at 100 s.
    fn traffic(is_half_closed: bool, counts: bool) -> Traffic {
        Traffic {
            last: Time::from_millis(100_000),
            is_half_closed,
            counts,
        }
    }

    #[test]
    fn a_silent_connection_stops_counting_and_is_closed_at_its_limits() {
        let (open, half) = (traffic(false, true), traffic(true, true));
        let silent = traffic(false, false);
        for (label, it, at, expected) in [
            ("just before the silence", open, 129_999, Idle::No),
            ("the silence", open, 130_000, Idle::Silent),
            ("silent already", silent, 130_000, Idle::No),
            ("just before the idle timeout", silent, 159_999, Idle::No),
            (
                "the idle timeout",
                silent,
                160_000,
                Idle::Closed(seconds(60)),
            ),
            ("both at once", open, 170_000, Idle::Closed(seconds(60))),
            ("closed by half, just before", half, 109_999, Idle::No),
            (
                "closed by half",
                half,
                110_000,
                Idle::HalfClosed(seconds(10)),
            ),
            ("long before the last byte", open, 0, Idle::No),
        ] {
            let check = RULES.check(it, Time::from_millis(at));
            assert_eq!(check, expected, "{label}");
        }
    }

    #[test]
    fn an_app_that_is_kept_awake_by_silent_connections_has_no_limit_of_silence() {
        let silence_alone = IdleRules {
            silence: Some(seconds(30)),
            ..IdleRules::default()
        };
        let at = Time::from_millis(130_000);
        for (name, decided) in [
            ("keep-awake", Idle::No),
            ("close", Idle::Silent),
            ("detach", Idle::Silent),
        ] {
            let silent: SilentConnections = name.parse().unwrap();
            assert_eq!(silent.to_string(), name);
            let rules = IdleRules {
                silent,
                ..silence_alone
            };
            assert_eq!(rules.check(traffic(false, true), at), decided, "{name}");
            let next = rules.next(traffic(false, true));
            assert_eq!(next.is_some(), decided == Idle::Silent, "{name}");
        }
        let error = "drop".parse::<SilentConnections>().unwrap_err();
        assert_eq!(error, "is none of keep-awake, close, detach");
    }

    #[test]
    fn without_a_rule_nothing_is_decided() {
        let never = Time::new(Duration::MAX);
        for it in [traffic(false, true), traffic(true, false)] {
            assert_eq!(IdleRules::default().check(it, never), Idle::No);
            assert_eq!(IdleRules::default().next(it), None);
        }
    }

    /// Nothing is decided before the time that was given, and something at it.
    #[test]
    fn the_next_time_is_the_first_at_which_a_rule_decides_something() {
        let rule = |limit: bool, length: u64| limit.then_some(seconds(length));
        for set in 1..8u8 {
            let rules = IdleRules {
                idle_timeout: rule(set & 1 > 0, 60),
                half_close_timeout: rule(set & 2 > 0, 10),
                silence: rule(set & 4 > 0, 30),
                silent: SilentConnections::Detach,
            };
            for (is_half_closed, counts) in [(false, false), (false, true), (true, true)] {
                let it = traffic(is_half_closed, counts);
                let Some(next) = rules.next(it) else {
                    let never = Time::new(Duration::MAX);
                    assert_eq!(rules.check(it, never), Idle::No, "{rules:?} {it:?}");
                    continue;
                };
                let before = next - Duration::from_nanos(1);
                assert_eq!(rules.check(it, before), Idle::No, "{rules:?} {it:?}");
                assert_ne!(rules.check(it, next), Idle::No, "{rules:?} {it:?}");
            }
        }
    }
}
