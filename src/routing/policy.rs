//! The policies: the order in which reads try the members of a tier.

use std::{
    cmp::Ordering,
    fmt::Debug,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use smallvec::SmallVec;

use super::Draw;
use crate::topology::{Member, NodeId};

/// Orders the eligible members of a tier: the first runs the statement.
///
/// A policy permutes: it can swap candidates, and neither add, drop nor repeat one (a [`Candidate`] can be neither made
/// nor copied outside this crate). A decision calls its policy once, with at least two candidates. The policy must not
/// block, and should not allocate.
///
/// # Example
/// ```
/// use sea_orm_resolver::{Candidate, DatabaseConnection, Draw, Policy};
///
/// /// Prefers the replicas of one zone.
/// #[derive(Debug)]
/// struct Near(&'static str);
///
/// impl Policy for Near {
///     fn order(&self, candidates: &mut [Candidate<'_>], _draw: &mut Draw) {
///         candidates.sort_by_key(|candidate| candidate.zone() != Some(self.0));
///     }
/// }
///
/// let builder = DatabaseConnection::builder().policy(Near("eu-west-1a"));
/// # let _ = builder;
/// ```
pub trait Policy: Debug + Send + Sync {
    /// Puts the best candidate first.
    fn order(&self, candidates: &mut [Candidate<'_>], draw: &mut Draw);

    /// As [`order`](Self::order), as far as the policy can tell without a draw and without changing its state:
    /// for [`explain`](crate::DatabaseConnection::explain). By default the order of the configuration.
    fn preview(&self, candidates: &mut [Candidate<'_>]) {
        let _ = candidates;
    }
}

/// A member that may serve the statement, as a policy sees it.
#[derive(Debug)]
pub struct Candidate<'a> {
    member: &'a Member,
    /// Counted once, so that a policy compares numbers that do not change during the decision.
    in_flight: u64,
}

impl<'a> Candidate<'a> {
    pub(crate) fn new(member: &'a Member) -> Self {
        Self { member, in_flight: member.node.in_flight() }
    }

    pub(crate) fn member(&self) -> &'a Member {
        self.member
    }

    fn id(&self) -> NodeId {
        self.member.node.id()
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        self.member.name()
    }

    /// The member's share of the tier's reads, relative to the other members.
    pub fn weight(&self) -> NonZeroU32 {
        self.member.weight()
    }

    /// The operations that ran on the member when this decision began.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The member's zone.
    pub fn zone(&self) -> Option<&str> {
        self.member.zone()
    }

    /// Whether the configuration gave the member this tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.member.settings.tags.contains(tag)
    }

    /// The duration of the member's last answered probe.
    pub fn round_trip(&self) -> Option<Duration> {
        self.member.round_trip()
    }
}

/// Puts `count` candidates, drawn by weight without replacement, at the front.
fn draw_by_weight(candidates: &mut [Candidate<'_>], count: usize, draw: &mut Draw) {
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

/// Prefers the member with the fewest operations in flight for its weight. The default.
///
/// Up to four candidates are all compared; of more, two are drawn by weight and compared ("the
/// power of two choices", Mitzenmacher 2001). Ties keep the order of a draw by weight, so on an
/// idle cluster this is [`WeightedRandom`], and under load a slow member gets less.
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
fn compare_load(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let scaled = |count: u64, weight: NonZeroU32| u128::from(count) * u128::from(weight.get());
    scaled(a.in_flight, b.weight()).cmp(&scaled(b.in_flight, a.weight()))
}

/// Takes the members in turn, each as often as its weight says, spread evenly.
///
/// "Smooth weighted round robin" as in nginx (`ngx_http_upstream_round_robin`): in every turn each candidate gains its
/// weight, the richest is taken and pays the sum. A member that is not eligible for a read keeps its credit; a new
/// member starts at zero; a member that was no candidate for 1024 turns is forgotten.
#[derive(Debug, Default)]
pub struct RoundRobin {
    credits: Mutex<Credits>,
}

#[derive(Clone, Debug, Default)]
struct Credits {
    /// Counts the turns.
    turn: u64,
    accounts: SmallVec<[Account; 8]>,
}

/// The credit of one member.
#[derive(Clone, Copy, Debug)]
struct Account {
    id: NodeId,
    credit: i64,
    /// The last turn in which the member was a candidate.
    last_turn: u64,
}

impl Credits {
    /// The turns for which a member keeps its credit without being a candidate. A policy is not told which members
    /// left.
    const KEPT_TURNS: u64 = 1_024;

    /// Gives each candidate its weight, and takes the sum from the richest; gives the index of the richest.
    fn take_turn(&mut self, candidates: &[Candidate<'_>]) -> Option<usize> {
        self.turn += 1;
        let turn = self.turn;
        let mut total = 0_i64;
        // The index of the candidate, the place of its account, and its credit.
        let mut richest: Option<(usize, usize, i64)> = None;
        for (index, candidate) in candidates.iter().enumerate() {
            let weight = i64::from(candidate.weight().get());
            total += weight;
            let place = self.account_of(candidate.id());
            let account = &mut self.accounts[place];
            account.last_turn = turn;
            account.credit += weight;
            if richest.is_none_or(|(_, _, most)| account.credit > most) {
                richest = Some((index, place, account.credit));
            }
        }
        let (index, place, _) = richest?;
        self.accounts[place].credit -= total;
        self.accounts.retain(|account| turn - account.last_turn < Self::KEPT_TURNS);
        Some(index)
    }

    /// The place of a member's account, which is opened if the member has none.
    fn account_of(&mut self, id: NodeId) -> usize {
        self.accounts.iter().position(|account| account.id == id).unwrap_or_else(|| {
            self.accounts.push(Account { id, credit: 0, last_turn: 0 });
            self.accounts.len() - 1
        })
    }
}

impl RoundRobin {
    fn credits(&self) -> MutexGuard<'_, Credits> {
        // A panic under the lock leaves numbers, not broken invariants.
        self.credits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy for RoundRobin {
    fn order(&self, candidates: &mut [Candidate<'_>], _draw: &mut Draw) {
        if let Some(index) = self.credits().take_turn(candidates) {
            candidates.swap(0, index);
        }
    }

    fn preview(&self, candidates: &mut [Candidate<'_>]) {
        let mut credits = self.credits().clone();
        if let Some(index) = credits.take_turn(candidates) {
            candidates.swap(0, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::topology::{Lane, Lease, Role, fixture};

    fn policies() -> [Box<dyn Policy>; 3] {
        [Box::new(WeightedRandom), Box::new(LeastInFlight), Box::new(RoundRobin::default())]
    }

    fn counts(policy: &dyn Policy, members: &[Member], rounds: u32) -> BTreeMap<String, u32> {
        let mut draw = Draw::seeded(11);
        let mut counts = BTreeMap::new();
        for _ in 0..rounds {
            let mut candidates: Vec<_> = members.iter().map(Candidate::new).collect();
            policy.order(&mut candidates, &mut draw);
            *counts.entry(candidates[0].name().to_owned()).or_default() += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn every_policy_permutes(weights in prop::collection::vec(1_u32..100, 1..12), seed: u64) {
            let members: Vec<_> = weights.iter().enumerate().map(|(i, &w)| fixture::replica(&format!("r{i}"), w)).collect();
            for policy in policies() {
                let mut candidates: Vec<_> = members.iter().map(Candidate::new).collect();
                policy.order(&mut candidates, &mut Draw::seeded(seed));
                let mut names: Vec<_> = candidates.iter().map(|c| c.name().to_owned()).collect();
                names.sort();
                let mut expected: Vec<_> = members.iter().map(|m| m.name().to_owned()).collect();
                expected.sort();
                prop_assert_eq!(names, expected);
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

    #[test]
    fn round_robin_takes_turns_smoothly_and_survives_members_leaving() {
        let policy = RoundRobin::default();
        let members = [fixture::replica("a", 3), fixture::replica("b", 1)];
        let mut draw = Draw::seeded(0);
        let mut next = |members: &[Member]| {
            let mut candidates: Vec<_> = members.iter().map(Candidate::new).collect();
            policy.order(&mut candidates, &mut draw);
            candidates[0].name().to_owned()
        };
        let turns: Vec<_> = (0..8).map(|_| next(&members)).collect();
        assert_eq!(turns, ["a", "a", "b", "a", "a", "a", "b", "a"]);
        let others = [fixture::replica("c", 1), fixture::replica("d", 1)];
        let turns: Vec<_> = (0..4).map(|_| next(&others)).collect();
        assert_eq!(turns, ["c", "d", "c", "d"]);
        for _ in 0..2 * Credits::KEPT_TURNS {
            next(&others);
        }
        assert_eq!(policy.credits().accounts.len(), 2, "the accounts of members that left are closed");
    }

    #[test]
    fn round_robin_keeps_the_credit_of_a_member_that_is_not_eligible_for_one_read() {
        // In every other read c is not eligible, else b is not. Without their credits a and c would take all reads.
        let policy = RoundRobin::default();
        let all = [fixture::replica("a", 1), fixture::replica("b", 1), fixture::replica("c", 1)];
        let mut draw = Draw::seeded(0);
        let mut taken = BTreeMap::<String, u32>::new();
        for read in 0..2_000 {
            let is_eligible = |name: &str| if read % 2 == 0 { name != "c" } else { name != "b" };
            let eligible = all.iter().filter(|member| is_eligible(member.name()));
            let mut candidates: Vec<_> = eligible.map(Candidate::new).collect();
            policy.order(&mut candidates, &mut draw);
            *taken.entry(candidates[0].name().to_owned()).or_default() += 1;
        }
        for (name, expected) in [("a", 1_000_u32), ("b", 500), ("c", 500)] {
            assert!(taken.get(name).is_some_and(|reads| reads.abs_diff(expected) <= 2), "{taken:?}");
        }
    }
}
