//! Statements that can lose a race: their session is known by name, and another connection ends them at the server.

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use sea_orm::{
    DatabaseConnection, DbBackend, DbErr, QueryResult, RuntimeErr, Statement,
    metric::Info,
    sqlx::{self, Database, Executor, IntoArguments, Pool, database::HasStatementCache},
};
use sea_query_sqlx::SqlxValues;
use tokio::time::timeout;

use super::{BoundQuery, Checkout, PoolDriver, Runner, bound, rest_after_first_row, rested};
use crate::driver::{Driver as _, Race, RacingDriver, directness::is_proven, quiet::quietly};

/// How long ending a statement at its server may take.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// The name of a session at its server, and a mark by which another connection finds out that it reached the same server
/// and the same session: behind a balancer the address may lead to several servers, each with a session of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerSession {
    id: u64,
    /// PostgreSQL: the start of the session, to the microsecond. MySQL and MariaDB: the address and port of the client.
    mark: String,
}

/// The statements about sessions in one dialect.
struct Words {
    /// Asks a session for its name and its mark.
    ask: &'static str,
    end: fn(&ServerSession) -> (String, Option<String>),
}

fn words(backend: DbBackend) -> Words {
    match backend {
        DbBackend::Postgres => Words {
            ask: "SELECT pid::text, extract(epoch FROM backend_start)::text FROM pg_stat_activity \
                  WHERE pid = pg_backend_pid()",
            end: |ServerSession { id, mark }| {
                let end = format!(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                     WHERE pid = {id} AND extract(epoch FROM backend_start)::text = '{mark}' AND state = 'active'"
                );
                (end, None)
            },
        },
        _ => Words {
            ask: "SELECT CAST(id AS CHAR), CAST(host AS CHAR) FROM information_schema.processlist \
                  WHERE id = CONNECTION_ID()",
            end: |ServerSession { id, mark }| {
                let find = format!(
                    "SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE id = {id} AND host = '{mark}'"
                );
                (find, Some(format!("KILL QUERY {id}")))
            },
        },
    }
}

impl ServerSession {
    /// Reads the answer of a session. `None` where the mark has a sign that would have to be quoted.
    fn read(row: &QueryResult) -> Option<Self> {
        let id = row.try_get_by_index::<String>(0).ok()?.parse().ok()?;
        let mark = row.try_get_by_index::<String>(1).ok()?;
        Self::new(id, mark)
    }

    fn new(id: u64, mark: String) -> Option<Self> {
        let is_plain = |sign: char| sign.is_ascii_alphanumeric() || ".:-_[]%".contains(sign);
        (!mark.is_empty() && mark.chars().all(is_plain)).then_some(Self { id, mark })
    }
}

impl<DB> PoolDriver<DB>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
    DatabaseConnection: From<Pool<DB>>,
{
    /// Whether the statements of the pool can be ended: its connections are proven to be sessions of the server. In a pool that
    /// keeps no connection warm, asking for the name of the session would cost each read a round trip.
    pub(super) fn can_race(&self) -> bool {
        let is_warm = self.runner == Runner::Driver && !self.warm_pool.rules().keep.is_zero();
        let backend = self.pool.backend();
        is_warm
            && self.access.is_read_only()
            && backend != DbBackend::Sqlite
            && self
                .recipe
                .as_ref()
                .is_some_and(|recipe| is_proven::<DB>(recipe.sessions(), backend, || recipe.marked()))
    }

    /// Runs a read that another attempt may outrun.
    async fn run_in_race<T>(
        &self,
        statement: Statement,
        race: Race,
        send: impl for<'c> FnOnce(&'c mut DB::Connection, BoundQuery<DB>) -> BoxFuture<'c, Result<T, sqlx::Error>>,
        rest: fn(Checkout<DB>),
    ) -> Result<T, DbErr> {
        let metered = self.metered(&statement);
        let (mut checkout, session) = tokio::select! {
            biased;
            taken = self.take_named() => taken?,
            () = race.lost() => return Err(Race::error()),
        };
        let started = SystemTime::now();
        let ended = {
            let running = send(checkout.connection(None), bound(statement));
            tokio::select! {
                biased;
                result = running => Some(result),
                () = race.lost() => None,
            }
        };
        if let (Some((metric, statement)), Some(result)) = (&metered, &ended) {
            let elapsed = started.elapsed().unwrap_or_default();
            metric.tell(&Info { elapsed, statement, failed: result.is_err() });
        }
        match ended {
            Some(Ok(value)) => {
                rested(checkout, rest).await;
                Ok(value)
            }
            Some(Err(error)) => Err(self.failed(checkout, DbErr::Query(RuntimeErr::SqlxError(error.into()))).await),
            None => {
                self.end_at_server(checkout, session).await;
                Err(Race::error())
            }
        }
    }

    /// Takes a connection whose session has a name. The name is asked once for each time that the pool gives the connection
    /// out.
    async fn take_named(&self) -> Result<(Checkout<DB>, Option<ServerSession>), DbErr> {
        let mut checkout = self.take().await?;
        if let Some(session) = checkout.held().session.clone() {
            return Ok((checkout, Some(session)));
        }
        let ask = words(self.pool.backend()).ask;
        let answer = quietly(checkout.connection(None).fetch_optional(sqlx::raw_sql(ask))).await;
        // The statement did not run.
        let row = answer.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
        let session = row.map(QueryResult::from).as_ref().and_then(ServerSession::read);
        checkout.held().session.clone_from(&session);
        Ok((checkout, session))
    }

    /// Ends the statement that runs on a connection, and closes the connection after that. A statement that cannot be ended
    /// holds its connection until the server has answered: closing the connection early would leave the server running the
    /// statement.
    async fn end_at_server(&self, mut checkout: Checkout<DB>, session: Option<ServerSession>) {
        if let Some(session) = session
            && let Ok(Ok(true)) = timeout(ENDED_WITHIN, self.end_session(&session)).await
        {
            return checkout.close();
        }
        // The ping ends after the statement. Its result does not matter.
        let _ = checkout.ping().await;
        checkout.close();
    }

    /// Orders the server to end the statement of a session; `false` when the server has no such session.
    async fn end_session(&self, session: &ServerSession) -> Result<bool, sqlx::Error> {
        let mut link = self.open_link().await.map_err(|refused| sqlx::Error::Protocol(refused.0.to_string()))?;
        let (first, then) = (words(self.pool.backend()).end)(session);
        let is_found = link.order(first).await?;
        if let (true, Some(then)) = (is_found, then) {
            link.order(then).await?;
        }
        link.close().await;
        Ok(is_found)
    }
}

impl<DB> RacingDriver for PoolDriver<DB>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
    DatabaseConnection: From<Pool<DB>>,
{
    fn query_one(&self, statement: Statement, race: Race) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        Box::pin(async move {
            let fetched = self.run_in_race(
                statement,
                race,
                |connection, query| connection.fetch_optional(query),
                rest_after_first_row,
            );
            Ok(fetched.await?.map(Into::into))
        })
    }

    fn query_all(&self, statement: Statement, race: Race) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        Box::pin(async move {
            let fetched =
                self.run_in_race(statement, race, |connection, query| connection.fetch_all(query), Checkout::rest);
            Ok(fetched.await?.into_iter().map(Into::into).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_names_the_session_and_its_mark_and_no_mark_can_end_the_quotes() {
        let session = ServerSession::new(7, "1764411115.123456".to_owned()).expect("plain");
        let (end, then) = (words(DbBackend::Postgres).end)(&session);
        assert!(end.contains("pid = 7 AND") && end.contains("= '1764411115.123456' AND") && then.is_none(), "{end}");
        let session = ServerSession::new(7, "10.0.0.1:54321".to_owned()).expect("plain");
        let (find, then) = (words(DbBackend::MySql).end)(&session);
        assert!(find.ends_with("id = 7 AND host = '10.0.0.1:54321'"), "{find}");
        assert_eq!(then.as_deref(), Some("KILL QUERY 7"));
        for mark in ["", "a'b", "a\\", "a b"] {
            assert_eq!(ServerSession::new(7, mark.to_owned()), None, "{mark}");
        }
    }
}
