//! A transaction that is open on one node.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult, Statement,
    TransactionError, TransactionOptions, TransactionSession, TransactionTrait,
};
use tracing::Instrument;

#[cfg(feature = "stream")]
use super::stream::{Inside, RowStream};
use super::{
    marks::{SeenMark, WriteMark},
    record::RouteLog,
    shared::Shared,
    surface::{options, run_transaction},
};
use crate::{
    driver::{DriverTransaction, Fault, RunToEnd},
    routing::RouteDecision,
    telemetry,
    topology::{Lane, Lease},
};

/// An open transaction, as SeaORM's of the same name: everything inside runs on its one
/// connection, nothing is routed or run again, and dropping it rolls back.
///
/// It keeps its node through a swap or a drain until it ends. The end of a transaction that was
/// not begun `READ ONLY` counts as a write of its session.
pub struct DatabaseTransaction {
    inner: Box<dyn DriverTransaction>,
    lease: Lease,
    access: TransactionAccess,
    /// Of the outermost read-write transaction only: a nested commit is a savepoint's release.
    mark: Option<WriteMark>,
    /// Of a routed one: what it read, its session has seen.
    seen: Option<SeenMark>,
    shared: Arc<Shared>,
    log: Option<RouteLog>,
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransactionAccess {
    ReadOnly,
    ReadWrite,
}

impl TransactionAccess {
    /// What the options ask for.
    pub(super) fn asked(options: &TransactionOptions) -> Self {
        match options.access_mode {
            Some(AccessMode::ReadOnly) => Self::ReadOnly,
            _ => Self::ReadWrite,
        }
    }
}

type Step<T> = for<'d> fn(&'d dyn DriverTransaction, Statement) -> BoxFuture<'d, Result<T, DbErr>>;

impl DatabaseTransaction {
    pub(super) fn new(
        inner: Box<dyn DriverTransaction>,
        lease: Lease,
        access: TransactionAccess,
        mark: Option<WriteMark>,
        shared: Arc<Shared>,
        log: Option<RouteLog>,
    ) -> Self {
        Self { inner, lease, access, mark, seen: None, shared, log }
    }

    /// Reads in this transaction advance what a session has seen.
    pub(super) fn seen_by(self, seen: Option<SeenMark>) -> Self {
        Self { seen, ..self }
    }

    /// The record of a statement, which also goes into the log, if somebody wants to know.
    fn record(&self, sql: &str) -> Option<RouteDecision> {
        if self.log.is_none() && !telemetry::wants_routes() {
            return None;
        }
        let class = self.shared.class(sql);
        let decision = RouteDecision::inside(&self.shared.cell().load(), self.node(), self.lease.lane(), class);
        let decision = decision.about(sql, self.shared.router().shown(sql));
        if let Some(log) = &self.log {
            log.add(decision.clone());
        }
        Some(decision)
    }

    /// Runs a statement on the transaction's connection.
    async fn run<T>(&self, statement: Statement, operation: Step<T>) -> Result<T, DbErr> {
        let span = telemetry::route_span(self.record(&statement.sql).as_ref());
        if self.access == TransactionAccess::ReadWrite {
            return self.noted(operation(self.inner.as_ref(), statement).instrument(span).await);
        }
        self.watch_session(&statement.sql);
        let sql = statement.sql.clone();
        self.noted(operation(self.inner.as_ref(), statement).instrument(span).await).map_err(|error| {
            match Fault::of(&error) {
                Fault::ReadOnlySession => self.shared.refused_in_transaction(&self.lease, &sql, error),
                _ => error,
            }
        })
    }

    /// Has a read-only session restored at the end when a statement may make it writable for its next user (`SET
    /// SESSION TRANSACTION READ WRITE`, a function that does so). Plain reads cannot.
    fn watch_session(&self, sql: &str) {
        if !self.shared.class(sql).intent.is_read() {
            self.inner.restore_at_end();
        }
    }

    /// Has the node probed at once when the connection broke.
    fn noted<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        if let Some(seen) = &self.seen {
            seen.now();
        }
        result.inspect_err(|error| self.shared.suspect(self.lease.node(), Fault::of(error)))
    }

    /// The name of the node it runs on.
    pub fn node(&self) -> &str {
        self.lease.node().name()
    }

    /// Commits.
    ///
    /// # Errors
    /// When the connection is lost before the answer, the outcome is unknown: the commit is never
    /// repeated, and the session reads from the primary for a while.
    ///
    /// # Cancel safety
    /// Once it was polled, the commit runs to its end even when the future is dropped. The caller does not learn the
    /// outcome, so the session reads from the primary for a while; the commit's end counts as a write of the session.
    pub async fn commit(self) -> Result<(), DbErr> {
        let Self { inner, lease, mut mark, shared, seen, .. } = self;
        if let Some(mark) = &mut mark {
            mark.is_uncertain_now();
        }
        let of_caller = mark.as_ref().map(WriteMark::of_commits_caller);
        let committing = RunToEnd::new(async move {
            let result = inner.commit().await;
            if let Some(mark) = mark {
                mark.ended(&result);
            }
            drop(seen);
            result.inspect_err(|error| shared.suspect(lease.node(), Fault::of(error)))
        });
        let result = committing.await;
        if let Some(mark) = of_caller {
            mark.was_learned();
        }
        result
    }

    /// Rolls back.
    ///
    /// # Errors
    /// When the connection is lost; the server then rolls back by itself.
    ///
    /// # Cancel safety
    /// Once it was polled, the rollback runs to its end even when the future is dropped.
    pub async fn rollback(self) -> Result<(), DbErr> {
        let Self { inner, lease, mark, shared, seen, .. } = self;
        let of_caller = mark.as_ref().map(WriteMark::of_rollbacks_caller);
        let rolling_back = RunToEnd::new(async move {
            let result = inner.rollback().await;
            drop((mark, seen));
            result.inspect_err(|error| shared.suspect(lease.node(), Fault::of(error)))
        });
        let result = rolling_back.await;
        if let Some(mark) = of_caller {
            mark.was_learned();
        }
        result
    }

    /// SeaORM's own transaction.
    ///
    /// # Panics
    /// On a scripted node of a simulator, which has none.
    pub(super) fn seaorm(&self) -> &sea_orm::DatabaseTransaction {
        self.inner.seaorm().expect("only scripted nodes are without a SeaORM transaction")
    }

    /// SeaORM's own transaction, given away.
    ///
    /// # Panics
    /// On a scripted node of a simulator, which has none, and while a nested `begin` that was dropped still runs.
    pub(super) fn into_seaorm(self) -> sea_orm::DatabaseTransaction {
        let Self { inner, mark, lease, access, shared, .. } = self;
        if access == TransactionAccess::ReadOnly && lease.lane() == Lane::Read {
            // Nothing restores the session after its statements: the pool that gets it back closes it.
            shared.monitor.writer().renew_sessions(lease.node(), lease.driver());
        }
        if let Some(mark) = mark {
            mark.give_away();
        }
        inner
            .into_seaorm()
            .expect("only scripted nodes are without a SeaORM transaction, and a dropped nested BEGIN ends first")
    }
}

impl fmt::Debug for DatabaseTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseTransaction").field("node", &self.node()).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for DatabaseTransaction {
    fn get_database_backend(&self) -> DbBackend {
        self.shared.backend
    }

    async fn execute_raw(&self, stmt: Statement) -> Result<ExecResult, DbErr> {
        self.run(stmt, |inner, stmt| inner.execute(stmt)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        // Carried in a statement, because a future cannot borrow both the transaction and the text.
        let statement = Statement::from_string(self.shared.backend, sql);
        self.run(statement, |inner, stmt| async move { inner.execute_unprepared(&stmt.sql).await }.boxed()).await
    }

    async fn query_one_raw(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(stmt, |inner, stmt| inner.query_one(stmt)).await
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(stmt, |inner, stmt| inner.query_all(stmt)).await
    }

    fn support_returning(&self) -> bool {
        self.lease.driver().support_returning()
    }

    fn is_mock_connection(&self) -> bool {
        self.lease.driver().is_mock()
    }
}

#[cfg(feature = "stream")]
impl sea_orm::StreamTrait for DatabaseTransaction {
    type Stream<'a> = RowStream<'a>;

    fn get_database_backend(&self) -> DbBackend {
        self.shared.backend
    }

    fn stream_raw<'a>(
        &'a self,
        stmt: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Self::Stream<'a>, DbErr>> + 'a + Send>> {
        Box::pin(async move {
            let inside = match self.access {
                TransactionAccess::ReadWrite => None,
                TransactionAccess::ReadOnly => {
                    self.watch_session(&stmt.sql);
                    Some(Inside { lease: &self.lease, sql: stmt.sql.clone() })
                }
            };
            let span = telemetry::route_span(self.record(&stmt.sql).as_ref());
            self.noted(self.inner.stream(stmt).instrument(span).await)
                .map(|rows| RowStream::of_transaction(rows, &self.shared, self.lease.node(), inside))
        })
    }
}

#[async_trait::async_trait]
impl TransactionTrait for DatabaseTransaction {
    type Transaction = Self;

    async fn begin(&self) -> Result<Self, DbErr> {
        self.begin_with_options(TransactionOptions::default()).await
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<Self, DbErr> {
        self.begin_with_options(options(isolation_level, access_mode)).await
    }

    async fn begin_with_options(&self, options: TransactionOptions) -> Result<Self, DbErr> {
        let inner = self.noted(self.inner.begin(options).await)?;
        Ok(Self::new(inner, self.lease.again(), self.access, None, Arc::clone(&self.shared), self.log.clone()))
    }

    async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        run_transaction(self.begin().await?, callback).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        run_transaction(self.begin_with_config(isolation_level, access_mode).await?, callback).await
    }
}

#[async_trait::async_trait]
impl TransactionSession for DatabaseTransaction {
    async fn commit(self) -> Result<(), DbErr> {
        self.commit().await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        self.rollback().await
    }
}
