//! Read/write splitting for SeaORM 2: one primary, swappable replicas, no proxy.
//!
//! A SeaORM program changes one import. From then on its reads spread over replicas, it still reads
//! its own writes, and it survives losing a replica. PostgreSQL, MySQL/MariaDB and SQLite.
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
//! let writer = format!("sqlite://{file}?mode=rwc");
//! let reader = format!("sqlite://{file}?mode=rwc"); // all nodes open at once: whoever is first makes the file
//! let db = DatabaseConnection::builder()
//!     .primary(NodeConfig::new(writer).name("primary"))
//!     .replica(NodeConfig::new(reader).name("replica"))
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
//! # What you hold
//!
//! * [`DatabaseConnection`]: `&db` is a SeaORM connection, and each statement is routed by what it is.
//! * [`DatabaseConnection::read`]: one node, drawn 10 % primary / 90 % replicas and kept for the life of
//!   the value. What is not a plain read is refused before it reaches a server; a function that nobody knows is
//!   tried, in its read-only session.
//! * [`DatabaseConnection::write`]: always the primary.
//! * [`DatabaseConnection::session`] and [`DatabaseConnection::scope`]: whose writes a read must see.
//! * [`DatabaseConnection::swap_replicas`] and its kin: other nodes, while queries run.
//! * [`DatabaseConnection::explain`] and [`RouteLog`]: which node runs a statement, and why.
//! * [`DatabaseConnection::topology`]: what is believed about the nodes, as a table and as data.
//!
//! What changes with the import, method by method, is in [`drop_in`]: migrations, schema sync, access control and
//! unit tests with `MockDatabase` go on working.
//!
//! # Which reads see which writes
//!
//! A replica serves a session when it is known to have what the session wrote: the monitor compares its position in
//! the stream of changes with the primary's, and a read compares two integers. No round trip, no server clock.
//!
//! | where the read runs | it sees | because |
//! |---|---|---|
//! | in the task that wrote | its writes | the task is the session |
//! | in `db.scope(&session, ..)`, any task of it that entered the scope | the writes of the session | |
//! | through a clone of a `db.session()` handle | the writes of the session | in whatever task |
//! | in a task that was spawned after the write | not for sure | a task is a session of its own: hand it the session, or use [`Consistency::Process`] |
//! | in another process | not for sure; with a token, the writes of the session | [`causal_token`](DatabaseConnection::causal_token) there, [`session_after`](DatabaseConnection::session_after) here |
//! | twice in one `db.session()`, or on one `db.read()` | nothing older the second time | what a session has read binds it too; tasks have no such memory |
//! | with [`Consistency::BoundedStaleness`] | everything older than the bound, by anybody | |
//! | inside a transaction | what the transaction sees | everything inside runs on its connection |
//! | after a write that was cancelled, or whose connection broke | what became of it | the primary serves the session for `unknown_outcome_hold` |
//!
//! Nodes without positions (replication without GTIDs, several servers behind one address, a pooling proxy) go by
//! time: `stick_after_write` (1 s) after the write. Under synchronous replication a replica can show a write before
//! the primary has acknowledged it. After a failover a PostgreSQL replica tells its timeline at once only to members of
//! `pg_read_all_stats` (`GRANT pg_read_all_stats TO shop`); without it, it serves reads of sessions that wrote
//! only after its next restart point.
//!
//! [`patterns`] shows what to do about it: web requests, spawned tasks, background jobs, GraphQL loaders. [`costs`] says
//! what all this costs the servers.
//!
//! # What it tells
//!
//! Spans and events of `tracing`: `sea_orm_resolver::route` (each statement, at TRACE), `::health` and `::topology` (what an
//! operator should know, INFO and WARN), and `::metrics` (TRACE): after each probe the numbers of each member
//! (up, in flight, lag) as fields that begin with `gauge.`, of which the metrics layer of `tracing-opentelemetry` makes
//! instruments. [`Topology`] has the same and more.
//!
//! # What it does not do
//!
//! It moves no data and promotes no server. A write that hides in a view raises no floor when it is read under
//! [`Consistency::Strong`] (`db.write()` counts everything as written). A lock is no write to a server: one that hides in a view, an operator
//! or a cast is taken where the read runs. A function that is labelled `STABLE` and swallows the error of a write that
//! a read-only session refuses is believed.
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
mod topology;

#[doc = include_str!("connection/drop_in.md")]
pub mod drop_in {}

#[doc = include_str!("connection/patterns.md")]
pub mod patterns {}

#[doc = include_str!("monitor/costs.md")]
pub mod costs {}

pub use config::{Config, Consistency, NodeConfig, Ping, PolicyKind, StatementRoute, StatementRule};
#[cfg(feature = "stream")]
pub use connection::RowStream;
#[cfg(feature = "tower")]
pub use connection::tower;
pub use connection::{Builder, Database, DatabaseConnection, DatabaseTransaction, ReadConn, RouteLog, WriteConn};
pub use error::Error;
pub use monitor::{MembershipChange, SwapOptions, SwapReport};
pub use routing::{
    Candidate, Classification, DecidedBy, Draw, Effect, FunctionName, Intent, KnownFunctions, LeastInFlight, Policy,
    Reason, Rejection, RoundRobin, RouteDecision, SessionFloor, Sessions, WeightedRandom, classify, classify_with,
};
pub use topology::{CausalToken, Health, Member, Node, Role, Rotation, Topology};

/// The short name, as SeaORM's.
pub type DbConn = DatabaseConnection;
