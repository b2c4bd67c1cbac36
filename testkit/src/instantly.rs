//! Nodes that answer at once: for measuring the code above a database.

use std::{hint::black_box, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt, ready};
use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions};
use sea_orm_resolver::{
    DatabaseConnection, NodeConfig,
    driver::{Driver, DriverTransaction, ProbeLink, Rows, WriteProgress},
};

/// Answers every query at once, with no row.
#[derive(Clone, Copy, Debug)]
pub struct Instantly;

const NOT_MEASURED: &str = "nobody asks for this here";

impl Driver for Instantly {
    fn backend(&self) -> DbBackend {
        DbBackend::Sqlite // its nodes are not probed, because no server answers
    }
    fn execute(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        unreachable!("{NOT_MEASURED}")
    }
    fn execute_unprepared<'a>(
        &'a self,
        _: &'a str,
        _: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        unreachable!("{NOT_MEASURED}")
    }
    fn query_one(
        &self,
        statement: Statement,
        _: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        black_box(statement);
        ready(Ok(None)).boxed()
    }
    fn query_all(
        &self,
        statement: Statement,
        _: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        black_box(statement);
        ready(Ok(Vec::new())).boxed()
    }
    fn stream(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<Rows<'static>, DbErr>> {
        unreachable!("{NOT_MEASURED}")
    }
    fn begin(&self, _: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        unreachable!("{NOT_MEASURED}")
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        ready(Ok(())).boxed()
    }
    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        ready(Ok(())).boxed()
    }
    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>> {
        None
    }
}

impl Instantly {
    /// A connection to a primary and replicas of this kind, with a fixed seed.
    ///
    /// # Errors
    /// None: these nodes always answer.
    pub async fn connect(replicas: usize) -> Result<DatabaseConnection, DbErr> {
        let node = |name: String| NodeConfig::from_driver(Arc::new(Self)).name(name);
        let replicas = (0..replicas).map(|index| node(format!("replica-{index}")));
        DatabaseConnection::builder().primary(node("primary".to_owned())).replicas(replicas).seed(1).connect().await
    }
}
