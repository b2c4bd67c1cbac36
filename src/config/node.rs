//! What the user says about one node.

use std::{borrow::Cow, collections::BTreeSet, fmt, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::FutureExt;
use sea_orm::{ConnectOptions, DatabaseConnection};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::IgnoredAny};

use super::{
    content::{Content, Problem},
    duration,
    hooks::{HIDDEN, Hooks},
};
use crate::driver::{Credentials, CredentialsHook, Driver, HookError, SecretUrl};

/// One node: its address, and the settings that are particular to it.
///
/// Made from a URL, SeaORM's `ConnectOptions`, an open SeaORM connection (a pool or a mock), or
/// read by serde from a URL or a table. Everything but the address has a default.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use sea_orm::ConnectOptions;
/// use sea_orm_resolver::{Config, NodeConfig};
///
/// let near = NodeConfig::new("postgres://shop:secret@db-2/shop").name("near").weight(2).zone("a");
/// let mut options = ConnectOptions::new("postgres://shop:secret@db-3/shop");
/// options.max_lifetime(Duration::from_secs(600));
/// let far = NodeConfig::new(options).name("far").max_connections(20);
/// let config = Config::new("postgres://shop:secret@db-1/shop").replica(near).replica(far);
/// # let _ = config;
/// ```
///
/// **Closures.** A `ConnectOptions` keeps its closures, unless the node has statements of its own
/// ([`on_connect`](Self::on_connect)), which take the place of the pool's `after_connect`. SeaORM's
/// `ConnectOptions::after_connect` runs once for each of the two pools of a node; a closure that asks the
/// database needs the node to be up at `connect`, even if the node is a replica. (SeaORM's
/// `record_stmt_in_spans` reaches the read-write pool only: a pool has no such setting.)
///
/// **The server of a connection.** On each new connection the server is asked once for its name and its position, so that a restarted
/// server, or another behind the same address, is not trusted with the reads of sessions too early. That takes the pool's one hook: on nodes
/// given as URLs or with [`on_connect`](Self::on_connect). Elsewhere
/// `ConnectOptions` and open connections keep their hook, and such a change is noticed at the next probe or broken
/// connection only.
///
/// **Passwords.** A URL is taken apart and its password never printed. `ConnectOptions` hold
/// theirs in a form that SeaORM itself would log at TRACE; the resolver keeps that from every
/// `tracing` subscriber, but an application that has only a `log` logger, at TRACE, would see it:
/// give such an application URLs. The key of `ConnectOptions::sqlcipher_key` is sent as a statement, and sqlx logs
/// statements: such a node needs [`sqlx_logging(false)`](Self::sqlx_logging).
#[derive(Clone)]
pub struct NodeConfig {
    pub(super) source: Source,
    /// Gives the user and the password.
    pub(super) credentials: Option<CredentialsHook>,
    /// Names this value: two nodes made from clones of it are the same node.
    pub(super) value: Arc<()>,
    pub(super) settings: NodeSettings,
    /// The first mistake in the table that the node was read from.
    pub(super) problem: Option<Problem>,
}

#[derive(Clone)]
pub(super) enum Source {
    Url(String),
    Options(Box<ConnectOptions>),
    Connection(DatabaseConnection),
    Driver(Arc<dyn Driver>),
}

/// The part of a node that a file can hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NodeSettings {
    /// Where serde finds the place of the node; moved to [`Source`] at once, so that no password
    /// stays here.
    #[serde(skip_serializing)]
    url: Option<String>,
    /// The trace of a hook that could not be serialised.
    #[serde(skip_serializing)]
    pub(super) credentials: Option<IgnoredAny>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) tags: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_connections: Option<u32>,
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub(super) acquire_timeout: Option<Duration>,
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub(super) idle_timeout: Option<Duration>,
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub(super) max_lifetime: Option<Duration>,
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub(super) statement_timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role_check: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) positions: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sqlx_logging: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ping: Option<Ping>,
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub(super) keep_warm: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pooler: Option<Pooler>,
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub(super) on_connect: Hooks,
}

/// The mode of a pooling proxy (PgBouncer, pgcat, Supavisor, RDS Proxy, ProxySQL, …) in front of a node, for
/// [`NodeConfig::pooler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pooler {
    /// A connection has one session of the server until the connection is closed, and the proxy resets the session
    /// then. Sessions for reads are made read-only by a statement on each new connection.
    Session,
    /// A connection has another session of the server for each transaction, or for each statement. No setting is sent.
    Transaction,
}

/// When a pooled connection is pinged before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ping {
    /// After it was idle for a while (`Config::ping_after_idle`, 100 ms), and whenever the node was
    /// suspected since. The default.
    WhenIdle,
    /// Before every use, as SeaORM does by default: a round trip for every statement.
    Always,
    /// Only when the node was suspected.
    Never,
}

impl NodeSettings {
    /// The settings that must be equal for two nodes to share pools: all but those that can change without new pools.
    pub(super) fn of_the_pools(&self) -> Self {
        Self { name: None, weight: None, zone: None, tags: BTreeSet::new(), role_check: None, ..self.clone() }
    }
}

impl NodeConfig {
    /// A node with every default.
    pub fn new(node: impl Into<Self>) -> Self {
        node.into()
    }

    fn from_source(source: Source) -> Self {
        Self { source, credentials: None, value: Arc::new(()), settings: NodeSettings::default(), problem: None }
    }

    /// A node whose sessions are made by the given driver: for simulators and fault tests. Not
    /// covered by semantic versioning.
    #[doc(hidden)]
    pub fn from_driver(driver: Arc<dyn Driver>) -> Self {
        Self::from_source(Source::Driver(driver))
    }

    /// Whether the user wants connections opened only when they are needed.
    pub(crate) fn is_lazy(&self) -> bool {
        matches!(&self.source, Source::Options(options) if options.get_connect_lazy())
    }

    /// How long the server lets a statement run, by whatever way the user said it.
    pub(super) fn statement_limit(&self) -> Option<Duration> {
        let by_options = match &self.source {
            Source::Options(options) => options.get_statement_timeout(),
            _ => None,
        };
        self.settings.statement_timeout.or(by_options)
    }

    /// How long an operation waits for a connection of the node, if the node says so.
    pub(super) fn acquire_limit(&self) -> Option<Duration> {
        let by_options = match &self.source {
            Source::Options(options) => options.get_acquire_timeout(),
            _ => None,
        };
        self.settings.acquire_timeout.or(by_options)
    }

    fn with(mut self, change: impl FnOnce(&mut NodeSettings)) -> Self {
        change(&mut self.settings);
        self.value = Arc::new(());
        self
    }

    /// Asks `hook` for the user and the password of the node, instead of the URL's: for tokens that expire (IAM), leases
    /// (Vault) and passwords that rotate. Default: those of the URL or the `ConnectOptions`.
    ///
    /// The hook is asked before the first connection is opened, shortly before its [`Credentials`] expire, and when the
    /// server refuses a login; one call at a time for a node, and each call may take three quarters of
    /// [`Config::connect_timeout`](crate::Config::connect_timeout). What it gave last is used until then: by both pools, the
    /// probes, and SeaORM's own handles. Open connections go on.
    ///
    /// *A refused login* (28P01 and 28000 on PostgreSQL; 1045, 1698, an expired password or a locked account on MySQL and
    /// MariaDB) asks the hook once and, if it gave others, logs in once more; the operation that waits for the connection
    /// does not fail. If the login is refused again, the error is the server's own. For this reason the hook is asked once in
    /// a second; while its answers bring nothing new, once in 2, 4, 8 and at last 10 seconds.
    ///
    /// *A hook that fails* does no harm while the credentials of before are valid. Without valid ones no connection is
    /// opened: [`Error::is_credentials`](crate::Error::is_credentials), and another node serves the reads. A `WARN` says so
    /// once, without the text of the hook's error, which may hold a secret: log in the hook what you need. An error is
    /// followed by another call after 1, 2, 4, 8 and at last 10 seconds.
    ///
    /// Serde cannot write a hook: a configuration with one is written with `credentials = "…"`, which is refused when it is
    /// read. Two nodes with two hooks are two nodes for [`swap_replicas`](crate::DatabaseConnection::swap_replicas) and its
    /// kin: keep the `NodeConfig` and give clones of it. A node that is a SQLite file or an open connection has no login of
    /// the resolver's, and a hook is an error (tell an open pool new options by sqlx's `set_connect_options`).
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    ///
    /// use sea_orm_resolver::{Credentials, NodeConfig};
    ///
    /// /// Signs a token that the server accepts for 15 minutes.
    /// async fn token(host: &str) -> std::io::Result<String> {
    ///     Ok(format!("a token for {host}"))
    /// }
    ///
    /// let node = NodeConfig::new("postgres://shop@db-2/shop").credentials(async || {
    ///     let token = token("db-2").await?;
    ///     Ok::<_, std::io::Error>(Credentials::password_only(token).expires_in(Duration::from_secs(15 * 60)))
    /// });
    /// # let _ = node;
    /// ```
    #[must_use]
    pub fn credentials<F, A, E>(self, hook: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<HookError>,
    {
        let hook: CredentialsHook = Arc::new(move || hook().map(|given| given.map_err(Into::into)).boxed());
        Self { credentials: Some(hook), ..self.with(|settings| settings.credentials = None) }
    }

    /// Adds a label, for policies. Default: none.
    #[must_use]
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with(|settings| {
            settings.tags.insert(tag.into());
        })
    }

    /// Adds labels, for policies. Default: none.
    #[must_use]
    pub fn tags<I>(self, tags: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.with(|settings| settings.tags.extend(tags.into_iter().map(Into::into)))
    }

    /// Adds a statement that runs once on each new physical connection, before it is used and
    /// before it is made read-only. It takes the place of a pool `after_connect` hook that the
    /// `ConnectOptions` carry (on PostgreSQL that includes their schema search path).
    ///
    /// The statement may hold a secret (`PRAGMA key = '…'`), so `Debug` and serde write its first two words only, and a
    /// configuration that was read back from them is refused. The statement is not logged. On SQLite, and in a program that
    /// has a logger of the crate `log` and no subscriber of `tracing`, sqlx can log all statements of a connection or none:
    /// a node with such a statement then logs none unless [`sqlx_logging(true)`](Self::sqlx_logging) says so.
    #[must_use]
    pub fn on_connect(self, sql: impl Into<String>) -> Self {
        self.with(|settings| settings.on_connect.0.push(sql.into()))
    }
}

/// Makes a setter of [`NodeConfig`] for each setting that needs nothing but the value.
macro_rules! setters {
    ($($(#[$docs:meta])* $setting:ident: $value:ty,)*) => {
        impl NodeConfig {
            $($(#[$docs])*
            #[must_use]
            pub fn $setting(self, $setting: $value) -> Self {
                self.with(|settings| settings.$setting = Some($setting.into()))
            })*
        }
    };
}

setters! {
    /// The name in topologies, errors and metrics; unique among the members. Default:
    /// `host:port`, or the stem of the SQLite file, with `-2`, `-3`, … where several are alike.
    name: impl Into<String>,
    /// A file with the password of the node, on one line (a secret of Kubernetes or Docker, an agent of Vault). It takes the
    /// place of the URL's password, as with [`credentials`](Self::credentials), and all that is said there holds: a login
    /// that is refused reads the file and tries once more. Default: none.
    ///
    /// The file is read once in a second. A file that is missing, empty or being written leaves the last good value in use, and
    /// a `WARN` says so once. Only the first value has to be there: without it, no connection is opened
    /// ([`Error::is_credentials`](crate::Error::is_credentials)).
    ///
    /// # Example
    /// ```
    /// use sea_orm_resolver::NodeConfig;
    ///
    /// let node = NodeConfig::new("postgres://shop@db-2/shop").password_file("/run/secrets/shop_password");
    /// # let _ = node;
    /// ```
    password_file: impl Into<PathBuf>,
    /// A file with the user of the node, on one line; as [`password_file`](Self::password_file), with which it is read
    /// together. Default: none, and the user is that of the URL.
    user_file: impl Into<PathBuf>,
    /// How much of its tier's reads the node takes relative to the others. Default: 1; 0 is an
    /// error (drain a node to take it out).
    weight: u32,
    /// Where the node is, for policies that prefer near ones. Default: none.
    zone: impl Into<String>,
    /// The most connections of each of the node's pools. Default: what the `ConnectOptions` or the open pool say,
    /// else sqlx's 10 (SQLite: 1 for writing, 4 for reading). The primary's read-only pool takes
    /// half, see `Config::primary_read_connections`.
    max_connections: u32,
    /// Connections that are kept open though idle. Default: what the `ConnectOptions` say, else 0.
    min_connections: u32,
    /// How long an operation waits for a free connection. Default: what the `ConnectOptions` say, else sqlx's 30 s. A
    /// routed read asks another node after 1 s, and returns when all are busy.
    acquire_timeout: Duration,
    /// How long a connection stays open unused. Default: what the `ConnectOptions` say, else
    /// sqlx's 10 minutes.
    idle_timeout: Duration,
    /// How long a connection stays open at all. Default: what the `ConnectOptions` say, else
    /// sqlx's 30 minutes.
    max_lifetime: Duration,
    /// How long the server lets a statement run: PostgreSQL's `statement_timeout`, MariaDB's
    /// `max_statement_time`, MySQL's `max_execution_time` (which limits SELECTs only); nothing on
    /// SQLite. Default: the server's own.
    statement_timeout: Duration,
    /// Whether a node that reports the other role is kept out of the reads. Default: on.
    /// Switch it off for replicas that are writable on purpose (logical replication, MySQL
    /// replicas with `read_only = 0`).
    role_check: bool,
    /// Whether the node's position in the stream of changes is compared with the primary's. Default: on. Switch
    /// it off for an address behind which several servers answer, or a pooling proxy: reads then keep to
    /// the primary for a time after a write (`Config::stick_after_write`). Off for the primary means off for all.
    positions: bool,
    /// The mode of the pooling proxy that the node's address leads to. Default: none is known.
    ///
    /// Behind a proxy the node's position is not compared (unless [`positions`](Self::positions) is switched on), and in
    /// [`Pooler::Transaction`] mode no session is given a setting, because a stranger would find the setting on a session
    /// of the server: a standby refuses writes by itself, and on other servers each read runs in a READ ONLY transaction,
    /// which costs two round trips. There [`statement_timeout`](Self::statement_timeout) and
    /// [`on_connect`](Self::on_connect) are errors: set such things for the role or the database.
    ///
    /// A proxy that is not named here is detected when it refuses or ignores the first setting of a session for reads; from
    /// then on the node is as in `Transaction` mode, and a `WARN` says so once. A proxy that accepts start-up options and
    /// passes them on cannot be detected.
    ///
    /// # Example
    /// ```
    /// use sea_orm_resolver::{NodeConfig, Pooler};
    ///
    /// let node = NodeConfig::new("postgres://shop:secret@pgbouncer-2:6432/shop").pooler(Pooler::Transaction);
    /// # let _ = node;
    /// ```
    pooler: Pooler,
    /// Whether sqlx logs each statement. Default: what the `ConnectOptions` say, else on.
    sqlx_logging: bool,
    /// When a pooled connection is pinged before use. Default: [`Ping::WhenIdle`], unless the
    /// `ConnectOptions` switched the ping off or set an idle time of their own. (SeaORM's default
    /// of a ping before every use cannot be told from the wish for it: say [`Ping::Always`].) An open
    /// connection is pinged as its pool says, and only an `Always` or `Never` that is said here changes that,
    /// for the reads; a `before_acquire` hook of the pool stays.
    ping: Ping,
    /// How long a connection stays warm between statements, before its pool has it back; zero for not at all. Of
    /// an open connection given to the resolver, only the pool for reads stays warm. Default: [`Config::keep_warm`](crate::Config::keep_warm) for a node that is
    /// given as a URL and not pinged before every use. Others may bring pool hooks (`before_acquire`, `after_release`)
    /// that are meant to run for each statement: say it here where they need not.
    keep_warm: Duration,
}

impl From<&str> for NodeConfig {
    fn from(url: &str) -> Self {
        Self::from_source(Source::Url(url.to_owned()))
    }
}

impl From<String> for NodeConfig {
    fn from(url: String) -> Self {
        Self::from_source(Source::Url(url))
    }
}

impl From<&String> for NodeConfig {
    fn from(url: &String) -> Self {
        Self::from_source(Source::Url(url.clone()))
    }
}

impl From<Cow<'_, str>> for NodeConfig {
    fn from(url: Cow<'_, str>) -> Self {
        Self::from_source(Source::Url(url.into_owned()))
    }
}

impl From<Box<str>> for NodeConfig {
    fn from(url: Box<str>) -> Self {
        Self::from_source(Source::Url(url.into_string()))
    }
}

impl From<ConnectOptions> for NodeConfig {
    fn from(options: ConnectOptions) -> Self {
        Self::from_source(Source::Options(Box::new(options)))
    }
}

impl From<DatabaseConnection> for NodeConfig {
    fn from(connection: DatabaseConnection) -> Self {
        Self::from_source(Source::Connection(connection))
    }
}

impl From<&DatabaseConnection> for NodeConfig {
    fn from(connection: &DatabaseConnection) -> Self {
        Self::from_source(Source::Connection(connection.clone()))
    }
}

impl Source {
    /// The place, without any password.
    fn shown(&self) -> String {
        match self {
            Self::Url(url) => shown_url(url),
            Self::Options(options) => shown_url(options.get_url()),
            Self::Connection(connection) => format!("{:?}", connection.inner),
            Self::Driver(_) => "driver".to_owned(),
        }
    }
}

fn shown_url(url: &str) -> String {
    SecretUrl::parse(url).map_or_else(|_| "(a URL that cannot be parsed)".to_owned(), |url| url.shown().to_owned())
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("source", &self.source.shown())
            .field("credentials", &self.credentials.as_ref().map(|_| "a hook"))
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Serialize for NodeConfig {
    /// Writes a table whose `url` has no password.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Table<'a> {
            url: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            credentials: Option<char>,
            #[serde(flatten)]
            settings: &'a NodeSettings,
        }
        let credentials = self.credentials.as_ref().map(|_| HIDDEN);
        Table { url: self.source.shown(), credentials, settings: &self.settings }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NodeConfig {
    /// Reads a URL, or a table with a `url`. A mistake is kept for the use of the node: see [`Config`](crate::Config).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = match Content::deserialize(deserializer)? {
            Content::Text(url) => return Ok(url.into()),
            content => content,
        };
        let problem =
            |field: Option<&str>, text: &str| Problem { field: field.map(str::to_owned), text: text.to_owned() };
        let (mut settings, mut first) = match content {
            Content::Table(_) => content
                .into_fields(NodeSettings::deserialize::<Content>)
                .unwrap_or_else(|problem| (NodeSettings::default(), Some(problem))),
            _ => (NodeSettings::default(), Some(problem(None, "a database URL is expected, or a table with a `url`"))),
        };
        let url = settings.url.take();
        if url.is_none() && first.is_none() {
            first = Some(problem(Some("url"), "it is missing; give the URL of the database"));
        }
        Ok(Self { settings, problem: first, ..url.unwrap_or_default().into() })
    }
}

/// A weight, or the error that names the field it came from.
pub(crate) fn weight(field: &str, weight: u32) -> Result<NonZeroU32, crate::Error> {
    NonZeroU32::new(weight)
        .ok_or_else(|| crate::Error::config(field, "0 is not a weight; drain a node to take it out of rotation"))
}
