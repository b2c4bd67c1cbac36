//! Several servers at one address: what one of them has says nothing of the others.

use std::time::Duration;

use anyhow::Result;
use sea_orm::ActiveModelTrait;
use sea_orm_resolver::{DatabaseConnection, NodeConfig};
use testkit::ChaosProxy;

use super::finds;
use crate::{item, servers::Servers};

/// Longer than the test.
const STICKS: Duration = Duration::from_secs(120);
const WRITES: u32 = 40;

/// One keeps up and one stands still, and connections go to the one and the other in turn: probes to the one, the first
/// connection for reads to the other.
async fn a_session_is_not_trusted_to_an_address_of_two(servers: Servers, first: usize) -> Result<()> {
    let replicas = servers.replicas();
    let proxy = ChaosProxy::start_in_turn(&[replicas[first].port(), replicas[1 - first].port()]).await?;
    let both = NodeConfig::new(proxy.url(&replicas[0])).name("both");
    let builder = DatabaseConnection::builder().primary(servers.primary_node()).replica(both);
    let db = servers.open(builder.primary_read_share(0.0).stick_after_write(STICKS)).await?;
    replicas[1].pause_replay().await?;
    for number in 0..WRITES {
        let session = db.session();
        let id = item::new(format!("row {number}"), 1).insert(&session).await?.id;
        for _ in 0..10 {
            assert!(finds(&session, id).await?, "row {number} is gone; {}", db.topology());
            // By then the one that keeps up has it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    db.close().await?;
    Ok(())
}

#[tokio::test]
async fn postgres_a_session_is_not_trusted_to_an_address_of_two() -> Result<()> {
    a_session_is_not_trusted_to_an_address_of_two(Servers::postgres().await?, 0).await
}

#[tokio::test]
async fn postgres_a_session_is_not_trusted_to_an_address_of_two_the_other_way_round() -> Result<()> {
    a_session_is_not_trusted_to_an_address_of_two(Servers::postgres().await?, 1).await
}

#[tokio::test]
async fn mariadb_a_session_is_not_trusted_to_an_address_of_two() -> Result<()> {
    a_session_is_not_trusted_to_an_address_of_two(Servers::mariadb().await?, 0).await
}
