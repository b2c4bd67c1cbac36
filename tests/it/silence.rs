//! Servers that stop answering without ending a connection: frozen processes, and connections that a network swallows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, PaginatorTrait, Statement, StreamTrait,
    TransactionTrait,
};
use sea_orm_resolver::{Builder, Error, NodeConfig};
use testkit::ChaosProxy;
use tokio::time::timeout;

use crate::{
    item,
    servers::{Servers, in_flight, on_each_database},
    wait::wait_until,
};

/// Longer than every pause of a busy machine: a test that takes so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// A node that is frozen is down after a second, and silent after another.
fn watchful(servers: &Servers) -> Builder {
    servers
        .builder()
        .primary_read_share(0.0)
        .probe_interval(Duration::from_millis(100))
        .probe_timeout(Duration::from_millis(300))
        .silent_after(SILENT_AFTER)
        // No statement begins with a ping: the statement itself goes out to the frozen server.
        .ping_after_idle(PATIENCE)
}

/// The crate's own error of an operation that must end.
async fn lost<T>(what: &str, operation: impl Future<Output = Result<T, DbErr>>) -> Result<Error> {
    let ended = timeout(PATIENCE, operation).await.with_context(|| format!("{what} hangs"))?;
    let Err(error) = ended else { anyhow::bail!("{what} had an answer") };
    Error::from_db_err(&error).cloned().with_context(|| format!("{what}: {error}"))
}

fn one(backend: DbBackend) -> Statement {
    Statement::from_string(backend, "SELECT COUNT(*) FROM item")
}

async fn reads_that_cannot_move_end_when_their_replica_freezes(servers: Servers) -> Result<()> {
    let db = servers.open(watchful(&servers)).await?;
    for n in 0..200 {
        item::new("row", n).insert(&db).await?;
    }
    servers.wait_caught_up().await?;
    let backend = servers.backend();
    let transaction = db.session().read().begin().await?;
    transaction.query_one_raw(one(backend)).await?;
    // More rows than any buffer holds.
    let many = Statement::from_string(backend, "SELECT a.* FROM item a CROSS JOIN item b CROSS JOIN item c");
    let reader = db.session();
    let mut rows = reader.stream_raw(many).await?;
    ensure!(rows.try_next().await?.is_some());
    for replica in servers.replicas() {
        replica.freeze()?;
    }

    let error = lost("a statement of a READ ONLY transaction", transaction.query_one_raw(one(backend))).await?;
    ensure!(error.is_unreachable() && !error.is_outcome_unknown(), "{error}");
    ensure!(error.node().is_some_and(|node| node.starts_with("replica")), "{error}");
    let error = lost("a stream past its first row", async {
        while rows.try_next().await?.is_some() {}
        Ok(())
    })
    .await?;
    ensure!(error.is_unreachable() && !error.is_outcome_unknown(), "{error}");
    ensure!(rows.try_next().await?.is_none(), "the stream has ended");
    ensure!(lost("the transaction", transaction.commit()).await?.is_unreachable());
    for replica in servers.replicas() {
        replica.thaw()?;
    }
    Ok(())
}

on_each_database!(reads_that_cannot_move_end_when_their_replica_freezes, [postgres, mariadb], worker_threads = 2);

async fn writes_end_when_their_primary_is_silent_and_their_outcome_is_told(servers: Servers) -> Result<()> {
    let db = servers.open(watchful(&servers)).await?;
    let begun = db.begin().await?;
    let full = db.begin().await?;
    item::new("in a transaction", 1).insert(&full).await?;
    let strong = db.with_consistency(sea_orm_resolver::Consistency::Strong);
    item::Entity::find().count(&strong).await?;
    servers.primary().freeze()?;

    // In one message: nothing is left to be sent after the server's first answer.
    let written = db.execute_unprepared("INSERT INTO item (name, amount) VALUES ('alone', 1)");
    let in_transaction = item::new("never", 1).insert(&begun);
    let (written, in_transaction, committed, read) = tokio::join!(
        lost("a write", written),
        lost("a write in a transaction", in_transaction),
        lost("a commit", full.commit()),
        lost("a strong read", item::Entity::find().count(&strong)),
    );
    let (written, in_transaction, committed, read) = (written?, in_transaction?, committed?, read?);
    ensure!(written.is_outcome_unknown() && written.node() == Some("primary"), "{written}");
    ensure!(committed.is_outcome_unknown(), "{committed}");
    ensure!(in_transaction.is_unreachable() && !in_transaction.is_outcome_unknown(), "{in_transaction}");
    ensure!(read.is_unreachable(), "{read}");

    servers.primary().thaw()?;
    let plain = servers.plain().await?;
    let count = async |name: &str| {
        let rows = item::Entity::find().all(&plain).await?;
        anyhow::Ok(rows.into_iter().filter(|row| row.name == name).count())
    };
    // Both reached the server, which ran them when it went on.
    wait_until("the write and the commit happen", PATIENCE, async || {
        Ok(count("alone").await? == 1 && count("in a transaction").await? == 1)
    })
    .await?;
    let error = lost("the transaction that lost a statement", begun.commit()).await?;
    ensure!(error.to_string().contains("rolled back"), "{error}");
    wait_until("writes go on", PATIENCE, async || Ok(item::new("after", 1).insert(&db).await.is_ok())).await?;
    ensure!(count("alone").await? == 1 && count("never").await? == 0, "no write runs twice, or without its commit");
    Ok(())
}

on_each_database!(
    writes_end_when_their_primary_is_silent_and_their_outcome_is_told,
    [postgres, mariadb],
    worker_threads = 2
);

/// The replica stays up: its new connections answer. Only the connections that were open are swallowed.
async fn reads_on_connections_that_a_network_swallows_move(servers: Servers) -> Result<()> {
    let proxy = ChaosProxy::start(servers.replica(0).port()).await?;
    let replica = NodeConfig::new(proxy.url(servers.replica(0))).name("behind a firewall");
    let db = servers.open(watchful(&servers)).await?;
    db.swap_replicas([replica]).await?;
    // Only a probe on a connection that was open before finds out.
    let probes = || db.topology().members().nth(1).map_or(0, |member| member.node().probes());
    wait_until("the prober has a connection of its own", PATIENCE, async || Ok(probes() > 1)).await?;
    let asleep = match servers.backend() {
        DbBackend::Postgres => "SELECT pg_sleep(1)",
        _ => "SELECT SLEEP(1)",
    };
    let statement = Statement::from_string(servers.backend(), asleep);
    let (plain, session, opened) = (db.clone(), db.session(), db.session());
    let mut rows = opened.stream_raw(statement.clone()).await?;
    let swallowed = async {
        wait_until("the reads run", PATIENCE, async || Ok(in_flight(&db)["behind a firewall"] == 3)).await?;
        proxy.abandon();
        anyhow::Ok(())
    };
    let reads = async {
        tokio::try_join!(plain.query_one_raw(statement.clone()), session.query_one_raw(statement), rows.try_next())
    };
    let (reads, swallowed) = tokio::join!(timeout(PATIENCE, reads), swallowed);
    swallowed?;
    let (plain, session, streamed) = reads.context("a read hangs")??;
    ensure!(plain.is_some() && session.is_some() && streamed.is_some());
    Ok(())
}

on_each_database!(reads_on_connections_that_a_network_swallows_move, [postgres, mariadb], worker_threads = 2);

async fn a_long_write_on_a_primary_that_answers_is_not_ended(servers: Servers) -> Result<()> {
    let db = servers.open(watchful(&servers)).await?;
    let id = item::new("slow", 1).insert(&db).await?.id;
    let sleep = match servers.backend() {
        DbBackend::Postgres => "pg_sleep(3) IS NOT NULL",
        _ => "SLEEP(3) = 0",
    };
    let slow = format!("UPDATE item SET amount = 2 WHERE id = {id} AND {sleep}");
    let result = timeout(PATIENCE, db.execute_unprepared(&slow)).await??;
    ensure!(result.rows_affected() == 1);
    Ok(())
}

on_each_database!(a_long_write_on_a_primary_that_answers_is_not_ended, [postgres, mariadb], worker_threads = 2);
