//! SeaORM's own handles of the primary, lent out by reference.
//!
//! Some functions of SeaORM take nothing but `&sea_orm::DatabaseConnection` (a `SchemaManager`), and some return a
//! reference into the handle (a pool). The primary may change while such a reference lives, so a handle of this
//! crate keeps each SeaORM handle that it lent until it is dropped.

use std::{
    sync::{Arc, MutexGuard, OnceLock, PoisonError, Weak},
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

/// The writes through lent handles whose connections may still be in use.
#[derive(Debug, Default)]
pub(super) struct LentWrites {
    /// Whether a task waits for the connections to come back.
    is_watched: bool,
    last_at: Tick,
    count: u64,
    /// The explicit sessions that wrote.
    sessions: Vec<Weak<Session>>,
}

impl Shared {
    /// Handles a write that SeaORM told of, through a handle of its own; the write may be inside a transaction.
    fn was_written_through_lent_handle(self: &Arc<Self>, session: &SessionRef) {
        self.raise(session, Floor::written(self.stamp()));
        self.watch_lent_connections(session);
    }

    /// Raises the floors of the process and of the session again when the connections that are now in use through
    /// SeaORM's handles have come back, because SeaORM's callback does not tell of a COMMIT. At the latest after
    /// `unknown_outcome_hold`.
    pub(super) fn watch_lent_connections(self: &Arc<Self>, session: &SessionRef) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut writes = self.lent_writes();
        writes.last_at = self.now();
        writes.count += 1;
        if let SessionRef::Explicit(session) = session
            && !writes.sessions.iter().any(|known| std::ptr::eq(known.as_ptr(), &raw const **session))
        {
            writes.sessions.push(Arc::downgrade(session));
        }
        if !std::mem::replace(&mut writes.is_watched, true) {
            runtime.spawn(watch(Arc::downgrade(self), self.settings().unknown_outcome_hold()));
        }
    }

    fn lent_writes(&self) -> MutexGuard<'_, LentWrites> {
        self.lent_writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until no connection of the primary is in use through a lent handle. One such task runs at a time.
async fn watch(shared: Weak<Shared>, hold: Duration) {
    let mut in_use = usize::MAX;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(shared) = shared.upgrade() else { return };
        // Counted before the connections: a write that comes in between is waited for.
        let (count, last_at) = {
            let writes = shared.lent_writes();
            (writes.count, writes.last_at)
        };
        let before = in_use;
        in_use = shared.cell().load().primary.node.driver(Lane::Write).untracked_connections();
        let is_over = in_use == 0 || shared.now().since(last_at) >= hold;
        let mut writes = shared.lent_writes();
        let has_ended = is_over && writes.count == count;
        let sessions = if has_ended {
            writes.is_watched = false;
            std::mem::take(&mut writes.sessions)
        } else if is_over || in_use < before {
            writes.sessions.retain(|session| session.strong_count() > 0);
            writes.sessions.clone() // A connection came back, perhaps after a COMMIT.
        } else {
            continue;
        };
        drop(writes);
        shared.raise_process();
        for session in sessions.iter().filter_map(Weak::upgrade) {
            session.wrote(Floor::written(shared.stamp()));
        }
        if has_ended {
            return;
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
