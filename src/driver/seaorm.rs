//! SeaORM's own handles as [`Driver`]s.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use std::time::Duration;
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use tokio::sync::OwnedSemaphorePermit;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use tokio::time::Instant;

use futures_util::future::{BoxFuture, FutureExt};
#[cfg(feature = "stream")]
use futures_util::stream::StreamExt;
#[cfg(feature = "stream")]
use sea_orm::StreamTrait;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use sea_orm::sqlx::pool::PoolConnection;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use sea_orm::sqlx::{Database, Pool};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseConnectionType, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, TransactionOptions, TransactionTrait,
};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use sea_orm::{
    RuntimeErr,
    sqlx::{self, Executor},
};

#[cfg(feature = "mysql")]
use sea_orm::SqlxMySqlConnector;
#[cfg(feature = "postgres")]
use sea_orm::SqlxPostgresConnector;

#[cfg(feature = "stream")]
use super::Rows;
use super::{Access, Driver, DriverTransaction, Metric, ProbeLink, WriteProgress};

/// Who closes a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// We opened it, we close it.
    Ours,
    /// It was given to us open; its owner closes it.
    Adopted,
}

/// A SeaORM connection as a pool of sessions.
pub(crate) struct SeaOrmDriver {
    unheard: DatabaseConnection,
    /// The same pool, from when somebody wants to hear of its statements. A handle of its own, because
    /// SeaORM sets a callback by `&mut`, and because one without is spared reading the clock.
    heard: OnceLock<DatabaseConnection>,
    ownership: Ownership,
    read_only: bool,
}

impl SeaOrmDriver {
    fn new(connection: DatabaseConnection, ownership: Ownership, read_only: bool) -> Self {
        Self { unheard: connection, heard: OnceLock::new(), ownership, read_only }
    }

    /// A pool of ours whose sessions were opened with this access.
    pub(super) fn opened(connection: DatabaseConnection, access: Access) -> Self {
        Self::new(connection, Ownership::Ours, access.is_read_only())
    }

    pub(crate) fn adopted(connection: DatabaseConnection) -> Self {
        Self::new(connection, Ownership::Adopted, false)
    }

    fn connection(&self) -> &DatabaseConnection {
        self.heard.get().unwrap_or(&self.unheard)
    }

    /// Begins a transaction that holds on to a right to its connection, if there is one, for as long as it lives.
    pub(super) fn begin_holding(
        &self,
        options: TransactionOptions,
        permit: Option<OwnedSemaphorePermit>,
    ) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        if self.backend() != DbBackend::MySql {
            return begin_on(self.connection(), options, permit);
        }
        let connection = self.connection().clone();
        let rest = async move { begin_on(&connection, options, permit).await }.boxed();
        Finishing { rest: Some(rest), is_started: false }.boxed()
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

/// Marks a write as sent when its future is first polled: SeaORM takes a connection and runs the statement in one call.
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

/// Marks a write as sent when its rows are first asked for, and keeps it as long as they are.
#[cfg(feature = "stream")]
pub(super) fn follow<'a>(rows: Rows<'a>, write: Option<WriteProgress>) -> Rows<'a> {
    let Some(write) = write else { return rows };
    let mut rows = rows;
    futures_util::stream::poll_fn(move |cx| {
        write.sent();
        rows.poll_next_unpin(cx)
    })
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
            Ok(follow(rows.boxed(), write))
        }
        .boxed()
    }

    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        self.begin_holding(options, None)
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
        match &self.connection().inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                Some(connect_link(self.connection().get_postgres_connection_pool()))
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                Some(connect_link(self.connection().get_mysql_connection_pool()))
            }
            // A SQLite file has no server to ask, a mock must not see our questions.
            _ => None,
        }
    }

    fn file(&self) -> Option<std::path::PathBuf> {
        match &self.connection().inner {
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                let options = self.connection().get_sqlite_connection_pool().connect_options();
                let name = options.get_filename();
                // One that is not there yet has no links to follow.
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

    fn close_idle(&self) {
        match (&self.connection().inner, self.ownership) {
            // What is in the pool of somebody else is theirs.
            (_, Ownership::Adopted) => {}
            #[cfg(feature = "postgres")]
            (DatabaseConnectionType::SqlxPostgresPoolConnection(_), Ownership::Ours) => {
                close_idle(self.connection().get_postgres_connection_pool());
            }
            #[cfg(feature = "mysql")]
            (DatabaseConnectionType::SqlxMySqlPoolConnection(_), Ownership::Ours) => {
                close_idle(self.connection().get_mysql_connection_pool());
            }
            _ => {}
        }
    }

    fn renewed(&self) -> Option<Arc<dyn Driver>> {
        let connection: Option<DatabaseConnection> = match &self.connection().inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                let pool = self.connection().get_postgres_connection_pool();
                Some(SqlxPostgresConnector::from_sqlx_postgres_pool(like(pool)))
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                let pool = self.connection().get_mysql_connection_pool();
                Some(SqlxMySqlConnector::from_sqlx_mysql_pool(like(pool)))
            }
            _ => None,
        };
        Some(Arc::new(Self::new(connection?, Ownership::Ours, self.read_only)))
    }

    fn wear_out(&self) -> BoxFuture<'_, ()> {
        match &self.connection().inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                wear_out(self.connection().get_postgres_connection_pool()).boxed()
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                wear_out(self.connection().get_mysql_connection_pool()).boxed()
            }
            _ => futures_util::future::ready(()).boxed(),
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

    fn max_connections(&self) -> Option<u32> {
        match &self.connection().inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                Some(self.connection().get_postgres_connection_pool().options().get_max_connections())
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                Some(self.connection().get_mysql_connection_pool().options().get_max_connections())
            }
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                Some(self.connection().get_sqlite_connection_pool().options().get_max_connections())
            }
            _ => None,
        }
    }

    fn hear(&self, metric: &Metric) {
        self.heard.get_or_init(|| {
            let metric = metric.clone();
            let mut heard = self.unheard.clone();
            heard.set_metric_callback(move |info| metric.tell(info));
            heard
        });
    }

    fn seaorm(&self) -> Option<&DatabaseConnection> {
        Some(self.connection())
    }
}

/// A SeaORM transaction as a [`DriverTransaction`].
struct SeaOrmTransaction {
    // In this order: the connection goes back first, then the right to the next one.
    transaction: DatabaseTransaction,
    permit: Option<OwnedSemaphorePermit>,
}

impl DriverTransaction for SeaOrmTransaction {
    fn execute(&self, statement: Statement) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        self.transaction.execute_raw(statement)
    }

    fn execute_unprepared<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        self.transaction.execute_unprepared(sql)
    }

    fn query_one(&self, statement: Statement) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        self.transaction.query_one_raw(statement)
    }

    fn query_all(&self, statement: Statement) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        self.transaction.query_all_raw(statement)
    }

    #[cfg(feature = "stream")]
    fn stream(&self, statement: Statement) -> BoxFuture<'_, Result<Rows<'_>, DbErr>> {
        self.transaction.stream_raw(statement).map(|opened| opened.map(StreamExt::boxed)).boxed()
    }

    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        begin_on(&self.transaction, options, None)
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>> {
        let Self { transaction, permit } = *self;
        transaction.commit().map(|ended| (ended, permit).0).boxed()
    }

    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>> {
        let Self { transaction, permit } = *self;
        transaction.rollback().map(|ended| (ended, permit).0).boxed()
    }

    fn seaorm(&self) -> Option<&DatabaseTransaction> {
        Some(&self.transaction)
    }

    fn into_seaorm(self: Box<Self>) -> Option<DatabaseTransaction> {
        Some(self.transaction)
    }
}

fn begin_on<C>(
    connection: &C,
    options: TransactionOptions,
    permit: Option<OwnedSemaphorePermit>,
) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>>
where
    C: TransactionTrait<Transaction = DatabaseTransaction>,
{
    connection
        .begin_with_options(options)
        .map(|begun| -> Result<Box<dyn DriverTransaction>, DbErr> {
            Ok(Box::new(SeaOrmTransaction { transaction: begun?, permit }))
        })
        .boxed()
}

/// Goes on by itself when it is dropped midway. sqlx counts a MySQL transaction when the answer to
/// its BEGIN is there: one that is dropped before would leave a pooled connection inside a
/// transaction that nobody ends, or SeaORM's `SET TRANSACTION` to whoever begins next. (On
/// PostgreSQL and SQLite sqlx itself rolls back.)
struct Finishing<T: Send + 'static> {
    rest: Option<BoxFuture<'static, T>>,
    is_started: bool,
}

impl<T: Send + 'static> Future for Finishing<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.is_started = true;
        let output = ready!(self.rest.as_mut().expect("it is not polled again when it is done").poll_unpin(cx));
        self.rest = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take().filter(|_| self.is_started) else { return };
        // Without a runtime the connection cannot go back to its pool either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(rest);
        }
    }
}

/// A physical connection beside the pool, with the pool's own options.
#[cfg(any(feature = "postgres", feature = "mysql"))]
struct ProbeConnection<DB: Database>(DB::Connection);

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl<DB> ProbeLink for ProbeConnection<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    QueryResult: From<DB::Row>,
{
    fn ask<'a>(&'a mut self, sql: &'static str) -> BoxFuture<'a, Result<QueryResult, DbErr>> {
        async move {
            // Unprepared: one round trip, and nothing is left behind in a pooling proxy.
            match (&mut self.0).fetch_one(sqlx::raw_sql(sql)).await {
                Ok(row) => Ok(row.into()),
                Err(error) => Err(DbErr::Query(RuntimeErr::SqlxError(error.into()))),
            }
        }
        .boxed()
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn connect_link<DB>(pool: &Pool<DB>) -> BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    QueryResult: From<DB::Row>,
{
    use sqlx::ConnectOptions as _;

    let options = pool.connect_options();
    async move {
        match options.connect().await {
            Ok(connection) => Ok(Box::new(ProbeConnection::<DB>(connection)) as Box<dyn ProbeLink>),
            Err(error) => Err(DbErr::Conn(RuntimeErr::SqlxError(error.into()))),
        }
    }
    .boxed()
}

/// A pool with the options and hooks of another, none of whose connections it shares.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn like<DB: Database>(pool: &Pool<DB>) -> Pool<DB> {
    pool.options().clone().connect_lazy_with(pool.connect_options().as_ref().clone())
}

/// Closes the connections of a pool that nobody takes new ones from. `Pool::close` alone would keep the
/// idle ones, and what they hold, open until the last busy one is given back; and the one in question is
/// given back, after sqlx's ping, when the error of its statement is already known. So the idle ones are
/// closed by hand until that is over.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn wear_out<DB: Database>(pool: &Pool<DB>) {
    const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(1);
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        while let Some(connection) = pool.try_acquire() {
            // There is nobody to tell that a connection did not close cleanly.
            drop(connection.close().await);
        }
        if pool.size() == 0 || started.elapsed() > GIVEN_BACK_WITHIN {
            return pool.close().await;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Takes every idle connection out and gives it back: sqlx pings what is given back, and closes
/// what does not answer, before anybody can take it again. This composes with every hook a user
/// set, which a `before_acquire` of ours would replace, and costs nothing while nobody is suspected.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn check_idle<DB: Database>(pool: &Pool<DB>) {
    // Giving back needs a runtime, and without one nobody is waiting either.
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    drop(idle(pool));
}

/// Takes every idle connection out and closes it.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn close_idle<DB: Database>(pool: &Pool<DB>) {
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    for mut connection in idle(pool) {
        connection.close_on_drop();
    }
}

/// The connections that are idle now, taken out.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn idle<DB: Database>(pool: &Pool<DB>) -> Vec<PoolConnection<DB>> {
    (0..count_idle(pool)).map_while(|_| pool.try_acquire()).collect()
}

/// How many connections of a pool are in use, or on their way back.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn count_in_use<DB: Database>(pool: &Pool<DB>) -> usize {
    (pool.size() as usize).saturating_sub(count_idle(pool))
}

/// How many connections are idle. sqlx counts what it is given back after it can be taken, so for a moment its count may
/// be less than none.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn count_idle<DB: Database>(pool: &Pool<DB>) -> usize {
    pool.num_idle().cast_signed().max(0).cast_unsigned()
}
