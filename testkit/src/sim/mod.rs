//! A cluster that exists only as a model, for simulations under tokio's paused clock: one primary and
//! replicas with delays, pauses, crashes and promotions, behind drivers that the real resolver runs on.
//!
//! Everything follows from one seed. A statement sees the records that its server has replayed in the instant at
//! which the statement runs, which lies somewhere between sending the statement and its answer. A commit happens
//! somewhere between the COMMIT and its acknowledgement, or later or never when its caller has stopped waiting. The
//! model knows of every write when it was committed and whether it was lost, so that a test can judge every answer.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! use sea_orm::ConnectionTrait;
//! use testkit::sim::{Cluster, Dialect, Shape};
//!
//! tokio::time::pause();
//! let cluster = Cluster::new(7, &Shape { dialect: Dialect::Postgres, replicas: vec![1, 1] });
//! let process = cluster.process();
//! let db = sea_orm_resolver::DatabaseConnection::builder()
//!     .primary(process.node("n0"))
//!     .replicas(["n1", "n2"].map(|address| process.node(address)))
//!     .connect()
//!     .await?;
//! let write = cluster.new_write();
//! db.execute_raw(cluster.update(0, write)).await?;
//! let row = db.query_one_raw(cluster.select()).await?.expect("one row");
//! assert_eq!(row.try_get::<i64>("", "k0")?, i64::from(write));
//! # Ok(()) }
//! ```

mod ailment;
mod chaos;
mod dice;
mod log;
mod pool;
mod position;
mod server;
mod session;
mod state;
mod statement;
mod trace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::Statement;
use tokio::{sync::Notify, time::Instant};

pub use ailment::{Ailment, Attempts};
pub use chaos::{Restart, Weather};
pub use dice::Dice;
pub use pool::Process;
pub use position::Dialect;
use state::State;

/// The number of keys in the one table.
pub const KEYS: usize = 3;

/// The longest time after which a write whose caller has stopped waiting can still be committed.
pub const LATEST_COMMIT: std::time::Duration = std::time::Duration::from_millis(1_500);

/// Names a write. 0 is the state before the first write.
pub type WriteId = u32;

/// Names a read.
pub type ReadId = u32;

/// The parts of a cluster.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The kind of database.
    pub dialect: Dialect,
    /// For each replica the number of servers behind its address.
    pub replicas: Vec<usize>,
}

/// A model cluster. Clones are the same one. Its primary is reached at the address `n0`, its replicas at
/// `n1`, `n2`, …
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Raised when a server has a trouble.
    changed: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// A cluster whose every accident follows from `seed`.
    pub fn new(seed: u64, shape: &Shape) -> Self {
        let state = State::new(shape, Dice::new(seed));
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// A process that opens pools to the cluster.
    pub fn process(&self) -> Process {
        Process::new(Arc::clone(&self.shared))
    }

    /// A name for a write that is going to be made.
    pub fn new_write(&self) -> WriteId {
        self.shared.state().new_write()
    }

    /// The statement that makes a write.
    pub fn update(&self, key: usize, write: WriteId) -> Statement {
        statement::update(self.backend(), key, write)
    }

    /// The same write, as a statement that returns a row.
    pub fn update_returning(&self, key: usize, write: WriteId) -> Statement {
        statement::update_returning(self.backend(), key, write)
    }

    /// The same write, as a text without parameters.
    pub fn update_text(&self, key: usize, write: WriteId) -> String {
        statement::update_text(key, write)
    }

    /// The statement that reads one row: the last write of each key in the columns `k0`, `k1`, …, and in `server`
    /// the number of the server that ran the statement.
    pub fn select(&self) -> Statement {
        self.select_as(self.new_read())
    }

    /// A name for a read that is going to be made.
    pub fn new_read(&self) -> ReadId {
        self.shared.state().new_read()
    }

    /// The same statement as [`select`](Self::select), whose attempts are counted under a name.
    pub fn select_as(&self, read: ReadId) -> Statement {
        statement::select(self.backend(), read)
    }

    fn backend(&self) -> sea_orm::DbBackend {
        self.shared.state().kind.dialect.backend()
    }

    /// The place of a write among all commits, from 1; 0 for the state before the first write. `None` for a write
    /// that was not committed yet, or was lost.
    pub fn order(&self, write: WriteId) -> Option<u64> {
        if write == 0 {
            return Some(0);
        }
        self.shared.state().commit_of(write).filter(|commit| !commit.lost).map(|commit| commit.order)
    }

    /// As [`order`](Self::order), for lost writes too.
    pub fn order_even_if_lost(&self, write: WriteId) -> u64 {
        self.shared.state().commit_of(write).map_or(0, |commit| commit.order)
    }

    /// The newest write of a key that was committed before `instant`, and is not lost.
    pub fn newest_before(&self, key: usize, instant: Instant) -> WriteId {
        self.shared.state().newest_before(key, instant).unwrap_or_default()
    }

    /// Adds an event to the trace.
    pub fn note(&self, show: impl Fn(&mut std::fmt::Formatter<'_>) -> std::fmt::Result + Send + 'static) {
        self.shared.state().trace.note(show);
    }

    /// Adds the servers' answers to probers to the trace from now on.
    pub fn note_probes(&self) {
        self.shared.state().notes_probes = true;
    }

    /// The trace, one line for each event, with the seconds since the start.
    pub fn trace(&self) -> String {
        self.shared.state().trace.to_string()
    }
}
