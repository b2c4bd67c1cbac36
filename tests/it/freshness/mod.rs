//! A program reads its own writes, from replicas that are late, stand still, go back in time and
//! are promoted. Everything here runs on real servers.

mod busy;
mod commit;
mod lag;
mod late;
mod load;
mod orm;
mod page;
mod promotion;
mod reset;
mod shared;
mod shown_lag;
mod token;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sea_orm::EntityTrait;
use sea_orm_resolver::DatabaseConnection;

use crate::{item, servers::served_reads, wait::wait_until, who::Who};

/// For states that come in milliseconds when nothing else runs on the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a read of this handle finds the row.
async fn finds(db: &DatabaseConnection, id: i32) -> Result<bool> {
    Ok(item::Entity::find_by_id(id).one(db).await?.is_some())
}

/// Waits until a replica serves a read of this handle's session.
async fn comes_back_to_a_replica(db: &DatabaseConnection, who: &Who) -> Result<()> {
    wait_until("a replica serves the session", PATIENCE, async || Ok(who.answers(db).await?.starts_with("replica")))
        .await
}

/// The reads that this member has answered.
fn served(db: &DatabaseConnection, name: &str) -> u64 {
    served_reads(db).get(name).copied().unwrap_or_default()
}

/// Reads the row until this member has served one of the reads; each of them has to find it.
async fn finds_until_served_by(db: &DatabaseConnection, id: i32, name: &str) -> Result<()> {
    let before = served(db, name);
    wait_until(&format!("{name} serves"), PATIENCE, async || {
        assert!(finds(db, id).await?, "the row is gone; {}", db.topology());
        Ok(served(db, name) > before)
    })
    .await
}

/// Reads the row, again as soon as the read has ended, until a replica serves one; each read has to find the row.
async fn finds_without_a_pause_until_served_by_a_replica(db: &DatabaseConnection, id: i32) -> Result<()> {
    let by_replicas = || served(db, "replica-0") + served(db, "replica-1");
    let (before, started) = (by_replicas(), tokio::time::Instant::now());
    while by_replicas() == before {
        assert!(finds(db, id).await?, "the row is gone; {}", db.topology());
        ensure!(started.elapsed() < PATIENCE, "no replica ever serves; {}", db.topology());
    }
    Ok(())
}

/// Runs a future as a task, so that plain handles in it are a session of their own.
async fn in_a_task<F>(future: F) -> Result<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future).await.context("the task panicked")
}
