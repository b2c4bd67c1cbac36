//! Sessions: whose writes a read must see, and where that is remembered.
//!
//! The session of the plain handle is, in this order, the enclosing `scope`, the running tokio
//! task, the process. Only recent writers are remembered, in a bounded map that empties itself.

use std::{
    cell::Cell,
    collections::HashMap,
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;

use crate::{
    routing::How,
    topology::{Floor, NodeId, Tick},
};

/// Whose operation this is.
#[derive(Clone, Debug)]
pub(crate) enum SessionRef {
    /// An explicit session, held or entered by `scope`.
    Explicit(Arc<Session>),
    /// A tokio task.
    Task(tokio::task::Id),
    /// Everything of this process that runs in no task (`main`, `block_on`).
    Process,
}

impl SessionRef {
    /// The implicit session of the caller, for operations on the connection named `core`.
    pub(crate) fn current(core: CoreId) -> Self {
        if let Some(session) = enclosing_scope(core) {
            return Self::Explicit(session);
        }
        tokio::task::try_id().map_or(Self::Process, Self::Task)
    }

    /// The node an explicit session keeps to.
    pub(crate) fn kept(&self) -> Option<&KeptNode> {
        match self {
            Self::Explicit(session) => Some(&session.kept),
            Self::Task(_) | Self::Process => None,
        }
    }
}

/// Whose operations a handle's operations are.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    /// The enclosing scope's, the running task's, or the process's: decided by each operation.
    Implicit,
    Session(Arc<Session>),
}

impl Handle {
    /// For a handle that is made by code of this session: what is explicit goes along with it.
    pub(crate) fn made_by(session: SessionRef) -> Self {
        match session {
            SessionRef::Explicit(session) => Self::Session(session),
            SessionRef::Task(_) | SessionRef::Process => Self::Implicit,
        }
    }

    /// The session of an operation that begins now.
    pub(crate) fn current(&self, core: CoreId) -> SessionRef {
        match self {
            Self::Implicit => SessionRef::current(core),
            Self::Session(session) => SessionRef::Explicit(Arc::clone(session)),
        }
    }

    /// The node of an explicit session.
    pub(crate) fn kept(&self) -> Option<&KeptNode> {
        match self {
            Self::Implicit => None,
            Self::Session(session) => Some(&session.kept),
        }
    }
}

/// Names a connection, so that a scope of one database means nothing to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoreId(u64);

impl CoreId {
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// An explicit session: the handle is the session, and clones share it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    state: SessionState,
    kept: KeptNode,
}

/// What is remembered of one session.
#[derive(Debug, Default)]
struct SessionState {
    last_write: AtomicU64,
    open_until: AtomicU64,
}

impl SessionState {
    fn raise(&self, floor: Floor) {
        let (last_write, open_until) = floor.parts();
        self.last_write.fetch_max(last_write.0, Ordering::AcqRel);
        self.open_until.fetch_max(open_until.0, Ordering::AcqRel);
    }

    fn floor(&self) -> Floor {
        Floor::from_parts(Tick(self.last_write.load(Ordering::Acquire)), Tick(self.open_until.load(Ordering::Acquire)))
    }
}

/// The node that a session or a read connection keeps to while it stays eligible.
#[derive(Debug, Default)]
pub(crate) struct KeptNode {
    node: Mutex<Option<NodeId>>,
    loyalty: Loyalty,
}

/// What becomes of the kept node when a read is forced to the primary.
#[derive(Clone, Copy, Debug, Default)]
enum Loyalty {
    /// It is kept: a long session goes back to it, and to its share of the replicas, when it has
    /// caught up.
    #[default]
    ToTheDrawn,
    /// The primary is kept from then on: a read connection moves once and stays.
    ToTheLast,
}

impl KeptNode {
    /// For a read connection, which moves once and stays.
    pub(crate) fn of_read_connection() -> Self {
        Self { loyalty: Loyalty::ToTheLast, ..Self::default() }
    }

    pub(crate) fn get(&self) -> Option<NodeId> {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read was sent to this node.
    pub(crate) fn went_to(&self, node: NodeId, how: How) {
        if let (How::Drawn, _) | (How::Forced | How::Alone, Loyalty::ToTheLast) = (how, self.loyalty) {
            *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
        }
    }
}

type Scopes = SmallVec<[(CoreId, Arc<Session>); 2]>;

tokio::task_local! {
    /// The explicit sessions whose scope encloses the running code, innermost last.
    static SCOPES: Scopes;
}

fn enclosing_scope(core: CoreId) -> Option<Arc<Session>> {
    SCOPES
        .try_with(|scopes| {
            scopes.iter().rev().find(|(scope, _)| *scope == core).map(|(_, session)| Arc::clone(session))
        })
        .ok()
        .flatten()
}

/// Runs a future so that plain handles inside it belong to `session`.
pub(crate) async fn scope<F: Future>(core: CoreId, session: Arc<Session>, future: F) -> F::Output {
    let mut scopes = SCOPES.try_with(Scopes::clone).unwrap_or_default();
    scopes.push((core, session));
    SCOPES.scope(scopes, future).await
}

/// How soon after its write SeaORM reads the row back.
const READ_BACK_WITHIN: Duration = Duration::from_secs(1);

/// A write ended for which SeaORM may read the row back.
#[derive(Clone, Copy, Debug)]
struct ReadBack {
    whose: Whose,
    until: Tick,
}

/// A session of one connection, by where it is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Explicit(usize),
    Task(usize, tokio::task::Id),
    Process(usize),
}

thread_local! {
    /// The write that ended last on this thread. SeaORM reads back in the very poll in which its write ends, so
    /// that nothing comes in between; a mark in the session could be taken by whoever else reads in it.
    static READ_BACK: Cell<Option<ReadBack>> = const { Cell::new(None) };
}

const SHARDS: usize = 16;
/// Sessions remembered in each shard at the most: 65 536 in all, about 4 MB.
const SHARD_CAPACITY: usize = 4_096;

/// The floors of all sessions that wrote recently.
#[derive(Debug)]
pub(crate) struct Floors {
    shards: [Mutex<HashMap<tokio::task::Id, Entry>>; SHARDS],
    hasher: RandomState,
    /// Code that runs in no task is one session.
    process: SessionState,
    /// Every write of this process, for `Consistency::Process`.
    everybody: SessionState,
    /// What was pushed out of the map: nobody may be below it.
    forgotten: SessionState,
    /// No floor of any session matters from this instant on.
    matters_until: AtomicU64,
    stick_after_write: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    floor: Floor,
}

impl Floors {
    pub(crate) fn new(stick_after_write: Duration) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            process: SessionState::default(),
            everybody: SessionState::default(),
            forgotten: SessionState::default(),
            matters_until: AtomicU64::new(0),
            stick_after_write,
        }
    }

    pub(crate) fn stick_after_write(&self) -> Duration {
        self.stick_after_write
    }

    /// What a read of this session must see; `None` when nothing recent was written by anybody,
    /// which costs one load.
    pub(crate) fn of_session(&self, session: &SessionRef, now: Tick) -> Option<Floor> {
        if now.0 >= self.matters_until.load(Ordering::Acquire) {
            return None;
        }
        let own = match session {
            SessionRef::Explicit(session) => session.state.floor(),
            SessionRef::Process => self.process.floor(),
            SessionRef::Task(id) => self.shard(*id).get(id).map(|entry| entry.floor).unwrap_or_default(),
        };
        Some(own.join(self.forgotten.floor()))
    }

    /// What a read must see that has to see every write of this process.
    pub(crate) fn of_process(&self) -> Floor {
        self.everybody.floor()
    }

    /// Records a write: a read of the session must see it from now on.
    pub(crate) fn raise(&self, session: &SessionRef, floor: Floor, now: Tick) {
        let until = floor.matters_until(self.stick_after_write);
        self.matters_until.fetch_max(until.0, Ordering::AcqRel);
        self.everybody.raise(floor);
        match session {
            SessionRef::Explicit(session) => session.state.raise(floor),
            SessionRef::Process => self.process.raise(floor),
            SessionRef::Task(id) => {
                self.with_entry(*id, now, |entry| entry.floor = entry.floor.join(floor));
            }
        }
    }

    /// SeaORM is about to read back what it wrote on a database without `RETURNING`.
    pub(crate) fn expect_read_back(&self, session: &SessionRef, now: Tick) {
        // Also where writes stick for no time at all.
        let until = now.after(READ_BACK_WITHIN);
        self.matters_until.fetch_max(until.0, Ordering::AcqRel);
        READ_BACK.set(Some(ReadBack { whose: self.whose(session), until }));
    }

    /// Whether this read is SeaORM's read-back: the first one of the session, on the thread of its write. Asks once.
    pub(crate) fn take_read_back(&self, session: &SessionRef, now: Tick) -> bool {
        if now.0 >= self.matters_until.load(Ordering::Acquire) {
            return false;
        }
        let whose = self.whose(session);
        let is_mine = READ_BACK.get().is_some_and(|mark| mark.whose == whose && now.0 < mark.until.0);
        if is_mine {
            READ_BACK.set(None);
        }
        is_mine
    }

    fn whose(&self, session: &SessionRef) -> Whose {
        let here = std::ptr::from_ref(self).addr();
        match session {
            SessionRef::Explicit(session) => Whose::Explicit(Arc::as_ptr(session).addr()),
            SessionRef::Task(id) => Whose::Task(here, *id),
            SessionRef::Process => Whose::Process(here),
        }
    }

    fn shard(&self, id: tokio::task::Id) -> std::sync::MutexGuard<'_, HashMap<tokio::task::Id, Entry>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let index = self.hasher.hash_one(id) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_entry(&self, id: tokio::task::Id, now: Tick, change: impl FnOnce(&mut Entry)) {
        let mut shard = self.shard(id);
        if shard.len() >= SHARD_CAPACITY && !shard.contains_key(&id) {
            shard.retain(|_, entry| !entry.floor.is_past(now, self.stick_after_write));
            if shard.len() >= SHARD_CAPACITY {
                // Nobody is below what is forgotten, so forgetting is safe; it only costs reads
                // on the primary for a while.
                for (_, entry) in shard.drain() {
                    self.forgotten.raise(entry.floor);
                }
            }
        }
        change(shard.entry(id).or_default());
        if shard.len() > SHARD_CAPACITY / 8 && shard.len().is_power_of_two() {
            shard.retain(|_, entry| !entry.floor.is_past(now, self.stick_after_write));
        }
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STICK: Duration = Duration::from_secs(1);
    const SECOND: u64 = 1_000_000_000;

    async fn task_ids(count: usize) -> Vec<tokio::task::Id> {
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            ids.push(tokio::spawn(async { tokio::task::id() }).await.expect("the task ends"));
        }
        ids
    }

    #[tokio::test]
    async fn one_tasks_write_does_not_concern_another_task() {
        let floors = Floors::new(STICK);
        let ids = task_ids(2).await;
        let (writer, other) = (SessionRef::Task(ids[0]), SessionRef::Task(ids[1]));
        let now = Tick(SECOND);
        floors.raise(&writer, Floor::written(now), now);
        let past = |session, now| floors.of_session(session, now).is_none_or(|floor| floor.is_past(now, STICK));
        assert!(!past(&writer, now));
        assert!(past(&other, now));
        assert!(past(&SessionRef::Process, now));
        assert!(!floors.of_process().is_past(now, STICK));
        assert!(floors.of_session(&writer, Tick(3 * SECOND)).is_none(), "nothing is looked up when nothing matters");
    }

    #[tokio::test]
    async fn the_map_is_bounded_and_what_it_forgets_nobody_misses() {
        let floors = Floors::new(STICK);
        let now = Tick(SECOND);
        let ids = task_ids(SHARDS * SHARD_CAPACITY / 4).await;
        // Every id many times over would not fill the map; so pretend capacity by many ids.
        for id in &ids {
            floors.raise(&SessionRef::Task(*id), Floor::written(now), now);
        }
        assert!(floors.remembered() <= SHARDS * SHARD_CAPACITY);
        for id in ids.iter().step_by(997) {
            let floor = floors.of_session(&SessionRef::Task(*id), now).expect("it matters");
            assert!(!floor.is_past(now, STICK));
        }
        // Later writers push out what is past.
        let later = Tick(10 * SECOND);
        for id in &ids {
            floors.raise(&SessionRef::Task(*id), Floor::written(later), later);
        }
        assert!(floors.remembered() <= ids.len());
    }

    #[tokio::test]
    async fn a_full_shard_folds_into_the_forgotten_floor() {
        let floors = Floors::new(STICK);
        let now = Tick(SECOND);
        let id = task_ids(1).await[0];
        floors.forgotten.raise(Floor::written(now));
        floors.matters_until.store(2 * SECOND, Ordering::Release);
        let floor = floors.of_session(&SessionRef::Task(id), now).expect("it matters");
        assert!(!floor.is_past(now, STICK), "a session that was never seen is not below what was forgotten");
    }

    #[tokio::test]
    async fn a_read_back_is_expected_once_and_by_its_session_only() {
        let floors = Floors::new(STICK);
        let ids = task_ids(2).await;
        let (writer, other) = (SessionRef::Task(ids[0]), SessionRef::Task(ids[1]));
        let now = Tick(SECOND);
        floors.raise(&writer, Floor::written(now), now);
        floors.expect_read_back(&writer, now);
        assert!(!floors.take_read_back(&other, now));
        assert!(floors.take_read_back(&writer, now));
        assert!(!floors.take_read_back(&writer, now));
    }

    #[test]
    fn a_read_back_is_not_taken_by_another_read_of_the_same_session() {
        let floors = Floors::new(STICK);
        let session = SessionRef::Explicit(Arc::default());
        let now = Tick(SECOND);
        let write = || floors.expect_read_back(&session, now);
        let read_back = || floors.take_read_back(&session, now);
        write();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                assert!(!read_back(), "what was written on another thread is read back there");
                write();
                assert!(read_back());
            });
        });
        assert!(read_back(), "two writes, two rows to read back");
    }

    #[tokio::test]
    async fn scopes_nest_and_belong_to_their_connection() {
        let (one, two) = (CoreId::unique(), CoreId::unique());
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
