//! One operation in flight on a node, counted from its start to its end, however it ends.

use std::sync::Arc;

use super::{Node, Role};
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
}

impl Lease {
    pub(crate) fn take(node: Arc<Node>, lane: Lane, role: Role) -> Self {
        node.enter(lane);
        let driver = node.driver(lane);
        Self { node, driver, lane, role }
    }

    /// The role in which the node was chosen.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Another operation on the same node: it began inside this one.
    pub(crate) fn again(&self) -> Self {
        self.node.enter(self.lane);
        Self { node: Arc::clone(&self.node), driver: Arc::clone(&self.driver), lane: self.lane, role: self.role }
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
