//! How many questions a process may ask all servers together.

use std::{num::NonZeroU32, time::Duration};

use crate::{token_bucket::TokenBucket, topology::Tick};

/// A token for each question: so many are earned in a second, and a tenth of a second's worth is kept.
#[derive(Debug)]
pub(super) struct QuestionBudget {
    per_second: f64,
    depth: f64,
    bucket: TokenBucket,
}

/// A timer of the runtime is no finer. While there are questions to spare, one goes out so much before it is due.
pub(super) const TIMER: Duration = Duration::from_millis(1);

/// Less would not do for one question to the primary and one to a replica.
const LEAST_DEPTH: f64 = 3.0;

impl QuestionBudget {
    pub(super) fn new(most_per_second: NonZeroU32) -> Self {
        let per_second = f64::from(most_per_second.get());
        let depth = (per_second / 10.0).max(LEAST_DEPTH);
        Self { per_second, depth, bucket: TokenBucket::full(depth) }
    }

    fn earned(&self, now: Tick) -> f64 {
        now.since(Tick::default()).as_secs_f64() * self.per_second
    }

    pub(super) fn is_half_full(&self, now: Tick) -> bool {
        self.bucket.missing(self.earned(now), self.half()) <= 0.0
    }

    /// Half of the tokens that the budget keeps.
    pub(super) fn half(&self) -> f64 {
        self.depth / 2.0
    }

    /// Takes a token for one more question if so many are left after it.
    pub(super) fn take_if_left(&self, now: Tick, left: f64) -> bool {
        self.bucket.take_if_left(self.earned(now), left)
    }

    /// Takes a token for a question that is asked in any case: a probe of the health, or of a suspected node.
    pub(super) fn take(&self, now: Tick) {
        self.bucket.overdraw(self.earned(now));
    }

    /// When there will be so many tokens.
    pub(super) fn has(&self, tokens: f64, now: Tick) -> Tick {
        let missing = self.bucket.missing(self.earned(now), tokens);
        now.after(Duration::from_secs_f64(missing / self.per_second).max(TIMER))
    }
}
