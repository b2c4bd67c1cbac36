//! The first moments of a connection: what `connect` opens is used, and says why a node cannot be used.

use std::time::Duration;

use anyhow::{Result, ensure};
use sea_orm::EntityTrait;
use sea_orm_resolver::{DatabaseConnection, NodeConfig};
use testkit::ChaosProxy;

use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The first answer and the first reads share one connection, and the prober has another. A third one is left to a busy
/// machine, on which a new connection is slow and a second one shows whether the server takes any.
async fn a_process_opens_no_connection_in_vain(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    servers.wait_caught_up().await?;
    let proxy = ChaosProxy::start(servers.replica(0).port()).await?;
    let replica = NodeConfig::new(proxy.url(servers.replica(0))).name("replica");
    let builder = DatabaseConnection::builder().primary(servers.primary_node()).replica(replica);
    let db = builder.primary_read_share(0.0).keep_warm(PATIENCE).connect().await?;
    for _ in 0..3 {
        item::Entity::find().all(&db).await?;
    }
    let probes = || db.topology().members().nth(1).map_or(0, |member| member.node().probes());
    wait_until("the prober has asked", PATIENCE, async || Ok(probes() > 1)).await?;
    let opened = proxy.connections();
    ensure!(opened <= 3, "{opened} connections");
    Ok(())
}

on_each_database!(a_process_opens_no_connection_in_vain, [postgres, mariadb]);

#[tokio::test]
async fn a_statement_for_new_connections_that_fails_is_told_from_a_server_that_does_not_answer() -> Result<()> {
    let servers = Servers::postgres().await?;
    let primary = servers.primary_node().on_connect("SELECT no_such_column");
    let builder = DatabaseConnection::builder().primary(primary).replica(servers.replica_node(0));
    let error = builder.connect().await.expect_err("no session can be opened");
    ensure!(error.to_string().contains("no read connection within"), "{error}");
    Ok(())
}
