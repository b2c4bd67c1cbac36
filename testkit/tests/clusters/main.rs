//! The kit against the real servers. Each test takes all engines that can.

mod faults;
mod leftovers;
mod pooler;
mod promotion;
mod proxy;
mod replication;

use testkit::{Cluster, Server};

/// Makes a module of tests from one function: the test `name::postgres` starts a PostgreSQL cluster and calls
/// `name` with it.
macro_rules! on_each_database {
    ($test:ident, [$($database:ident),+], replicas = $replicas:literal) => {
        mod $test {
            $(
                #[tokio::test]
                async fn $database() -> anyhow::Result<()> {
                    crate::run_on::$database($replicas, super::$test).await
                }
            )+
        }
    };
}
use on_each_database;

/// Calls a test with a cluster of the database that the function is named after.
mod run_on {
    use anyhow::Result;
    use testkit::{Cluster, MariaDbCluster, MySqlCluster, PostgresCluster};

    pub(crate) async fn postgres(replicas: usize, test: impl AsyncFnOnce(&Cluster) -> Result<()>) -> Result<()> {
        test(&*PostgresCluster::start(replicas).await?).await
    }

    pub(crate) async fn mariadb(replicas: usize, test: impl AsyncFnOnce(&Cluster) -> Result<()>) -> Result<()> {
        test(&*MariaDbCluster::start(replicas).await?).await
    }

    pub(crate) async fn mysql(replicas: usize, test: impl AsyncFnOnce(&Cluster) -> Result<()>) -> Result<()> {
        if MySqlCluster::is_left_out() {
            return Ok(());
        }
        test(&*MySqlCluster::start(replicas).await?).await
    }
}

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
