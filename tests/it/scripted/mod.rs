//! Faults and routing with scripted nodes, under tokio's paused clock.

mod arbiter;
mod cancel;
mod corners;
mod ejection;
mod eligible;
mod explain;
mod freshness;
mod functions;
mod hedge;
mod lag;
mod monitor;
mod outcome;
mod retry;
mod routing;
mod sessions;
mod slow_start;
mod start;
mod swap;
mod telemetry;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, EntityTrait, Statement};
use sea_orm_resolver::{Builder, DatabaseConnection, Health, Role};
use testkit::scripted::{Behaviour, Row, ScriptedNode, Step, fault};
use tokio::task::JoinHandle;

use crate::item;

const NANOSECOND: Duration = Duration::from_nanos(1);
const STICK: Duration = Duration::from_secs(1);
const UNKNOWN_OUTCOME_HOLD: Duration = Duration::from_secs(30);
const WRITE: &str = "UPDATE item SET amount = 1";

/// A primary `p` and replicas `r1`, `r2`, …, whose rows are items with the node's name.
struct Nodes {
    primary: Arc<ScriptedNode>,
    replicas: Vec<Arc<ScriptedNode>>,
}

impl Nodes {
    fn postgres(replicas: usize) -> Self {
        Self::speaking(DbBackend::Postgres, replicas)
    }

    fn speaking(backend: DbBackend, replicas: usize) -> Self {
        let replica = |number| node(&format!("r{number}"), Role::Replica, backend);
        Self { primary: node("p", Role::Primary, backend), replicas: (1..=replicas).map(replica).collect() }
    }

    /// Repeatable, and with every read on the replicas.
    fn builder(&self) -> Builder {
        DatabaseConnection::builder()
            .primary(self.primary.config())
            .replicas(self.replicas.iter().map(ScriptedNode::config))
            .primary_read_share(0.0)
            .seed(7)
    }

    async fn connect(&self) -> Result<DatabaseConnection, DbErr> {
        self.connected(self.builder()).await
    }

    /// A connection, with empty journals.
    async fn connected(&self, builder: Builder) -> Result<DatabaseConnection, DbErr> {
        let db = builder.connect().await?;
        self.each(ScriptedNode::forget);
        Ok(db)
    }

    fn each(&self, mut tell: impl FnMut(&ScriptedNode)) {
        std::iter::once(&self.primary).chain(&self.replicas).for_each(|node| tell(node));
    }

    fn on_each(&self, step: Step, behaviour: &Behaviour) {
        self.each(|node| node.on(step, behaviour.clone()));
    }

    /// How often a step was begun, on all nodes together.
    fn count(&self, step: Step) -> usize {
        let mut count = 0;
        self.each(|node| count += node.count(step));
        count
    }
}

fn node(name: &str, role: Role, backend: DbBackend) -> Arc<ScriptedNode> {
    let node = ScriptedNode::new(name, role, backend);
    node.set_rows([item_row(1, name)]);
    node
}

/// A PostgreSQL replica.
fn replica(name: &str) -> Arc<ScriptedNode> {
    node(name, Role::Replica, DbBackend::Postgres)
}

fn item_row(id: i32, name: &str) -> Row {
    Row::from([("id".to_owned(), id.into()), ("name".to_owned(), name.into()), ("amount".to_owned(), 0.into())])
}

/// The node that answers a SELECT which SeaORM built.
async fn who(connection: &impl ConnectionTrait) -> Result<String, DbErr> {
    Ok(item::Entity::find().one(connection).await?.expect("scripted nodes have a row").name)
}

/// How often each node answers.
async fn tally(connection: &impl ConnectionTrait, reads: usize) -> Result<BTreeMap<String, usize>, DbErr> {
    let mut tally = BTreeMap::new();
    for _ in 0..reads {
        *tally.entry(who(connection).await?).or_default() += 1;
    }
    Ok(tally)
}

async fn write(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    connection.execute_unprepared(WRITE).await.map(drop)
}

fn select(db: &impl ConnectionTrait) -> Statement {
    Statement::from_string(db.get_database_backend(), "SELECT id, name, amount FROM item")
}

/// Operations in flight on all nodes.
fn in_flight(db: &DatabaseConnection) -> u64 {
    db.topology().members().map(|member| member.node().in_flight()).sum()
}

fn health(db: &DatabaseConnection, name: &str) -> Health {
    db.topology().member(name).expect("a member").health()
}

/// Lets time pass until a member is believed to be up or down.
async fn until_health(db: &DatabaseConnection, name: &str, wanted: Health) {
    for _ in 0..100_000 {
        if health(db, name) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{name} did not become {wanted:?}:\n{}", db.topology());
}

/// Runs a future as a session of its own.
async fn in_task<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    ended(tokio::spawn(future)).await
}

/// The result of a task. Under the paused clock a task that hangs would hang the test for ever, because the
/// monitor's timers always give the clock a reason to move.
async fn ended<T>(task: JoinHandle<T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(3_600), task).await;
    ended.expect("the task does not hang").expect("the task does not panic")
}

/// Refuses probes, and leaves every other step as it is.
fn refuse_probes(node: &ScriptedNode) {
    for step in [Step::ProbeConnect, Step::ProbeAsk] {
        node.on(step, Behaviour::Fail(fault::refused()));
    }
}

/// Fails probes in a way of which one failure decides nothing.
fn reset_probes(node: &ScriptedNode) {
    for step in [Step::ProbeConnect, Step::ProbeAsk] {
        node.on(step, Behaviour::Fail(fault::reset()));
    }
}
