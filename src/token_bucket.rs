//! A token bucket, for all that is bounded: second attempts, reads on a busy primary, questions to the servers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Holds at most `depth` tokens, and is full at first. Each use takes one token.
///
/// The caller says how many tokens were earned since the beginning: by time, by served reads, or by both. So the state
/// is one number (the "generic cell rate algorithm" of ATM traffic management, with the earned tokens as its clock);
/// no lock is taken, and earning a token costs nothing.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    /// In thousandths of a token, as all numbers of the state.
    depth: u64,
    /// The tokens taken so far are paid for when so many have been earned.
    paid_at: AtomicU64,
}

/// One token.
const TOKEN: u64 = 1_000;

impl TokenBucket {
    pub(crate) fn full(depth: f64) -> Self {
        Self { depth: thousandths(depth), paid_at: AtomicU64::new(0) }
    }

    /// Takes one token if there is one.
    pub(crate) fn take(&self, earned: f64) -> bool {
        self.take_if_left(earned, 0.0)
    }

    /// Takes one token if `left` tokens remain in the bucket after it.
    pub(crate) fn take_if_left(&self, earned: f64, left: f64) -> bool {
        let now = thousandths(earned);
        let latest = now.saturating_add(self.depth);
        self.pay(|paid_at| {
            let paid_at = paid_at.max(now).saturating_add(TOKEN);
            (paid_at.saturating_add(thousandths(left)) <= latest).then_some(paid_at)
        })
    }

    /// Takes one token in any case. The debt is at most as large as the depth.
    pub(crate) fn overdraw(&self, earned: f64) {
        let now = thousandths(earned);
        let latest = now.saturating_add(self.depth.saturating_mul(2));
        self.pay(|paid_at| Some(paid_at.max(now).saturating_add(TOKEN).min(latest)));
    }

    /// Gives one token back.
    pub(crate) fn give_back(&self) {
        self.pay(|paid_at| Some(paid_at.saturating_sub(TOKEN)));
    }

    /// The number of tokens that are missing until `wanted` tokens are in the bucket.
    pub(crate) fn missing(&self, earned: f64, wanted: f64) -> f64 {
        let now = thousandths(earned);
        let until = self.paid_at.load(Ordering::Acquire).max(now).saturating_add(thousandths(wanted));
        #[expect(clippy::cast_precision_loss, reason = "a budget needs no exact count")]
        let missing = until.saturating_sub(now.saturating_add(self.depth)) as f64;
        missing / TOKEN as f64
    }

    fn pay(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        self.paid_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
fn thousandths(tokens: f64) -> u64 {
    (tokens * TOKEN as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &TokenBucket, earned: f64) -> usize {
        (0..1_000).filter(|_| bucket.take(earned)).count()
    }

    #[test]
    fn a_full_bucket_gives_its_depth_and_then_what_was_earned() {
        let bucket = TokenBucket::full(100.0);
        assert_eq!(taken(&bucket, 0.0), 100);
        assert!(!bucket.take(0.5), "half a token");
        assert_eq!(taken(&bucket, 10.0), 10);
        assert_eq!(taken(&bucket, 1_000_000.0), 100, "a quiet time fills the bucket and no more");
        assert_eq!(taken(&TokenBucket::full(0.0), 1_000_000.0), 0);
    }

    #[test]
    fn a_token_that_must_be_left_is_not_taken() {
        let bucket = TokenBucket::full(3.0);
        assert!(bucket.take_if_left(0.0, 2.0));
        assert!(!bucket.take_if_left(0.0, 2.0));
        assert!(bucket.take_if_left(1.0, 2.0));
    }

    #[test]
    fn a_debt_is_paid_first_and_is_bounded() {
        let bucket = TokenBucket::full(3.0);
        (0..100).for_each(|_| bucket.overdraw(0.0));
        assert_eq!(bucket.missing(0.0, 1.0).to_string(), "4");
        assert!(!bucket.take(3.9));
        assert!(bucket.take(4.0));
        assert_eq!(bucket.missing(10.0, 1.0).to_string(), "0");
    }
}
