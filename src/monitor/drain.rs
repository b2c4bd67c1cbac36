//! Retires a node: no new operations begin, the running ones finish, then the node's pools are closed.

use std::{sync::Arc, time::Duration};

use crate::{
    Error,
    error::Kind,
    telemetry,
    topology::{Lane, Node},
};

/// Waits until no operation runs on a node that takes no new operations.
pub(super) async fn wait_until_idle(node: &Node, timeout: Duration) -> Result<(), Error> {
    tokio::time::timeout(timeout, idle(node)).await.map_err(|_| {
        let in_flight = node.in_flight();
        telemetry::drain_timed_out(node.name(), in_flight, timeout);
        Error::new(Kind::DrainTimedOut { node: node.name().to_owned(), in_flight })
    })
}

async fn idle(node: &Node) {
    loop {
        let signal = node.idle().wait();
        if node.in_flight() == 0 {
            return;
        }
        signal.await;
    }
}

/// Drains a node that has left the topology. Operations that still run after the time-out keep their pools, which
/// are closed when the last of the operations has ended. A pool that was given open is only released.
pub(super) async fn retire(node: Arc<Node>, timeout: Duration) -> Result<(), Error> {
    let drained = wait_until_idle(&node, timeout).await;
    if drained.is_err() {
        // The task holds nothing of the monitor, so the task outlives the monitor. The task ends with the runtime, and
        // so do the operations that the task waits for.
        tokio::spawn(async move {
            idle(&node).await;
            close(&node).await;
        });
    } else {
        close(&node).await;
    }
    drained
}

async fn close(node: &Node) {
    for lane in [Lane::Read, Lane::Write] {
        // The node has left, so an error of closing its pool concerns no member.
        let _ = node.driver(lane).close().await;
    }
}
