use testkit::Cluster;

use crate::{insert, items, on_each_database, with_items};

async fn a_promoted_replica_takes_over(cluster: &Cluster) -> anyhow::Result<()> {
    with_items(cluster).await?;
    let old = cluster.primary().clone();
    old.kill().await?;
    cluster.promote(1).await?;
    assert_eq!(cluster.primary().port(), cluster.replica(1).port());
    insert(cluster.primary(), 2).await?;
    cluster.wait_caught_up().await?;
    assert_eq!(items(cluster.replica(0)).await?, 2, "the other replica follows the new primary");
    cluster.promote(1).await.expect_err("it is the primary already");

    cluster.rejoin(0).await?;
    insert(cluster.primary(), 3).await?;
    cluster.wait_caught_up().await?;
    assert_eq!(items(&old).await?, 3, "the old primary is a replica of the new one");
    insert(&old, 4).await.expect_err("and takes no writes");

    cluster.primary().restart().await?;
    insert(cluster.primary(), 4).await?;
    cluster.wait_caught_up().await?;
    assert_eq!(items(&old).await?, 4);
    Ok(())
}

on_each_database!(a_promoted_replica_takes_over, [postgres, mariadb, mysql], replicas = 2);

async fn two_primaries_can_be_had(cluster: &Cluster) -> anyhow::Result<()> {
    with_items(cluster).await?;
    cluster.replica(1).kill().await?;
    let old = cluster.primary().clone();
    cluster.promote(0).await?;
    insert(&old, 2).await?;
    insert(cluster.primary(), 3).await?;
    insert(cluster.primary(), 4).await?;
    assert_eq!((items(&old).await?, items(cluster.primary()).await?), (2, 3));
    cluster.replica(1).start().await?; // was down, and follows the new one now
    cluster.wait_caught_up().await?;
    assert_eq!(items(cluster.replica(1)).await?, 3);
    Ok(())
}

on_each_database!(two_primaries_can_be_had, [postgres, mariadb, mysql], replicas = 2);

async fn a_promotion_keeps_what_was_received(cluster: &Cluster) -> anyhow::Result<()> {
    with_items(cluster).await?;
    cluster.replica(0).pause_replay().await?;
    insert(cluster.primary(), 2).await?;
    crate::a_moment().await;
    cluster.primary().kill().await?;
    cluster.promote(0).await?;
    assert_eq!(items(cluster.primary()).await?, 2);
    Ok(())
}

on_each_database!(a_promotion_keeps_what_was_received, [postgres, mariadb], replicas = 1);
