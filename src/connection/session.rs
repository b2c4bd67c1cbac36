//! Explicit sessions: their writes and reads, and the node that their reads keep to.
//!
//! An operation of the plain handle belongs to the enclosing `scope`, or to no session: then it must see every write of
//! its process.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;

use super::floors::AtomicFloor;
use crate::{
    clock,
    routing::{How, Kept},
    topology::{Floor, Generation, Lease, NodeId, Position, Seq, Tick},
};

/// The session of one operation.
#[derive(Clone, Debug)]
pub(crate) enum SessionRef {
    /// An explicit session, held or entered by `scope`.
    Explicit(Arc<Session>),
    /// None: the operation shares the floor of its process.
    Process,
}

impl SessionRef {
    /// The node affinity of an explicit session.
    pub(crate) fn affinity(&self) -> Option<&Arc<Affinity>> {
        match self {
            Self::Explicit(session) => Some(&session.affinity),
            Self::Process => None,
        }
    }
}

/// The session of a handle's operations.
#[derive(Clone, Debug)]
pub(crate) enum HandleSession {
    /// Each operation belongs to the scope that encloses it, or to no session.
    Implicit,
    Explicit(Arc<Session>),
}

impl HandleSession {
    /// The session for a handle that is made by code of `session`: an explicit session goes along with the handle.
    pub(crate) fn inherited(session: SessionRef) -> Self {
        match session {
            SessionRef::Explicit(session) => Self::Explicit(session),
            SessionRef::Process => Self::Implicit,
        }
    }

    /// The session of an operation that begins now on the connection named `connection`.
    pub(crate) fn current(&self, connection: ConnectionId) -> SessionRef {
        let session = match self {
            Self::Implicit => enclosing_scope(connection),
            Self::Explicit(session) => Some(Arc::clone(session)),
        };
        session.map_or(SessionRef::Process, SessionRef::Explicit)
    }

    /// The node affinity of an explicit session.
    pub(crate) fn affinity(&self) -> Option<&Arc<Affinity>> {
        match self {
            Self::Implicit => None,
            Self::Explicit(session) => Some(&session.affinity),
        }
    }
}

/// Names a connection, so that a scope of one database means nothing to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// An explicit session: the handle is the session, and clones share it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    floor: AtomicFloor,
    affinity: Arc<Affinity>,
    /// The position after which the session begins, until its place in this process's order is known.
    awaited: Mutex<Option<Arc<Position>>>,
    awaits: AtomicBool,
    awaits_since: AtomicU64,
    has_written: AtomicBool,
}

impl Session {
    /// A session that must see `floor` from its beginning.
    pub(crate) fn beginning_at(floor: Floor) -> Self {
        let session = Self::default();
        session.floor.raise(floor);
        session
    }

    /// Makes the session begin after what a server at this position has.
    pub(crate) fn begin_after(&self, position: Arc<Position>) {
        self.awaits_since.store(clock::next_seq().0, Ordering::Release);
        *self.lock_awaited() = Some(position);
        self.awaits.store(true, Ordering::Release);
    }

    /// The place in the order from which on the session awaits its position: a primary had that position before.
    pub(crate) fn awaits_since(&self) -> Seq {
        Seq(self.awaits_since.load(Ordering::Acquire))
    }

    /// The position after which the session begins, while its place is not known: only the primary is sure to have it.
    pub(crate) fn awaited(&self) -> Option<Arc<Position>> {
        if !self.awaits.load(Ordering::Acquire) {
            return None;
        }
        self.lock_awaited().clone()
    }

    /// The place of the awaited position is known: `floor` stands for it from now on.
    pub(crate) fn arrived(&self, floor: Floor) {
        // The floor rises before the position is let go: a read between the two must not run below both.
        self.floor.raise(floor);
        self.awaits.store(false, Ordering::Release);
        *self.lock_awaited() = None;
    }

    /// What the session's next read must see of its writes and of what the session began after.
    pub(crate) fn written(&self) -> Floor {
        self.floor.get()
    }

    /// As [`written`](Self::written), and what the session has read.
    pub(crate) fn written_and_read(&self) -> Floor {
        self.floor.get().join(Floor::seen(self.affinity.state().seen))
    }

    /// Records the end of a write of the session.
    pub(crate) fn wrote(&self, floor: Floor) {
        // The floor first: a reader that finds `has_written` finds the write, too.
        self.floor.raise(floor);
        self.has_written.store(true, Ordering::Release);
    }

    /// Makes the session see what others wrote as if the session began after that.
    #[cfg(feature = "tower")]
    pub(crate) fn join(&self, floor: Floor) {
        self.floor.raise(floor);
    }

    /// Whether the session wrote something, or may have. What the session began after is no write of its own.
    #[cfg(feature = "tower")]
    pub(crate) fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Acquire)
    }

    /// Whether the session began after a token that cannot be compared here.
    #[cfg(feature = "tower")]
    pub(crate) fn is_for_the_primary(&self) -> bool {
        self.floor.get().parts().2 == Tick::NEVER
    }

    fn lock_awaited(&self) -> MutexGuard<'_, Option<Arc<Position>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node that the reads of a session or of a read connection keep to while that node may serve them, and what those
/// reads have seen: no read shows an older state than the read before it.
#[derive(Debug, Default)]
pub(crate) struct Affinity(Mutex<AffinityState>);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AffinityState {
    /// The node that was drawn.
    pub(crate) kept: Option<Kept>,
    /// The end of the last read.
    pub(crate) seen: Seq,
    /// The node of the last read.
    pub(crate) last: Option<NodeId>,
    /// Before this instant a read does not wait for its kept node: the last wait was in vain.
    pub(crate) waits_from: Tick,
}

/// The node of one read, and how that node was selected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRecord {
    node: NodeId,
    generation: Generation,
    how: How,
    /// Whether only the primary can have what the read had to see, however soon the replicas are asked.
    only_primary: bool,
}

/// How long a session does not wait for its replica after a wait was in vain.
const WAITS_AGAIN_AFTER: Duration = Duration::from_millis(200);

impl Affinity {
    /// The present state, for one decision.
    pub(crate) fn state(&self) -> AffinityState {
        *self.lock()
    }

    /// Keeps to a node that was drawn.
    pub(crate) fn keep(&self, node: NodeId, generation: Generation) {
        let mut state = self.lock();
        state.kept = Some(Kept { node, generation, seen_elsewhere: state.seen });
        state.last = Some(node);
    }

    /// Records that a read connection was given this node and keeps to none: staleness forced the read to the
    /// primary.
    pub(crate) fn went_to(&self, node: NodeId) {
        self.lock().last = Some(node);
    }

    /// Records that a read waited for the kept node, and that the node did not become fresh enough in time.
    pub(crate) fn waited_in_vain(&self, now: Tick) {
        self.lock().waits_from = now.after(WAITS_AGAIN_AFTER);
    }

    /// Records the end of a read. Returns the sequence number that the replicas have to reach so that the session
    /// can go back to its kept node. Without that number a session that reads often would stay away for ever,
    /// because each of its reads elsewhere moves on what the kept node must have.
    pub(crate) fn record(&self, read: ReadRecord) -> Option<Seq> {
        let end = clock::next_seq();
        let mut state = self.lock();
        state.seen = state.seen.max(end);
        state.last = Some(read.node);
        let is_at_home = match &mut state.kept {
            Some(kept) if (kept.node, kept.generation) != (read.node, read.generation) => {
                kept.seen_elsewhere = kept.seen_elsewhere.max(end);
                false
            }
            _ => !read.how.is_by_staleness(),
        };
        (!is_at_home && !read.only_primary).then_some(state.seen)
    }

    fn lock(&self) -> MutexGuard<'_, AffinityState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadRecord {
    pub(crate) fn new(lease: &Lease, how: How, only_primary: bool) -> Self {
        Self { node: lease.node().id(), generation: lease.generation(), how, only_primary }
    }
}

type Scopes = SmallVec<[(ConnectionId, Arc<Session>); 2]>;

tokio::task_local! {
    /// The explicit sessions whose scope encloses the running code, innermost last.
    static SCOPES: Scopes;
}

fn enclosing_scope(connection: ConnectionId) -> Option<Arc<Session>> {
    SCOPES
        .try_with(|scopes| {
            scopes.iter().rev().find(|(scope, _)| *scope == connection).map(|(_, session)| Arc::clone(session))
        })
        .ok()
        .flatten()
}

/// Runs a future so that plain handles inside it belong to `session`.
pub(crate) async fn scope<F: Future>(connection: ConnectionId, session: Arc<Session>, future: F) -> F::Output {
    let mut scopes = SCOPES.try_with(Scopes::clone).unwrap_or_default();
    scopes.push((connection, session));
    SCOPES.scope(scopes, future).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(node: NodeId, generation: u64, how: How) -> ReadRecord {
        ReadRecord { node, generation: Generation::nth(generation), how, only_primary: false }
    }

    #[test]
    fn a_session_that_reads_elsewhere_must_find_at_least_that_where_it_comes_back_to() {
        let affinity = Affinity::default();
        let (home, away) = (NodeId::unique(), NodeId::unique());
        affinity.keep(home, Generation::nth(1));
        assert_eq!(affinity.record(read(home, 1, How::Drawn)), None, "the session is where it belongs");
        let before = affinity.state();
        assert_eq!(before.kept, Some(Kept { node: home, generation: Generation::nth(1), seen_elsewhere: Seq(0) }));
        assert!(before.seen > Seq(0));

        let wanted = affinity.record(read(away, 0, How::ForcedByStaleness));
        let after = affinity.state();
        assert_eq!(wanted, Some(after.seen));
        assert!(after.seen > before.seen);
        assert_eq!(after.kept, Some(Kept { node: home, generation: Generation::nth(1), seen_elsewhere: after.seen }));
        assert_eq!(after.last, Some(away));

        // The same node in another generation: reads in the generation before count as reads elsewhere.
        affinity.keep(home, Generation::nth(2));
        assert_eq!(
            affinity.state().kept,
            Some(Kept { node: home, generation: Generation::nth(2), seen_elsewhere: after.seen })
        );
    }

    #[test]
    fn nothing_is_asked_of_the_replicas_for_a_read_that_only_the_primary_can_serve() {
        let affinity = Affinity::default();
        let only_primary = ReadRecord { only_primary: true, ..read(NodeId::unique(), 0, How::ForcedByStaleness) };
        assert_eq!(affinity.record(only_primary), None);
    }

    #[cfg(feature = "tower")]
    #[test]
    fn a_session_knows_its_own_writes_from_what_it_began_after() {
        use crate::topology::Stamp;

        let stamp = |at: u64| Stamp { seq: Seq(at), at: Tick(at) };
        let session = Session::beginning_at(Floor::open(stamp(5), Tick(50)));
        session.arrived(Floor::reached(stamp(7)));
        session.join(Floor::written(stamp(8)));
        session.affinity.record(read(NodeId::unique(), 1, How::Drawn));
        assert!(!session.has_written(), "the session began after writes, and has read");
        assert!(!session.is_for_the_primary());
        session.wrote(Floor::written(stamp(11)));
        assert!(session.has_written());
        let session = Session::default();
        session.arrived(Floor::never());
        assert!(session.is_for_the_primary() && !session.has_written());
    }

    #[tokio::test]
    async fn scopes_nest_and_belong_to_their_connection() {
        let (one, two) = (ConnectionId::unique(), ConnectionId::unique());
        let (outer, inner) = (Arc::new(Session::default()), Arc::new(Session::default()));
        assert!(enclosing_scope(one).is_none());
        scope(one, Arc::clone(&outer), async {
            assert!(Arc::ptr_eq(&enclosing_scope(one).expect("in scope"), &outer));
            assert!(enclosing_scope(two).is_none());
            scope(one, Arc::clone(&inner), async {
                assert!(Arc::ptr_eq(&enclosing_scope(one).expect("in scope"), &inner));
            })
            .await;
            assert!(Arc::ptr_eq(&enclosing_scope(one).expect("in scope"), &outer));
        })
        .await;
    }
}
