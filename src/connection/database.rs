//! Opens a connection: from a configuration to connected nodes.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use sea_orm::{DatabaseConnectionType, DbBackend, DbErr};

use super::{facade::DatabaseConnection, shared::Shared};
use crate::{
    Error,
    clock::Clock,
    config::{
        Config, Consistency, NodeConfig, PolicyKind, Settings, StatementRoute, StatementRule, check_together,
        plan_nodes,
    },
    driver::Disconnected,
    monitor::{FirstAnswer, Writer, check_role, connect_all},
    routing::{BadRule, Intent, LeastInFlight, Policy, RoundRobin, StatementRouter, WeightedRandom},
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
    /// answered or its connect time-out (2 s) has passed. A replica that is down becomes a member that is down, and
    /// the monitor goes on connecting to it. One URL without replicas behaves as SeaORM alone.
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

    /// See [`Config::primary_read_share`]. Default: 0.10.
    pub fn primary_read_share(mut self, share: f64) -> Self {
        self.config.primary_read_share = share;
        self
    }

    /// See [`Config::primary_read_connections`].
    pub fn primary_read_connections(mut self, connections: u32) -> Self {
        self.config.primary_read_connections = Some(connections);
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

    /// Which writes a read must see. Default: [`Consistency::Session`].
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.config.consistency = consistency;
        self
    }

    /// See [`Config::wait_for_replica`]. Default: not at all.
    pub fn wait_for_replica(mut self, longest: Duration) -> Self {
        self.config.wait_for_replica = longest;
        self
    }

    /// See [`Config::primary_staleness_cap`]. Default: 0.5.
    pub fn primary_staleness_cap(mut self, cap: f64) -> Self {
        self.config.primary_staleness_cap = cap;
        self
    }

    /// See [`Config::max_lag`]. Default: 10 s.
    pub fn max_lag(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.config.max_lag = limit.into();
        self
    }

    /// See [`Config::max_lag_bytes`]. Default: no limit.
    pub fn max_lag_bytes(mut self, limit: impl Into<Option<u64>>) -> Self {
        self.config.max_lag_bytes = limit.into();
        self
    }

    /// See [`Config::report_stale_reads`]. Default: off.
    pub fn report_stale_reads(mut self, report: bool) -> Self {
        self.config.report_stale_reads = report;
        self
    }

    /// See [`Config::stick_after_write`]. Default: 1 s.
    pub fn stick_after_write(mut self, duration: Duration) -> Self {
        self.config.stick_after_write = duration;
        self
    }

    /// See [`Config::unknown_outcome_hold`].
    pub fn unknown_outcome_hold(mut self, duration: Duration) -> Self {
        self.config.unknown_outcome_hold = Some(duration);
        self
    }

    /// See [`Config::read_selection_timeout`]. Default: 1 s.
    pub fn read_selection_timeout(mut self, timeout: Duration) -> Self {
        self.config.read_selection_timeout = timeout;
        self
    }

    /// See [`Config::connect_timeout`]. Default: 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// See [`Config::probe_interval`]. Default: 1 s.
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.config.probe_interval = interval;
        self
    }

    /// See [`Config::max_questions_per_second`]. Default: 500.
    pub fn max_questions_per_second(mut self, questions: u32) -> Self {
        self.config.max_questions_per_second = questions;
        self
    }

    /// See [`Config::probe_timeout`]. Default: 500 ms.
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.config.probe_timeout = timeout;
        self
    }

    /// See [`Config::keep_warm`]. Default: 1 s.
    pub fn keep_warm(mut self, keep: Duration) -> Self {
        self.config.keep_warm = keep;
        self
    }

    /// See [`Config::ping_after_idle`]. Default: 5 s.
    pub fn ping_after_idle(mut self, idle: Duration) -> Self {
        self.config.ping_after_idle = idle;
        self
    }

    /// See [`Config::drain_timeout`]. Default: 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// See [`Config::connect_lazy`]. Default: off.
    pub fn connect_lazy(mut self, lazy: bool) -> Self {
        self.config.connect_lazy = lazy;
        self
    }

    /// Makes the draws of tiers and replicas repeatable. Default: from the operating system.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
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

async fn open(config: Config, policy: Option<Arc<dyn Policy>>) -> Result<DatabaseConnection, Error> {
    let settings = Settings::try_from(&config)?;
    let Some(primary) = &config.primary else {
        return Err(Error::config("primary", "it is missing; give the node that takes the writes"));
    };
    let mut nodes = vec![("primary".to_owned(), primary, Role::Primary)];
    nodes.extend(
        config.replicas.iter().enumerate().map(|(index, node)| (format!("replicas[{index}]"), node, Role::Replica)),
    );
    let plans = plan_nodes(&settings, &nodes, &[])?;
    let kinds: Vec<_> = nodes
        .iter()
        .zip(&plans)
        .map(|((field, ..), plan)| (field.clone(), plan.opener.backend(), plan.in_memory))
        .collect();
    check_together(&kinds)?;

    let lazy = settings.connect_lazy || primary.is_lazy();
    let first = match (lazy, config.replicas.is_empty()) {
        (true, _) => FirstAnswer::NotAsked,
        (false, true) => FirstAnswer::Alone,
        (false, false) => FirstAnswer::Full,
    };
    let backend = plans[0].opener.backend();
    let clock = Clock::start();
    let mut members = connect_all(plans, first, settings.connect_timeout, clock).await?.into_iter();
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
            replica.member.node.down().raise();
        }
        replicas.push(replica.member);
    }
    if let Some(refused) = refused {
        return Err(refused);
    }

    let router = router(&config, backend)?;
    let policy = policy.unwrap_or_else(|| named_policy(settings.policy));
    let seed = settings.seed.unwrap_or_else(rand_seed);
    let mut topology = Topology {
        generation: 1,
        primary: primary.member,
        replicas,
        primary_read_share: settings.primary_read_share,
        believed_for: settings.probe_interval.saturating_mul(3),
        samples: Samples::default(),
        lag_limit: settings.lag_limit,
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
