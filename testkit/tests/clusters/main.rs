//! The kit against the real servers. Each test takes all engines that can.

mod faults;
mod leftovers;
mod mysql;
mod promotion;
mod proxy;
mod replication;

use testkit::{Cluster, Server};

/// A table with one row on the primary, and the replicas up to date.
async fn with_items(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.primary().execute("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1)").await?;
    cluster.wait_caught_up().await
}

async fn insert(server: &Server, id: u32) -> anyhow::Result<()> {
    server.execute(&format!("INSERT INTO item VALUES ({id})")).await
}

async fn items(server: &Server) -> anyhow::Result<u32> {
    Ok(server.query_scalar("SELECT count(*) FROM item").await?.parse()?)
}

/// Gives wrong data the time it would need to show up: a replica is at most milliseconds behind.
async fn a_moment() {
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
}
