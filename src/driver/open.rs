//! Opens the pools of a node: the read-write lane as the user configured it, and beside it a lane whose every
//! physical connection is read-only *in the database*.
//!
//! Both are opened lazily; the first probe decides whether the node answers.

use std::{sync::Arc, time::Duration};

use super::{
    ConnectProbe, CredentialsCache, Driver, SeaOrmDriver, SecretUrl, Sessions, quiet::quietly, sessions::Settings,
};
use sea_orm::{
    ConnectOptions, DatabaseConnection, DbBackend, DbErr,
    sqlx::{self, pool::PoolOptions},
};

/// Whether the sessions of a pool may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Full,
    ReadOnly,
}

impl Access {
    pub(super) fn is_read_only(self) -> bool {
        self != Self::Full
    }
}

/// When a pooled connection is pinged before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PingRule {
    /// As the `ConnectOptions` say; where they say nothing, after the connection was idle for so long.
    IdleFor(Duration),
    /// A round trip before every use, SeaORM's own default.
    Always,
    Never,
}

/// The limits of waiting for a connection of one node, for operations that other nodes can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// How long an operation queues at a node whose connections are all in use, and stay in use.
    pub(crate) queue_for: Duration,
    /// How long an operation queues at a node that serves those before it.
    pub(crate) queue_at_most: Duration,
    /// How long the server may take for a new connection.
    pub(crate) connect_within: Duration,
}

/// The settings of one pool that the resolver knows. `None` leaves the value of the user's `ConnectOptions`, or SeaORM's
/// default.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LaneOptions {
    pub(crate) max_connections: Option<u32>,
    pub(crate) min_connections: Option<u32>,
    pub(crate) acquire_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) statement_timeout: Option<Duration>,
    pub(crate) ping: PingRule,
    /// Whether a read-only sibling pings before every use. Only the sibling of a pool that was given to the resolver
    /// needs this field; other pools have the rule from their `ConnectOptions`.
    pub(crate) sibling_ping: Option<bool>,
    /// How long a connection stays warm between statements; `None` for not at all.
    pub(crate) keep_warm: Option<Duration>,
    /// The limits of waiting for a connection, where another node can run the operation.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// Whether sqlx logs statements.
    pub(crate) logging: Option<bool>,
    /// Statements for each new physical connection.
    pub(crate) on_connect: Arc<[String]>,
}

/// The way to reach a node.
#[derive(Clone)]
pub(crate) enum Opener {
    Url(SecretUrl),
    Options(Box<ConnectOptions>, SecretUrl),
    /// An open handle. Its pool is the read-write lane. The read-only lane is a sibling pool with the same options, so
    /// that the user's own pool is never changed.
    Adopted(DatabaseConnection),
    Scripted(Arc<dyn Driver>),
}

impl Opener {
    pub(crate) fn backend(&self) -> DbBackend {
        match self {
            Self::Url(url) | Self::Options(_, url) => url.backend,
            Self::Adopted(connection) => connection.get_database_backend(),
            Self::Scripted(driver) => driver.backend(),
        }
    }

    /// Opens one lane. No statement is sent, except SeaORM's own version check on SQLite.
    ///
    /// New connections are asked which server they reached where the resolver sets the pool's one `after_connect` hook:
    /// for nodes given as URLs or with statements of their own. `ConnectOptions` and open connections may bring a hook
    /// of the user.
    pub(crate) async fn open(
        &self,
        lane: &LaneOptions,
        access: Access,
        sessions: &Arc<Sessions>,
        credentials: Option<&Arc<CredentialsCache>>,
        connect_probe: Option<&ConnectProbe>,
    ) -> Result<Arc<dyn Driver>, DbErr> {
        let is_hook_ours = matches!(self, Self::Url(_)) || !lane.on_connect.is_empty();
        let connect_probe = connect_probe.filter(|_| is_hook_ours || matches!(self, Self::Scripted(_)));
        let settings = Settings::new(lane, access, sessions, credentials);
        if let Some(credentials) = credentials.filter(|_| lane.min_connections.is_some_and(|least| least > 0)) {
            // sqlx opens these connections by itself, at once. A failure is met again by the first operation.
            drop(credentials.ready().await);
        }
        match self {
            Self::Scripted(driver) => {
                if let Some(connect_probe) = connect_probe {
                    driver.set_connect_probe(connect_probe);
                }
                Ok(Arc::clone(driver))
            }
            Self::Adopted(connection) if access.is_read_only() => {
                read_only_sibling(connection, lane, settings, connect_probe)
            }
            Self::Adopted(connection) => Ok(adopted(connection)),
            Self::Url(url) => {
                connect(connect_options(url, lane, &settings, connect_probe), lane, settings, connect_probe).await
            }
            Self::Options(options, url) => {
                let mut options = options.as_ref().clone();
                apply(&mut options, url.backend, lane, &settings, connect_probe);
                // The `ConnectOptions` hold the URL with its password, and SeaORM's connector
                // records them on a TRACE span.
                quietly(connect(options, lane, settings, connect_probe)).await
            }
        }
    }
}

/// SeaORM's options for a URL. The URL is without its password, which a closure sets.
fn connect_options(
    url: &SecretUrl,
    lane: &LaneOptions,
    settings: &Settings,
    connect_probe: Option<&ConnectProbe>,
) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.shown());
    if let Some(password) = url.password() {
        let password: Arc<str> = password.into();
        match url.backend {
            #[cfg(feature = "postgres")]
            DbBackend::Postgres => {
                options.map_sqlx_postgres_opts(move |opts| opts.password(&password));
            }
            #[cfg(feature = "mysql")]
            DbBackend::MySql => {
                options.map_sqlx_mysql_opts(move |opts| opts.password(&password));
            }
            _ => drop(password),
        }
    }
    apply(&mut options, url.backend, lane, settings, connect_probe);
    options
}

/// Fills in the lane's settings. Only slots with a getter are touched: the closures that a user put into the options
/// stay.
fn apply(
    options: &mut ConnectOptions,
    backend: DbBackend,
    lane: &LaneOptions,
    settings: &Settings,
    connect_probe: Option<&ConnectProbe>,
) {
    options.connect_lazy(true);
    if let Some(max) = lane.max_connections {
        options.max_connections(max);
    }
    // A pool that is only the template of another must open no connection: one opened early would not be read-only.
    // `resize` gives the number back.
    let is_server = backend != DbBackend::Sqlite;
    let is_asked_or_timed = is_server && (connect_probe.is_some() || lane.statement_timeout.is_some());
    let is_template = settings.access.is_read_only()
        || !lane.on_connect.is_empty()
        || is_asked_or_timed
        || settings.await_credentials();
    if is_template {
        options.min_connections(0);
    } else if let Some(min) = lane.min_connections {
        options.min_connections(min);
    }
    if let Some(timeout) = lane.acquire_timeout {
        options.acquire_timeout(timeout);
    }
    if let Some(timeout) = lane.idle_timeout {
        options.idle_timeout(timeout);
    }
    if let Some(lifetime) = lane.max_lifetime {
        options.max_lifetime(lifetime);
    }
    if let Some(logging) = lane.logging {
        options.sqlx_logging(logging);
    }
    match lane.ping {
        PingRule::IdleFor(idle) => {
            if options.get_test_before_acquire() && options.get_test_before_acquire_if_idle_for().is_none() {
                options.test_before_acquire_if_idle_for(idle);
            }
        }
        PingRule::Always => {
            options.test_before_acquire(true);
        }
        PingRule::Never => {
            options.test_before_acquire(false);
        }
    }
}

async fn connect(
    options: ConnectOptions,
    lane: &LaneOptions,
    settings: Settings,
    connect_probe: Option<&ConnectProbe>,
) -> Result<Arc<dyn Driver>, DbErr> {
    let connection = sea_orm::Database::connect(options).await?;
    match connection.get_database_backend() {
        #[cfg(feature = "postgres")]
        DbBackend::Postgres => Ok(super::postgres::lane(connection, lane, settings, connect_probe)),
        #[cfg(feature = "mysql")]
        DbBackend::MySql => Ok(super::mysql::lane(connection, lane, settings, connect_probe)),
        #[cfg(feature = "sqlite")]
        DbBackend::Sqlite => Ok(super::sqlite::lane(connection, lane, settings).await),
        _ => {
            let _ = (lane, settings, connect_probe);
            Err(no_driver(connection.get_database_backend()))
        }
    }
}

/// The read-write lane of a handle that was given to the resolver open.
fn adopted(connection: &DatabaseConnection) -> Arc<dyn Driver> {
    use sea_orm::DatabaseConnectionType as Kind;
    match &connection.inner {
        #[cfg(feature = "postgres")]
        Kind::SqlxPostgresPoolConnection(_) => {
            super::warm::adopted(connection, connection.get_postgres_connection_pool())
        }
        #[cfg(feature = "mysql")]
        Kind::SqlxMySqlPoolConnection(_) => super::warm::adopted(connection, connection.get_mysql_connection_pool()),
        #[cfg(feature = "sqlite")]
        Kind::SqlxSqlitePoolConnection(_) => super::warm::adopted(connection, connection.get_sqlite_connection_pool()),
        // Mocks and SeaORM's other handles have no pool to take connections from.
        _ => Arc::new(SeaOrmDriver::adopted(connection.clone())),
    }
}

fn read_only_sibling(
    adopted: &DatabaseConnection,
    lane: &LaneOptions,
    settings: Settings,
    connect_probe: Option<&ConnectProbe>,
) -> Result<Arc<dyn Driver>, DbErr> {
    use sea_orm::DatabaseConnectionType as Kind;
    let sibling_ping = match lane.ping {
        PingRule::IdleFor(_) => None,
        PingRule::Always => Some(true),
        PingRule::Never => Some(false),
    };
    let lane = &LaneOptions { sibling_ping, ..lane.clone() };
    let _ = (lane, &settings, connect_probe);
    #[cfg(feature = "postgres")]
    if let Kind::SqlxPostgresPoolConnection(_) = &adopted.inner {
        return Ok(super::postgres::sibling(adopted.get_postgres_connection_pool(), lane, settings, connect_probe));
    }
    #[cfg(feature = "mysql")]
    if let Kind::SqlxMySqlPoolConnection(_) = &adopted.inner {
        return Ok(super::mysql::sibling(adopted.get_mysql_connection_pool(), lane, settings, connect_probe));
    }
    #[cfg(feature = "sqlite")]
    if let Kind::SqlxSqlitePoolConnection(_) = &adopted.inner {
        return Ok(super::sqlite::sibling(adopted.get_sqlite_connection_pool(), lane, settings));
    }
    if let Kind::Disconnected = &adopted.inner {
        return Err(DbErr::Conn(sea_orm::RuntimeErr::Internal("Disconnected".into())));
    }
    // A mock has no sessions: one handle is both lanes.
    Ok(Arc::new(SeaOrmDriver::adopted(adopted.clone())))
}

fn no_driver(backend: DbBackend) -> DbErr {
    DbErr::Conn(sea_orm::RuntimeErr::Internal(format!(
        "the cargo feature of sea-orm-resolver for {} is off",
        backend.as_str()
    )))
}

/// Applies a lane's settings to the options of a pool that is made from those of another.
pub(super) fn resize<DB: sqlx::Database>(mut options: PoolOptions<DB>, lane: &LaneOptions) -> PoolOptions<DB> {
    if let Some(max) = lane.max_connections {
        options = options.max_connections(max);
    }
    if let Some(min) = lane.min_connections {
        options = options.min_connections(min);
    }
    if let Some(timeout) = lane.acquire_timeout {
        options = options.acquire_timeout(timeout);
    }
    if let Some(timeout) = lane.idle_timeout {
        options = options.idle_timeout(timeout);
    }
    if let Some(lifetime) = lane.max_lifetime {
        options = options.max_lifetime(lifetime);
    }
    if let Some(ping) = lane.sibling_ping {
        options = options.test_before_acquire(ping);
    }
    options
}

/// Runs one statement on a fresh connection.
pub(super) async fn run_one<DB>(connection: &mut DB::Connection, statement: &str) -> Result<(), sqlx::Error>
where
    DB: sqlx::Database,
    for<'e> &'e mut DB::Connection: sqlx::Executor<'e, Database = DB>,
{
    use sqlx::{AssertSqlSafe, Executor};

    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(drop)
}

/// Runs the user's statements on a fresh connection, and then `last`. A statement may hold a secret: neither sqlx's log nor
/// an error has its text.
pub(super) async fn run_hooks<DB>(
    connection: &mut DB::Connection,
    statements: &[String],
    last: Option<&'static str>,
) -> Result<(), sqlx::Error>
where
    DB: sqlx::Database,
    for<'e> &'e mut DB::Connection: sqlx::Executor<'e, Database = DB>,
{
    for (index, statement) in statements.iter().enumerate() {
        quietly(run_one::<DB>(connection, statement)).await.map_err(|error| without_statement(index, error))?;
    }
    match last {
        Some(last) => run_one::<DB>(connection, last).await,
        None => Ok(()),
    }
}

/// A server's error about a hook, without the server's text, which quotes the statement. An error about the connection
/// stays as it is.
fn without_statement(index: usize, error: sqlx::Error) -> sqlx::Error {
    let sqlx::Error::Database(server) = &error else { return error };
    let code = server.code().unwrap_or_default();
    if ["08", "57", "70100"].iter().any(|class| code.starts_with(class)) {
        return error;
    }
    let problem = format!("statement {} of `on_connect` was refused with the code {code}", index + 1);
    sqlx::Error::Configuration(problem.into())
}

/// A lane without any configured setting.
#[cfg(test)]
pub(super) fn plain_lane() -> LaneOptions {
    LaneOptions {
        max_connections: None,
        min_connections: None,
        acquire_timeout: None,
        idle_timeout: None,
        max_lifetime: None,
        statement_timeout: None,
        ping: PingRule::IdleFor(Duration::from_secs(5)),
        sibling_ping: None,
        keep_warm: None,
        elsewhere: None,
        logging: None,
        on_connect: Arc::new([]),
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use sea_orm::{
        SqlxSqliteConnector,
        sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    };

    use super::*;

    /// Whether the read-only sibling of an adopted pool pings before every use.
    fn sibling_pings(pool_pings: bool, ping: PingRule) -> bool {
        let pool = SqlitePoolOptions::new()
            .test_before_acquire(pool_pings)
            .connect_lazy_with(SqliteConnectOptions::new().filename("never-opened.db"));
        let adopted = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
        let lane = LaneOptions { ping, ..plain_lane() };
        let sessions = Sessions::new(DbBackend::Sqlite, crate::driver::Pooling::None);
        let settings = Settings::new(&lane, Access::ReadOnly, &sessions, None);
        let driver = read_only_sibling(&adopted, &lane, settings, None).expect("no connection is opened");
        let sibling = driver.seaorm().expect("it is a pool").get_sqlite_connection_pool();
        assert_eq!(adopted.get_sqlite_connection_pool().options().get_test_before_acquire(), pool_pings);
        sibling.options().get_test_before_acquire()
    }

    #[tokio::test]
    async fn the_sibling_of_an_open_pool_pings_as_the_pool_does_unless_the_node_says_otherwise() {
        for pool_pings in [true, false] {
            assert_eq!(sibling_pings(pool_pings, PingRule::IdleFor(Duration::from_secs(5))), pool_pings);
            assert!(sibling_pings(pool_pings, PingRule::Always));
            assert!(!sibling_pings(pool_pings, PingRule::Never));
        }
    }
}
