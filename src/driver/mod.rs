//! SPEAK: the functions that the resolver asks of a database handle, and nothing more.
//!
//! The modules above know a node only through [`Driver`]. Pools of sqlx implement it (`warm`), and so do SeaORM's other
//! handles (`seaorm`) and the scripted nodes of simulators and fault tests, which can fail a BEGIN, hold a COMMIT or break
//! a stream. SeaORM's own proxy can do none of that.

mod connect_probe;
mod credentials;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod directness;
mod disconnected;
mod fault;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod link;
mod metric;
#[cfg(feature = "mysql")]
mod mysql;
mod open;
#[cfg(feature = "postgres")]
mod postgres;
mod quiet;
mod race;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod recipe;
#[cfg(feature = "stream")]
mod rows;
mod run_to_end;
mod seaorm;
mod secret;
mod sessions;
mod signal;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod warm;
mod write_progress;

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
#[cfg(feature = "stream")]
use futures_util::stream::BoxStream;
use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions};

pub use connect_probe::{ConnectProbe, ConnectProbeCallback};
pub use credentials::Credentials;
pub(crate) use credentials::{CredentialsCache, CredentialsEvent, CredentialsHook, CredentialsSource, HookError};
pub(crate) use disconnected::Disconnected;
pub(crate) use fault::{Fault, Ran};
pub use metric::Metric;
pub(crate) use open::{Access, Elsewhere, LaneOptions, Opener, PingRule};
pub use race::{Race, RacingDriver};
pub(crate) use run_to_end::RunToEnd;
pub(crate) use seaorm::SeaOrmDriver;
pub(crate) use secret::SecretUrl;
pub(crate) use sessions::Protection;
pub use sessions::{Lost, Pooling, Recovery, Sessions};
pub(crate) use signal::{Changes, Counter, Signal};
pub use write_progress::WriteProgress;

/// With these features SeaORM tells of each statement in its own way, so SeaORM runs the statements.
pub(crate) const SEAORM_SPEAKS: bool = cfg!(any(feature = "tracing-spans", feature = "debug-print"));

/// The rows of one statement as they arrive.
#[cfg(feature = "stream")]
pub type Rows<'a> = BoxStream<'a, Result<QueryResult, DbErr>>;

/// A pool of sessions of one node, all of one kind (read-write or read-only).
pub trait Driver: Debug + Send + Sync {
    /// The dialect the node speaks.
    fn backend(&self) -> DbBackend;

    /// Whether inserts and updates can return rows here.
    fn support_returning(&self) -> bool {
        self.backend().support_returning()
    }

    /// Whether this is a mock that an application's unit test scripted.
    fn is_mock(&self) -> bool {
        false
    }

    /// Runs a statement for its effect. `write` follows a write to its end (see [`WriteProgress`] for what a driver
    /// owes it); a read has none, here and below.
    fn execute(&self, statement: Statement, write: Option<WriteProgress>) -> BoxFuture<'_, Result<ExecResult, DbErr>>;

    /// Runs one or more statements as text, without preparing them.
    fn execute_unprepared<'a>(
        &'a self,
        sql: &'a str,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>>;

    /// Runs a statement for its first row.
    fn query_one(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>>;

    /// Runs a statement for all its rows.
    fn query_all(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>>;

    /// Takes a session for a statement whose rows are read one by one; the statement is sent at the first poll of the
    /// stream.
    #[cfg(feature = "stream")]
    fn stream(&self, statement: Statement, write: Option<WriteProgress>)
    -> BoxFuture<'_, Result<Rows<'static>, DbErr>>;

    /// Begins a transaction.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits for a session takes none. Dropped later, the BEGIN runs to its end and is rolled
    /// back before the session serves another statement.
    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>>;

    /// Takes a session and asks whether the server is there.
    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>>;

    /// Closes the pool: running operations finish, new ones fail. A pool that was given to the resolver is left open.
    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>>;

    /// Opens a connection outside the pool, for probes. `None` where that has no meaning (mocks): the resolver believes
    /// the configuration of such a node.
    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>>;

    /// Has each new session of this pool asked which server it reached, from now on. For scripted nodes; pools of sqlx
    /// are opened with the question.
    fn set_connect_probe(&self, connect_probe: &ConnectProbe) {
        let _ = connect_probe;
    }

    /// Whether the pool opens a connection only when a statement needs one, and keeps that connection warm for the next
    /// statement. The resolver's first question to the node then goes over the pool, and opens no connection for itself.
    fn keeps_first_connection(&self) -> bool {
        false
    }

    /// Has every idle session checked, and closed when it is broken, before a statement uses it. Called when the node is
    /// suspected; returns at once.
    fn check_idle(&self) {}

    /// Has every idle session closed, because it may lead to a server that was at this address before. Sessions in use
    /// go on, and may stay. Returns at once.
    fn close_idle(&self) {}

    /// A new pool like this one, without any connection yet. `None` where a session keeps nothing that a refused
    /// statement could leave behind (a lock, a temporary table).
    fn renewed(&self) -> Option<Arc<dyn Driver>> {
        None
    }

    /// Closes a pool that a [`renewed`](Self::renewed) one replaced: idle connections at once, busy ones as they come
    /// free, so that no session holds for long what a statement left in it.
    fn close_retired(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { drop(self.close().await) })
    }

    /// Lets at most `most` connections of the pool be in use at a time from now on: at least one, at most
    /// [`max_connections`](Self::max_connections). Connections in use go on. Without effect where the driver has no
    /// pool.
    fn limit_connections(&self, most: u32) {
        let _ = most;
    }

    /// The file of an embedded database. Two nodes of one file always have the same rows.
    fn file(&self) -> Option<std::path::PathBuf> {
        None
    }

    /// The knowledge about the settings of the node's sessions; `None` for a driver that adds none.
    fn sessions(&self) -> Option<&Sessions> {
        None
    }

    /// Has the next connections of the node, of all its pools, opened with these credentials; `false` for a driver that
    /// opens none with a login of its own.
    fn set_credentials(&self, credentials: Credentials) -> bool {
        let _ = credentials;
        false
    }

    /// Asks a session of the pool a question of the resolver, of which the application's log and metric callback hear
    /// nothing.
    fn ask<'a>(&'a self, question: &'static str) -> BoxFuture<'a, Result<Option<QueryResult>, DbErr>> {
        self.query_one(Statement::from_string(self.backend(), question), None)
    }

    /// Whether the pool was asked to open its sessions read-only.
    fn is_read_only(&self) -> bool {
        false
    }

    /// The largest number of sessions that the pool opens, if the driver knows it.
    fn max_connections(&self) -> Option<u32> {
        None
    }

    /// Whether the resolver's configuration limits the time of each statement.
    fn limits_statements(&self) -> bool {
        false
    }

    /// How long an operation waits for a connection of the pool in all, if the driver knows it.
    fn acquire_timeout(&self) -> Option<Duration> {
        None
    }

    /// How many connections of the pool are in use by holders of SeaORM's own handle, as far as the pool tells; connections
    /// on their way back to the pool count too.
    fn untracked_connections(&self) -> usize {
        0
    }

    /// Has every statement of this pool told to the connection's metric callback from now on, as SeaORM tells them.
    /// Another call has no effect. Mocks and scripted nodes tell nothing, as with SeaORM.
    fn set_metrics(&self, metric: &Metric) {
        let _ = metric;
    }

    /// This pool with statements that can be ended at their server; `None` where none can. Then no read of the node is
    /// [hedged](crate::Config::hedge).
    fn racing(&self) -> Option<&dyn RacingDriver> {
        None
    }

    /// SeaORM's own handle, for programs that need one.
    fn seaorm(&self) -> Option<&sea_orm::DatabaseConnection> {
        None
    }
}

/// A transaction that is open on one session. Dropping it rolls it back.
pub trait DriverTransaction: Send + Sync {
    /// Runs a statement for its effect.
    fn execute(&self, statement: Statement) -> BoxFuture<'_, Result<ExecResult, DbErr>>;

    /// Runs one or more statements as text, without preparing them.
    fn execute_unprepared<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<ExecResult, DbErr>>;

    /// Runs a statement for its first row.
    fn query_one(&self, statement: Statement) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>>;

    /// Runs a statement for all its rows.
    fn query_all(&self, statement: Statement) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>>;

    /// Runs a statement whose rows are read one by one.
    #[cfg(feature = "stream")]
    fn stream(&self, statement: Statement) -> BoxFuture<'_, Result<Rows<'_>, DbErr>>;

    /// Begins a nested transaction (a savepoint).
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the savepoint is set and rolled back before the next statement of the transaction.
    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>>;

    /// Commits. The caller polls the future to its end.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>>;

    /// Rolls back. The caller polls the future to its end.
    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>>;

    /// Has the session made read-only again when the transaction ends, if the resolver opened it so: a statement that
    /// runs next may change that for later users of the session.
    fn restore_at_end(&self) {}

    /// SeaORM's own transaction, for helpers that take one.
    fn seaorm(&self) -> Option<&sea_orm::DatabaseTransaction> {
        None
    }

    /// SeaORM's own transaction, for helpers that take it by value. `None` for a scripted node, and while a nested BEGIN
    /// that was dropped still runs.
    fn into_seaorm(self: Box<Self>) -> Option<sea_orm::DatabaseTransaction> {
        None
    }
}

/// A connection that belongs to the prober of one node.
pub trait ProbeLink: Send {
    /// Sends one text and returns its first row.
    fn ask<'a>(&'a mut self, sql: &'static str) -> BoxFuture<'a, Result<QueryResult, DbErr>>;
}
