use testkit::{Cluster, MariaDbCluster, PostgresCluster};

use crate::{insert, items, with_items};

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

#[tokio::test]
async fn what_postgres_writes_both_replicas_show() -> anyhow::Result<()> {
    what_the_primary_writes_both_replicas_show(&*PostgresCluster::start(2).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_mariadb_writes_both_replicas_show() -> anyhow::Result<()> {
    what_the_primary_writes_both_replicas_show(&*MariaDbCluster::start(2).await?).await
}

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
