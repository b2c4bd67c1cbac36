//! The time that one attempt at a read takes on its node, for policies that ask for latencies.

use super::shared::Shared;
use crate::topology::{Measured, Node, Tick};

/// Measures one attempt at a read. Dropping the stopwatch without [`stop`](Self::stop) counts as a read that failed or was
/// cancelled.
pub(super) struct Stopwatch<'a> {
    shared: &'a Shared,
    node: &'a Node,
    began: Tick,
    how: Measured,
}

impl<'a> Stopwatch<'a> {
    /// Begins, if the policy in use asks for latencies: for other policies a read reads no clock.
    pub(super) fn start(shared: &'a Shared, node: &'a Node) -> Option<Self> {
        shared.policy.latency_decay()?;
        node.latency().begin();
        Some(Self { shared, node, began: shared.now(), how: Measured::GivenUp })
    }

    /// The node has answered.
    pub(super) fn stop(mut self) {
        self.how = Measured::Answered;
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        let now = self.shared.now();
        let decay = self.shared.policy.latency_decay().unwrap_or_default();
        self.node.latency().end(now.since(self.began), self.how, now, decay);
    }
}
