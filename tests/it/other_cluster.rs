//! Servers of another cluster: their rows have nothing to do with the primary's, and no read may return them.

use std::time::Duration;

use anyhow::Result;
use sea_orm::{ActiveModelTrait, EntityTrait};
use sea_orm_resolver::{DatabaseConnection, Error, NodeConfig, SwapOptions};

use crate::{
    item,
    servers::{Servers, on_each_database},
};

const READS: usize = 100;
const OURS: &str = "ours";
const FOREIGN: &str = "foreign";

/// Two clusters, each with a row that tells which one it is.
struct Clusters {
    ours: Servers,
    other: Servers,
}

impl Clusters {
    async fn of(ours: Servers, other: Servers) -> Result<Self> {
        for (servers, name) in [(&ours, OURS), (&other, FOREIGN)] {
            let plain = servers.plain().await?;
            item::create_table(&plain).await?;
            item::new(name, 1).insert(&plain).await?;
            servers.wait_caught_up().await?;
        }
        Ok(Self { ours, other })
    }

    async fn beside(ours: Servers) -> Result<Self> {
        let other = ours.another().await?;
        Self::of(ours, other).await
    }

    fn foreign_node(&self) -> NodeConfig {
        NodeConfig::new(self.other.replica(0).url()).name("elsewhere")
    }
}

/// How many of the reads on the replicas return the other cluster's row.
async fn foreign_rows(db: &DatabaseConnection) -> Result<usize> {
    let mut foreign = 0;
    for _ in 0..READS {
        let read = item::Entity::find().one(db).await?.expect("each cluster has a row");
        foreign += usize::from(read.name == FOREIGN);
    }
    Ok(foreign)
}

async fn a_replica_of_another_cluster_serves_no_reads(servers: Servers) -> Result<()> {
    let clusters = Clusters::beside(servers).await?;
    let (log, _guard) = crate::secrets::record();
    let builder = DatabaseConnection::builder()
        .primary(clusters.ours.primary_node())
        .replica(clusters.ours.replica_node(0))
        .replica(clusters.foreign_node())
        .primary_read_share(0.0)
        .probe_interval(Duration::from_millis(50));
    let db = builder.connect().await?;
    assert_eq!(foreign_rows(&db).await?, 0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(foreign_rows(&db).await?, 0);
    let topology = db.topology();
    let is_elsewhere = |name| topology.member(name).expect("a member").is_of_other_cluster();
    assert!(is_elsewhere("elsewhere") && !is_elsewhere("replica-0") && !is_elsewhere("primary"));
    let table = topology.to_string();
    assert!(table.contains("other cluster") && table.contains("elsewhere: it belongs to another cluster"), "{table}");
    let json = serde_json::to_value(&*topology)?;
    assert_eq!(json["members"][2]["state"], "other_cluster", "{json}");
    assert!(json["members"][2]["reason"].is_string(), "{json}");
    let events = log.take();
    assert_eq!(events.matches("replica of another cluster takes no reads").count(), 1, "{events}");
    db.close().await?;
    Ok(())
}

fn is_refusal(error: &Error) {
    assert!(error.is_other_cluster() && error.node() == Some("elsewhere"), "{error}");
}

async fn a_server_of_another_cluster_does_not_join(servers: Servers) -> Result<()> {
    let clusters = Clusters::beside(servers).await?;
    let db = clusters.ours.builder().primary_read_share(0.0).connect().await?;
    is_refusal(&db.add_replica(clusters.foreign_node()).await.expect_err("of another cluster"));
    let mixed = [clusters.ours.replica_node(0), clusters.foreign_node()];
    is_refusal(&db.swap_replicas(mixed).await.expect_err("of another cluster"));
    let primary = NodeConfig::new(clusters.other.primary().url()).name("elsewhere");
    is_refusal(&db.swap_primary(primary.clone()).await.expect_err("of another cluster"));
    assert_eq!(db.topology().members().map(|member| member.name().to_owned()).collect::<Vec<_>>().len(), 3);
    assert_eq!(foreign_rows(&db).await?, 0);

    // The accepted swap makes the replicas members of another cluster.
    let accepted = SwapOptions { accept_other_cluster: true, ..SwapOptions::default() };
    db.swap_primary_with(primary, accepted).await?;
    assert_eq!(foreign_rows(&db).await?, READS, "{}", db.topology());
    db.close().await?;

    // A connection to one server asks it when a replica is added.
    let alone = DatabaseConnection::builder().primary(clusters.ours.primary_node()).connect().await?;
    is_refusal(&alone.add_replica(clusters.foreign_node()).await.expect_err("of another cluster"));
    alone.add_replica(clusters.ours.replica_node(0)).await?;
    alone.close().await?;
    Ok(())
}

async fn a_refusal_names_both_systems(servers: Servers) -> Result<()> {
    let clusters = Clusters::beside(servers).await?;
    let db = clusters.ours.builder().connect().await?;
    let error = db.add_replica(clusters.foreign_node()).await.expect_err("of another cluster").to_string();
    for servers in [&clusters.ours, &clusters.other] {
        let system = servers.primary().query_scalar("SELECT system_identifier::text FROM pg_control_system()").await?;
        assert!(error.contains(&system), "{error}");
    }
    db.close().await?;
    Ok(())
}

/// A logical replica is a cluster of its own, on purpose.
async fn a_member_that_is_not_checked_serves_reads_whatever_its_cluster(servers: Servers) -> Result<()> {
    let clusters = Clusters::beside(servers).await?;
    for node in [clusters.foreign_node().role_check(false), clusters.foreign_node().positions(false)] {
        let builder = DatabaseConnection::builder().primary(clusters.ours.primary_node()).replica(node.clone());
        let db = builder.primary_read_share(0.0).connect().await?;
        assert_eq!(foreign_rows(&db).await?, READS, "{}", db.topology());
        db.swap_replicas([node.name("again")]).await?;
        db.close().await?;
    }
    Ok(())
}

on_each_database!(a_replica_of_another_cluster_serves_no_reads, [postgres, mariadb, mysql]);

on_each_database!(a_server_of_another_cluster_does_not_join, [postgres, mariadb]);

on_each_database!(a_refusal_names_both_systems, [postgres]);
on_each_database!(a_member_that_is_not_checked_serves_reads_whatever_its_cluster, [postgres]);
