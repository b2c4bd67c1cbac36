//! From a snapshot and a request to the one node that runs a read.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{Candidate, Draw, Policy};
use crate::topology::{
    Floor, Freshness, Generation, Lane, Member, Node, NodeId, Reliance, Role, Seq, Tick, Topology, Unfit,
};

/// What a read asks of the node that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// Any member will do.
    Any,
    /// A member that has what the session must see.
    Past {
        floor: Floor,
        /// It must also have everything that was acknowledged until so long ago.
        within: StalenessBound,
    },
    /// The primary itself, on its read-write sessions.
    Primary,
}

/// How old the state of the database may be. One word, because the future of every read holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StalenessBound(u64);

impl StalenessBound {
    /// As old as it likes.
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
    /// A node the operation has failed on already.
    pub(crate) tried: Option<NodeId>,
    /// The node a session or read connection keeps to while it stays eligible.
    pub(crate) kept: Option<Kept>,
    /// What it has read already: another node than the kept one must have that too.
    pub(crate) seen: Seq,
    /// How long after a write a replica without known position is taken to have it.
    pub(crate) stick_after_write: Duration,
    /// Where nobody but the primary comes into question: whether the read still asks for a session
    /// that is read-only in the database (`db.read()`), or for what SeaORM alone would do (`&db`).
    pub(crate) alone: Lane,
}

/// The node a session or read connection keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) node: NodeId,
    /// The generation of the belief in which it read there.
    pub(crate) generation: Generation,
    /// What it has read elsewhere since.
    pub(crate) seen_elsewhere: Seq,
}

/// The node that runs the read, and on which of its pools.
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

/// How a node came to be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    /// It is the one that was kept, or it was drawn among those that may serve the read.
    Drawn,
    /// The primary, because nobody else may serve this read now.
    Forced,
    /// As above, and a replica could have served it if it were fresher.
    ForcedByStaleness,
    /// As above, and a replica that has what the session wrote is about to have what it has read.
    ForcedByReads,
    /// The primary, because there is nobody else.
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

    /// Whether a replica could have served the read if it were fresher.
    pub(crate) fn is_by_staleness(self) -> bool {
        matches!(self, Self::ForcedByStaleness | Self::ForcedByReads)
    }
}

impl Selected {
    fn drawn(member: &Member, role: Role, request: &ReadRequest) -> Self {
        let is_compared = role == Role::Replica && member.freshness.fresh().is_some();
        let reliance =
            if is_compared && request.asks_something() { Reliance::OnFreshness } else { Reliance::OnNothing };
        let (node, generation) = (Arc::clone(&member.node), member.belief.generation);
        Self { node, lane: Lane::Read, role, how: How::Drawn, generation, reliance }
    }

    fn forced(primary: &Member, lane: Lane, how: How) -> Self {
        let (node, generation) = (Arc::clone(&primary.node), primary.belief.generation);
        Self { node, lane, role: Role::Primary, how, generation, reliance: Reliance::OnNothing }
    }
}

impl ReadRequest {
    /// Whether not any state of the database will do.
    fn asks_something(&self) -> bool {
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

/// Chooses the node for one read, or says of every member why it is not eligible.
pub(crate) fn select_read(
    topology: &Topology,
    policy: &dyn Policy,
    request: &ReadRequest,
    now: Tick,
    draw: &mut Draw,
) -> Result<Selected, SmallVec<[Rejected; 4]>> {
    let primary = &topology.primary;
    if topology.is_single() {
        // Nothing to choose from: even a primary that is believed to be down is the only chance.
        return Ok(Selected::forced(primary, request.alone, How::Alone));
    }
    if request.requirement == Requirement::Primary {
        // On the read-write pool, but for a read connection, which stays on read-only sessions.
        return Ok(Selected::forced(primary, request.alone, How::Forced));
    }
    let fit = |member: &Member, role| fit_for(topology, member, role, request, now);

    if let Some((member, role)) = fit_kept(topology, request, now) {
        return Ok(Selected::drawn(member, role, request));
    }

    // One that keeps to a replica which is only not fresh enough now has drawn its tier already. Drawing again after
    // each write would bring all sessions to the primary in the end.
    let share = if is_of_replicas(topology, request, now) { 0.0 } else { topology.primary_read_share };
    let on_primary = share > 0.0 && draw.unit() < share;
    // When its read connections are all busy the primary's draw is skipped: writes come first.
    if on_primary && fit(primary, Role::Primary).is_ok() && !primary.node.is_read_exhausted() {
        return Ok(Selected::drawn(primary, Role::Primary, request));
    }

    let mut rejected = SmallVec::new();
    let mut candidates: SmallVec<[Candidate<'_>; 8]> = SmallVec::new();
    for replica in &topology.replicas {
        match fit(replica, Role::Replica) {
            Ok(()) => candidates.push(Candidate::new(replica)),
            Err(why) => rejected.push((replica.node.id(), why)),
        }
    }
    if candidates.len() > 1 {
        policy.order(&mut candidates, draw);
    }
    if let Some(first) = candidates.first() {
        return Ok(Selected::drawn(first.member(), Role::Replica, request));
    }

    // Fallback: no replica can serve this, so the primary's read connections do, waiting for a
    // free one if they must.
    // It may be the one that failed the read: a connection of it broke, and its idle ones have been
    // checked since.
    let once_more = ReadRequest { tried: None, ..*request };
    match fit_for(topology, primary, Role::Primary, &once_more, now) {
        Ok(()) => {
            let how = rejected.iter().map(|(_, why)| How::forced_by(*why)).max().unwrap_or(How::Forced);
            Ok(Selected::forced(primary, Lane::Read, how))
        }
        Err(why) => {
            rejected.insert(0, (primary.node.id(), why));
            Err(rejected)
        }
    }
}

/// The kept node and its role, while it may serve the read.
pub(super) fn fit_kept<'a>(topology: &'a Topology, request: &ReadRequest, now: Tick) -> Option<(&'a Member, Role)> {
    let kept = request.kept?;
    let member = topology.member_of(kept.node)?;
    let role = topology.configured_role(kept.node);
    // What was read from this very server it still has; of another life of it nobody knows.
    let is_same_belief = member.belief.generation == kept.generation && !member.is_in_doubt();
    let seen = if is_same_belief { kept.seen_elsewhere } else { request.seen };
    fit_for(topology, member, role, &ReadRequest { seen, ..*request }, now).ok()?;
    Some((member, role))
}

/// Whether the kept node is a replica that could serve other reads now.
pub(super) fn is_of_replicas(topology: &Topology, request: &ReadRequest, now: Tick) -> bool {
    let member = request.kept.and_then(|kept| topology.member_of(kept.node));
    member.is_some_and(|member| {
        topology.configured_role(member.node.id()) == Role::Replica
            && fit_for(topology, member, Role::Replica, &ReadRequest { requirement: Requirement::Any, ..*request }, now)
                .is_ok()
    })
}

pub(super) fn fit_for(
    topology: &Topology,
    member: &Member,
    role: Role,
    request: &ReadRequest,
    now: Tick,
) -> Result<(), Unfit> {
    member.fitness(role, now, topology.believed_for)?;
    if request.tried == Some(member.node.id()) {
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
        topology::{Health, Lease, Observed, Reported, Rotation, Stamp, fixture},
    };

    const ANY: ReadRequest = ReadRequest {
        requirement: Requirement::Any,
        tried: None,
        kept: None,
        seen: Seq(0),
        stick_after_write: Duration::from_secs(1),
        alone: Lane::Write,
    };
    const NOW: Tick = Tick(10_000_000_000);

    fn past(floor: Floor) -> Requirement {
        Requirement::Past { floor, within: StalenessBound::NONE }
    }

    fn claims_primary(at: Tick) -> Observed {
        let asked = Stamp { seq: Seq(1), at };
        let (role, position) = (Role::Primary, Reported::Nothing);
        Observed { role, incarnation: "x".into(), position, round_trip: Duration::ZERO, asked }
    }

    fn pick(topology: &Topology, request: &ReadRequest, seed: u64) -> Result<Selected, SmallVec<[Rejected; 4]>> {
        select_read(topology, &LeastInFlight, request, NOW, &mut Draw::seeded(seed))
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
        let request = ReadRequest { requirement: past(Floor::written(Stamp { seq: Seq(1), at: NOW })), ..ANY };
        for seed in 0..100 {
            let selected = pick(&fixture::topology(2), &request, seed).expect("the primary");
            assert_eq!((selected.role, selected.lane), (Role::Primary, Lane::Read));
        }
    }

    #[test]
    fn the_primarys_draw_is_skipped_while_its_read_connections_are_busy() {
        let topology = fixture::topology_with_read_capacity(2, 1);
        let _busy = Lease::take(Arc::clone(&topology.primary.node), Lane::Read, Role::Primary);
        assert!(!shares(&topology, &ANY, 1_000).contains_key("primary"));
        let behind = ReadRequest { requirement: past(Floor::written(Stamp { seq: Seq(1), at: NOW })), ..ANY };
        assert_eq!(pick(&topology, &behind, 1).expect("it waits").role, Role::Primary);
    }

    #[test]
    fn a_kept_node_is_kept_until_it_is_not_eligible() {
        let mut topology = fixture::topology(3);
        let kept =
            Kept { node: topology.replicas[2].node.id(), generation: Generation::default(), seen_elsewhere: Seq(0) };
        let kept = ReadRequest { kept: Some(kept), ..ANY };
        assert_eq!(shares(&topology, &kept, 200), BTreeMap::from([("replica-2".to_owned(), 200)]));
        topology.replicas[2].health = Health::Down;
        assert!(!shares(&topology, &kept, 200).contains_key("replica-2"));
    }

    #[test]
    fn who_keeps_to_a_replica_does_not_draw_the_primary_because_it_wrote() {
        let topology = fixture::topology(2);
        let node = topology.replicas[0].node.id();
        let kept = Some(Kept { node, generation: Generation::default(), seen_elsewhere: Seq(0) });
        let wrote = ReadRequest { requirement: past(Floor::written(Stamp { seq: Seq(1), at: NOW })), kept, ..ANY };
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
        let again = ReadRequest { tried: Some(topology.replicas[0].node.id()), ..ANY };
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
}
