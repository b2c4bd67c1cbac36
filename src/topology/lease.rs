//! One operation in flight on a node, counted from its start to its end, however it ends.

use std::{future::Future, sync::Arc};

use super::{Generation, Loss, Node, Role, Silences, Topology};
use crate::driver::Driver;

/// The pool of a node that an operation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The read-only sessions.
    Read,
    /// The read-write sessions.
    Write,
}

/// The right to run one operation on a node. Dropping the lease, with the future, stream or transaction that it
/// belongs to, ends the count: a cancelled operation leaks none.
#[derive(Debug)]
pub(crate) struct Lease {
    node: Arc<Node>,
    driver: Arc<dyn Driver>,
    lane: Lane,
    role: Role,
    generation: Generation,
    reliance: Reliance,
    silences: Silences,
}

/// Whether an operation runs on its node because the node's data are believed to be fresh enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reliance {
    /// A read with a floor runs on a replica.
    OnFreshness,
    OnNothing,
}

impl Lease {
    pub(crate) fn take(node: Arc<Node>, lane: Lane, role: Role) -> Self {
        node.enter(lane);
        let (driver, silences) = (node.driver(lane), node.losses().silences());
        let (generation, reliance) = (Generation::default(), Reliance::OnNothing);
        Self { node, driver, lane, role, generation, reliance, silences }
    }

    /// Adds the generation of the node's member in the snapshot on which the node was chosen.
    pub(crate) fn believing(mut self, generation: Generation, reliance: Reliance) -> Self {
        self.generation = generation;
        self.reliance = reliance;
        self
    }

    /// The generation of the belief on which the node was chosen.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the belief that the choice relies on is over in the present snapshot: a connection was lost, or
    /// another server answered at the address. Rows that were read meanwhile may be older than the read allows.
    pub(crate) fn is_invalidated(&self, topology: &Topology) -> bool {
        self.reliance == Reliance::OnFreshness
            && topology.member_of(self.node.id()).is_some_and(|member| member.belief.generation != self.generation)
    }

    /// The role in which the node was chosen.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// A lease for another operation on the same node, begun inside this one.
    pub(crate) fn again(&self) -> Self {
        self.node.enter(self.lane);
        Self { node: Arc::clone(&self.node), driver: Arc::clone(&self.driver), ..*self }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    /// The pool of the operation: the pool that the node had when the operation began.
    pub(crate) fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// The loss of the operation's node.
    pub(crate) fn lost(&self) -> impl Future<Output = Loss> + Send + '_ {
        self.node.losses().wait(self.lane, None)
    }

    /// How often the connections of the node were found silent when the operation began.
    pub(crate) fn silences(&self) -> Silences {
        self.silences
    }

    /// Counts the operation as answered.
    pub(crate) fn served(&self) {
        self.node.count_served(self.lane);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.node.leave(self.lane);
    }
}
