//! The policy that prefers the member with the fewest operations in flight.

use std::{cmp::Ordering, num::NonZeroU32};

use super::{Candidate, Policy, weighted_random::draw_by_weight};
use crate::routing::Draw;

/// Prefers the member with the fewest operations in flight for its weight. The default.
///
/// Up to four candidates are all compared; of more, two are drawn by weight and compared ("the
/// power of two choices", Mitzenmacher 2001). Ties keep the order of a draw by weight, so on an
/// idle cluster this is [`WeightedRandom`](crate::WeightedRandom), and under load a slow member gets less.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastInFlight;

impl LeastInFlight {
    const FULL_SCAN: usize = 4;
}

impl Policy for LeastInFlight {
    fn order(&self, candidates: &mut [Candidate<'_>], draw: &mut Draw) {
        let compared = if candidates.len() <= Self::FULL_SCAN { candidates.len() } else { 2 };
        draw_by_weight(candidates, compared, draw);
        // Stable insertion sort: at most four, and ties must keep the drawn order.
        for index in 1..compared {
            let mut place = index;
            while place > 0 && compare_load(&candidates[place], &candidates[place - 1]) == Ordering::Less {
                candidates.swap(place, place - 1);
                place -= 1;
            }
        }
    }

    fn preview(&self, candidates: &mut [Candidate<'_>]) {
        candidates.sort_by(compare_load);
    }
}

/// Compares in-flight counts per weight, without division.
pub(super) fn compare_load(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let scaled = |count: u64, weight: NonZeroU32| u128::from(count) * u128::from(weight.get());
    scaled(a.in_flight(), b.weight()).cmp(&scaled(b.in_flight(), a.weight()))
}
