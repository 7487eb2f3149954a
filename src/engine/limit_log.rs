//! [`LimitLog`] decides when to log that the connection limit is reached. Under load it
//! is reached again after each connection that ends, thousands of times a second.

use std::fmt;
use std::time::Duration;

use crate::clock::Time;

/// The least time between two lines, and the time below the limit after which an episode
/// is over.
const PACE: Duration = Duration::from_secs(60);

/// Whether the connection limit is reached, and what was logged of that.
#[derive(Debug, Default)]
pub(super) struct LimitLog {
    is_full: bool,
    /// The present episode: it begins when the limit is reached, and ends when it was not
    /// reached for [`PACE`].
    episode: Option<Episode>,
}

#[derive(Debug)]
struct Episode {
    /// When the last line was logged.
    logged: Time,
    /// The number of times that the limit was reached since then.
    times: u64,
    /// When the limit was reached last.
    full: Time,
}

/// A line to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitChange {
    /// The limit is reached.
    Reached,
    /// The limit is reached again; the number of times since the last line.
    Again(u64),
    /// The limit was not reached for [`PACE`]; the number of times between the last line
    /// and then.
    Over(u64),
}

impl LimitLog {
    /// When [`LimitLog::note`] returns a line even if nothing changes.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let episode = self.episode.as_ref().filter(|_| !self.is_full);
        episode.map(|episode| episode.full + PACE)
    }

    /// Notes whether the limit is reached; returns a line to log, if one is due.
    pub(super) fn note(&mut self, is_full: bool, now: Time) -> Option<LimitChange> {
        let is_new = is_full && !self.is_full;
        let was_full = std::mem::replace(&mut self.is_full, is_full);
        let Some(episode) = &mut self.episode else {
            return is_new.then(|| self.begin(now));
        };
        if is_full || was_full {
            episode.full = now;
        }
        episode.times += u64::from(is_new);
        if is_new && now >= episode.logged + PACE {
            episode.logged = now;
            return Some(LimitChange::Again(std::mem::take(&mut episode.times)));
        }
        if is_full || now < episode.full + PACE {
            return None;
        }
        let times = episode.times;
        self.episode = None;
        Some(LimitChange::Over(times))
    }

    fn begin(&mut self, now: Time) -> LimitChange {
        self.episode = Some(Episode {
            logged: now,
            times: 0,
            full: now,
        });
        LimitChange::Reached
    }
}

impl fmt::Display for LimitChange {
    /// The part of the line after "the connection limit of 100 ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WAIT: &str = "further clients wait until one leaves";
        match self {
            LimitChange::Reached => write!(f, "is reached: {WAIT}"),
            LimitChange::Again(1) => write!(f, "is reached again: {WAIT}"),
            LimitChange::Again(times) => write!(f, "is reached again, {times} times now: {WAIT}"),
            LimitChange::Over(0) => f.write_str("was not reached for a minute"),
            LimitChange::Over(times) => write!(
                f,
                "was not reached for a minute, after it was {times} times more"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_line_says_what_happens_to_further_clients() {
        for (change, text) in [
            (
                LimitChange::Reached,
                "is reached: further clients wait until one leaves",
            ),
            (
                LimitChange::Again(1),
                "is reached again: further clients wait until one leaves",
            ),
            (
                LimitChange::Again(7),
                "is reached again, 7 times now: further clients wait until one leaves",
            ),
            (LimitChange::Over(0), "was not reached for a minute"),
        ] {
            assert_eq!(change.to_string(), text);
        }
    }

    #[test]
    fn a_limit_that_is_reached_all_the_time_is_a_line_a_minute() {
        let mut limit_log = LimitLog::default();
        let mut logged = Vec::new();
        for ms in 0..125_000 {
            let change = limit_log.note(ms % 2 == 0, at(ms));
            logged.extend(change.map(|change| (ms, change)));
        }
        let expected = [
            (0, LimitChange::Reached),
            (60_000, LimitChange::Again(30_000)),
            (120_000, LimitChange::Again(30_000)),
        ];
        assert_eq!(logged, expected);
    }

    #[test]
    fn a_limit_is_logged_when_it_is_reached_and_not_later() {
        let mut limit_log = LimitLog::default();
        for (label, ms, is_full, change) in [
            ("there is room", 0, false, None),
            ("reached", 1, true, Some(LimitChange::Reached)),
            ("one has left", 2, false, None),
            ("again within the minute", 15_000, true, None),
            ("one has left again", 15_001, false, None),
            ("a minute after the line: no news", 60_001, false, None),
            ("just before it is over", 75_000, false, None),
            ("over", 75_001, false, Some(LimitChange::Over(1))),
            ("nothing more", 75_002, false, None),
            ("anew", 75_003, true, Some(LimitChange::Reached)),
            ("full for long: no news", 500_000, true, None),
            ("one has left after that", 500_001, false, None),
            ("again", 500_002, true, Some(LimitChange::Again(1))),
            ("all have left", 500_003, false, None),
            ("over again", 560_003, false, Some(LimitChange::Over(0))),
        ] {
            assert_eq!(limit_log.note(is_full, at(ms)), change, "{label}");
        }
    }

    #[test]
    fn the_only_timeout_is_the_end_of_an_episode() {
        let mut limit_log = LimitLog::default();
        assert_eq!(limit_log.note(false, at(1)), None);
        assert_eq!(limit_log.poll_timeout(), None, "there is room");
        limit_log.note(true, at(2));
        assert_eq!(limit_log.poll_timeout(), None, "there is none");
        limit_log.note(false, at(3));
        assert_eq!(limit_log.poll_timeout(), Some(at(60_003)));
        limit_log.note(false, at(60_003));
        assert_eq!(limit_log.poll_timeout(), None, "it is over");
    }
}
