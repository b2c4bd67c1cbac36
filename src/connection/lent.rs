//! SeaORM's own handles of the primary, lent out by reference.
//!
//! Some of SeaORM takes nothing but `&sea_orm::DatabaseConnection` (a `SchemaManager`), and some
//! gives a reference out of it (a pool). The primary may change, a reference may not; so a handle
//! of ours keeps each that it lent until it is dropped.

use std::sync::{Arc, OnceLock};

use super::{
    run::{Certainty, WriteEffect, WriteMark},
    session::Handle,
    shared::Shared,
};
use crate::topology::{Lane, NodeId};

/// An append-only list: one SeaORM handle for each primary that was lent. Clones start empty.
///
/// A handle of a primary that is gone stays in the list; its pool is closed by then, unless it was
/// given to us open.
#[derive(Debug, Default)]
pub(super) struct Lent {
    first: Place,
}

type Place = OnceLock<Box<Link>>;

#[derive(Debug)]
struct Link {
    node: NodeId,
    connection: sea_orm::DatabaseConnection,
    next: Place,
}

impl Lent {
    /// The handle of the node that is the primary now.
    ///
    /// What is written through it goes round the session. As far as SeaORM tells of it (all
    /// statements but unprepared ones, those inside transactions too), the session hears of it all
    /// the same, as of a write whose commit it does not see.
    ///
    /// A scripted node has no handle; what stands in for it is not connected.
    pub(super) fn primary(&self, shared: &Arc<Shared>, session: &Handle) -> &sea_orm::DatabaseConnection {
        let node = Arc::clone(&shared.cell().load().primary.node);
        self.of(node.id(), || {
            let mut connection = node.driver(Lane::Write).seaorm().cloned().unwrap_or_default();
            let metric = shared.monitor.writer().metric().clone();
            // Weak: what was copied out of a handle must not keep its monitor alive.
            let (shared, session) = (Arc::downgrade(shared), session.clone());
            connection.set_metric_callback(move |info| {
                metric.tell(info);
                if let Some(shared) = shared.upgrade() {
                    heard(&shared, &session, &info.statement.sql);
                }
            });
            connection
        })
    }

    fn of(&self, node: NodeId, make: impl Fn() -> sea_orm::DatabaseConnection) -> &sea_orm::DatabaseConnection {
        let mut place = &self.first;
        loop {
            let link = place.get_or_init(|| Box::new(Link { node, connection: make(), next: Place::new() }));
            if link.node == node {
                return &link.connection;
            }
            place = &link.next;
        }
    }
}

fn heard(shared: &Arc<Shared>, session: &Handle, sql: &str) {
    if !shared.class(sql).intent.is_read() {
        written_out_of_sight(shared, session);
    }
}

/// Something is, or will be, written that we cannot see the end of: the session reads from the
/// primary for `unknown_outcome_hold`.
pub(super) fn written_out_of_sight(shared: &Arc<Shared>, session: &Handle) {
    drop(WriteMark::begin(Arc::clone(shared), session.current(shared.id), WriteEffect::Written, Certainty::Unknown));
}

impl Clone for Lent {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Drop for Lent {
    /// One by one: a list that drops itself from within runs as deep as it is long.
    fn drop(&mut self) {
        let mut place = self.first.take();
        while let Some(mut link) = place {
            place = link.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_primary_is_made_once_and_stays() {
        let lent = Lent::default();
        let nodes: Vec<_> = (0..3).map(|_| NodeId::unique()).collect();
        let made = std::cell::Cell::new(0);
        let of = |node| {
            std::ptr::from_ref(lent.of(node, || {
                made.set(made.get() + 1);
                sea_orm::DatabaseConnection::default()
            }))
        };
        let first: Vec<_> = nodes.iter().map(|node| of(*node)).collect();
        let again: Vec<_> = nodes.iter().rev().map(|node| of(*node)).collect();
        assert_eq!(again, first.into_iter().rev().collect::<Vec<_>>());
        assert_eq!(made.get(), 3);
    }

    #[test]
    fn threads_that_lend_at_once_agree() {
        let lent = Lent::default();
        let nodes: Vec<_> = (0..64).map(|_| NodeId::unique()).collect();
        let lend = || {
            let of = |node| std::ptr::from_ref(lent.of(node, sea_orm::DatabaseConnection::default)) as usize;
            nodes.iter().map(|node| of(*node)).collect::<Vec<_>>()
        };
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(lend)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it ends")).collect::<Vec<_>>()
        });
        assert!(all.iter().all(|lent| *lent == all[0]));
    }

    #[test]
    fn a_long_list_is_dropped_without_a_deep_stack() {
        let lent = Lent::default();
        let mut place = &lent.first;
        for _ in 0..500_000 {
            let link = place.get_or_init(|| {
                let connection = sea_orm::DatabaseConnection::default();
                Box::new(Link { node: NodeId::unique(), connection, next: Place::new() })
            });
            place = &link.next;
        }
        drop(lent);
    }
}
