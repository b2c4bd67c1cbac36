//! The primary's tenth of the reads, counted by the nodes' own words.
//!
//! 20 000 reads, p = 0.10: 2 000 expected, standard deviation √(20 000 · 0.1 · 0.9) ≈ 42.4; the
//! 99.9 % band is ± 3.29 of it. The draws are seeded and each read takes one, so that a run that
//! is inside the band is always inside.

use std::collections::BTreeMap;

use anyhow::Result;
use sea_orm::EntityTrait;
use sea_orm_resolver::{Builder, DatabaseConnection};
use tokio::task::JoinSet;

use crate::{
    files::{NamedFiles, SharedFile},
    item,
    servers::{Servers, on_each_database, served_reads},
    who::Who,
};

const READS: u32 = 20_000;
/// Fewer than the primary has read connections: when those are busy the primary's draw is skipped.
const TASKS: u32 = 4;
const READ_CONNECTIONS: u32 = 8;

type Counts = BTreeMap<String, u32>;

#[derive(Clone, Copy, PartialEq)]
enum By {
    /// A `db.read()` for each read.
    ReadConn,
    /// Statements on `&db`.
    Handle,
}

fn seeded(builder: Builder) -> Builder {
    builder.primary_read_connections(READ_CONNECTIONS).seed(2026)
}

/// Asks `READS` times which node answers.
async fn count(db: &DatabaseConnection, who: &Who, by: By, reads: u32) -> Result<Counts> {
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (db, who) = (db.clone(), who.clone());
        tasks.spawn(async move {
            let mut counts = Counts::new();
            for _ in 0..reads / TASKS {
                let name = match by {
                    By::ReadConn => who.answers(&db.read()).await?,
                    By::Handle => who.answers(&db).await?,
                };
                *counts.entry(name).or_default() += 1;
            }
            anyhow::Ok(counts)
        });
    }
    let mut all = Counts::new();
    while let Some(counts) = tasks.join_next().await {
        for (name, count) in counts?? {
            *all.entry(name).or_default() += count;
        }
    }
    Ok(all)
}

fn assert_share(counts: &Counts, reads: u32, share: f64) {
    assert_eq!(counts.values().sum::<u32>(), reads, "{counts:?}");
    let expected = f64::from(reads) * share;
    let deviation = (expected * (1.0 - share)).sqrt();
    let on_primary = f64::from(counts["primary"]);
    assert!(
        (on_primary - expected).abs() <= 3.29 * deviation,
        "{counts:?}, expected {expected} ± {}",
        3.29 * deviation
    );
    // By load and not by lot: tasks that wait for each other may settle on a node for a while.
    for replica in ["replica-0", "replica-1"] {
        assert!(counts[replica] > reads / 20, "{counts:?}");
    }
}

async fn a_tenth_of_the_reads_is_the_primarys(db: &DatabaseConnection, who: &Who) -> Result<()> {
    assert_share(&count(db, who, By::ReadConn, READS).await?, READS, 0.10);
    assert_share(&count(db, who, By::Handle, READS).await?, READS, 0.10);
    Ok(())
}

async fn a_tenth_of_20_000_reads_is_the_primarys(servers: Servers) -> Result<()> {
    let db = servers.open(seeded(servers.builder())).await?;
    a_tenth_of_the_reads_is_the_primarys(&db, &servers.who()).await
}

on_each_database!(a_tenth_of_20_000_reads_is_the_primarys, [postgres, mariadb]);

#[tokio::test]
async fn on_sqlite_a_tenth_of_20_000_reads_is_the_primarys() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = seeded(files.builder()).connect().await?;
    a_tenth_of_the_reads_is_the_primarys(&db, &files.who()).await
}

#[tokio::test]
async fn the_share_can_be_changed_while_reads_run_and_served_reads_are_counted() -> Result<()> {
    const FEWER: u32 = 4_000;
    let files = NamedFiles::new().await?;
    let db = seeded(files.builder()).connect().await?;
    let who = files.who();
    for share in [0.5, 0.25] {
        db.set_primary_read_share(share)?;
        let before = served_reads(&db);
        let counts = count(&db, &who, By::Handle, FEWER).await?;
        assert_share(&counts, FEWER, share);
        for (name, count) in counts {
            assert_eq!(served_reads(&db)[&name] - before[&name], u64::from(count), "{name} counts what it served");
        }
    }
    db.set_primary_read_share(0.0)?;
    assert!(!count(&db, &who, By::Handle, FEWER).await?.contains_key("primary"));
    db.set_primary_read_share(1.0)?;
    assert_eq!(count(&db, &who, By::ReadConn, FEWER).await?, Counts::from([("primary".to_owned(), FEWER)]));
    Ok(())
}

#[tokio::test]
async fn weights_share_the_replicas_part() -> Result<()> {
    const FEWER: u32 = 4_000;
    let files = NamedFiles::new().await?;
    let db = seeded(files.builder()).primary_read_share(0.0).connect().await?;
    db.set_weight("replica-0", 3)?;
    // One task, so that nothing else is in flight and the weights alone decide. 3 000 expected,
    // standard deviation √(4 000 · 3/4 · 1/4) ≈ 27; the band is five of it.
    let mut counts = Counts::new();
    for _ in 0..FEWER {
        *counts.entry(files.who().answers(&db).await?).or_default() += 1;
    }
    assert!(counts["replica-0"].abs_diff(3_000) < 137, "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn entities_on_one_shared_file_are_read_in_the_same_shares() -> Result<()> {
    const FEWER: u32 = 4_000;
    let file = SharedFile::new().await?;
    let db = seeded(file.builder()).connect().await?;
    item::Entity::insert(item::new("tea", 1)).exec(&db.primary()).await?;
    for _ in 0..FEWER {
        assert_eq!(item::Entity::find().all(&db).await?.len(), 1);
    }
    let counts =
        served_reads(&db).into_iter().map(|(name, count)| (name, u32::try_from(count).expect("few"))).collect();
    assert_share(&counts, FEWER, 0.10);
    Ok(())
}
