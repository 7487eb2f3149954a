//! What is said of the connection limit. While more come than there is room
//! for, it is reached again whenever one has left: thousands of times a second.

use std::fmt;
use std::time::Duration;

use crate::clock::Time;

/// The shortest time between two lines, and how long the limit must not have
/// been reached until that is over.
const PACE: Duration = Duration::from_secs(60);

/// How the open connections stand to their limit.
#[derive(Debug, Default)]
pub(super) struct LimitLog {
    is_full: bool,
    /// What is to be said next, once the limit was reached.
    next: Option<Next>,
}

#[derive(Debug)]
struct Next {
    at: Time,
    /// How often the limit was reached since the last line.
    times: u64,
}

/// Something to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitChange {
    /// The limit is reached.
    Reached,
    /// It was so many times since it was last spoken of.
    Again(u64),
    /// It was not for a while.
    Over,
}

impl LimitLog {
    /// When [`LimitLog::note`] has something to say even if nothing changes.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.next.as_ref().map(|next| next.at)
    }

    /// Notes whether the limit is reached.
    pub(super) fn note(&mut self, is_full: bool, now: Time) -> Option<LimitChange> {
        let is_new = is_full && !self.is_full;
        self.is_full = is_full;
        let Some(next) = &mut self.next else {
            return is_new.then(|| self.line(LimitChange::Reached, now));
        };
        next.times += u64::from(is_new);
        match next.times {
            _ if now < next.at => None,
            0 if is_full => {
                next.at = now + PACE;
                None
            }
            0 => {
                self.next = None;
                Some(LimitChange::Over)
            }
            times => Some(self.line(LimitChange::Again(times), now)),
        }
    }

    fn line(&mut self, word: LimitChange, now: Time) -> LimitChange {
        self.next = Some(Next {
            at: now + PACE,
            times: 0,
        });
        word
    }
}

impl fmt::Display for LimitChange {
    /// What follows on "the connection limit of 100 ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitChange::Reached => f.write_str("is reached, more wait in the kernel's queue"),
            LimitChange::Again(1) => f.write_str("was reached once more"),
            LimitChange::Again(times) => write!(f, "was reached {times} times more"),
            LimitChange::Over => f.write_str("was not reached for a minute"),
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
    fn a_limit_that_is_reached_all_the_time_is_a_line_a_minute() {
        let mut limit_log = LimitLog::default();
        let mut said = Vec::new();
        for ms in 0..125_000 {
            said.extend(limit_log.note(ms % 2 == 0, at(ms)).map(|word| (ms, word)));
        }
        let expected = [
            (0, LimitChange::Reached),
            (60_000, LimitChange::Again(30_000)),
            (120_000, LimitChange::Again(30_000)),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn it_is_over_a_minute_after_it_was_last_reached_and_then_may_begin_anew() {
        let mut limit_log = LimitLog::default();
        for (ms, is_full, word) in [
            (0, false, None),
            (1, true, Some(LimitChange::Reached)),
            (2, false, None),
            (3, true, None),
            (60_001, true, Some(LimitChange::Again(1))),
            (120_001, true, None),
            (130_000, false, None),
            (180_001, false, Some(LimitChange::Over)),
            (180_002, false, None),
            (180_003, true, Some(LimitChange::Reached)),
        ] {
            assert_eq!(limit_log.note(is_full, at(ms)), word, "{ms} ms");
        }
        assert_eq!(limit_log.poll_timeout(), Some(at(240_003)));
    }

    #[test]
    fn nothing_is_said_and_nobody_woken_while_there_is_room() {
        let mut limit_log = LimitLog::default();
        assert_eq!(limit_log.note(false, at(1)), None);
        assert_eq!(limit_log.poll_timeout(), None);
    }
}
