//! The whole idea in a few seconds, with nothing installed but Rust:
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! One SQLite file in WAL mode has one writer, the primary, and read-only pools on the same file as
//! its replicas. Four tasks read from the shop of `entity/`, with the replicas swapped under them.
//! Every number is measured; the program fails when one of them is not what the README promises.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use entity::{Shop, customer, order, order_line};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, IntoActiveModel, LoaderTrait, QueryOrder,
    QuerySelect,
};
use sea_orm_resolver::{DatabaseConnection, Error, NodeConfig, Topology};

/// How often a row is written, and looked for at once.
const MOVES: u64 = 100;
const TASKS: usize = 4;
const STATEMENTS_PER_VISIT: usize = 4;
const READS: usize = 625 * TASKS * STATEMENTS_PER_VISIT;

/// The progress of the reading tasks.
#[derive(Debug, Default)]
struct Progress {
    reads: AtomicUsize,
    errors: AtomicUsize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
    let node = |name: &str| NodeConfig::new(&url).name(name);

    println!("── 1. One primary, two replicas: a single SQLite file in WAL mode ──\n");
    let db = DatabaseConnection::builder()
        .primary(node("primary"))
        .replicas([node("replica-a"), node("replica-b")])
        .connect()
        .await?;
    db.execute_unprepared("PRAGMA journal_mode = WAL").await?; // `&db` is a SeaORM connection
    entity::create_schema(&db).await?;
    let shop = Arc::new(entity::seed(&db, 200).await?);
    let Shop { customers, orders, lines, .. } = shop.as_ref();
    println!("{}\n", db.topology());
    println!("Wrote {} customers, {} orders and {} lines.\n", customers.len(), orders.len(), lines.len());

    println!("── 2. A session reads its own writes ──\n");
    show_read_your_writes(&db).await?;

    println!("── 3. {READS} reads from {TASKS} tasks, and a swap of the replicas half way ──\n");
    let before = db.topology();
    let served_before: HashMap<_, _> = before.members().map(|m| (m.name(), m.node().served_reads())).collect();
    let started = Instant::now();
    let progress = Arc::new(Progress::default());
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(browse(db.clone(), Arc::clone(&shop), Arc::clone(&progress), task)))
        .collect();

    while progress.reads.load(Relaxed) < READS / 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (swap_started, at) = (Instant::now(), progress.reads.load(Relaxed));
    let swap = db.swap_replicas([node("replica-b"), node("replica-c")]).await?;
    println!("Swapped after {at} reads, in {:.1?}, while they ran:", swap_started.elapsed());
    println!("  kept {}, added {}, removed {}\n", swap.kept.join(", "), swap.added.join(", "), swap.removed.join(", "));

    for task in tasks {
        task.await?;
    }
    let elapsed = started.elapsed();
    let errors = progress.errors.load(Relaxed);
    let after = db.topology();

    println!("Who served them:");
    let served = |topology: &Topology| -> Vec<(String, u64)> {
        let since = |name| served_before.get(name).copied().unwrap_or(0);
        topology.members().map(|m| (m.name().to_owned(), m.node().served_reads() - since(m.name()))).collect()
    };
    let mut counts = served(&before); // `replica-a` has left; its counter has not
    counts.extend(served(&after).into_iter().filter(|(name, _)| before.member(name).is_none()));
    for (name, count) in &counts {
        println!("  {}", bar(name, *count));
    }
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    let on_primary = counts[0].1;
    println!("\nThe split:");
    println!("  {}", bar("primary", on_primary));
    println!("  {}", bar("replicas", all - on_primary));
    println!("\n{errors} errors; {:.2?}, {:.0} reads/s\n", elapsed, READS as f64 / elapsed.as_secs_f64());
    println!("{after}\n");

    ensure!(errors == 0, "{errors} visits failed");
    ensure!(all == READS as u64, "{READS} reads were made, {all} were counted");
    let share = on_primary as f64 / all as f64;
    ensure!((0.06..0.14).contains(&share), "the primary served {share:.3} of the reads instead of about 0.10");
    ensure!(counts.iter().all(|(_, count)| *count > 0), "a node served nothing");
    db.close().await?;
    Ok(())
}

/// Writes a row, and reads it back at once.
async fn show_read_your_writes(db: &DatabaseConnection) -> Result<()> {
    let grace = customer::ActiveModel {
        name: Set("Grace Hopper".to_owned()),
        email: Set("grace@example.com".to_owned()),
        city: Set("Arlington".to_owned()),
        ..Default::default()
    };
    let mut grace = grace.insert(db).await?;
    let on_replicas = || db.topology().replicas().iter().map(|replica| replica.node().served_reads()).sum::<u64>();
    let before = on_replicas();
    for number in 0..MOVES {
        let mut moved = grace.into_active_model();
        moved.city = Set(format!("Arlington {number}"));
        grace = moved.update(db).await?;
        let found = customer::Entity::find_by_id(grace.id).one(db).await?;
        ensure!(found.as_ref() == Some(&grace), "what was just written is missing");
    }
    let from_replicas = on_replicas() - before;
    println!("Wrote customer {}, {}, and moved her {MOVES} times:", grace.id, grace.name);
    println!("each time found at once where she had moved to, {from_replicas} times by a replica,");
    println!("which serves a session when it is known to have what that wrote.");
    ensure!(from_replicas > MOVES / 2, "replicas do not serve those who write");

    let refused = customer::Entity::delete_by_id(grace.id).exec(&db.read()).await;
    let refused = refused.err().context("a read connection deleted something")?;
    ensure!(Error::from_db_err(&refused).is_some_and(Error::is_refused), "refused late: {refused}");
    println!("A DELETE through `db.read()` was refused before it reached the file.\n");
    Ok(())
}

/// One task: visits of four reads each, until its share of all reads is done.
async fn browse(db: DatabaseConnection, shop: Arc<Shop>, progress: Arc<Progress>, task: usize) {
    for visit in 0..READS / TASKS / STATEMENTS_PER_VISIT {
        if let Err(error) = visit_shop(&db, &shop, task + visit * TASKS).await {
            eprintln!("  visit {visit} of task {task} failed: {error:#}");
            progress.errors.fetch_add(1, Relaxed);
        }
        progress.reads.fetch_add(STATEMENTS_PER_VISIT, Relaxed);
    }
}

/// One statement through `&db`, which draws a node for each, and three through one `db.read()`,
/// which draws once and keeps its node.
async fn visit_shop(db: &DatabaseConnection, shop: &Shop, visit: usize) -> Result<()> {
    let expected = &shop.customers[visit % shop.customers.len()];
    let customer = customer::Entity::find_by_id(expected.id).one(db).await?;
    ensure!(customer.as_ref() == Some(expected), "customer {} is not what was written", expected.id);

    let read = db.read();
    let page = visit as u64 % 10;
    let orders = order::Entity::find().order_by_asc(order::COLUMN.id).offset(page * 20).limit(20).all(&read).await?;
    let buyers = orders.load_one(customer::Entity, &read).await?;
    let lines = orders.load_many(order_line::Entity, &read).await?;
    ensure!(orders.len() == 20 && buyers.iter().all(Option::is_some), "page {page} is not complete");
    ensure!(lines.iter().all(|lines| !lines.is_empty()), "an order has no lines");
    Ok(())
}

/// `name  count  percent  ███` of all reads.
fn bar(name: &str, count: u64) -> String {
    let percent = 100.0 * count as f64 / READS as f64;
    format!("{name:9}  {count:>6}  {percent:>5.1} %  {}", "█".repeat((percent / 2.0).round() as usize))
}
