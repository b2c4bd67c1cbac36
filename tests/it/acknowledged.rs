//! No acknowledged write is lost when a `begin` was dropped on its way, at any level.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseConnection as SeaOrm, EntityTrait, QueryFilter,
    TransactionTrait, sea_query::Expr,
};
use sea_orm_resolver::{DatabaseConnection, NodeConfig};
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};

use crate::{files::SharedFile, item, servers::Servers};

const TASKS: i32 = 16;
const TURNS: i32 = 120;
const CONNECTIONS: u32 = 6;
/// So often the control may lose nothing before the test gives up.
const ROUNDS: i32 = 20;

/// Waits for `future` for so many turns of the scheduler, or so many halves of a millisecond, and drops it.
async fn for_a_moment<T>(turn: i32, future: impl Future<Output = T>) -> Option<T> {
    let patience: BoxFuture<'_, ()> = if turn % 2 == 0 {
        async move {
            for _ in 0..turn % 24 {
                yield_now().await;
            }
        }
        .boxed()
    } else {
        sleep(Duration::from_micros(500) * u32::try_from(turn % 6).unwrap_or(0)).boxed()
    };
    tokio::select! {
        biased;
        value = future => Some(value),
        () = patience => None,
    }
}

/// Updates a row that no other task touches.
async fn update(db: &impl ConnectionTrait, id: i32) -> Result<()> {
    let update = item::Entity::update_many().col_expr(item::Column::Amount, Expr::value(1));
    let done = update.filter(item::Column::Id.eq(id)).exec(db).await?;
    ensure!(done.rows_affected == 1, "row {id}");
    Ok(())
}

async fn insert_rows(db: &impl ConnectionTrait, ids: std::ops::Range<i32>) -> Result<()> {
    for chunk in ids.collect::<Vec<_>>().chunks(1_000) {
        let row = |id: &i32| item::ActiveModel { id: Set(*id), name: Set("updated".into()), amount: Set(0) };
        item::Entity::insert_many(chunk.iter().map(row)).exec(db).await?;
    }
    Ok(())
}

/// The ids of the rows that were not updated.
async fn not_updated(db: &impl ConnectionTrait) -> Result<Vec<i32>> {
    let rows = item::Entity::find().filter(item::Column::Amount.eq(0)).all(db).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Tasks that drop a `begin` before every second update. Returns the rows whose update was acknowledged, and how many
/// updates failed.
async fn updates_after_dropped_begins<C>(db: &C, first: i32) -> Result<(Vec<i32>, usize)>
where
    C: ConnectionTrait + TransactionTrait + Clone + Send + Sync + 'static,
{
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let db = db.clone();
        tasks.spawn(async move {
            let (mut acknowledged, mut failed) = (Vec::new(), 0);
            for turn in 0..TURNS {
                if turn % 2 == 0 {
                    drop(for_a_moment(task + turn / 2, db.begin()).await);
                }
                let id = first + task * TURNS + turn;
                match update(&db, id).await {
                    Ok(()) => acknowledged.push(id),
                    Err(_) => failed += 1,
                }
            }
            (acknowledged, failed)
        });
    }
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    while let Some(task) = tasks.join_next().await {
        let (of_task, failed_in_task) = task?;
        acknowledged.extend(of_task);
        failed += failed_in_task;
    }
    Ok((acknowledged, failed))
}

/// The acknowledged updates that are missing, as another connection sees them.
async fn lost(looker: &impl ConnectionTrait, acknowledged: &[i32]) -> Result<Vec<i32>> {
    let missing = not_updated(looker).await?;
    Ok(acknowledged.iter().copied().filter(|id| missing.contains(id)).collect())
}

async fn no_acknowledged_update_is_lost(db: &DatabaseConnection, looker: &SeaOrm) -> Result<()> {
    let rows = TASKS * TURNS;
    insert_rows(looker, 1..rows + 1).await?;
    let (acknowledged, failed) = updates_after_dropped_begins(db, 1).await?;
    ensure!(failed == 0, "{failed} updates failed");
    let lost = lost(looker, &acknowledged).await?;
    ensure!(lost.is_empty(), "{} of {} acknowledged updates are lost: {lost:?}", lost.len(), acknowledged.len());
    Ok(())
}

/// SeaORM alone loses acknowledged updates, or the test above proves nothing.
async fn seaorm_alone_loses_some(servers: &Servers, looker: &SeaOrm) -> Result<()> {
    let rows = TASKS * TURNS;
    for round in 1..=ROUNDS {
        let first = round * rows + 1;
        insert_rows(looker, first..first + rows).await?;
        let mut options = sea_orm::ConnectOptions::new(servers.primary().url());
        options.max_connections(CONNECTIONS);
        let alone = sea_orm::Database::connect(options).await?;
        let (acknowledged, _) = updates_after_dropped_begins(&alone, first).await?;
        alone.close().await?;
        if !lost(looker, &acknowledged).await?.is_empty() {
            return Ok(());
        }
    }
    anyhow::bail!("SeaORM alone lost nothing in {ROUNDS} rounds: the test does not drop a BEGIN on its way")
}

/// A transaction whose nested `begin`s are dropped: either both its updates are in the database, or none.
async fn a_transaction_is_all_or_nothing(db: &DatabaseConnection, looker: &SeaOrm) -> Result<()> {
    let rows = TASKS * TURNS;
    insert_rows(looker, 1..rows + 1).await?;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let db = db.clone();
        tasks.spawn(async move {
            let mut committed = Vec::new();
            for turn in (0..TURNS).step_by(2) {
                let id = 1 + task * TURNS + turn;
                let outer = db.begin().await?;
                update(&outer, id).await?;
                drop(for_a_moment(task + turn / 2, outer.begin()).await);
                match turn % 3 {
                    0 => {
                        update(&outer, id + 1).await?;
                        outer.commit().await?;
                        committed.extend([id, id + 1]);
                    }
                    1 => {
                        let nested = outer.begin().await?;
                        update(&nested, id + 1).await?;
                        drop(for_a_moment(turn, nested.begin()).await);
                        nested.commit().await?;
                        outer.commit().await?;
                        committed.extend([id, id + 1]);
                    }
                    _ => drop(outer),
                }
            }
            Ok::<_, anyhow::Error>(committed)
        });
    }
    let mut committed = Vec::new();
    while let Some(task) = tasks.join_next().await {
        committed.extend(task??);
    }
    let missing = not_updated(looker).await?;
    let lost: Vec<i32> = committed.iter().copied().filter(|id| missing.contains(id)).collect();
    ensure!(lost.is_empty(), "of {} rows of committed transactions are not there: {lost:?}", committed.len());
    let invented: Vec<i32> = (1..=rows).filter(|id| !missing.contains(id) && !committed.contains(id)).collect();
    ensure!(invented.is_empty(), "rows of transactions that were dropped: {invented:?}");
    Ok(())
}

/// A `commit` that is dropped on its way runs to its end, and so does a `rollback`.
async fn a_dropped_end_ends_the_transaction(db: &DatabaseConnection, looker: &SeaOrm) -> Result<()> {
    insert_rows(looker, 1..41).await?;
    for id in 1..=40 {
        let transaction = db.begin().await?;
        update(&transaction, id).await?;
        let nested = transaction.begin().await?;
        if id % 2 == 0 {
            // The first poll of the future sends the request.
            drop(nested.commit().now_or_never());
            drop(transaction.commit().now_or_never());
        } else {
            drop(nested.rollback().now_or_never());
            drop(transaction.rollback().now_or_never());
        }
    }
    let ended = async || Ok(not_updated(looker).await? == (1..=40).step_by(2).collect::<Vec<_>>());
    crate::wait::wait_until("every second transaction is committed", Duration::from_secs(15), ended).await
}

/// A connection to the primary alone, with few connections.
fn few(servers: &Servers) -> NodeConfig {
    servers.primary_node().max_connections(CONNECTIONS)
}

async fn alone(node: NodeConfig) -> Result<DatabaseConnection> {
    Ok(DatabaseConnection::builder().primary(node).connect().await?)
}

async fn looker(servers: &Servers) -> Result<SeaOrm> {
    let looker = servers.plain().await?;
    item::create_table(&looker).await?;
    Ok(looker)
}

/// A pool that was given open, as SeaORM opened it.
async fn given(servers: &Servers) -> Result<DatabaseConnection> {
    let mut options = sea_orm::ConnectOptions::new(servers.primary().url());
    options.max_connections(CONNECTIONS);
    Ok(sea_orm::Database::connect(options).await?.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_no_acknowledged_update_is_lost_where_seaorm_alone_loses_some() -> Result<()> {
    let servers = Servers::postgres().await?;
    let looker = looker(&servers).await?;
    no_acknowledged_update_is_lost(&alone(few(&servers)).await?, &looker).await?;
    seaorm_alone_loses_some(&servers, &looker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_no_acknowledged_update_is_lost_on_a_pool_that_was_given() -> Result<()> {
    let servers = Servers::postgres().await?;
    let looker = looker(&servers).await?;
    no_acknowledged_update_is_lost(&given(&servers).await?, &looker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_no_acknowledged_update_is_lost() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let looker = looker(&servers).await?;
    no_acknowledged_update_is_lost(&alone(few(&servers)).await?, &looker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_no_acknowledged_update_is_lost() -> Result<()> {
    let file = SharedFile::new().await?;
    let looker = sea_orm::Database::connect(file.url()).await?;
    no_acknowledged_update_is_lost(&alone(file.node("file")).await?, &looker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_a_transaction_with_dropped_nested_begins_is_all_or_nothing() -> Result<()> {
    let servers = Servers::postgres().await?;
    let looker = looker(&servers).await?;
    a_transaction_is_all_or_nothing(&alone(few(&servers)).await?, &looker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_a_transaction_with_dropped_nested_begins_is_all_or_nothing() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let looker = looker(&servers).await?;
    a_transaction_is_all_or_nothing(&alone(few(&servers)).await?, &looker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_a_transaction_with_dropped_nested_begins_is_all_or_nothing() -> Result<()> {
    let file = SharedFile::new().await?;
    let looker = sea_orm::Database::connect(file.url()).await?;
    a_transaction_is_all_or_nothing(&alone(file.node("file")).await?, &looker).await
}

#[tokio::test]
async fn postgres_a_dropped_commit_commits_and_a_dropped_rollback_rolls_back() -> Result<()> {
    let servers = Servers::postgres().await?;
    let looker = looker(&servers).await?;
    a_dropped_end_ends_the_transaction(&alone(few(&servers)).await?, &looker).await
}

#[tokio::test]
async fn mariadb_a_dropped_commit_commits_and_a_dropped_rollback_rolls_back() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let looker = looker(&servers).await?;
    a_dropped_end_ends_the_transaction(&alone(few(&servers)).await?, &looker).await
}

#[tokio::test]
async fn sqlite_a_dropped_commit_commits_and_a_dropped_rollback_rolls_back() -> Result<()> {
    let file = SharedFile::new().await?;
    let looker = sea_orm::Database::connect(file.url()).await?;
    a_dropped_end_ends_the_transaction(&alone(file.node("file")).await?, &looker).await
}
