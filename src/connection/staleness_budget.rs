//! How many reads the writes of others may send to the primary while the primary is busy.

use std::sync::atomic::{AtomicU64, Ordering};

/// A token bucket: each routed read adds `cap` tokens, a read that staleness forces to the primary takes one, and the
/// bucket holds a hundred.
///
/// The bucket counts in reads instead of tokens (the "generic cell rate algorithm" of ATM traffic management, with
/// the number of reads as its clock). So the state is one number, and a read that finds a fresh replica does
/// nothing for the bucket.
#[derive(Debug)]
pub(super) struct StalenessBudget {
    /// Thousandths of a read: the tokens taken so far are paid for when so many reads have been served.
    paid_at: AtomicU64,
    /// The price of one token, in thousandths of a read; `u64::MAX` when reads add nothing.
    cost: u64,
}

/// Tokens that a full bucket holds.
const DEPTH: u64 = 100;
const SCALE: u64 = 1_000;

impl StalenessBudget {
    /// A full bucket. `cap` is the share of the routed reads (0 to 1) that staleness may send to a busy primary.
    pub(super) fn new(cap: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
        let cost = if cap > 0.0 { (1_000.0 / cap) as u64 } else { u64::MAX };
        Self { paid_at: AtomicU64::new(0), cost }
    }

    /// Takes one token if there is one. `reads` counts the routed reads that were served so far.
    pub(super) fn withdraw(&self, reads: u64) -> bool {
        let now = reads.saturating_mul(SCALE);
        let latest = now.saturating_add(self.cost.saturating_mul(DEPTH - 1));
        self.paid_at
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |paid_at| {
                let from = paid_at.max(now);
                (from <= latest && self.cost != u64::MAX).then(|| from.saturating_add(self.cost))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_serves_a_hundred_reads_at_once() {
        let budget = StalenessBudget::new(0.5);
        assert_eq!((0..1_000).filter(|_| budget.withdraw(0)).count(), 100);
    }

    #[test]
    fn in_the_long_run_the_cap_is_the_share_of_the_reads() {
        for (cap, share) in [(0.5, 500), (0.25, 250), (1.0, 1_000)] {
            let budget = StalenessBudget::new(cap);
            while budget.withdraw(0) {}
            // Each read is forced: the bucket says yes to the capped share of them. (± 1: the start is not aligned.)
            let granted = (1..=1_000_u64).filter(|reads| budget.withdraw(*reads)).count();
            assert!(granted.abs_diff(share) <= 1, "cap {cap}: {granted}");
        }
    }

    #[test]
    fn a_quiet_time_fills_the_bucket_and_no_more() {
        let budget = StalenessBudget::new(0.5);
        while budget.withdraw(0) {}
        assert!(!budget.withdraw(1), "half a token");
        assert_eq!((0..1_000).filter(|_| budget.withdraw(1_000_000)).count(), 100);
    }

    #[test]
    fn a_cap_of_zero_grants_nothing() {
        assert!(!StalenessBudget::new(0.0).withdraw(1_000_000));
    }
}
