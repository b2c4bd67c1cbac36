//! Passwords of pools that were given open.

use std::time::Duration;

use anyhow::Result;
use sea_orm::{EntityTrait, PaginatorTrait, SqlxPostgresConnector, sqlx::postgres::PgPoolOptions};
use sea_orm_resolver::{DatabaseConnection, Health, NodeConfig};
use testkit::{PostgresCluster, Server};

use crate::{item, wait::wait_until};

/// The owner of two open pools tells them the new password, as their documentation says; reads and probes go on.
#[tokio::test]
async fn what_the_owner_of_an_open_pool_tells_it_holds_for_reads_and_probes() -> Result<()> {
    let cluster = PostgresCluster::start(1).await?;
    item::create_table(&sea_orm::Database::connect(cluster.primary().url()).await?).await?;
    cluster.wait_caught_up().await?;
    let [primary, replica] = [cluster.primary(), cluster.replica(0)].map(Server::url);
    let pools = [PgPoolOptions::new().connect(&primary).await?, PgPoolOptions::new().connect(&replica).await?];
    let [primary, replica] =
        pools.clone().map(|pool| NodeConfig::new(SqlxPostgresConnector::from_sqlx_postgres_pool(pool)));
    let db = DatabaseConnection::builder()
        .primary(primary.name("primary"))
        .replica(replica.name("replica"))
        .primary_read_share(0.5)
        .probe_interval(Duration::from_millis(50))
        .connect()
        .await?;
    item::Entity::find().count(&db.read()).await?;

    cluster.primary().execute("ALTER ROLE shop PASSWORD 'another'").await?;
    cluster.wait_caught_up().await?;
    for pool in &pools {
        pool.set_connect_options(pool.connect_options().as_ref().clone().password("another"));
    }
    for server in cluster.servers() {
        server
            .query_scalar("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'shop'")
            .await?;
    }
    let served = || db.topology().members().map(|member| member.node().served_reads()).collect::<Vec<_>>();
    let before = served();
    wait_until("both nodes serve reads", Duration::from_secs(20), async || {
        let _ = item::Entity::find().count(&db.read()).await;
        Ok(served().iter().zip(&before).all(|(now, before)| now > before))
    })
    .await?;
    let probes = || db.topology().members().map(|member| member.node().probes()).collect::<Vec<_>>();
    let before = probes();
    wait_until("both nodes are probed", Duration::from_secs(20), async || {
        Ok(probes().iter().zip(&before).all(|(now, before)| *now > before + 3))
    })
    .await?;
    assert!(db.topology().members().all(|member| member.health() == Health::Up), "{}", db.topology());
    Ok(())
}
