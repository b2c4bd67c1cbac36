//! The law, and the table that shows how each cell kept it.

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio::time::Instant;

use super::{
    load::{Done, Op},
    party::Party,
    world::Database,
};

/// What the resolver promises in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// A healthy node has all that the reads want: no read fails. Writes fail no more often than alone.
    NoReadFails,
    /// As `NoReadFails`, except in transactions: the error that a statement meets there ends the transaction, and no
    /// other node can go on with it. READ ONLY transactions are counted and not judged.
    NoReadOutsideTransactionsFails,
    /// No healthy node is there: nothing fails more often than alone.
    AsAlone,
    /// As `AsAlone`, without an allowance: the fault leaves nothing to chance.
    NoMoreThanAlone,
}

/// The operations of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) all: usize,
    pub(super) failed: usize,
}

/// What one party met in one cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    reads: Count,
    read_only_transactions: Count,
    writes: Count,
    /// The failures of operations that were in flight when the fault struck.
    in_flight: usize,
    longest: Duration,
    errors: BTreeMap<String, usize>,
}

impl Tally {
    pub(super) fn of<'a>(done: impl IntoIterator<Item = &'a Done>, strikes: &[(Instant, Instant)]) -> Self {
        let mut tally = Self::default();
        for done in done {
            let was_struck = strikes.iter().any(|&(from, to)| done.started <= to && done.ended >= from);
            tally.longest = tally.longest.max(done.ended - done.started);
            if done.error.is_some() && was_struck {
                tally.in_flight += 1;
                continue;
            }
            let count = match done.op {
                Op::Read | Op::ReadConn | Op::SessionRead | Op::Stream => &mut tally.reads,
                Op::ReadOnlyTransaction => &mut tally.read_only_transactions,
                Op::Write | Op::Transaction => &mut tally.writes,
            };
            count.all += 1;
            if let Some(error) = &done.error {
                count.failed += 1;
                let text = format!("{:?}: {error}", done.op);
                *tally.errors.entry(text).or_default() += 1;
            }
        }
        tally
    }

    pub(super) fn failures(&self) -> usize {
        self.reads.failed + self.read_only_transactions.failed + self.writes.failed
    }

    fn commonest_error(&self) -> Option<String> {
        let (text, count) = self.errors.iter().max_by_key(|&(_, &count)| count)?;
        let text: String = text.chars().take(110).collect();
        Some(format!("{count} × {}", text.replace('\n', " ")))
    }
}

/// One cell: a fault for one party.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) database: Database,
    pub(super) fault: String,
    pub(super) party: Party,
    pub(super) tally: Tally,
    /// What was broken of the law; empty when the cell passes.
    pub(super) breaches: Vec<String>,
}

impl Row {
    pub(super) fn new(database: Database, fault: impl Into<String>, party: Party, tally: Tally) -> Self {
        Self { database, fault: fault.into(), party, tally, breaches: Vec::new() }
    }

    pub(super) fn name(&self) -> String {
        format!("{} / {} / {}", self.database, self.fault, self.party)
    }

    /// Holds the row against the law. `alone` is SeaORM in the same cell.
    pub(super) fn judge(&mut self, promise: Promise, alone: &Tally) {
        let Tally { reads, read_only_transactions: fixed, writes, .. } = &self.tally;
        let spare = |failed| if promise == Promise::NoMoreThanAlone { 0 } else { allowance(failed) };
        let no_more = |alone: Count| alone.failed + spare(alone.failed);
        let (reads_at_most, fixed_at_most) = match promise {
            Promise::NoReadFails => (0, 0),
            Promise::NoReadOutsideTransactionsFails => (0, usize::MAX),
            Promise::AsAlone | Promise::NoMoreThanAlone => {
                (no_more(alone.reads), no_more(alone.read_only_transactions))
            }
        };
        let limits = [
            ("reads", reads, reads_at_most),
            ("READ ONLY transactions", fixed, fixed_at_most),
            ("writes", writes, no_more(alone.writes)),
        ];
        for (what, count, limit) in limits {
            if count.failed > limit {
                self.breaches.push(format!("{} of {} {what} fail, {limit} may", count.failed, count.all));
            }
        }
    }

    /// Demands more than the law of this cell.
    pub(super) fn demand(&mut self, kept: Result<(), String>) {
        self.breaches.extend(kept.err());
    }
}

/// The allowance for chance where no healthy node is there: with connections in trouble, SeaORM itself fails a little
/// more or less often from run to run.
fn allowance(alone: usize) -> usize {
    3 + alone / 4
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.failed, self.all))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { reads, read_only_transactions: fixed, writes, in_flight, longest, .. } = &self.tally;
        let verdict = if self.breaches.is_empty() { "" } else { "!" };
        write!(
            f,
            "{:<8} {:<46} {:<12} {reads:>9} {fixed:>9} {writes:>9} {in_flight:>9} {:>5} ms {verdict}",
            self.database,
            self.fault,
            self.party,
            longest.as_millis()
        )?;
        if let Some(error) = self.tally.commonest_error() {
            write!(f, " {error}")?;
        }
        Ok(())
    }
}

/// The heading of the table.
pub(super) fn heading() -> String {
    format!(
        "{:<8} {:<46} {:<12} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "database", "fault", "party", "reads", "r/o tx", "writes", "in flight", "longest"
    )
}
