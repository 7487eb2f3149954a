//! [`HoldTimeoutLog`]: decides when to log that clients were reset at the hold limit: at once, then
//! once a minute. Each client is logged once.

use std::time::Duration;

use crate::clock::Time;

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// The clients that were reset at the hold limit and logged.
#[derive(Debug, Default)]
pub struct HoldTimeoutLog {
    logged: u64,
    next: Time,
}

impl HoldTimeoutLog {
    /// When there is something to log, if `total` clients were reset since the start.
    pub fn poll_timeout(&self, total: u64) -> Option<Time> {
        (total > self.logged).then_some(self.next)
    }

    /// The number of clients to log now, of `total` since the start.
    pub fn due(&mut self, total: u64, now: Time) -> Option<u64> {
        self.poll_timeout(total).filter(|&at| at <= now)?;
        let lost = total - self.logged;
        self.logged = total;
        self.next = now + INTERVAL;
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_logged_once_and_a_line_is_written_once_a_minute() {
        let mut log = HoldTimeoutLog::default();
        for (label, second, total, expected) in [
            ("nobody was reset", 100, 0, None),
            ("the first", 100, 1, Some(1)),
            ("the same, looked at again", 110, 1, None),
            ("two more, within the minute", 159, 3, None),
            ("the minute is over", 160, 3, Some(2)),
            ("nobody since", 1000, 3, None),
            ("the next, long after", 1000, 4, Some(1)),
        ] {
            let now = Time::new(Duration::from_secs(second));
            let is_due = log.poll_timeout(total).is_some_and(|at| at <= now);
            assert_eq!(is_due, expected.is_some(), "{label}");
            assert_eq!(log.due(total, now), expected, "{label}");
        }
    }
}
