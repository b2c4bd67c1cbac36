//! One operation in flight on a node, counted from its start to its end, however it ends.

use std::sync::Arc;

use super::{Node, Role};

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
    lane: Lane,
    role: Role,
}

impl Lease {
    pub(crate) fn take(node: Arc<Node>, lane: Lane, role: Role) -> Self {
        node.enter(lane);
        Self { node, lane, role }
    }

    /// The role in which the node was chosen.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Another operation on the same node: it began inside this one.
    pub(crate) fn again(&self) -> Self {
        Self::take(Arc::clone(&self.node), self.lane, self.role)
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    pub(crate) fn driver(&self) -> &dyn crate::driver::Driver {
        self.node.driver(self.lane)
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
