//! [`LogLimiter`]: limits a kind of log line to one a minute, and counts the events that were
//! left out. It is for what a stranger can cause as often as they like: connections without a
//! header of the PROXY protocol, or with a TLS server name of no app.

use std::time::Duration;

use crate::clock::Time;

/// The shortest time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// How many events were not logged, and when the next line may come.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLimiter {
    unlogged: u64,
    next: Time,
}

impl LogLimiter {
    /// Counts an event; returns how many there were since the last line, if it is time for one.
    pub fn note(&mut self, now: Time) -> Option<u64> {
        self.unlogged += 1;
        if now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_at_once_and_then_a_minute_later_with_all_that_came_meanwhile() {
        let mut log = LogLimiter::default();
        for (label, ms, expected) in [
            ("the first", 5, Some(1)),
            ("soon after", 6, None),
            ("just before a minute", 60_004, None),
            ("a minute later", 60_005, Some(3)),
            ("long after", 500_000, Some(1)),
        ] {
            assert_eq!(log.note(Time::from_millis(ms)), expected, "{label}");
        }
    }
}
