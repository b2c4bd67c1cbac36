//! How many questions a process may ask all servers together.

use std::{num::NonZeroU32, time::Duration};

use crate::topology::Tick;

/// How many questions may be asked: a token for each, so many a second, and a tenth of a second's worth is kept.
#[derive(Debug)]
pub(super) struct QuestionBudget {
    per_second: f64,
    depth: f64,
    tokens: f64,
    filled_at: Tick,
}

/// A timer of the runtime is no finer. While there are questions to spare, one goes out so much before it is due.
pub(super) const TIMER: Duration = Duration::from_millis(1);

/// Less would not do for one question to the primary and one to a replica.
const LEAST_DEPTH: f64 = 3.0;

impl QuestionBudget {
    pub(super) fn new(most_per_second: NonZeroU32) -> Self {
        let per_second = f64::from(most_per_second.get());
        let depth = (per_second / 10.0).max(LEAST_DEPTH);
        Self { per_second, depth, tokens: depth, filled_at: Tick::default() }
    }

    fn fill(&mut self, now: Tick) {
        let earned = now.since(self.filled_at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + earned).min(self.depth);
        self.filled_at = self.filled_at.max(now);
    }

    pub(super) fn is_half_full(&mut self, now: Tick) -> bool {
        self.fill(now);
        self.tokens >= self.half()
    }

    /// Half of the tokens that the budget keeps.
    pub(super) fn half(&self) -> f64 {
        self.depth / 2.0
    }

    /// Takes a token for one more question if so many are left after it.
    pub(super) fn take_if_left(&mut self, now: Tick, left: f64) -> bool {
        self.fill(now);
        let is_there = self.tokens >= 1.0 + left;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }

    /// Takes a token for a question that is asked in any case: a probe of the health, or of a suspected node.
    pub(super) fn take(&mut self, now: Tick) {
        self.fill(now);
        self.tokens = (self.tokens - 1.0).max(-self.depth);
    }

    /// When there will be so many tokens.
    pub(super) fn has(&self, tokens: f64, now: Tick) -> Tick {
        let missing = (tokens - self.tokens).max(0.0);
        now.after(Duration::from_secs_f64(missing / self.per_second).max(TIMER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_of_the_health_count_and_are_never_held_back() {
        let mut budget = QuestionBudget::new(NonZeroU32::new(10).expect("above zero"));
        for _ in 0..100 {
            budget.take(Tick(0));
        }
        assert!(!budget.take_if_left(Tick(0), 0.0));
        let later = budget.has(1.0, Tick(0));
        assert!(later <= Tick(1_000_000_000), "a debt is forgiven: {later:?}");
        assert!(budget.take_if_left(later, 0.0));
    }
}
