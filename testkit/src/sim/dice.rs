//! The random numbers of a simulation, all from one seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// The random numbers of one simulation.
#[derive(Debug)]
pub struct Dice(SmallRng);

impl Dice {
    /// Dice whose throws all follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// From 0 up to, and without, `bound` (at least 1).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    /// From `from` up to, and without, `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        self.0.random_range(from..to)
    }

    /// True in so many of a hundred throws.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// Whole milliseconds, from `from` up to, and without, `to`: tokio's timers know nothing finer.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    /// One of several.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// The index of one of `len` items.
    ///
    /// # Panics
    /// When there are none.
    pub fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// A number to seed something else with.
    pub fn seed(&mut self) -> u64 {
        self.0.random()
    }
}
