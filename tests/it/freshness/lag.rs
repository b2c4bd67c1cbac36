//! A replica that falls behind the limit leaves the rotation, and comes back when it has caught up.

use std::time::Duration;

use anyhow::Result;
use sea_orm::{ActiveModelTrait, EntityTrait};
use sea_orm_resolver::{Consistency, DatabaseConnection};
use testkit::ChaosProxy;
use tokio::time::Instant;

use super::{PATIENCE, served};
use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

const PROBE_INTERVAL: Duration = Duration::from_millis(200);
const MAX_LAG: Duration = Duration::from_secs(1);
/// How much later than necessary a replica may be out: the machine that runs all servers is busy.
const SLACK: Duration = Duration::from_secs(5);
/// So many reads without one for a replica that takes half of them are no accident.
const READS: usize = 40;

/// Makes a replica fall behind.
enum Fault<'a> {
    ReceiverDead(&'a ChaosProxy),
    ReplayPaused,
    ProcessStopped,
}

impl Fault<'_> {
    async fn begin(&self, servers: &Servers) -> Result<()> {
        match self {
            Self::ReceiverDead(proxy) => proxy.cut(),
            Self::ReplayPaused => servers.replica(1).pause_replay().await?,
            Self::ProcessStopped => servers.replica(1).freeze()?,
        }
        Ok(())
    }

    async fn end(&self, servers: &Servers) -> Result<()> {
        match self {
            Self::ReceiverDead(proxy) => proxy.restore(),
            Self::ReplayPaused => servers.replica(1).resume_replay().await?,
            Self::ProcessStopped => servers.replica(1).thaw()?,
        }
        Ok(())
    }
}

/// Whether the replica is given any of the reads that may go everywhere.
async fn takes_reads(db: &DatabaseConnection) -> Result<bool> {
    let eventual = db.with_consistency(Consistency::Eventual);
    let before = served(db, "replica-1");
    for _ in 0..READS {
        item::Entity::find_by_id(1).one(&eventual).await?;
    }
    Ok(served(db, "replica-1") > before)
}

async fn leaves_and_comes_back(servers: &Servers, db: &DatabaseConnection, fault: Fault<'_>) -> Result<()> {
    wait_until("it is in rotation", PATIENCE, async || takes_reads(db).await).await?;
    fault.begin(servers).await?;
    // An idle primary has nothing that a replica could be behind of.
    let writer = db.clone();
    let writer = tokio::spawn(async move {
        for n in 0.. {
            item::new("x", n).insert(&writer).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    });
    let began = Instant::now();
    if matches!(fault, Fault::ProcessStopped) {
        // A read that runs on the replica when it stops waits for it; here no read does.
        wait_until("it is known to be silent", PATIENCE, async || {
            tokio::time::sleep(PROBE_INTERVAL).await;
            Ok(db.topology().member("replica-1").is_some_and(|member| member.last_failure().is_some()))
        })
        .await?;
    }
    wait_until("it leaves the rotation", PATIENCE, async || Ok(!takes_reads(db).await?)).await?;
    let took = began.elapsed();
    let longest = MAX_LAG + PROBE_INTERVAL.mul_f64(1.2) * 2 + SLACK;
    assert!(took <= longest, "it left after {took:?}, which is more than {longest:?}; {}", db.topology());
    println!("left after {took:?} ({MAX_LAG:?} of them allowed, a probe each {PROBE_INTERVAL:?})");
    for _ in 0..5 {
        assert!(!takes_reads(db).await?, "it is back, and nothing has changed; {}", db.topology());
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    println!("{}", db.topology());
    fault.end(servers).await?;
    wait_until("it comes back", PATIENCE, async || takes_reads(db).await).await?;
    assert!(!writer.is_finished(), "writing never failed");
    writer.abort();
    Ok(())
}

async fn a_replica_that_falls_behind_leaves_the_rotation_and_comes_back(servers: Servers) -> Result<()> {
    let builder = servers.builder().primary_read_share(0.0).max_lag(Some(MAX_LAG));
    let db = servers.open(builder.probe_interval(PROBE_INTERVAL).probe_timeout(PROBE_INTERVAL)).await?;
    let proxy = ChaosProxy::start(servers.primary().port()).await?;
    servers.replica(1).follow_through(&proxy).await?;
    for fault in [Fault::ReplayPaused, Fault::ReceiverDead(&proxy), Fault::ProcessStopped] {
        leaves_and_comes_back(&servers, &db, fault).await?;
    }
    Ok(())
}

on_each_database!(
    a_replica_that_falls_behind_leaves_the_rotation_and_comes_back,
    [postgres, mariadb],
    worker_threads = 2
);
