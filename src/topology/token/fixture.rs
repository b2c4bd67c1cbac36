//! Tokens for property tests.

use std::time::Duration;

use proptest::prelude::*;

use super::{super::position::fixture::positions, CausalToken};

/// Tokens of every kind, also of the kinds that only a merge makes.
pub(super) fn tokens() -> impl Strategy<Value = CausalToken> {
    let millis = || prop_oneof![Just(0), 0..10_u64, Just(u64::MAX)].prop_map(Duration::from_millis);
    let one = (prop::option::of(positions()), millis(), millis())
        .prop_map(|(position, open_for, sticks_for)| CausalToken::new(position, open_for, sticks_for));
    prop::collection::vec(one, 1..3).prop_map(|tokens| {
        let nothing = CausalToken::new(None, Duration::ZERO, Duration::ZERO);
        tokens.iter().fold(nothing, |merged, token| merged.merge(token))
    })
}
