//! What the user wrote: plain, serde, validated once. No handle, clock or task is made here.

mod adopted;
mod consistency;
mod content;
mod duration;
mod env;
mod hooks;
mod node;
mod plan;
mod settings;
mod statement;

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use consistency::Consistency;
use content::{Content, Problem};
pub(crate) use node::weight;
pub use node::{NodeConfig, Ping, Pooler};
pub(crate) use plan::{NodePlan, check_together, plan_all, plan_nodes};
pub(crate) use settings::{Settings, share};
pub use statement::{StatementRoute, StatementRule};

/// Everything a connection can be told, with a default for all of it but the primary.
///
/// Build it in code, read it from [the environment](Self::from_env), or have serde read it from
/// the file that the application already loads:
///
/// # Example
/// ```
/// # use sea_orm_resolver::Config;
/// let config: Config = toml::from_str(r#"
///     primary = "postgres://shop:secret@db-1/shop"
///     primary_read_share = 0.10
///     zone = "a"
///     consistency = "session"
///
///     [[statements]]
///     shape = "SELECT * FROM daily_report WHERE day = ?"
///     route = "primary"
///
///     [[replicas]]
///     url = "postgres://shop:secret@db-2/shop"
///     weight = 2
///     zone = "a"
///
///     [[replicas]]
///     url = "postgres://shop:secret@db-3/shop"
///     acquire_timeout = "800ms"
/// "#)?;
/// # Ok::<(), toml::de::Error>(())
/// ```
///
/// Durations are texts such as `"500ms"`, `"1s"` or `"2min"`. Serialising never writes a password.
///
/// Reading a file never fails for a value or a name in it, because the error of a format would quote the value, or the line,
/// on which a password may stand. A value that cannot work, or a field that nothing knows, is an error when the
/// configuration is [checked](Self::check) or used to connect; the error names the field and repeats no value. A text
/// that is no TOML or JSON at all is an error of that format, whose text quotes a line: do not log it as it is (of
/// `toml::de::Error`, log `message()`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, remote = "Self")]
#[non_exhaustive]
pub struct Config {
    /// The node that takes the writes. Required.
    pub primary: Option<NodeConfig>,
    /// The nodes that take the replicas' share of the reads. Default: none.
    pub replicas: Vec<NodeConfig>,
    /// The share of the reads that the primary takes, 0 to 1. Default: 0.10.
    pub primary_read_share: f64,
    /// The most connections the primary opens for reads. Default: half of its `max_connections`,
    /// at least 2. They are opened on demand and keep reads from starving writes.
    pub primary_read_connections: Option<u32>,
    /// Functions that are harmless to call on a replica: they neither write, nor lock, nor depend on the
    /// session. Names as the database stores them, `full_name` or `shop.price_of`. On PostgreSQL the
    /// catalogue says it of functions that are marked `IMMUTABLE` or `STABLE`; elsewhere a statement that
    /// calls a function which is not built in goes to the primary unless it is named here. Default: none.
    pub harmless_functions: Vec<String>,
    /// Where statements of given shapes go, whatever their text says. Default: none.
    pub statements: Vec<StatementRule>,
    /// How a replica is chosen. Default: `least_in_flight`.
    pub policy: PolicyKind,
    /// The zone of this process. Reads prefer the replicas whose [`NodeConfig::zone`] is the same text, and leave the zone when
    /// none of them may serve the read or all their read connections are busy; see [`InZone`](crate::InZone). The policy in
    /// use chooses among the replicas of the zone, and else among those elsewhere. The primary takes its
    /// `primary_read_share` in whatever zone the primary is. Default: none, and zones do not count.
    pub zone: Option<String>,
    /// Which writes a read must see. Default: `session`.
    pub consistency: Consistency,
    /// How long a read waits for a replica that is known to have what the read must see, before the primary serves it.
    /// Default: not at all.
    #[serde(with = "duration")]
    pub wait_for_replica: Duration,
    /// The share of the routed reads (0 to 1) that staleness may send to the primary while more than half of the
    /// primary's read connections are busy. A read above it waits up to 50 ms for a replica that is expected to be known
    /// to have the write by then; after that, or with no such replica, the primary serves the read. (Below 40
    /// `max_questions_per_second` no replica is: two questions take longer.) Bursts of 100 reads are free. `strong`
    /// reads do not count. Default: 0.5.
    pub primary_staleness_cap: f64,
    /// A replica that is further behind than this takes no reads, until it is behind by less than half of it
    /// at three probes in a row. For replicas with positions; none (`"off"` in a file) means no limit. Default: 10 s.
    #[serde(with = "duration::or_off")]
    pub max_lag: Option<Duration>,
    /// As `max_lag`, in bytes of write-ahead log (PostgreSQL only). Default: no limit.
    pub max_lag_bytes: Option<u64>,
    /// A development aid: warn of each read of an explicit session that `eventual` let run on a replica which is not known to
    /// have the session's own writes, with the statement, inside the span of its caller. Default: off.
    pub report_stale_reads: bool,
    /// How long after a write the reads that must see it keep to the primary, where the position of a replica
    /// is not known. Default: 1 s.
    #[serde(with = "duration")]
    pub stick_after_write: Duration,
    /// How long an explicit session reads from the primary after a write of its own whose outcome is unknown
    /// (cancelled after it was sent, connection lost). Other reads are not held. Default: the primary's statement time-out,
    /// else 30 s.
    #[serde(with = "duration::optional")]
    pub unknown_outcome_hold: Option<Duration>,
    /// How long a read waits for a node that may serve it, at most as long as the primary's pool would wait
    /// (`acquire_timeout`): SeaORM alone, too, serves a read once a primary that restarts is back. Shorter makes reads
    /// fail sooner while no node may serve them. Default: 30 s.
    #[serde(with = "duration")]
    pub read_selection_timeout: Duration,
    /// How long a node may take to answer when it is connected. Default: 2 s, all nodes at once. `connect` gives the
    /// primary more time: `primary_connect_timeout`.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long `connect` waits for a primary that refuses connections, is starting, has no free slot (PostgreSQL's 57P03
    /// and 53300) or does not answer. The error then names the primary and the last reason. An error that no waiting mends,
    /// such as a wrong password or an unknown database, ends `connect` at once. A replica is waited for as long as
    /// `connect_timeout`, and joins the reads when it answers. Default: the `acquire_timeout` of the primary, else 30 s, as
    /// long as SeaORM alone waits.
    #[serde(with = "duration::optional")]
    pub primary_connect_timeout: Option<Duration>,
    /// Time between two probes of a node, varied by a fifth. Default: 1 s.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
    /// The most questions that this process asks its servers in a second, all nodes together, so that reads learn
    /// which replica has what was written. While more reads wait than that serves, one question serves more of them,
    /// and each waits longer. The probes of `probe_interval` count, and are never held back. Default: 500, of which the
    /// primary hears half: that took PostgreSQL 3 to 6 % of a core. For a fleet of 1 000 processes see
    /// [`costs`](crate::costs). At least 1.
    pub max_questions_per_second: u32,
    /// How long a probe may take. Default: 500 ms.
    #[serde(with = "duration")]
    pub probe_timeout: Duration,
    /// When a write, or another operation that cannot be sent to a second node, ends although the server said nothing:
    /// once no connection to the node has answered for this long, while another member answered. The error says whether
    /// the outcome is unknown ([`Error::is_outcome_unknown`](crate::Error::is_outcome_unknown)). SeaORM alone would wait
    /// for ever. The node must also be down by its probes, so a shorter time than three `probe_timeout`s means no more than
    /// that. A long statement is not ended while its node answers anything. `None` (`"off"` in a file) waits, too.
    /// Default: 10 s.
    #[serde(with = "duration::or_off")]
    pub silent_after: Option<Duration>,
    /// A connection that was idle for this long, pooled or warm, is pinged before it is used: its server, a pooler or a
    /// firewall may have ended the session. A connection in steady use never rests so long. Default: 100 ms.
    #[serde(with = "duration")]
    pub ping_after_idle: Duration,
    /// How long a connection stays at hand between statements, before its pool has it back and pings it (sqlx
    /// does so each time a connection is given back); zero for not at all. Transactions and streams take theirs out of
    /// the pool. Once SeaORM's own handle of a pool was lent out
    /// ([`primary`](crate::DatabaseConnection::primary), a migration), a connection stays at hand only while that pool
    /// has another to give; in a pool of one, none. Never longer than
    /// `idle_timeout` and `max_lifetime` of the node. For nodes that are given as URLs, see
    /// [`NodeConfig::keep_warm`]. Off with the features `tracing-spans` and `debug-print`: warm connections do not
    /// tell what SeaORM tells by them (and cannot know if only SeaORM's own feature is on). Default: 1 s.
    #[serde(with = "duration")]
    pub keep_warm: Duration,
    /// How long the share of the reads grows of a node that came back: linearly, from 10 % of its usual share to all of
    /// it, because its caches are cold and its pools empty. Zero: the full share at once. Default: 10 s, about what a
    /// server takes to read its most used pages from a disk; the idea is that of Envoy (`slow_start_window`) and HAProxy
    /// (`slowstart`), which leave the time to the operator.
    ///
    /// A node comes back when its probes are answered after it was down, be it for one refused connection; when its server
    /// was restarted, even between two probes; when an ejection has ended; by
    /// [`resume`](crate::DatabaseConnection::resume); and when it joins by a
    /// [swap](crate::DatabaseConnection::swap_members). A node that was only suspected (a broken connection, probes that
    /// were late) does not, because its server went on. At `connect` all nodes begin with their full shares, as with
    /// HAProxy.
    ///
    /// For each read such a replica is left out by lot before the policy (and the zone) chooses among the other replicas;
    /// a primary has a smaller share of the draws. Replicas that all came back share the reads in proportion, and a read
    /// that only this node may serve, for what it must see or because its session keeps to the node, runs there.
    #[serde(with = "duration")]
    pub slow_start: Duration,
    /// The share of the routed reads (0 to 1) that may be started a second time, on another node, because they run far
    /// longer than their like on their node; the first answer counts. 0: none. Default: 0. A good value is 0.02; bursts of
    /// 10 second attempts are free.
    ///
    /// A second attempt cuts the longest waits short that one slow node causes: a disk that stalls, a lock that replay holds,
    /// a noisy neighbour. The idea and the moment are those of Dean and Barroso ("The Tail at Scale", 2013), who send a
    /// second request after the 95th percentile of the durations. Here the second attempt begins after twice that
    /// percentile, at least 10 ms, of the reads of the same text on the same node, once 20 of them were answered.
    ///
    /// Hedged are statements for one row or for all rows that are reads by their text, outside of transactions, with
    /// `strong` left out; streams are not. The other node must be one that may serve the read, with a free read
    /// connection. The slower attempt is ended at its server by `pg_cancel_backend` or `KILL QUERY` over a connection of
    /// the resolver's own, and its connection is closed after that. On a node behind a pooling proxy, on SQLite, with
    /// `keep_warm` zero, and with the features `tracing-spans` and `debug-print` no read is hedged.
    ///
    /// The price: the work of a second attempt; a connection that is opened for each ended statement, and another one in the
    /// place of the closed one; one question for the name of its session each time that a connection leaves its pool,
    /// about once a second; one connection for each node that proves that no pooling proxy is in between, before the
    /// first read of the node is hedged; and a few blocks of memory for each read.
    pub hedge: f64,
    /// How long operations may run on a node that is drained or removed before the call returns.
    /// Default: 30 s.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// Return from `connect` without waiting for any node; a primary that is down is then no
    /// error. Default: off.
    pub connect_lazy: bool,
    /// Makes the draws of tiers and replicas repeatable. Default: from the operating system.
    pub seed: Option<u64>,
    /// The first mistake in the file that the configuration was read from.
    #[serde(skip)]
    pub(crate) problem: Option<Problem>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            primary: None,
            replicas: Vec::new(),
            primary_read_share: 0.10,
            primary_read_connections: None,
            harmless_functions: Vec::new(),
            statements: Vec::new(),
            policy: PolicyKind::default(),
            zone: None,
            consistency: Consistency::default(),
            wait_for_replica: Duration::ZERO,
            primary_staleness_cap: 0.5,
            max_lag: Some(Duration::from_secs(10)),
            max_lag_bytes: None,
            report_stale_reads: false,
            stick_after_write: Duration::from_secs(1),
            unknown_outcome_hold: None,
            read_selection_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            primary_connect_timeout: None,
            probe_interval: Duration::from_secs(1),
            max_questions_per_second: 500,
            probe_timeout: Duration::from_millis(500),
            silent_after: Some(Duration::from_secs(10)),
            ping_after_idle: Duration::from_millis(100),
            keep_warm: Duration::from_secs(1),
            slow_start: Duration::from_secs(10),
            hedge: 0.0,
            drain_timeout: Duration::from_secs(30),
            connect_lazy: false,
            seed: None,
            problem: None,
        }
    }
}

impl Config {
    /// A configuration with this primary, no replicas and every default.
    pub fn new(primary: impl Into<NodeConfig>) -> Self {
        Self { primary: Some(primary.into()), ..Self::default() }
    }

    /// Adds a replica.
    #[must_use]
    pub fn replica(mut self, replica: impl Into<NodeConfig>) -> Self {
        self.replicas.push(replica.into());
        self
    }

    /// Checks everything that can be known without a database, as connecting does.
    ///
    /// # Example
    /// ```
    /// # use sea_orm_resolver::Config;
    /// let config: Config = toml::from_str(r#"primary = { url = "sqlite://shop.db", wieght = 2 }"#)?;
    /// assert_eq!(config.check().expect_err("misspelled").field(), Some("primary.wieght"));
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    ///
    /// # Errors
    /// A configuration error that names the first field that cannot work.
    pub fn check(&self) -> Result<(), crate::Error> {
        plan::check(self)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Content::deserialize(deserializer)?.into_fields(Self::deserialize::<Content>);
        Ok(match read {
            Ok((config, problem)) => Self { problem, ..config },
            Err(problem) => Self { problem: Some(problem), ..Self::default() },
        })
    }
}

/// The policies that a configuration file can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PolicyKind {
    /// [`LeastInFlight`](crate::LeastInFlight), the default.
    #[default]
    LeastInFlight,
    /// [`LeastLatency`](crate::LeastLatency), with its default time constant of 10 s.
    LeastLatency,
    /// [`RoundRobin`](crate::RoundRobin).
    RoundRobin,
    /// [`WeightedRandom`](crate::WeightedRandom).
    WeightedRandom,
}

impl std::str::FromStr for PolicyKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "least_in_flight" => Ok(Self::LeastInFlight),
            "least_latency" => Ok(Self::LeastLatency),
            "round_robin" => Ok(Self::RoundRobin),
            "weighted_random" => Ok(Self::WeightedRandom),
            _ => Err("not a policy; use least_in_flight, least_latency, round_robin or weighted_random".to_owned()),
        }
    }
}

/// A primary without replicas: each type that makes a node makes a configuration, too.
impl<N: Into<NodeConfig>> From<N> for Config {
    fn from(primary: N) -> Self {
        Self::new(primary)
    }
}
