//! Servers that behave as a test tells them: for faults that no real server can be asked for, under tokio's paused
//! clock.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! use sea_orm::ConnectionTrait;
//! use testkit::scripted::{Behaviour, ScriptedNode, Step, fault};
//!
//! let (primary, replica) = (ScriptedNode::primary("p"), ScriptedNode::replica("r1"));
//! let db = sea_orm_resolver::DatabaseConnection::builder()
//!     .primary(primary.config())
//!     .replica(replica.config())
//!     .connect()
//!     .await?;
//!
//! primary.on(Step::Commit, Behaviour::Fail(fault::reset())); // from now on
//! primary.once(Step::Execute, Behaviour::Never); // the next one only
//! primary.recover();
//! db.execute_unprepared("DELETE FROM item").await?;
//! assert_eq!(primary.statements(), ["DELETE FROM item"]);
//! assert_eq!(replica.statements().len(), 0);
//! # Ok(()) }
//! ```

mod driver;
pub mod fault;
mod journal;
mod position;
pub(crate) mod rows;
mod script;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use sea_orm::{DbBackend, Value};
use sea_orm_resolver::{NodeConfig, Role};

use driver::Server;
pub use journal::{Entry, Outcome};
use position::Position;
pub use script::{Behaviour, Step};

/// How long tests wait for an event that has to happen.
const PATIENCE: Duration = Duration::from_secs(600);

/// The columns of one row in a node's answers.
pub type Row = BTreeMap<String, Value>;

/// A server with a name that answers every query with its rows, by default one row with the node's name in the
/// column `node`.
///
/// Every [`Step`] behaves as its [`Behaviour`] says, and is recorded in the [journal](Self::journal). All state is
/// in one place behind one lock that is never held across an `.await`; time is tokio's. One node is both pools of a
/// member, so the journal cannot tell them apart.
pub struct ScriptedNode {
    server: Arc<Server>,
}

impl ScriptedNode {
    /// A node of the given dialect that reports this role.
    pub fn new(name: &str, role: Role, backend: DbBackend) -> Arc<Self> {
        Arc::new(Self { server: Arc::new(Server::new(name, role, backend)) })
    }

    /// A PostgreSQL primary.
    pub fn primary(name: &str) -> Arc<Self> {
        Self::new(name, Role::Primary, DbBackend::Postgres)
    }

    /// A PostgreSQL replica.
    pub fn replica(name: &str) -> Arc<Self> {
        Self::new(name, Role::Replica, DbBackend::Postgres)
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        self.server.name()
    }

    /// The node as a member. Equal for every call, so that a swap finds it unchanged.
    pub fn config(self: &Arc<Self>) -> NodeConfig {
        NodeConfig::from_driver(Arc::<Self>::clone(self)).name(self.server.name())
    }

    /// Sets the behaviour of a step from now on. Operations that wait in the step already go on waiting.
    pub fn on(&self, step: Step, behaviour: Behaviour) {
        self.server.state().script.stand(step, behaviour);
    }

    /// Sets the behaviour of the step's next run only; several calls queue up.
    pub fn once(&self, step: Step, behaviour: Behaviour) {
        self.server.state().script.queue(step, behaviour);
    }

    /// Sets the behaviour of every step from now on.
    pub fn on_all(&self, behaviour: &Behaviour) {
        for step in Step::ALL {
            self.on(step, behaviour.clone());
        }
    }

    /// Closes the node's port: every step is refused, and probe connections are broken.
    pub fn kill(&self) {
        self.on_all(&Behaviour::Fail(fault::refused()));
        self.server.state().begin_another_life();
    }

    /// Lets the node live, and answer nothing.
    pub fn freeze(&self) {
        self.on_all(&Behaviour::Never);
    }

    /// Every step succeeds again, and nothing is queued.
    pub fn recover(&self) {
        self.server.state().script.clear();
    }

    /// As [`recover`](Self::recover), as another life of the server: the incarnation changes and
    /// probe connections are broken.
    pub fn restart(&self) {
        let mut state = self.server.state();
        state.script.clear();
        state.begin_another_life();
    }

    /// The role that the node tells probes from now on.
    pub fn set_role(&self, role: Role) {
        self.server.state().role = role;
    }

    /// The position in a write-ahead log that a PostgreSQL node tells probes from now on: its system identifier,
    /// its timeline, and an LSN as the server writes it (`0/306EE20`). Pages of 8 KiB, segments of 16 MiB. By
    /// default, and after [`set_no_position`](Self::set_no_position), a node reports no position.
    pub fn set_wal(&self, system: u64, timeline: u32, lsn: &str) {
        self.server.state().position = Position::wal(system, timeline, lsn);
    }

    /// The set of transactions that a MySQL node tells probes from now on (`uuid:1-7`).
    pub fn set_gtid_executed(&self, set: &str) {
        self.server.state().position = Position::gtid_set(set);
    }

    /// The positions that a MariaDB node reports to probes from now on: the variables `gtid_binlog_pos`,
    /// `gtid_binlog_state` and `gtid_slave_pos`.
    pub fn set_gtid_positions(&self, binlog_pos: &str, binlog_state: &str, replayed: &str) {
        self.server.state().position = Position::gtid_domains(binlog_pos, binlog_state, replayed);
    }

    /// The node reports no position any more.
    pub fn set_no_position(&self) {
        self.server.state().position = Position::default();
    }

    /// The rows that queries and streams answer with from now on.
    pub fn set_rows(&self, rows: impl IntoIterator<Item = Row>) {
        self.server.state().rows = rows.into_iter().collect();
    }

    /// The user functions that the node lists from now on, by schema and name, and whether they only read.
    pub fn set_functions(&self, functions: &[(&str, &str, bool)]) {
        let line = |(schema, name, reads): &(&str, &str, bool)| {
            format!("{}\t{schema}\t{name}\n", if *reads { "r" } else { "w" })
        };
        self.server.state().functions = functions.iter().map(line).collect();
    }

    /// The largest number of sessions that each pool reports; read when the node is connected. Default: unknown.
    pub fn set_max_connections(&self, connections: u32) {
        self.server.state().max_connections = Some(connections);
    }

    /// Every step that was begun since the last [`forget`](Self::forget), oldest first.
    pub fn journal(&self) -> Vec<Entry> {
        self.server.state().journal.entries().to_vec()
    }

    /// Empties the journal.
    pub fn forget(&self) {
        self.server.state().journal.forget();
    }

    /// How often a step was begun since the last [`forget`](Self::forget).
    pub fn count(&self, step: Step) -> usize {
        self.server.state().journal.entries().iter().filter(|entry| entry.step == step).count()
    }

    /// The texts that applications sent, without transaction control and probes, oldest first.
    pub fn statements(&self) -> Vec<String> {
        let state = self.server.state();
        let sent = state.journal.entries().iter().filter(|entry| entry.step.is_statement());
        sent.map(|entry| entry.sql.clone()).collect()
    }

    /// The number of steps that run now.
    pub fn running(&self) -> usize {
        let state = self.server.state();
        state.journal.entries().iter().filter(|entry| entry.outcome == Outcome::Running).count()
    }

    /// Waits until a step was begun this many times since the last [`forget`](Self::forget). Under a paused clock
    /// this advances the time until then.
    ///
    /// # Panics
    /// After ten minutes of tokio's clock, so that a test fails and does not hang.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn reached(&self, step: Step, times: usize) {
        let reached = self.server.wait_until(|| self.count(step) >= times);
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{} began {step:?} {} times and not {times}: {:#?}", self.name(), self.count(step), self.journal());
        }
    }
}

impl fmt::Debug for ScriptedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}
