//! The settings of a node hold for the sessions of its pools.

use std::time::Duration;

use anyhow::{Context, Result};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, Error};
use tokio::time::Instant;

use crate::servers::{Servers, on_each_database};

/// Long enough not to be mistaken for the tested time-out, on the slowest machine.
const SECONDS: u64 = 5;

async fn is_cut_off(connection: &impl ConnectionTrait) -> Result<()> {
    let backend = connection.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => format!("SELECT pg_sleep({SECONDS})"),
        _ => format!("SELECT SLEEP({SECONDS})"),
    };
    let started = Instant::now();
    let error = connection.query_one_raw(Statement::from_string(backend, sql)).await.err().context("it ran")?;
    assert!(started.elapsed() < Duration::from_secs(SECONDS), "{:?}: {error}", started.elapsed());
    // The name of the setting in PostgreSQL and in MariaDB.
    let said = error.to_string();
    assert!(said.contains("statement timeout") || said.contains("max_statement_time"), "{said}");
    Ok(())
}

async fn the_statement_timeout_holds_on_both_lanes(servers: Servers) -> Result<()> {
    let short = Duration::from_millis(100);
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node().statement_timeout(short))
        .replica(servers.replica_node(0).statement_timeout(short))
        .primary_read_share(0.0)
        .connect()
        .await?;
    // A replica's read-only sessions and the primary's two kinds.
    assert_eq!(db.read().node().as_deref(), Some("replica-0"));
    is_cut_off(&db.read()).await?;
    is_cut_off(&db.write()).await?;
    db.set_primary_read_share(1.0)?;
    assert_eq!(db.read().node().as_deref(), Some("primary"));
    is_cut_off(&db.read()).await
}

on_each_database!(the_statement_timeout_holds_on_both_lanes, [postgres, mariadb]);

/// The limit is what the user wants: the primary, which has none, does not run the statement.
async fn a_statement_timeout_that_was_configured_moves_no_read(servers: Servers) -> Result<()> {
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(servers.replica_node(0).statement_timeout(Duration::from_millis(100)))
        .primary_read_share(0.0)
        .connect()
        .await?;
    is_cut_off(&db).await?;
    is_cut_off(&db.read()).await
}

on_each_database!(a_statement_timeout_that_was_configured_moves_no_read, [postgres, mariadb]);

async fn the_acquire_timeout_ends_a_read_that_finds_no_connection(servers: Servers) -> Result<()> {
    // A new connection is opened within this time, on a busy machine too.
    let acquire_timeout = Duration::from_secs(2);
    let (primary, replica) = (servers.primary_node(), servers.replica_node(0));
    let db = DatabaseConnection::builder()
        .primary(primary.acquire_timeout(acquire_timeout))
        .primary_read_connections(1)
        .replica(replica.max_connections(1).acquire_timeout(acquire_timeout))
        .primary_read_share(0.0)
        .connect()
        .await?;
    let sql = Statement::from_string(db.get_database_backend(), "SELECT 1");
    let held = db.read().begin().await?;
    assert_eq!(held.node(), "replica-0");
    let moved = db.read();
    moved.query_one_raw(sql.clone()).await?;
    assert_eq!(db.topology().primary().node().served_reads(), 1, "the read ran where a connection was free");

    db.set_primary_read_share(1.0)?;
    let held_too = db.read().begin().await?;
    assert_eq!(held_too.node(), "primary");
    db.set_primary_read_share(0.0)?;
    let started = Instant::now();
    let error = db.read().query_one_raw(sql.clone()).await.expect_err("both connections are held");
    assert!(started.elapsed() >= acquire_timeout, "a queue is no failure before: {:?}", started.elapsed());
    assert!(Error::from_db_err(&error).is_some_and(Error::is_no_eligible_node), "{error:?}");
    held.rollback().await?;
    held_too.rollback().await?;
    db.read().query_one_raw(sql).await?;
    Ok(())
}

on_each_database!(the_acquire_timeout_ends_a_read_that_finds_no_connection, [postgres, mariadb]);
