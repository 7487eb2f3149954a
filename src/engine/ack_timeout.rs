//! [`AckTimeout`]: the timeout of the remaining side of a broken connection, which has
//! still to acknowledge bytes.
//!
//! If that side does not read, no event comes. So its acknowledgements are polled, and
//! it is given up when it has acknowledged nothing for [`TIMEOUT`].

use std::time::Duration;

use crate::clock::Time;

/// The longest time without an acknowledgement.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The first interval between two checks; it grows to an eighth of the time waited.
const FIRST_CHECK: Duration = Duration::from_millis(10);

/// The last acknowledgement that was seen; boxed, because few connections break.
#[derive(Debug, Default)]
pub struct AckTimeout(Option<Box<Seen>>);

#[derive(Debug)]
struct Seen {
    /// The number of bytes acknowledged.
    acknowledged: u64,
    /// When that number was first seen.
    since: Time,
}

impl AckTimeout {
    /// Notes the number of bytes acknowledged by now. Returns when to check again, or
    /// `None` if the timeout has expired.
    pub fn note(&mut self, acknowledged: u64, now: Time) -> Option<Time> {
        let since = match &self.0 {
            Some(seen) if seen.acknowledged >= acknowledged => seen.since,
            _ => {
                let since = now;
                self.0 = Some(Box::new(Seen {
                    acknowledged,
                    since,
                }));
                since
            }
        };
        let limit = since + TIMEOUT;
        let next = now + FIRST_CHECK.max(now.since(since) / 8);
        (now < limit).then_some(next.min(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_given_up_a_minute_after_it_has_last_acknowledged_something() {
        let ms = Time::from_millis;
        let mut ack_timeout = AckTimeout::default();
        for (label, acknowledged, now, next) in [
            ("first look", 0, 0, Some(10)),
            ("nothing new", 0, 10, Some(20)),
            ("less and less often", 0, 8_000, Some(9_000)),
            ("just before its time is up", 0, 59_999, Some(60_000)),
            ("it has taken something", 1, 59_999, Some(60_009)),
            ("nothing since", 1, 119_998, Some(119_999)),
            ("its time is up", 1, 119_999, None),
            ("too late", 1, 500_000, None),
        ] {
            let noted = ack_timeout.note(acknowledged, ms(now));
            assert_eq!(noted, next.map(ms), "{label}");
        }
    }
}
