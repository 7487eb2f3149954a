//! [`Silence`] is how long nothing has been heard of the endpoints while somebody
//! waits for one.

use std::time::Duration;

use crate::clock::Time;

/// How long the endpoints may stay as they are while somebody waits, before they are
/// listed afresh. A pod that starts is in the slices within a second or two, long
/// before it is ready: what is silent for longer may be a watch on a connection that
/// is dead, or a list that hangs. Nobody is to wait for longer for one reply.
pub const LONGEST: Duration = Duration::from_secs(5);

/// Since when there is silence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence {
    /// When it has lasted for too long; `None` while nobody waits in vain.
    due: Option<Time>,
}

impl Silence {
    /// Whether somebody waits in vain; returns whether that has been so, in silence,
    /// for too long, each time that it has.
    pub fn update(&mut self, is_awaited: bool, now: Time) -> bool {
        if !is_awaited {
            self.due = None;
            return false;
        }
        let due = *self.due.get_or_insert(now + LONGEST);
        if now < due {
            return false;
        }
        self.due = Some(now + LONGEST);
        true
    }

    /// Something was heard.
    pub fn end(&mut self) {
        self.due = None;
    }

    /// When [`Silence::update`] returns true though nothing happens.
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
        Heard,
    }

    #[test]
    fn it_is_too_long_after_five_seconds_in_which_somebody_waits_and_nothing_is_heard() {
        use At::{Awaited, Heard, Unawaited};
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
                "something was heard",
                &[Awaited(0), Heard, Awaited(9)],
                5_008,
                false,
            ),
            (
                "and then nothing",
                &[Awaited(0), Heard, Awaited(9)],
                5_009,
                true,
            ),
        ] {
            let mut silence = Silence::default();
            for event in before {
                match event {
                    Awaited(ms) => drop(silence.update(true, Time::from_millis(*ms))),
                    Unawaited(ms) => drop(silence.update(false, Time::from_millis(*ms))),
                    Heard => silence.end(),
                }
            }
            let now = Time::from_millis(now);
            assert_eq!(silence.update(true, now), expected, "{label}");
            assert!(
                silence.poll_timeout() > Some(now),
                "{label}: it is due later"
            );
        }
    }
}
