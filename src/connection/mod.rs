//! HOLD: the handles that an application holds, and how an operation runs on the node that was decided for it.

mod arbiter;
mod budget;
mod causal;
mod convert;
mod database;
mod event_limit;
mod facade;
mod floors;
mod hedge;
mod inherent;
mod journey;
mod lent;
mod marks;
mod next_attempt;
mod operation;
mod read;
mod record;
mod run;
#[cfg(feature = "schema-sync")]
mod schema;
mod session;
mod shared;
mod stopwatch;
#[cfg(feature = "stream")]
mod stream;
mod surface;
mod token_costs;
#[cfg(feature = "tower")]
pub mod tower;
mod transaction;
mod write;

pub use database::{Builder, Database};
pub use facade::DatabaseConnection;
pub use read::ReadConn;
pub use record::RouteLog;
#[cfg(feature = "stream")]
pub use stream::RowStream;
pub use transaction::DatabaseTransaction;
pub use write::WriteConn;
