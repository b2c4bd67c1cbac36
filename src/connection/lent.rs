//! SeaORM's own handles of the primary, lent out by reference.
//!
//! Some functions of SeaORM take nothing but `&sea_orm::DatabaseConnection` (a `SchemaManager`), and some return a
//! reference into the handle (a pool). The primary may change while such a reference lives, so a handle of this
//! crate keeps each SeaORM handle that it lent until it is dropped.

use std::{
    sync::{Arc, MutexGuard, OnceLock, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use super::{
    session::{HandleSession, Session, SessionRef},
    shared::Shared,
};
use crate::topology::{Floor, Lane, NodeId, Tick};

/// How often the connections of lent handles are checked for their return.
const LOOK: Duration = Duration::from_millis(5);

/// An append-only list: one SeaORM handle for each primary that was lent. Clones start empty.
///
/// The handle of a primary that left stays in the list. Its pool is closed by then, unless the pool was given open.
#[derive(Debug, Default)]
pub(super) struct Lent {
    first: LinkSlot,
}

type LinkSlot = OnceLock<Box<Link>>;

#[derive(Debug)]
struct Link {
    node: NodeId,
    connection: sea_orm::DatabaseConnection,
    next: LinkSlot,
}

impl Lent {
    /// The handle of the node that is the primary now.
    ///
    /// Writes through the handle bypass the session. As far as SeaORM tells of them (all statements but unprepared
    /// ones, also inside transactions), the floors rise all the same.
    ///
    /// A scripted node has no SeaORM handle; a handle that is not connected stands in.
    pub(super) fn primary(&self, shared: &Arc<Shared>, session: &HandleSession) -> &sea_orm::DatabaseConnection {
        let node = Arc::clone(&shared.cell().load().primary.node);
        self.of(node.id(), || lent(shared, session, node.driver(Lane::Write).seaorm()))
    }

    fn of(&self, node: NodeId, make: impl Fn() -> sea_orm::DatabaseConnection) -> &sea_orm::DatabaseConnection {
        let mut place = &self.first;
        loop {
            let link = place.get_or_init(|| Box::new(Link { node, connection: make(), next: LinkSlot::new() }));
            if link.node == node {
                return &link.connection;
            }
            place = &link.next;
        }
    }
}

/// A SeaORM handle whose writes raise the floors of this connection, as far as SeaORM tells of them.
pub(super) fn lent(
    shared: &Arc<Shared>,
    session: &HandleSession,
    handle: Option<&sea_orm::DatabaseConnection>,
) -> sea_orm::DatabaseConnection {
    let mut connection = handle.cloned().unwrap_or_default();
    let metric = shared.monitor.writer().metric().clone();
    // Weak: a copy of the handle must not keep the monitor alive.
    let (shared, session) = (Arc::downgrade(shared), session.clone());
    connection.set_metric_callback(move |info| {
        metric.tell(info);
        if let Some(shared) = shared.upgrade()
            && !shared.class(&info.statement.sql).intent.is_read()
        {
            shared.was_written_through_lent_handle(&session.current(shared.id));
        }
    });
    connection
}

impl Shared {
    /// Handles a write that SeaORM told of, through a handle of its own; the write may be inside a transaction.
    fn was_written_through_lent_handle(self: &Arc<Self>, session: &SessionRef) {
        self.raise(session, Floor::written(self.stamp()));
        if let SessionRef::Explicit(session) = session {
            let mut told = self.lent_sessions();
            told.retain(|known| known.strong_count() > 0);
            if !told.iter().any(|known| std::ptr::eq(known.as_ptr(), &**session)) {
                told.push(Arc::downgrade(session));
            }
        }
        self.watch_lent_connections();
    }

    fn lent_sessions(&self) -> MutexGuard<'_, Vec<Weak<Session>>> {
        self.lent_sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the floors of the process and of the sessions whose lent handles told of writes.
    fn raise_lent(&self, told: &[Weak<Session>]) {
        self.raise_process();
        told.iter().filter_map(Weak::upgrade).for_each(|session| session.wrote(Floor::written(self.stamp())));
    }

    /// Raises these floors again when the connections that are now in use through SeaORM's handles have come
    /// back, because SeaORM's callback does not tell of a COMMIT. At the latest after `unknown_outcome_hold`.
    pub(super) fn watch_lent_connections(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        self.lent_written_at.store(self.now().0, Ordering::Release);
        if !self.watches_lent.swap(true, Ordering::AcqRel) {
            runtime.spawn(watch(Arc::downgrade(self), self.settings().unknown_outcome_hold));
        }
    }
}

/// Waits until no connection of the primary is in use through a lent handle. One such task runs at a time.
async fn watch(shared: Weak<Shared>, hold: Duration) {
    let mut in_use = usize::MAX;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(shared) = shared.upgrade() else { return };
        let before = in_use;
        in_use = shared.cell().load().primary.node.driver(Lane::Write).untracked_connections();
        let told_at = Tick(shared.lent_written_at.load(Ordering::Acquire));
        if in_use == 0 || shared.now().since(told_at) >= hold {
            // The mark is cleared first: a later write starts another task, and this raise covers the writes
            // before.
            shared.watches_lent.store(false, Ordering::Release);
            let told = std::mem::take(&mut *shared.lent_sessions());
            return shared.raise_lent(&told);
        }
        if in_use < before {
            let told = shared.lent_sessions().clone();
            shared.raise_lent(&told); // A connection came back, perhaps after a COMMIT.
        }
    }
}

impl Clone for Lent {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Drop for Lent {
    /// The links are dropped one by one: a recursive drop runs as deep as the list is long.
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
                Box::new(Link { node: NodeId::unique(), connection, next: LinkSlot::new() })
            });
            place = &link.next;
        }
        drop(lent);
    }
}
