//! Opens a connection: from a configuration to connected nodes.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use sea_orm::{DatabaseConnectionType, DbBackend, DbErr};

use super::{facade::DatabaseConnection, shared::Shared};
use crate::{
    Error,
    clock::Clock,
    config::{Config, Consistency, NodeConfig, PolicyKind, Settings, StatementRoute, StatementRule, plan_all},
    driver::Disconnected,
    monitor::{ConnectLimits, FirstAnswer, Writer, check_role, connect_all},
    routing::{
        BadRule, InZone, Intent, LeastInFlight, LeastLatency, Policy, RoundRobin, StatementRouter, WeightedRandom,
    },
    telemetry,
    topology::{Answerer, Role, Samples, Topology, Unfit},
};

/// Opens connections, as SeaORM's type of the same name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Database;

impl Database {
    /// Opens a connection: a URL, SeaORM's `ConnectOptions`, or a [`Config`].
    ///
    /// All nodes are connected at the same time. Returns when the primary has answered and every replica has
    /// answered or its connect time-out (2 s) has passed. A primary that is starting is waited for
    /// ([`Config::primary_connect_timeout`], 30 s). A replica that is down becomes a member that is down, and the monitor
    /// goes on connecting to it. One URL without replicas behaves as SeaORM alone.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use sea_orm_resolver::{Config, Database};
    ///
    /// let db = Database::connect(Config::from_env()?).await?; // DATABASE_URL, DATABASE_REPLICA_URLS
    /// # let _ = db;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A configuration that cannot work ([`Error::is_config`]), or a primary that does not answer
    /// ([`Error::is_unreachable`]), unless `connect_lazy` is set.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn connect<C: Into<Config>>(config: C) -> Result<DatabaseConnection, DbErr> {
        open(config.into(), None).await.map_err(Into::into)
    }
}

/// A configuration in code, made by [`DatabaseConnection::builder`].
///
/// # Example
/// ```no_run
/// # async fn f() -> Result<(), sea_orm::DbErr> {
/// use std::time::Duration;
///
/// use sea_orm_resolver::{DatabaseConnection, NodeConfig};
///
/// let db = DatabaseConnection::builder()
///     .primary("postgres://shop:secret@db-1/shop")
///     .replica(NodeConfig::new("postgres://shop:secret@db-2/shop").weight(2))
///     .replica("postgres://shop:secret@db-3/shop")
///     .max_lag(Duration::from_secs(5))
///     .connect()
///     .await?;
/// # let _ = db;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is opened until `connect`"]
pub struct Builder {
    config: Config,
    policy: Option<Arc<dyn Policy>>,
}

impl Builder {
    /// Starts from a configuration that was read elsewhere.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The node that takes the writes. Required.
    pub fn primary(mut self, node: impl Into<NodeConfig>) -> Self {
        self.config.primary = Some(node.into());
        self
    }

    /// Adds a replica.
    pub fn replica(mut self, node: impl Into<NodeConfig>) -> Self {
        self.config.replicas.push(node.into());
        self
    }

    /// Adds replicas.
    pub fn replicas<I>(mut self, nodes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<NodeConfig>,
    {
        self.config.replicas.extend(nodes.into_iter().map(Into::into));
        self
    }

    /// Names functions that are harmless to call on a replica; see [`Config::harmless_functions`].
    pub fn harmless_functions<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.config.harmless_functions.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sends statements of the shape of `sql` somewhere; see [`StatementRule`].
    pub fn statement(mut self, sql: impl Into<String>, route: StatementRoute) -> Self {
        self.config.statements.push(StatementRule::new(sql, route));
        self
    }

    /// The policy that chooses a replica. Default: [`LeastInFlight`].
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// The zone of this process, whose replicas reads prefer; see [`Config::zone`]. Default: none.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.config.zone = Some(zone.into());
        self
    }

    /// Opens the connection; see [`Database::connect`].
    ///
    /// # Errors
    /// As [`Database::connect`].
    ///
    /// # Cancel safety
    /// As [`Database::connect`].
    pub async fn connect(self) -> Result<DatabaseConnection, DbErr> {
        open(self.config, self.policy).await.map_err(Into::into)
    }
}

/// Makes a setter of the [`Builder`] for each option that needs nothing but the value.
macro_rules! setters {
    ($($(#[$docs:meta])* $option:ident: $value:ty,)*) => {
        impl Builder {
            $($(#[$docs])*
            pub fn $option(mut self, $option: $value) -> Self {
                self.config.$option = $option.into();
                self
            })*
        }
    };
}

setters! {
    /// See [`Config::primary_read_share`]. Default: 0.10.
    primary_read_share: f64,
    /// See [`Config::primary_read_connections`].
    primary_read_connections: u32,
    /// Which writes a read must see. Default: [`Consistency::Session`].
    consistency: Consistency,
    /// See [`Config::wait_for_replica`]. Default: not at all.
    wait_for_replica: Duration,
    /// See [`Config::primary_staleness_cap`]. Default: 0.5.
    primary_staleness_cap: f64,
    /// See [`Config::max_lag`]. Default: 10 s.
    max_lag: impl Into<Option<Duration>>,
    /// See [`Config::max_lag_bytes`]. Default: no limit.
    max_lag_bytes: impl Into<Option<u64>>,
    /// See [`Config::report_stale_reads`]. Default: off.
    report_stale_reads: bool,
    /// See [`Config::stick_after_write`]. Default: 1 s.
    stick_after_write: Duration,
    /// See [`Config::unknown_outcome_hold`].
    unknown_outcome_hold: Duration,
    /// See [`Config::read_selection_timeout`]. Default: 30 s.
    read_selection_timeout: Duration,
    /// See [`Config::connect_timeout`]. Default: 2 s.
    connect_timeout: Duration,
    /// See [`Config::primary_connect_timeout`]. Default: the `acquire_timeout` of the primary, else 30 s.
    primary_connect_timeout: Duration,
    /// See [`Config::probe_interval`]. Default: 1 s.
    probe_interval: Duration,
    /// See [`Config::max_questions_per_second`]. Default: 500.
    max_questions_per_second: u32,
    /// See [`Config::probe_timeout`]. Default: 500 ms.
    probe_timeout: Duration,
    /// See [`Config::keep_warm`]. Default: 1 s.
    keep_warm: Duration,
    /// See [`Config::silent_after`]. Default: 10 s.
    silent_after: impl Into<Option<Duration>>,
    /// See [`Config::ping_after_idle`]. Default: 100 ms.
    ping_after_idle: Duration,
    /// See [`Config::slow_start`]. Default: 10 s.
    slow_start: Duration,
    /// See [`Config::hedge`]. Default: 0, no read is started twice.
    hedge: f64,
    /// See [`Config::drain_timeout`]. Default: 30 s.
    drain_timeout: Duration,
    /// See [`Config::connect_lazy`]. Default: off.
    connect_lazy: bool,
    /// Makes the draws of tiers and replicas repeatable. Default: from the operating system.
    seed: u64,
}

async fn open(config: Config, policy: Option<Arc<dyn Policy>>) -> Result<DatabaseConnection, Error> {
    let settings = Settings::try_from(&config)?;
    let plans = plan_all(&config, &settings)?;
    let lazy = settings.connect_lazy || config.primary.as_ref().is_some_and(NodeConfig::is_lazy);
    let first = match (lazy, config.replicas.is_empty()) {
        (true, _) => FirstAnswer::NotAsked,
        (false, true) => FirstAnswer::Alone,
        (false, false) => FirstAnswer::Full,
    };
    let backend = plans[0].opener.backend();
    let clock = Clock::start();
    let limits = ConnectLimits { each: settings.connect_timeout, primary: Some(settings.primary_connect_timeout()) };
    let mut members = connect_all(plans, first, limits, clock).await?.into_iter();
    let primary = members.next().expect("the primary was planned first");
    if let Some(failure) = primary.failure {
        return Err(failure);
    }
    let (seat, member) = (Role::Primary, &primary.member);
    let refused = check_role(member.name(), seat, member.settings.role_check, member.observed.as_ref()).err();
    let mut replicas = Vec::with_capacity(members.len());
    for replica in members {
        if let Some(failure) = &replica.failure {
            // A session that is not read-only stays so: connecting again later would not mend that.
            if failure.is_not_read_only() {
                return Err(failure.clone());
            }
            telemetry::down_at_start(replica.member.name(), failure);
            replica.member.node.losses().set_down(true);
        }
        replicas.push(replica.member);
    }
    if let Some(refused) = refused {
        return Err(refused);
    }

    let router = router(&config, backend)?;
    let policy = policy.unwrap_or_else(|| named_policy(settings.policy));
    let policy = match settings.zone.as_deref() {
        Some(zone) => Arc::new(InZone::new(zone, policy)),
        None => policy,
    };
    let seed = settings.seed.unwrap_or_else(rand_seed);
    let mut topology = Topology {
        generation: 1,
        primary: primary.member,
        replicas,
        primary_read_share: settings.primary_read_share,
        believed_for: settings.probe_interval.saturating_mul(3),
        samples: Samples::default(),
        lag_limit: settings.lag_limit(),
        slow_start: settings.slow_start,
    };
    topology.sample(Answerer::Other);
    for replica in topology.replicas.iter().filter(|replica| replica.is_of_other_cluster()) {
        telemetry::other_cluster(replica.name(), replica.says(Unfit::OtherCluster), &topology);
    }
    telemetry::connected(&topology);
    let watched = !topology.is_single();
    let shared = Shared::new(Writer::new(topology, settings, clock, Arc::new(router)), policy, seed, backend);
    if watched {
        shared.monitor.ensure_running();
    }
    Ok(DatabaseConnection::new(Arc::new(shared)))
}

fn router(config: &Config, backend: DbBackend) -> Result<StatementRouter, Error> {
    for (index, name) in config.harmless_functions.iter().enumerate() {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "()\"`;".contains(c)) {
            let problem = format!("`{name}` is not a name such as `full_name` or `shop.price_of`");
            return Err(Error::config(format!("harmless_functions[{index}]"), problem));
        }
    }
    let rules = config.statements.iter().map(|rule| {
        let intent = match rule.route {
            StatementRoute::Primary => Intent::Write,
            StatementRoute::Replica => Intent::Read,
        };
        (rule.shape.as_str(), intent)
    });
    StatementRouter::new(backend, &config.harmless_functions, rules).map_err(|(index, problem)| {
        let problem = match problem {
            BadRule::Empty => "it holds no statement".to_owned(),
            BadRule::Unreadable => "its end cannot be found; close every literal, name and comment".to_owned(),
            BadRule::Writes(reason) => format!("it can only run on the primary: {reason}"),
            BadRule::Contradicts => "another rule for the same shape says otherwise".to_owned(),
        };
        Error::config(format!("statements[{index}].shape"), problem)
    })
}

fn named_policy(kind: PolicyKind) -> Arc<dyn Policy> {
    match kind {
        PolicyKind::LeastInFlight => Arc::new(LeastInFlight),
        PolicyKind::LeastLatency => Arc::new(LeastLatency::default()),
        PolicyKind::RoundRobin => Arc::new(RoundRobin::default()),
        PolicyKind::WeightedRandom => Arc::new(WeightedRandom),
    }
}

fn rand_seed() -> u64 {
    use rand::{SeedableRng, rngs::SmallRng};

    SmallRng::try_from_rng(&mut rand::rngs::SysRng).map_or_else(
        // Without randomness from the system the draws are still uniform, but predictable.
        |_| 0x5eed,
        |mut rng| rand::Rng::next_u64(&mut rng),
    )
}

impl From<sea_orm::DatabaseConnection> for DatabaseConnection {
    /// Wraps an open SeaORM connection (a pool or a mock) as a primary without replicas. A `Disconnected`
    /// connection fails every operation, as in SeaORM.
    fn from(connection: sea_orm::DatabaseConnection) -> Self {
        let node = match connection.inner {
            DatabaseConnectionType::Disconnected => {
                NodeConfig::from_driver(Arc::new(Disconnected)).name("disconnected")
            }
            _ => NodeConfig::from(connection),
        };
        let config = Config { connect_lazy: true, ..Config::new(node) };
        open(config, None)
            .now_or_never()
            .expect("an open connection is adopted without waiting")
            .expect("an open connection is a configuration that works")
    }
}
