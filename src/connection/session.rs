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
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;

use crate::{
    clock,
    routing::{How, Kept},
    topology::{Floor, Generation, NodeId, Position, Seq, Settled, Tick},
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
    /// The implicit session of the caller, for operations on the connection named `shared`.
    pub(crate) fn current(shared: ConnectionId) -> Self {
        if let Some(session) = enclosing_scope(shared) {
            return Self::Explicit(session);
        }
        tokio::task::try_id().map_or(Self::Process, Self::Task)
    }

    /// The node an explicit session keeps to.
    pub(crate) fn kept(&self) -> Option<&Arc<KeptNode>> {
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
    pub(crate) fn current(&self, shared: ConnectionId) -> SessionRef {
        match self {
            Self::Implicit => SessionRef::current(shared),
            Self::Session(session) => SessionRef::Explicit(Arc::clone(session)),
        }
    }

    /// The node of an explicit session.
    pub(crate) fn kept(&self) -> Option<&Arc<KeptNode>> {
        match self {
            Self::Implicit => None,
            Self::Session(session) => Some(&session.kept),
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
    state: SessionState,
    kept: Arc<KeptNode>,
    /// The position it begins after, until it is known where that lies.
    awaited: Mutex<Option<Arc<Position>>>,
    awaits: AtomicBool,
    awaits_since: AtomicU64,
    /// Something was written in it, or may have been.
    has_written: AtomicBool,
}

impl Session {
    /// One that must see this from its beginning.
    pub(crate) fn beginning_at(floor: Floor) -> Self {
        let session = Self::default();
        session.state.raise(floor);
        session
    }

    /// It must see what a server at this position has.
    pub(crate) fn begin_after(&self, position: Arc<Position>) {
        self.awaits_since.store(clock::next_seq().0, Ordering::Release);
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
        self.awaits.store(true, Ordering::Release);
    }

    /// Since when it waits for that: a primary had the position before.
    pub(crate) fn awaits_since(&self) -> Seq {
        Seq(self.awaits_since.load(Ordering::Acquire))
    }

    /// The position it begins after, while it is not known where that lies: only the primary is sure to have it.
    pub(crate) fn awaited(&self) -> Option<Arc<Position>> {
        if !self.awaits.load(Ordering::Acquire) {
            return None;
        }
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// That is known now.
    pub(crate) fn arrived(&self, floor: Floor) {
        // Raised before the position is let go: in between nobody is below it.
        self.state.raise(floor);
        self.awaits.store(false, Ordering::Release);
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What its next read must see, wherever it runs.
    pub(crate) fn floor(&self) -> Floor {
        self.state.floor().join(Floor::seen(self.kept.seen()))
    }

    /// A write of its own has ended.
    fn wrote(&self, floor: Floor) {
        // Raised first: who finds that it has written finds what, too.
        self.state.raise(floor);
        self.has_written.store(true, Ordering::Release);
    }

    /// Whether something was written in it, or may have been. What it began after is not its own.
    #[cfg(feature = "tower")]
    pub(crate) fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Acquire)
    }

    /// Whether it began after a token that is of no use here.
    #[cfg(feature = "tower")]
    pub(crate) fn is_for_the_primary(&self) -> bool {
        self.state.floor().parts().2 == Tick::NEVER
    }
}

/// What is remembered of one session.
#[derive(Debug, Default)]
struct SessionState {
    seen: AtomicU64,
    written_at: AtomicU64,
    open_until: AtomicU64,
}

impl SessionState {
    fn raise(&self, floor: Floor) {
        let (seen, written_at, open_until) = floor.parts();
        self.open_until.fetch_max(open_until.0, Ordering::AcqRel);
        self.written_at.fetch_max(written_at.0, Ordering::AcqRel);
        self.seen.fetch_max(seen.0, Ordering::AcqRel);
    }

    fn floor(&self) -> Floor {
        let tick = |of: &AtomicU64| Tick(of.load(Ordering::Acquire));
        Floor::from_parts(Seq(self.seen.load(Ordering::Acquire)), tick(&self.written_at), tick(&self.open_until))
    }
}

/// The node that a session or a read connection keeps to while it stays eligible, and what it has read: it
/// never sees an older state than it has.
#[derive(Debug, Default)]
pub(crate) struct KeptNode {
    reading: Mutex<Reading>,
    loyalty: Loyalty,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    kept: Option<Kept>,
    /// The end of the last read.
    seen: Seq,
    /// Whether the last read was sent to the primary for want of a fresh replica.
    is_away: bool,
    /// Whether nobody but the primary can have what it must see, however soon it is asked.
    is_bound: bool,
    /// Until then it does not wait for one: it did, in vain.
    waits_from: Tick,
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

    fn reading(&self) -> std::sync::MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node, and what another one must have.
    pub(crate) fn get(&self) -> (Option<Kept>, Seq) {
        let reading = self.reading();
        (reading.kept, reading.seen)
    }

    pub(crate) fn node(&self) -> Option<NodeId> {
        Some(self.reading().kept?.node)
    }

    pub(crate) fn seen(&self) -> Seq {
        self.reading().seen
    }

    /// A read was sent to this node, in this generation of what is believed of the node.
    pub(crate) fn went_to(&self, node: NodeId, generation: Generation, how: How) {
        let mut reading = self.reading();
        reading.is_away = how.is_by_staleness();
        if let (How::Drawn, _) | (_, Loyalty::ToTheLast) = (how, self.loyalty)
            && reading.kept.is_none_or(|kept| (kept.node, kept.generation) != (node, generation))
        {
            reading.kept = Some(Kept { node, generation, seen_elsewhere: reading.seen });
        }
    }

    pub(crate) fn set_bound_to_primary(&self, is_bound: bool) {
        self.reading().is_bound = is_bound;
    }

    /// Whether it helps to ask the servers for its sake.
    pub(crate) fn may_come_back(&self) -> bool {
        !self.reading().is_bound
    }

    /// Whether a read may wait for a replica that needs only to be known to have what was read.
    pub(crate) fn may_wait(&self, now: Tick) -> bool {
        now >= self.reading().waits_from
    }

    /// It did, and there was none in time.
    pub(crate) fn waited_in_vain(&self, now: Tick) {
        self.reading().waits_from = now.after(WAITS_AGAIN_AFTER);
    }

    /// A read on this node, in this generation, has ended. Says whether the session is where it belongs.
    pub(crate) fn read_on(&self, node: NodeId, generation: Generation) -> bool {
        let end = clock::next_seq();
        let mut reading = self.reading();
        reading.seen = reading.seen.max(end);
        let is_away = reading.is_away;
        match &mut reading.kept {
            Some(kept) if (kept.node, kept.generation) != (node, generation) => {
                kept.seen_elsewhere = kept.seen_elsewhere.max(end);
                false
            }
            _ => !is_away,
        }
    }
}

/// How long a session does not wait to go back to a replica after it did so in vain.
const WAITS_AGAIN_AFTER: Duration = Duration::from_millis(200);

type Scopes = SmallVec<[(ConnectionId, Arc<Session>); 2]>;

tokio::task_local! {
    /// The explicit sessions whose scope encloses the running code, innermost last.
    static SCOPES: Scopes;
}

fn enclosing_scope(shared: ConnectionId) -> Option<Arc<Session>> {
    SCOPES
        .try_with(|scopes| {
            scopes.iter().rev().find(|(scope, _)| *scope == shared).map(|(_, session)| Arc::clone(session))
        })
        .ok()
        .flatten()
}

/// Runs a future so that plain handles inside it belong to `session`.
pub(crate) async fn scope<F: Future>(shared: ConnectionId, session: Arc<Session>, future: F) -> F::Output {
    let mut scopes = SCOPES.try_with(Scopes::clone).unwrap_or_default();
    scopes.push((shared, session));
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
    shards: [Mutex<HashMap<tokio::task::Id, Floor>>; SHARDS],
    hasher: RandomState,
    /// How many there are in all shards.
    remembered: AtomicUsize,
    /// Code that runs in no task is one session.
    process: SessionState,
    /// Every write of this process, for `Consistency::Process`: at least the floor of anybody.
    everybody: SessionState,
    /// What is not in the map any more: nobody may be below it.
    forgotten: SessionState,
    /// From this instant on time keeps no session from a node without positions.
    matters_until: AtomicU64,
    stick_after_write: Duration,
}

impl Floors {
    pub(crate) fn new(stick_after_write: Duration) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            remembered: AtomicUsize::new(0),
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

    /// What a read of this session must see of what was written. `settled` is what all replicas have: while that
    /// is everything, nobody is looked up, and what was remembered is forgotten.
    pub(crate) fn of_session(&self, session: &SessionRef, now: Tick, settled: Settled) -> Floor {
        let newest = self.everybody.floor();
        let own = match session {
            // It lives in the session, and nobody forgets it.
            SessionRef::Explicit(session) => return session.state.floor(),
            _ if newest.is_none() => return newest,
            _ if self.is_settled(newest, now, settled) => {
                self.forget(newest);
                return newest;
            }
            SessionRef::Process => self.process.floor(),
            SessionRef::Task(id) => self.shard(*id).get(id).copied().unwrap_or_default(),
        };
        own.join(self.forgotten.floor())
    }

    fn is_settled(&self, newest: Floor, now: Tick, settled: Settled) -> bool {
        let by_time = || now.0 >= self.matters_until.load(Ordering::Acquire);
        newest.is_reached(settled.through, now) && (!settled.by_time_too || by_time())
    }

    /// What a read must see that has to see every write of this process.
    pub(crate) fn of_process(&self) -> Floor {
        self.everybody.floor()
    }

    /// What a session must see at the most: its own floor, or that of everybody where its own may be forgotten.
    pub(crate) fn at_most(&self, session: &SessionRef) -> Floor {
        match session {
            SessionRef::Explicit(session) => session.floor(),
            SessionRef::Task(_) | SessionRef::Process => self.everybody.floor(),
        }
    }

    /// Records a write: a read of the session must see it from now on.
    pub(crate) fn raise(&self, session: &SessionRef, floor: Floor) {
        let until = floor.matters_until(self.stick_after_write);
        self.matters_until.fetch_max(until.0, Ordering::AcqRel);
        // First, so that nobody is ever above it.
        self.everybody.raise(floor);
        match session {
            SessionRef::Explicit(session) => session.wrote(floor),
            SessionRef::Process => self.process.raise(floor),
            SessionRef::Task(id) => self.remember(*id, floor),
        }
    }

    /// Every replica is past `newest`, and so past everything that is remembered. One that joins or comes back
    /// later is held to it all the same.
    fn forget(&self, newest: Floor) {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.forgotten.raise(newest);
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            // What was written meanwhile stays, and what may still happen.
            shard.retain(|_, floor| floor.join(newest) != newest);
            self.remembered.fetch_sub(before - shard.len(), Ordering::Relaxed);
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

    fn shard(&self, id: tokio::task::Id) -> std::sync::MutexGuard<'_, HashMap<tokio::task::Id, Floor>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let index = self.hasher.hash_one(id) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, id: tokio::task::Id, floor: Floor) {
        let mut shard = self.shard(id);
        if shard.len() >= SHARD_CAPACITY && !shard.contains_key(&id) {
            let before = shard.len();
            self.make_room(&mut shard, floor);
            self.remembered.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
        let known = shard.len();
        let entry = shard.entry(id).or_default();
        *entry = entry.join(floor);
        self.remembered.fetch_add(shard.len() - known, Ordering::Relaxed);
    }

    /// Nobody is below what is forgotten, so forgetting is safe; what it costs is reads on the primary, by whoever
    /// reads before the replicas have it. So those go first that cost least.
    fn make_room(&self, shard: &mut HashMap<tokio::task::Id, Floor>, floor: Floor) {
        let now = floor.parts().1;
        // Time keeps none of these from any node, and where there are positions, the replicas have had the most time
        // to get there. Half of them at once, so that not every write looks through them.
        let matters_until = |old: &Floor| old.matters_until(self.stick_after_write);
        let mut ends: Vec<Tick> = shard.values().map(matters_until).collect();
        let middle = ends.len() / 2;
        let until = now.min(*ends.select_nth_unstable(middle).1);
        self.push_out(shard, |old| matters_until(old) <= until);
        if shard.len() > SHARD_CAPACITY - SHARD_CAPACITY / 8 {
            // But a write that may still happen binds its own session as long as there is room: it would keep
            // everybody from the replicas.
            self.push_out(shard, |old| old.parts().2 <= now);
        }
        if shard.len() >= SHARD_CAPACITY {
            self.push_out(shard, |_| true);
        }
    }

    fn push_out(&self, shard: &mut HashMap<tokio::task::Id, Floor>, goes: impl Fn(&Floor) -> bool) {
        shard.retain(|_, old| {
            let goes = goes(old);
            if goes {
                self.forgotten.raise(*old);
            }
            !goes
        });
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        let counted = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum();
        assert_eq!(self.remembered.load(Ordering::Relaxed), counted);
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Stamp;

    const STICK: Duration = Duration::from_secs(1);
    const SECOND: u64 = 1_000_000_000;

    /// No replica has anything.
    const UNSETTLED: Settled = Settled { through: Stamp { seq: Seq(0), at: Tick(0) }, by_time_too: true };

    fn end(seq: u64, at: u64) -> Floor {
        Floor::written(Stamp { seq: Seq(seq), at: Tick(at) })
    }

    fn settled(seq: u64) -> Settled {
        Settled { through: Stamp { seq: Seq(seq), at: Tick(seq) }, by_time_too: false }
    }

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
        floors.raise(&writer, end(1, SECOND));
        let floor = |session| floors.of_session(session, now, UNSETTLED);
        assert_eq!(floor(&writer), end(1, SECOND));
        assert!(floor(&other).is_none());
        assert!(floor(&SessionRef::Process).is_none());
        assert_eq!(floors.of_process(), end(1, SECOND));
    }

    #[tokio::test]
    async fn what_every_replica_has_is_forgotten_and_nobody_falls_below_it() {
        let floors = Floors::new(STICK);
        let ids = task_ids(3).await;
        let (now, tasks) = (Tick(100), ids.iter().map(|id| SessionRef::Task(*id)).collect::<Vec<_>>());
        floors.raise(&tasks[0], end(5, 5));
        floors.raise(&tasks[1], end(7, 7));
        assert!(floors.of_session(&tasks[2], now, settled(7)).is_none(), "not all is settled");
        assert_eq!(floors.remembered(), 2);
        assert_eq!(floors.of_session(&tasks[2], now, settled(8)), end(7, 7));
        assert_eq!(floors.remembered(), 0);
        // A replica that joins late is not settled: those who wrote, and those who did not, are held to it.
        for task in &tasks {
            assert_eq!(floors.of_session(task, now, UNSETTLED), end(7, 7));
        }
        floors.raise(&tasks[0], end(9, 9));
        assert_eq!(floors.of_session(&tasks[0], now, settled(8)), end(9, 9));
        assert_eq!(floors.of_session(&tasks[1], now, settled(8)), end(7, 7));
    }

    #[tokio::test]
    async fn a_write_that_may_still_happen_is_not_forgotten() {
        let floors = Floors::new(STICK);
        let task = SessionRef::Task(task_ids(1).await[0]);
        let open = Floor::open(Stamp { seq: Seq(5), at: Tick(5) }, Tick(50));
        floors.raise(&task, open);
        assert_eq!(floors.of_session(&task, Tick(49), settled(60)), open);
        assert_eq!(
            floors.of_session(&task, Tick(55), settled(50)),
            open,
            "nobody asked the primary since it could happen"
        );
        assert_eq!(floors.remembered(), 1);
        assert_eq!(floors.of_session(&task, Tick(55), settled(51)), open);
        assert_eq!(floors.remembered(), 0);
    }

    #[tokio::test]
    async fn the_map_is_bounded_and_what_it_forgets_nobody_misses() {
        let floors = Floors::new(STICK);
        let ids = task_ids(SHARDS * (SHARD_CAPACITY + 500)).await;
        for (id, seq) in ids.iter().zip(1..) {
            floors.raise(&SessionRef::Task(*id), end(seq, seq));
        }
        assert!(floors.remembered() <= SHARDS * SHARD_CAPACITY);
        for (id, seq) in ids.iter().zip(1..) {
            let (seen, ..) = floors.of_session(&SessionRef::Task(*id), Tick(SECOND), UNSETTLED).parts();
            assert!(seen >= Seq(seq), "who was pushed out is not below what it wrote");
        }
        let (seen, ..) = floors.of_session(&SessionRef::Process, Tick(SECOND), UNSETTLED).parts();
        assert!(seen > Seq(0), "nor is anybody else");
    }

    #[tokio::test]
    async fn a_full_map_forgets_who_wrote_long_ago_and_sends_no_stranger_to_the_primary() {
        let floors = Floors::new(STICK);
        let ids = task_ids(SHARDS * (SHARD_CAPACITY + 1_500)).await;
        let stranger = SessionRef::Process;
        // 8 000 writes a second, for eleven times as long as they stick.
        let at = |seq: u64| Tick(SECOND + seq * (SECOND / 8_000));
        for (id, seq) in ids.iter().zip(1..) {
            floors.raise(&SessionRef::Task(*id), end(seq, at(seq).0));
            let floor = floors.of_session(&stranger, at(seq), UNSETTLED);
            assert!(floor.is_past(at(seq), STICK), "write {seq}: {floor:?}");
            // Where there are positions, one that had everything two and a half seconds ago is fresh enough for it.
            let had = seq.saturating_sub(20_000);
            let through = Stamp { seq: Seq(had.max(1)), at: at(had) };
            assert!(floor.is_none() || floor.is_reached(through, at(seq)), "write {seq}: {floor:?}");
        }
        assert!(floors.forgotten.floor().parts().0 > Seq(0), "it was full");
        assert!(floors.remembered() <= SHARDS * SHARD_CAPACITY);
        let last = ids.len() as u64;
        for (id, seq) in ids.iter().zip(1..) {
            let (seen, ..) = floors.of_session(&SessionRef::Task(*id), at(last), UNSETTLED).parts();
            assert!(seen >= Seq(seq), "who was pushed out is not below what it wrote");
        }
    }

    #[tokio::test]
    async fn writes_that_may_still_happen_stay_when_a_full_map_forgets_the_others() {
        let floors = Floors::new(STICK);
        let ids = task_ids(SHARDS * (SHARD_CAPACITY + 500)).await;
        for (id, seq) in ids.iter().zip(1..) {
            let end = Stamp { seq: Seq(seq), at: Tick(SECOND + seq) };
            let open = Floor::open(end, Tick(60 * SECOND));
            floors.raise(&SessionRef::Task(*id), if seq % 100 == 0 { open } else { Floor::written(end) });
        }
        assert!(floors.forgotten.floor().parts().0 > Seq(0), "it was full");
        assert!(floors.forgotten.floor().parts().2 < Tick(60 * SECOND), "nobody is bound by what may still happen");
    }

    #[test]
    fn a_session_that_reads_elsewhere_must_find_at_least_that_where_it_comes_back_to() {
        let kept = KeptNode::default();
        let (home, away) = (NodeId::unique(), NodeId::unique());
        kept.went_to(home, Generation::nth(1), How::Drawn);
        kept.read_on(home, Generation::nth(1));
        let (at_home, seen) = kept.get();
        assert_eq!(at_home, Some(Kept { node: home, generation: Generation::nth(1), seen_elsewhere: Seq(0) }));
        assert!(seen > Seq(0));
        kept.went_to(away, Generation::default(), How::ForcedByStaleness);
        kept.read_on(away, Generation::default());
        let (at_home, later) = kept.get();
        assert!(later > seen);
        assert_eq!(at_home, Some(Kept { node: home, generation: Generation::nth(1), seen_elsewhere: later }));
        // The same node, restarted: what was read in the generation before was seen elsewhere.
        kept.went_to(home, Generation::nth(2), How::Drawn);
        assert_eq!(kept.get().0, Some(Kept { node: home, generation: Generation::nth(2), seen_elsewhere: later }));
    }

    #[cfg(feature = "tower")]
    #[test]
    fn a_session_knows_its_own_writes_from_what_it_began_after() {
        let floors = Floors::new(STICK);
        let open = Floor::open(Stamp { seq: Seq(5), at: Tick(5) }, Tick(50));
        let session = Arc::new(Session::beginning_at(open));
        session.arrived(Floor::reached(Stamp { seq: Seq(7), at: Tick(7) }));
        session.kept.read_on(NodeId::unique(), Generation::nth(1));
        assert!(!session.has_written(), "it began after writes, and has read");
        assert!(!session.is_for_the_primary());
        let (other, this) = (SessionRef::Explicit(Arc::default()), SessionRef::Explicit(Arc::clone(&session)));
        floors.raise(&other, end(9, 9));
        floors.raise(&SessionRef::Process, end(10, 10));
        assert!(!session.has_written(), "others wrote");
        floors.raise(&this, end(11, 11));
        assert!(session.has_written());
        let session = Session::default();
        session.arrived(Floor::never());
        assert!(session.is_for_the_primary() && !session.has_written());
    }

    #[tokio::test]
    async fn a_read_back_is_expected_once_and_by_its_session_only() {
        let floors = Floors::new(STICK);
        let ids = task_ids(2).await;
        let (writer, other) = (SessionRef::Task(ids[0]), SessionRef::Task(ids[1]));
        let now = Tick(SECOND);
        floors.raise(&writer, end(1, SECOND));
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
