//! The policy that draws by weight.

use super::{Candidate, Policy};
use crate::routing::Draw;

/// Draws by weight, without regard to the load.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRandom;

impl Policy for WeightedRandom {
    fn order(&self, candidates: &mut [Candidate<'_>], draw: &mut Draw) {
        draw_by_weight(candidates, 1, draw);
    }

    fn preview(&self, candidates: &mut [Candidate<'_>]) {
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.weight()));
    }
}

/// Puts `count` candidates, drawn by weight without replacement, at the front.
pub(super) fn draw_by_weight(candidates: &mut [Candidate<'_>], count: usize, draw: &mut Draw) {
    let mut total: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight().get())).sum();
    for place in 0..count.min(candidates.len()) {
        let mut point = draw.below(total);
        let mut chosen = place;
        for (index, candidate) in candidates.iter().enumerate().skip(place) {
            let weight = u64::from(candidate.weight().get());
            if point < weight {
                chosen = index;
                break;
            }
            point -= weight;
        }
        total -= u64::from(candidates[chosen].weight().get());
        candidates.swap(place, chosen);
    }
}
