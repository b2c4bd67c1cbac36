//! Many sessions that write and then read, while the replay of the replicas stops and goes on at
//! random.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_resolver::{Consistency, DatabaseConnection, Draw};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::servers::{Servers, on_each_database, served_reads};

const SESSIONS: i32 = 64;
const READS_PER_WRITE: i32 = 10;
/// More than 50 000 operations by explicit sessions, and as many by plain handles.
const ROUNDS: i32 = 72;
/// The same load is told by its stale reads soon.
const EVENTUAL_ROUNDS: i32 = 15;
/// Before each read. Without it all of the machine would be busy, and what is measured would be how long the
/// monitor waits for its turn.
const THINKS: Duration = Duration::from_millis(8);
/// The least number of reads that replicas serve while they replay. A share would depend on the delay of replay, and so
/// on how busy the machine is: alone, replicas serve 60 to 85 % of some 30 000 reads of sessions, and 50 % of the plain
/// reads, which must see what all tasks write.
const LEAST_SESSION_READS: u64 = 5_000;
const LEAST_PLAIN_READS: u64 = 1_000;

/// The load of one session: it raises a counter of its own, and reads the counter again and again.
#[derive(Clone)]
struct Counter {
    raise: Statement,
    read: Statement,
}

impl Counter {
    fn new(backend: DbBackend, id: i32) -> Self {
        let place = if backend == DbBackend::Postgres { "$1" } else { "?" };
        let statement = |sql: &str| Statement::from_sql_and_values(backend, format!("{sql}{place}"), [id.into()]);
        Self {
            raise: statement("UPDATE counter SET n = n + 1 WHERE id = "),
            read: statement("SELECT n FROM counter WHERE id = "),
        }
    }

    async fn value(&self, db: &DatabaseConnection) -> Result<i32> {
        let row = db.query_one_raw(self.read.clone()).await?.context("each session has a counter")?;
        Ok(row.try_get("", "n")?)
    }
}

#[derive(Debug, Default)]
struct Tally {
    operations: i32,
    stale: Vec<Stale>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed by a test that fails")]
struct Stale {
    session: i32,
    round: i32,
    read: i32,
    expected: i32,
    found: i32,
}

/// One session, in a task of its own.
async fn session(db: DatabaseConnection, backend: DbBackend, id: i32, rounds: i32) -> Result<Tally> {
    let counter = Counter::new(backend, id);
    let mut tally = Tally::default();
    let before = counter.value(&db.with_consistency(Consistency::Strong)).await?;
    for round in 1..=rounds {
        db.execute_raw(counter.raise.clone()).await.with_context(|| format!("session {id}, write {round}"))?;
        tally.operations += 1 + READS_PER_WRITE;
        for read in 0..READS_PER_WRITE {
            tokio::time::sleep(THINKS).await;
            let found = counter.value(&db).await.with_context(|| format!("session {id}, round {round}"))?;
            let expected = before + round;
            ensure!(found <= expected, "nobody else raises the counter");
            if found != expected {
                tally.stale.push(Stale { session: id, round, read, expected, found });
            }
        }
    }
    Ok(tally)
}

/// All sessions at once.
async fn load(handle: &impl Fn() -> DatabaseConnection, backend: DbBackend, rounds: i32) -> Result<Tally> {
    let mut sessions = JoinSet::new();
    for id in 0..SESSIONS {
        sessions.spawn(session(handle(), backend, id, rounds));
    }
    let mut sum = Tally::default();
    while let Some(tally) = sessions.join_next().await {
        let tally = tally??;
        sum.operations += tally.operations;
        sum.stale.extend(tally.stale);
    }
    Ok(sum)
}

/// Reads that were served while both replicas replayed.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    by_replicas: u64,
    in_all: u64,
}

impl Served {
    fn now(db: &DatabaseConnection) -> Self {
        let served = served_reads(db);
        let in_all = served.values().sum();
        Self { by_replicas: in_all - served["primary"], in_all }
    }

    fn add(&mut self, from: Self, to: Self) {
        self.by_replicas += to.by_replicas - from.by_replicas;
        self.in_all += to.in_all - from.in_all;
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of some ten thousand reads")]
    fn share(self) -> f64 {
        self.by_replicas as f64 / self.in_all as f64
    }
}

/// Pauses and resumes replay, of one replica or of both, until it is dropped or ended.
struct Chaos {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(Served, u32)>>,
}

impl Chaos {
    fn start(servers: &Arc<Servers>, db: &DatabaseConnection, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (servers, db) = (Arc::clone(servers), db.clone());
        Self { stop, task: tokio::spawn(stop_and_go(servers, db, stopped, Draw::seeded(seed))) }
    }

    /// How the reads were served while replay ran, and how often replay stood still. Evaluated afterwards.
    async fn end(self) -> Result<(Served, u32)> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

async fn stop_and_go(
    servers: Arc<Servers>,
    db: DatabaseConnection,
    mut stopped: watch::Receiver<bool>,
    mut draw: Draw,
) -> Result<(Served, u32)> {
    let (mut served, mut pauses) = (Served::default(), 0);
    let mut between = async |range: Duration| {
        let pause = range.mul_f64(0.2 + 0.8 * draw.unit());
        let end = tokio::time::timeout(pause, stopped.wait_for(|stopped| *stopped)).await.is_ok();
        (end, draw.unit())
    };
    loop {
        let running_since = Served::now(&db);
        let (is_over, which) = between(Duration::from_millis(1_000)).await;
        served.add(running_since, Served::now(&db));
        if is_over {
            return Ok((served, pauses));
        }
        let paused = match which {
            0.0..0.3 => &servers.replicas()[..1],
            0.3..0.6 => &servers.replicas()[1..],
            _ => servers.replicas(),
        };
        for replica in paused {
            replica.pause_replay().await?;
        }
        pauses += 1;
        between(Duration::from_millis(500)).await;
        for replica in paused {
            replica.resume_replay().await?;
        }
    }
}

async fn with_counters(servers: &Servers) -> Result<DatabaseConnection> {
    let quiet = |node: sea_orm_resolver::NodeConfig| {
        // The test is about what is read, and not about how long a busy machine lets a read wait.
        node.max_connections(12).acquire_timeout(Duration::from_secs(60)).sqlx_logging(false)
    };
    let db = DatabaseConnection::builder()
        .primary(quiet(servers.primary_node()))
        .replicas((0..servers.replicas().len()).map(|index| quiet(servers.replica_node(index))))
        .connect()
        .await?;
    let values: Vec<_> = (0..SESSIONS).map(|id| format!("({id}, 0)")).collect();
    let primary = servers.primary();
    primary.execute("CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL)").await?;
    primary.execute(&format!("INSERT INTO counter VALUES {}", values.join(", "))).await?;
    servers.wait_caught_up().await?;
    Ok(db)
}

async fn check_freshness_under_load(servers: Arc<Servers>) -> Result<()> {
    let db = with_counters(&servers).await?;
    let seed = 4;
    let (explicit, plain) = (|| db.session(), || db.clone());
    let served = check_no_read_is_stale(&servers, &db, &explicit, seed).await?;
    assert!(
        served.by_replicas >= LEAST_SESSION_READS,
        "replicas served {served:?} of the sessions' reads while replay ran"
    );
    let served = check_no_read_is_stale(&servers, &db, &plain, seed).await?;
    assert!(served.by_replicas >= LEAST_PLAIN_READS, "replicas served {served:?} of the plain reads while replay ran");

    let chaos = Chaos::start(&servers, &db, seed);
    let eventual = || db.with_consistency(Consistency::Eventual);
    let eventual = load(&eventual, servers.backend(), EVENTUAL_ROUNDS).await?;
    chaos.end().await?;
    assert!(!eventual.stale.is_empty(), "this test sees no stale read where there are some");
    println!("eventual: {} stale of {}", eventual.stale.len(), eventual.operations);
    Ok(())
}

/// How the reads of `handle()` were served while replay ran; each task has a handle of its own.
async fn check_no_read_is_stale(
    servers: &Arc<Servers>,
    db: &DatabaseConnection,
    handle: &impl Fn() -> DatabaseConnection,
    seed: u64,
) -> Result<Served> {
    let before = Served::now(db);
    let chaos = Chaos::start(servers, db, seed);
    let started = Instant::now();
    let tally = load(handle, servers.backend(), ROUNDS).await?;
    let took = started.elapsed();
    let (served, pauses) = chaos.end().await?;
    let mut all = Served::default();
    all.add(before, Served::now(db));
    println!(
        "{} operations in {took:?}, {pauses} pauses; replicas served {:.1} % of {} reads while replay ran, {:.1} % of all",
        tally.operations,
        100.0 * served.share(),
        served.in_all,
        100.0 * all.share(),
    );
    assert!(tally.operations >= 50_000);
    assert!(pauses > 0, "replay was never paused");
    let few: Vec<_> = tally.stale.iter().take(5).collect();
    assert!(few.is_empty(), "{} stale reads (seed {seed}), such as {few:#?}", tally.stale.len());
    Ok(served)
}

async fn no_session_reads_a_stale_row(servers: Servers) -> Result<()> {
    check_freshness_under_load(Arc::new(servers)).await
}

on_each_database!(no_session_reads_a_stale_row, [postgres, mariadb], worker_threads = 2);

/// A transaction that writes without a pause, and never commits: its records stand between those of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_no_session_reads_a_stale_row_while_a_transaction_writes() -> Result<()> {
    use sea_orm::TransactionTrait;

    let servers = Arc::new(Servers::postgres().await?);
    let plain = servers.plain().await?;
    plain.execute_unprepared("CREATE TABLE noise (id int, text text)").await?;
    let noise = plain.begin().await?;
    let noise = tokio::spawn(async move {
        for id in 0.. {
            noise.execute_unprepared(&format!("INSERT INTO noise VALUES ({id}, repeat('x', {}))", id % 700)).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        noise.commit().await
    });
    check_freshness_under_load(Arc::clone(&servers)).await?;
    assert!(!noise.is_finished(), "it wrote until the end");
    noise.abort();
    Ok(())
}
