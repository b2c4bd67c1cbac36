//! Pools of sqlx as [`Driver`]s.
//!
//! A statement runs here on a connection that the driver takes out of the pool itself, with SeaORM's errors and its
//! metric callback. So the driver knows when a statement is sent, and when a cancelled one has ended. A transaction runs
//! in SeaORM, because helpers ask for SeaORM's own type. So do all statements where only SeaORM can tell of them: with
//! its features `tracing-spans` and `debug-print`, and on a handle that was given to the resolver.
//!
//! Connections of a pool can stay *warm* between statements. sqlx asks a connection whether its server answers each
//! time the connection is given back: a round trip and a task for every statement, which no option turns off. The
//! monitor watches the resolver's nodes, so a connection whose statement came to a clean end stays with the driver for the
//! next statement. After a second at the most the pool has the connection back, with its ping and its rules of age and
//! idleness; a statement that failed, was dropped or left rows unread gives its connection back at once, and all
//! connections go back when the node is suspected.

mod connect_trial;
mod cutoffs;
mod login;
mod opening;
mod permits;
mod race;
mod rest;
mod settings;
mod warm_connection;
mod warm_pool;

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, SystemTime},
};

use futures_util::future::{BoxFuture, FutureExt};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    TransactionOptions, Values,
    metric::Info,
    sqlx::{self, AssertSqlSafe, Database, Executor, IntoArguments, Pool, database::HasStatementCache, query::Query},
};
use sea_query_sqlx::SqlxValues;

pub(super) use self::permits::Permit;
use self::{
    connect_trial::{NotAcquired, not_acquired},
    rest::{give_back_failed, rest_after_first_row, rested},
    warm_pool::{Checkout, PoolRules, WarmPool},
};
use super::{
    Access, Credentials, Driver, DriverTransaction, LaneOptions, Metric, PingRule, ProbeLink, RacingDriver, RunToEnd,
    SEAORM_SPEAKS, SeaOrmDriver, Sessions, WriteProgress, quiet::quietly, recipe::Recipe, seaorm,
};
#[cfg(feature = "stream")]
use super::{Rows, rows};

/// A statement with its values, as sqlx takes it.
type BoundQuery<DB> = Query<'static, DB, SqlxValues>;

/// A pool of sqlx, some of whose connections may stay warm.
pub(super) struct PoolDriver<DB: Database> {
    pool: SeaOrmDriver,
    warm_pool: Arc<WarmPool<DB>>,
    access: Access,
    metric: OnceLock<Metric>,
    runner: Runner,
    /// `None` for a pool that was given to the resolver, which is never changed.
    recipe: Option<Recipe<DB>>,
}

/// Which code runs the statements of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    /// This driver.
    Driver,
    /// SeaORM, on a reserved connection: with its features that tell of each statement.
    SeaOrm,
    /// SeaORM, on the handle that was given to the resolver: the handle may bring a metric callback, which only SeaORM
    /// can call. Only writes have a connection reserved; reads run as if the resolver were not there.
    GivenHandle,
}

/// A pool that the resolver opened.
pub(super) fn opened<DB>(
    connection: DatabaseConnection,
    pool: Pool<DB>,
    lane: &LaneOptions,
    recipe: Recipe<DB>,
) -> Arc<dyn Driver>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
    ExecResult: From<DB::QueryResult>,
    DatabaseConnection: From<Pool<DB>>,
{
    let keep = lane.keep_warm.unwrap_or_default();
    let is_embedded = connection.get_database_backend() == DbBackend::Sqlite;
    let rules = PoolRules {
        keep,
        ping_after: match lane.ping {
            PingRule::IdleFor(longest) if !is_embedded => Some(longest),
            _ => None,
        },
        elsewhere: lane.elsewhere.filter(|_| !is_embedded),
        depends_on_runtime: !is_embedded,
    };
    let runner = if SEAORM_SPEAKS && keep.is_zero() { Runner::SeaOrm } else { Runner::Driver };
    let access = recipe.settings().access;
    PoolDriver::new(SeaOrmDriver::opened(connection, access), pool, rules, access, runner, Some(recipe))
}

/// A pool that was given to the resolver open. None of its connections stays warm, and its owner closes it.
pub(super) fn adopted<DB>(connection: &DatabaseConnection, pool: &Pool<DB>) -> Arc<dyn Driver>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
    ExecResult: From<DB::QueryResult>,
    DatabaseConnection: From<Pool<DB>>,
{
    let handle = SeaOrmDriver::adopted(connection.clone());
    let rules = PoolRules { keep: Duration::ZERO, ping_after: None, elsewhere: None, depends_on_runtime: false };
    let driver = PoolDriver::new(handle, pool.clone(), rules, Access::Full, Runner::GivenHandle, None);
    driver.warm_pool.expect_untracked_users();
    driver
}

impl<DB> PoolDriver<DB>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    DatabaseConnection: From<Pool<DB>>,
{
    fn new(
        handle: SeaOrmDriver,
        pool: Pool<DB>,
        rules: PoolRules,
        access: Access,
        runner: Runner,
        recipe: Option<Recipe<DB>>,
    ) -> Arc<Self> {
        let credentials = recipe.as_ref().and_then(Recipe::credentials).cloned();
        let sessions = recipe.as_ref().map(|recipe| Arc::clone(recipe.sessions()));
        let warm_pool = WarmPool::new(pool, rules, credentials.clone(), sessions);
        let driver = Arc::new(Self { pool: handle, warm_pool, access, metric: OnceLock::new(), runner, recipe });
        if let Some(credentials) = credentials {
            let pool: Weak<Self> = Arc::downgrade(&driver);
            credentials.tell(pool);
        }
        driver
    }

    /// Whether a statement needs no connection that the driver takes: a read on a given handle.
    fn is_left_to_handle(&self, write: Option<&WriteProgress>) -> bool {
        self.runner == Runner::GivenHandle && write.is_none()
    }

    /// Whether SeaORM runs the statements of this pool.
    fn is_left_to_seaorm(&self) -> bool {
        // SeaORM would run a read without the transaction around it.
        self.runner != Runner::Driver && self.transaction_of_reads().is_none()
    }

    /// Runs a statement as SeaORM does; on a warm connection, if there is one.
    async fn run<T>(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
        failed_as: fn(RuntimeErr) -> DbErr,
        send: impl for<'c> FnOnce(&'c mut DB::Connection, BoundQuery<DB>) -> BoxFuture<'c, Result<T, sqlx::Error>>,
        rest: fn(Checkout<DB>),
    ) -> Result<T, DbErr> {
        let metered = self.metered(&statement);
        let mut checkout = self.take().await?;
        let started = metered.as_ref().map(|_| SystemTime::now());
        let result = send(checkout.connection(write), bound(statement)).await;
        if let (Some((metric, statement)), Some(started)) = (&metered, started) {
            let elapsed = started.elapsed().unwrap_or_default();
            metric.tell(&Info { elapsed, statement, failed: result.is_err() });
        }
        match result {
            Ok(value) => {
                rested(checkout, rest).await;
                Ok(value)
            }
            Err(error) => Err(self.failed(checkout, failed_as(RuntimeErr::SqlxError(error.into()))).await),
        }
    }

    /// The metric callback and the statement that it is told of, if one is set.
    fn metered(&self, statement: &Statement) -> Option<(&Metric, Statement)> {
        self.metric.get().filter(|metric| metric.is_set()).map(|metric| (metric, statement.clone()))
    }

    async fn failed(&self, checkout: Checkout<DB>, error: DbErr) -> DbErr {
        if self.is_isolation_overridden_now(&error) {
            checkout.close();
        } else {
            give_back_failed(self.access, checkout, &error).await;
        }
        error
    }

    /// Has SeaORM run a statement on a reserved connection. The call of a write goes on when its caller stops
    /// waiting, as the server does, so that the end of the write is known.
    async fn run_in_seaorm<T: Send + 'static>(
        &self,
        write: Option<WriteProgress>,
        call: impl FnOnce(DatabaseConnection) -> BoxFuture<'static, Result<T, DbErr>> + Send + 'static,
    ) -> Result<T, DbErr> {
        let reservation = self.reserve().await?;
        let connection = self.pool.connection().clone();
        let Some(write) = write else {
            let result = call(connection).await;
            drop(reservation);
            return result;
        };
        write.sent();
        RunToEnd::new(async move {
            let result = call(connection).await;
            drop((reservation, write));
            result
        })
        .await
    }
}

/// A statement as sqlx takes it.
fn bound<DB: Database>(statement: Statement) -> BoundQuery<DB>
where
    SqlxValues: IntoArguments<DB>,
{
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

impl<DB> Driver for PoolDriver<DB>
where
    DB: Database + HasStatementCache,
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
        if self.is_left_to_handle(write.as_ref()) {
            return self.pool.execute(statement, None);
        }
        if self.is_left_to_seaorm() {
            return Box::pin(
                self.run_in_seaorm(write, |connection| async move { connection.execute_raw(statement).await }.boxed()),
            );
        }
        Box::pin(async move {
            let done = self
                .run(statement, write, DbErr::Exec, |connection, query| connection.execute(query), Checkout::rest)
                .await?;
            Ok(done.into())
        })
    }

    fn execute_unprepared<'a>(
        &'a self,
        sql: &'a str,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        if self.is_left_to_handle(write.as_ref()) {
            return self.pool.execute_unprepared(sql, None);
        }
        if self.is_left_to_seaorm() {
            let sql = sql.to_owned();
            return Box::pin(
                self.run_in_seaorm(write, |connection| {
                    async move { connection.execute_unprepared(&sql).await }.boxed()
                }),
            );
        }
        Box::pin(async move {
            let mut checkout = self.take().await?;
            match checkout.connection(write).execute(AssertSqlSafe(sql.to_owned())).await {
                Ok(done) => {
                    rested(checkout, Checkout::rest).await;
                    Ok(done.into())
                }
                Err(error) => Err(self.failed(checkout, DbErr::Exec(RuntimeErr::SqlxError(error.into()))).await),
            }
        })
    }

    fn query_one(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        if self.is_left_to_handle(write.as_ref()) {
            return self.pool.query_one(statement, None);
        }
        if self.is_left_to_seaorm() {
            return Box::pin(
                self.run_in_seaorm(write, |connection| {
                    async move { connection.query_one_raw(statement).await }.boxed()
                }),
            );
        }
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
        if self.is_left_to_handle(write.as_ref()) {
            return self.pool.query_all(statement, None);
        }
        if self.is_left_to_seaorm() {
            return Box::pin(
                self.run_in_seaorm(write, |connection| {
                    async move { connection.query_all_raw(statement).await }.boxed()
                }),
            );
        }
        Box::pin(async move {
            let rows = self
                .run(statement, write, DbErr::Query, |connection, query| connection.fetch_all(query), Checkout::rest)
                .await?;
            Ok(rows.into_iter().map(Into::into).collect())
        })
    }

    #[cfg(feature = "stream")]
    fn stream(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Rows<'static>, DbErr>> {
        if self.is_left_to_handle(write.as_ref()) {
            return self.pool.stream(statement, None);
        }
        if self.is_left_to_seaorm() {
            return Box::pin(async move {
                let reservation = self.reserve().await?;
                let rows = self.pool.stream(statement, write).await?;
                Ok(rows::holding(rows, reservation.into_permit()))
            });
        }
        Box::pin(async move {
            let metered = self.metered(&statement).map(|(metric, statement)| (metric.clone(), statement));
            let checkout = self.take().await?;
            Ok(read_rows(checkout, statement, write, self.access, metered))
        })
    }

    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        Box::pin(async move {
            let begun = self.begin_logged_in(options).await;
            Ok(Box::new(begun?) as Box<dyn DriverTransaction>)
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        Box::pin(async move {
            let mut checkout = self.take().await?;
            checkout.ping().await.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
            rested(checkout, Checkout::rest).await;
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        if self.pool.is_adopted() {
            return futures_util::future::ready(Ok(())).boxed();
        }
        // The pool is closed first, so that a connection that is given back is not pinged: on a frozen server no
        // ping ends.
        let closed = self.warm_pool.pool().close();
        self.warm_pool.close();
        if let Some(credentials) = self.credentials() {
            credentials.close();
        }
        Box::pin(async move {
            closed.await;
            Ok(())
        })
    }

    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>> {
        // A SQLite file has no server to ask.
        (self.backend() != DbBackend::Sqlite).then(|| {
            let opened = self.open_link().map(|opened| match opened {
                Ok(link) => Ok(Box::new(link) as Box<dyn ProbeLink>),
                Err(NotAcquired(error)) => Err(DbErr::Conn(RuntimeErr::SqlxError(error))),
            });
            opened.boxed()
        })
    }

    fn ask<'a>(&'a self, question: &'static str) -> BoxFuture<'a, Result<Option<QueryResult>, DbErr>> {
        Box::pin(quietly(self.ask_here(question)))
    }

    fn keeps_first_connection(&self) -> bool {
        // Connections that sqlx opens by itself are older than the monitor, which compares no server with them.
        let opens_on_demand = self.warm_pool.pool().options().get_min_connections() == 0;
        opens_on_demand && self.backend() != DbBackend::Sqlite && !self.warm_pool.rules().keep.is_zero()
    }

    fn sessions(&self) -> Option<&Sessions> {
        let recipe = self.recipe.as_ref().filter(|_| self.backend() != DbBackend::Sqlite)?;
        Some(recipe.sessions())
    }

    fn set_credentials(&self, new: Credentials) -> bool {
        self.credentials().inspect(|credentials| credentials.set(new)).is_some()
    }

    fn check_idle(&self) {
        self.warm_pool.give_back();
        self.pool.check_idle();
    }

    fn close_idle(&self) {
        if !self.pool.is_adopted() {
            self.warm_pool.close_all();
        }
    }

    fn renewed(&self) -> Option<Arc<dyn Driver>> {
        let keeps_nothing = self.backend() == DbBackend::Sqlite;
        (!keeps_nothing).then(|| {
            self.refresh();
            let pool = seaorm::like(self.warm_pool.pool());
            let handle = SeaOrmDriver::opened(pool.clone().into(), self.access);
            let recipe = self.recipe.as_ref().map(Recipe::again);
            let rules = self.warm_pool.rules();
            Self::new(handle, pool, rules, self.access, self.runner, recipe) as Arc<dyn Driver>
        })
    }

    fn close_retired(&self) -> BoxFuture<'_, ()> {
        self.warm_pool.close();
        Box::pin(seaorm::close_retired(self.warm_pool.pool()))
    }

    fn limit_connections(&self, most: u32) {
        self.warm_pool.limit(most);
    }

    fn file(&self) -> Option<std::path::PathBuf> {
        self.pool.file()
    }

    fn is_read_only(&self) -> bool {
        self.access.is_read_only()
    }

    fn untracked_connections(&self) -> usize {
        self.warm_pool.untracked()
    }

    fn max_connections(&self) -> Option<u32> {
        Some(self.warm_pool.pool().options().get_max_connections())
    }

    fn limits_statements(&self) -> bool {
        self.recipe.as_ref().is_some_and(|recipe| recipe.settings().statement_timeout.is_some())
    }

    fn acquire_timeout(&self) -> Option<Duration> {
        Some(self.warm_pool.pool().options().get_acquire_timeout())
    }

    fn racing(&self) -> Option<&dyn RacingDriver> {
        self.can_race().then_some(self)
    }

    fn set_metrics(&self, metric: &Metric) {
        self.metric.get_or_init(|| metric.clone());
        self.pool.set_metrics(metric);
    }

    fn seaorm(&self) -> Option<&DatabaseConnection> {
        // The holder of SeaORM's handle takes connections out of the pool without a permit.
        self.warm_pool.expect_untracked_users();
        self.pool.seaorm()
    }
}

/// The rows of a statement, read on the connection as the stream is polled.
#[cfg(feature = "stream")]
fn read_rows<DB>(
    mut checkout: Checkout<DB>,
    statement: Statement,
    write: Option<WriteProgress>,
    access: Access,
    metered: Option<(Metric, Statement)>,
) -> Rows<'static>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
{
    use futures_util::TryStreamExt;

    rows::produced(metered, async move |out| {
        let ended = {
            let mut rows = checkout.connection(write).fetch(bound(statement));
            loop {
                match rows.try_next().await {
                    Ok(Some(row)) => out.put(Ok(row.into())).await,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(DbErr::Query(RuntimeErr::SqlxError(error.into()))),
                }
            }
        };
        match ended {
            Ok(()) => rested(checkout, Checkout::rest).await,
            Err(error) => {
                give_back_failed(access, checkout, &error).await;
                out.put(Err(error)).await;
            }
        }
    })
}

impl<DB: Database> fmt::Debug for PoolDriver<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolDriver")
            .field("pool", &self.pool)
            .field("warm_pool", &self.warm_pool)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "postgres", feature = "mysql"))]
mod tests;
