//! One operation: its session, its statement, and the members that may run it.

use std::sync::Arc;

use sea_orm::Statement;

use super::{arbiter::IfRefused, session::Affinity, shared::Context};
use crate::{
    routing::{RouteDecision, StatementClass, StatementRouter},
    topology::Lane,
};

/// How a read is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadRoute<'a> {
    /// The node affinity of the session or read connection.
    pub(super) affinity: Option<&'a Arc<Affinity>>,
    /// The primary's lane while there are no replicas.
    pub(super) alone: Lane,
    pub(super) among: Among,
    pub(super) if_refused: IfRefused,
}

impl ReadRoute<'_> {
    /// A route to any member; without replicas the primary runs the read as SeaORM alone would.
    pub(super) fn anywhere() -> Self {
        Self { affinity: None, alone: Lane::Write, among: Among::All, if_refused: IfRefused::RunOnPrimary }
    }
}

/// The members that may run a read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    All,
    /// For reads that no standby can run (a serializable transaction, an unlogged table).
    Primary,
}

/// One operation: its context, and the class of its statement if it has one (a BEGIN has none).
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    pub(super) context: &'a Context,
    pub(super) class: Option<StatementClass>,
    /// The text of the statement, when a log or a subscriber records decisions.
    pub(super) text: Option<&'a str>,
}

impl<'a> Operation<'a> {
    /// An operation that sends no statement of its own.
    pub(super) fn bare(context: &'a Context) -> Self {
        Self { context, class: None, text: None }
    }

    /// Makes the record of a decision, when a log or a subscriber records decisions.
    pub(super) fn record(
        &self,
        router: &StatementRouter,
        make: impl FnOnce(Option<StatementClass>) -> RouteDecision,
    ) -> Option<Box<RouteDecision>> {
        if !self.context.is_watched() {
            return None;
        }
        let made = make(self.class);
        Some(Box::new(match self.text {
            Some(sql) => made.about(sql, router.shown(sql)),
            None => made,
        }))
    }

    /// Adds the record to the log of the context.
    pub(super) fn log(&self, record: Option<&RouteDecision>) {
        if let (Some(log), Some(record)) = (&self.context.log, record) {
            log.add(record.clone());
        }
    }
}

/// The text and values of an operation, once for each attempt.
pub(super) enum RetryableStatement<'a> {
    /// A statement that SeaORM builds: built again for a second attempt, not copied for a first one.
    Built { first: Option<Statement>, again: &'a (dyn Fn() -> Statement + Sync) },
    /// A statement that the caller handed over as text and values.
    Raw(Option<Statement>),
}

impl RetryableStatement<'_> {
    /// The text, before the first attempt.
    pub(super) fn sql(&self) -> &str {
        match self {
            Self::Built { first, .. } | Self::Raw(first) => first.as_ref().map_or("", |statement| &statement.sql),
        }
    }

    /// The statement for the next attempt. `more` says whether another attempt may follow.
    pub(super) fn next(&mut self, more: Attempts) -> Statement {
        match self {
            Self::Built { first, again } => first.take().unwrap_or_else(again),
            Self::Raw(statement) => match more {
                Attempts::Last => statement.take(),
                Attempts::More => statement.clone(),
            }
            .expect("a raw statement is kept until its last attempt"),
        }
    }

    /// The text for another attempt; `None` after the last attempt of a raw statement.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Built { again, .. } => Some(again().sql),
            Self::Raw(statement) => statement.as_ref().map(|statement| statement.sql.clone()),
        }
    }
}

/// Whether an attempt can be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempts {
    More,
    Last,
}
