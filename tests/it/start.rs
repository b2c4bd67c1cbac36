//! The first moments of a connection: what `connect` opens is used, and says why a node cannot be used.

use std::time::Duration;

use anyhow::{Result, ensure};
use sea_orm::{ActiveModelTrait, EntityTrait};
use sea_orm_resolver::{Builder, DatabaseConnection, Error, NodeConfig};
use testkit::ChaosProxy;
use tokio::time::{sleep, timeout};

use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(2);

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
    let error = builder.primary_connect_timeout(SHORT).connect().await.expect_err("no session can be opened");
    ensure!(error.to_string().contains("no read connection within 2s"), "{error}");
    Ok(())
}

fn alone(servers: &Servers) -> Builder {
    DatabaseConnection::builder().primary(servers.primary_node())
}

async fn connect_waits_for_a_primary_that_starts(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    for builder in [servers.builder(), alone(&servers)] {
        servers.primary().stop().await?;
        let starting = async {
            sleep(Duration::from_millis(1_500)).await;
            servers.primary().start().await
        };
        let (db, started) = tokio::join!(builder.primary_connect_timeout(2 * PATIENCE).connect(), starting);
        started?;
        let db = db?;
        let inserted = item::new("early", 1).insert(&db).await?;
        ensure!(item::Entity::find_by_id(inserted.id).one(&db).await? == Some(inserted));
    }
    Ok(())
}

on_each_database!(connect_waits_for_a_primary_that_starts, [postgres, mariadb]);

/// Waiting mends no login.
async fn a_primary_that_refuses_the_login_ends_connect_at_once(servers: Servers) -> Result<()> {
    let url = servers.primary().url();
    let (until_host, from_host) = url.split_once('@').expect("it has a login");
    let wrong_password = format!("{}:wrong@{from_host}", until_host.rsplit_once(':').expect("a password").0);
    let wrong_database = format!("{}/nowhere", url.rsplit_once('/').expect("a database").0);
    for wrong in [wrong_password, wrong_database] {
        let primary = NodeConfig::new(&wrong).name("primary");
        let one = DatabaseConnection::builder().primary(primary.clone());
        for builder in [one.clone(), one.replica(servers.replica_node(0))] {
            let connecting = builder.primary_connect_timeout(10 * PATIENCE).connect();
            let error = timeout(PATIENCE, connecting).await?.expect_err("refused");
            let error = Error::from_db_err(&error).expect("ours");
            ensure!(error.is_unreachable() && error.node() == Some("primary"), "{error}");
        }
    }
    Ok(())
}

on_each_database!(a_primary_that_refuses_the_login_ends_connect_at_once, [postgres, mariadb]);
