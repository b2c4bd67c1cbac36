//! The script of a node: the behaviour of each step.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use sea_orm::DbErr;

/// One step that a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A statement for its effect, prepared or as text.
    Execute,
    /// A statement for its first row.
    QueryOne,
    /// A statement for all its rows.
    QueryAll,
    /// A session for a stream; the statement goes out with the first row.
    StreamOpen,
    /// The first row of a stream, or its end when there is none.
    FirstRow,
    /// Each further row of a stream.
    LaterRow,
    /// BEGIN, or SAVEPOINT inside a transaction.
    Begin,
    /// COMMIT, or RELEASE SAVEPOINT.
    Commit,
    /// ROLLBACK, whole or to a savepoint. A transaction that is dropped rolls back without fail.
    Rollback,
    /// A ping through the pool.
    Ping,
    /// A statement that lost a race is ended.
    Cancel,
    /// The end of a pool.
    Close,
    /// The prober opens its connection.
    ProbeConnect,
    /// The prober asks its question.
    ProbeAsk,
    /// The prober has the user functions listed.
    ListFunctions,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 15] = [
        Self::Execute,
        Self::QueryOne,
        Self::QueryAll,
        Self::StreamOpen,
        Self::FirstRow,
        Self::LaterRow,
        Self::Begin,
        Self::Commit,
        Self::Rollback,
        Self::Ping,
        Self::Cancel,
        Self::Close,
        Self::ProbeConnect,
        Self::ProbeAsk,
        Self::ListFunctions,
    ];

    /// Whether the step sends the text of an application, once for each text.
    pub(super) fn is_statement(self) -> bool {
        matches!(self, Self::Execute | Self::QueryOne | Self::QueryAll | Self::FirstRow)
    }
}

/// The behaviour of a step.
#[derive(Clone, Debug, Default)]
pub enum Behaviour {
    /// Succeeds at once.
    #[default]
    Ok,
    /// Fails at once; see [`fault`](super::fault) for the errors of real servers.
    Fail(DbErr),
    /// Succeeds after a while.
    Slow(Duration),
    /// Fails after a while.
    SlowFail(Duration, DbErr),
    /// Does not end.
    Never,
    /// Panics.
    Panic,
}

/// The behaviours of all steps.
#[derive(Debug, Default)]
pub(super) struct Script {
    standing: BTreeMap<Step, Behaviour>,
    queued: BTreeMap<Step, VecDeque<Behaviour>>,
}

impl Script {
    pub(super) fn stand(&mut self, step: Step, behaviour: Behaviour) {
        self.standing.insert(step, behaviour);
    }

    pub(super) fn queue(&mut self, step: Step, behaviour: Behaviour) {
        self.queued.entry(step).or_default().push_back(behaviour);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn next(&mut self, step: Step) -> Behaviour {
        let queued = self.queued.get_mut(&step).and_then(VecDeque::pop_front);
        queued.or_else(|| self.standing.get(&step).cloned()).unwrap_or_default()
    }
}
