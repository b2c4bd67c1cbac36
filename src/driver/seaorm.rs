//! SeaORM's own handles as [`Driver`]s: mocks and other handles without an sqlx pool, and the parts of a pool that only
//! SeaORM's handle has (its transactions, its type).

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use std::time::Duration;
use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use tokio::time::Instant;

use futures_util::future::{BoxFuture, FutureExt};
#[cfg(feature = "stream")]
use futures_util::stream::StreamExt;
#[cfg(feature = "stream")]
use sea_orm::StreamTrait;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use sea_orm::sqlx::{Database, Pool, pool::PoolConnection};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseConnectionType, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, TransactionOptions, TransactionTrait,
};
use tokio::sync::{Mutex, OwnedMutexGuard};

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use super::warm::Permit;
use super::{Access, Driver, DriverTransaction, Metric, ProbeLink, RunToEnd, WriteProgress, quiet::quietly};
#[cfg(feature = "stream")]
use super::{Rows, rows};

/// The side that closes a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The resolver opened the pool, and closes it.
    Ours,
    /// The pool was given to the resolver open; its owner closes it.
    Adopted,
}

/// A SeaORM connection as a pool of sessions.
pub(crate) struct SeaOrmDriver {
    plain: DatabaseConnection,
    /// The same pool with a metric callback, once there is one. A handle of its own, because SeaORM sets a callback
    /// by `&mut`, and because a handle without a callback is spared reading the clock.
    metered: OnceLock<DatabaseConnection>,
    ownership: Ownership,
    read_only: bool,
}

impl SeaOrmDriver {
    fn new(connection: DatabaseConnection, ownership: Ownership, read_only: bool) -> Self {
        Self { plain: connection, metered: OnceLock::new(), ownership, read_only }
    }

    /// A pool that the resolver opened, whose sessions have this access.
    pub(super) fn opened(connection: DatabaseConnection, access: Access) -> Self {
        Self::new(connection, Ownership::Ours, access.is_read_only())
    }

    /// A handle that was given to the resolver open.
    pub(crate) fn adopted(connection: DatabaseConnection) -> Self {
        Self::new(connection, Ownership::Adopted, false)
    }

    /// SeaORM's handle, with the metric callback if there is one.
    pub(super) fn connection(&self) -> &DatabaseConnection {
        self.metered.get().unwrap_or(&self.plain)
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.ownership == Ownership::Adopted
    }
}

impl fmt::Debug for SeaOrmDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeaOrmDriver")
            .field("kind", &self.connection().inner)
            .field("ownership", &self.ownership)
            .field("read_only", &self.read_only)
            .finish()
    }
}

/// Marks a write as sent when its future is first polled: a handle without an sqlx pool has no queue before it.
fn sent<'a, T: 'a>(
    write: Option<WriteProgress>,
    running: BoxFuture<'a, Result<T, DbErr>>,
) -> BoxFuture<'a, Result<T, DbErr>> {
    let Some(write) = write else { return running };
    async move {
        write.sent();
        running.await
    }
    .boxed()
}

impl Driver for SeaOrmDriver {
    fn backend(&self) -> DbBackend {
        self.connection().get_database_backend()
    }

    fn support_returning(&self) -> bool {
        self.connection().support_returning()
    }

    fn is_mock(&self) -> bool {
        self.connection().is_mock_connection()
    }

    fn execute(&self, statement: Statement, write: Option<WriteProgress>) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        sent(write, self.connection().execute_raw(statement))
    }

    fn execute_unprepared<'a>(
        &'a self,
        sql: &'a str,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        sent(write, self.connection().execute_unprepared(sql))
    }

    fn query_one(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        sent(write, self.connection().query_one_raw(statement))
    }

    fn query_all(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        sent(write, self.connection().query_all_raw(statement))
    }

    #[cfg(feature = "stream")]
    fn stream(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Rows<'static>, DbErr>> {
        async move {
            let rows = self.connection().stream_raw(statement).await?;
            Ok(rows::follow(rows.boxed(), write))
        }
        .boxed()
    }

    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        async move {
            let transaction = self.connection().begin_with_options(options).await?;
            Ok(Box::new(SeaOrmTransaction::new(transaction)) as Box<dyn DriverTransaction>)
        }
        .boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        self.connection().ping().boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        match self.ownership {
            Ownership::Ours => self.connection().close_by_ref().boxed(),
            Ownership::Adopted => futures_util::future::ready(Ok(())).boxed(),
        }
    }

    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>> {
        // A mock must not see the resolver's questions.
        None
    }

    fn file(&self) -> Option<std::path::PathBuf> {
        match &self.connection().inner {
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                let options = self.connection().get_sqlite_connection_pool().connect_options();
                let name = options.get_filename();
                // A file that does not exist yet has no links to follow.
                name.canonicalize().or_else(|_| std::path::absolute(name)).ok()
            }
            _ => None,
        }
    }

    fn check_idle(&self) {
        match &self.connection().inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                check_idle(self.connection().get_postgres_connection_pool());
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                check_idle(self.connection().get_mysql_connection_pool());
            }
            _ => {}
        }
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn untracked_connections(&self) -> usize {
        match &self.connection().inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                count_in_use(self.connection().get_postgres_connection_pool())
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                count_in_use(self.connection().get_mysql_connection_pool())
            }
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                count_in_use(self.connection().get_sqlite_connection_pool())
            }
            _ => 0,
        }
    }

    fn set_metrics(&self, metric: &Metric) {
        self.metered.get_or_init(|| {
            let metric = metric.clone();
            let mut metered = self.plain.clone();
            metered.set_metric_callback(move |info| metric.tell(info));
            metered
        });
    }

    fn seaorm(&self) -> Option<&DatabaseConnection> {
        Some(self.connection())
    }
}

/// A SeaORM transaction as a [`DriverTransaction`].
///
/// All levels of one transaction share a connection, and take turns on it. A nested BEGIN that its caller dropped keeps
/// its turn until its savepoint is rolled back: a statement in between would be rolled back with it, and a COMMIT would
/// release the savepoint only.
pub(super) struct SeaOrmTransaction {
    /// `None` once the transaction has ended or was given away. Shared with the nested BEGIN that runs.
    transaction: Option<Arc<DatabaseTransaction>>,
    turns: Arc<Mutex<()>>,
    /// Of a session that the resolver opened read-only.
    restore: Option<Arc<RestoreReadOnly>>,
    /// Of the outermost level. After the transaction: its connection goes back first, then the right to the next one.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    permit: Option<Permit>,
}

/// How a read-only session is made read-only again, when a statement of its transaction may have changed that.
#[derive(Debug)]
pub(super) struct RestoreReadOnly {
    backend: DbBackend,
    is_needed: AtomicBool,
}

impl RestoreReadOnly {
    pub(super) fn new(backend: DbBackend) -> Self {
        Self { backend, is_needed: AtomicBool::new(false) }
    }

    fn is_needed(&self) -> bool {
        self.is_needed.load(Ordering::Relaxed)
    }

    /// Ends a transaction by `last`, and makes its session read-only. sqlx counts the transaction until `end`, which
    /// finds none on the server any more.
    async fn end<F>(
        &self,
        transaction: DatabaseTransaction,
        last: &'static str,
        end: impl FnOnce(DatabaseTransaction) -> F,
    ) -> Result<(), DbErr>
    where
        F: Future<Output = Result<(), DbErr>> + Send,
    {
        let restore = match self.backend {
            DbBackend::Postgres => "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            DbBackend::MySql => "SET SESSION TRANSACTION READ ONLY",
            // Not a part of the transaction; and a COMMIT of SQLite fails where no transaction is open.
            _ => {
                transaction.execute_unprepared("PRAGMA query_only = ON").await?;
                return end(transaction).await;
            }
        };
        // After the end: a rollback would undo the statement on PostgreSQL.
        let ended = transaction.execute_unprepared(last).await.map(drop);
        // An error here means that the connection is broken, which `end` says too.
        drop(quietly(transaction.execute_unprepared(restore)).await);
        ended.and(end(transaction).await)
    }
}

impl SeaOrmTransaction {
    /// A transaction on a connection of its own.
    fn new(transaction: DatabaseTransaction) -> Self {
        Self {
            transaction: Some(Arc::new(transaction)),
            turns: Arc::default(),
            restore: None,
            #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
            permit: None,
        }
    }

    /// A transaction whose connection was reserved.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    pub(super) fn on_reserved(
        transaction: DatabaseTransaction,
        permit: Permit,
        restore: Option<RestoreReadOnly>,
    ) -> Self {
        let mut outermost = Self::new(transaction);
        (outermost.permit, outermost.restore) = (Some(permit), restore.map(Arc::new));
        outermost
    }

    /// A nested transaction.
    fn nested(&self, transaction: DatabaseTransaction) -> Self {
        let mut nested = Self::new(transaction);
        (nested.turns, nested.restore) = (Arc::clone(&self.turns), self.restore.clone());
        nested
    }

    fn transaction(&self) -> &DatabaseTransaction {
        self.transaction.as_deref().expect("a transaction is there until it ends")
    }

    /// The session setting that has to be restored at the end of this level.
    fn restore_now(&self) -> Option<Arc<RestoreReadOnly>> {
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        self.permit.as_ref()?; // a nested level has none
        self.restore.clone().filter(|restore| restore.is_needed())
    }

    /// Ends the transaction by `end`, after the nested BEGINs that still run.
    fn end<F>(
        mut self: Box<Self>,
        last: &'static str,
        end: impl FnOnce(DatabaseTransaction) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<(), DbErr>>
    where
        F: Future<Output = Result<(), DbErr>> + Send,
    {
        async move {
            let _turn = Arc::clone(&self.turns).lock_owned().await;
            let transaction = self.transaction.take().and_then(Arc::into_inner);
            let transaction = transaction.expect("a nested BEGIN shares the transaction only during its turn");
            match self.restore_now() {
                None => end(transaction).await,
                Some(restore) => restore.end(transaction, last, end).await,
            }
        }
        .boxed()
    }
}

impl Drop for SeaOrmTransaction {
    /// Rolls back. A task does so where that cannot be done at once: when the session must be restored, and while a nested
    /// BEGIN that was dropped still runs, because SeaORM panics when it cannot lock the connection.
    fn drop(&mut self) {
        let Some(transaction) = self.transaction.take() else { return };
        let restore = self.restore_now();
        if restore.is_none()
            && let Ok(_turn) = self.turns.try_lock()
        {
            drop(transaction);
            return;
        }
        let turns = Arc::clone(&self.turns);
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        let permit = self.permit.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _turn = turns.lock().await;
                if let (Some(transaction), Some(restore)) = (Arc::into_inner(transaction), restore) {
                    // The error says that the connection is gone.
                    drop(restore.end(transaction, "ROLLBACK", DatabaseTransaction::rollback).await);
                }
                #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
                drop(permit);
            });
        }
    }
}

impl DriverTransaction for SeaOrmTransaction {
    fn execute(&self, statement: Statement) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        Box::pin(async move {
            let _turn = self.turns.lock().await;
            self.transaction().execute_raw(statement).await
        })
    }

    fn execute_unprepared<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        Box::pin(async move {
            let _turn = self.turns.lock().await;
            self.transaction().execute_unprepared(sql).await
        })
    }

    fn query_one(&self, statement: Statement) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        Box::pin(async move {
            let _turn = self.turns.lock().await;
            self.transaction().query_one_raw(statement).await
        })
    }

    fn query_all(&self, statement: Statement) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        Box::pin(async move {
            let _turn = self.turns.lock().await;
            self.transaction().query_all_raw(statement).await
        })
    }

    #[cfg(feature = "stream")]
    fn stream(&self, statement: Statement) -> BoxFuture<'_, Result<Rows<'_>, DbErr>> {
        Box::pin(async move {
            let turn = self.turns.lock().await;
            let rows = self.transaction().stream_raw(statement).await?;
            Ok(rows::holding(rows.boxed(), turn))
        })
    }

    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        Box::pin(async move {
            let turn = Arc::clone(&self.turns).lock_owned().await;
            let transaction = self.transaction.clone().expect("a transaction is there until it ends");
            let beginning = async move { Ok((transaction.begin_with_options(options).await?, turn)) };
            let (nested, _turn) = RunToEnd::or_undo(beginning, roll_back_nested).await?;
            Ok(Box::new(self.nested(nested)) as Box<dyn DriverTransaction>)
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>> {
        self.end("COMMIT", DatabaseTransaction::commit)
    }

    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>> {
        self.end("ROLLBACK", DatabaseTransaction::rollback)
    }

    fn restore_at_end(&self) {
        if let Some(restore) = &self.restore {
            restore.is_needed.store(true, Ordering::Relaxed);
        }
    }

    fn seaorm(&self) -> Option<&DatabaseTransaction> {
        // The resolver does not see the statements of SeaORM's own type.
        self.restore_at_end();
        self.transaction.as_deref()
    }

    fn into_seaorm(mut self: Box<Self>) -> Option<DatabaseTransaction> {
        self.transaction.take().and_then(Arc::into_inner)
    }
}

/// Ends a nested transaction whose caller stopped waiting for its BEGIN, before the next statement has its turn.
fn roll_back_nested(begun: Result<(DatabaseTransaction, OwnedMutexGuard<()>), DbErr>) -> BoxFuture<'static, ()> {
    async move {
        if let Ok((nested, _turn)) = begun {
            // The error says that the connection is gone, and the whole transaction with it.
            drop(nested.rollback().await);
        }
    }
    .boxed()
}

/// A new pool with the options and hooks of another.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn like<DB: Database>(pool: &Pool<DB>) -> Pool<DB> {
    pool.options().clone().connect_lazy_with(pool.connect_options().as_ref().clone())
}

/// Closes the connections of a pool that was replaced. `Pool::close` alone would keep the idle connections, and what
/// their sessions hold, open until the last busy one is given back; and the connection in question is given back, after
/// sqlx's ping, when the error of its statement is already known. So this future closes the idle ones until
/// that is over.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) async fn close_retired<DB: Database>(pool: &Pool<DB>) {
    const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(1);
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        while let Some(connection) = pool.try_acquire() {
            // A connection that did not close cleanly is gone all the same.
            drop(connection.close().await);
        }
        if pool.size() == 0 || started.elapsed() > GIVEN_BACK_WITHIN {
            return pool.close().await;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Takes every idle connection out and gives it back: sqlx pings a connection that is given back, and closes one that
/// does not answer before a statement can use it. This composes with every hook of the user, which a `before_acquire`
/// of ours would replace, and costs nothing while no node is suspected.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn check_idle<DB: Database>(pool: &Pool<DB>) {
    // Giving back needs a runtime.
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    drop(idle(pool));
}

/// Takes every idle connection out and closes it.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn close_idle<DB: Database>(pool: &Pool<DB>) {
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    for mut connection in idle(pool) {
        connection.close_on_drop();
    }
}

/// The connections that are idle now, taken out.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
fn idle<DB: Database>(pool: &Pool<DB>) -> Vec<PoolConnection<DB>> {
    (0..count_idle(pool)).map_while(|_| pool.try_acquire()).collect()
}

/// How many connections of a pool are in use, or on their way back.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn count_in_use<DB: Database>(pool: &Pool<DB>) -> usize {
    (pool.size() as usize).saturating_sub(count_idle(pool))
}

/// How many connections are idle. sqlx counts a connection that is given back only after it can be taken, so for a
/// moment its count may be below zero.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn count_idle<DB: Database>(pool: &Pool<DB>) -> usize {
    pool.num_idle().cast_signed().max(0).cast_unsigned()
}
