//! [`Rng`]: random numbers from a seed. Every actor has its own, so that the removal of one actor
//! does not change the numbers of the others.

use std::time::Duration;

use zpa::backoff::Random;

/// One actor's rng (SplitMix64).
pub struct Rng(Random);

impl Rng {
    /// The rng of `actor` in the run with that seed.
    pub fn new(seed: u64, actor: u64) -> Self {
        let mut mixer = Random::new(seed ^ actor.wrapping_mul(0xD134_2543_DE82_EF95));
        Rng(Random::new(mixer.bits()))
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// Whether something happens that happens with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.0.fraction() < p
    }

    /// A number below `n`, which is above zero.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// One of `all`.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A time between the two.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        shortest + (longest.saturating_sub(shortest)).mul_f64(self.0.fraction())
    }

    /// A time that is short as a rule and up to `longest` now and then: of
    /// the same order at every scale.
    pub fn around(&mut self, usual: Duration, longest: Duration) -> Duration {
        if self.chance(0.9) {
            self.between(usual / 4, usual)
        } else {
            self.between(usual, longest)
        }
    }
}
