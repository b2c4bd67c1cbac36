//! A transaction that is open on one node.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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
    Error,
    driver::{DriverTransaction, Fault, RunToEnd},
    error::{Kind, Outcome},
    routing::{Reason, RouteDecision, StatementClass},
    telemetry,
    topology::{Lane, Lease},
};

/// An open transaction, as SeaORM's type of the same name. Every statement inside runs on its one connection, no
/// statement is routed or run again, and dropping the transaction rolls it back.
///
/// The transaction keeps its node through a swap or a drain. The end of a transaction that was not begun `READ
/// ONLY` counts as a write of its session.
pub struct DatabaseTransaction {
    inner: Box<dyn DriverTransaction>,
    lease: Lease,
    access: TransactionAccess,
    /// The mark of the outermost read-write transaction only: a nested commit is a savepoint's release.
    mark: Option<WriteMark>,
    /// Set when the node was lost during a statement, which may run yet: this transaction is not committed.
    is_lost: Arc<AtomicBool>,
    /// The mark of a routed transaction: the session has seen the reads of the transaction.
    seen: Option<SeenMark>,
    shared: Arc<Shared>,
    log: Option<RouteLog>,
}

/// The statements that a transaction may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransactionAccess {
    ReadOnly,
    ReadWrite,
}

impl TransactionAccess {
    /// The access that the options ask for.
    pub(super) fn asked(options: &TransactionOptions) -> Self {
        match options.access_mode {
            Some(AccessMode::ReadOnly) => Self::ReadOnly,
            _ => Self::ReadWrite,
        }
    }
}

/// Whether a statement changes rows and nothing else, so that a transaction which is rolled back takes it back.
fn changes_rows_only(class: &StatementClass, sql: &str) -> bool {
    const OF_ROWS: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"];
    match class.reason {
        _ if class.intent.is_read() => true,
        Reason::Verb { .. } => {
            class.reason.text(sql).is_some_and(|verb| OF_ROWS.iter().any(|known| verb.eq_ignore_ascii_case(known)))
        }
        _ => false,
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
        Self { inner, lease, access, mark, is_lost: Arc::default(), seen: None, shared, log }
    }

    /// Reads in this transaction advance what a session has seen.
    pub(super) fn seen_by(self, seen: Option<SeenMark>) -> Self {
        Self { seen, ..self }
    }

    /// The record of a statement, also added to the log, when a log or a subscriber records decisions.
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
        let sql = statement.sql.clone();
        if self.access == TransactionAccess::ReadOnly {
            self.watch_session(&sql);
        }
        let running = operation(self.inner.as_ref(), statement).instrument(span);
        let result = self.noted(self.until_lost(Some(&sql), running).await);
        if self.access == TransactionAccess::ReadWrite {
            return result;
        }
        result.map_err(|error| match Fault::of(&error) {
            Fault::ReadOnlySession => self.shared.refused_in_transaction(&self.lease, &sql, error),
            _ => error,
        })
    }

    /// Runs a statement for as long as the node is not lost.
    async fn until_lost<T>(&self, sql: Option<&str>, run: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        if self.is_lost.load(Ordering::SeqCst) {
            return Err(self.not_committed());
        }
        tokio::select! {
            biased;
            result = run => result,
            loss = self.lease.lost() => {
                self.is_lost.store(true, Ordering::SeqCst);
                // The transaction is not committed, but a statement may commit by itself (DDL on MySQL).
                let is_undone = sql.is_none_or(|sql| changes_rows_only(&self.shared.class(sql), sql));
                let outcome = if is_undone { Outcome::NothingChanged } else { Outcome::Unknown };
                Err(loss.error(self.lease.node(), outcome).into())
            }
        }
    }

    /// The error of a transaction that lost its node during an earlier statement.
    fn not_committed(&self) -> DbErr {
        Error::new(Kind::NotCommitted { node: self.node().to_owned() }).into()
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

    /// The name of the transaction's node.
    pub fn node(&self) -> &str {
        self.lease.node().name()
    }

    /// Commits.
    ///
    /// # Errors
    /// When the connection is lost before the answer, or the server stops answering, the outcome is unknown: the COMMIT
    /// is never repeated, and an explicit session reads from the primary for `unknown_outcome_hold`. When the server
    /// stopped answering during a statement before, the transaction is rolled back instead.
    ///
    /// # Cancel safety
    /// Once the future was polled, the COMMIT runs to its end even when the future is dropped. The caller does not
    /// learn the outcome, so an explicit session reads from the primary for `unknown_outcome_hold`; the COMMIT's end
    /// counts as a write of the session and of the process.
    pub async fn commit(self) -> Result<(), DbErr> {
        if self.is_lost.load(Ordering::SeqCst) {
            // Dropping the transaction rolls it back, without waiting for the server.
            return Err(self.not_committed());
        }
        let Self { inner, lease, mut mark, shared, seen, .. } = self;
        if let Some(mark) = &mut mark {
            mark.is_uncertain_now();
        }
        let of_caller = mark.as_ref().map(WriteMark::of_commits_caller);
        let committing = RunToEnd::new(async move {
            let result = tokio::select! {
                biased;
                result = inner.commit() => result,
                // The mark stays uncertain.
                loss = lease.lost() => return Err(loss.error(lease.node(), Outcome::Unknown).into()),
            };
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
    /// The connection is lost; the server then rolls back by itself.
    ///
    /// # Cancel safety
    /// Once the future was polled, the ROLLBACK runs to its end even when the future is dropped.
    pub async fn rollback(self) -> Result<(), DbErr> {
        let Self { inner, lease, mark, shared, seen, .. } = self;
        let of_caller = mark.as_ref().map(WriteMark::of_rollbacks_caller);
        let rolling_back = RunToEnd::new(async move {
            let result = tokio::select! {
                biased;
                result = inner.rollback() => result,
                loss = lease.lost() => Err(loss.error(lease.node(), Outcome::NothingChanged).into()),
            };
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
    /// The transaction runs on a scripted node of a simulator, which has no SeaORM transaction.
    pub(super) fn seaorm(&self) -> &sea_orm::DatabaseTransaction {
        self.inner.seaorm().expect("only scripted nodes are without a SeaORM transaction")
    }

    /// SeaORM's own transaction, given away.
    ///
    /// # Panics
    /// The transaction runs on a scripted node of a simulator, or a nested `begin` that was dropped still runs.
    pub(super) fn into_seaorm(self) -> sea_orm::DatabaseTransaction {
        let Self { inner, mark, lease, access, shared, .. } = self;
        if access == TransactionAccess::ReadOnly && lease.lane() == Lane::Read {
            // Nothing restores the session after the statements of SeaORM's transaction, so the pool closes the
            // connection when it comes back.
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
        // A statement carries the text, because a future cannot borrow both the transaction and the text.
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
            let sql = stmt.sql.clone();
            let inside = match self.access {
                TransactionAccess::ReadWrite => None,
                TransactionAccess::ReadOnly => {
                    self.watch_session(&sql);
                    Some(Inside { lease: &self.lease, sql: sql.clone() })
                }
            };
            let span = telemetry::route_span(self.record(&sql).as_ref());
            self.noted(self.until_lost(Some(&sql), self.inner.stream(stmt).instrument(span)).await)
                .map(|rows| RowStream::of_transaction(rows, &self.shared, &self.lease, inside))
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
        let inner = self.noted(self.until_lost(None, self.inner.begin(options)).await)?;
        let nested =
            Self::new(inner, self.lease.again(), self.access, None, Arc::clone(&self.shared), self.log.clone());
        Ok(Self { is_lost: Arc::clone(&self.is_lost), ..nested })
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
