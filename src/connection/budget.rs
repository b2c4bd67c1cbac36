//! Bounds how many reads may run a second time: retries must not double the load of a cluster in trouble.

use std::sync::{Mutex, PoisonError};

use crate::topology::Tick;

/// A token bucket: every read earns a fifth of a retry, every second earns ten, and the bucket keeps a hundred (the
/// rule of Finagle's `RetryBudget`: a percentage, plus a minimum for quiet times).
#[derive(Debug)]
pub(super) struct RetryBudget {
    state: Mutex<BudgetState>,
}

#[derive(Debug)]
struct BudgetState {
    tokens: f64,
    refilled_at: Tick,
    reads_seen: u64,
}

const PER_READ: f64 = 0.20;
const PER_SECOND: f64 = 10.0;
const KEPT: f64 = 100.0;

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(BudgetState { tokens: KEPT, refilled_at: Tick::default(), reads_seen: 0 }) }
    }

    /// Takes one retry if there is one. `reads` counts the reads answered so far, so that a read
    /// that needs no retry does no work for the budget.
    pub(super) fn withdraw(&self, now: Tick, reads: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::cast_precision_loss, reason = "a budget needs no exact count")]
        let earned = reads.saturating_sub(state.reads_seen) as f64 * PER_READ
            + now.since(state.refilled_at).as_secs_f64() * PER_SECOND;
        state.tokens = (state.tokens + earned).min(KEPT);
        state.refilled_at = now;
        state.reads_seen = reads;
        if state.tokens < 1.0 {
            return false;
        }
        state.tokens -= 1.0;
        true
    }

    /// Gives a retry back that was worth its price.
    pub(super) fn give_back(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tokens = (state.tokens + 1.0).min(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_retries_at_once_then_ten_a_second_and_a_fifth_of_the_reads() {
        let budget = RetryBudget::new();
        let now = Tick(0);
        assert_eq!((0..1_000).filter(|_| budget.withdraw(now, 0)).count(), 100);
        let second = Tick(1_000_000_000);
        assert_eq!((0..1_000).filter(|_| budget.withdraw(second, 0)).count(), 10);
        assert_eq!((0..1_000).filter(|_| budget.withdraw(second, 100)).count(), 20);
    }
}
