//! [`WatchTimeout`]: a timeout that expires when connections wait for an endpoint and the
//! endpoint watch has received nothing for [`WATCH_TIMEOUT`].

use std::time::Duration;

use crate::clock::Time;

/// How long the endpoints may stay unchanged while connections wait, before they are
/// listed again. A starting pod appears in the slices within a second or two, long
/// before it is ready. A longer silence may be a watch on a dead connection, or a list
/// that hangs. No reply is waited for longer than that while connections wait.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The next check after a timeout that has expired although something was received.
const CHECK_AGAIN: Duration = Duration::from_millis(250);

/// A timeout of the endpoint watch that runs only while connections wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchTimeout {
    /// When it expires; `None` while no connection waits for an endpoint.
    due: Option<Time>,
}

impl WatchTimeout {
    /// Starts or stops the timeout: `is_awaited` says whether connections wait for an
    /// endpoint. Returns true each time that it has expired, and starts it again.
    pub fn update(&mut self, is_awaited: bool, now: Time) -> bool {
        if !is_awaited {
            self.due = None;
            return false;
        }
        let due = *self.due.get_or_insert(now + WATCH_TIMEOUT);
        if now < due {
            return false;
        }
        self.due = Some(now + WATCH_TIMEOUT);
        true
    }

    /// Starts the timeout again, because the watch has received something.
    pub fn restart(&mut self) {
        self.due = None;
    }

    /// Checks again soon: the timeout has expired, but something was received meanwhile.
    pub fn check_again(&mut self, now: Time) {
        self.due = Some(now + CHECK_AGAIN);
    }

    /// When [`WatchTimeout::update`] returns true without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens at a time, in milliseconds.
    enum At {
        Awaited(u64),
        Unawaited(u64),
        Received,
        CheckedAgain(u64),
    }

    #[test]
    fn it_expires_after_five_seconds_in_which_connections_wait_and_nothing_is_received() {
        use At::{Awaited, CheckedAgain, Received, Unawaited};
        for (label, before, now, expected) in [
            ("nobody has waited before", &[][..], 90_000, false),
            ("just before", &[Awaited(1)], 5_000, false),
            ("at five seconds", &[Awaited(0)], 5_000, true),
            ("five more", &[Awaited(0), Awaited(5_000)], 10_000, true),
            (
                "not again before",
                &[Awaited(0), Awaited(5_000)],
                9_999,
                false,
            ),
            (
                "nobody waited meanwhile",
                &[Awaited(0), Unawaited(1)],
                5_000,
                false,
            ),
            (
                "something was received",
                &[Awaited(0), Received, Awaited(9)],
                5_008,
                false,
            ),
            (
                "and then nothing",
                &[Awaited(0), Received, Awaited(9)],
                5_009,
                true,
            ),
            (
                "not yet, and looked at again",
                &[Awaited(0), Awaited(5_000), CheckedAgain(5_000)],
                5_250,
                true,
            ),
        ] {
            let mut watch_timeout = WatchTimeout::default();
            for event in before {
                match event {
                    Awaited(ms) => drop(watch_timeout.update(true, Time::from_millis(*ms))),
                    Unawaited(ms) => drop(watch_timeout.update(false, Time::from_millis(*ms))),
                    Received => watch_timeout.restart(),
                    CheckedAgain(ms) => watch_timeout.check_again(Time::from_millis(*ms)),
                }
            }
            let now = Time::from_millis(now);
            assert_eq!(watch_timeout.update(true, now), expected, "{label}");
            assert!(
                watch_timeout.poll_timeout() > Some(now),
                "{label}: it is due later"
            );
        }
    }
}
