//! The one cell that holds the one snapshot.

use std::{fmt, sync::Arc};

use super::{
    Topology,
    swap::{Guard, Swap},
};
use crate::driver::{Changes, Counter};

/// Holds the current topology. Readers load without waiting; a reader that needs a change waits on
/// [`changes`](Self::changes): mark seen, load and decide, *then* wait.
pub(crate) struct SnapshotCell {
    current: Swap<Arc<Topology>>,
    generation: Counter,
}

impl SnapshotCell {
    pub(crate) fn new(topology: Topology) -> Self {
        let generation = Counter::new(topology.generation);
        Self { current: Swap::new(Arc::new(topology)), generation }
    }

    /// The current snapshot, for a decision. Must not live across an `.await`: it can hold up a
    /// writer.
    pub(crate) fn load(&self) -> Guard<Arc<Topology>> {
        self.current.load()
    }

    /// The current snapshot, to keep.
    pub(crate) fn load_full(&self) -> Arc<Topology> {
        self.current.load_full()
    }

    /// Wakes for every later publication.
    pub(crate) fn changes(&self) -> Changes {
        self.generation.changes()
    }

    /// Makes `topology` the current one. Only the writer in `monitor` calls this.
    pub(crate) fn publish(&self, topology: Arc<Topology>) {
        let generation = topology.generation;
        self.current.store(topology);
        self.generation.set(generation);
    }
}

impl fmt::Debug for SnapshotCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}
