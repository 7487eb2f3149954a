//! [`WatchGrant`]: whether what a reflector lists and watches is granted to it, how long it
//! waits after a refusal, and when that is worth a line.
//!
//! A refusal is tried again after pauses that grow to 5 min, and is worth a line once it is
//! [confirmed](crate::refusal).

use std::time::Duration;

use log::Level;

use super::text::LogOnce;
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::refusal::{self, RefusalClock};

/// The shortest pause after a refusal,
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// and the longest once it is confirmed: a permission is granted by people.
const RETRY_LAST: Duration = Duration::from_secs(300);

/// Whether something may be listed and watched.
pub(super) struct WatchGrant {
    refusal: RefusalClock,
    backoff: Backoff,
    log: LogOnce,
}

/// What follows from a refusal.
pub(super) struct Refused {
    /// How long to wait before the next attempt.
    pub(super) pause: Duration,
    /// The level at which to log it.
    pub(super) level: Level,
}

impl WatchGrant {
    /// Nothing was asked for yet. The seed makes the jitter.
    pub(super) fn new(seed: u64) -> Self {
        WatchGrant {
            refusal: RefusalClock::default(),
            backoff: Backoff::new(seed.rotate_left(13)),
            log: LogOnce::default(),
        }
    }

    /// A watch was opened; returns whether it was logged that none could be.
    pub(super) fn granted(&mut self) -> bool {
        self.refusal.granted();
        self.backoff.reset();
        self.log.end()
    }

    /// A call had no reply, or one that says nothing about the permission.
    pub(super) fn interrupted(&mut self) {
        self.refusal.interrupted();
    }

    /// The level at which to log a fault of that kind, which has `level` the first time.
    pub(super) fn level(&mut self, level: Level, kind: &'static str) -> Level {
        self.log.level(level, kind)
    }

    /// A call was refused.
    pub(super) fn refused(&mut self, is_draining: bool, now: Time) -> Refused {
        let confirmed = self.refusal.refused(refusal::CONFIRMED_AFTER, now);
        let longest = if confirmed {
            RETRY_LAST
        } else {
            refusal::MAX_PAUSE
        };
        Refused {
            pause: self.backoff.pause(longest).max(RETRY_FIRST),
            level: match confirmed && !is_draining {
                true => self.log.level(Level::Warn, "refused"),
                false => Level::Debug,
            },
        }
    }
}
