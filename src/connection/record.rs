//! The log of routing decisions, for applications that record them.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::routing::RouteDecision;

/// The latest decisions of the handles that write into the log, oldest first; see
/// [`DatabaseConnection::recorded`](crate::DatabaseConnection::recorded). Clones are the same log.
///
/// A read that ran again on another node has a decision for each attempt. The log keeps at most 1 024 decisions.
#[derive(Clone, Default)]
pub struct RouteLog(Arc<Mutex<VecDeque<RouteDecision>>>);

const KEPT: usize = 1_024;

impl RouteLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all decisions out, oldest first.
    pub fn take(&self) -> Vec<RouteDecision> {
        std::mem::take(&mut *self.entries()).into()
    }

    /// The latest decision.
    pub fn last(&self) -> Option<RouteDecision> {
        self.entries().back().cloned()
    }

    pub(super) fn add(&self, decision: RouteDecision) {
        let mut entries = self.entries();
        if entries.len() >= KEPT {
            entries.pop_front();
        }
        entries.push_back(decision);
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<RouteDecision>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RouteLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteLog").field("decisions", &self.entries().len()).finish()
    }
}
