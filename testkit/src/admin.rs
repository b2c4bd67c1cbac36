//! A connection of the kit's own, for querying and commanding servers.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, anyhow};
use sea_orm::sqlx::{
    AssertSqlSafe, Connection, MySqlConnection, PgConnection, Row, mysql::MySqlRow, postgres::PgRow, raw_sql,
};

/// None of the kit's questions takes long; a frozen server would never answer.
const LIMIT: Duration = Duration::from_secs(15);

/// One connection, closed when dropped.
#[derive(Debug)]
pub(crate) enum Admin {
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

/// A column of the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column<'a> {
    First,
    Named(&'a str),
}

impl Admin {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        limited("connecting", async {
            Ok(if url.starts_with("postgres") {
                Self::Postgres(PgConnection::connect(url).await?)
            } else {
                Self::MariaDb(MySqlConnection::connect(url).await?)
            })
        })
        .await
    }

    /// Runs one or more statements.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        limited(sql, async {
            let text = raw_sql(AssertSqlSafe(sql));
            match self {
                Self::Postgres(connection) => text.execute(connection).await.map(drop),
                Self::MariaDb(connection) => text.execute(connection).await.map(drop),
            }
        })
        .await
    }

    /// A column of the first row as text; `None` when the column is NULL or the result is empty.
    pub(crate) async fn text(&mut self, sql: &str, column: Column<'_>) -> Result<Option<String>> {
        limited(sql, async {
            // The simple (text) protocol: every type arrives the way it is printed.
            let text = raw_sql(AssertSqlSafe(sql));
            match self {
                Self::Postgres(connection) => {
                    text.fetch_optional(connection).await?.map_or(Ok(None), |row: PgRow| match column {
                        Column::First => row.try_get_unchecked(0),
                        Column::Named(name) => row.try_get_unchecked(name),
                    })
                }
                Self::MariaDb(connection) => {
                    text.fetch_optional(connection).await?.map_or(Ok(None), |row: MySqlRow| match column {
                        Column::First => row.try_get_unchecked(0),
                        Column::Named(name) => row.try_get_unchecked(name),
                    })
                }
            }
        })
        .await
    }

    /// The first column of the first row as text; empty when the column is NULL or the result is empty.
    pub(crate) async fn scalar(&mut self, sql: &str) -> Result<String> {
        Ok(self.text(sql, Column::First).await?.unwrap_or_default())
    }

    /// Closes the connection in order, so that the server logs no lost connection.
    pub(crate) async fn close(self) {
        // Every question has been answered, so a server that dies now makes no test fail.
        let _late = limited("closing", async {
            match self {
                Self::Postgres(connection) => connection.close().await,
                Self::MariaDb(connection) => connection.close().await,
            }
        })
        .await;
    }
}

async fn limited<T>(what: &str, work: impl Future<Output = Result<T, sea_orm::sqlx::Error>>) -> Result<T> {
    tokio::time::timeout(LIMIT, work)
        .await
        .map_err(|_elapsed| anyhow!("no answer in {LIMIT:?}"))
        .and_then(|answer| answer.map_err(anyhow::Error::from))
        .with_context(|| what.to_owned())
}
