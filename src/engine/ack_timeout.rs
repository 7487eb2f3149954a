//! How far the remaining side of a broken connection has come with what it is
//! still to get.
//!
//! The side may not read, and then no event is ever going to come: it is looked at
//! now and then, and given up when it has acknowledged nothing for a while.

use std::time::Duration;

use crate::clock::Time;

/// How long it may acknowledge nothing.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How soon to look whether it has; then less and less often.
const FIRST_CHECK: Duration = Duration::from_millis(10);

/// What was seen of the remaining side. On the heap, since most connections end
/// otherwise.
#[derive(Debug, Default)]
pub struct AckTimeout(Option<Box<Seen>>);

#[derive(Debug)]
struct Seen {
    /// How many bytes it has acknowledged,
    acknowledged: u64,
    /// and since when no more.
    since: Time,
}

impl AckTimeout {
    /// It has acknowledged so many bytes. Returns when to look again, or nothing if
    /// its time is up.
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
