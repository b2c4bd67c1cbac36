//! Read/write splitting for SeaORM 2: one primary, swappable replicas, no proxy.
//!
//! A SeaORM program imports [`Database`], [`DatabaseConnection`] and [`DbConn`] from here and tells `connect` its replicas.
//! From then on its reads spread over the replicas, the program still reads its own writes, and the loss of a replica fails no
//! read. PostgreSQL, MySQL/MariaDB and SQLite.
//!
//! ```
//! # #[cfg(feature = "sqlite")] {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use sea_orm::ConnectionTrait;
//! use sea_orm_resolver::{DatabaseConnection, NodeConfig};
//!
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("shop.db");
//! # let file = file.display();
//! let url = format!("sqlite://{file}?mode=rwc");
//! let db = DatabaseConnection::builder()
//!     .primary(NodeConfig::new(&url).name("primary"))
//!     .replica(NodeConfig::new(&url).name("replica"))
//!     .connect()
//!     .await?;
//!
//! db.execute_unprepared("CREATE TABLE cake (id INTEGER PRIMARY KEY, name TEXT)").await?;
//! let read = db.read();
//! let cakes = sea_orm::Statement::from_string(read.get_database_backend(), "SELECT * FROM cake");
//! assert_eq!(read.query_all_raw(cakes).await?.len(), 0);
//! println!("{}", db.topology());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?; }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Words
//!
//! The documentation uses these words in one meaning each:
//!
//! * **Process**: one connection (what one `connect` made) with all its clones. A second `connect` is another process here.
//! * **Session**: a sequence of reads and writes whose reads see its own writes, and never an older state than the session
//!   has read. An *explicit* session is a value: [`db.session()`](DatabaseConnection::session) makes one, and clones of the
//!   handle share it. A connection that the server calls a session is called a *database session* here where the two could be confused.
//! * **Floor**: the last write that a read must see. Each explicit session has a floor, and each process has one. A write
//!   raises the floor when the server has acknowledged it.
//! * **Position**: how far a server has come in the stream of changes of its cluster: an LSN of PostgreSQL, the GTIDs of MySQL
//!   or MariaDB. A replica whose position covers the primary's position of some moment has everything from before that moment.
//! * **Freshness**: how new the data of a replica are known to be, by its position. A replica may serve a read when its
//!   freshness is past the floor of the read.
//! * **Warm**: a pooled connection is warm while it stays at hand for the next statement, before the pool has it back.
//!
//! # What you hold
//!
//! * [`DatabaseConnection`]: `&db` is a SeaORM connection, and each statement is routed by what it is.
//! * [`DatabaseConnection::read`]: one node, drawn 10 % primary / 90 % replicas and kept for the life of
//!   the value. A statement that is not a plain read is refused before it reaches a server; an unknown function is
//!   tried, in a read-only database session.
//! * [`DatabaseConnection::write`]: always the primary.
//! * [`DatabaseConnection::session`] and [`DatabaseConnection::scope`]: an explicit session, for a request or a job.
//! * [`DatabaseConnection::swap_replicas`] and its kin: other nodes, while queries run.
//! * [`DatabaseConnection::topology`]: what is believed about the nodes, as a table and as data.
//! * [`Config`], [`NodeConfig`] and [`Consistency`]: the configuration, in code, from a file or from the environment.
//! * [`Error`]: why the resolver itself failed an operation.
//!
//! [`drop_in`] says, method by method, what changes with the import: migrations, schema sync, access control and
//! unit tests with `MockDatabase` go on working. [`patterns`] shows web requests, spawned tasks, background jobs and GraphQL
//! loaders. [`costs`] says what the crate costs the servers.
//!
//! # For experts
//!
//! Most programs need none of these:
//!
//! * *Why a statement ran where it ran*: [`DatabaseConnection::explain`], [`RouteLog`], [`RouteDecision`], with [`DecidedBy`],
//!   [`Rejection`], [`SessionFloor`], [`Sessions`].
//! * *What a statement is*: [`classify`], [`classify_with`], [`Classification`], [`Effect`], [`Intent`], [`Reason`],
//!   [`KnownFunctions`], [`FunctionName`]; rules of the configuration: [`StatementRule`], [`StatementRoute`].
//! * *A policy of your own*: [`Policy`], [`Candidate`], [`CandidateState`], [`Draw`]; [`PolicyKind`] names the built-in ones.
//!   Replicas of one zone first: [`Config::zone`], or [`InZone`] around a policy.
//! * *Other members*: [`MembershipChange`], [`SwapOptions`], [`SwapReport`]; their state: [`Member`], [`Node`], [`Health`],
//!   [`Role`], [`Rotation`].
//! * *A session in another process*: [`CausalToken`]. *Pools*: [`Ping`], [`Pooler`]. *Passwords that change*:
//!   [`NodeConfig::credentials`], [`NodeConfig::password_file`], [`Credentials`],
//!   [`set_credentials`](DatabaseConnection::set_credentials).
//!
//! # Which reads see which writes
//!
//! | the read runs | it sees | note |
//! |---|---|---|
//! | on plain `db`, in any task or thread | every write that the process had acknowledged, through whatever handle | two such reads can go back in time: they may run on two replicas |
//! | in an explicit session: on a clone of its handle, or inside [`scope`](DatabaseConnection::scope) | exactly what the session wrote and read | other sessions' writes do not delay it, and it never goes back |
//! | on [`db.read()`](DatabaseConnection::read) | as the handle that made it | and never goes back |
//! | in a request under the layer of [`tower`](crate::patterns#web-requests) | as an explicit session; without a valid token it begins at the process's floor of that moment | the token takes the session to the next request |
//! | in another process | nothing for certain; with a token, what the session of the token wrote and read | [`causal_token`](DatabaseConnection::causal_token) in the one, [`session_after`](DatabaseConnection::session_after) in the other |
//! | with [`Consistency::BoundedStaleness`] | everything older than the bound, of every process; in an explicit session its own writes too | plain `db` then takes no process floor |
//! | inside a transaction | what the transaction sees | a `READ ONLY` one fixes its floor at BEGIN |
//! | after a cancelled write | the write once its connection has answered or was given up | the explicit session that wrote reads from the primary for `unknown_outcome_hold` |
//!
//! A write counts when the server has acknowledged it. Locking reads, `SET` and `LISTEN` raise no floor. When no replica is
//! past the floor, the primary serves the read ([`wait_for_replica`](Config::wait_for_replica) makes it wait for a replica first,
//! [`primary_staleness_cap`](Config::primary_staleness_cap) bounds what a busy primary takes).
//!
//! Writes through SeaORM's own handles ([`primary`](DatabaseConnection::primary), `as_ref`, migrations) raise the floor as far
//! as SeaORM's metric callback tells of them, and again when the connections in use have come back. The callback does not
//! tell of `execute_unprepared`, and raw sqlx tells of nothing.
//!
//! Nodes without positions (replication without GTIDs, several servers behind one address, a pooling proxy) go by
//! time: [`stick_after_write`](Config::stick_after_write) (1 s) after the write. Under synchronous replication a replica can
//! show a write before the primary has acknowledged it. After a failover a PostgreSQL replica tells its timeline at once only to
//! members of `pg_read_all_stats` (`GRANT pg_read_all_stats TO shop`); without it, the replica serves reads with a floor
//! only after its next restart point.
//!
//! # What it tells
//!
//! Spans and events of `tracing`: `sea_orm_resolver::route` (each statement, at TRACE), `::health` and `::topology` (the events
//! for an operator, INFO and WARN), and `::metrics` (TRACE): after each probe the numbers of each member
//! (up, in flight, lag) as fields that begin with `gauge.`, of which the metrics layer of `tracing-opentelemetry` makes
//! instruments. [`Topology`] has the same and more.
//!
//! # What it does not do
//!
//! It moves no data, promotes no server and follows no failover. A write that hides in a view raises no floor when the view is
//! read under [`Consistency::Strong`] (`db.write()` counts everything as written). A lock is no write to a server: one that hides
//! in a view, an operator or a cast is taken where the read runs. A function that is labelled `STABLE` and swallows the error of
//! a write that a read-only database session refuses is believed.
//!
//! # Cargo features
//!
//! `postgres`, `mysql`, `sqlite` (at least one; all by default), `stream` (row streams), `tower` (a layer that
//! carries a session from web request to web request), `mock` (SeaORM's mock
//! connections as nodes), `schema-sync`, `entity-registry` and `rbac` (SeaORM's, on these types), the runtimes and
//! TLS of sqlx, and SeaORM's own features under their own names.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
compile_error!(
    "sea-orm-resolver needs at least one database: enable the cargo feature `postgres`, `mysql` or `sqlite`"
);

mod clock;
mod config;
mod connection;
#[doc(hidden)]
pub mod driver;
mod error;
mod monitor;
mod routing;
mod telemetry;
mod token_bucket;
mod topology;

#[doc = include_str!("connection/drop_in.md")]
pub mod drop_in {}

#[doc = include_str!("connection/patterns.md")]
pub mod patterns {}

#[doc = include_str!("monitor/costs.md")]
pub mod costs {}

pub use config::{Config, Consistency, NodeConfig, Ping, PolicyKind, Pooler, StatementRoute, StatementRule};
#[cfg(feature = "stream")]
pub use connection::RowStream;
#[cfg(feature = "tower")]
pub use connection::tower;
pub use connection::{Builder, Database, DatabaseConnection, DatabaseTransaction, ReadConn, RouteLog, WriteConn};
pub use driver::Credentials;
pub use error::Error;
pub use monitor::{MembershipChange, SwapOptions, SwapReport};
pub use routing::{
    Candidate, CandidateBuilder, CandidateState, Classification, DecidedBy, Draw, Effect, FunctionName, InZone, Intent,
    KnownFunctions, LeastInFlight, LeastLatency, Policy, Reason, Rejection, RoundRobin, RouteDecision, SessionFloor,
    Sessions, WeightedRandom, classify, classify_with,
};
pub use topology::{CausalToken, Health, Member, Node, OperatorView, Role, Rotation, Topology};

/// The short name, as SeaORM's.
pub type DbConn = DatabaseConnection;
