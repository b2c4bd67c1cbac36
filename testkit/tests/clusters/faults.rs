use std::time::{Duration, Instant};

use testkit::{Cluster, Server};
use tokio::{net::TcpStream, time::timeout};

use crate::{a_moment, insert, items, on_each_database, with_items};

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

on_each_database!(servers_come_back_with_their_data, [postgres, mariadb], replicas = 2);

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

on_each_database!(a_frozen_server_is_silent_and_then_goes_on, [postgres, mariadb], replicas = 2);

async fn a_paused_replica_shows_the_past(cluster: &Cluster) -> anyhow::Result<()> {
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

on_each_database!(a_paused_replica_shows_the_past, [postgres, mariadb, mysql], replicas = 2);

async fn a_delayed_replica_is_late_by_the_delay(cluster: &Cluster) -> anyhow::Result<()> {
    // MariaDB and MySQL count in whole seconds of the wall clock, which may be cut short by almost one.
    let (delay, least) = if cluster.primary().url().starts_with("postgres") {
        (Duration::from_millis(450), Duration::from_millis(400))
    } else {
        (Duration::from_secs(2), Duration::from_secs(1))
    };
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

on_each_database!(a_delayed_replica_is_late_by_the_delay, [postgres, mariadb, mysql], replicas = 1);
