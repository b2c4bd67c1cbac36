//! Connections that stay warm between statements.
//!
//! sqlx asks a connection whether it is there each time it is given back: a round trip and a task for every
//! statement, which no option turns off. The nodes of the resolver are watched, so it does without: a
//! connection whose statement came to a clean end stays at hand for the next one. After a second at the most the pool
//! has it back, with its ping and its rules of age and idleness; a statement that failed, was dropped or left rows
//! unread gives it back at once, and so do all when the node is suspected.
//!
//! Statements run here as SeaORM runs them, with its errors and its metric callback. Streams and transactions run in
//! SeaORM itself.

mod warm_pool;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
#[cfg(feature = "stream")]
use futures_util::stream::StreamExt;
use sea_orm::{
    ConnAcquireErr, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    TransactionOptions, Values,
    metric::Info,
    sqlx::{self, AssertSqlSafe, Connection, Database, Executor, IntoArguments, Pool, query::Query},
};
use sea_query_sqlx::SqlxValues;

use self::warm_pool::{Checkout, WarmPool};
#[cfg(feature = "stream")]
use super::Rows;
use super::{
    Access, Driver, DriverTransaction, Fault, LaneOptions, Metric, ProbeLink, SeaOrmDriver, WriteProgress, seaorm,
};

/// A statement with its values, as sqlx takes it.
type BoundQuery<DB> = Query<'static, DB, SqlxValues>;

/// A pool of ours, whose connections stay warm.
pub(super) struct WarmDriver<DB: Database> {
    pool: SeaOrmDriver,
    warm_pool: Arc<WarmPool<DB>>,
    access: Access,
    metric: OnceLock<Metric>,
}

/// A handle of ours as a driver, on whose pool connections stay warm when the lane says so.
pub(super) fn opened<DB>(
    connection: DatabaseConnection,
    pool: Pool<DB>,
    lane: &LaneOptions,
    access: Access,
) -> Arc<dyn Driver>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
    ExecResult: From<DB::QueryResult>,
    DatabaseConnection: From<Pool<DB>>,
{
    let opened = SeaOrmDriver::opened(connection, access);
    match lane.keep_warm {
        Some(keep) => Arc::new(WarmDriver::new(opened, pool, keep, access)),
        None => Arc::new(opened),
    }
}

impl<DB> WarmDriver<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    DatabaseConnection: From<Pool<DB>>,
{
    fn new(handle: SeaOrmDriver, pool: Pool<DB>, keep: Duration, access: Access) -> Self {
        Self { pool: handle, warm_pool: WarmPool::new(pool, keep), access, metric: OnceLock::new() }
    }

    /// Runs a statement as SeaORM does; on a connection that is at hand, if one is.
    async fn run<T>(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
        failed_as: fn(RuntimeErr) -> DbErr,
        send: impl for<'c> FnOnce(&'c mut DB::Connection, BoundQuery<DB>) -> BoxFuture<'c, Result<T, sqlx::Error>>,
        rest: fn(Checkout<'_, DB>),
    ) -> Result<T, DbErr> {
        let heard = self.metric.get().filter(|metric| metric.is_set()).map(|metric| (metric, statement.clone()));
        let mut checkout = self.warm_pool.take().await.map_err(not_acquired)?;
        if let Some(write) = &write {
            write.sent();
        }
        let started = heard.as_ref().map(|_| SystemTime::now());
        let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
        let query = sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values));
        let result = send(checkout.connection(), query).await;
        if let (Some((metric, statement)), Some(started)) = (&heard, started) {
            let elapsed = started.elapsed().unwrap_or_default();
            metric.tell(&Info { elapsed, statement, failed: result.is_err() });
        }
        match result {
            Ok(value) => {
                rest(checkout);
                Ok(value)
            }
            Err(error) => Err(self.ended(checkout, failed_as(RuntimeErr::SqlxError(error.into())))),
        }
    }

    /// Gives back a connection on which a statement failed. One for reads on which it was refused may hold what it
    /// took before that, such as an advisory lock. (One for writes keeps what it has, as in SeaORM: its locks and, of
    /// a SQLite database in memory, the database.)
    fn ended(&self, checkout: Checkout<'_, DB>, error: DbErr) -> DbErr {
        let is_refused = matches!(Fault::of(&error), Fault::ReadOnlySession | Fault::NotSupportedHere);
        if is_refused && self.access.is_read_only() {
            checkout.close();
        }
        error
    }
}

/// How a connection rests after all rows.
fn rest<DB: Database>(checkout: Checkout<'_, DB>) {
    checkout.rest();
}

/// How a connection rests after the first row of a statement. PostgreSQL's has read all there was and SQLite's has
/// stopped the statement; MySQL's has read the one row.
fn rest_after_first_row<DB: Database>(checkout: Checkout<'_, DB>) {
    match DB::NAME {
        "PostgreSQL" | "SQLite" => checkout.rest(),
        _ => checkout.rest_if_quiet(),
    }
}

impl<DB> Driver for WarmDriver<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
    ExecResult: From<DB::QueryResult>,
    DatabaseConnection: From<Pool<DB>>,
{
    fn backend(&self) -> DbBackend {
        self.pool.backend()
    }

    fn support_returning(&self) -> bool {
        self.pool.support_returning()
    }

    fn execute(&self, statement: Statement, write: Option<WriteProgress>) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        Box::pin(async move {
            let done =
                self.run(statement, write, DbErr::Exec, |connection, query| connection.execute(query), rest).await?;
            Ok(done.into())
        })
    }

    fn execute_unprepared<'a>(
        &'a self,
        sql: &'a str,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        Box::pin(async move {
            let mut checkout = self.warm_pool.take().await.map_err(not_acquired)?;
            if let Some(write) = &write {
                write.sent();
            }
            match checkout.connection().execute(AssertSqlSafe(sql.to_owned())).await {
                Ok(done) => {
                    checkout.rest();
                    Ok(done.into())
                }
                Err(error) => Err(self.ended(checkout, DbErr::Exec(RuntimeErr::SqlxError(error.into())))),
            }
        })
    }

    fn query_one(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        Box::pin(async move {
            let row = self
                .run(
                    statement,
                    write,
                    DbErr::Query,
                    |connection, query| connection.fetch_optional(query),
                    rest_after_first_row,
                )
                .await?;
            Ok(row.map(Into::into))
        })
    }

    fn query_all(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        Box::pin(async move {
            let rows =
                self.run(statement, write, DbErr::Query, |connection, query| connection.fetch_all(query), rest).await?;
            Ok(rows.into_iter().map(Into::into).collect())
        })
    }

    #[cfg(feature = "stream")]
    fn stream(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Rows<'static>, DbErr>> {
        Box::pin(self.warm_pool.lend(not_acquired, async move |lent| {
            let rows = self.pool.stream(statement, write).await?;
            let held_while_read = move |row| {
                let _ = &lent;
                row
            };
            Ok(rows.map(held_while_read).boxed())
        }))
    }

    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        Box::pin(
            self.warm_pool.lend(not_acquired, async move |lent| self.pool.begin_holding(options, Some(lent.0)).await),
        )
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        Box::pin(async move {
            let mut checkout = self.warm_pool.take().await.map_err(not_acquired)?;
            checkout.connection().ping().await.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
            checkout.rest();
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        // Closed at once, so that what is given back is not asked whether it is there: on a frozen server
        // that has no end.
        let closed = self.warm_pool.pool().close();
        self.warm_pool.close();
        Box::pin(async move {
            closed.await;
            Ok(())
        })
    }

    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>> {
        self.pool.open_probe()
    }

    fn check_idle(&self) {
        self.warm_pool.give_back();
        self.pool.check_idle();
    }

    fn close_idle(&self) {
        self.warm_pool.close_held();
        self.pool.close_idle();
    }

    fn renewed(&self) -> Option<Arc<dyn Driver>> {
        let keeps_nothing = self.backend() == DbBackend::Sqlite;
        (!keeps_nothing).then(|| {
            let pool = seaorm::like(self.warm_pool.pool());
            let handle = SeaOrmDriver::opened(pool.clone().into(), self.access);
            Arc::new(Self::new(handle, pool, self.warm_pool.keeps_for(), self.access)) as Arc<dyn Driver>
        })
    }

    fn wear_out(&self) -> BoxFuture<'_, ()> {
        self.warm_pool.close();
        self.pool.wear_out()
    }

    fn file(&self) -> Option<std::path::PathBuf> {
        self.pool.file()
    }

    fn is_read_only(&self) -> bool {
        self.pool.is_read_only()
    }

    fn untracked_connections(&self) -> usize {
        self.warm_pool.untracked()
    }

    fn max_connections(&self) -> Option<u32> {
        self.pool.max_connections()
    }

    fn hear(&self, metric: &Metric) {
        self.metric.get_or_init(|| metric.clone());
        self.pool.hear(metric);
    }

    fn seaorm(&self) -> Option<&DatabaseConnection> {
        // Whoever has it takes connections out of the pool by themselves.
        self.warm_pool.expect_strangers();
        self.pool.seaorm()
    }
}

impl<DB: Database> fmt::Debug for WarmDriver<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmDriver")
            .field("pool", &self.pool)
            .field("warm_pool", &self.warm_pool)
            .finish_non_exhaustive()
    }
}

/// What SeaORM makes of an error of the pool.
fn not_acquired(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
    }
}
