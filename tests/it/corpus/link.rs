//! One connection to a server, and the server's answers.

use std::{fmt, time::Duration};

use anyhow::{Context, Result, anyhow};
use futures_util::TryStreamExt;
use sea_orm::sqlx::{
    self, AssertSqlSafe, Connection, MySqlConnection, PgConnection, Row,
    mysql::{MySqlDatabaseError, MySqlRow},
    postgres::PgRow,
    raw_sql,
};

/// Longer than every time-out of a statement on the servers.
const LIMIT: Duration = Duration::from_secs(20);

/// One connection. All statements go as text, in the simple protocol.
#[derive(Debug)]
pub(crate) enum Link {
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

/// Why a statement did not run.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The SQLSTATE of PostgreSQL, the error number of MariaDB; empty when the connection is of no more use.
    pub(crate) code: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl Link {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        Ok(if url.starts_with("postgres") {
            Self::Postgres(PgConnection::connect(url).await?)
        } else {
            Self::MariaDb(MySqlConnection::connect(url).await?)
        })
    }

    /// Runs a text and discards its rows.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), Refusal> {
        match tokio::time::timeout(LIMIT, self.execute(sql)).await {
            Ok(answer) => answer.map_err(|error| refusal(&error)),
            Err(_elapsed) => Err(Refusal { code: String::new(), message: format!("no answer in {LIMIT:?}") }),
        }
    }

    /// Runs a text that must run.
    pub(crate) async fn must(&mut self, sql: &str) -> Result<()> {
        self.run(sql).await.map_err(|refusal| anyhow!("{sql}: {refusal}"))
    }

    async fn execute(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let text = raw_sql(AssertSqlSafe(sql));
        match self {
            Self::Postgres(link) if is_copy(sql) => {
                link.copy_out_raw(sql).await?.try_for_each(|_| async { Ok(()) }).await
            }
            Self::Postgres(link) => text.execute(link).await.map(drop),
            Self::MariaDb(link) => text.execute(link).await.map(drop),
        }
    }

    /// The columns of all rows as text, one after the other; NULL is left out.
    pub(crate) async fn texts(&mut self, sql: &str) -> Result<Vec<String>> {
        let text = raw_sql(AssertSqlSafe(sql));
        let all: Vec<Option<String>> = match self {
            Self::Postgres(link) => {
                let rows: Vec<PgRow> = text.fetch_all(link).await.with_context(|| sql.to_owned())?;
                let cells = rows.iter().flat_map(|row| (0..row.len()).map(|at| row.try_get_unchecked(at)));
                cells.collect::<Result<_, _>>()?
            }
            Self::MariaDb(link) => {
                let rows: Vec<MySqlRow> = text.fetch_all(link).await.with_context(|| sql.to_owned())?;
                let cells = rows.iter().flat_map(|row| (0..row.len()).map(|at| row.try_get_unchecked(at)));
                cells.collect::<Result<_, _>>()?
            }
        };
        Ok(all.into_iter().flatten().collect())
    }
}

/// `COPY … TO STDOUT` is answered by another message than a query.
pub(crate) fn is_copy(sql: &str) -> bool {
    sql.trim_start().get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case("copy"))
}

fn refusal(error: &sqlx::Error) -> Refusal {
    let code = match error.as_database_error() {
        Some(database) => match database.try_downcast_ref::<MySqlDatabaseError>() {
            Some(mysql) => mysql.number().to_string(),
            None => database.code().unwrap_or_default().into_owned(),
        },
        None => String::new(),
    };
    Refusal { code, message: error.to_string() }
}
