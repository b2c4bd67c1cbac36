//! The price of seeing every write of the process: plain reads while other tasks write, beside reads of explicit sessions
//! and eventual ones in the same run.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use entity::customer;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use sea_orm::{ConnectionTrait, EntityTrait};
use sea_orm_resolver::{Consistency, DatabaseConnection, NodeConfig};
use tokio::{
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

use crate::contender::Urls;

const READERS: u64 = 16;
const WRITES_PER_SECOND: [u32; 4] = [0, 10, 100, 1_000];
/// The rows that the other tasks write, and that are read.
const WRITTEN: usize = 16;
/// Connections of each pool. The primary's pool for reads has its default, half of them, or so few that it is always busy:
/// then the cap on what staleness sends to the primary applies.
const POOL: u32 = 16;
const FEW: u32 = 2;

tokio::task_local! {
    /// Whether the present read of this task has waited for a replica.
    static WAITED: Cell<bool>;
}

/// How long and how often each kind of read runs at each rate of writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slices {
    pub(crate) rounds: usize,
    /// Not measured: what was saved up while other reads ran is spent.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// The kind of the reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Plain,
    /// On a connection with [`FEW`] read connections to the primary.
    PlainWhileBusy,
    /// One session for each reader, as for a request that writes nothing.
    Session,
    Eventual,
}

/// What the reads of one kind came to.
#[derive(Debug, Default)]
struct Tally {
    micros: Vec<u32>,
    waited: u64,
    /// Rows older than a write that was acknowledged before the read began.
    older: u64,
    seconds: f64,
    by_primary: u64,
    by_all: u64,
    questions: u64,
    writes: u64,
}

/// For each written row, the number that was acknowledged last.
type Acknowledged = Arc<[AtomicU64; WRITTEN]>;

/// Prints the table, and returns it for the README.
///
/// # Errors
/// A server fails, a plain read was stale, or no eventual read was (then the counter of stale reads proves nothing).
pub(crate) async fn table(urls: &Urls, slices: Slices) -> Result<String> {
    // Another subscriber would be one of the caller's; then the column of the waits stays zero.
    tracing::subscriber::set_global_default(WaitCounter)?;
    let db = connect(urls, POOL / 2).await?;
    let busy = connect(urls, FEW).await?;
    db.execute_unprepared("UPDATE customers SET city = '0'").await?;
    let delay = replication_delay(urls).await?;

    let mut lines = vec![
        format!("{READERS} readers, primary + 2 replicas; a replica has a write {delay:.1?} after its acknowledgement (median)"),
        "| writes/s of other tasks | reads | reads/s | p50 | p99 | by the primary | waited | older than acknowledged | questions/s |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let acknowledged: Acknowledged = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    let (mut stale, mut control) = (0, 0);
    for rate in WRITES_PER_SECOND {
        for (db, kinds) in
            [(&db, &[Reads::Plain, Reads::Session, Reads::Eventual][..]), (&busy, &[Reads::PlainWhileBusy])]
        {
            let writers = Writers::start(db, rate, &acknowledged);
            let mut tallies: Vec<_> = kinds.iter().map(|_| Tally::default()).collect();
            for round in 0..slices.rounds {
                for turn in 0..kinds.len() {
                    let index = if round.is_multiple_of(2) { turn } else { kinds.len() - 1 - turn };
                    run(db, kinds[index], slices, &acknowledged, &mut tallies[index]).await?;
                }
            }
            drop(writers);
            for (kind, tally) in kinds.iter().zip(&mut tallies) {
                lines.push(tally.line(*kind));
                match kind {
                    Reads::Plain | Reads::PlainWhileBusy => stale += tally.older,
                    Reads::Session => {}
                    Reads::Eventual => control += tally.older,
                }
            }
        }
    }
    busy.close().await?;
    db.close().await?;
    let table = lines.join("\n");
    anyhow::ensure!(stale == 0, "{stale} plain reads were stale:\n{table}");
    anyhow::ensure!(control > 0, "no eventual read was stale, so the counter proves nothing:\n{table}");
    Ok(table)
}

async fn connect(urls: &Urls, primary_reads: u32) -> Result<DatabaseConnection> {
    let node = |at: usize| NodeConfig::new(&urls.0[at]).name(format!("node-{at}")).max_connections(POOL);
    let builder = DatabaseConnection::builder().primary(node(0)).replicas((1..urls.0.len()).map(node));
    Ok(builder.primary_read_connections(primary_reads).connect().await?)
}

/// The time from the acknowledgement of a write to the moment in which a replica shows the write.
async fn replication_delay(urls: &Urls) -> Result<Duration> {
    let primary = sea_orm::Database::connect(&urls.0[0]).await?;
    let replica = sea_orm::Database::connect(&urls.0[1]).await?;
    let mut delays = Vec::new();
    for number in 1..=100 {
        primary.execute_unprepared(&format!("UPDATE customers SET city = '{number}' WHERE id = 1000")).await?;
        let acknowledged = Instant::now();
        while customer::Entity::find_by_id(1_000).one(&replica).await?.context("a row is missing")?.city
            != number.to_string()
        {}
        delays.push(acknowledged.elapsed());
    }
    delays.sort_unstable();
    primary.close().await?;
    replica.close().await?;
    Ok(delays[delays.len() / 2])
}

/// The other tasks; dropping them ends them.
struct Writers(Vec<AbortHandle>);

impl Writers {
    fn start(db: &DatabaseConnection, per_second: u32, acknowledged: &Acknowledged) -> Self {
        let tasks = WRITTEN.min(per_second as usize);
        let tasks = (0..tasks).map(|row| {
            let (db, acknowledged) = (db.clone(), Arc::clone(acknowledged));
            let pause = Duration::from_secs(1) * tasks as u32 / per_second;
            tokio::spawn(write(db, row, pause, acknowledged)).abort_handle()
        });
        Self(tasks.collect())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

async fn write(db: DatabaseConnection, row: usize, pause: Duration, acknowledged: Acknowledged) -> Result<()> {
    sleep(pause * row as u32 / WRITTEN as u32).await;
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // An aborted writer of the rate before may have written one number more than it had acknowledged.
    let first = acknowledged[row].load(Ordering::SeqCst) + 2;
    for number in first.. {
        ticks.tick().await;
        db.execute_unprepared(&format!("UPDATE customers SET city = '{number}' WHERE id = {}", row + 1)).await?;
        acknowledged[row].store(number, Ordering::SeqCst);
    }
    Ok(())
}

/// Lets the readers read for a slice, and adds what they came to.
async fn run(
    db: &DatabaseConnection,
    reads: Reads,
    slices: Slices,
    acknowledged: &Acknowledged,
    tally: &mut Tally,
) -> Result<()> {
    let measured_from = Instant::now() + slices.warm_up;
    let until = measured_from + slices.measured;
    let readers: Vec<_> = (0..READERS)
        .map(|seed| {
            let db = match reads {
                Reads::Plain | Reads::PlainWhileBusy => db.clone(),
                Reads::Session => db.session(),
                Reads::Eventual => db.with_consistency(Consistency::Eventual),
            };
            tokio::spawn(WAITED.scope(Cell::new(false), read(db, seed, measured_from, until, Arc::clone(acknowledged))))
        })
        .collect();
    sleep(slices.warm_up).await;
    let before = Counters::of(db);
    sleep(slices.measured).await;
    let after = Counters::of(db);
    for reader in readers {
        let of_reader = reader.await??;
        tally.micros.extend(of_reader.micros);
        tally.waited += of_reader.waited;
        tally.older += of_reader.older;
    }
    tally.seconds += slices.measured.as_secs_f64();
    tally.by_primary += after.by_primary - before.by_primary;
    tally.by_all += after.by_all - before.by_all;
    tally.questions += after.questions - before.questions;
    tally.writes += after.writes - before.writes;
    Ok(())
}

async fn read(
    db: DatabaseConnection,
    seed: u64,
    measured_from: Instant,
    until: Instant,
    acknowledged: Acknowledged,
) -> Result<Tally> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    loop {
        let row = random.random_range(0..WRITTEN);
        let at_least = acknowledged[row].load(Ordering::SeqCst);
        WAITED.with(|waited| waited.set(false));
        let began = Instant::now();
        if began >= until {
            return Ok(tally);
        }
        let id = i32::try_from(row + 1).context("few rows are written")?;
        let found = customer::Entity::find_by_id(id).one(&db).await?.context("a row is missing")?;
        if began >= measured_from {
            tally.micros.push(u32::try_from(began.elapsed().as_micros())?);
            tally.waited += u64::from(WAITED.with(Cell::get));
            tally.older += u64::from(found.city.parse::<u64>()? < at_least);
        }
    }
}

/// What the nodes have counted.
struct Counters {
    by_primary: u64,
    by_all: u64,
    writes: u64,
    questions: u64,
}

impl Counters {
    fn of(db: &DatabaseConnection) -> Self {
        let topology = db.topology();
        let sum =
            |count: fn(&sea_orm_resolver::Node) -> u64| topology.members().map(|member| count(member.node())).sum();
        Self {
            by_primary: topology.primary().node().served_reads(),
            by_all: sum(sea_orm_resolver::Node::served_reads),
            writes: sum(sea_orm_resolver::Node::served_writes),
            questions: sum(sea_orm_resolver::Node::probes),
        }
    }
}

impl Tally {
    fn line(&mut self, reads: Reads) -> String {
        self.micros.sort_unstable();
        let count = self.micros.len();
        let at = |part: f64| {
            let index = ((count as f64 * part) as usize).min(count.saturating_sub(1));
            f64::from(self.micros.get(index).copied().unwrap_or_default()) / 1_000.0
        };
        let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
        format!(
            "| {:.0} | {reads} | {:.0} | {:.2} ms | {:.2} ms | {:.0} % | {:.1} % | {} | {:.0} |",
            self.writes as f64 / self.seconds,
            count as f64 / self.seconds,
            at(0.5),
            at(0.99),
            percent(self.by_primary, self.by_all),
            percent(self.waited, count as u64),
            self.older,
            self.questions as f64 / self.seconds,
        )
    }
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain `db`",
            Self::PlainWhileBusy => "plain `db`, the primary busy",
            Self::Session => "explicit session",
            Self::Eventual => "`Eventual`",
        })
    }
}

/// Hears the one event "a read waits for a change", whose only fields are its message and the generation. Every other
/// event and span stays off, so that the reads cost what they cost without a subscriber.
struct WaitCounter;

impl WaitCounter {
    fn is_wait(metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target() == "sea_orm_resolver::route"
            && metadata.fields().iter().map(|field| field.name()).eq(["message", "generation"])
    }
}

impl Subscriber for WaitCounter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::is_wait(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::is_wait(metadata)
    }

    fn event(&self, _: &Event<'_>) {
        // A read of the library itself has no such task.
        let _ = WAITED.try_with(|waited| waited.set(true));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
