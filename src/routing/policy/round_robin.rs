//! The policy that takes the members in turn.

use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::{Candidate, Policy};
use crate::{routing::Draw, topology::NodeId};

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

    use super::*;
    use crate::topology::{Member, Tick, fixture};

    #[test]
    fn round_robin_takes_turns_smoothly_and_survives_members_leaving() {
        let policy = RoundRobin::default();
        let members = [fixture::replica("a", 3), fixture::replica("b", 1)];
        let mut draw = Draw::seeded(0);
        let mut next = |members: &[Member]| {
            let mut candidates: Vec<_> = members.iter().map(|member| Candidate::new(member, Tick(1))).collect();
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
            let mut candidates: Vec<_> = eligible.map(|member| Candidate::new(member, Tick(1))).collect();
            policy.order(&mut candidates, &mut draw);
            *taken.entry(candidates[0].name().to_owned()).or_default() += 1;
        }
        for (name, expected) in [("a", 1_000_u32), ("b", 500), ("c", 500)] {
            assert!(taken.get(name).is_some_and(|reads| reads.abs_diff(expected) <= 2), "{taken:?}");
        }
    }
}
