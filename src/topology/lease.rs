//! One operation in flight on a node, counted from its start to its end, however it ends.

use std::sync::Arc;

use super::{Node, Role, Seq};
use crate::driver::Driver;

/// Which pool of a node an operation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The read-only sessions.
    Read,
    /// The read-write sessions.
    Write,
}

/// The right to run one operation on a node. Dropping it, with the future, stream or transaction
/// it belongs to, gives the place back: a cancelled operation leaks no count.
#[derive(Debug)]
pub(crate) struct Lease {
    node: Arc<Node>,
    driver: Arc<dyn Driver>,
    lane: Lane,
    role: Role,
    life: Seq,
    /// Zero for none.
    relies_on: Seq,
}

impl Lease {
    pub(crate) fn take(node: Arc<Node>, lane: Lane, role: Role) -> Self {
        node.enter(lane);
        let driver = node.driver(lane);
        Self { node, driver, lane, role, life: Seq::default(), relies_on: Seq::default() }
    }

    /// With the server life that was believed to answer, and the answer of it that the choice relies on.
    pub(crate) fn believing(mut self, life: Seq, relies_on: Option<Seq>) -> Self {
        self.life = life;
        self.relies_on = relies_on.unwrap_or_default();
        self
    }

    /// The server life that was believed to answer when the node was chosen.
    pub(crate) fn life(&self) -> Seq {
        self.life
    }

    /// Whether what the choice relies on was shaken since: a connection was lost, or another server was met
    /// in the place of the node. What was read meanwhile is perhaps older than it had to be.
    pub(crate) fn is_shaken(&self) -> bool {
        self.relies_on != Seq::default() && self.relies_on <= self.node.withdrawn_at()
    }

    /// The role in which the node was chosen.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Another operation on the same node: it began inside this one.
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

    /// The pool it runs on: the node's own, or the one that it had when the operation began.
    pub(crate) fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
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
