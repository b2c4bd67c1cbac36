//! The cluster of one cell, and the moments at which a fault struck.

use std::{
    fmt,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use sea_orm::{
    DbBackend, Statement,
    sqlx::{self, Connection, MySqlConnection, PgConnection},
};
use testkit::{ChaosProxy, MariaDbCluster, MySqlCluster, PgBouncer, PostgresCluster, Server};
use tokio::time::Instant;

use crate::servers::Servers;

/// The databases of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Database {
    Postgres,
    MariaDb,
    MySql,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        })
    }
}

/// The way from a client to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Direct,
    /// Through one proxy for each server.
    Proxied,
    /// The first replica through PgBouncer.
    Pooled,
}

/// A primary with two replicas, and the tables `item` (read) and `entry` (written).
pub(super) struct World {
    pub(super) database: Database,
    pub(super) servers: Servers,
    proxies: Vec<ChaosProxy>,
    pub(super) pooler: Option<PgBouncer>,
    strikes: Mutex<Vec<(Instant, Instant)>>,
}

impl World {
    pub(super) async fn start(database: Database, settings: &[(&str, &str)], wire: Wire) -> Result<Self> {
        let servers = match database {
            Database::Postgres => Servers::Postgres(PostgresCluster::start_with(2, settings).await?),
            Database::MariaDb => Servers::MariaDb(MariaDbCluster::start_with(2, settings).await?),
            Database::MySql => Servers::MySql(MySqlCluster::start_with(2, settings).await?),
        };
        let key = if database == Database::Postgres { "serial" } else { "int AUTO_INCREMENT" };
        let tables = format!(
            "CREATE TABLE item (id int PRIMARY KEY, amount int); INSERT INTO item VALUES (1, 1), (2, 2), (3, 3); \
             CREATE TABLE entry (id {key} PRIMARY KEY, amount int)"
        );
        servers.primary().execute(&tables).await?;
        let filler = match database {
            Database::Postgres => "CREATE ROLE filler LOGIN PASSWORD 's3cret-shop'",
            Database::MariaDb => "GRANT SELECT ON shop.* TO filler IDENTIFIED BY 's3cret-shop'",
            Database::MySql => "CREATE USER filler; GRANT SELECT ON shop.* TO filler",
        };
        servers.primary().query_scalar(filler).await?;
        servers.wait_caught_up().await?;
        let mut proxies = Vec::new();
        if wire == Wire::Proxied {
            for server in servers.servers() {
                proxies.push(ChaosProxy::start(server.port()).await?);
            }
        }
        let mut pooler = None;
        if wire == Wire::Pooled {
            let settings = [("max_client_conn", "60"), ("default_pool_size", "60")];
            pooler = Some(PgBouncer::start(&servers.servers()[1], &["filler"], &settings).await?);
        }
        Ok(Self { database, servers, proxies, pooler, strikes: Mutex::default() })
    }

    /// The primary is 0, `replica-0` is 1.
    pub(super) fn server(&self, index: usize) -> &Server {
        &self.servers.servers()[index]
    }

    /// The proxy before a server.
    ///
    /// # Panics
    /// The wire is direct.
    pub(super) fn proxy(&self, index: usize) -> &ChaosProxy {
        &self.proxies[index]
    }

    /// The number of connections that clients ever opened, to all servers.
    pub(super) fn connections(&self) -> u64 {
        self.proxies.iter().map(ChaosProxy::connections).sum()
    }

    /// The application's URL of a server, through its proxy or pooler if there is one.
    pub(super) fn url(&self, index: usize) -> String {
        let server = self.server(index);
        if let (1, Some(pooler)) = (index, &self.pooler) {
            return pooler.url();
        }
        self.proxies.get(index).map_or_else(|| server.url(), |proxy| proxy.url(server))
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.servers.backend()
    }

    pub(super) fn statement(&self, sql: impl Into<String>) -> Statement {
        Statement::from_string(self.backend(), sql)
    }

    /// The expression that makes a statement take so long.
    pub(super) fn pause(&self, pause: Duration) -> String {
        let seconds = pause.as_secs_f64();
        match self.database {
            Database::Postgres => format!("pg_sleep({seconds})"),
            Database::MariaDb | Database::MySql => format!("SLEEP({seconds})"),
        }
    }

    /// Runs a step that breaks operations: those in flight meanwhile are counted apart.
    pub(super) async fn strike<T>(&self, step: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = step.await;
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner).push((began, Instant::now()));
        done
    }

    pub(super) fn strikes(&self) -> Vec<(Instant, Instant)> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs a command as the superuser, outside the application's database.
    pub(super) async fn command(&self, index: usize, sql: &str) -> Result<()> {
        let url = self.server(index).admin_url();
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        match self.database {
            Database::Postgres => {
                let mut admin = PgConnection::connect(&url.replace("/shop", "/postgres")).await?;
                sql.execute(&mut admin).await?;
                admin.close().await?;
            }
            Database::MariaDb | Database::MySql => {
                let mut admin = MySqlConnection::connect(&url.replace("/shop", "/mysql")).await?;
                sql.execute(&mut admin).await?;
                admin.close().await?;
            }
        }
        Ok(())
    }

    /// What a client without any pool meets that opens a connection now and runs the statement: a code, or a word.
    pub(super) async fn meets(&self, index: usize, sql: &str) -> String {
        const PATIENCE: Duration = Duration::from_millis(1_500);
        let url = self.url(index);
        let asking = async {
            match self.database {
                Database::Postgres => {
                    let mut connection = PgConnection::connect(&url).await?;
                    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
                }
                Database::MariaDb | Database::MySql => {
                    let mut connection = MySqlConnection::connect(&url).await?;
                    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
                }
            }
        };
        let started = Instant::now();
        match tokio::time::timeout(PATIENCE, asking).await {
            Err(_elapsed) => "silence".to_owned(),
            Ok(Ok(())) if started.elapsed() > Duration::from_millis(15) => "a late answer".to_owned(),
            Ok(Ok(())) => "an answer".to_owned(),
            Ok(Err(error)) => code(&error),
        }
    }
}

/// The code that an error has for its database; MySQL's number instead of its SQLSTATE.
fn code(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => {
            let number = error
                .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
                .map(sqlx::mysql::MySqlDatabaseError::number);
            number.map(|number| number.to_string()).or_else(|| error.code().map(Into::into)).unwrap_or_default()
        }
        sqlx::Error::Io(error) => format!("{:?}", error.kind()),
        other => other.to_string(),
    }
}
