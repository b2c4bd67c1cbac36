//! What a node was asked, and how it ended.

use tokio::time::Instant;

use super::Step;

/// One step that was begun.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, by tokio's clock.
    pub at: Instant,
    /// What was asked.
    pub step: Step,
    /// The text, where there is one.
    pub sql: String,
    /// The number of the transaction it belongs to; the transactions of a node count from 1.
    pub transaction: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not.
    Running,
    /// It succeeded.
    Done,
    /// It failed, as it was told to.
    Failed,
    /// The future was dropped, or panicked: a real server may have done it or not.
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
