//! What the resolver says of itself: once, to whom it concerns, and nothing in the application's log of statements.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use sea_orm::{EntityTrait, PaginatorTrait};
use sea_orm_resolver::{DatabaseConnection, Error, Health, NodeConfig};

use crate::{
    item,
    secrets::record,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

const READS: u64 = 20;
const OFTEN: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

async fn probed(db: &DatabaseConnection, times: u64) -> Result<()> {
    wait_until("each node is probed", PATIENCE, async || {
        Ok(db.topology().members().all(|member| member.node().probes() >= times))
    })
    .await
}

async fn connect_refuses_a_replica_in_the_primarys_seat(servers: Servers) -> Result<()> {
    let turned_round = || {
        DatabaseConnection::builder()
            .primary(NodeConfig::new(servers.replica(0).url()).name("not promoted"))
            .replica(NodeConfig::new(servers.replica(1).url()).name("replica"))
            .probe_timeout(PATIENCE)
    };
    let error = turned_round().connect().await.map(drop).expect_err("it is a replica");
    let error = Error::from_db_err(&error).context("ours")?;
    assert!(error.is_not_primary() && error.is_unreachable(), "{error}");
    assert_eq!(error.node(), Some("not promoted"));
    assert!(error.to_string().contains("promote it"), "{error}");
    // Without a question nobody knows.
    let db = turned_round().connect_lazy(true).probe_interval(OFTEN).connect().await?;
    wait_until("the replica is known to be one", PATIENCE, async || {
        let refused = item::Entity::find().count(&db.write()).await;
        Ok(refused.is_err_and(|error| Error::from_db_err(&error).is_some_and(Error::is_not_primary)))
    })
    .await
}

on_each_database!(connect_refuses_a_replica_in_the_primarys_seat, [postgres, mariadb]);

async fn questions_of_the_resolver_are_in_no_log_and_no_metric(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    servers.wait_caught_up().await?;
    let (recorded, _guard) = record();
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(servers.replica_node(0))
        .probe_interval(OFTEN)
        .primary_read_share(0.5)
        .connect()
        .await?;
    let mut metered = db.clone();
    let told = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&told);
    metered.set_metric_callback(move |_| {
        counter.fetch_add(1, Relaxed);
    });
    probed(&db, 5).await?;
    for _ in 0..READS {
        item::Entity::find().all(&db).await?;
    }
    assert_eq!(told.load(Relaxed), READS, "the metric callback hears the reads and nothing else");
    let log = recorded.take();
    let statements: Vec<_> = log.lines().filter(|line| line.contains("sqlx::query")).collect();
    assert!(statements.iter().any(|line| line.contains("item")), "the reads are logged: {log}");
    // sqlx's own statement on each new connection to MySQL is as it is without the resolver.
    let foreign: Vec<_> =
        statements.iter().filter(|line| !line.contains("item") && !line.contains("SET sql_mode")).collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
    Ok(())
}

on_each_database!(questions_of_the_resolver_are_in_no_log_and_no_metric, [postgres, mariadb]);

async fn a_connection_says_once_what_was_connected(servers: Servers) -> Result<()> {
    let (recorded, _guard) = record();
    servers.replica(1).kill().await?;
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(servers.replica_node(0))
        .replica(servers.replica_node(1))
        .probe_interval(OFTEN)
        .connect()
        .await?;
    probed(&db, 3).await?;
    let log = recorded.take();
    let said: Vec<_> =
        log.lines().filter(|line| line.starts_with("INFO") && line.contains("message=connected")).collect();
    assert_eq!(said.len(), 1, "{said:#?}");
    for part in ["primary=\"primary\"", "replicas=\"replica-0, replica-1\"", "down=\"replica-1\""] {
        assert!(said[0].contains(part), "{part}: {said:?}");
    }
    assert!(!said[0].contains("127.0.0.1"), "{said:?}");
    Ok(())
}

on_each_database!(a_connection_says_once_what_was_connected, [postgres]);

async fn a_wrong_role_is_warned_of_once(servers: Servers) -> Result<()> {
    let (recorded, _guard) = record();
    let wrong = || NodeConfig::new(servers.primary().url()).name("really the primary");
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(wrong())
        .probe_interval(OFTEN)
        .connect()
        .await?;
    probed(&db, 5).await?;
    let warned = |log: &str| log.lines().filter(|line| line.starts_with("WARN") && line.contains("wrong role")).count();
    assert_eq!(warned(&recorded.take()), 1, "given at the start");
    db.swap_replicas([servers.replica_node(0)]).await?;
    db.add_replica(wrong()).await?;
    probed(&db, 5).await?;
    assert_eq!(warned(&recorded.take()), 1, "added");
    Ok(())
}

on_each_database!(a_wrong_role_is_warned_of_once, [postgres, mariadb]);

async fn a_replica_that_is_down_shows_no_lag(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?; // an empty MariaDB has no position
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(servers.replica_node(0))
        .probe_interval(OFTEN)
        .connect()
        .await?;
    let replica = || db.topology().replicas()[0].clone();
    wait_until("the lag is known", PATIENCE, async || Ok(replica().lag().is_some())).await?;
    servers.replica(0).kill().await?;
    wait_until("it is down", PATIENCE, async || Ok(replica().health() == Health::Down)).await?;
    assert_eq!((replica().lag(), replica().lag_bytes()), (None, None));
    let shown = db.topology().to_string();
    assert!(shown.lines().any(|line| line.starts_with("replica-0") && line.ends_with(" -")), "{shown}");
    assert!(!serde_json::to_string(&*db.topology())?.contains("lag_ms"));
    Ok(())
}

on_each_database!(a_replica_that_is_down_shows_no_lag, [postgres, mariadb]);

#[tokio::test]
async fn the_members_of_a_closed_connection_do_not_change() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(servers.replica_node(0))
        .connect()
        .await?;
    db.clone().close().await?;
    for changed in [db.swap_replicas([servers.replica_node(1)]).await, db.add_replica(servers.replica_node(1)).await] {
        let error = changed.expect_err("it is closed");
        assert!(error.is_closed(), "{error}");
    }
    Ok(())
}
