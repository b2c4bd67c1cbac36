//! Turns the configuration of each node into a plan for opening it. Every error names its field.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sea_orm::{DatabaseConnectionType, DbBackend};

use super::{
    Config, NodeConfig, Ping, Pooler, Settings,
    adopted::Adopted,
    node::{NodeSettings, Source, weight},
};
use crate::{
    Error,
    driver::{
        CredentialsCache, CredentialsSource, Elsewhere, LaneOptions, Opener, PingRule, Pooling, SEAORM_SPEAKS,
        SecretUrl,
    },
    topology::{Identity, MemberSettings, Positions, Role, RoleCheck},
};

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
    /// `None` for a node whose connections have no login of the resolver's.
    pub(crate) credentials: Option<Arc<CredentialsCache>>,
}

/// sqlx's own defaults, which SeaORM leaves alone.
const DEFAULT_MAX_CONNECTIONS: u32 = 10;
const DEFAULT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const MIN_PRIMARY_READ_CONNECTIONS: u32 = 2;
/// How long a read queues at one node whose read connections are all in use, and stay in use, before it asks another node.
const QUEUE_FOR: Duration = Duration::from_secs(1);
/// SeaORM opens one connection to SQLite, because writers exclude each other; readers do not.
const SQLITE_READ_CONNECTIONS: u32 = 4;

/// Checks everything that can be known without a database.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    plan_all(config, &Settings::try_from(config)?).map(drop)
}

/// Plans all nodes of a configuration: the primary first.
pub(crate) fn plan_all(config: &Config, settings: &Settings) -> Result<Vec<NodePlan>, Error> {
    let Some(primary) = &config.primary else {
        return Err(Error::config("primary", "it is missing; give the node that takes the writes"));
    };
    let replicas = config.replicas.iter().enumerate();
    let replicas = replicas.map(|(index, node)| (format!("replicas[{index}]"), node, Role::Replica));
    let nodes: Vec<_> = std::iter::once(("primary".to_owned(), primary, Role::Primary)).chain(replicas).collect();
    let plans = plan_nodes(settings, &nodes, &[])?;
    let kind =
        |((field, ..), plan): (&(String, _, _), &NodePlan)| (field.clone(), plan.opener.backend(), plan.in_memory);
    check_together(&nodes.iter().zip(&plans).map(kind).collect::<Vec<_>>())?;
    Ok(plans)
}

/// Plans the nodes of a topology: the primary first. `taken` are names of members that stay.
pub(crate) fn plan_nodes(
    settings: &Settings,
    nodes: &[(String, &NodeConfig, Role)],
    taken: &[String],
) -> Result<Vec<NodePlan>, Error> {
    let mut names: BTreeSet<String> = taken.iter().cloned().collect();
    for (field, node, _) in nodes {
        if let Some(problem) = &node.problem {
            return Err(Error::config(problem.path_below(field), &problem.text));
        }
        if node.settings.on_connect.is_cut() {
            let problem = "the end of a statement was left out when the configuration was serialised; give it again";
            return Err(Error::config(format!("{field}.on_connect"), problem));
        }
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

/// A node whose address was read.
struct Located {
    opener: Opener,
    readable: String,
    default_name: String,
    in_memory: bool,
    /// The sizes that the `ConnectOptions` or the open pool set.
    max_connections: Option<u32>,
    min_connections: Option<u32>,
}

impl Located {
    fn at(url: &SecretUrl, opener: Opener, readable: String) -> Self {
        let (default_name, in_memory) = (url.default_name.clone(), url.in_memory);
        Self { opener, readable, default_name, in_memory, max_connections: None, min_connections: None }
    }
}

fn locate(field: &str, node: &NodeConfig) -> Result<Located, Error> {
    let parse = |url: &str| SecretUrl::parse(url).map_err(|problem| Error::config(format!("{field}.url"), problem));
    let located = match &node.source {
        Source::Url(text) => {
            let url = parse(text)?;
            Located::at(&url, Opener::Url(url.clone()), text.clone())
        }
        Source::Options(options) => {
            let url = parse(options.get_url())?;
            if options.get_url().trim_start().get(..8).is_some_and(|start| start.eq_ignore_ascii_case("mariadb:")) {
                // SeaORM would repeat the URL, password and all, in its error.
                let problem = "SeaORM's ConnectOptions know this protocol as `mysql://`";
                return Err(Error::config(format!("{field}.url"), problem));
            }
            Located {
                max_connections: options.get_max_connections(),
                min_connections: options.get_min_connections(),
                ..Located::at(&url, Opener::Options(options.clone(), url.clone()), format!("{options:?}"))
            }
        }
        Source::Connection(connection) => {
            if matches!(connection.inner, DatabaseConnectionType::Disconnected) {
                return Err(Error::config(field, "the SeaORM connection that was given is not connected"));
            }
            let Adopted { name, identity, in_memory, max_connections } = Adopted::of(connection);
            Located {
                opener: Opener::Adopted(connection.clone()),
                readable: identity,
                default_name: name,
                in_memory,
                max_connections,
                // The read-only sibling has the pool's own minimum, unless the node says otherwise.
                min_connections: None,
            }
        }
        Source::Driver(driver) => Located {
            opener: Opener::Scripted(Arc::clone(driver)),
            readable: format!("driver {:p}", Arc::as_ptr(driver)),
            default_name: "scripted".to_owned(),
            in_memory: false,
            max_connections: None,
            min_connections: None,
        },
    };
    check_feature(field, located.opener.backend())?;
    Ok(located)
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
    let max = own.max_connections.or(located.max_connections);
    let min = own.min_connections.or(located.min_connections);
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
    // So that a read can ask two other nodes within the time.
    let third = own.acquire_timeout.unwrap_or(DEFAULT_ACQUIRE_TIMEOUT) / 3;
    let elsewhere = Elsewhere {
        queue_for: QUEUE_FOR.min(third),
        queue_at_most: third,
        connect_within: settings.connect_timeout.min(third),
    };
    let keep_warm = keep_warm(settings, field, own, &located.opener)?;
    let pooling = pooling(field, node, located.opener.backend())?;
    let credentials = credentials(settings, field, node, &located.opener, name)?;
    let lane = |max_connections, min_connections, elsewhere| LaneOptions {
        max_connections,
        min_connections,
        elsewhere,
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
        on_connect: own.on_connect.0.clone().into(),
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
        write: lane(own.max_connections, write_min, None),
        read: lane(read_max, read_min, Some(elsewhere)),
        primary_reads,
        replica_reads,
        identity: Identity { readable: identity(node, &located.readable).into(), value: Arc::clone(&node.value) },
        member: MemberSettings {
            weight: weight(&format!("{field}.weight"), own.weight.unwrap_or(1))?,
            zone: own.zone.as_deref().map(Into::into),
            tags: Arc::new(own.tags.clone()),
            role_check: if own.role_check.unwrap_or(true) { RoleCheck::On } else { RoleCheck::Off },
            positions: if own.positions.unwrap_or(own.pooler.is_none()) { Positions::On } else { Positions::Off },
        },
        pooling,
        credentials,
        in_memory: located.in_memory,
        opener: located.opener,
    })
}

/// Everything that two nodes which share their pools have in common.
fn identity(node: &NodeConfig, located: &str) -> String {
    let own = &node.settings;
    // Closures cannot be compared.
    let hook = node.credentials.as_ref().map(|hook| Arc::as_ptr(hook).cast::<()>());
    format!("{located}|{hook:?}|{:?}|{:?}", own.of_the_pools(), own.on_connect.0)
}

/// The credentials of the node, or the error that names the setting which cannot give them.
fn credentials(
    settings: &Settings,
    field: &str,
    node: &NodeConfig,
    opener: &Opener,
    name: &str,
) -> Result<Option<Arc<CredentialsCache>>, Error> {
    let own = &node.settings;
    let files = [("password_file", &own.password_file), ("user_file", &own.user_file)];
    let wrong = |part: &str, problem: &str| Err(Error::config(format!("{field}.{part}"), problem));
    if own.credentials.is_some() {
        return wrong(
            "credentials",
            "a hook cannot be read from a file: give it in code by `NodeConfig::credentials`, or name a `password_file`",
        );
    }
    let named = files.iter().find(|(_, path)| path.is_some()).map(|(part, _)| *part);
    let Some(part) = node.credentials.as_ref().map(|_| "credentials").or(named) else {
        return Ok(has_login(opener).then(|| new_cache(settings, name, None)));
    };
    if !has_login(opener) {
        return wrong(
            part,
            match opener {
                _ if opener.backend() == DbBackend::Sqlite => "a SQLite file has no login; leave it out",
                _ => {
                    "a connection that is given open has the login of its pool; call sqlx's `set_connect_options` on the \
                     pool when the login changes, or give a URL"
                }
            },
        );
    }
    if let (Some(_), Some(part)) = (&node.credentials, named) {
        return wrong(part, "the node has a hook for its credentials; leave one of the two out");
    }
    if let Some((part, _)) =
        files.iter().find(|(_, path)| path.as_ref().is_some_and(|path| path.as_os_str().is_empty()))
    {
        return wrong(part, "it is blank; give the path of a file");
    }
    let source = match &node.credentials {
        Some(hook) => CredentialsSource::Hook(Arc::clone(hook)),
        None => CredentialsSource::Files { user: own.user_file.clone(), password: own.password_file.clone() },
    };
    Ok(Some(new_cache(settings, name, Some(source))))
}

/// Whether the resolver logs in at the node.
fn has_login(opener: &Opener) -> bool {
    matches!(opener, Opener::Url(_) | Opener::Options(..)) && opener.backend() != DbBackend::Sqlite
}

fn new_cache(settings: &Settings, name: &str, source: Option<CredentialsSource>) -> Arc<CredentialsCache> {
    // The rest of the time is for the connection.
    CredentialsCache::new(name.into(), source, settings.connect_timeout * 3 / 4)
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
fn keep_warm(settings: &Settings, field: &str, own: &NodeSettings, opener: &Opener) -> Result<Option<Duration>, Error> {
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
    let rules_of_the_pool = [own.idle_timeout.or(idle), own.max_lifetime.or(lifetime)];
    let keep = rules_of_the_pool.into_iter().flatten().fold(keep, Duration::min);
    Ok(Some(keep).filter(|keep| !keep.is_zero()))
}
