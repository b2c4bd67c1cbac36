use std::time::{Duration, Instant};

use testkit::{Cluster, MariaDbCluster, PostgresCluster, Server};
use tokio::{net::TcpStream, time::timeout};

use crate::{a_moment, insert, items, with_items};

async fn connects(server: &Server) -> bool {
    TcpStream::connect(("127.0.0.1", server.port())).await.is_ok()
}

async fn servers_come_back_with_their_data(cluster: &Cluster) -> anyhow::Result<()> {
    with_items(cluster).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let port = replica.port();

    replica.kill().await?;
    assert!(!replica.is_running() && !connects(replica).await, "a killed server refuses");
    insert(primary, 2).await?;
    replica.start().await?;
    assert_eq!(replica.port(), port);
    replica.start().await.expect_err("it runs already");
    cluster.wait_caught_up().await?;
    assert_eq!(items(replica).await?, 2);

    primary.kill().await?;
    assert!(!connects(primary).await);
    assert_eq!(items(replica).await?, 2, "a replica reads without its primary");
    primary.start().await?;
    insert(primary, 3).await?;
    cluster.wait_caught_up().await?;
    assert_eq!(items(replica).await?, 3);

    replica.restart().await?;
    primary.stop().await?;
    assert!(!connects(primary).await);
    replica.restart().await?;
    primary.restart().await.expect_err("it is down: there is nothing to stop");
    primary.start().await?;
    insert(primary, 4).await?;
    cluster.wait_caught_up().await?;
    assert_eq!(items(replica).await?, 4);
    Ok(())
}

#[tokio::test]
async fn postgres_servers_come_back_with_their_data() -> anyhow::Result<()> {
    servers_come_back_with_their_data(&*PostgresCluster::start(2).await?).await
}

#[tokio::test]
async fn mariadb_servers_come_back_with_their_data() -> anyhow::Result<()> {
    servers_come_back_with_their_data(&*MariaDbCluster::start(2).await?).await
}

async fn a_frozen_server_is_silent_and_then_goes_on(cluster: &Cluster) -> anyhow::Result<()> {
    with_items(cluster).await?;
    let replica = cluster.replica(1);
    replica.freeze()?;
    assert!(replica.is_running());
    let silent = timeout(Duration::from_millis(300), items(replica)).await;
    silent.expect_err("a frozen server answers nobody");
    insert(cluster.primary(), 2).await?;
    replica.thaw()?;
    cluster.wait_caught_up().await?;
    assert_eq!(items(replica).await?, 2);

    replica.freeze()?;
    replica.kill().await?;
    replica.start().await?;
    replica.freeze()?;
    replica.stop().await?;
    replica.start().await?;
    assert_eq!(items(replica).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_frozen_postgres_is_silent_and_then_goes_on() -> anyhow::Result<()> {
    a_frozen_server_is_silent_and_then_goes_on(&*PostgresCluster::start(2).await?).await
}

#[tokio::test]
async fn a_frozen_mariadb_is_silent_and_then_goes_on() -> anyhow::Result<()> {
    a_frozen_server_is_silent_and_then_goes_on(&*MariaDbCluster::start(2).await?).await
}

pub(crate) async fn a_paused_replica_shows_the_past(cluster: &Cluster) -> anyhow::Result<()> {
    with_items(cluster).await?;
    let (paused, other) = (cluster.replica(0), cluster.replica(1));
    paused.pause_replay().await?;
    insert(cluster.primary(), 2).await?;
    other.wait_caught_up().await?;
    a_moment().await;
    assert_eq!((items(paused).await?, items(other).await?), (1, 2));
    paused.resume_replay().await?;
    cluster.wait_caught_up().await?;
    assert_eq!(items(paused).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_paused_postgres_replica_shows_the_past() -> anyhow::Result<()> {
    a_paused_replica_shows_the_past(&*PostgresCluster::start(2).await?).await
}

#[tokio::test]
async fn a_paused_mariadb_replica_shows_the_past() -> anyhow::Result<()> {
    a_paused_replica_shows_the_past(&*MariaDbCluster::start(2).await?).await
}

pub(crate) async fn a_delayed_replica_is_late_by_the_delay(cluster: &Cluster, delay: Duration) -> anyhow::Result<()> {
    // MariaDB counts in whole seconds of the wall clock, which may be cut short by almost one.
    let least = delay.saturating_sub(Duration::from_millis(if delay.subsec_nanos() == 0 { 1_000 } else { 50 }));
    with_items(cluster).await?;
    let replica = cluster.replica(0);
    replica.delay_replay(delay).await?;
    let written = Instant::now();
    insert(cluster.primary(), 2).await?;
    assert_eq!(items(replica).await?, 1);
    cluster.wait_caught_up().await?;
    assert!(written.elapsed() >= least, "{:?} is too early", written.elapsed());
    assert_eq!(items(replica).await?, 2);

    replica.delay_replay(Duration::ZERO).await?;
    insert(cluster.primary(), 3).await?;
    let written = Instant::now();
    cluster.wait_caught_up().await?;
    assert!(written.elapsed() < Duration::from_millis(900), "{:?} is too late", written.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_delayed_postgres_replica_is_late_by_the_delay() -> anyhow::Result<()> {
    let cluster = PostgresCluster::start(1).await?;
    a_delayed_replica_is_late_by_the_delay(&cluster, Duration::from_millis(450)).await
}

#[tokio::test]
async fn a_delayed_mariadb_replica_is_late_by_the_delay() -> anyhow::Result<()> {
    let cluster = MariaDbCluster::start(1).await?;
    a_delayed_replica_is_late_by_the_delay(&cluster, Duration::from_secs(2)).await
}
