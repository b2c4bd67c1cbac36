//! A program that changes one import: SeaORM's whole surface on our types.

mod handles;
mod listed;
mod metrics;
mod migrations;
mod mocks;

use std::time::Duration;

use anyhow::Result;
use sea_orm::ConnectionTrait;
use sea_orm_resolver::{DatabaseConnection, NodeConfig};
use tempfile::TempDir;

use crate::servers::served_reads;

/// The program before the change.
#[expect(clippy::useless_conversion, reason = "with the other import it is one")]
mod with_seaorm {
    use sea_orm as imported;

    include!("program.rs");
}

/// The same text, with another import.
mod with_ours {
    use sea_orm_resolver as imported;

    include!("program.rs");
}

/// An empty database in WAL mode, so that a reader and a writer can be on it at once.
async fn empty_file(folder: &TempDir) -> Result<String> {
    let url = format!("sqlite://{}/program.db?mode=rwc", folder.path().display());
    let db = sea_orm::Database::connect(&url).await?;
    db.execute_unprepared("PRAGMA journal_mode = WAL").await?;
    db.close().await?;
    Ok(url)
}

#[tokio::test]
async fn the_same_program_does_the_same_with_either_import() -> Result<()> {
    let (before, after) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (before, after) = (empty_file(&before).await?, empty_file(&after).await?);
    let expected = with_seaorm::run(with_seaorm::connect(&before).await?, &before).await?;
    assert!(expected.len() > 150, "the program says what it saw: {expected:#?}");
    assert_eq!(with_ours::run(with_ours::connect(&after).await?, &after).await?, expected);
    Ok(())
}

#[tokio::test]
async fn the_same_program_does_the_same_with_replicas() -> Result<()> {
    let (before, after) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (before, after) = (empty_file(&before).await?, empty_file(&after).await?);
    let expected = with_seaorm::run(with_seaorm::connect(&before).await?, &before).await?;
    let node = |name| NodeConfig::new(&after).name(name).max_connections(1);
    let db = DatabaseConnection::builder()
        .primary(node("primary"))
        .replicas([node("replica-0"), node("replica-1")])
        .primary_read_share(0.0)
        // They share a file, so a replica is never behind, and no read is sent to the primary for that.
        .stick_after_write(Duration::ZERO)
        .unknown_outcome_hold(Duration::from_millis(1))
        .connect()
        .await?;
    let watch = db.clone();
    assert_eq!(with_ours::run(db, &after).await?, expected);
    let replicas: u64 =
        served_reads(&watch).iter().filter(|(name, _)| *name != "primary").map(|(_, count)| count).sum();
    assert!(replicas > 10, "{:?}", served_reads(&watch));
    Ok(())
}
