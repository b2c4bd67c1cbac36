//! The policies: the order in which reads try the members of a tier.

mod candidate;
mod in_zone;
mod least_in_flight;
mod least_latency;
mod round_robin;
mod weighted_random;

use std::{fmt::Debug, sync::Arc, time::Duration};

use super::Draw;

pub use candidate::{Candidate, CandidateBuilder, CandidateState};
pub use in_zone::InZone;
pub use least_in_flight::LeastInFlight;
pub use least_latency::LeastLatency;
pub use round_robin::RoundRobin;
pub use weighted_random::WeightedRandom;

/// Orders the eligible members of a tier: the first runs the statement.
///
/// A policy permutes: it can swap candidates, and neither add, drop nor repeat one (a [`Candidate`] cannot be copied, and one
/// that [`Candidate::builder`] makes does not fit among those of a decision). A decision calls its policy at most once, with at
/// least two candidates. The policy must not block, and should not allocate.
///
/// The built-in policies are [`LeastInFlight`], [`LeastLatency`], [`RoundRobin`], [`WeightedRandom`], and [`InZone`] around any
/// of them or around a user's own.
///
/// # Example
/// ```
/// use sea_orm_resolver::{Candidate, DatabaseConnection, Draw, Policy};
///
/// /// Keeps reads away from the replicas with a tag.
/// #[derive(Debug)]
/// struct Without(&'static str);
///
/// impl Policy for Without {
///     fn order(&self, candidates: &mut [Candidate<'_>], _draw: &mut Draw) {
///         candidates.sort_by_key(|candidate| candidate.has_tag(self.0));
///     }
/// }
///
/// let builder = DatabaseConnection::builder().policy(Without("reports"));
/// # let _ = builder;
///
/// // In its unit test:
/// let mut candidates =
///     [Candidate::builder("db-2").tag("reports").build(), Candidate::builder("db-3").in_flight(9).build()];
/// Without("reports").order(&mut candidates, &mut Draw::seeded(1));
/// assert_eq!(candidates[0].name(), "db-3");
/// ```
pub trait Policy: Debug + Send + Sync {
    /// Puts the best candidate first.
    fn order(&self, candidates: &mut [Candidate<'_>], draw: &mut Draw);

    /// As [`order`](Self::order), as far as the policy can tell without a draw and without changing its state:
    /// for [`explain`](crate::DatabaseConnection::explain). By default the order of the configuration.
    fn preview(&self, candidates: &mut [Candidate<'_>]) {
        let _ = candidates;
    }

    /// The time constant with which the latencies of the members decay, when the policy asks for latencies. By default
    /// `None`: then no read is measured, and [`Candidate::latency`] stays as it is or `None`. Asked for each read.
    fn latency_decay(&self) -> Option<Duration> {
        None
    }
}

/// A policy that several connections share.
impl<P: Policy + ?Sized> Policy for Arc<P> {
    fn order(&self, candidates: &mut [Candidate<'_>], draw: &mut Draw) {
        (**self).order(candidates, draw);
    }

    fn preview(&self, candidates: &mut [Candidate<'_>]) {
        (**self).preview(candidates);
    }

    fn latency_decay(&self) -> Option<Duration> {
        (**self).latency_decay()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::topology::{Lane, Lease, Member, Role, Tick, fixture};

    const NOW: Tick = Tick(10_000_000_000);

    fn policies() -> [Arc<dyn Policy>; 5] {
        [
            Arc::new(WeightedRandom),
            Arc::new(LeastInFlight),
            Arc::new(RoundRobin::default()),
            Arc::new(LeastLatency::default()),
            Arc::new(InZone::new("a", LeastInFlight)),
        ]
    }

    fn candidate() -> impl Strategy<Value = CandidateBuilder> {
        let state = prop_oneof![Just(CandidateState::Free), Just(CandidateState::Busy), Just(CandidateState::Ejected)];
        let milliseconds = prop::option::of(0_u64..100);
        (0_u32..100, prop::option::of("[ab]"), 0_u64..10, state, milliseconds).prop_map(
            |(weight, zone, in_flight, state, latency)| {
                let made = Candidate::builder("").weight(weight).in_flight(in_flight).state(state);
                let made = zone.into_iter().fold(made, CandidateBuilder::zone);
                latency.map(Duration::from_millis).into_iter().fold(made, CandidateBuilder::latency)
            },
        )
    }

    fn counts(policy: &dyn Policy, members: &[Member], rounds: u32) -> BTreeMap<String, u32> {
        let mut draw = Draw::seeded(11);
        let mut counts = BTreeMap::new();
        for _ in 0..rounds {
            let mut candidates: Vec<_> = members.iter().map(|member| Candidate::new(member, NOW)).collect();
            policy.order(&mut candidates, &mut draw);
            *counts.entry(candidates[0].name().to_owned()).or_default() += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn every_policy_permutes(made in prop::collection::vec(candidate(), 0..12), seed: u64) {
            for policy in policies() {
                for policy in [Arc::clone(&policy), Arc::new(InZone::new("b", policy))] {
                    let mut candidates: Vec<_> = made.iter().cloned().map(CandidateBuilder::build).collect();
                    let ids = |candidates: &[Candidate<'_>]| candidates.iter().map(Candidate::id).collect::<HashSet<_>>();
                    let expected = ids(&candidates);
                    policy.order(&mut candidates, &mut Draw::seeded(seed));
                    prop_assert_eq!(ids(&candidates), expected.clone());
                    policy.preview(&mut candidates);
                    prop_assert_eq!(ids(&candidates), expected);
                }
            }
        }

        #[test]
        fn no_read_leaves_the_zone_while_a_member_in_the_zone_is_free(
            made in prop::collection::vec(candidate(), 1..12),
            seed: u64,
        ) {
            let is_near = |candidate: &Candidate<'_>| candidate.zone() == Some("a");
            let is_free = |candidate: &Candidate<'_>| candidate.state() != CandidateState::Busy;
            for policy in policies() {
                let mut candidates: Vec<_> = made.iter().cloned().map(CandidateBuilder::build).collect();
                InZone::new("a", policy).order(&mut candidates, &mut Draw::seeded(seed));
                let chosen = &candidates[0];
                let some_free = candidates.iter().any(is_free);
                prop_assert_eq!(is_free(chosen), some_free, "a busy member leaves the read to a free one");
                let like_chosen = |candidate: &&Candidate<'_>| is_free(candidate) == some_free;
                prop_assert_eq!(is_near(chosen), candidates.iter().filter(like_chosen).any(is_near));
            }
        }
    }

    #[test]
    fn weights_hold_in_every_policy_on_an_idle_cluster() {
        // 40 000 decisions with weights 1, 2, 5: 5 000, 10 000, 25 000 expected. The largest
        // standard deviation is √(40 000 · 5/8 · 3/8) ≈ 97; the tolerance is more than four of it.
        let members = [fixture::replica("one", 1), fixture::replica("two", 2), fixture::replica("five", 5)];
        for policy in policies() {
            let counts = counts(policy.as_ref(), &members, 40_000);
            for (name, expected) in [("one", 5_000_u32), ("two", 10_000), ("five", 25_000)] {
                assert!(counts[name].abs_diff(expected) < 400, "{policy:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn least_in_flight_avoids_the_busy_member() {
        let members = [fixture::replica("busy", 1), fixture::replica("idle", 1)];
        let _running = Lease::take(members[0].node.clone(), Lane::Read, Role::Replica);
        assert_eq!(counts(&LeastInFlight, &members, 100), BTreeMap::from([("idle".to_owned(), 100)]));
    }

    #[test]
    fn least_in_flight_compares_load_per_weight() {
        let members = [fixture::replica("small", 1), fixture::replica("large", 10)];
        let _running: Vec<_> =
            (0..5).map(|_| Lease::take(members[1].node.clone(), Lane::Read, Role::Replica)).collect();
        let _one = Lease::take(members[0].node.clone(), Lane::Read, Role::Replica);
        assert_eq!(counts(&LeastInFlight, &members, 100), BTreeMap::from([("large".to_owned(), 100)]));
    }

    #[test]
    fn two_of_many_are_compared_when_there_are_more_than_four() {
        let members: Vec<_> = (0..8).map(|i| fixture::replica(&format!("r{i}"), 1)).collect();
        let _running = Lease::take(members[0].node.clone(), Lane::Read, Role::Replica);
        let counts = counts(&LeastInFlight, &members, 8_000);
        assert!(!counts.contains_key("r0"), "the busy one always loses its comparison: {counts:?}");
        assert_eq!(counts.len(), 7);
    }
}
