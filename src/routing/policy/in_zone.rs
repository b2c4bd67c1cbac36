//! The policy that keeps reads in one zone.

use std::{sync::Arc, time::Duration};

use super::{Candidate, Policy};
use crate::routing::Draw;

/// Prefers the members of one zone, and applies another policy among them.
///
/// Reads leave the zone when none of its members is a candidate (down, drained, ejected, too far behind, not fresh
/// enough for the read, or left out of it by its [slow start](crate::Config::slow_start)), or when all read-only
/// connections of its candidates are busy while a member elsewhere has a free one. The other policy then chooses among
/// the members elsewhere. When all members are busy, the read waits in its own zone.
///
/// [`Config::zone`](crate::Config::zone) puts this policy around the policy in use. The zone of a member is
/// [`NodeConfig::zone`](crate::NodeConfig::zone), compared letter by letter. The share of the reads that the primary takes
/// ([`Config::primary_read_share`](crate::Config::primary_read_share)) is drawn before any policy is asked, in whatever zone
/// the primary is; 0 keeps those reads in the zone, too.
///
/// # Example
/// ```
/// use sea_orm_resolver::{Candidate, Draw, InZone, LeastInFlight, Policy};
///
/// let mut candidates = [
///     Candidate::builder("far").zone("b").build(),
///     Candidate::builder("near").zone("a").in_flight(7).build(),
/// ];
/// InZone::new("a", LeastInFlight).order(&mut candidates, &mut Draw::seeded(1));
/// assert_eq!(candidates[0].name(), "near");
/// ```
#[derive(Clone, Debug)]
pub struct InZone<P> {
    zone: Arc<str>,
    policy: P,
}

impl<P: Policy> InZone<P> {
    /// Prefers the members of `zone`; among them, and among the members elsewhere, `policy` decides.
    pub fn new(zone: impl Into<Arc<str>>, policy: P) -> Self {
        Self { zone: zone.into(), policy }
    }

    /// How far a candidate is from what is wanted: a free connection first, then the own zone. An ejected member is a
    /// candidate only where ejections are ignored.
    fn distance(&self, candidate: &Candidate<'_>) -> (bool, bool) {
        (candidate.is_busy(), candidate.zone() != Some(&*self.zone))
    }

    /// Brings the nearest candidates to the front, and returns them. All keep their order otherwise.
    fn nearest<'s, 'a>(&self, candidates: &'s mut [Candidate<'a>]) -> &'s mut [Candidate<'a>] {
        // Insertion by rotation is stable and allocates nothing.
        let Some(least) = candidates.iter().map(|candidate| self.distance(candidate)).min() else { return candidates };
        let mut count = 0;
        for index in 0..candidates.len() {
            if self.distance(&candidates[index]) == least {
                candidates[count..=index].rotate_right(1);
                count += 1;
            }
        }
        &mut candidates[..count]
    }
}

impl<P: Policy> Policy for InZone<P> {
    fn order(&self, candidates: &mut [Candidate<'_>], draw: &mut Draw) {
        let nearest = self.nearest(candidates);
        if nearest.len() > 1 {
            self.policy.order(nearest, draw);
        }
    }

    fn preview(&self, candidates: &mut [Candidate<'_>]) {
        self.policy.preview(self.nearest(candidates));
    }

    fn latency_decay(&self) -> Option<Duration> {
        self.policy.latency_decay()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::routing::{CandidateState, LeastLatency, RoundRobin, WeightedRandom};

    fn member(name: &str, zone: &str, state: CandidateState) -> Candidate<'static> {
        Candidate::builder(name).zone(zone).state(state).build()
    }

    #[test]
    fn the_policy_takes_turns_in_the_zone_only_and_elsewhere_when_the_zone_is_full() {
        use CandidateState::{Busy, Free};

        for (near, expected) in [(Free, ["near-1", "near-2"]), (Busy, ["far-1", "far-2"])] {
            let mut candidates = [
                member("far-1", "b", Free),
                member("near-1", "a", near),
                member("far-2", "b", Free),
                member("near-2", "a", near),
            ];
            let policy = InZone::new("a", RoundRobin::default());
            let mut turns = BTreeMap::<String, u32>::new();
            for _ in 0..10 {
                policy.order(&mut candidates, &mut Draw::seeded(1));
                *turns.entry(candidates[0].name().to_owned()).or_default() += 1;
            }
            assert_eq!(turns, expected.map(|name| (name.to_owned(), 5)).into());
        }
    }

    #[test]
    fn ejections_that_are_ignored_are_ignored_here_too() {
        let mut candidates = [member("far", "b", CandidateState::Free), member("near", "a", CandidateState::Ejected)];
        InZone::new("a", RoundRobin::default()).order(&mut candidates, &mut Draw::seeded(1));
        assert_eq!(candidates[0].name(), "near");
    }

    #[test]
    fn a_preview_keeps_the_order_of_the_configuration() {
        let mut candidates = [("one", "b"), ("two", "a"), ("three", "b"), ("four", "a")]
            .map(|(name, zone)| member(name, zone, CandidateState::Free));
        InZone::new("a", WeightedRandom).preview(&mut candidates);
        assert_eq!(candidates.each_ref().map(Candidate::name), ["two", "four", "one", "three"]);
    }

    #[test]
    fn the_measuring_of_the_inner_policy_goes_on() {
        assert_eq!(InZone::new("a", LeastLatency::default()).latency_decay(), Some(Duration::from_secs(10)));
        assert_eq!(InZone::new("a", RoundRobin::default()).latency_decay(), None);
    }
}
