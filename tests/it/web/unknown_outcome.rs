//! A write that its caller stops waiting for does not send the reads of other tasks to the primary.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QueryTrait, TransactionTrait,
};
use sea_orm_resolver::DatabaseConnection;
use tokio::{
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use super::{PATIENCE, by_role, finds, share};
use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

/// Cancelled writes of each kind, one a second.
const WRITES: u32 = 4;
/// The primary's write connections.
const CONNECTIONS: u32 = 2;
const READERS: usize = 4;
/// How much the primary's share of the reads may be above its share without writes. A write that binds the process for
/// the hold, which is longer than the second between the writes, makes the share 0.98. Any write sends reads to the
/// primary until a replica is known to have the write: for some milliseconds, or for as long as the replicas were
/// late when the machine was busy.
const TOLERANCE: f64 = 0.5;
/// Fewer reads say nothing about shares.
const ENOUGH_READS: u64 = 300;

/// The state of a write when its caller stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancelled {
    /// For comparison, the caller waits for the answer.
    Not,
    /// The write waits for a connection, because all are in use.
    Queued,
    /// The server runs the statement.
    Sent,
}

impl Cancelled {
    fn name(self) -> &'static str {
        match self {
            Self::Not => "not",
            Self::Queued => "queued",
            Self::Sent => "sent",
        }
    }

    /// Writes by a statement that takes 300 ms, and stops waiting after 100 ms.
    async fn write(self, db: &DatabaseConnection) -> Result<()> {
        let name = self.name();
        let sql = match db.get_database_backend() {
            DbBackend::Postgres => {
                format!("INSERT INTO item (name, amount) SELECT '{name}', length(pg_sleep(0.3)::text)")
            }
            _ => format!("INSERT INTO item (name, amount) VALUES ('{name}', SLEEP(0.3))"),
        };
        let patience = Duration::from_millis(if self == Self::Not { 20_000 } else { 100 });
        let ended = timeout(patience, db.execute_unprepared(&sql)).await;
        ensure!(ended.is_ok() == (self == Self::Not), "the write has ended: {ended:?}");
        Ok(())
    }
}

/// The primary's share of the plain reads during a piece of work, and the number of reads.
async fn share_of_primary(db: &DatabaseConnection, work: impl Future<Output = Result<()>>) -> Result<(f64, u64)> {
    let ends = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    let before = by_role(db);
    for _ in 0..READERS {
        let (db, ends) = (db.clone(), Arc::clone(&ends));
        readers.spawn(async move {
            while !ends.load(Relaxed) {
                finds(&db, 1).await?;
                sleep(Duration::from_millis(1)).await;
            }
            anyhow::Ok(())
        });
    }
    let worked = work.await;
    ends.store(true, Relaxed);
    while let Some(reader) = readers.join_next().await {
        reader??;
    }
    worked?;
    let after = by_role(db);
    let (primary, replicas) = (after.0 - before.0, after.1 - before.1);
    Ok((share(primary, primary + replicas), primary + replicas))
}

/// One cancelled write a second, by the plain handle and in a session by turns.
async fn cancelled_writes(db: &DatabaseConnection, kind: Cancelled) -> Result<()> {
    let mut second = interval(Duration::from_secs(1));
    for number in 0..WRITES {
        second.tick().await;
        if number % 2 == 0 {
            kind.write(db).await?;
            continue;
        }
        let session = db.session();
        kind.write(&session).await?;
        // The session that wrote shows that the outcome is unknown: while the write may happen, only the primary serves
        // the session. A write that was queued never ran.
        let read = item::Entity::find_by_id(1).build(db.get_database_backend());
        let by_replicas = session.explain(&read).replica_probability();
        ensure!(
            kind == Cancelled::Not || (by_replicas > 0.0) == (kind == Cancelled::Queued),
            "{kind:?}: {}",
            session.explain(&read)
        );
    }
    second.tick().await;
    Ok(())
}

async fn a_cancelled_write_leaves_the_reads_of_other_tasks_on_replicas(servers: Servers) -> Result<()> {
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node().max_connections(CONNECTIONS))
        .replica(servers.replica_node(0))
        .replica(servers.replica_node(1));
    let db = servers.open(db).await?;
    let still = async {
        sleep(Duration::from_secs(2)).await;
        Ok(())
    };
    let (usual, reads) = share_of_primary(&db, still).await?;
    println!("no writes: the primary serves {usual:.3} of {reads} reads");
    ensure!(reads >= ENOUGH_READS, "only {reads} reads");

    for kind in [Cancelled::Not, Cancelled::Queued, Cancelled::Sent] {
        let mut held = Vec::new();
        if kind == Cancelled::Queued {
            for _ in 0..CONNECTIONS {
                held.push(db.begin().await?);
            }
        }
        let (during, reads) = share_of_primary(&db, cancelled_writes(&db, kind)).await?;
        println!("{WRITES} writes, cancelled: {}: the primary serves {during:.3} of {reads} reads", kind.name());
        ensure!(reads >= ENOUGH_READS, "only {reads} reads");
        ensure!(during <= usual + TOLERANCE, "{kind:?}: {during:.3} instead of {usual:.3}; {}", db.topology());
        for transaction in held {
            transaction.rollback().await?;
        }
        // A queued write never ran; a sent write ran to its end.
        let wanted = if kind == Cancelled::Queued { 0 } else { u64::from(WRITES) };
        let written = item::Entity::find().filter(item::Column::Name.eq(kind.name()));
        let plain = servers.plain().await?;
        wait_until("the writes that were sent have ended", PATIENCE, async || {
            Ok(written.clone().count(&plain).await? == wanted)
        })
        .await?;
    }
    db.close().await?;
    Ok(())
}

on_each_database!(
    a_cancelled_write_leaves_the_reads_of_other_tasks_on_replicas,
    [postgres, mariadb],
    worker_threads = 2
);
