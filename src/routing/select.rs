//! The plan of one read: the members that may serve the read, in which order and with which probability. A draw
//! takes from the plan the one node that runs the read.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{Candidate, Draw, Policy};
use crate::topology::{
    Floor, Freshness, Generation, Lane, Member, Node, NodeId, Reliance, Role, Seq, Tick, Topology, Unfit,
};

/// The requirement of a read on the node that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// Any state of the database.
    Any,
    /// A state that contains the floor.
    Past {
        floor: Floor,
        /// The state must also have every write that was acknowledged until so long ago.
        within: StalenessBound,
    },
    /// The primary itself, on its read-write sessions.
    Primary,
}

impl Requirement {
    /// Requires the floor and nothing else.
    pub(crate) fn past(floor: Floor) -> Self {
        Self::Past { floor, within: StalenessBound::NONE }
    }

    /// Whether only the primary can have what the read must see, however soon the replicas are asked: a write may still
    /// happen.
    pub(crate) fn is_open(&self, now: Tick) -> bool {
        matches!(self, Self::Past { floor, .. } if now < floor.parts().2)
    }
}

/// How old the state of the database may be. One word, because the future of every read holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StalenessBound(u64);

impl StalenessBound {
    /// No bound.
    pub(crate) const NONE: Self = Self(u64::MAX);

    pub(crate) fn of(within: Duration) -> Self {
        Self(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn within(self) -> Option<Duration> {
        (self != Self::NONE).then(|| Duration::from_nanos(self.0))
    }
}

/// One read that needs a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRequest {
    pub(crate) requirement: Requirement,
    /// The nodes on which the read has failed already.
    pub(crate) tried: TriedNodes,
    /// The node that the session or read connection keeps to while that node may serve the read.
    pub(crate) kept: Option<Kept>,
    /// The end of the last read of the session or read connection: another node than the kept one must have that too.
    pub(crate) seen: Seq,
    /// How long after a write a replica without positions is taken to have it.
    pub(crate) stick_after_write: Duration,
    /// The primary's lane while there is no replica to choose: the read-only lane for `db.read()`, the lane that SeaORM
    /// alone would use for `&db`.
    pub(crate) alone: Lane,
}

/// A set of nodes in one word, because the future of every read holds it. Nodes whose numbers are 64 apart share a
/// place: one of them then counts as tried, too. So a read that finds every node tried begins again with none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TriedNodes(u64);

impl TriedNodes {
    pub(crate) fn insert(&mut self, node: NodeId) {
        self.0 |= node.bit();
    }

    pub(crate) fn contains(self, node: NodeId) -> bool {
        self.0 & node.bit() != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[cfg(test)]
    pub(crate) fn one(node: NodeId) -> Self {
        Self(node.bit())
    }
}

/// The node that a session or read connection keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) node: NodeId,
    /// The generation of the belief in which was read from the node.
    pub(crate) generation: Generation,
    /// The end of the last read on another node since.
    pub(crate) seen_elsewhere: Seq,
}

/// The node that runs the read, and its lane.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    pub(crate) node: Arc<Node>,
    pub(crate) lane: Lane,
    pub(crate) role: Role,
    pub(crate) how: How,
    /// The generation of the belief on which the choice was made.
    pub(crate) generation: Generation,
    /// Whether a read during which the belief broke has to be decided again.
    pub(crate) reliance: Reliance,
}

/// The way in which a node was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    /// The node was kept, or was drawn among those that may serve the read.
    Drawn,
    /// The primary, because no other member may serve this read now.
    Forced,
    /// As `Forced`, and a replica could have served the read if the replica were fresher.
    ForcedByStaleness,
    /// As `ForcedByStaleness`, and a replica that has the session's writes is about to have the rows that the
    /// session has read.
    ForcedByReads,
    /// The primary, because there is no other member.
    Alone,
}

impl How {
    fn forced_by(why: Unfit) -> Self {
        match why {
            Unfit::BehindReads => Self::ForcedByReads,
            Unfit::BehindSession | Unfit::TooStale => Self::ForcedByStaleness,
            _ => Self::Forced,
        }
    }

    /// Whether a replica could have served the read if the replica were fresher.
    pub(crate) fn is_by_staleness(self) -> bool {
        matches!(self, Self::ForcedByStaleness | Self::ForcedByReads)
    }
}

impl Selected {
    fn on(member: &Member, lane: Lane, role: Role, how: How, request: &ReadRequest) -> Self {
        // Another server at the primary's address may be behind, too.
        let is_believed = role == Role::Primary || member.freshness.fresh().is_some();
        let relies = lane == Lane::Read && is_believed && request.requires_freshness();
        let reliance = if relies { Reliance::OnFreshness } else { Reliance::OnNothing };
        Self { node: Arc::clone(&member.node), lane, role, how, generation: member.belief.generation, reliance }
    }
}

impl ReadRequest {
    /// Whether some states of the database are too old for the read.
    fn requires_freshness(&self) -> bool {
        match self.requirement {
            Requirement::Any => false,
            Requirement::Past { floor, within, .. } => {
                !floor.is_none() || within != StalenessBound::NONE || self.seen != Seq::default()
            }
            Requirement::Primary => true,
        }
    }
}

/// A member that may not serve the read, and why.
pub(crate) type Rejected = (NodeId, Unfit);

/// Every member that may not serve the read.
pub(crate) type Rejections = SmallVec<[Rejected; 4]>;

/// The way of one read through one snapshot. A read draws from its plan, and `explain` prints the same plan.
#[derive(Debug)]
pub(crate) struct ReadPlan<'a> {
    request: &'a ReadRequest,
    primary: &'a Member,
    /// The kept member, while it may serve the read: then nothing is drawn.
    kept: Option<(&'a Member, Role)>,
    /// The probability with which the primary is drawn before the replicas.
    primary_first: f64,
    /// The replicas that may serve the read.
    replicas: SmallVec<[Candidate<'a>; 8]>,
    topology: &'a Topology,
    now: Tick,
    /// How the primary serves the read when no replica may, if the primary may.
    fallback: Option<(Lane, How)>,
    rejected: Rejections,
}

impl<'a> ReadPlan<'a> {
    /// Plans a read on a snapshot.
    pub(crate) fn of(topology: &'a Topology, request: &'a ReadRequest, now: Tick) -> Self {
        let primary = &topology.primary;
        let mut plan = Self {
            request,
            primary,
            kept: None,
            primary_first: 0.0,
            replicas: SmallVec::new(),
            topology,
            now,
            fallback: None,
            rejected: SmallVec::new(),
        };
        if topology.is_single() {
            // A primary that is believed to be down is tried all the same: no other member could serve the read.
            plan.fallback = Some((request.alone, How::Alone));
            return plan;
        }
        if request.requirement == Requirement::Primary {
            // On the read-write lane. Exception: a read connection stays on read-only sessions.
            if primary.contradicts(Role::Primary, now, topology.believed_for) {
                plan.rejected.push((primary.node.id(), Unfit::RoleContradicts(Role::Replica)));
            } else {
                plan.fallback = Some((request.alone, How::Forced));
            }
            return plan;
        }
        plan.kept = fit_kept(topology, request, now);
        if plan.kept.is_some() {
            return plan;
        }
        let on_primary = fit_for(topology, primary, Role::Primary, request, now);
        // A session that keeps to a replica which is only not fresh enough now has drawn its tier already. Another draw
        // after each write would bring all sessions to the primary in the end. And while all read connections of the
        // primary are busy its turn is skipped: writes come first.
        if on_primary.is_ok() && !primary.node.is_read_exhausted() && !keeps_to_a_replica(topology, request, now) {
            plan.primary_first = topology.primary_read_share;
        }
        for replica in &topology.replicas {
            match fit_for(topology, replica, Role::Replica, request, now) {
                Ok(()) => plan.replicas.push(Candidate::new(replica, now)),
                Err(why) => plan.rejected.push((replica.node.id(), why)),
            }
        }
        plan.admit_ejected(topology, on_primary, now);
        plan.leave_busy_replicas(on_primary.is_ok());
        if plan.primary_first > 0.0 {
            let share = topology.share_of(primary, now);
            plan.primary_first *= share / plan.largest_share().max(share);
        }
        if plan.replicas.is_empty() {
            // The primary may be the node that failed the read: one of its connections broke, and the idle ones have been
            // checked since.
            let on_primary = match on_primary {
                Err(Unfit::Tried | Unfit::Ejected) => Ok(()),
                result => result,
            };
            match on_primary {
                Ok(()) => {
                    let how = plan.rejected.iter().map(|(_, why)| How::forced_by(*why)).max().unwrap_or(How::Forced);
                    plan.fallback = Some((Lane::Read, how));
                }
                Err(why) => plan.rejected.insert(0, (primary.node.id(), why)),
            }
        }
        plan
    }

    /// Takes ejected replicas into the plan when most members are ejected, for the first attempt of a read, and when no
    /// other member may serve the read: an error of an ejected member is not worse than none.
    fn admit_ejected(&mut self, topology: &'a Topology, on_primary: Result<(), Unfit>, now: Tick) {
        if !self.rejected.iter().any(|(_, why)| *why == Unfit::Ejected) {
            return;
        }
        let is_last_resort = self.replicas.is_empty() && !matches!(on_primary, Ok(()) | Err(Unfit::Tried));
        if is_last_resort || self.request.tried.is_empty() && topology.ignores_ejections(now) {
            self.rejected.retain(|(_, why)| *why != Unfit::Ejected);
            let ejected = topology.replicas.iter().filter(|replica| {
                replica.ejection.is_out(now)
                    && fit_but_for_ejection(topology, replica, Role::Replica, self.request, now).is_ok()
            });
            self.replicas.extend(ejected.map(|replica| Candidate::new(replica, now)));
        }
    }

    /// Takes replicas out of the plan whose read-only sessions are all busy, while another member has a free one: a
    /// statement that runs long may hold them all. Without a free session anywhere, the read waits where it is drawn.
    fn leave_busy_replicas(&mut self, primary_may_serve: bool) {
        let is_free = |candidate: &Candidate<'_>| !candidate.is_busy();
        if self.replicas.iter().all(is_free) {
            return;
        }
        if self.replicas.iter().any(is_free) || primary_may_serve && !self.primary.node.is_read_exhausted() {
            self.replicas.retain(|candidate| is_free(candidate));
        }
    }

    /// The largest share of a replica, which is less than 1 when all of them came back a moment ago.
    fn largest_share(&self) -> f64 {
        self.replicas.iter().map(|candidate| self.share_of(candidate)).fold(0.0, f64::max)
    }

    fn share_of(&self, candidate: &Candidate<'_>) -> f64 {
        candidate.member().map_or(1.0, |member| self.topology.share_of(member, self.now))
    }

    /// Brings the replicas to the front that take part in the read, and returns them. `takes_part` is given the share of
    /// a replica as a part of the largest share, so for one replica at least this is 1. All keep their order otherwise.
    fn taking_part(&mut self, mut takes_part: impl FnMut(f64) -> bool) -> &mut [Candidate<'a>] {
        let (largest, mut count) = (self.largest_share(), 0);
        for index in 0..self.replicas.len() {
            let share = self.share_of(&self.replicas[index]);
            if takes_part(share / largest) {
                self.replicas[count..=index].rotate_right(1);
                count += 1;
            }
        }
        &mut self.replicas[..count]
    }

    /// Draws the node that runs the read. With no member that may serve it, the rejections say why.
    pub(crate) fn draw(&mut self, policy: &dyn Policy, draw: &mut Draw) -> Option<Selected> {
        if let Some((member, role)) = self.kept {
            return Some(Selected::on(member, Lane::Read, role, How::Drawn, self.request));
        }
        if self.primary_first > 0.0 && draw.unit() < self.primary_first {
            return Some(Selected::on(self.primary, Lane::Read, Role::Primary, How::Drawn, self.request));
        }
        // In a slow start, a part of the draws.
        let taking_part = self.taking_part(|part| part >= 1.0 || draw.unit() < part);
        if taking_part.len() > 1 {
            policy.order(taking_part, draw);
        }
        if let Some(first) = self.replicas.iter().find_map(Candidate::member) {
            return Some(Selected::on(first, Lane::Read, Role::Replica, How::Drawn, self.request));
        }
        let (lane, how) = self.fallback?;
        Some(Selected::on(self.primary, lane, Role::Primary, how, self.request))
    }

    /// Puts the replicas into the order that the policy prefers, as far as that can be told without a draw.
    pub(crate) fn preview(&mut self, policy: &dyn Policy) {
        policy.preview(&mut self.replicas);
        // The others are rather left out than not.
        self.taking_part(|part| part >= 0.5);
    }

    /// How likely the read goes to the primary.
    pub(crate) fn primary_probability(&self) -> f64 {
        match (self.kept, self.replicas.is_empty(), self.fallback) {
            (Some((_, Role::Primary)), ..) | (None, true, Some(_)) => 1.0,
            (Some((_, Role::Replica)), ..) => 0.0,
            (None, ..) => self.primary_first,
        }
    }

    /// The lane that serves the read.
    pub(crate) fn lane(&self) -> Lane {
        self.fallback.map_or(Lane::Read, |(lane, _)| lane)
    }

    /// The members of the likelier tier that may serve the read.
    pub(crate) fn candidates(&self) -> SmallVec<[&'a Member; 8]> {
        match self.kept {
            Some((member, _)) => SmallVec::from_iter([member]),
            None if self.primary_probability() > 0.5 => SmallVec::from_iter([self.primary]),
            None => self.replicas.iter().filter_map(Candidate::member).collect(),
        }
    }

    /// The members that may not serve the read, and why.
    pub(crate) fn rejected(&self) -> &Rejections {
        &self.rejected
    }

    /// The request that the plan is for.
    pub(crate) fn request(&self) -> &'a ReadRequest {
        self.request
    }
}

/// The kept member and its role, while it may serve the read.
fn fit_kept<'a>(topology: &'a Topology, request: &ReadRequest, now: Tick) -> Option<(&'a Member, Role)> {
    let kept = request.kept?;
    let member = topology.member_of(kept.node)?;
    let role = topology.configured_role(kept.node);
    // The server still has the rows that were read in this very generation. The rows of another life are not known.
    let is_same_belief = member.belief.generation == kept.generation && !member.is_in_doubt();
    let seen = if is_same_belief { kept.seen_elsewhere } else { request.seen };
    fit_for(topology, member, role, &ReadRequest { seen, ..*request }, now).ok()?;
    Some((member, role))
}

/// Whether the kept node is a replica that could serve other reads now.
fn keeps_to_a_replica(topology: &Topology, request: &ReadRequest, now: Tick) -> bool {
    let member = request.kept.and_then(|kept| topology.member_of(kept.node));
    member.is_some_and(|member| {
        topology.configured_role(member.node.id()) == Role::Replica
            && fit_for(topology, member, Role::Replica, &ReadRequest { requirement: Requirement::Any, ..*request }, now)
                .is_ok()
    })
}

fn fit_for(topology: &Topology, member: &Member, role: Role, request: &ReadRequest, now: Tick) -> Result<(), Unfit> {
    fit_but_for_ejection(topology, member, role, request, now)?;
    if member.ejection.is_out(now) { Err(Unfit::Ejected) } else { Ok(()) }
}

fn fit_but_for_ejection(
    topology: &Topology,
    member: &Member,
    role: Role,
    request: &ReadRequest,
    now: Tick,
) -> Result<(), Unfit> {
    member.fitness(role, now, topology.believed_for)?;
    if request.tried.contains(member.node.id()) {
        return Err(Unfit::Tried);
    }
    match request.requirement {
        Requirement::Past { floor, within } if role == Role::Replica => {
            let stick_after_write = request.stick_after_write;
            if !member.is_past(floor.join(Floor::seen(request.seen)), now, stick_after_write) {
                return Err(match member.freshness {
                    Freshness::Timed => Unfit::WroteTooRecently,
                    _ if member.is_past(floor, now, stick_after_write) => Unfit::BehindReads,
                    _ => Unfit::BehindSession,
                });
            }
            match within.within() {
                Some(within) if !member.is_within(within, now) => Err(Unfit::TooStale),
                _ => Ok(()),
            }
        }
        Requirement::Primary if role == Role::Replica => Err(Unfit::NotPrimary),
        Requirement::Any | Requirement::Past { .. } | Requirement::Primary => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        routing::LeastInFlight,
        topology::{EjectionCause, Health, Lease, Observed, Reported, Rotation, SlowStart, Stamp, fixture},
    };

    const ANY: ReadRequest = ReadRequest {
        requirement: Requirement::Any,
        tried: TriedNodes(0),
        kept: None,
        seen: Seq(0),
        stick_after_write: Duration::from_secs(1),
        alone: Lane::Write,
    };
    const NOW: Tick = Tick(10_000_000_000);

    /// The read of a session that has just written.
    fn after_a_write() -> ReadRequest {
        ReadRequest { requirement: Requirement::past(Floor::written(Stamp { seq: Seq(1), at: NOW })), ..ANY }
    }

    fn keeping(member: &Member) -> Option<Kept> {
        Some(Kept { node: member.node.id(), generation: Generation::default(), seen_elsewhere: Seq(0) })
    }

    fn claims_primary(at: Tick) -> Observed {
        let asked = Stamp { seq: Seq(1), at };
        let (role, position) = (Role::Primary, Reported::Nothing);
        Observed { role, incarnation: "x".into(), position, round_trip: Duration::ZERO, asked }
    }

    fn pick(topology: &Topology, request: &ReadRequest, seed: u64) -> Result<Selected, Rejections> {
        let mut plan = ReadPlan::of(topology, request, NOW);
        plan.draw(&LeastInFlight, &mut Draw::seeded(seed)).ok_or_else(|| plan.rejected().clone())
    }

    fn shares(topology: &Topology, request: &ReadRequest, rounds: u64) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for seed in 0..rounds {
            let selected = pick(topology, request, seed).expect("a member is eligible");
            *counts.entry(selected.node.name().to_owned()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn a_tenth_of_the_reads_is_the_primarys_whatever_the_number_of_replicas() {
        // 20 000 draws, p = 0.1: standard deviation √(20 000 · 0.1 · 0.9) ≈ 42.4; the 99.9 % band
        // is ± 3.29 of it ≈ 140.
        for replicas in [1, 2, 5] {
            let counts = shares(&fixture::topology(replicas), &ANY, 20_000);
            assert!(counts["primary"].abs_diff(2_000) < 140, "{replicas} replicas: {counts:?}");
            assert_eq!(counts.len(), replicas + 1);
        }
    }

    #[test]
    fn the_ends_of_the_share_are_exact() {
        let mut topology = fixture::topology(2);
        topology.primary_read_share = 0.0;
        assert!(!shares(&topology, &ANY, 1_000).contains_key("primary"));
        topology.primary_read_share = 1.0;
        assert_eq!(shares(&topology, &ANY, 1_000), BTreeMap::from([("primary".to_owned(), 1_000)]));
    }

    #[test]
    fn without_replicas_the_primary_serves_as_it_would_without_us() {
        let mut topology = fixture::topology(0);
        topology.primary.health = Health::Down;
        let selected = pick(&topology, &ANY, 1).expect("the only chance");
        assert_eq!((selected.node.name(), selected.lane), ("primary", Lane::Write));
        let read_conn = ReadRequest { alone: Lane::Read, ..ANY };
        assert_eq!(pick(&topology, &read_conn, 1).expect("the only chance").lane, Lane::Read);
    }

    #[test]
    fn members_that_are_down_drained_or_of_the_wrong_role_get_no_reads() {
        let mut topology = fixture::topology(4);
        topology.primary_read_share = 0.0;
        topology.replicas[0].health = Health::Down;
        topology.replicas[1].rotation = Rotation::Drained;
        topology.replicas[2].observed = Some(claims_primary(NOW));
        assert_eq!(shares(&topology, &ANY, 100), BTreeMap::from([("replica-3".to_owned(), 100)]));
    }

    #[test]
    fn an_expired_role_contradicts_nothing_and_the_check_can_be_switched_off() {
        let mut topology = fixture::topology(1);
        topology.primary_read_share = 0.0;
        topology.replicas[0].observed = Some(claims_primary(Tick(0)));
        assert_eq!(pick(&topology, &ANY, 1).expect("eligible").role, Role::Replica);
        topology.replicas[0].observed = Some(claims_primary(NOW));
        assert_eq!(pick(&topology, &ANY, 1).expect("fallback").role, Role::Primary);
        topology.replicas[0].settings.role_check = crate::topology::RoleCheck::Off;
        assert_eq!(pick(&topology, &ANY, 1).expect("eligible").role, Role::Replica);
    }

    #[test]
    fn a_session_that_just_wrote_reads_from_the_primarys_read_only_sessions() {
        for seed in 0..100 {
            let selected = pick(&fixture::topology(2), &after_a_write(), seed).expect("the primary");
            assert_eq!((selected.role, selected.lane), (Role::Primary, Lane::Read));
        }
    }

    #[test]
    fn the_primarys_draw_is_skipped_while_its_read_connections_are_busy() {
        let topology = fixture::topology_with_read_capacity(2, 1);
        let _busy = Lease::take(Arc::clone(&topology.primary.node), Lane::Read, Role::Primary);
        assert!(!shares(&topology, &ANY, 1_000).contains_key("primary"));
        assert_eq!(pick(&topology, &after_a_write(), 1).expect("it waits").role, Role::Primary);
    }

    #[test]
    fn a_kept_node_is_kept_until_it_is_not_eligible() {
        let mut topology = fixture::topology(3);
        let kept = ReadRequest { kept: keeping(&topology.replicas[2]), ..ANY };
        assert_eq!(shares(&topology, &kept, 200), BTreeMap::from([("replica-2".to_owned(), 200)]));
        topology.replicas[2].health = Health::Down;
        assert!(!shares(&topology, &kept, 200).contains_key("replica-2"));
    }

    #[test]
    fn who_keeps_to_a_replica_does_not_draw_the_primary_because_it_wrote() {
        let topology = fixture::topology(2);
        let kept = keeping(&topology.replicas[0]);
        let wrote = ReadRequest { kept, ..after_a_write() };
        for seed in 0..200 {
            let selected = pick(&topology, &wrote, seed).expect("the primary");
            assert_eq!((selected.role, selected.how), (Role::Primary, How::Forced));
        }
        let mut lost = topology.clone();
        lost.replicas[0].health = Health::Down;
        assert!(
            shares(&lost, &ReadRequest { kept, ..ANY }, 2_000).contains_key("primary"),
            "one that is gone is drawn again"
        );
    }

    #[test]
    fn a_node_that_was_tried_is_not_tried_again_and_everybody_says_why_not() {
        let mut topology = fixture::topology(1);
        topology.primary.health = Health::Down;
        let again = ReadRequest { tried: TriedNodes::one(topology.replicas[0].node.id()), ..ANY };
        let rejected = pick(&topology, &again, 3).expect_err("nobody is left");
        assert_eq!(
            rejected.to_vec(),
            [(topology.primary.node.id(), Unfit::Down), (topology.replicas[0].node.id(), Unfit::Tried)]
        );
    }

    #[test]
    fn strong_reads_use_the_primarys_read_write_sessions() {
        let strong = ReadRequest { requirement: Requirement::Primary, ..ANY };
        let selected = pick(&fixture::topology(2), &strong, 1).expect("always");
        assert_eq!((selected.role, selected.lane), (Role::Primary, Lane::Write));
    }

    /// The members that serve a read when these replicas were ejected half a second ago.
    fn serving(replicas: usize, ejected: &[usize], request: &ReadRequest) -> Vec<String> {
        let mut topology = fixture::topology(replicas);
        for index in ejected {
            let node = topology.replicas[*index].node.id();
            topology =
                topology.ejected(node, Tick(NOW.0 - 500_000_000), 0.5, EjectionCause::FailsAlone).expect("it was in");
        }
        topology.primary_read_share = 0.0;
        shares(&topology, request, 200).into_keys().collect()
    }

    #[test]
    fn an_ejected_replica_takes_no_reads_unless_most_members_are_ejected() {
        assert_eq!(serving(1, &[0], &ANY), ["primary"], "half of two");
        assert_eq!(serving(2, &[0], &ANY), ["replica-1"]);
        assert_eq!(serving(3, &[0, 1], &ANY), ["replica-2"], "half of four");
        assert_eq!(serving(2, &[0, 1], &ANY), ["replica-0", "replica-1"], "panic: two of three");
        let mut again = ANY;
        let other = fixture::topology(1).replicas[0].node.id();
        again.tried.insert(other);
        assert_eq!(serving(2, &[0, 1], &again), ["primary"], "a second attempt keeps away from them");
    }

    #[test]
    fn the_last_member_serves_though_it_is_ejected() {
        let mut topology = fixture::topology(1);
        topology.primary.health = Health::Down;
        let node = topology.replicas[0].node.id();
        let topology = topology.ejected(node, NOW, 0.5, EjectionCause::FailsAlone).expect("it was in");
        assert_eq!(pick(&topology, &ANY, 1).expect("an error is not worse than none").node.name(), "replica-0");
    }

    #[test]
    fn replicas_whose_sessions_are_all_busy_leave_the_reads_to_a_member_with_a_free_one() {
        let mut topology = fixture::topology(2);
        topology.primary_read_share = 0.0;
        topology.replicas[0].node.limit_reads(Some(1));
        let busy = Lease::take(Arc::clone(&topology.replicas[0].node), Lane::Read, Role::Replica);
        assert_eq!(shares(&topology, &ANY, 200).into_keys().collect::<Vec<_>>(), ["replica-1"]);
        topology.replicas[1].node.limit_reads(Some(1));
        let busy = [busy, Lease::take(Arc::clone(&topology.replicas[1].node), Lane::Read, Role::Replica)];
        assert_eq!(shares(&topology, &ANY, 200).into_keys().collect::<Vec<_>>(), ["primary"]);
        topology.primary.node.limit_reads(Some(1));
        let of_primary = Lease::take(Arc::clone(&topology.primary.node), Lane::Read, Role::Primary);
        assert_eq!(
            shares(&topology, &ANY, 200).into_keys().collect::<Vec<_>>(),
            ["replica-0", "replica-1"],
            "they wait"
        );
        drop((busy, of_primary));
    }

    /// Three replicas and the primary; the slow starts of these members, the primary first, began so many seconds ago.
    fn back_for(seconds: [Option<u64>; 4]) -> Topology {
        let mut topology = fixture::topology(3);
        topology.slow_start = Duration::from_secs(10);
        topology.primary_read_share = 0.1;
        let began = |seconds| SlowStart::from(Tick(NOW.0 - seconds * 1_000_000_000));
        topology.primary.slow_start = seconds[0].map(began).unwrap_or_default();
        for (replica, seconds) in topology.replicas.iter_mut().zip(&seconds[1..]) {
            replica.slow_start = seconds.map(began).unwrap_or_default();
        }
        topology
    }

    /// The reads of a thousand that each member serves, the primary first.
    fn served(topology: &Topology, request: &ReadRequest, policy: &dyn Policy) -> [i32; 4] {
        const READS: i32 = 20_000;
        let (mut counts, mut draw) = ([0; 4], Draw::seeded(5));
        for _ in 0..READS {
            let selected = ReadPlan::of(topology, request, NOW).draw(policy, &mut draw).expect("a member serves it");
            let place = topology.nodes().position(|node| node.id() == selected.node.id()).expect("a member");
            counts[place] += 1_000;
        }
        counts.map(|count| count / READS)
    }

    #[test]
    fn a_member_that_came_back_takes_a_growing_part_of_its_share_under_every_policy() {
        // Of 1 000 reads the primary has 100. A replica at the part p of its share is left out of 1 - p of the draws and
        // has a third of the others, so 300 p of 900. The standard deviation is 3.5 at most, the tolerance 20: the
        // turns of `RoundRobin` are no independent draws.
        let policies: [Box<dyn Policy>; 5] = [
            Box::new(LeastInFlight),
            Box::new(crate::routing::LeastLatency::default()),
            Box::new(crate::routing::RoundRobin::default()),
            Box::new(crate::routing::WeightedRandom),
            Box::new(crate::routing::InZone::new("a", LeastInFlight)),
        ];
        for policy in &policies {
            for (seconds, expected) in [
                ([None, None, None, None], [100, 300, 300, 300]),
                ([None, Some(0), None, None], [100, 30, 435, 435]),
                ([None, Some(5), None, None], [100, 165, 367, 367]),
                ([None, Some(10), None, None], [100, 300, 300, 300]),
                // The two halve what the third leaves out.
                ([None, Some(0), Some(0), None], [100, 44, 44, 812]),
                // All came back: one at a tenth, two at 55 %.
                ([None, Some(0), Some(5), Some(5)], [100, 55, 423, 423]),
                ([None, Some(0), Some(0), Some(0)], [100, 300, 300, 300]),
                ([Some(0), None, None, None], [10, 330, 330, 330]),
                ([Some(0), Some(0), Some(0), Some(0)], [100, 300, 300, 300]),
            ] {
                let topology = back_for(seconds);
                let served = served(&topology, &ANY, policy.as_ref());
                let is_near = served.iter().zip(expected).all(|(served, expected)| (served - expected).abs() <= 20);
                assert!(is_near, "{policy:?}, back for {seconds:?}: {served:?}, not {expected:?}");
                let said = ReadPlan::of(&topology, &ANY, NOW).primary_probability() * 1_000.0;
                assert!((said - f64::from(expected[0])).abs() < 0.5, "{said}, not {}", expected[0]);
            }
        }
    }

    #[test]
    fn a_read_that_only_a_member_in_its_slow_start_may_serve_runs_there() {
        let mut topology = back_for([None, Some(0), None, None]);
        topology.primary_read_share = 0.0;
        let kept = Kept {
            node: topology.replicas[0].node.id(),
            generation: Generation::default(),
            seen_elsewhere: Seq::default(),
        };
        let of_a_session = ReadRequest { kept: Some(kept), ..ANY };
        assert_eq!(served(&topology, &of_a_session, &LeastInFlight), [0, 1_000, 0, 0], "its session keeps to the node");
        topology.replicas[1].health = Health::Down;
        topology.replicas[2].rotation = Rotation::Drained;
        assert_eq!(served(&topology, &ANY, &LeastInFlight), [0, 1_000, 0, 0]);
        for replica in &mut topology.replicas[1..] {
            (replica.health, replica.rotation) = (Health::Up, Rotation::In);
        }
        let tried = ReadRequest { tried: TriedNodes::one(topology.replicas[1].node.id()), ..ANY };
        let [_, slow, tried, other] = served(&topology, &tried, &LeastInFlight);
        assert!(slow < 70 && tried == 0 && other > 930, "{slow} and {other}");
    }

    #[test]
    fn an_explanation_names_no_member_that_is_rather_left_out() {
        for (seconds, first) in [(0, 1), (4, 1), (5, 0)] {
            let topology = back_for([None, Some(seconds), None, None]);
            let mut plan = ReadPlan::of(&topology, &ANY, NOW);
            plan.preview(&LeastInFlight);
            assert_eq!(plan.candidates()[0].name(), topology.replicas[first].name(), "back for {seconds} s");
            assert_eq!(plan.candidates().len(), 3);
        }
    }
}
