//! MySQL, where one is installed; each test says so where none is.

use std::time::Duration;

use testkit::{Cluster, MySqlCluster};

use crate::{faults, promotion, replication};

async fn on_mysql(replicas: usize, test: impl AsyncFnOnce(&Cluster) -> anyhow::Result<()>) -> anyhow::Result<()> {
    match MySqlCluster::start_if_installed(replicas).await? {
        Some(cluster) => test(&cluster).await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn what_mysql_writes_both_replicas_show() -> anyhow::Result<()> {
    on_mysql(2, replication::what_the_primary_writes_both_replicas_show).await
}

#[tokio::test]
async fn a_paused_mysql_replica_shows_the_past() -> anyhow::Result<()> {
    on_mysql(2, faults::a_paused_replica_shows_the_past).await
}

#[tokio::test]
async fn a_delayed_mysql_replica_is_late_by_the_delay() -> anyhow::Result<()> {
    on_mysql(1, async |cluster| faults::a_delayed_replica_is_late_by_the_delay(cluster, Duration::from_secs(2)).await)
        .await
}

#[tokio::test]
async fn a_promoted_mysql_replica_takes_over() -> anyhow::Result<()> {
    on_mysql(2, promotion::a_promoted_replica_takes_over).await
}

#[tokio::test]
async fn two_mysql_primaries_can_be_had() -> anyhow::Result<()> {
    on_mysql(2, promotion::two_primaries_can_be_had).await
}
