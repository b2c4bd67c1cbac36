//! A read that hangs on one node is answered by another, and its statement is ended at the first one's server.

use std::time::Duration;

use anyhow::{Result, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use sea_orm_resolver::{Consistency, DatabaseConnection, NodeConfig};
use testkit::{PostgresCluster, Server};
use tokio::time::timeout;

use crate::{
    pooling_proxy::{Options, start_bouncer},
    servers::{Servers, in_flight, on_each_database, served_reads},
    wait::wait_until,
};

/// The machine that runs all servers is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// A statement that hangs so long would end after the test has failed.
const FOR_EVER: f64 = 3_600.0;
/// A statement that hangs so long ends by itself.
const FOR_A_WHILE: f64 = 2.0;

/// A read that takes so many seconds on the server with this port, and none elsewhere.
fn hangs_on(backend: DbBackend, port: u16, seconds: f64) -> Statement {
    let (sql, port): (_, Value) = match backend {
        DbBackend::Postgres => (
            "SELECT 1, pg_sleep(CASE WHEN current_setting('port') = $1 THEN CAST($2 AS float8) ELSE 0.0 END)",
            port.to_string().into(),
        ),
        _ => ("SELECT 1, SLEEP(IF(@@port = ?, ?, 0.0))", i64::from(port).into()),
    };
    Statement::from_sql_and_values(backend, sql, [port, seconds.into()])
}

/// How many of these statements run on a server now.
async fn running(servers: &Servers, server: &Server) -> Result<u64> {
    let sql = match servers.backend() {
        DbBackend::Postgres => {
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT 1, pg_sleep%'"
        }
        _ => "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT 1, SLEEP%'",
    };
    Ok(server.query_scalar(sql).await?.parse()?)
}

/// Reads while one server hangs, after all servers were measured. Returns whether the server that hangs answered no read.
async fn are_answered_elsewhere(db: &DatabaseConnection, slow: &Server, node: &str, seconds: f64) -> Result<bool> {
    let backend = db.get_database_backend();
    for _ in 0..200 {
        db.query_one_raw(hangs_on(backend, 0, 0.0)).await?;
    }
    let before = served_reads(db)[node];
    for _ in 0..10 {
        timeout(PATIENCE, db.query_one_raw(hangs_on(backend, slow.port(), seconds))).await??;
    }
    Ok(served_reads(db)[node] == before)
}

async fn a_read_that_hangs_on_one_replica_is_answered_by_another_and_ended_there(servers: Servers) -> Result<()> {
    let builder = servers.builder().primary_read_share(0.0).hedge(0.05).seed(7);
    let db = servers.open(builder).await?.with_consistency(Consistency::Eventual);
    let slow = servers.replica(0);
    wait_until("reads are hedged", PATIENCE, async || {
        are_answered_elsewhere(&db, slow, "replica-0", FOR_A_WHILE).await
    })
    .await?;
    ensure!(are_answered_elsewhere(&db, slow, "replica-0", FOR_EVER).await?, "a read that hangs was answered");
    wait_until("nothing runs on the slow replica", PATIENCE, async || Ok(running(&servers, slow).await? == 0)).await?;
    wait_until("the slow attempts are over", PATIENCE, async || Ok(in_flight(&db)["replica-0"] == 0)).await?;
    // The connections of the ended statements are closed, and so are those over which they were ended. Left is the prober's.
    wait_until("the connections are closed", PATIENCE, async || Ok(servers.connections(slow).await? == 1)).await?;
    are_answered_elsewhere(&db, slow, "replica-0", 0.0).await?;
    ensure!(served_reads(&db)["replica-0"] > 0, "the node serves on");
    Ok(())
}

on_each_database!(a_read_that_hangs_on_one_replica_is_answered_by_another_and_ended_there, [postgres, mariadb, mysql]);

/// One proxy refuses an option that it does not know, and the other drops it. Neither fails a connection of the read-only pool,
/// whose one option both know.
#[tokio::test]
async fn behind_a_pooling_proxy_no_read_is_started_twice() -> Result<()> {
    let cluster = PostgresCluster::start(2).await?;
    let (mut nodes, mut bouncers) = (Vec::new(), Vec::new());
    for (server, options) in cluster.servers().iter().zip([Options::Refused, Options::Refused, Options::Ignored]) {
        let bouncer = start_bouncer(server, "transaction", options).await?;
        nodes.push(NodeConfig::new(bouncer.url()).name(server.port().to_string()));
        bouncers.push(bouncer);
    }
    let builder = DatabaseConnection::builder().primary(nodes.remove(0)).replicas(nodes).primary_read_share(0.0);
    let db = builder.hedge(1.0).connect().await?.with_consistency(Consistency::Eventual);
    for slow in cluster.replicas() {
        for _ in 0..2 {
            let elsewhere = are_answered_elsewhere(&db, slow, &slow.port().to_string(), FOR_A_WHILE).await?;
            ensure!(!elsewhere, "reads that began behind a proxy were answered by another node");
        }
    }
    Ok(())
}
