//! The 10 % / 90 % choice on PostgreSQL: `db.read()` draws a node once and keeps it, so a page or a
//! request is read from one server, and one request in ten from the primary.
//!
//! ```text
//! cargo run --example load_balancing                                   # starts its own cluster
//! DATABASE_URL=postgres://… DATABASE_REPLICA_URLS=postgres://…,postgres://… \
//!     cargo run --example load_balancing                               # or uses yours; reads only
//! ```
//!
//! The counts come from the servers' own answers, not from the resolver's beliefs. Meanwhile a replica is taken out
//! and put back. The program fails when a read fails, or when the shares are wrong.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use entity::customer;
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryOrder, QuerySelect, Statement};
use sea_orm_resolver::{Config, Database, DatabaseConnection};
use testkit::PostgresCluster;
use tokio::task::JoinSet;

const TASKS: usize = 4;
const READS_PER_SESSION: usize = 3;
const ROUND: Duration = Duration::from_millis(1_200);
const PAGE: u64 = 20;

/// The reads of a session between its two questions for the node.
#[derive(Clone, Copy, Debug)]
enum Reads {
    /// A page of the shop's customers.
    Customers,
    /// No reads: the databases belong to another user.
    Nothing,
}

/// A server's own answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, FromQueryResult)]
struct Server {
    is_replica: bool,
    address: String,
}

/// The number of sessions of each server, and of sessions that had to move.
#[derive(Debug, Default)]
struct Tally {
    sessions: BTreeMap<Server, usize>,
    moved: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let (config, cluster) = config().await?;
    let replicas = config.replicas.clone();
    let db = Database::connect(config).await?;
    let what = match &cluster {
        Some(cluster) => {
            entity::create_schema(&db.write()).await?;
            entity::seed(&db.write(), 200).await?;
            cluster.wait_caught_up().await?;
            Reads::Customers
        }
        None => Reads::Nothing,
    };
    println!("{}\n", db.topology());

    println!("── Sessions of {READS_PER_SESSION} reads each, from {TASKS} tasks, for {ROUND:?} ──\n");
    let tally = finish(read_in_tasks(&db, what)).await?;
    report(&tally);
    println!("  (Among the replicas the default policy prefers the one with fewer reads running.)\n");
    let (share, sessions) = tally.share_of_primary();
    let expected = db.topology().primary_read_share();
    let deviation = (expected * (1.0 - expected) / sessions).sqrt();
    ensure!((share - expected).abs() <= 5.0 * deviation, "the primary had {share:.3} of the sessions, not {expected}");
    ensure!(tally.moved == 0, "{} sessions were not read from one server", tally.moved);
    ensure!(tally.sessions.len() == replicas.len() + 1, "a server answered nothing");

    println!("── The same, while the first replica leaves and comes back ──\n");
    let tasks = read_in_tasks(&db, what);
    let started = Instant::now();
    let at = || started.elapsed().as_millis();
    tokio::time::sleep(ROUND / 4).await;
    let swap = db.swap_replicas(replicas[1..].to_vec()).await?;
    println!("  {:>4} ms: {} left, {} stayed", at(), swap.removed.join(", "), swap.kept.join(", "));
    tokio::time::sleep(ROUND / 4).await;
    let swap = db.swap_replicas(replicas).await?;
    println!("  {:>4} ms: {} came, {} stayed", at(), swap.added.join(", "), swap.kept.join(", "));
    let tally = finish(tasks).await?;
    println!("  {:>4} ms: the tasks stopped\n", at());
    report(&tally);

    println!("{}", db.topology());
    db.close().await?;
    Ok(())
}

/// Reads the configuration from the environment, or starts a cluster, which lives as long as the second value.
async fn config() -> Result<(Config, Option<PostgresCluster>)> {
    if env::var_os("DATABASE_URL").is_some() {
        let config = Config::from_env()?;
        ensure!(config.replicas.len() >= 2, "give at least two URLs, separated by a comma, in DATABASE_REPLICA_URLS");
        return Ok((config, None));
    }
    println!("No DATABASE_URL: starting PostgreSQL, a primary and two streaming replicas.\n");
    let cluster = PostgresCluster::start(2).await?;
    let replicas = cluster.replicas().iter().map(testkit::Server::url);
    let config = replicas.fold(Config::new(cluster.primary().url()), Config::replica);
    Ok((config, Some(cluster)))
}

fn read_in_tasks(db: &DatabaseConnection, what: Reads) -> JoinSet<Result<Tally>> {
    (0..TASKS).map(|_| read_sessions(db.clone(), what)).collect()
}

/// Sessions one after the other: each makes a `ReadConn`, reads by it, and asks before and after which server
/// answers. Explicit sessions, which wrote nothing, need not see the seed that this process has just written.
async fn read_sessions(db: DatabaseConnection, what: Reads) -> Result<Tally> {
    let mut tally = Tally::default();
    let started = Instant::now();
    while started.elapsed() < ROUND {
        let read = db.session().read();
        let first = ask(&read).await?;
        let has_moved = match what {
            Reads::Customers => {
                let page = customer::Entity::find().order_by_asc(customer::Column::Id).limit(PAGE).all(&read).await?;
                ensure!(page.len() as u64 == PAGE, "customers are missing");
                false
            }
            Reads::Nothing => ask(&read).await? != first,
        };
        let has_moved = ask(&read).await? != first || has_moved;
        *tally.sessions.entry(first).or_default() += 1;
        tally.moved += usize::from(has_moved);
    }
    Ok(tally)
}

/// Asks the server behind a connection for its identity.
async fn ask(connection: &impl ConnectionTrait) -> Result<Server> {
    let sql = "SELECT pg_is_in_recovery() AS is_replica, \
               concat_ws(':', host(inet_server_addr()), inet_server_port()::int) AS address";
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    Server::find_by_statement(statement).one(connection).await?.context("a server did not say who it is")
}

async fn finish(tasks: JoinSet<Result<Tally>>) -> Result<Tally> {
    let mut all = Tally::default();
    for tally in tasks.join_all().await {
        let tally = tally?;
        all.moved += tally.moved;
        for (server, sessions) in tally.sessions {
            *all.sessions.entry(server).or_default() += sessions;
        }
    }
    Ok(all)
}

impl Tally {
    /// The primary's share of the sessions, and their number.
    fn share_of_primary(&self) -> (f64, f64) {
        let on_primary: usize = self.sessions.iter().filter(|(server, _)| !server.is_replica).map(|(_, n)| n).sum();
        let all = self.sessions.values().sum::<usize>() as f64;
        (on_primary as f64 / all, all)
    }
}

fn report(tally: &Tally) {
    let all: usize = tally.sessions.values().sum();
    println!("  server           pg_is_in_recovery()  sessions");
    for (server, sessions) in &tally.sessions {
        let percent = 100.0 * *sessions as f64 / all as f64;
        let bar = "█".repeat((percent / 2.0).round() as usize);
        println!("  {:15}  {:19}  {sessions:>8}  {percent:>5.1} %  {bar}", server.address, server.is_replica);
    }
    let reads = all * READS_PER_SESSION;
    let per_second = reads as f64 / ROUND.as_secs_f64();
    println!("\n  {reads} reads, {per_second:.0}/s, 0 errors; {} sessions changed their server\n", tally.moved);
}
