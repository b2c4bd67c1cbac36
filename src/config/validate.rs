//! Turns the user's configuration into the plans that the other modules work with. Every error names its field.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, DatabaseConnectionType, DbBackend};

use super::{
    Config, Consistency, NodeConfig, Ping, PolicyKind, Pooler,
    node::{Source, weight},
};
use crate::{
    Error,
    driver::{LaneOptions, Opener, PingRule, Pooling, SEAORM_SPEAKS, SecretUrl},
    topology::{Identity, LagLimit, MemberSettings, Positions, Role, RoleCheck},
};

/// The settings of a connection, without its nodes.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) primary_read_share: f64,
    pub(crate) primary_read_connections: Option<u32>,
    pub(crate) policy: PolicyKind,
    pub(crate) consistency: Consistency,
    pub(crate) wait_for_replica: Duration,
    pub(crate) primary_staleness_cap: f64,
    pub(crate) lag_limit: LagLimit,
    pub(crate) report_stale_reads: bool,
    pub(crate) stick_after_write: Duration,
    pub(crate) unknown_outcome_hold: Duration,
    pub(crate) read_selection_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) max_questions_per_second: NonZeroU32,
    pub(crate) probe_timeout: Duration,
    pub(crate) ping_after_idle: Duration,
    pub(crate) keep_warm: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) connect_lazy: bool,
    pub(crate) seed: Option<u64>,
}

/// One node, ready to be opened.
#[derive(Clone)]
pub(crate) struct NodePlan {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) opener: Opener,
    pub(crate) write: LaneOptions,
    pub(crate) read: LaneOptions,
    /// The most reads at once while the node has the primary's seat.
    pub(crate) primary_reads: u32,
    /// The most reads at once while the node has a replica's seat; `None` for as many as its pool has connections.
    pub(crate) replica_reads: Option<u32>,
    pub(crate) identity: Identity,
    pub(crate) member: MemberSettings,
    /// A database in the memory of one connection: both lanes are one pool.
    pub(crate) in_memory: bool,
    pub(crate) pooling: Pooling,
}

const DEFAULT_WRITE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_UNKNOWN_OUTCOME_HOLD: Duration = Duration::from_secs(30);
/// sqlx's own default, which SeaORM leaves alone.
const DEFAULT_MAX_CONNECTIONS: u32 = 10;
const MIN_PRIMARY_READ_CONNECTIONS: u32 = 2;
/// SeaORM opens one connection to SQLite, because writers exclude each other; readers do not.
const SQLITE_READ_CONNECTIONS: u32 = 4;

impl TryFrom<&Config> for Settings {
    type Error = Error;

    fn try_from(config: &Config) -> Result<Self, Error> {
        for (field, duration) in [
            ("read_selection_timeout", config.read_selection_timeout),
            ("connect_timeout", config.connect_timeout),
            ("probe_interval", config.probe_interval),
            ("probe_timeout", config.probe_timeout),
        ] {
            if duration.is_zero() {
                return Err(Error::config(field, "0 leaves no time for an answer; give a duration such as `500ms`"));
            }
        }
        if config.max_lag.is_some_and(|limit| limit.is_zero()) || config.max_lag_bytes == Some(0) {
            let field = if config.max_lag_bytes == Some(0) { "max_lag_bytes" } else { "max_lag" };
            return Err(Error::config(
                field,
                "0 would keep every replica out that has something to do; leave it out for no limit",
            ));
        }
        if config.wait_for_replica >= config.read_selection_timeout {
            let problem = "it must be less than `read_selection_timeout`, or the primary would never be asked instead";
            return Err(Error::config("wait_for_replica", problem));
        }
        if let Consistency::BoundedStaleness(within) = config.consistency {
            bound("consistency", within)?;
        }
        if config.primary_read_connections == Some(0) {
            return Err(Error::config(
                "primary_read_connections",
                "0 leaves no connection for fallback reads; for no routed reads on the primary set `primary_read_share = 0`",
            ));
        }
        let statement_timeout = config.primary.as_ref().and_then(NodeConfig::statement_limit);
        Ok(Self {
            primary_read_share: share("primary_read_share", config.primary_read_share)?,
            primary_read_connections: config.primary_read_connections,
            policy: config.policy,
            consistency: config.consistency,
            wait_for_replica: config.wait_for_replica,
            primary_staleness_cap: share("primary_staleness_cap", config.primary_staleness_cap)?,
            lag_limit: LagLimit { time: config.max_lag, bytes: config.max_lag_bytes },
            report_stale_reads: config.report_stale_reads,
            stick_after_write: config.stick_after_write,
            unknown_outcome_hold: config
                .unknown_outcome_hold
                .or(statement_timeout)
                .unwrap_or(DEFAULT_UNKNOWN_OUTCOME_HOLD),
            read_selection_timeout: config.read_selection_timeout,
            connect_timeout: config.connect_timeout,
            probe_interval: config.probe_interval,
            max_questions_per_second: NonZeroU32::new(config.max_questions_per_second).ok_or_else(|| {
                let problem = "0 would let no read learn that a replica has what was written; give at least 1";
                Error::config("max_questions_per_second", problem)
            })?,
            probe_timeout: config.probe_timeout,
            ping_after_idle: config.ping_after_idle,
            keep_warm: config.keep_warm,
            drain_timeout: config.drain_timeout,
            connect_lazy: config.connect_lazy,
            seed: config.seed,
        })
    }
}

/// A bound on the staleness of reads, or the error that names the field it came from.
fn bound(field: &str, within: Duration) -> Result<Duration, Error> {
    if within.is_zero() {
        return Err(Error::config(field, "a staleness of 0 is `strong`"));
    }
    Ok(within)
}

/// A share of reads, or the error that names the field it came from.
pub(crate) fn share(field: &str, share: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(Error::config(field, format!("{share} is not between 0 and 1")))
    }
}

/// Plans the nodes of a topology: the primary first. `taken` are names of members that stay.
pub(crate) fn plan_nodes(
    settings: &Settings,
    nodes: &[(String, &NodeConfig, Role)],
    taken: &[String],
) -> Result<Vec<NodePlan>, Error> {
    let mut names: BTreeSet<String> = taken.iter().cloned().collect();
    for (field, node, _) in nodes {
        if let Some(name) = &node.settings.name {
            if name.trim().is_empty() {
                return Err(Error::config(format!("{field}.name"), "a name must not be blank"));
            }
            if !names.insert(name.clone()) {
                return Err(Error::config(
                    format!("{field}.name"),
                    format!("another member is named `{name}` already"),
                ));
            }
        }
    }
    let mut planned = Vec::with_capacity(nodes.len());
    for (field, node, role) in nodes {
        let located = locate(field, node)?;
        let name = match &node.settings.name {
            Some(name) => name.clone(),
            None => free_name(&mut names, &located.default_name),
        };
        planned.push(plan(settings, field, node, *role, located, &name)?);
    }
    Ok(planned)
}

/// Checks the rules that concern all members together.
pub(crate) fn check_together(members: &[(String, DbBackend, bool)]) -> Result<(), Error> {
    let Some((_, backend, _)) = members.first() else { return Ok(()) };
    for (field, other, in_memory) in members {
        if other != backend {
            return Err(Error::config(
                field,
                format!(
                    "it speaks {} and the primary {}; all members must be of one kind",
                    other.as_str(),
                    backend.as_str()
                ),
            ));
        }
        if *in_memory && members.len() > 1 {
            return Err(Error::config(
                field,
                "`sqlite::memory:` lives in one connection, so another member can never see its rows; use a file in WAL mode",
            ));
        }
    }
    Ok(())
}

struct Located {
    opener: Opener,
    readable: String,
    default_name: String,
    in_memory: bool,
    options_max: Option<u32>,
    options_min: Option<u32>,
}

fn locate(field: &str, node: &NodeConfig) -> Result<Located, Error> {
    let parse = |url: &str| SecretUrl::parse(url).map_err(|problem| Error::config(format!("{field}.url"), problem));
    let located = match &node.source {
        Source::Url(text) => {
            let url = parse(text)?;
            Located {
                readable: text.clone(),
                default_name: url.default_name.clone(),
                in_memory: url.in_memory,
                options_max: None,
                options_min: None,
                opener: Opener::Url(url),
            }
        }
        Source::Options(options) => {
            let url = parse(options.get_url())?;
            if options.get_url().trim_start().get(..8).is_some_and(|start| start.eq_ignore_ascii_case("mariadb:")) {
                // SeaORM would repeat the URL, password and all, in its error.
                let problem = "SeaORM's ConnectOptions know this protocol as `mysql://`";
                return Err(Error::config(format!("{field}.url"), problem));
            }
            Located {
                readable: format!("{options:?}"),
                default_name: url.default_name.clone(),
                in_memory: url.in_memory,
                options_max: options.get_max_connections(),
                options_min: options.get_min_connections(),
                opener: Opener::Options(options.clone(), url),
            }
        }
        Source::Connection(connection) => {
            if matches!(connection.inner, DatabaseConnectionType::Disconnected) {
                return Err(Error::config(field, "the SeaORM connection that was given is not connected"));
            }
            let (default_name, readable, in_memory) = adopted(connection);
            Located {
                readable,
                default_name,
                in_memory,
                options_max: size_of(connection),
                // The read-only sibling has the pool's own minimum, unless the node says otherwise.
                options_min: None,
                opener: Opener::Adopted(connection.clone()),
            }
        }
        Source::Driver(driver) => Located {
            readable: format!("driver {:p}", Arc::as_ptr(driver)),
            default_name: "scripted".to_owned(),
            in_memory: false,
            options_max: None,
            options_min: None,
            opener: Opener::Scripted(Arc::clone(driver)),
        },
    };
    check_feature(field, located.opener.backend())?;
    Ok(located)
}

/// The name, identity and kind of a handle that was given open.
fn adopted(connection: &DatabaseConnection) -> (String, String, bool) {
    match &connection.inner {
        #[cfg(feature = "postgres")]
        DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            let options = connection.get_postgres_connection_pool().connect_options();
            let name = format!("{}:{}", options.get_host(), options.get_port());
            (name, format!("pool {:p}", Arc::as_ptr(&options)), false)
        }
        #[cfg(feature = "mysql")]
        DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
            let options = connection.get_mysql_connection_pool().connect_options();
            let name = format!("{}:{}", options.get_host(), options.get_port());
            (name, format!("pool {:p}", Arc::as_ptr(&options)), false)
        }
        #[cfg(feature = "sqlite")]
        DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
            let options = connection.get_sqlite_connection_pool().connect_options();
            let file = options.get_filename().to_string_lossy().into_owned();
            // sqlx names the shared cache of an in-memory database so.
            let in_memory = file.is_empty() || file.contains(":memory:") || file.starts_with("file:sqlx-in-memory");
            let stem = options.get_filename().file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let name = if in_memory { "memory".to_owned() } else { stem.unwrap_or_else(|| "sqlite".to_owned()) };
            (name, format!("pool {:p}", Arc::as_ptr(&options)), in_memory)
        }
        #[cfg(feature = "mock")]
        DatabaseConnectionType::MockDatabaseConnection(mock) => {
            ("mock".to_owned(), format!("mock {:p}", Arc::as_ptr(mock)), false)
        }
        other => (format!("{other:?}"), String::new(), false),
    }
}

/// The maximum of connections of a pool that was given open, where that number limits its reads.
fn size_of(connection: &DatabaseConnection) -> Option<u32> {
    match &connection.inner {
        #[cfg(feature = "postgres")]
        DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            Some(connection.get_postgres_connection_pool().options().get_max_connections())
        }
        #[cfg(feature = "mysql")]
        DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
            Some(connection.get_mysql_connection_pool().options().get_max_connections())
        }
        #[cfg(feature = "sqlite")]
        DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
            let max = connection.get_sqlite_connection_pool().options().get_max_connections();
            // One connection is SeaORM's default, because of the writers.
            Some(max).filter(|max| *max > 1)
        }
        _ => None,
    }
}

fn check_feature(field: &str, backend: DbBackend) -> Result<(), Error> {
    let (built, feature) = match backend {
        DbBackend::Postgres => (cfg!(feature = "postgres"), "postgres"),
        DbBackend::MySql => (cfg!(feature = "mysql"), "mysql"),
        DbBackend::Sqlite => (cfg!(feature = "sqlite"), "sqlite"),
        _ => (false, "of that database"),
    };
    if built {
        Ok(())
    } else {
        Err(Error::config(field, format!("the cargo feature `{feature}` of sea-orm-resolver is off")))
    }
}

/// `base`, or `base-2`, `base-3`, … where it is taken.
fn free_name(names: &mut BTreeSet<String>, base: &str) -> String {
    let mut name = base.to_owned();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

fn plan(
    settings: &Settings,
    field: &str,
    node: &NodeConfig,
    role: Role,
    located: Located,
    name: &str,
) -> Result<NodePlan, Error> {
    let own = &node.settings;
    if own.max_connections == Some(0) {
        return Err(Error::config(format!("{field}.max_connections"), "0 connections can serve nothing"));
    }
    let max = own.max_connections.or(located.options_max);
    let min = own.min_connections.or(located.options_min);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(Error::config(
            format!("{field}.min_connections"),
            format!("{min} is more than max_connections, {max}"),
        ));
    }
    for (part, duration) in [
        ("acquire_timeout", own.acquire_timeout),
        ("statement_timeout", own.statement_timeout),
        ("idle_timeout", own.idle_timeout),
        ("max_lifetime", own.max_lifetime),
    ] {
        if duration.is_some_and(|duration| duration.is_zero()) {
            return Err(Error::config(format!("{field}.{part}"), "0 leaves no time; leave it out for the default"));
        }
    }
    let keep_warm = keep_warm(settings, field, own, &located.opener)?;
    let pooling = pooling(field, node, located.opener.backend())?;
    let lane = |max_connections, min_connections, default_acquire_timeout| LaneOptions {
        max_connections,
        min_connections,
        default_acquire_timeout,
        acquire_timeout: own.acquire_timeout,
        idle_timeout: own.idle_timeout,
        max_lifetime: own.max_lifetime,
        statement_timeout: own.statement_timeout,
        ping: match own.ping {
            None | Some(Ping::WhenIdle) => PingRule::IdleFor(settings.ping_after_idle),
            Some(Ping::Always) => PingRule::Always,
            Some(Ping::Never) => PingRule::Never,
        },
        sibling_ping: None,
        keep_warm,
        logging: own.sqlx_logging,
        on_connect: own.on_connect.clone().into(),
    };
    let sqlite = located.opener.backend() == DbBackend::Sqlite;
    let read_default = if sqlite { Some(SQLITE_READ_CONNECTIONS) } else { None };
    let half = max.unwrap_or(if sqlite { SQLITE_READ_CONNECTIONS } else { DEFAULT_MAX_CONNECTIONS }) / 2;
    let primary_reads = settings.primary_read_connections.unwrap_or(half.max(MIN_PRIMARY_READ_CONNECTIONS));
    let replica_reads = max.or(read_default);
    // The size of the pool does not depend on the seat, so that a promotion keeps the pool. The seat sets how many of the
    // connections may be in use.
    let unset = (primary_reads > DEFAULT_MAX_CONNECTIONS).then_some(primary_reads);
    let read_max = replica_reads.or(unset).map(|most| most.max(primary_reads));
    // The number of idle connections kept open does depend on the seat: the read-write pool of a replica stays
    // empty.
    let (read_min, write_min) = match role {
        Role::Primary => (Some(0), min),
        Role::Replica => (min, Some(0)),
    };
    Ok(NodePlan {
        name: name.into(),
        role,
        write: lane(own.max_connections, write_min, DEFAULT_WRITE_ACQUIRE_TIMEOUT),
        read: lane(read_max, read_min, settings.read_selection_timeout),
        primary_reads,
        replica_reads,
        identity: Identity { readable: identity_text(&located.readable, own), value: Arc::clone(&node.value) },
        member: MemberSettings {
            weight: weight(&format!("{field}.weight"), own.weight.unwrap_or(1))?,
            zone: own.zone.as_deref().map(Into::into),
            tags: Arc::new(own.tags.clone()),
            role_check: if own.role_check.unwrap_or(true) { RoleCheck::On } else { RoleCheck::Off },
            positions: if own.positions.unwrap_or(own.pooler.is_none()) { Positions::On } else { Positions::Off },
        },
        pooling,
        in_memory: located.in_memory,
        opener: located.opener,
    })
}

/// The proxy in front of the node, or the error that names a setting which its sessions could not keep.
fn pooling(field: &str, node: &NodeConfig, backend: DbBackend) -> Result<Pooling, Error> {
    let own = &node.settings;
    let pooling = match own.pooler {
        None => return Ok(Pooling::None),
        Some(_) if backend == DbBackend::Sqlite => {
            return Err(Error::config(
                format!("{field}.pooler"),
                "a SQLite file has no server and no proxy; leave it out",
            ));
        }
        Some(Pooler::Session) => return Ok(Pooling::Session),
        Some(Pooler::Transaction) => Pooling::Transaction,
    };
    let kept = [("statement_timeout", node.statement_limit().is_some()), ("on_connect", !own.on_connect.is_empty())];
    match kept.iter().find(|(_, is_set)| *is_set) {
        None => Ok(pooling),
        Some((part, _)) => Err(Error::config(
            format!("{field}.{part}"),
            "a pooler in transaction mode would show this setting to strangers; set it for the role or the database \
             (`ALTER ROLE … SET …`), or say `pooler = \"session\"` if the pooler runs in session mode",
        )),
    }
}

/// How long connections stay warm; `None` for not at all.
fn keep_warm(
    settings: &Settings,
    field: &str,
    own: &super::node::NodeSettings,
    opener: &Opener,
) -> Result<Option<Duration>, Error> {
    let is_pinged_always = own.ping == Some(Ping::Always);
    if is_pinged_always && own.keep_warm.is_some_and(|keep| !keep.is_zero()) {
        let problem =
            "a warm connection is not pinged before every use, as `ping = \"always\"` wants; leave one of them out";
        return Err(Error::config(format!("{field}.keep_warm"), problem));
    }
    // Only pools that the resolver opened have no hook that is meant to run for each statement.
    let is_all_ours = matches!(opener, Opener::Url(_)) && !is_pinged_always && !SEAORM_SPEAKS;
    let keep = own.keep_warm.unwrap_or(if is_all_ours { settings.keep_warm } else { Duration::ZERO });
    let (idle, lifetime) = match opener {
        Opener::Options(options, _) => (options.get_idle_timeout().flatten(), options.get_max_lifetime().flatten()),
        _ => (None, None),
    };
    let rules_of_the_pool = [Some(settings.ping_after_idle), own.idle_timeout.or(idle), own.max_lifetime.or(lifetime)];
    let keep = rules_of_the_pool.into_iter().flatten().fold(keep, Duration::min);
    Ok(Some(keep).filter(|keep| !keep.is_zero()))
}

/// The text of the settings that must be equal for two configurations to share pools: all settings but those that
/// can change without new pools (weight, zone, tags, role check, and whether the node is the primary).
fn identity_text(place: &str, own: &super::node::NodeSettings) -> Arc<str> {
    format!(
        "{place}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}",
        own.max_connections,
        own.min_connections,
        own.acquire_timeout,
        own.idle_timeout,
        own.max_lifetime,
        own.statement_timeout,
        own.sqlx_logging,
        own.ping,
        own.keep_warm,
        own.on_connect,
        own.pooler,
        own.positions
    )
    .into()
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectOptions;

    use super::*;

    fn hold(primary: NodeConfig) -> Duration {
        Settings::try_from(&Config::new(primary)).expect("valid").unknown_outcome_hold
    }

    #[test]
    fn a_write_of_unknown_outcome_is_held_for_the_statement_timeout_wherever_that_was_said() {
        let seconds = Duration::from_secs;
        let url = "postgres://shop@localhost/shop";
        let mut options = ConnectOptions::new(url);
        assert_eq!(hold(options.clone().into()), DEFAULT_UNKNOWN_OUTCOME_HOLD);
        options.statement_timeout(seconds(90));
        assert_eq!(hold(options.clone().into()), seconds(90));
        assert_eq!(hold(NodeConfig::from(options).statement_timeout(seconds(70))), seconds(70));
        assert_eq!(hold(NodeConfig::from(url).statement_timeout(seconds(80))), seconds(80));
    }

    /// The most reads at once of an open pool of this size, in the primary's seat and in a replica's.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    fn read_connections(open: &DatabaseConnection) -> [Option<u32>; 2] {
        let node = NodeConfig::from(open);
        let settings = Settings::try_from(&Config::new(node.clone())).expect("valid");
        let plan = |role| plan_nodes(&settings, &[("node".to_owned(), &node, role)], &[]).expect("valid").remove(0);
        let [primary, replica] = [Role::Primary, Role::Replica].map(plan);
        assert_eq!(primary.read.max_connections, replica.read.max_connections, "a promotion keeps the pool");
        [Some(primary.primary_reads), replica.replica_reads]
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn the_reads_of_an_open_postgres_pool_have_connections_by_its_size() {
        use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};

        for (size, reads) in [(60, [Some(30), Some(60)]), (2, [Some(2), Some(2)])] {
            let pool = PgPoolOptions::new().max_connections(size).connect_lazy_with(PgConnectOptions::new());
            assert_eq!(read_connections(&pool.into()), reads);
        }
    }

    #[cfg(feature = "mysql")]
    #[tokio::test]
    async fn the_reads_of_an_open_mysql_pool_have_connections_by_its_size() {
        use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};

        let pool = MySqlPoolOptions::new().max_connections(60).connect_lazy_with(MySqlConnectOptions::new());
        assert_eq!(read_connections(&pool.into()), [Some(30), Some(60)]);
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn the_reads_of_an_open_sqlite_pool_have_connections_by_its_size_unless_that_is_for_the_writers() {
        use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

        for (size, reads) in [(12, [Some(6), Some(12)]), (1, [Some(2), Some(4)])] {
            let file = SqliteConnectOptions::new().filename("never-opened.db");
            let pool = SqlitePoolOptions::new().max_connections(size).connect_lazy_with(file);
            assert_eq!(read_connections(&pool.into()), reads);
        }
    }
}
