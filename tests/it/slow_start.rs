//! A replica that was restarted takes a growing share of the reads.

use std::time::Duration;

use anyhow::Result;
use sea_orm::ConnectionTrait;
use sea_orm_resolver::{Consistency, DatabaseConnection};

use crate::{
    servers::{Servers, on_each_database, served_reads},
    wait::wait_until,
};

/// The machine that runs all servers is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// A replica that takes half of the reads serves 200 of them, with a standard deviation of 10.
const READS: u64 = 400;
/// Nothing in the test takes so long that the share of a tenth becomes a quarter.
const HOUR: Duration = Duration::from_secs(3_600);

async fn open(servers: &Servers, slow_start: Duration) -> Result<DatabaseConnection> {
    let builder = servers.builder().primary_read_share(0.0).probe_interval(Duration::from_millis(200));
    Ok(builder.slow_start(slow_start).connect().await?.with_consistency(Consistency::Eventual))
}

/// The share of some reads that the first replica serves, in parts of its full share.
async fn share(db: &DatabaseConnection, servers: &Servers) -> Result<f64> {
    let before = served_reads(db)["replica-0"];
    let who = servers.who();
    for _ in 0..READS {
        db.query_one_raw(who.raw()).await?;
    }
    let served = u32::try_from(served_reads(db)["replica-0"] - before)?;
    Ok(f64::from(served) / f64::from(u32::try_from(READS / 2)?))
}

fn starts_slowly(db: &DatabaseConnection) -> bool {
    db.topology().member("replica-0").is_some_and(sea_orm_resolver::Member::is_starting_slowly)
}

async fn a_restarted_replica_takes_a_tenth_of_its_reads_and_soon_all_of_them(servers: Servers) -> Result<()> {
    // Two processes that differ in the time alone: no second of a busy machine decides.
    let (for_long, for_a_moment) = (open(&servers, HOUR).await?, open(&servers, Duration::from_secs(2)).await?);
    for db in [&for_long, &for_a_moment] {
        assert!(!starts_slowly(db), "all nodes begin at once");
        let share = share(db, &servers).await?;
        assert!((0.6..1.4).contains(&share), "{share} before the restart");
    }

    servers.replica(0).restart().await?;
    wait_until("the replica is back", PATIENCE, async || Ok(starts_slowly(&for_long))).await?;
    for _ in 0..3 {
        let share = share(&for_long, &servers).await?;
        assert!(share < 0.35, "{share} of its reads; {}", for_long.topology());
    }
    assert!(starts_slowly(&for_long));
    wait_until("its share has grown", PATIENCE, async || {
        Ok(share(&for_a_moment, &servers).await? > 0.6 && !starts_slowly(&for_a_moment))
    })
    .await?;
    let share = share(&for_long, &servers).await?;
    assert!(share < 0.35, "{share} of its reads; {}", for_long.topology());
    Ok(())
}

on_each_database!(a_restarted_replica_takes_a_tenth_of_its_reads_and_soon_all_of_them, [postgres, mariadb, mysql]);
