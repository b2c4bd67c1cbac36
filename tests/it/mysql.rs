//! Tests of MySQL alone: freshness by its sets of GTIDs, and the differences from MariaDB.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait, PaginatorTrait};
use sea_orm_resolver::{Builder, CausalToken, DatabaseConnection, Member, NodeConfig};
use tokio::task::JoinSet;

use crate::{
    item, read_only,
    servers::{Servers, on_each_database, run_on::mysql as on_mysql, served_reads},
    wait::wait_until,
    who::Who,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sticking by time would have every session back on the replicas at once.
fn by_position_alone(servers: &Servers) -> Builder {
    servers.builder().primary_read_share(0.0).stick_after_write(Duration::from_millis(1))
}

/// The nodes that answer forty reads in a row.
async fn answers(db: &DatabaseConnection, who: &Who) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(who.answers(db).await?);
    }
    Ok(seen)
}

async fn wait_for_a_replica(db: &DatabaseConnection, who: &Who) -> Result<()> {
    wait_until("a replica is fresh enough", PATIENCE, async || Ok(who.answers(db).await? != "primary")).await
}

#[tokio::test]
async fn mysql_reads_go_to_the_replicas_and_writes_to_the_primary() -> Result<()> {
    on_mysql(async |servers| {
        let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
        let who = servers.who();
        assert_eq!(answers(&db, &who).await?, BTreeSet::from(["replica-0".to_owned(), "replica-1".to_owned()]));
        assert_eq!(who.answers(&db.write()).await?, "primary");
        item::new("x", 1).insert(&db).await?;
        assert_eq!(item::Entity::find().count(&db).await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mysql_ten_held_read_connections_refuse_writes() -> Result<()> {
    on_mysql(async |servers| {
        // With a time limit too, which MySQL calls otherwise than MariaDB.
        let node = |url: &str| NodeConfig::new(url).statement_timeout(Duration::from_secs(20));
        read_only::ten_held_connections_refuse_writes(&servers, &node).await
    })
    .await
}

#[tokio::test]
async fn mysql_a_session_leaves_the_primary_when_the_replicas_have_its_transactions() -> Result<()> {
    on_mysql(async |servers| {
        let db = servers.open(by_position_alone(&servers)).await?;
        let who = servers.who();
        servers.pause_replay().await?;
        let (writer, stranger) = (db.session(), db.session());
        let id = item::new("x", 1).insert(&writer).await?.id;
        for _ in 0..100 {
            assert!(item::Entity::find_by_id(id).one(&writer).await?.is_some());
            assert_eq!(who.answers(&writer).await?, "primary");
            assert!(item::Entity::find_by_id(id).one(&stranger).await?.is_none(), "the replicas do not know it");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        // One of the two is enough.
        servers.replica(1).resume_replay().await?;
        wait_for_a_replica(&writer, &who).await?;
        assert_eq!(who.answers(&writer).await?, "replica-1");
        assert!(item::Entity::find_by_id(id).one(&writer).await?.is_some());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_replicas_that_replay_serve_sessions_that_write() -> Result<()> {
    const TASKS: i32 = 8;
    const ROUNDS: i32 = 100;
    on_mysql(async |servers| {
        let db = servers.open(by_position_alone(&servers)).await?;
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let db = db.clone();
            tasks.spawn(async move {
                for n in 0..ROUNDS {
                    let id = item::new(format!("task {task}"), n).insert(&db).await?.id;
                    for read in 0..10 {
                        let found = item::Entity::find_by_id(id).one(&db).await?;
                        ensure!(found.is_some_and(|item| item.amount == n), "round {n}, read {read}");
                    }
                }
                Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let served = served_reads(&db);
        assert!(served["replica-0"] > 0 && served["replica-1"] > 0, "{served:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mysql_a_causal_token_is_honoured_by_another_connection() -> Result<()> {
    on_mysql(async |servers| {
        let here = servers.open(by_position_alone(&servers)).await?;
        let there = by_position_alone(&servers).connect().await?;
        let who = servers.who();
        servers.pause_replay().await?;
        let writer = here.session();
        let id = item::new("x", 1).insert(&writer).await?.id;
        let text = writer.causal_token().await?.to_string();
        let token: CausalToken = text.parse()?;
        let (after, stranger) = (there.session_after(&token), there.session());
        for _ in 0..20 {
            assert!(item::Entity::find_by_id(id).one(&after).await?.is_some());
            assert_eq!(who.answers(&after).await?, "primary");
            assert!(item::Entity::find_by_id(id).one(&stranger).await?.is_none());
        }
        servers.resume_replay().await?;
        wait_for_a_replica(&after, &who).await?;
        assert!(item::Entity::find_by_id(id).one(&after).await?.is_some());
        // A session that begins later need not read from the primary at all.
        let late = there.session_after(&token);
        wait_for_a_replica(&late, &who).await?;
        assert!(item::Entity::find_by_id(id).one(&late).await?.is_some());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mysql_the_topology_shows_how_far_a_replica_is_behind() -> Result<()> {
    on_mysql(async |servers| {
        let probes = servers.builder().probe_interval(Duration::from_millis(50));
        let db = servers.open(probes).await?;
        let lag = |name: &str| db.topology().member(name).and_then(Member::lag);
        wait_until("both have everything", PATIENCE, async || {
            Ok(lag("replica-0") == Some(Duration::ZERO) && lag("replica-1") == Some(Duration::ZERO))
        })
        .await?;
        servers.replica(0).pause_replay().await?;
        wait_until("one is behind", PATIENCE, async || {
            item::new("x", 1).insert(&db).await?;
            Ok(lag("replica-0") > Some(Duration::from_millis(200)))
        })
        .await?;
        servers.replica(0).resume_replay().await?;
        wait_until("it has caught up", PATIENCE, async || Ok(lag("replica-0") == Some(Duration::ZERO))).await
    })
    .await
}

/// A server that has executed nothing is known to have nothing.
async fn replicas_of_an_empty_primary_have_nothing(servers: Servers) -> Result<()> {
    let db = by_position_alone(&servers).connect().await?;
    servers.pause_replay().await?;
    let session = db.session();
    item::create_table(&session).await?;
    let id = item::new("first", 1).insert(&session).await?.id;
    let who = servers.who();
    for round in 0..300 {
        assert_eq!(who.answers(&session).await?, "primary", "round {round}");
        assert!(item::Entity::find_by_id(id).one(&session).await?.is_some());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    servers.resume_replay().await?;
    wait_for_a_replica(&session, &who).await?;
    assert!(item::Entity::find_by_id(id).one(&session).await?.is_some());
    Ok(())
}

on_each_database!(replicas_of_an_empty_primary_have_nothing, [mariadb, mysql]);

/// A primary that gives no GTIDs any more keeps the set of the earlier ones. The replicas have that whole set, and
/// must not seem to have the writes since.
#[tokio::test]
async fn mysql_without_gtids_sessions_stick_by_time() -> Result<()> {
    on_mysql(async |servers| {
        let stick = Duration::from_secs(2);
        let for_long = servers.builder().primary_read_share(0.0).stick_after_write(Duration::from_secs(60));
        let db = servers.open(for_long).await?;
        let briefly = servers.builder().primary_read_share(0.0).stick_after_write(stick).connect().await?;
        let who = servers.who();
        wait_until("its replicas have positions", PATIENCE, async || {
            Ok(db.topology().replicas().iter().all(|replica| replica.lag().is_some()))
        })
        .await?;
        // Anonymous transactions, which replicas that position themselves by GTID cannot follow.
        for mode in ["ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"] {
            servers.primary().query_scalar(&format!("SET GLOBAL gtid_mode = {mode}")).await?;
        }
        let writer = db.session();
        let id = item::new("x", 1).insert(&writer).await?.id;
        wait_until("the primary has said that it has none", PATIENCE, async || {
            assert!(item::Entity::find_by_id(id).one(&writer).await?.is_some());
            Ok(db.topology().replicas().iter().all(|replica| replica.lag().is_none()))
        })
        .await?;
        for _ in 0..100 {
            assert!(item::Entity::find_by_id(id).one(&writer).await?.is_some());
            assert!(item::Entity::find_by_id(id).one(&db.session()).await?.is_none(), "no replica has it");
        }
        // Only time counts: when it has passed, a session reads from replicas that lack its writes.
        let writer = briefly.session();
        item::new("x", 1).insert(&writer).await?;
        assert_eq!(who.answers(&writer).await?, "primary");
        tokio::time::sleep(stick).await;
        assert_ne!(who.answers(&writer).await?, "primary");
        Ok(())
    })
    .await
}

/// The privileged user too: MySQL's `super_read_only` refuses every user's writes on a replica.
#[tokio::test]
async fn mysql_replicas_refuse_a_user_with_every_privilege() -> Result<()> {
    on_mysql(async |servers| {
        let db = servers.connect().await?;
        let replica = sea_orm::Database::connect(servers.replica(0).privileged_url()).await?;
        let refused = replica.execute_unprepared("INSERT INTO item (name, amount) VALUES ('lost', 1)").await;
        assert!(refused.is_err_and(|error| error.to_string().contains("super-read-only")));
        assert_eq!(item::Entity::find().count(&db).await?, 0);
        Ok(())
    })
    .await
}
