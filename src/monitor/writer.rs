//! The one place where a new topology is made current.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use sea_orm::metric::Info;

use super::{demand::ProbeDemand, greeting};
use crate::{
    clock::Clock,
    config::Settings,
    driver::{Driver, Metric},
    routing::StatementRouter,
    telemetry,
    topology::{Belief, Generation, Health, Lane, MemberIndex, Node, Observation, SnapshotCell, Topology},
};

/// Owns the cell. Every change is a function from the current snapshot to the next, one at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    this: Weak<Self>,
    cell: SnapshotCell,
    /// Held for one change, never across an `.await`. The setters of a connection are synchronous,
    /// so this is a lock and not a queue to the monitor task.
    turn: Mutex<()>,
    announcements: Announcements,
    /// Set when the connection was closed: no pool is opened any more, nor the monitor's task started again.
    stopped: AtomicBool,
    metric: Metric,
    /// The positions that reads wait to learn.
    pub(crate) demand: ProbeDemand,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    /// The router, which holds the functions that the database's catalogue lists.
    pub(crate) router: Arc<StatementRouter>,
}

impl Writer {
    pub(crate) fn new(topology: Topology, settings: Settings, clock: Clock, router: Arc<StatementRouter>) -> Arc<Self> {
        let writer = Arc::new_cyclic(|this| {
            for node in topology.nodes() {
                greeting::listen(this, node);
            }
            Self {
                this: Weak::clone(this),
                cell: SnapshotCell::new(topology),
                turn: Mutex::new(()),
                announcements: Announcements::default(),
                stopped: AtomicBool::new(false),
                metric: Metric::default(),
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

    /// Has no pool opened from now on.
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

    /// Publishes the result of `change` on the current snapshot; publishes nothing when `change` fails.
    pub(crate) fn update<E>(&self, change: impl FnOnce(&Topology) -> Result<Topology, E>) -> Result<Arc<Topology>, E> {
        let after = self.publish(change)?;
        // Without the lock: a layer of `tracing` may call a setter of this very connection.
        self.announcements.tell();
        Ok(after)
    }

    fn publish<E>(&self, change: impl FnOnce(&Topology) -> Result<Topology, E>) -> Result<Arc<Topology>, E> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.cell.load_full();
        let mut next = change(&before)?;
        if next.is_single() {
            // A primary without replicas is not probed, so no failure of it is believed.
            next.primary.lives_on();
            next.primary.belief = next.primary.belief.confirmed(self.clock.now());
        }
        next.generation = before.generation + 1;
        let after = Arc::new(next);
        if self.metric.is_set() {
            // Before an operation can run on a new node.
            set_metrics(&after, &self.metric);
        }
        self.cell.publish(Arc::clone(&after));
        let known = MemberIndex::new(&before);
        for (place, node) in after.nodes().enumerate() {
            if known.find(place, node.id()).is_none() {
                greeting::listen(&self.this, node);
                self.forget_first_session(node);
            }
        }
        self.signal_losses(&after);
        self.announcements.add(before, Arc::clone(&after));
        Ok(after)
    }

    /// Operations that wait for, or run on, a node that was just lost end or move on at once.
    fn signal_losses(&self, topology: &Topology) {
        let now = self.clock.now();
        for member in topology.members() {
            let losses = member.node.losses();
            losses.set_down(member.health() == Health::Down);
            losses.set_silent(topology.is_silent(member, now, self.settings.silent_after));
        }
    }

    /// Calls `callback` for every statement of every node, also of nodes that join later.
    pub(crate) fn set_metric_callback(&self, callback: impl Fn(&Info<'_>) + Send + Sync + 'static) {
        // Under the lock, so that no topology is published without the callback between the two steps.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.metric.set(callback);
        set_metrics(&self.cell.load(), &self.metric);
    }

    /// Gives the metric callback, if one is set, to a pool that took the place of another.
    fn set_metrics_of(&self, driver: &dyn Driver) {
        if self.metric.is_set() {
            driver.set_metrics(&self.metric);
        }
    }

    /// Gives a node a new pool of read-only sessions in the place of `worn`, and closes the connections of `worn`:
    /// idle ones now, busy ones as they come free.
    pub(crate) fn renew_sessions(&self, node: &Node, worn: &Arc<dyn Driver>) {
        let Some(fresh) = worn.renewed() else { return };
        self.set_metrics_of(&*fresh);
        if !node.replace_read(worn, Arc::clone(&fresh)) {
            return;
        }
        // Again, now that the pool is the node's: a callback that is set from now on finds the pool in the node.
        self.set_metrics_of(&*fresh);
        // `close` sets the stop first and closes the pools of the nodes then: it may have closed the worn pool alone.
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

    /// Closes the connections of a node whose address leads to another server now: the connections from before lead
    /// to a server that is not a member any more, and none of their answers shows that. `worn`, the pool for reads
    /// when the other server was asked, is replaced; of the pool for writes, which may be lent out, the idle
    /// connections are closed. Of several connections that meet the other server at once, one does this work.
    pub(super) fn leave_former_server(&self, node: &Node, worn: &Arc<dyn Driver>) {
        if Arc::ptr_eq(worn, &node.driver(Lane::Read)) {
            self.renew_sessions(node, worn);
            node.driver(Lane::Write).close_idle();
        }
    }

    /// Closes the session that was opened beside the node's first answer: nothing could yet compare the server at its end
    /// with the believed one. A session over which that answer came stays.
    fn forget_first_session(&self, node: &Node) {
        let sessions = node.driver(Lane::Read);
        if node.connect_probe().is_some() && !sessions.keeps_first_connection() {
            self.renew_sessions(node, &sessions);
        }
    }

    pub(crate) fn metric(&self) -> &Metric {
        &self.metric
    }

    pub(crate) fn observe(&self, observation: &Observation) {
        // An observation about a node that has left changes nothing.
        let _ = self.update(|topology| topology.observe(observation).ok_or(()));
    }

    /// Believes no position of a node any more: a proxy was found in front of the node.
    pub(super) fn disregard_positions(&self, node: &Node) {
        let _ = self.update(|topology| topology.without_positions(node.id()).ok_or(()));
    }

    /// Ends the belief in the server of a node, because a connection to the node broke, and has the idle connections
    /// checked before they are used again. Returns the belief that ended; `None` if an earlier error had ended it.
    pub(crate) fn invalidate(&self, node: &Node) -> Option<Belief> {
        let member = |topology: &Topology| topology.member_of(node.id()).map(|member| member.belief);
        // Looked up first, without the lock: in a storm of errors only the first one changes anything. A question that
        // goes out later than this look is asked after the connection broke.
        let is_broken = member(&self.cell.load()).is_none_or(Belief::wants_question);
        let mut ended = None;
        if !is_broken {
            let _ = self
                .update(|topology| {
                    ended = member(topology);
                    topology.invalidated(node.id(), self.clock.now()).ok_or(())
                })
                .inspect_err(|()| ended = None);
        }
        node.check_idle();
        ended
    }

    /// To be called before a question goes out to a node: the generation to which the answer will belong. A connection
    /// that breaks from now on ends this generation, even if an earlier one broke before.
    pub(super) fn begin_question(&self, node: &Node) -> Generation {
        let mut generation = Generation::default();
        let _ = self.update(|topology| {
            generation = topology.member_of(node.id()).map(|member| member.belief.generation).unwrap_or_default();
            topology.asked(node.id()).ok_or(())
        });
        generation
    }
}

/// Publications whose events were not emitted yet. They are added under the writer's lock, and emitted without it in
/// the order in which they were made.
#[derive(Debug, Default)]
struct Announcements(Mutex<PendingAnnouncements>);

#[derive(Debug, Default)]
struct PendingAnnouncements {
    /// The snapshots before and after each publication.
    changes: VecDeque<(Arc<Topology>, Arc<Topology>)>,
    /// Whether a thread emits events now. This thread also emits the events of publications that others add meanwhile,
    /// and of those that its own events lead to.
    is_emitted: bool,
}

impl Announcements {
    fn waiting(&self) -> MutexGuard<'_, PendingAnnouncements> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, before: Arc<Topology>, after: Arc<Topology>) {
        self.waiting().changes.push_back((before, after));
    }

    fn tell(&self) {
        if std::mem::replace(&mut self.waiting().is_emitted, true) {
            return;
        }
        let _reset = ResetOnPanic(self);
        while let Some((before, after)) = self.next() {
            telemetry::published(&before, &after);
            telemetry::numbers(&after);
        }
    }

    /// The next publication. When none is left, the turn to emit is given back.
    fn next(&self) -> Option<(Arc<Topology>, Arc<Topology>)> {
        let mut waiting = self.waiting();
        let next = waiting.changes.pop_front();
        waiting.is_emitted = next.is_some();
        next
    }
}

/// Gives the turn to emit back when a layer of `tracing` panics.
struct ResetOnPanic<'a>(&'a Announcements);

impl Drop for ResetOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.waiting().is_emitted = false;
        }
    }
}

fn set_metrics(topology: &Topology, metric: &Metric) {
    for node in topology.nodes() {
        for lane in [Lane::Read, Lane::Write] {
            node.driver(lane).set_metrics(metric);
        }
    }
}
