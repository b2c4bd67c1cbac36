//! Servers that are killed, frozen and restarted under the readers' feet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use futures_util::{TryStreamExt, future::join_all};
use sea_orm::{ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, StreamTrait, TransactionTrait};
use sea_orm_resolver::{Builder, Database, DatabaseConnection, Error, Health, NodeConfig};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    item,
    servers::{Servers, in_flight, on_each_database, served_reads},
    wait::wait_until,
    who::Who,
};

const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// The issue's own numbers.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// The time-out is 2 s for each node with all questions to it; the rest is for a busy machine.
const CONNECTED_AFTER: Duration = Duration::from_secs(3);
/// How long `connect` waits for a primary that does not come.
const SHORT: Duration = Duration::from_secs(1);
const BACK_AFTER: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(15);

/// Reads of every kind until they are told to stop, with the longest one remembered.
struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    longest: Arc<AtomicU64>,
    tasks: JoinSet<Result<()>>,
}

impl Readers {
    fn start(db: &DatabaseConnection, who: &Who) -> Self {
        let mut readers =
            Self { stop: Arc::default(), reads: Arc::default(), longest: Arc::default(), tasks: JoinSet::new() };
        for kind in 0..8 {
            let (stop, reads, longest) =
                (Arc::clone(&readers.stop), Arc::clone(&readers.reads), Arc::clone(&readers.longest));
            let (db, who) = (db.clone(), who.clone());
            readers.tasks.spawn(async move {
                let held = db.read();
                while !stop.load(Relaxed) {
                    let started = Instant::now();
                    match kind % 4 {
                        0 => drop(who.answers(&db).await?),
                        1 => drop(who.answers(&db.read()).await?),
                        2 => drop(who.answers(&held).await?),
                        _ => drop(db.stream(&who.built()).await?.try_collect::<Vec<_>>().await?),
                    }
                    longest.fetch_max(micros(started.elapsed()), Relaxed);
                    reads.fetch_add(1, Relaxed);
                    // Not the machine's speed is measured here.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(())
            });
        }
        readers
    }

    /// Waits until some more reads were answered.
    async fn more(&self, count: u64) -> Result<()> {
        let target = self.reads.load(Relaxed) + count;
        wait_until("reads go on", PATIENCE, async || Ok(self.reads.load(Relaxed) >= target)).await
    }

    /// Ends the reads; fails when one of them failed, else returns how long the longest took.
    async fn end(mut self) -> Result<Duration> {
        self.stop.store(true, Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        Ok(Duration::from_micros(self.longest.load(Relaxed)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn health(db: &DatabaseConnection, name: &str) -> Health {
    db.topology().member(name).expect("it is a member").health()
}

async fn becomes(db: &DatabaseConnection, name: &str, wanted: Health, limit: Duration) -> Result<()> {
    wait_until(&format!("{name} to be {wanted:?}"), limit, async || Ok(health(db, name) == wanted)).await
}

async fn a_replica_that_is_killed_and_restarted_costs_no_read(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().probe_interval(PROBE_INTERVAL)).await?;
    let readers = Readers::start(&db, &servers.who());
    readers.more(400).await?;

    servers.replica(0).kill().await?;
    tokio::time::sleep(2 * PROBE_INTERVAL).await;
    assert_eq!(health(&db, "replica-0"), Health::Down, "within two probe intervals");
    let served = served_reads(&db);
    let asked = Instant::now();
    while asked.elapsed() < 2 * PROBE_INTERVAL {
        assert_eq!(in_flight(&db)["replica-0"], 0, "nothing is sent to a node that is down");
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let now = served_reads(&db);
    assert_eq!(now["replica-0"], served["replica-0"]);
    assert!(now["replica-1"] > served["replica-1"], "the other one serves");

    servers.replica(0).start().await?;
    wait_until("it serves again", BACK_AFTER, async || Ok(served_reads(&db)["replica-0"] > served["replica-0"]))
        .await?;
    readers.more(100).await?;
    let longest = readers.end().await?;
    assert!(longest <= SELECTION_TIMEOUT, "a read took {longest:?}");
    Ok(())
}

on_each_database!(a_replica_that_is_killed_and_restarted_costs_no_read, [postgres, mariadb], worker_threads = 2);

async fn a_replica_that_is_restarted_in_order_costs_no_read(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().probe_interval(PROBE_INTERVAL)).await?;
    let readers = Readers::start(&db, &servers.who());
    readers.more(200).await?;
    servers.replica(1).restart().await?;
    let served = served_reads(&db)["replica-1"];
    wait_until("it serves again", BACK_AFTER, async || Ok(served_reads(&db)["replica-1"] > served)).await?;
    readers.end().await?;
    Ok(())
}

on_each_database!(a_replica_that_is_restarted_in_order_costs_no_read, [postgres, mariadb], worker_threads = 2);

fn watchful(builder: Builder) -> Builder {
    builder.probe_interval(Duration::from_millis(200)).probe_timeout(Duration::from_millis(200))
}

async fn reads_leave_a_frozen_replica_and_come_back(servers: Servers) -> Result<()> {
    let db = servers.open(watchful(servers.builder())).await?;
    let readers = Readers::start(&db, &servers.who());
    readers.more(200).await?;
    servers.replica(0).freeze()?;
    becomes(&db, "replica-0", Health::Down, PATIENCE).await?;
    wait_until("what ran on it has moved", PATIENCE, async || Ok(in_flight(&db)["replica-0"] == 0)).await?;
    readers.more(200).await?;
    servers.replica(0).thaw()?;
    let served = served_reads(&db)["replica-0"];
    wait_until("it serves again", BACK_AFTER, async || Ok(served_reads(&db)["replica-0"] > served)).await?;
    // No read failed, not even one that ran on the killed node.
    readers.end().await?;
    Ok(())
}

on_each_database!(reads_leave_a_frozen_replica_and_come_back, [postgres, mariadb], worker_threads = 2);

async fn a_replica_that_is_down_at_start_serves_when_it_comes(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    servers.wait_caught_up().await?;
    servers.replica(0).kill().await?;
    servers.replica(1).freeze()?;
    let started = Instant::now();
    let db = watchful(servers.builder()).connect().await?;
    assert!(started.elapsed() < CONNECTED_AFTER, "{:?}", started.elapsed());
    for name in ["replica-0", "replica-1"] {
        assert_eq!(health(&db, name), Health::Down);
        let topology = db.topology();
        assert!(topology.member(name).expect("a member").last_failure().is_some());
        assert!(topology.to_string().lines().any(|line| line.starts_with(name) && line.contains("down")), "{topology}");
    }
    for _ in 0..50 {
        assert_eq!(servers.who().answers(&db).await?, "primary");
    }
    servers.replica(0).start().await?;
    servers.replica(1).thaw()?;
    for name in ["replica-0", "replica-1"] {
        becomes(&db, name, Health::Up, BACK_AFTER).await?;
        let serves = async || Ok(servers.who().answers(&db).await? == name);
        wait_until("it serves", BACK_AFTER, serves).await?;
    }
    Ok(())
}

on_each_database!(a_replica_that_is_down_at_start_serves_when_it_comes, [postgres, mariadb]);

async fn a_primary_that_is_down_at_start_is_an_error_unless_lazy(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    servers.wait_caught_up().await?;
    servers.primary().kill().await?;
    let alone = || DatabaseConnection::builder().primary(servers.primary_node());
    for builder in [servers.builder(), alone()] {
        let connecting =
            tokio::time::timeout(CONNECTED_AFTER, builder.primary_connect_timeout(SHORT).connect()).await?;
        let error = connecting.expect_err("nobody is there");
        let error = Error::from_db_err(&error).expect("ours").clone();
        assert!(error.is_unreachable() && error.node() == Some("primary"), "{error}");
        assert!(error.to_string().to_lowercase().contains("refused"), "it says why: {error}");
    }
    let lazy = watchful(servers.builder()).connect_lazy(true).connect().await?;
    let lazy_alone = alone().connect_lazy(true).connect().await?;
    assert!(servers.who().answers(&lazy).await?.starts_with("replica"), "reads do not need it");
    servers.primary().start().await?;
    for db in [lazy, lazy_alone] {
        let inserted = item::new("late", 1).insert(&db).await?;
        assert_eq!(item::Entity::find_by_id(inserted.id).one(&db).await?, Some(inserted));
    }
    Ok(())
}

on_each_database!(a_primary_that_is_down_at_start_is_an_error_unless_lazy, [postgres, mariadb]);

#[tokio::test]
async fn a_frozen_primary_at_start_is_an_error_within_the_primary_connect_timeout() -> Result<()> {
    let servers = Servers::postgres().await?;
    servers.primary().freeze()?;
    let alone = DatabaseConnection::builder().primary(servers.primary_node());
    for builder in [servers.builder(), alone] {
        let connecting = builder.primary_connect_timeout(SHORT).connect();
        let error = tokio::time::timeout(CONNECTED_AFTER, connecting).await?.expect_err("silent");
        assert!(Error::from_db_err(&error).is_some_and(Error::is_unreachable), "{error}");
    }
    servers.primary().thaw()?;
    Ok(())
}

/// Opens sixteen connections of the primary's read-write pool and leaves them idle.
async fn open_sixteen(db: &DatabaseConnection) -> Result<()> {
    let transactions: Vec<_> = join_all((0..16).map(|_| db.begin())).await.into_iter().collect::<Result<_, _>>()?;
    for ended in join_all(transactions.into_iter().map(sea_orm_resolver::DatabaseTransaction::commit)).await {
        ended?;
    }
    Ok(())
}

async fn count_failures(db: &DatabaseConnection, writes: i32) -> u32 {
    let mut failures = 0;
    for n in 0..writes {
        if let Err(error) = item::Entity::insert(item::new("after", n)).exec(db).await {
            println!("{error}");
            failures += 1;
        }
    }
    failures
}

async fn a_restarted_primary_costs_one_statement_of_sixteen_idle_connections_at_most(servers: Servers) -> Result<()> {
    let pooled = || servers.primary_node().max_connections(16);
    let alone = DatabaseConnection::builder().primary(pooled()).connect().await?;
    item::create_table(&alone).await?;
    // A probe interval that the test does not live to see: only the statements themselves can tell.
    let unaware = servers.builder().primary(pooled()).probe_interval(Duration::from_secs(600)).connect().await?;
    for db in [&alone, &unaware] {
        open_sixteen(db).await?;
        servers.primary().restart().await?;
        let failures = count_failures(db, 40).await;
        assert!(failures <= 1, "{failures} of 40 statements failed");
    }
    // Once the monitor knows, none fails, not even sixteen at once.
    let aware = watchful(servers.builder().primary(pooled())).connect().await?;
    open_sixteen(&aware).await?;
    let primary_at = |db: &DatabaseConnection| db.topology().primary().clone();
    wait_until("it to be watched", PATIENCE, async || Ok(aware.topology().generation() > 3)).await?;
    servers.primary().restart().await?;
    // Probes go on afterwards: two of the primary are among so many of three nodes.
    let restarted = aware.topology().generation();
    wait_until("the monitor to see it", PATIENCE, async || {
        Ok(primary_at(&aware).health() == Health::Up && aware.topology().generation() > restarted + 8)
    })
    .await?;
    let written = join_all((0..16).map(|n| item::new("after", n).insert(&aware))).await;
    let failed: Vec<_> = written.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
    Ok(())
}

on_each_database!(a_restarted_primary_costs_one_statement_of_sixteen_idle_connections_at_most, [postgres, mariadb]);

#[tokio::test]
async fn reads_go_on_while_the_primary_is_gone_and_writes_wait_for_it() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.open(watchful(servers.builder())).await?;
    let readers = Readers::start(&db, &servers.who());
    readers.more(200).await?;
    servers.primary().kill().await?;
    becomes(&db, "primary", Health::Down, PATIENCE).await?;
    readers.more(400).await?;
    let writer = db.clone();
    let write = tokio::spawn(async move { item::new("waits", 1).insert(&writer).await });
    servers.primary().start().await?;
    let written = tokio::time::timeout(PATIENCE, write).await??;
    readers.end().await?;
    // A write that met the broken connection may have failed, with an unknown outcome.
    if let Err(error) = written {
        println!("{error}");
    }
    becomes(&db, "primary", Health::Up, BACK_AFTER).await?;
    item::new("again", 1).insert(&db).await?;
    Ok(())
}

#[tokio::test]
async fn a_transaction_on_a_lost_replica_fails_and_is_not_moved() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    let transaction = db.read().begin().await?;
    let index: usize = transaction.node().trim_start_matches("replica-").parse()?;
    servers.replica(index).kill().await?;
    let error = servers.who().answers(&transaction).await.expect_err("its server is gone");
    ensure!(error.downcast_ref::<DbErr>().is_some(), "{error}");
    drop(transaction);
    assert_eq!(servers.who().answers(&db.session()).await?, format!("replica-{}", 1 - index));
    Ok(())
}

#[tokio::test]
async fn without_any_node_a_read_fails_in_time_and_says_why() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let db = servers.open(watchful(servers.builder()).read_selection_timeout(Duration::from_millis(300))).await?;
    for server in servers.servers() {
        server.kill().await?;
    }
    for name in ["primary", "replica-0", "replica-1"] {
        becomes(&db, name, Health::Down, PATIENCE).await?;
    }
    let reading = tokio::time::timeout(PATIENCE, item::Entity::find().all(&db)).await?;
    let error = reading.expect_err("nobody is there");
    let ours = Error::from_db_err(&error).expect("ours");
    assert!(ours.is_no_eligible_node() && matches!(error, DbErr::Conn(_)), "{error}");
    for name in ["primary: down", "replica-0: down", "replica-1: down"] {
        assert!(error.to_string().contains(name), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn one_url_without_replicas_behaves_as_seaorm_alone() -> Result<()> {
    for servers in [Servers::postgres().await?, Servers::mariadb().await?] {
        let mut options = sea_orm::ConnectOptions::new(servers.primary().url());
        options.max_connections(1);
        let plain = sea_orm::Database::connect(options.clone()).await?;
        assert_eq!(servers.connections(servers.primary()).await?, 1, "SeaORM opens one");
        plain.close().await?;
        wait_until("it is closed", PATIENCE, async || Ok(servers.connections(servers.primary()).await? == 0)).await?;

        let db = Database::connect(options).await?;
        item::create_table(&db).await?;
        for n in 0..20 {
            let inserted = item::new("alone", n).insert(&db).await?;
            assert_eq!(item::Entity::find_by_id(inserted.id).one(&db).await?, Some(inserted));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(servers.connections(servers.primary()).await?, 1, "one pooled connection, and none to watch it");
        // The connection rested, so it is pinged before its use, as with SeaORM.
        servers.primary().restart().await?;
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(item::Entity::find().all(&db).await?.len(), 20);
        // A replica that joins turns the monitor on, and the last one that leaves turns it off.
        servers.wait_caught_up().await?;
        db.add_replica(servers.replica_node(0)).await?;
        let (main, joined) = (servers.primary(), servers.replica(0));
        wait_until("both are watched", PATIENCE, async || {
            Ok(db.topology().members().all(|member| member.observed_role().is_some())
                && servers.connections(main).await? >= 3)
        })
        .await?;
        db.remove_replica("replica-0").await?;
        wait_until("nobody is watched", PATIENCE, async || {
            // One to write, one to read, and no third.
            Ok(servers.connections(main).await? <= 2 && servers.connections(joined).await? == 0)
        })
        .await?;
    }
    Ok(())
}

#[test]
fn a_handle_outlives_its_runtime_and_is_watched_on_the_next() -> Result<()> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let servers_runtime = runtime()?;
    let servers = servers_runtime.block_on(Servers::postgres())?;
    for lazy in [true, false] {
        let first = runtime()?;
        let db = first.block_on(async {
            let db = watchful(servers.builder()).connect_lazy(lazy).connect().await?;
            if !lazy {
                for _ in 0..20 {
                    servers.who().answers(&db).await?;
                }
                db.execute_unprepared("SELECT 1").await?;
            }
            anyhow::Ok(db)
        })?;
        drop(first);
        let generation = db.topology().generation();
        runtime()?.block_on(async {
            // Connections of the lost runtime are broken, and are not used.
            for _ in 0..20 {
                servers.who().answers(&db).await?;
            }
            wait_until("probes are made again", PATIENCE, async || Ok(db.topology().generation() > generation + 3))
                .await?;
            assert!(db.topology().members().all(|member| member.health() == Health::Up), "{}", db.topology());
            db.execute_unprepared("SELECT 1").await?;
            servers.replica(0).kill().await?;
            becomes(&db, "replica-0", Health::Down, PATIENCE).await?;
            servers.replica(0).start().await?;
            becomes(&db, "replica-0", Health::Up, BACK_AFTER).await
        })?;
    }
    Ok(())
}

async fn a_node_of_the_wrong_role_gets_no_reads(servers: Servers) -> Result<()> {
    let other = match servers {
        Servers::Postgres(_) => Servers::postgres().await?,
        Servers::MariaDb(_) | Servers::MySql(_) => Servers::mariadb().await?,
    };
    item::create_table(&other.plain().await?).await?;
    // A primary, configured as a replica.
    let wrong = || NodeConfig::new(other.primary().url()).name("wrong");
    let db = servers.open(servers.builder().replica(wrong()).primary_read_share(0.0)).await?;
    for _ in 0..100 {
        assert!(servers.who().answers(&db).await?.starts_with("replica"));
    }
    assert!(db.topology().to_string().contains("wrong role"), "{}", db.topology());
    db.swap_replicas([wrong().role_check(false)]).await?;
    servers.who().answers(&db).await?;
    assert_eq!(db.read().node().as_deref(), Some("wrong"), "unless it is so on purpose");
    Ok(())
}

on_each_database!(a_node_of_the_wrong_role_gets_no_reads, [postgres, mariadb]);

/// The primary is lost, a replica is promoted, and the former primary comes back at its address as a replica that stands
/// still. The application was told nothing.
async fn a_former_primary_that_comes_back_as_a_replica_does_not_answer_for_the_primary(servers: Servers) -> Result<()> {
    let builder =
        watchful(servers.builder()).primary_read_share(0.0).read_selection_timeout(Duration::from_millis(100));
    let db = servers.open(builder).await?;
    item::new("before", 1).insert(&db).await?;
    let former = servers.primary().clone();
    former.kill().await?;
    servers.promote(0).await?;
    servers.rejoin(0).await?;
    former.wait_caught_up().await?;
    former.pause_replay().await?;
    servers.primary().execute("INSERT INTO item (name, amount) VALUES ('after', 1)").await?;

    let strong = db.with_consistency(sea_orm_resolver::Consistency::Strong);
    let (mut refused, mut answered) = (0, 0);
    let mut look = |rows: Result<u64, DbErr>, way: &str| match rows {
        Ok(rows) => {
            assert_eq!(rows, 2, "{way} read a row too few, of the time before; {}", db.topology());
            answered += 1;
        }
        Err(_) => refused += 1,
    };
    for round in 0..20 {
        look(item::Entity::find().count(&db.write()).await, "db.write()");
        look(item::Entity::find().count(&strong).await, "strong");
        let begun = db.begin().await;
        look(
            match &begun {
                Ok(transaction) => item::Entity::find().count(transaction).await,
                Err(error) => Err(error.clone()),
            },
            "a transaction",
        );
        if round % 5 == 4 {
            // Long enough for a probe, so that a rule about the first connection alone does not pass.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    ensure!(refused > 0, "nothing was refused, so the former primary never answered: {answered}");
    former.resume_replay().await
}

on_each_database!(a_former_primary_that_comes_back_as_a_replica_does_not_answer_for_the_primary, [postgres, mariadb]);
