//! A cluster that exists only as a model, for simulations under tokio's paused clock: one primary and
//! replicas with delays, pauses, crashes and promotions, behind drivers that the real resolver runs on.
//!
//! Everything follows from one seed. What a statement sees is what its server has replayed in the
//! instant at which the statement runs there, which lies somewhere between its being sent and its
//! answer; a commit happens somewhere between the COMMIT and its acknowledgement, or, when nobody waits
//! for it any more, later or never. The model knows of every write when it was committed and whether it
//! was lost, so that a test can say of every answer whether it may be.
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

pub use chaos::{Restart, Weather};
pub use dice::Dice;
pub use pool::Process;
pub use position::Dialect;
use state::State;

/// How many keys the one table has.
pub const KEYS: usize = 3;

/// The longest time after which a write that nobody waits for can still be committed.
pub const LATEST_COMMIT: std::time::Duration = std::time::Duration::from_millis(1_500);

/// Names a write. 0 is what was there before the first one.
pub type WriteId = u32;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The kind of database.
    pub dialect: Dialect,
    /// For each replica how many servers stand behind its address.
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
    /// Something befell a server.
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

    /// Somebody who opens pools to the cluster.
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

    /// The same, as one that returns a row.
    pub fn update_returning(&self, key: usize, write: WriteId) -> Statement {
        statement::update_returning(self.backend(), key, write)
    }

    /// The same, as a text without parameters.
    pub fn update_text(&self, key: usize, write: WriteId) -> String {
        statement::update_text(key, write)
    }

    /// The statement that reads one row: the last write of each key in the columns `k0`, `k1`, …, and
    /// in `server` which server ran it.
    pub fn select(&self) -> Statement {
        statement::select(self.backend())
    }

    fn backend(&self) -> sea_orm::DbBackend {
        self.shared.state().kind.dialect.backend()
    }

    /// The place of a write among all commits, from 1; 0 for what was there before. `None` for one that
    /// did not happen, not yet, or was lost.
    pub fn order(&self, write: WriteId) -> Option<u64> {
        if write == 0 {
            return Some(0);
        }
        self.shared.state().commit_of(write).filter(|commit| !commit.lost).map(|commit| commit.order)
    }

    /// As [`order`](Self::order), of lost ones too.
    pub fn order_even_if_lost(&self, write: WriteId) -> u64 {
        self.shared.state().commit_of(write).map_or(0, |commit| commit.order)
    }

    /// The newest write of a key that was committed before `instant`, and is not lost.
    pub fn newest_before(&self, key: usize, instant: Instant) -> WriteId {
        self.shared.state().newest_before(key, instant).unwrap_or_default()
    }

    /// Puts something into the record of what happened.
    pub fn note(&self, show: impl Fn(&mut std::fmt::Formatter<'_>) -> std::fmt::Result + Send + 'static) {
        self.shared.state().trace.note(show);
    }

    /// From now on the record has what servers say to probers, too.
    pub fn note_probes(&self) {
        self.shared.state().notes_probes = true;
    }

    /// What happened, a line each, with the seconds since the start.
    pub fn trace(&self) -> String {
        self.shared.state().trace.to_string()
    }
}
