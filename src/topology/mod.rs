//! KNOW: what this process believes about its nodes. Pure: values go in, values come out; `now` is an argument. No
//! code here waits, reads a clock or logs.

mod belief;
mod delay;
mod ejection;
#[cfg(test)]
pub(crate) mod fixture;
mod floor;
mod fresh;
mod lag_measure;
mod latency;
mod lease;
mod loss;
mod member;
mod node;
mod observe;
mod position;
mod role;
mod samples;
mod slow_start;
mod snapshot;
mod swap;
mod table;
mod tick;
mod token;
mod usual;

use std::{cell::OnceCell, collections::HashMap, fmt, sync::Arc, time::Duration};

pub(crate) use belief::{Answerer, Belief, Generation, Lives};
pub(crate) use delay::{ReplicaAnswer, ReplicationDelay};
pub(crate) use ejection::{Ejection, EjectionCause, FAILURES_IN_A_ROW};
pub(crate) use floor::Floor;
pub(crate) use fresh::{Fresh, Freshness, Lag, LagLimit, LagView, Reported};
pub(crate) use lag_measure::{LagMeasure, RESOLUTION};
pub(crate) use latency::{Latency, Measured};
pub(crate) use lease::{Lane, Lease, Reliance};
pub(crate) use loss::{Loss, Losses, Silences};
pub use member::{Health, Member, Rotation};
pub(crate) use member::{MemberSettings, Positions, RoleCheck, Unfit};
pub use node::Node;
pub(crate) use node::{Identity, Lanes, NodeId};
pub(crate) use observe::{FAILURES_TO_EJECT, Observation, Reply};
pub(crate) use position::{DomainPositions, GtidSet, Lsn, Position, PositionOrder, WalPosition};
pub(crate) use role::Observed;
pub use role::Role;
pub(crate) use samples::{Sample, Samples};
pub(crate) use slow_start::SlowStart;
pub(crate) use snapshot::SnapshotCell;
pub(crate) use swap::Swap;
pub use table::OperatorView;
pub(crate) use tick::{Seq, Stamp, Tick};
pub use token::CausalToken;
pub(crate) use usual::{Shape, UsualDurations};

/// An immutable picture of the cluster as this process believes it to be: one primary, its
/// replicas, and how the reads are shared.
///
/// Every change makes a new one; an operation loads one snapshot and decides on it alone.
/// `Display` prints a table, serde the same data. Both name the members, whose default names are their hosts: give
/// members [names](crate::NodeConfig::name) where others than operators see them. `Debug`,
/// [`for_operators`](Self::for_operators) and [`Member::last_failure`] also have the words of the driver.
///
/// # Example
/// ```
/// # let db = sea_orm_resolver::DatabaseConnection::default();
/// let topology = db.topology();
/// for member in topology.members() {
///     println!("{}: {:?}, {} reads", member.name(), member.health(), member.node().served_reads());
/// }
/// assert!(topology.replicas().is_empty());
/// ```
#[derive(Clone)]
pub struct Topology {
    pub(crate) generation: u64,
    pub(crate) primary: Member,
    pub(crate) replicas: Vec<Member>,
    pub(crate) primary_read_share: f64,
    /// How long an observation is believed.
    pub(crate) believed_for: Duration,
    /// The positions of the primary, with the instants at which they were asked for.
    pub(crate) samples: Samples,
    /// How far behind a replica may be.
    pub(crate) lag_limit: LagLimit,
    /// How long the share of a member grows that came back.
    pub(crate) slow_start: Duration,
}

impl Topology {
    /// Counts the publications; a later snapshot of the same connection has a larger one.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The member that takes the writes.
    pub fn primary(&self) -> &Member {
        &self.primary
    }

    /// The members that take the replicas' share of the reads.
    pub fn replicas(&self) -> &[Member] {
        &self.replicas
    }

    /// The share of the reads that the primary takes while there is a replica (0 to 1).
    pub fn primary_read_share(&self) -> f64 {
        self.primary_read_share
    }

    /// The primary, then the replicas.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }

    /// The member with this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members().find(|member| member.name() == name)
    }

    pub(crate) fn member_of(&self, id: NodeId) -> Option<&Member> {
        self.members().find(|member| member.node.id() == id)
    }

    /// The member at this place in the order of [`members`](Self::members).
    fn member_at(&self, place: usize) -> Option<&Member> {
        match place {
            0 => Some(&self.primary),
            _ => self.replicas.get(place - 1),
        }
    }

    pub(super) fn member_of_mut(&mut self, id: NodeId) -> Option<&mut Member> {
        std::iter::once(&mut self.primary).chain(&mut self.replicas).find(|member| member.node.id() == id)
    }

    pub(crate) fn member_mut(&mut self, name: &str) -> Option<&mut Member> {
        std::iter::once(&mut self.primary).chain(&mut self.replicas).find(|member| member.name() == name)
    }

    /// The role the configuration gives a member of this topology.
    pub(crate) fn configured_role(&self, id: NodeId) -> Role {
        if self.primary.node.id() == id { Role::Primary } else { Role::Replica }
    }

    /// Whether the topology is a primary without replicas: then no node is chosen, and nothing is added to SeaORM's
    /// behaviour.
    pub(crate) fn is_single(&self) -> bool {
        self.replicas.is_empty()
    }

    /// The place of a position that a primary had before `since`, in the known history of the present primary.
    pub(crate) fn place_of(&self, position: &Position, since: Seq, now: Tick) -> Place {
        let Some(newest) = self.samples.newest() else {
            return if self.primary.has_positions() { Place::Ahead } else { Place::NotCompared };
        };
        match newest.position.compared_to(position) {
            PositionOrder::Covers => self.samples.first_past(position).map_or(Place::Ahead, Place::At),
            // The primary was asked later and lacks the position.
            PositionOrder::Behind if newest.stamp.seq > since => Place::Beyond(Some(newest.stamp)),
            PositionOrder::Behind if !newest.position.can_reach(position, now.since(newest.stamp.at)) => {
                Place::Beyond(None)
            }
            PositionOrder::Behind => Place::Ahead,
            PositionOrder::Unrelated => Place::Unrelated,
        }
    }

    /// How soon one of the replicas that may take reads is expected to have a write that ends now.
    pub(crate) fn expected_delay(&self, now: Tick) -> Option<Duration> {
        let takes_reads = |replica: &&Member| replica.fitness(Role::Replica, now, self.believed_for).is_ok();
        self.replicas.iter().filter(takes_reads).filter_map(Member::expected_delay).min()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.members().map(|member| member.name().to_owned()).collect()
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.members().map(|member| &member.node)
    }
}

/// Finds the members of one topology beside the members of another, in time linear in their number. Most members are
/// at the same place in both topologies; the first member that is not has all of them indexed.
pub(crate) struct MemberIndex<'a> {
    topology: &'a Topology,
    by_id: OnceCell<HashMap<NodeId, &'a Member>>,
}

impl<'a> MemberIndex<'a> {
    pub(crate) fn new(topology: &'a Topology) -> Self {
        Self { topology, by_id: OnceCell::new() }
    }

    /// The member of this node, which is at `place` in the other topology.
    pub(crate) fn find(&self, place: usize, id: NodeId) -> Option<&'a Member> {
        let indexed = || self.topology.members().map(|member| (member.node.id(), member)).collect::<HashMap<_, _>>();
        let at_place = self.topology.member_at(place).filter(|member| member.node.id() == id);
        at_place.or_else(|| self.by_id.get_or_init(indexed).get(&id).copied())
    }
}

/// The place of a position in the primary's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The primary had the position when it was asked for this sample.
    At(Stamp),
    /// The primary was not seen to have the position yet.
    Ahead,
    /// The primary does not have the position and cannot have had it: it was asked for this sample since, or is not so
    /// fast. The position was made up, or belongs to writes that were lost.
    Beyond(Option<Stamp>),
    /// The position is in no history of this primary.
    Unrelated,
    /// The primary has no positions.
    NotCompared,
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("generation", &self.generation)
            .field("primary", &self.primary)
            .field("replicas", &self.replicas)
            .field("primary_read_share", &self.primary_read_share)
            .field("samples", &self.samples)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_finds_members_wherever_they_stand() {
        let before = fixture::topology(5);
        let mut after = before.clone();
        after.replicas.swap(0, 3);
        let left = after.replicas.remove(1);
        after.replicas.push(fixture::replica("new", 1));
        let index = MemberIndex::new(&before);
        for (place, member) in after.members().enumerate() {
            let found = index.find(place, member.node.id()).map(Member::name);
            assert_eq!(found, (member.name() != "new").then_some(member.name()));
        }
        assert!(MemberIndex::new(&after).find(2, left.node.id()).is_none());
    }

    #[test]
    fn members_that_stay_at_their_places_are_found_without_an_index() {
        let before = fixture::topology(64);
        let index = MemberIndex::new(&before);
        for (place, member) in before.members().enumerate() {
            assert!(index.find(place, member.node.id()).is_some());
        }
        assert!(index.by_id.get().is_none(), "no lookup walked over the members");
    }
}
