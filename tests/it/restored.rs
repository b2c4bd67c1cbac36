//! A read-only session that a transaction made writable is read-only again for its next user.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, DatabaseTransaction, NodeConfig, ReadConn};

use crate::{files::SharedFile, servers::Servers, wait::wait_until};

/// What makes the session of a READ ONLY transaction writable, by the dialect.
fn unlocking(backend: DbBackend) -> &'static [&'static str] {
    match backend {
        DbBackend::Postgres => &[
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "SET default_transaction_read_only = off",
            "SELECT set_config('default_transaction_read_only', 'off', false)",
            "COMMIT; SET default_transaction_read_only = off",
            "COMMIT; SET default_transaction_read_only = off; BEGIN",
        ],
        DbBackend::MySql => {
            &["SET SESSION TRANSACTION READ WRITE", "SET SESSION tx_read_only = 0", "SET @@session.tx_read_only = 0"]
        }
        _ => &["PRAGMA query_only = OFF", "PRAGMA query_only(0)"],
    }
}

#[derive(Clone, Copy, Debug)]
enum Ended {
    Committed,
    RolledBack,
    Dropped,
}

/// What the session of a transaction says of its own default.
async fn is_read_only(transaction: &DatabaseTransaction) -> Result<bool> {
    let backend = transaction.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => "SELECT current_setting('default_transaction_read_only')",
        DbBackend::MySql => "SELECT CAST(@@session.tx_read_only AS CHAR)",
        _ => "SELECT CAST(query_only AS TEXT) FROM pragma_query_only",
    };
    let row = transaction.query_one_raw(Statement::from_string(backend, sql)).await?.context("a row")?;
    let said: String = row.try_get_by_index(0)?;
    Ok(said == "1" || said.eq_ignore_ascii_case("on"))
}

async fn run(transaction: &DatabaseTransaction, sql: &str) -> Result<()> {
    if sql.starts_with("SELECT") {
        let statement = Statement::from_string(transaction.get_database_backend(), sql);
        transaction.query_one_raw(statement).await?;
    } else {
        transaction.execute_unprepared(sql).await?;
    }
    Ok(())
}

async fn end(transaction: DatabaseTransaction, ended: Ended) -> Result<()> {
    match ended {
        Ended::Committed => transaction.commit().await?,
        Ended::RolledBack => transaction.rollback().await?,
        Ended::Dropped => drop(transaction),
    }
    Ok(())
}

/// A read connection to the replica.
async fn wait_for_replica(db: &DatabaseConnection) -> Result<ReadConn> {
    let is_on_replica = async || Ok(db.read().node().is_some_and(|node| node.starts_with("replica")));
    wait_until("the replica serves reads", Duration::from_secs(10), is_on_replica).await?;
    Ok(db.read())
}

/// Of one connection for reads, so that the next user has the same session.
async fn the_next_user_is_read_only(primary: NodeConfig, replica: NodeConfig) -> Result<()> {
    let db = DatabaseConnection::builder().primary(primary).replica(replica.max_connections(1)).connect().await?;
    db.set_primary_read_share(0.0)?;
    let read = wait_for_replica(&db).await?;
    let begin = async || {
        let transaction = read.begin().await?;
        ensure!(transaction.node().starts_with("replica"), "the transaction runs on {}", transaction.node());
        Ok(transaction)
    };
    for sql in unlocking(db.get_database_backend()) {
        for ended in [Ended::Committed, Ended::RolledBack, Ended::Dropped] {
            let transaction = begin().await?;
            run(&transaction, sql).await?;
            end(transaction, ended).await?;
            let next = begin().await?;
            ensure!(is_read_only(&next).await?, "after {sql}, {ended:?}");
            next.rollback().await?;
        }
        let outer = begin().await?;
        if !sql.starts_with("COMMIT") {
            let nested = outer.begin().await?;
            run(&nested, sql).await?;
            nested.commit().await?;
        }
        outer.commit().await?;
        let next = begin().await?;
        ensure!(is_read_only(&next).await?, "after {sql} in a nested transaction");
        // By SeaORM's own type, whose statements the resolver does not see.
        let own: &sea_orm::DatabaseTransaction = next.as_ref();
        own.execute_unprepared(sql).await?;
        next.commit().await?;
        let next = begin().await?;
        ensure!(is_read_only(&next).await?, "after {sql} by SeaORM's own transaction");
        next.commit().await?;
    }
    Ok(())
}

async fn on(servers: &Servers) -> Result<()> {
    the_next_user_is_read_only(servers.primary_node(), servers.replica_node(0)).await
}

#[tokio::test]
async fn postgres_a_session_that_was_made_writable_is_read_only_for_its_next_user() -> Result<()> {
    on(&Servers::postgres().await?).await
}

#[tokio::test]
async fn mariadb_a_session_that_was_made_writable_is_read_only_for_its_next_user() -> Result<()> {
    on(&Servers::mariadb().await?).await
}

#[tokio::test]
async fn sqlite_a_session_that_was_made_writable_is_read_only_for_its_next_user() -> Result<()> {
    let file = SharedFile::new().await?;
    the_next_user_is_read_only(file.node("primary"), file.node("replica")).await
}
