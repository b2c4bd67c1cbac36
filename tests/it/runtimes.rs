//! A connection that several runtimes share, one of which ends: a static of a program's tests, or a job's own runtime.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use sea_orm::{ActiveModelTrait, EntityTrait, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, DatabaseTransaction};
use tokio::runtime;

use crate::{
    item,
    servers::{Servers, on_each_database},
};

/// How many connections the runtime that ends has opened at the least.
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 3;
/// Longer than any test, so that no probe notices the end.
const SELDOM: Duration = Duration::from_secs(60);

/// Runs some work on a runtime of its own, which ends then.
async fn on_another_runtime<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let running = thread::spawn(|| runtime::Builder::new_current_thread().enable_all().build()?.block_on(work));
    tokio::task::spawn_blocking(|| running.join()).await?.ok().context("the runtime's thread panicked")?
}

/// Opens some connections of both kinds, so that they rest in the pools.
async fn open_some(db: &DatabaseConnection) -> Result<()> {
    let mut open: Vec<DatabaseTransaction> = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(db.begin().await?);
    }
    for transaction in open {
        transaction.rollback().await?;
    }
    let reads = (0..CONNECTIONS).map(|_| async { item::Entity::find().all(&db.read()).await });
    futures_util::future::try_join_all(reads).await?;
    let writes = (0..CONNECTIONS as i32).map(|n| async move { item::new("x", n).insert(db).await });
    futures_util::future::try_join_all(writes).await?;
    Ok(())
}

/// One operation of each kind.
async fn use_all(db: &DatabaseConnection) -> Result<()> {
    item::new("x", 1).insert(db).await.context("a write")?;
    item::Entity::find().all(db).await.context("a read of a session")?;
    item::Entity::find().all(&db.read()).await.context("a plain read")?;
    let transaction = db.begin().await.context("a BEGIN")?;
    item::new("y", 1).insert(&transaction).await.context("a write of a transaction")?;
    transaction.commit().await.context("a COMMIT")
}

async fn no_operation_fails_when_the_runtime_that_connected_ends(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    let builder = servers.builder().probe_interval(SELDOM);
    for _ in 0..ROUNDS {
        let builder = builder.clone();
        let db = on_another_runtime(async move {
            let db = builder.connect().await?;
            open_some(&db).await?;
            Ok(db)
        })
        .await?;
        use_all(&db).await?;
        db.close().await?;
    }
    Ok(())
}

on_each_database!(no_operation_fails_when_the_runtime_that_connected_ends, [postgres, mariadb, mysql]);

async fn check_end_of_another_runtime(db: DatabaseConnection) -> Result<()> {
    for _ in 0..ROUNDS {
        let shared = db.clone();
        on_another_runtime(async move { open_some(&shared).await }).await?;
        for _ in 0..CONNECTIONS {
            use_all(&db).await?;
        }
    }
    Ok(())
}

async fn no_operation_fails_when_another_runtime_ends(servers: Servers) -> Result<()> {
    check_end_of_another_runtime(servers.open(servers.builder().probe_interval(SELDOM)).await?).await
}

on_each_database!(no_operation_fails_when_another_runtime_ends, [postgres, mariadb, mysql]);

async fn no_operation_fails_on_one_node_when_another_runtime_ends(servers: Servers) -> Result<()> {
    let builder = DatabaseConnection::builder().primary(servers.primary_node());
    check_end_of_another_runtime(servers.open(builder).await?).await
}

on_each_database!(no_operation_fails_on_one_node_when_another_runtime_ends, [postgres, mariadb, mysql]);
