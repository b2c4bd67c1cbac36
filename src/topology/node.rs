//! The long-lived half of a node: its pools and its traffic.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use sea_orm::DbBackend;

use super::{Lane, Latency, Losses, UsualDurations, swap::Swap};
use crate::driver::{ConnectProbe, Driver, Signal};

/// Identifies a node for the life of the process; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(u64);

impl NodeId {
    /// A new identifier.
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The node's place in a set of one word.
    pub(crate) fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

/// Two configurations with equal identities share their pools. Compared, never shown.
#[derive(Clone)]
pub(crate) struct Identity {
    /// Everything readable about the node: URL, user, options.
    pub(crate) readable: Arc<str>,
    /// The `NodeConfig` value that the node was made from.
    pub(crate) value: Arc<()>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.readable == other.readable || Arc::ptr_eq(&self.value, &other.value)
    }
}

/// The two pools of a node. For a mock both are the same handle.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Read-write sessions; used while the node is the primary.
    pub(crate) write: Arc<dyn Driver>,
    /// Sessions that are read-only in the database; every routed read runs in one.
    pub(crate) read: Arc<dyn Driver>,
}

/// An address and this crate's pools to it. A node survives every swap whose configuration for the node is equal,
/// and every life of the server at the address; beliefs about the server are in the snapshot
/// ([`Member`](super::Member)).
pub struct Node {
    id: NodeId,
    name: Arc<str>,
    identity: Identity,
    write: Arc<dyn Driver>,
    /// Replaced when one of its sessions may hold a lock or a temporary table of a refused statement, or leads to a
    /// server that was at the address before.
    read: Swap<Arc<ReadLane>>,
    /// The most reads at once, by the seat that the node has; `u64::MAX` where the limit of its pool is not known.
    read_capacity: AtomicU64,
    reads: Traffic,
    writes: Traffic,
    /// How long the node's reads take; measured only for a policy that asks for it.
    latency: Latency,
    /// How long reads of each text usually take; measured only while reads are hedged.
    usual: UsualDurations,
    probes: AtomicU64,
    /// Failures in a row that only this node gave; stays while the node is ejected.
    failures: AtomicU32,
    /// Whether an operation wanted the node in vain since the prober looked.
    missed: AtomicBool,
    connect_probe: Option<ConnectProbe>,
    file: Option<PathBuf>,
    retired: AtomicBool,
    losses: Losses,
    idle: Signal,
}

/// The driver behind a pointer of one word, as a [`Swap`] needs it.
#[derive(Debug)]
struct ReadLane(Arc<dyn Driver>);

/// Counters of the running and the answered operations of one lane.
#[derive(Debug, Default)]
struct Traffic {
    in_flight: AtomicU64,
    served: AtomicU64,
}

impl Node {
    pub(crate) fn new(name: Arc<str>, identity: Identity, lanes: Lanes, connect_probe: Option<ConnectProbe>) -> Self {
        Self {
            id: NodeId::unique(),
            name,
            identity,
            file: lanes.read.file(),
            read_capacity: AtomicU64::new(lanes.read.max_connections().map_or(u64::MAX, u64::from)),
            write: lanes.write,
            read: Swap::new(Arc::new(ReadLane(lanes.read))),
            reads: Traffic::default(),
            writes: Traffic::default(),
            latency: Latency::default(),
            usual: UsualDurations::default(),
            probes: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            missed: AtomicBool::new(false),
            connect_probe,
            retired: AtomicBool::new(false),
            losses: Losses::default(),
            idle: Signal::default(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    /// The node's name, unique in its topology.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn driver(&self, lane: Lane) -> Arc<dyn Driver> {
        match lane {
            Lane::Read => Arc::clone(&self.read.load().0),
            Lane::Write => Arc::clone(&self.write),
        }
    }

    /// Puts `fresh` in the place of the read lane's `worn` pool; `false` when another pool had replaced `worn`
    /// before. The caller closes the pool that is out of use.
    pub(crate) fn replace_read(&self, worn: &Arc<dyn Driver>, fresh: Arc<dyn Driver>) -> bool {
        let current = self.read.load_full();
        if !Arc::ptr_eq(&current.0, worn) {
            return false;
        }
        let before = self.read.compare_and_swap(&current, Arc::new(ReadLane(fresh)));
        let is_replaced = Arc::ptr_eq(&before, &current);
        if is_replaced {
            self.bound_read_lane();
        }
        is_replaced
    }

    /// Whether the node is a SQLite database in the memory of its one pool, which no other node can see.
    pub(crate) fn lives_in_memory(&self) -> bool {
        let write = &self.write;
        write.backend() == DbBackend::Sqlite && !write.is_mock() && Arc::ptr_eq(write, &self.driver(Lane::Read))
    }

    /// Reads, writes, streams and transactions that run on the node now.
    pub fn in_flight(&self) -> u64 {
        self.reads.in_flight.load(Ordering::SeqCst) + self.writes.in_flight.load(Ordering::SeqCst)
    }

    /// Routed reads the node has answered since it was connected.
    pub fn served_reads(&self) -> u64 {
        self.reads.served.load(Ordering::Relaxed)
    }

    /// Operations the node has answered on its read-write sessions since it was connected.
    pub fn served_writes(&self) -> u64 {
        self.writes.served.load(Ordering::Relaxed)
    }

    /// Operations that the node has answered on both lanes.
    pub(crate) fn served(&self) -> u64 {
        self.served_reads() + self.served_writes()
    }

    /// Questions the monitor has asked the node since it was connected: about one per probe interval (1 s), more
    /// while reads wait to know whether a replica has caught up.
    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    pub(crate) fn count_probe(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure that only this node gave, and returns how many there were in a row.
    pub(crate) fn count_failure(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// An operation that this node could run finds it down, or in another role.
    pub(crate) fn miss(&self) {
        self.missed.store(true, Ordering::Relaxed);
    }

    /// Whether an operation missed the node since the last call.
    pub(crate) fn was_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// Whether the node failed by itself since it last served an operation.
    pub(crate) fn has_failed(&self) -> bool {
        self.failures.load(Ordering::Relaxed) != 0
    }

    /// The node served an operation: a failure after it is the first of its row.
    pub(crate) fn forget_failures(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    pub(crate) fn latency(&self) -> &Latency {
        &self.latency
    }

    pub(crate) fn usual(&self) -> &UsualDurations {
        &self.usual
    }

    pub(crate) fn reads_in_flight(&self) -> u64 {
        self.reads.in_flight.load(Ordering::Relaxed)
    }

    /// Whether more than half of the node's read-only sessions are busy.
    pub(crate) fn is_read_busy(&self) -> bool {
        self.reads_in_flight() > self.read_capacity.load(Ordering::Relaxed) / 2
    }

    /// Whether every read-only session of the node is busy.
    pub(crate) fn is_read_exhausted(&self) -> bool {
        self.reads_in_flight() >= self.read_capacity.load(Ordering::Relaxed)
    }

    /// Limits the node's reads at once to `most`, as the seat that the node takes asks; without a limit, to the
    /// connections of its pool.
    pub(crate) fn limit_reads(&self, most: Option<u32>) {
        let of_the_pool = self.driver(Lane::Read).max_connections().map_or(u64::MAX, u64::from);
        let most = most.map_or(of_the_pool, |most| of_the_pool.min(u64::from(most)));
        self.read_capacity.store(most, Ordering::Relaxed);
        self.bound_read_lane();
    }

    /// Limits the connections that the pool for reads gives out to the number that the seat allows.
    fn bound_read_lane(&self) {
        let read = self.driver(Lane::Read);
        // A mock, and a database in the memory of one connection, have one pool for both lanes.
        if !Arc::ptr_eq(&read, &self.write) {
            let most = self.read_capacity.load(Ordering::Relaxed);
            read.limit_connections(u32::try_from(most).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn enter(&self, lane: Lane) {
        self.traffic(lane).in_flight.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn leave(&self, lane: Lane) {
        self.traffic(lane).in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.is_retired() && self.in_flight() == 0 {
            self.idle.raise();
        }
    }

    pub(super) fn count_served(&self, lane: Lane) {
        self.traffic(lane).served.fetch_add(1, Ordering::Relaxed);
    }

    fn traffic(&self, lane: Lane) -> &Traffic {
        match lane {
            Lane::Read => &self.reads,
            Lane::Write => &self.writes,
        }
    }

    /// Whether the node takes no new operations because it left the topology or is drained.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    pub(crate) fn set_retired(&self, retired: bool) {
        self.retired.store(retired, Ordering::SeqCst);
    }

    /// Raised when the last running operation of a retired node ends.
    pub(crate) fn idle(&self) -> &Signal {
        &self.idle
    }

    /// The signs that end operations on the node.
    pub(crate) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Whether both nodes open one file of an embedded database.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.file.is_some() && self.file == other.file
    }

    /// Whether the node is an embedded database.
    pub(crate) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// The question for each new connection of the node, if its driver asks one.
    pub(crate) fn connect_probe(&self) -> Option<&ConnectProbe> {
        self.connect_probe.as_ref()
    }

    /// Has the idle connections of both pools checked before they are used again.
    pub(crate) fn check_idle(&self) {
        self.driver(Lane::Read).check_idle();
        self.write.check_idle();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
