//! Read/write splitting for SeaORM 2: one primary, swappable replicas, no proxy.
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

pub use config::{Config, Consistency, NodeConfig, Ping, PolicyKind};
#[cfg(feature = "stream")]
pub use connection::RowStream;
pub use connection::{Builder, Database, DatabaseConnection, DatabaseTransaction, ReadConn, WriteConn};
pub use error::Error;
pub use monitor::SwapReport;
pub use routing::{
    Candidate, Classification, Draw, Effect, FunctionName, Intent, KnownFunctions, LeastInFlight, Policy, Reason,
    RoundRobin, WeightedRandom, classify, classify_with,
};
pub use topology::{Health, Member, Node, Role, Rotation, Topology};

/// The short name, as SeaORM's.
pub type DbConn = DatabaseConnection;
