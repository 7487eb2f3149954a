//! [`Backoff`]: pauses between attempts that fail. [`Random`]: the source of its jitter.

use std::time::Duration;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause.
pub const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Pauses that double from 50 ms to 30 s, each shortened at random by up to
/// half, so that many proxies that lost one API server at the same moment do
/// not come back to it at the same moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    failures: u32,
    random: Random,
}

impl Backoff {
    /// No failure yet. `seed` determines the jitter and differs between processes.
    pub fn new(seed: u64) -> Self {
        Backoff {
            failures: 0,
            random: Random::new(seed),
        }
    }

    /// An attempt has succeeded: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The number of failures since the last [`Backoff::reset`].
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// An attempt has failed. Returns how long to wait, at most `longest`.
    pub fn pause(&mut self, longest: Duration) -> Duration {
        let doubled = FIRST
            .saturating_mul(1 << self.failures.min(20))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        let half = doubled / 2;
        half + half.mul_f64(self.random.fraction())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014), a pseudo-random generator. It is good enough
/// for jitter and not for secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number, from 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_50_ms_to_the_longest_and_keep_at_least_half() {
        let mut backoff = Backoff::new(7);
        for full_ms in [
            50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000,
        ] {
            let pause = backoff.pause(MAX_PAUSE);
            let full = Duration::from_millis(full_ms);
            assert!(full / 2 <= pause && pause <= full, "{pause:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.pause(MAX_PAUSE) <= Duration::from_millis(50));
    }

    #[test]
    fn two_processes_do_not_pause_alike() {
        let (mut one, mut other) = (Backoff::new(1), Backoff::new(2));
        assert_ne!(one.pause(MAX_PAUSE), other.pause(MAX_PAUSE));
    }

    #[test]
    fn a_million_failures_do_not_overflow() {
        let mut backoff = Backoff {
            failures: u32::MAX,
            random: Random::new(0),
        };
        assert!(backoff.pause(MAX_PAUSE) <= MAX_PAUSE);
    }
}
