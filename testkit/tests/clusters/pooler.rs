//! What stands between a client and a server, or between a server and its disk.

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use testkit::{PgBouncer, PostgresCluster, SmallDisk};

async fn connect(url: String) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.acquire_timeout(std::time::Duration::from_secs(3));
    Ok(Database::connect(options).await?)
}

#[tokio::test]
async fn a_pooler_serves_refuses_and_comes_back() -> anyhow::Result<()> {
    let cluster = PostgresCluster::start(0).await?;
    let pooler = PgBouncer::start(cluster.primary(), &[], &[("max_client_conn", "2")]).await?;
    let first = connect(pooler.url()).await?;
    first.execute_unprepared("SELECT 1").await?;
    let _second = connect(pooler.url()).await?;
    let refused = connect(pooler.url()).await.expect_err("two clients are there");
    assert!(refused.to_string().contains("no more connections allowed"), "{refused}");

    pooler.kill().await?;
    connect(pooler.url()).await.expect_err("nobody listens");
    pooler.start_again().await?;
    first.execute_unprepared("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_small_disk_has_no_room_for_sorts() -> anyhow::Result<()> {
    const SORT: &str =
        "SELECT count(*) FROM (SELECT g, repeat('x', 100) FROM generate_series(1, 6000) AS g ORDER BY 2, 1 DESC) AS s";
    if !SmallDisk::is_possible() {
        return Ok(());
    }
    let cluster = PostgresCluster::start_with(0, &[("work_mem", "64kB")]).await?;
    let db = connect(cluster.primary().url()).await?;
    db.execute_unprepared(SORT).await?;
    let disk = SmallDisk::for_sorts(cluster.primary(), 256)?;
    let full = db.execute_unprepared(SORT).await.expect_err("there is no room");
    assert!(full.to_string().contains("could not write to file"), "{full}");
    drop(disk);
    db.execute_unprepared(SORT).await?;
    // The folder goes with the cluster, although a disk is attached in it.
    let folder = cluster.primary().data_folder();
    std::mem::forget(SmallDisk::for_sorts(cluster.primary(), 256)?);
    drop(cluster);
    assert!(!folder.exists());
    Ok(())
}
