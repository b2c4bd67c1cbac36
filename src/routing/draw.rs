//! Random numbers for decisions: seedable, without a lock or a thread-local.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

/// The random numbers of one decision.
#[derive(Debug)]
pub struct Draw(SmallRng);

impl Draw {
    /// A generator whose whole sequence follows from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// A number from 0 up to, and without, `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.random_range(0..bound) }
    }

    /// A number from 0.0 up to, and without, 1.0, in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Sixty-four random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Gives each decision a [`Draw`] of its own.
///
/// The n-th decision of a connection always gets the same numbers for the same seed: one atomic addition numbers
/// the decision, and the generator (xoshiro256++, seeded through SplitMix64) does the rest.
#[derive(Debug)]
pub(crate) struct DrawSource {
    next: AtomicU64,
}

impl DrawSource {
    /// The odd constant of SplitMix64 (Steele, Lea, Flood 2014): it spreads consecutive decisions.
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    pub(crate) fn new(seed: u64) -> Self {
        Self { next: AtomicU64::new(seed) }
    }

    pub(crate) fn draw(&self) -> Draw {
        Draw::seeded(self.next.fetch_add(Self::GOLDEN_GAMMA, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_decisions() {
        let numbers = |seed| {
            let source = DrawSource::new(seed);
            (0..100).map(|_| source.draw().bits()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn first_draws_of_consecutive_decisions_are_uniform() {
        // 100 000 draws into 10 cells; the 99.9 % quantile of chi-squared with 9 degrees of
        // freedom is 27.9.
        let source = DrawSource::new(1);
        let mut cells = [0_u32; 10];
        for _ in 0..100_000 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 9")]
            let cell = (source.draw().unit() * 10.0) as usize;
            cells[cell] += 1;
        }
        let chi_squared: f64 = cells.iter().map(|&count| (f64::from(count) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi_squared < 27.9, "{cells:?}");
    }

    #[test]
    fn a_bound_of_zero_is_zero() {
        assert_eq!(Draw::seeded(1).below(0), 0);
    }
}
