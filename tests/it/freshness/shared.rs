//! Several servers at one address: the data of one of them says nothing of the data of the others.

use std::time::Duration;

use anyhow::Result;
use sea_orm::ActiveModelTrait;
use sea_orm_resolver::{Builder, DatabaseConnection, NodeConfig};
use testkit::ChaosProxy;

use super::finds;
use crate::{
    item,
    servers::{Servers, on_each_database},
};

/// Longer than the test.
const STICKS: Duration = Duration::from_secs(120);
const WRITES: u32 = 40;

/// One replica keeps up and one stands still, and connections go to them in turn: probes to the first, the first
/// connection for reads to the second.
async fn reads_at_an_address_of_two_are_not_trusted(servers: Servers, first: usize) -> Result<()> {
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
            // By then the server that keeps up has the row.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    db.close().await?;
    Ok(())
}

async fn a_session_is_not_trusted_to_an_address_of_two(servers: Servers) -> Result<()> {
    reads_at_an_address_of_two_are_not_trusted(servers, 0).await
}

on_each_database!(a_session_is_not_trusted_to_an_address_of_two, [postgres, mariadb]);

#[tokio::test]
async fn postgres_a_session_is_not_trusted_to_an_address_of_two_the_other_way_round() -> Result<()> {
    reads_at_an_address_of_two_are_not_trusted(Servers::postgres().await?, 1).await
}

/// The number of connections with which the resolver connects to a primary and begins to probe it.
async fn connections_to_connect(servers: &Servers) -> Result<u64> {
    let proxy = ChaosProxy::start(servers.primary().port()).await?;
    let db = to_primary_at(&proxy, servers).connect().await?;
    let connections = settled(&proxy).await;
    db.close().await?;
    Ok(connections)
}

/// How many connections were opened, once no more are.
async fn settled(proxy: &ChaosProxy) -> u64 {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = proxy.connections();
        if now == before {
            return now;
        }
        before = now;
    }
}

fn to_primary_at(proxy: &ChaosProxy, servers: &Servers) -> Builder {
    let primary = NodeConfig::new(proxy.url(servers.primary())).name("primary");
    let builder = DatabaseConnection::builder().primary(primary).replica(servers.replica_node(0));
    builder.primary_read_share(0.0).stick_after_write(STICKS)
}

/// The address of the primary leads to another server from now on. Tasks that ask the primary still have a
/// connection to the former server, whose replicas catch up with it. A writer is the first to meet the other
/// server.
async fn a_writer_meets_another_server_in_the_place_of_the_primary(servers: Servers) -> Result<()> {
    let others = servers.another().await?;
    let (db, _proxy) = connected_to_a_moving_address(&servers, &others, 0).await?;
    reads_its_writes(&db).await?;
    assert_eq!(items(&others).await?, WRITES, "they were written to the other server");
    db.close().await?;
    Ok(())
}

/// As before, and a connection for writes to the former server stays open, until a second one is needed: then
/// neither reads nor writes go back to the former server.
async fn writers_do_not_go_back_to_the_former_primary(servers: Servers) -> Result<()> {
    let others = servers.another().await?;
    let (db, _proxy) = connected_to_a_moving_address(&servers, &others, 1).await?;
    item::new("before", 1).insert(&db.session()).await?;
    assert_eq!(items(&servers).await?, 1);
    let at_once = futures_util::future::join_all((0..4).map(async |number| {
        item::new("at once", number).insert(&db.write()).await // on MariaDB what was inserted may be looked for elsewhere
    }));
    assert!(at_once.await.iter().any(Result::is_ok));
    let (here, there) = (items(&servers).await?, items(&others).await?);
    assert!(there > 0, "somebody met the other server");
    reads_its_writes(&db).await?;
    assert_eq!((items(&servers).await?, items(&others).await?), (here, there + WRITES));
    db.close().await?;
    Ok(())
}

/// A connection to an address that leads to one primary until the connection is made and for so many connections
/// more, and then to the other primary.
async fn connected_to_a_moving_address(
    servers: &Servers,
    others: &Servers,
    more: usize,
) -> Result<(DatabaseConnection, ChaosProxy)> {
    for cluster in [servers, others] {
        item::create_table(&cluster.plain().await?).await?;
        cluster.wait_caught_up().await?;
    }
    for _ in 0..20 {
        let before = connections_to_connect(servers).await?;
        let first = usize::try_from(before)? + more;
        let mut ports = vec![servers.primary().port(); first];
        ports.resize(first + 200, others.primary().port());
        let proxy = ChaosProxy::start_in_turn(&ports).await?;
        let db = to_primary_at(&proxy, servers).connect().await?;
        if settled(&proxy).await == before {
            return Ok((db, proxy));
        }
        // On a busy machine a pool that waits for a connection has another one opened beside it.
        db.close().await?;
    }
    anyhow::bail!("the number of connections is never the same")
}

async fn items(servers: &Servers) -> Result<u32> {
    Ok(servers.primary().query_scalar("SELECT count(*) FROM item").await?.parse()?)
}

async fn reads_its_writes(db: &DatabaseConnection) -> Result<()> {
    for number in 0..WRITES {
        let session = db.session();
        let id = item::new(format!("row {number}"), 1).insert(&session).await?.id;
        for _ in 0..10 {
            assert!(finds(&session, id).await?, "row {number} is gone; {}", db.topology());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

on_each_database!(a_writer_meets_another_server_in_the_place_of_the_primary, [postgres, mariadb]);

on_each_database!(writers_do_not_go_back_to_the_former_primary, [postgres, mariadb]);
