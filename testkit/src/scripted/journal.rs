//! The steps that a node was asked for, and their outcomes.

use tokio::time::Instant;

use super::Step;

/// One step that was begun.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The instant of the start, by tokio's clock.
    pub at: Instant,
    /// The step.
    pub step: Step,
    /// The text, if the step has one.
    pub sql: String,
    /// The number of the step's transaction; the transactions of a node count from 1.
    pub transaction: Option<u64>,
    /// The outcome of the step.
    pub outcome: Outcome,
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The step has not ended.
    Running,
    /// The step succeeded.
    Done,
    /// The step failed, as the script says.
    Failed,
    /// The future was dropped, or panicked: a real server may have executed the step or not.
    Dropped,
}

/// Names an entry for as long as the node lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryId(usize);

#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: Vec<Entry>,
    forgotten: usize,
}

impl Journal {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn add(&mut self, step: Step, sql: &str, transaction: Option<u64>) -> EntryId {
        let entry = Entry { at: Instant::now(), step, sql: sql.to_owned(), transaction, outcome: Outcome::Running };
        self.entries.push(entry);
        EntryId(self.forgotten + self.entries.len() - 1)
    }

    pub(super) fn end(&mut self, EntryId(id): EntryId, outcome: Outcome) {
        if let Some(entry) = id.checked_sub(self.forgotten).and_then(|index| self.entries.get_mut(index)) {
            entry.outcome = outcome;
        }
    }

    pub(super) fn forget(&mut self) {
        self.forgotten += self.entries.len();
        self.entries.clear();
    }
}
