use std::time::{Duration, Instant};

use testkit::{ChaosProxy, Cluster, MariaDbCluster, PostgresCluster};

use crate::{insert, items, on_each_database, with_items};

async fn what_the_primary_writes_both_replicas_show(cluster: &Cluster) -> anyhow::Result<()> {
    with_items(cluster).await?;
    for id in 2..=40 {
        insert(cluster.primary(), id).await?;
    }
    cluster.wait_caught_up().await?;
    assert_eq!(cluster.replicas().len(), 2);
    for replica in cluster.replicas() {
        assert_eq!(items(replica).await?, 40);
        insert(replica, 99).await.expect_err("a replica takes no writes");
    }
    Ok(())
}

on_each_database!(what_the_primary_writes_both_replicas_show, [postgres, mariadb, mysql], replicas = 2);

#[tokio::test]
async fn a_cluster_needs_no_replicas() -> anyhow::Result<()> {
    let cluster = PostgresCluster::start(0).await?;
    with_items(&cluster).await?;
    assert_eq!(items(cluster.primary()).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_start_at_once_and_do_not_meet() -> anyhow::Result<()> {
    // Spawned: what the kit returns may travel between threads.
    let starts = [
        tokio::spawn(async { anyhow::Ok(PostgresCluster::start(1).await?.primary().query_scalar(WHO).await?) }),
        tokio::spawn(async { anyhow::Ok(PostgresCluster::start(1).await?.primary().query_scalar(WHO).await?) }),
    ];
    let (left, right) = tokio::try_join!(MariaDbCluster::start(1), MariaDbCluster::start(1))?;
    with_items(&left).await?;
    items(right.replica(0)).await.expect_err("the other cluster has no such table");
    let mut identities = Vec::new();
    for start in starts {
        identities.push(start.await??);
    }
    assert_ne!(identities[0], identities[1], "two clusters must not look like one system");
    Ok(())
}

const WHO: &str = "SELECT system_identifier FROM pg_control_system()";

#[tokio::test]
async fn settings_of_the_test_win() -> anyhow::Result<()> {
    let postgres = PostgresCluster::start_with(1, &[("max_connections", "12")]).await?;
    let mariadb = MariaDbCluster::start_with(1, &[("max_connections", "12")]).await?;
    for server in postgres.servers() {
        assert_eq!(server.query_scalar("SHOW max_connections").await?, "12");
    }
    for server in mariadb.servers() {
        assert_eq!(server.query_scalar("SELECT @@max_connections").await?, "12");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_setting_fails_with_the_servers_own_words() {
    let postgres = PostgresCluster::start_with(0, &[("no_such_setting", "1")]).await.expect_err("it is wrong");
    assert!(format!("{postgres:#}").contains("no_such_setting"), "{postgres:#}");
    let mariadb = MariaDbCluster::start_with(0, &[("no_such_setting", "1")]).await.expect_err("it is wrong");
    assert!(format!("{mariadb:#}").contains("no-such-setting"), "{mariadb:#}");
}

#[tokio::test]
async fn the_application_is_ordinary_and_the_privileged_user_is_not() -> anyhow::Result<()> {
    let cluster = MariaDbCluster::start(1).await?;
    with_items(&cluster).await?;
    let replica = cluster.replica(0);
    assert_eq!(replica.query_scalar("SELECT @@global.read_only").await?, "1");
    insert(replica, 2).await.expect_err("the application obeys read_only");

    use sea_orm::{ConnectionTrait, Database};
    let privileged = Database::connect(replica.privileged_url()).await?;
    privileged.execute_unprepared("INSERT INTO item VALUES (2)").await?;
    assert_eq!(items(replica).await?, 2);

    let postgres = PostgresCluster::start(0).await?;
    let app = Database::connect(postgres.primary().url()).await?;
    app.execute_unprepared("CREATE ROLE other").await.expect_err("the application is no superuser");
    let privileged = Database::connect(postgres.primary().privileged_url()).await?;
    privileged.execute_unprepared("CREATE ROLE other").await?;
    let wrong = postgres.primary().url().replace("s3cret", "guess");
    Database::connect(wrong).await.expect_err("passwords are checked");
    Ok(())
}

async fn replicas_are_late(cluster: &Cluster) -> anyhow::Result<()> {
    const LATE: Duration = Duration::from_millis(100);
    with_items(cluster).await?;
    let lag = cluster.lag(LATE).await?;
    for id in 2..5 {
        let asked = Instant::now();
        insert(cluster.primary(), id).await?;
        cluster.wait_caught_up().await?;
        assert!(asked.elapsed() >= LATE, "after {:?}", asked.elapsed());
        assert_eq!(items(cluster.replica(0)).await?, id);
    }
    cluster.replica(0).restart().await?; // the replica follows through the same proxy
    insert(cluster.primary(), 5).await?;
    cluster.wait_caught_up().await?;
    drop(lag);
    Ok(())
}

on_each_database!(replicas_are_late, [postgres, mariadb], replicas = 2);

async fn a_receiver_dies(cluster: &Cluster) -> anyhow::Result<()> {
    with_items(cluster).await?;
    let proxy = ChaosProxy::start(cluster.primary().port()).await?;
    cluster.replica(0).follow_through(&proxy).await?;
    insert(cluster.primary(), 2).await?;
    cluster.wait_caught_up().await?;
    proxy.cut();
    insert(cluster.primary(), 3).await?;
    cluster.replica(1).wait_caught_up().await?;
    crate::a_moment().await;
    assert_eq!(items(cluster.replica(0)).await?, 2, "it still answers, and hears nothing");
    proxy.restore();
    cluster.wait_caught_up().await?;
    assert_eq!(items(cluster.replica(0)).await?, 3);
    Ok(())
}

on_each_database!(a_receiver_dies, [postgres, mariadb], replicas = 2);

#[tokio::test]
async fn the_application_may_be_let_see_the_timeline() -> anyhow::Result<()> {
    let cluster = PostgresCluster::start(1).await?;
    with_items(&cluster).await?;
    let timeline = "SET ROLE shop; SELECT received_tli FROM pg_stat_wal_receiver";
    assert_eq!(cluster.replica(0).query_scalar(timeline).await?, "");
    cluster.grant_stats().await?;
    cluster.wait_caught_up().await?;
    assert_eq!(cluster.replica(0).query_scalar(timeline).await?, "1");
    Ok(())
}
