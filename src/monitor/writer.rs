//! The one place where a new topology is made current.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use sea_orm::metric::Info;

use super::{demand::ProbeDemand, greeting};
use crate::{
    clock::Clock,
    config::Settings,
    driver::{Driver, Metric},
    routing::StatementRouter,
    telemetry,
    topology::{Health, Lane, Member, Node, Observation, Seq, Settled, SnapshotCell, Stamp, Tick, Topology},
};

/// Owns the cell. Every change is a function from the current snapshot to the next, one at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    this: Weak<Self>,
    cell: SnapshotCell,
    /// Held for one change, never across an `.await`. The setters of a connection are synchronous,
    /// so this is a lock and not a queue to the monitor task.
    turn: Mutex<()>,
    /// Set when the connection was closed: nothing is opened any more, nor the monitor's task started again.
    stopped: AtomicBool,
    metric: Metric,
    settled: SettledHint,
    /// What reads want to be known.
    pub(crate) demand: ProbeDemand,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    /// Has the functions that the database's catalogue lists.
    pub(crate) router: Arc<StatementRouter>,
}

impl Writer {
    pub(crate) fn new(topology: Topology, settings: Settings, clock: Clock, router: Arc<StatementRouter>) -> Arc<Self> {
        let writer = Arc::new_cyclic(|this| {
            let settled = SettledHint::default();
            settled.set(topology.settled(clock.now()));
            for node in topology.nodes() {
                greeting::listen(this, node);
            }
            Self {
                this: Weak::clone(this),
                cell: SnapshotCell::new(topology),
                turn: Mutex::new(()),
                stopped: AtomicBool::new(false),
                metric: Metric::default(),
                settled,
                demand: ProbeDemand::default(),
                clock,
                settings,
                router,
            }
        });
        let topology = writer.cell.load_full();
        if !topology.is_single() {
            topology.nodes().for_each(|node| writer.forget_first_session(node));
        }
        writer
    }

    /// The least that all replicas in rotation had at the last publication. A hint: what is decided by it must
    /// be right whatever it says.
    pub(crate) fn settled(&self) -> Settled {
        self.settled.get()
    }

    /// Nothing is opened from now on.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether the connection was closed.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn cell(&self) -> &SnapshotCell {
        &self.cell
    }

    /// Publishes what `change` makes of the current snapshot; publishes nothing when it fails.
    pub(crate) fn update<E>(&self, change: impl FnOnce(&Topology) -> Result<Topology, E>) -> Result<Arc<Topology>, E> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.cell.load_full();
        let mut next = change(&before)?;
        if next.is_single() {
            // Nobody asks it any more, so nothing is believed against it.
            next.primary.health = Health::Up;
            next.primary.failed_probes = 0;
            next.primary.last_failure = None;
        }
        next.generation = before.generation + 1;
        let after = Arc::new(next);
        if self.metric.is_set() {
            // Before anything can run on a node that is new.
            hear(&after, &self.metric);
        }
        self.cell.publish(Arc::clone(&after));
        self.settled.set(after.settled(self.clock.now()));
        for node in after.nodes().filter(|node| before.member_of(node.id()).is_none()) {
            greeting::listen(&self.this, node);
            self.forget_first_session(node);
        }
        telemetry::published(&before, &after);
        telemetry::numbers(&after);
        wake_operations_on_lost_nodes(&before, &after);
        Ok(after)
    }

    /// Has every statement of every node told to `callback`, of those that join later too.
    pub(crate) fn set_metric_callback(&self, callback: impl Fn(&Info<'_>) + Send + Sync + 'static) {
        // Under the lock, so that no topology is published without it between the two.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.metric.set(callback);
        hear(&self.cell.load(), &self.metric);
    }

    /// Has a pool that took the place of another told of the metric callback, if there is one.
    fn has_heard(&self, driver: &dyn Driver) {
        if self.metric.is_set() {
            driver.set_metrics(&self.metric);
        }
    }

    /// Gives a node a new pool of read-only sessions in the place of `worn`, and has the connections of that one
    /// closed: idle ones now, busy ones as they come free.
    pub(crate) fn renew_sessions(&self, node: &Node, worn: &Arc<dyn Driver>) {
        let Some(fresh) = worn.renewed() else { return };
        self.has_heard(&*fresh);
        if !node.replace_read(worn, Arc::clone(&fresh)) {
            return;
        }
        // Once more now that it is the node's: a callback that is set from here on finds it there.
        self.has_heard(&*fresh);
        // Closed meanwhile: then whoever closes may have looked at the worn one. It stops first, and looks then.
        let is_closed = self.is_stopped();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let worn = Arc::clone(worn);
            runtime.spawn(async move {
                if is_closed {
                    drop(fresh.close().await);
                }
                worn.close_retired().await;
            });
        }
    }

    /// The address of a node may have moved: its sessions from before lead to a server that is no member any more, and
    /// nothing that they answer tells. Those for reads are opened afresh; of those for writes, whose pool may be
    /// lent out, the idle ones are closed.
    pub(super) fn leave_former_server(&self, node: &Node) {
        self.renew_sessions(node, &node.driver(Lane::Read));
        node.driver(Lane::Write).close_idle();
    }

    /// A node was asked over a session for reads when it was connected, before anybody could compare who answers
    /// there: the session does not stay.
    fn forget_first_session(&self, node: &Node) {
        if node.connect_probe().is_some() {
            self.renew_sessions(node, &node.driver(Lane::Read));
        }
    }

    pub(crate) fn metric(&self) -> &Metric {
        &self.metric
    }

    pub(crate) fn observe(&self, observation: &Observation) {
        // An observation about a node that has left changes nothing.
        let _ = self.update(|topology| topology.observe(observation).ok_or(()));
    }
}

/// [`Settled`], for readers that do not load the topology.
#[derive(Debug, Default)]
struct SettledHint {
    seq: AtomicU64,
    at: AtomicU64,
    by_time_too: AtomicBool,
}

impl SettledHint {
    fn set(&self, settled: Settled) {
        self.by_time_too.store(settled.by_time_too, Ordering::Relaxed);
        self.seq.store(settled.through.seq.0, Ordering::Relaxed);
        self.at.store(settled.through.at.0, Ordering::Relaxed);
    }

    fn get(&self) -> Settled {
        let through = Stamp { seq: Seq(self.seq.load(Ordering::Relaxed)), at: Tick(self.at.load(Ordering::Relaxed)) };
        Settled { through, by_time_too: self.by_time_too.load(Ordering::Relaxed) }
    }
}

fn hear(topology: &Topology, metric: &Metric) {
    for node in topology.nodes() {
        for lane in [Lane::Read, Lane::Write] {
            node.driver(lane).set_metrics(metric);
        }
    }
}

/// Reads that wait for, or run on, a node that just went down move on at once.
fn wake_operations_on_lost_nodes(before: &Topology, after: &Topology) {
    for member in after.members() {
        let known = before.member_of(member.node.id()).map_or(Health::Up, Member::health);
        match (known, member.health()) {
            (Health::Up, Health::Down) => member.node.down().raise(),
            (Health::Down, Health::Up) => member.node.down().lower(),
            _ => {}
        }
    }
}
