//! The one place where a new topology is made current.

use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::metric::Info;

use crate::{
    clock::Clock,
    config::Settings,
    driver::{Driver, Metric},
    routing::Judge,
    telemetry,
    topology::{Health, Lane, Member, Observation, SnapshotCell, Topology},
};

/// Owns the cell. Every change is a function from the current snapshot to the next, one at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    cell: SnapshotCell,
    /// Held for one change, never across an `.await`. The setters of a connection are synchronous,
    /// so this is a lock and not a queue to the monitor task.
    turn: Mutex<()>,
    metric: Metric,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    /// Has the functions that the database's catalogue lists.
    pub(crate) judge: Arc<Judge>,
}

impl Writer {
    pub(crate) fn new(topology: Topology, settings: Settings, clock: Clock, judge: Arc<Judge>) -> Self {
        let cell = SnapshotCell::new(topology);
        Self { cell, turn: Mutex::new(()), metric: Metric::default(), clock, settings, judge }
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
        telemetry::published(&before, &after);
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
    pub(crate) fn has_heard(&self, driver: &dyn Driver) {
        if self.metric.is_set() {
            driver.hear(&self.metric);
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

fn hear(topology: &Topology, metric: &Metric) {
    for node in topology.nodes() {
        for lane in [Lane::Read, Lane::Write] {
            node.driver(lane).hear(metric);
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
