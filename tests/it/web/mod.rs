//! Web services read what their process wrote, from replicas that are late.
//!
//! HTTP clients ask a service over TCP: write a row, read the row. Each test counts the reads that miss their row, and
//! must count none. In the same run two controls prove that the count means something: the same reads under
//! `Consistency::Eventual` do miss rows, and when the writes have stopped, replicas serve the reads of the same
//! connection. `WEB_ROUNDS=1000 cargo test --test it web::` asks more.

mod attack;
mod client;
mod patterns;
mod processes;
mod service;
mod tasks;
mod unknown_outcome;

use std::{env, fmt, time::Duration};

use anyhow::{Result, ensure};
use sea_orm::EntityTrait;
use sea_orm_resolver::{Consistency, DatabaseConnection};
use testkit::Lag;
use tokio::time::Instant;

use crate::{
    item,
    servers::{Servers, served_reads},
};

/// How late the replicas are.
const LATE: Duration = Duration::from_millis(100);

/// For states that come in milliseconds when nothing else runs on the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The reads of one quiet phase.
const QUIET_READS: u64 = 100;

/// The share of the reads that replicas serve at least while nobody writes.
const SHARE_OF_REPLICAS: f64 = 0.4;

/// What the reads of one test have found.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    reads: u64,
    stale: u64,
    /// Of `reads`, those at times when a replica has about received the row.
    late_reads: u64,
    /// Of `late_reads`, those that a replica served.
    late_by_replicas: u64,
    /// The same reads under `Consistency::Eventual`.
    control_reads: u64,
    control_stale: u64,
}

impl Tally {
    fn read(&mut self, found: bool) {
        self.reads += 1;
        self.stale += u64::from(!found);
    }

    fn late_read(&mut self, found: bool, by_replicas: u64) {
        self.late_reads += 1;
        self.late_by_replicas += by_replicas;
        self.read(found);
    }

    fn control(&mut self, found: bool) {
        self.control_reads += 1;
        self.control_stale += u64::from(!found);
    }

    /// What both have found.
    fn and(self, other: Self) -> Self {
        Self {
            reads: self.reads + other.reads,
            stale: self.stale + other.stale,
            late_reads: self.late_reads + other.late_reads,
            late_by_replicas: self.late_by_replicas + other.late_by_replicas,
            control_reads: self.control_reads + other.control_reads,
            control_stale: self.control_stale + other.control_stale,
        }
    }

    /// No read is stale, and the control is.
    fn proves(&self, test: &str) -> Result<()> {
        println!("{test}: {self}");
        ensure!(self.stale == 0, "{test}: {self}");
        ensure!(self.control_stale > 0, "{test}: no control is stale, so the test proves nothing: {self}");
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, stale, late_reads, late_by_replicas, control_reads, control_stale } = self;
        write!(f, "{stale} of {reads} reads stale, replicas served {late_by_replicas} of {late_reads} late ones; ")?;
        write!(f, "under Eventual {control_stale} of {control_reads} stale")
    }
}

/// The rounds of each client, a write and a read of the row at once: `WEB_ROUNDS`, or as many as the tests of this module
/// need half a minute for.
fn rounds() -> u32 {
    const DEFAULT: u32 = 250;
    match env::var("WEB_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("WEB_ROUNDS is a number"),
        Err(_) => DEFAULT,
    }
}

/// How often a round also reads under `Consistency::Eventual`.
const CONTROL_EVERY: u32 = 10;

/// Now and then a pause after a write, of 60 to 140 ms by turns: the replicas receive the row about then.
fn pause_before_late_read(round: u32) -> Option<Duration> {
    const EVERY: u32 = 10;
    round.is_multiple_of(EVERY).then(|| LATE * (6 + round / EVERY % 9) / 10)
}

/// Whether a read of this handle finds the row.
async fn finds(db: &DatabaseConnection, id: i32) -> Result<bool> {
    Ok(item::Entity::find_by_id(id).one(db).await?.is_some())
}

/// The same handle, but its reads take any replica.
fn eventual(db: &DatabaseConnection) -> DatabaseConnection {
    db.with_consistency(Consistency::Eventual)
}

/// Makes the table, and the replicas late.
async fn late_replicas(servers: &Servers) -> Result<Lag> {
    item::create_table(&servers.plain().await?).await?;
    servers.wait_caught_up().await?;
    servers.lag(LATE).await
}

/// Reads that the primary and the replicas of a connection have served.
fn by_role(db: &DatabaseConnection) -> (u64, u64) {
    let served = served_reads(db);
    let primary = served.get("primary").copied().unwrap_or_default();
    (primary, served.values().sum::<u64>() - primary)
}

/// Waits for a quiet phase: reads, of which replicas serve their share.
async fn replicas_serve_when_it_is_quiet(
    test: &str,
    db: &DatabaseConnection,
    mut read: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let began = Instant::now();
    loop {
        let before = by_role(db);
        for _ in 0..QUIET_READS {
            ensure!(read().await?, "{test}: a read misses its row; {}", db.topology());
        }
        let after = by_role(db);
        let (primary, replicas) = (after.0 - before.0, after.1 - before.1);
        let share = share(replicas, primary + replicas);
        if share >= SHARE_OF_REPLICAS {
            println!("{test}: replicas serve {:.0} % of the reads when it is quiet", share * 100.0);
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{test}: replicas serve {share:.2} of the reads; {}", db.topology());
        tokio::time::sleep(LATE).await;
    }
}

fn share(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of reads are small")]
    let share = part as f64 / whole.max(1) as f64;
    share
}
