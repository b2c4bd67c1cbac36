//! The driver of SeaORM's `Disconnected`: a handle without a database behind it.

use futures_util::future::{BoxFuture, FutureExt, ready};
use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement, TransactionOptions};

#[cfg(feature = "stream")]
use super::Rows;
use super::{Driver, DriverTransaction, ProbeLink, WriteProgress};

/// Fails every operation with SeaORM's error.
#[derive(Debug)]
pub(crate) struct Disconnected;

fn refuse<T: Send + 'static>() -> BoxFuture<'static, Result<T, DbErr>> {
    ready(Err(DbErr::Conn(RuntimeErr::Internal("Disconnected".to_owned())))).boxed()
}

impl Driver for Disconnected {
    /// The first dialect that is compiled in: a handle without a database has none, and one must be named.
    fn backend(&self) -> DbBackend {
        if cfg!(feature = "postgres") {
            DbBackend::Postgres
        } else if cfg!(feature = "mysql") {
            DbBackend::MySql
        } else {
            DbBackend::Sqlite
        }
    }

    fn execute(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        refuse()
    }

    fn execute_unprepared<'a>(
        &'a self,
        _: &'a str,
        _: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        refuse()
    }

    fn query_one(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        refuse()
    }

    fn query_all(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        refuse()
    }

    #[cfg(feature = "stream")]
    fn stream(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<Rows<'static>, DbErr>> {
        refuse()
    }

    fn begin(&self, _: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        refuse()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        refuse()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        refuse()
    }

    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>> {
        None
    }
}
