//! A physical connection beside a pool, for the resolver's own questions.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use sea_orm::{
    DbErr, QueryResult, RuntimeErr,
    sqlx::{self, AssertSqlSafe, ConnectOptions, Connection, Database, Executor},
};

use super::{Fault, ProbeLink, Sessions, quiet::quietly, recipe::OptionsOf};

/// A transaction with an isolation that a standby has.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A connection of its own, of whose questions sqlx logs nothing.
pub(super) struct QuestionLink<DB: Database> {
    connection: DB::Connection,
    sessions: Option<Arc<Sessions>>,
}

impl<DB> QuestionLink<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    pub(super) async fn open(options: OptionsOf<DB>, sessions: Option<Arc<Sessions>>) -> Result<Self, sqlx::Error> {
        let connection = quietly(options.disable_statement_logging().connect()).await?;
        Ok(Self::over(connection, sessions))
    }

    /// Asks over a connection that is open already, and that sqlx logs nothing of.
    pub(super) fn over(connection: DB::Connection, sessions: Option<Arc<Sessions>>) -> Self {
        Self { connection, sessions }
    }

    /// Unprepared: one round trip, and nothing is left behind in a pooling proxy.
    async fn send(&mut self, sql: &'static str) -> Result<DB::Row, sqlx::Error> {
        (&mut self.connection).fetch_one(sqlx::raw_sql(sql)).await
    }

    /// Sends one text; returns whether there is a row in its answer.
    pub(super) async fn order(&mut self, sql: String) -> Result<bool, sqlx::Error> {
        let row = quietly((&mut self.connection).fetch_optional(sqlx::raw_sql(AssertSqlSafe(sql)))).await?;
        Ok(row.is_some())
    }

    /// Tells the server that the connection ends.
    pub(super) async fn close(self) {
        // A connection that did not close cleanly is gone all the same.
        drop(self.connection.close().await);
    }

    /// Asks in a transaction, where the default isolation is one that the standby lacks and no setting may be sent.
    async fn send_in_transaction(&mut self, sql: &'static str) -> Result<DB::Row, sqlx::Error> {
        self.connection.execute(sqlx::raw_sql(BEGIN)).await?;
        let row = self.send(sql).await;
        self.connection.execute(sqlx::raw_sql("ROLLBACK")).await?;
        row
    }
}

impl<DB> ProbeLink for QuestionLink<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    QueryResult: From<DB::Row>,
{
    fn ask<'a>(&'a mut self, sql: &'static str) -> BoxFuture<'a, Result<QueryResult, DbErr>> {
        async move {
            let failed = |error: sqlx::Error| DbErr::Query(RuntimeErr::SqlxError(error.into()));
            let error = match self.send(sql).await {
                Ok(row) => return Ok(row.into()),
                Err(error) => failed(error),
            };
            let Some(sessions) = self.sessions.clone().filter(|_| Fault::is_isolation_lacking(&error)) else {
                return Err(error);
            };
            sessions.override_isolation();
            self.send_in_transaction(sql).await.map(Into::into).map_err(failed)
        }
        .boxed()
    }
}

/// Opens a connection and closes it again.
pub(super) async fn try_options<DB: Database>(options: OptionsOf<DB>) -> Result<(), sqlx::Error> {
    let connection = quietly(options.disable_statement_logging().connect()).await?;
    // A connection that did not close cleanly is gone all the same.
    drop(connection.close().await);
    Ok(())
}
