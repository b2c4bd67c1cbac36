//! One primary and two replicas over the MySQL protocol: writes go to the one, reads to the others,
//! and a program finds what it has just written.
//!
//! ```text
//! cargo run --example primary_replica                              # starts its own MariaDB cluster
//! DATABASE_URL=mysql://… DATABASE_REPLICA_URLS=mysql://…,mysql://… \
//!     cargo run --example primary_replica                          # or uses yours
//! ```
//!
//! In your own databases the example creates the shop's tables (customers, products, orders, order_lines) where
//! they are missing, and deletes the customers it has added. The counts come from the servers' own answers. The
//! example fails when a read or write fails, is answered by the wrong kind of server, or misses a row.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use entity::customer;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, PaginatorTrait,
    QueryFilter, Statement, TransactionTrait,
};
use sea_orm_resolver::{Config, Database, DatabaseConnection, NodeConfig};
use testkit::MariaDbCluster;
use tokio::task::JoinSet;

const TASKS: usize = 6;
const WRITES_PER_TASK: usize = 50;
const ROUND: Duration = Duration::from_millis(1_200);

/// A server's own answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, FromQueryResult)]
struct Server {
    read_only: i64,
    address: String,
}

/// The number of operations of each server.
type Tally = BTreeMap<Server, usize>;

#[tokio::main]
async fn main() -> Result<()> {
    let (mut config, cluster) = config().await?;
    config.primary_read_share = 0.0; // reads are the replicas' work
    let replicas = config.replicas.clone();
    let db = Database::connect(config).await?;
    println!("{}\n", db.topology());
    entity::create_schema(&db).await?;

    let run = std::process::id();
    let shown = show(&db, replicas, run, cluster.as_ref()).await;
    let ours = customer::COLUMN.email.starts_with(format!("{run}."));
    let deleted = customer::Entity::delete_many().filter(ours).exec(&db).await?;
    println!("\n  {} rows deleted again, through the primary\n", deleted.rows_affected);
    shown?;

    let topology = db.topology();
    println!("{topology}");
    let own = topology.primary().node().served_reads();
    println!("(the {own} reads of the primary are those of tasks that had just written)");
    db.close().await?;
    Ok(())
}

/// Writes, reads and a swap; the rows it leaves have an address that begins with `run`.
async fn show(
    db: &DatabaseConnection,
    replicas: Vec<NodeConfig>,
    run: u32,
    cluster: Option<&MariaDbCluster>,
) -> Result<()> {
    let each = TASKS * WRITES_PER_TASK;
    println!("── Writes: {each} transactions and {each} inserts, each row looked up at once ──\n");
    let started = Instant::now();
    let writers = (0..TASKS).map(|task| write(db.clone(), format!("{run}.{task}"))).collect();
    let tally = finish(writers).await?;
    report(&tally, "transactions");
    println!("  {:.1?}; every row was found by the task that wrote it, right after\n", started.elapsed());
    ensure!(tally.len() == 1, "writes went to {} servers", tally.len());
    ensure!(tally.keys().all(|server| server.read_only == 0), "a replica took a write");

    println!("── Reads, from {TASKS} sessions that wrote nothing, for {ROUND:?}, with a swap while they run ──\n");
    let readers: JoinSet<_> = (0..TASKS).map(|_| read(db.clone())).collect();
    let started = Instant::now();
    let at = || started.elapsed().as_millis();
    tokio::time::sleep(ROUND / 4).await;
    let swap = db.swap_replicas(replicas[1..].to_vec()).await?;
    println!("  {:>4} ms: {} left, {} stayed", at(), swap.removed.join(", "), swap.kept.join(", "));
    tokio::time::sleep(ROUND / 4).await;
    let swap = db.swap_replicas(replicas).await?;
    println!("  {:>4} ms: {} came, {} stayed", at(), swap.added.join(", "), swap.kept.join(", "));
    let tally = finish(readers).await?;
    println!("  {:>4} ms: the tasks stopped\n", at());
    report(&tally, "reads");
    println!("\n  0 errors\n");
    ensure!(tally.keys().all(|server| server.read_only != 0), "the primary answered a read");
    ensure!(tally.len() == db.topology().replicas().len(), "a replica answered nothing");

    println!("── And the rows are on every replica ──\n");
    if let Some(cluster) = cluster {
        cluster.wait_caught_up().await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await; // servers of your own may be a moment behind
    let ours = customer::COLUMN.email.starts_with(format!("{run}."));
    let mut seen = BTreeMap::new();
    while seen.len() < tally.len() {
        let read = db.session().read();
        let rows = customer::Entity::find().filter(ours.clone()).count(&read).await?;
        seen.insert(ask(&read).await?, rows);
    }
    for (server, rows) in seen {
        println!("  {} (read_only = {}) has {rows} rows", server.address, server.read_only);
        ensure!(rows as usize == 2 * each, "rows are missing: is it more than a second behind?");
    }
    Ok(())
}

/// Reads the configuration from the environment, or starts a cluster, which lives as long as the second value.
async fn config() -> Result<(Config, Option<MariaDbCluster>)> {
    if env::var_os("DATABASE_URL").is_some() {
        let config = Config::from_env()?;
        ensure!(config.replicas.len() >= 2, "give at least two URLs, separated by a comma, in DATABASE_REPLICA_URLS");
        return Ok((config, None));
    }
    println!("No DATABASE_URL: starting MariaDB, a primary and two GTID replicas.\n");
    let cluster = MariaDbCluster::start(2).await?;
    let replicas = cluster.replicas().iter().map(testkit::Server::url);
    let config = replicas.fold(Config::new(cluster.primary().url()), Config::replica);
    Ok((config, Some(cluster)))
}

/// A task that inserts and reads back: once in a transaction that asks its server for its identity, once through
/// `&db`, where MySQL has no RETURNING and SeaORM reads the row back itself.
async fn write(db: DatabaseConnection, prefix: String) -> Result<Tally> {
    let mut tally = Tally::default();
    for n in 0..WRITES_PER_TASK {
        let transaction = db.begin().await?;
        *tally.entry(ask(&transaction).await?).or_default() += 1;
        let bought = new_customer(format!("{prefix}.{n}.a")).insert(&transaction).await?;
        transaction.commit().await?;
        let browsed = new_customer(format!("{prefix}.{n}.b")).insert(&db).await?;

        for written in [bought, browsed] {
            let found = customer::Entity::find_by_id(written.id).one(&db).await?;
            ensure!(found.as_ref() == Some(&written), "{} was written and is missing", written.email);
        }
    }
    Ok(tally)
}

/// A task that only reads, each time in a session of its own and so from a node drawn anew. An explicit session that wrote
/// nothing waits for no write of other tasks.
async fn read(db: DatabaseConnection) -> Result<Tally> {
    let mut tally = Tally::default();
    let started = Instant::now();
    while started.elapsed() < ROUND {
        *tally.entry(ask(&db.session().read()).await?).or_default() += 1;
    }
    Ok(tally)
}

fn new_customer(email: String) -> customer::ActiveModel {
    let (name, city) = ("Katherine".to_owned(), "Hampton".to_owned());
    customer::ActiveModel { name: Set(name), email: Set(email), city: Set(city), ..Default::default() }
}

/// Asks the server behind a connection for its identity.
async fn ask(connection: &impl ConnectionTrait) -> Result<Server> {
    let sql = "SELECT CAST(@@global.read_only AS SIGNED) AS read_only, CONCAT(@@hostname, ':', @@port) AS address";
    let statement = Statement::from_string(DbBackend::MySql, sql);
    Server::find_by_statement(statement).one(connection).await?.context("a server did not say who it is")
}

async fn finish(tasks: JoinSet<Result<Tally>>) -> Result<Tally> {
    let mut all = Tally::new();
    for tally in tasks.join_all().await {
        for (server, count) in tally? {
            *all.entry(server).or_default() += count;
        }
    }
    Ok(all)
}

fn report(tally: &Tally, what: &str) {
    let all: usize = tally.values().sum();
    println!("  server                @@global.read_only  {what}");
    for (server, count) in tally {
        let percent = 100.0 * *count as f64 / all as f64;
        let bar = "█".repeat((percent / 2.0).round() as usize);
        println!("  {:20}  {:18}  {count:>5}  {percent:>5.1} %  {bar}", server.address, server.read_only);
    }
}
