//! Replicas that join or return without the writes of their absence, when the floors of these writes have passed by
//! time.

use std::time::Duration;

use anyhow::{Result, ensure};
use sea_orm::{ActiveModelTrait, EntityTrait, PaginatorTrait};
use sea_orm_resolver::{DatabaseConnection, Health};
use testkit::PostgresCluster;

use super::{PATIENCE, comes_back_to_a_replica, finds, finds_until_served_by, in_a_task};
use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

/// Longer than any write binds a session.
const FLOOR_PASSED_AFTER: Duration = Duration::from_millis(2_500);
const READS: u32 = 200;

async fn becomes(db: &DatabaseConnection, name: &str, wanted: Health) -> Result<()> {
    let health = || db.topology().member(name).map(sea_orm_resolver::Member::health);
    wait_until(&format!("{name} to be {wanted:?}"), PATIENCE, async || Ok(health() == Some(wanted))).await
}

/// A session that wrote a row and whose floor has passed. The session is the task that runs this.
struct Writer {
    db: DatabaseConnection,
    session: DatabaseConnection,
    in_task: i32,
    in_session: i32,
}

impl Writer {
    async fn new(db: &DatabaseConnection, servers: &Servers) -> Result<Self> {
        let (db, session) = (db.clone(), db.session());
        let in_task = item::new("of the task", 1).insert(&db).await?.id;
        let in_session = item::new("of the session", 1).insert(&session).await?.id;
        comes_back_to_a_replica(&db, &servers.who()).await?;
        comes_back_to_a_replica(&session, &servers.who()).await?;
        let writer = Self { db, session, in_task, in_session };
        tokio::time::sleep(FLOOR_PASSED_AFTER).await;
        writer.reads().await?;
        Ok(writer)
    }

    /// Each kind of read finds its row.
    async fn reads(&self) -> Result<()> {
        let Self { db, session, in_task, in_session } = self;
        assert!(finds(db, *in_task).await?, "the task's row is gone; {}", db.topology());
        assert!(finds(session, *in_session).await?, "the session's row is gone; {}", db.topology());
        let read = db.read();
        assert!(item::Entity::find_by_id(*in_task).one(&read).await?.is_some(), "read(); {}", db.topology());
        Ok(())
    }

    /// A good while of reads.
    async fn reads_on(&self) -> Result<()> {
        for _ in 0..READS {
            self.reads().await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

async fn a_replica_that_joins_late_is_not_trusted_early(servers: Servers) -> Result<()> {
    let builder = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(servers.replica_node(0))
        .primary_read_share(0.0);
    let db = servers.open(builder).await?;
    let behind = servers.replica(1);
    behind.pause_replay().await?;
    in_a_task(async move {
        let writer = Writer::new(&db, &servers).await?;
        db.add_replica(servers.replica_node(1)).await?;
        writer.reads_on().await?;
        assert_eq!(servers.replica(1).query_scalar("SELECT count(*) FROM item").await?, "0", "it is still behind");
        servers.replica(1).resume_replay().await?;
        finds_until_served_by(&db, writer.in_task, "replica-1").await
    })
    .await?
}

on_each_database!(a_replica_that_joins_late_is_not_trusted_early, [postgres, mariadb]);

async fn a_replica_that_was_frozen_is_not_trusted_early(servers: Servers) -> Result<()> {
    let watchful = servers.builder().primary_read_share(0.0).probe_interval(Duration::from_millis(200));
    let db = servers.open(watchful.probe_timeout(Duration::from_millis(200))).await?;
    let frozen = servers.replica(1);
    // The replica does not catch up in the moment in which it is thawed.
    frozen.pause_replay().await?;
    frozen.freeze()?;
    becomes(&db, "replica-1", Health::Down).await?;
    in_a_task(async move {
        let writer = Writer::new(&db, &servers).await?;
        servers.replica(1).thaw()?;
        becomes(&db, "replica-1", Health::Up).await?;
        writer.reads_on().await?;
        assert_eq!(servers.replica(1).query_scalar("SELECT count(*) FROM item").await?, "0", "it is still behind");
        servers.replica(1).resume_replay().await?;
        finds_until_served_by(&db, writer.in_task, "replica-1").await
    })
    .await?
}

on_each_database!(a_replica_that_was_frozen_is_not_trusted_early, [postgres, mariadb]);

/// The replica is told to be late by an hour, and still is when it is back.
#[tokio::test]
async fn mariadb_a_replica_that_was_restarted_is_not_trusted_early() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let watchful = servers.builder().primary_read_share(0.0).probe_interval(Duration::from_millis(200));
    let db = servers.open(watchful).await?;
    servers.replica(1).delay_replay(Duration::from_secs(3_600)).await?;
    in_a_task(async move {
        let behind = servers.replica(1);
        behind.kill().await?;
        becomes(&db, "replica-1", Health::Down).await?;
        let writer = Writer::new(&db, &servers).await?;
        behind.start().await?;
        becomes(&db, "replica-1", Health::Up).await?;
        writer.reads_on().await?;
        assert_eq!(behind.query_scalar("SELECT count(*) FROM item").await?, "0", "it is still behind");
        behind.delay_replay(Duration::ZERO).await?;
        finds_until_served_by(&db, writer.in_task, "replica-1").await
    })
    .await?
}

/// A killed standby replays again the records that it had not written to its files, from its last restart point on;
/// in this test the standby does so slowly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_a_standby_that_went_back_in_time_is_not_trusted_early() -> Result<()> {
    let cluster = PostgresCluster::start_with(2, &[("bgwriter_lru_maxpages", "0")]).await?;
    let servers = Servers::Postgres(cluster);
    let watchful = servers.builder().primary_read_share(0.0).probe_interval(Duration::from_millis(200));
    let db = servers.open(watchful).await?;
    servers.primary().query_scalar("CHECKPOINT").await?;
    servers.wait_caught_up().await?;
    servers.replica(1).query_scalar("CHECKPOINT").await?;
    in_a_task(async move {
        let writer = Writer::new(&db, &servers).await?;
        let standby = servers.replica(1).clone();
        let rows = async || standby.query_scalar("SELECT count(*) FROM item").await;
        ensure!(rows().await? == "2", "it had replayed both rows");
        finds_until_served_by(&db, writer.in_task, "replica-1").await?;

        standby.kill().await?;
        standby.delay_replay(Duration::from_secs(3_600)).await?;
        let starting = standby.clone();
        // The replica does not stream before it has replayed its own log, so this call ends late.
        let starting = tokio::spawn(async move { starting.start().await });
        wait_until("it answers, and is back in time", PATIENCE, async || {
            writer.reads().await?;
            Ok(rows().await.is_ok_and(|rows| rows == "0"))
        })
        .await?;
        wait_until("it is back in rotation", PATIENCE, async || {
            writer.reads().await?;
            Ok(db.topology().member("replica-1").is_some_and(|member| member.health() == Health::Up))
        })
        .await?;
        writer.reads_on().await?;
        ensure!(rows().await? == "0", "it is still back in time");
        let stranger = db.session();
        item::Entity::find().count(&stranger).await?;

        standby.delay_replay(Duration::ZERO).await?;
        starting.await??;
        finds_until_served_by(&db, writer.in_task, "replica-1").await?;
        writer.reads_on().await
    })
    .await?
}
