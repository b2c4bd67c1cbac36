//! Bounds the load that reads may add to a cluster in trouble.

use crate::{token_bucket::TokenBucket, topology::Tick};

/// The budgets of the reads of one connection. A read that needs neither does no work for them: both are asked with
/// the number of the routed reads that were served so far.
#[derive(Debug)]
pub(super) struct ReadBudget {
    retries: TokenBucket,
    forced: TokenBucket,
    /// The share of the routed reads (0 to 1) that staleness may send to a busy primary.
    staleness_cap: f64,
}

/// Every read earns a fifth of a retry and every second ten (the rule of Finagle's `RetryBudget`: a percentage, plus a
/// minimum for quiet times).
const RETRIES_PER_READ: f64 = 0.20;
const RETRIES_PER_SECOND: f64 = 10.0;
/// Tokens that a full bucket holds.
const DEPTH: f64 = 100.0;

impl ReadBudget {
    pub(super) fn new(staleness_cap: f64) -> Self {
        let forced = if staleness_cap > 0.0 { DEPTH } else { 0.0 };
        Self { retries: TokenBucket::full(DEPTH), forced: TokenBucket::full(forced), staleness_cap }
    }

    /// Whether a read may run a second time; takes the retry.
    pub(super) fn takes_retry(&self, now: Tick, reads: u64) -> bool {
        let seconds = now.since(Tick::default()).as_secs_f64();
        self.retries.take(count(reads) * RETRIES_PER_READ + seconds * RETRIES_PER_SECOND)
    }

    /// Gives a retry back that was worth its price.
    pub(super) fn give_retry_back(&self) {
        self.retries.give_back();
    }

    /// Whether staleness may send one more read to a busy primary; takes its token.
    pub(super) fn takes_forced_read(&self, reads: u64) -> bool {
        self.forced.take(count(reads) * self.staleness_cap)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a budget needs no exact count")]
fn count(reads: u64) -> f64 {
    reads as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_retries_at_once_then_ten_a_second_and_a_fifth_of_the_reads() {
        let budget = ReadBudget::new(0.5);
        let retries = |now, reads| (0..1_000).filter(|_| budget.takes_retry(now, reads)).count();
        assert_eq!(retries(Tick(0), 0), 100);
        let second = Tick(1_000_000_000);
        assert_eq!(retries(second, 0), 10);
        assert_eq!(retries(second, 100), 20);
    }

    #[test]
    fn in_the_long_run_the_cap_is_the_share_of_the_reads() {
        for (cap, share) in [(0.5, 500), (0.25, 250), (1.0, 1_000), (0.0, 0)] {
            let budget = ReadBudget::new(cap);
            while budget.takes_forced_read(0) {}
            // Each read is forced: the bucket says yes to the capped share of them. (± 1: the start is not aligned.)
            let granted = (1..=1_000_u64).filter(|reads| budget.takes_forced_read(*reads)).count();
            assert!(granted.abs_diff(share) <= 1, "cap {cap}: {granted}");
        }
    }
}
