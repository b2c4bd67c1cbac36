//! SPEAK: what the resolver asks of a database handle, and nothing more.
//!
//! The rooms above know a node only through [`Driver`]: SeaORM's pools implement it
//! (`seaorm`), and so do the scripted nodes of simulators and fault tests, which can fail a
//! BEGIN, hold a COMMIT or break a stream. SeaORM's own proxy can do none of that.
//!
//! Every method returns the boxed future that SeaORM made anyway, so the layer costs no
//! allocation.

mod connect_probe;
mod disconnected;
mod fault;
mod metric;
#[cfg(feature = "mysql")]
mod mysql;
mod open;
#[cfg(feature = "postgres")]
mod postgres;
mod seaorm;
mod secret;
mod signal;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod warm;
mod write_progress;

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
#[cfg(feature = "stream")]
use futures_util::stream::BoxStream;
use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions};

pub use connect_probe::{ConnectProbe, ConnectProbeCallback};
pub(crate) use disconnected::Disconnected;
pub(crate) use fault::Fault;
pub use metric::Metric;
pub(crate) use open::{Access, LaneOptions, Opener, PingRule};
pub(crate) use seaorm::SeaOrmDriver;
pub(crate) use secret::SecretUrl;
pub(crate) use signal::{Alarm, Changes, Counter, Signal};
pub use write_progress::WriteProgress;

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

    /// Runs a statement for its effect. `write` follows a write to its end; a read has none, here and below.
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

    /// Takes a session for a statement whose rows are read one by one; the statement goes out
    /// at the first poll of the stream.
    #[cfg(feature = "stream")]
    fn stream(&self, statement: Statement, write: Option<WriteProgress>)
    -> BoxFuture<'_, Result<Rows<'static>, DbErr>>;

    /// Begins a transaction.
    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>>;

    /// Takes a session and asks whether the server is there.
    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>>;

    /// Closes the pool: running operations finish, new ones fail. A pool that was given to us
    /// is left open.
    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>>;

    /// Opens a connection of its own, outside the pool, for probes. `None` where that has no
    /// meaning (mocks): such a node is taken as configured.
    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>>;

    /// Has each new session of this pool greeted from now on. For pools that were not opened with a greeting:
    /// those of scripted nodes.
    fn greet(&self, connect_probe: &ConnectProbe) {
        let _ = connect_probe;
    }

    /// Has every idle session checked, and closed when it is broken, before it is used again.
    /// Called when the node is suspected; returns at once.
    fn check_idle(&self) {}

    /// Has every idle session closed, because they may lead to a server that was at this address before. Those in use
    /// go on, and may stay. Returns at once.
    fn close_idle(&self) {}

    /// A new pool like this one, of which nothing is open yet; `None` where a session can keep nothing
    /// that a refused statement left behind (a lock, a temporary table).
    fn renewed(&self) -> Option<Arc<dyn Driver>> {
        None
    }

    /// Closes a pool that was replaced by a [`renewed`](Self::renewed) one: its idle connections at once,
    /// busy ones as they come free, so that none keeps for long what was left on it.
    fn wear_out(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { drop(self.close().await) })
    }

    /// The file of an embedded database: two nodes of one file have the same rows at any time.
    fn file(&self) -> Option<std::path::PathBuf> {
        None
    }

    /// Whether the sessions of this pool were opened read-only, as far as the pool was asked to.
    fn is_read_only(&self) -> bool {
        false
    }

    /// The largest number of sessions the pool opens, if it is known.
    fn max_connections(&self) -> Option<u32> {
        None
    }

    /// How many connections of the pool are in use by holders of SeaORM's own handle, as far as the pool tells; connections
    /// on their way back to the pool count too.
    fn untracked_connections(&self) -> usize {
        0
    }

    /// Has every statement of this pool told to the connection's metric callback from now on, as
    /// SeaORM tells them. Called again for the same pool without effect. Mocks and scripted nodes
    /// tell nothing, as with SeaORM.
    fn hear(&self, metric: &Metric) {
        let _ = metric;
    }

    /// SeaORM's own handle, for the places where programs need one.
    fn seaorm(&self) -> Option<&sea_orm::DatabaseConnection> {
        None
    }
}

/// A transaction that is open on one session. Dropped without an end, it is rolled back.
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
    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>>;

    /// Commits.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>>;

    /// Rolls back.
    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>>;

    /// SeaORM's own transaction, for helpers that take one.
    fn seaorm(&self) -> Option<&sea_orm::DatabaseTransaction> {
        None
    }

    /// SeaORM's own transaction, for helpers that take it away.
    fn into_seaorm(self: Box<Self>) -> Option<sea_orm::DatabaseTransaction> {
        None
    }
}

/// A connection that belongs to the prober of one node.
pub trait ProbeLink: Send {
    /// Sends one text and returns its first row.
    fn ask<'a>(&'a mut self, sql: &'static str) -> BoxFuture<'a, Result<QueryResult, DbErr>>;
}
