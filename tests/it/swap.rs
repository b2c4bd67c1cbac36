//! Changes of the membership while everything runs.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use futures_util::{FutureExt, TryStreamExt, future::poll_fn};
use sea_orm::{
    AccessMode, ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryTrait, StreamTrait,
    TransactionTrait,
};
use sea_orm_resolver::{Builder, Database, DatabaseConnection, Error, Health, Member, NodeConfig, ReadConn, Rotation};
use testkit::ChaosProxy;
use tokio::task::JoinSet;

use crate::{
    files::SharedFile,
    item,
    servers::{Servers, in_flight, on_each_database, served_reads},
    wait::wait_until,
};

const ROWS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Readers and writers of every kind, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    operations: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    tasks: JoinSet<()>,
}

/// The kinds of load of a task.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Statement,
    /// On one read connection that is held over all swaps.
    HeldRead,
    Stream,
    ReadTransaction,
    WriteTransaction,
}

/// Runs once; returns the number of rows that it found.
async fn operate(kind: Kind, db: &DatabaseConnection, held: &ReadConn) -> Result<usize, DbErr> {
    match kind {
        Kind::Statement => Ok(item::Entity::find().all(db).await?.len()),
        Kind::HeldRead => Ok(item::Entity::find().all(held).await?.len()),
        Kind::Stream => {
            let mut rows = item::Entity::find().stream(db).await?;
            let mut count = 0;
            while rows.try_next().await?.is_some() {
                count += 1;
                tokio::task::yield_now().await;
            }
            Ok(count)
        }
        Kind::ReadTransaction => {
            let transaction = db.read().begin().await?;
            item::Entity::find().count(&transaction).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
            let found = item::Entity::find().all(&transaction).await?.len();
            transaction.commit().await?;
            Ok(found)
        }
        Kind::WriteTransaction => {
            let transaction = db.begin().await?;
            item::new("other", 0).insert(&transaction).await?;
            let found = item::Entity::find().all(&transaction).await?.len();
            transaction.rollback().await?;
            Ok(found - 1)
        }
    }
}

impl Load {
    fn start(db: &DatabaseConnection) -> Self {
        let mut load =
            Self { stop: Arc::default(), operations: Arc::default(), failures: Arc::default(), tasks: JoinSet::new() };
        for kind in [Kind::Statement, Kind::HeldRead, Kind::Stream, Kind::ReadTransaction, Kind::WriteTransaction] {
            load.spawn(db.clone(), kind);
        }
        load.spawn(db.session(), Kind::Statement);
        load
    }

    fn spawn(&mut self, db: DatabaseConnection, kind: Kind) {
        let (stop, operations, failures) =
            (Arc::clone(&self.stop), Arc::clone(&self.operations), Arc::clone(&self.failures));
        self.tasks.spawn(async move {
            let held = db.read();
            while !stop.load(Relaxed) {
                let failure = match operate(kind, &db, &held).await {
                    Ok(ROWS) => None,
                    Ok(found) => Some(format!("{kind:?}: {found} rows")),
                    Err(error) => Some(format!("{kind:?}: {error}")),
                };
                operations.fetch_add(1, Relaxed);
                if let Some(failure) = failure {
                    failures.lock().expect("nobody panics").push(failure);
                }
                tokio::task::yield_now().await;
            }
        });
    }

    /// Ends the load; fails when an operation failed.
    async fn end(mut self) -> Result<u64> {
        self.stop.store(true, Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task?;
        }
        let failures = self.failures.lock().expect("nobody panics");
        ensure!(failures.is_empty(), "{} failures, such as {:?}", failures.len(), &failures[..failures.len().min(3)]);
        Ok(self.operations.load(Relaxed))
    }
}

async fn fill(db: &sea_orm::DatabaseConnection) -> Result<()> {
    item::Entity::insert_many((0..ROWS).map(|_| item::new("row", 1))).exec(db).await?;
    Ok(())
}

/// Two hundred swaps, after each of which the members are those that were asked for.
async fn swap_200_times(db: &DatabaseConnection, replicas: [NodeConfig; 2]) -> Result<()> {
    let load = Load::start(db);
    let kept = |db: &DatabaseConnection| {
        db.topology().replicas().iter().map(|member| member.name().to_owned()).collect::<Vec<_>>()
    };
    for round in 0..50 {
        let [one, two] = &replicas;
        for (nodes, names) in [
            (vec![one.clone()], vec!["replica-0"]),
            (vec![one.clone(), two.clone()], vec!["replica-0", "replica-1"]),
            (vec![two.clone()], vec!["replica-1"]),
            // Another pool size is another node of the same name; now and then the set of replicas is empty.
            if round % 5 == 0 { (vec![], vec![]) } else { (vec![one.clone().max_connections(7)], vec!["replica-0"]) },
        ] {
            db.swap_replicas(nodes).await?;
            assert_eq!(kept(db), names);
        }
    }
    db.swap_replicas(replicas).await?;
    let operations = load.end().await?;
    assert!(operations > 200, "{operations}");
    assert!(in_flight(db).values().all(|&count| count == 0), "{:?}", in_flight(db));
    Ok(())
}

async fn nothing_fails_in_200_swaps_under_load(servers: Servers) -> Result<()> {
    let plain = servers.plain().await?;
    item::create_table(&plain).await?;
    fill(&plain).await?;
    servers.wait_caught_up().await?;
    let db = servers.builder().connect().await?;
    swap_200_times(&db, [servers.replica_node(0), servers.replica_node(1)]).await?;
    // Replaced nodes have closed their connections: two pools and a probe at the most remain.
    drop(db.swap_replicas([servers.replica_node(0)]).await?);
    wait_until("replica-1 is left alone", PATIENCE, async || Ok(servers.connections(servers.replica(1)).await? == 0))
        .await
}

on_each_database!(nothing_fails_in_200_swaps_under_load, [postgres, mariadb], worker_threads = 2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_nothing_fails_in_200_swaps_under_load() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = file.builder().connect().await?;
    fill(&db.primary()).await?;
    swap_200_times(&db, [file.node("replica-0"), file.node("replica-1")]).await
}

/// The primary through new pools, a replica that leaves and comes back in both ways, and other shares.
async fn nothing_fails_whatever_is_changed_under_load(servers: Servers) -> Result<()> {
    let db = servers.connect().await?;
    fill(&db.primary()).await?;
    servers.wait_caught_up().await?;
    let load = Load::start(&db);
    for round in 0..20 {
        // The same server through new pools.
        let report = db.swap_primary(servers.primary_node().max_connections(10 + round)).await?;
        assert_eq!((report.added, report.removed), (vec!["primary".to_owned()], vec!["primary".to_owned()]));
        assert_eq!(db.topology().replicas().len(), 2);

        db.set_weight("replica-0", 1 + round % 3)?;
        db.set_primary_read_share(f64::from(round) / 20.0)?;
        db.drain("replica-0").await?;
        db.resume("replica-0")?;
        db.remove_replica("replica-1").await?;
        db.add_replica(servers.replica_node(1)).await?;
    }
    load.end().await?;
    assert!(in_flight(&db).values().all(|&count| count == 0), "{:?}", in_flight(&db));
    let report = db.swap_primary(servers.primary_node().max_connections(29)).await?;
    assert_eq!(report.kept, ["primary"], "it is the same already");
    let error = db.swap_primary(NodeConfig::new(servers.replica(0).url()).name("new")).await.expect_err("a replica");
    assert!(error.is_unreachable() && error.to_string().contains("promote"), "{error}");
    Ok(())
}

on_each_database!(nothing_fails_whatever_is_changed_under_load, [postgres, mariadb], worker_threads = 2);

#[tokio::test]
async fn a_promoted_replica_becomes_the_primary_and_leaves_the_replicas() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.connect().await?;
    servers.primary().kill().await?;
    servers.promote(0).await?;
    let report = db.swap_primary(servers.replica_node(0)).await?;
    assert_eq!((report.kept, report.removed), (vec!["replica-0".to_owned()], vec!["primary".to_owned()]));
    assert!(report.added.is_empty(), "no pool was opened: {:?}", report.added);
    let topology = db.topology();
    assert_eq!(topology.members().map(Member::name).collect::<Vec<_>>(), ["replica-0", "replica-1"]);
    let inserted = item::new("new", 1).insert(&db).await?;
    assert_eq!(item::Entity::find_by_id(inserted.id).one(&db).await?, Some(inserted));
    Ok(())
}

async fn an_unchanged_node_keeps_its_pools_and_its_counts(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    for _ in 0..40 {
        item::Entity::find().all(&db).await?;
    }
    let before = db.topology();
    let served = served_reads(&db);
    let transaction = db.read().begin().await?;
    let busy = transaction.node().to_owned();
    let stays = before.member(&busy).expect("it is a member").node();
    let index: usize = busy.trim_start_matches("replica-").parse()?;

    let other = NodeConfig::new(servers.replica(1 - index).url()).name("other");
    let report = db.swap_replicas([servers.replica_node(index).weight(5).zone("b"), other]).await?;
    assert_eq!((report.kept, report.added), (vec![busy.clone()], vec!["other".to_owned()]));
    assert_eq!(report.removed, [format!("replica-{}", 1 - index)]);
    let after = db.topology();
    let kept = after.member(&busy).expect("it stayed");
    assert!(std::ptr::eq(kept.node(), stays), "the node is the same");
    assert_eq!((kept.weight().get(), kept.zone()), (5, Some("b")), "what needs no new pool has changed");
    assert_eq!(kept.node().in_flight(), 1, "its transaction still counts");
    assert_eq!(kept.node().served_reads(), served[&busy] + 1);
    let primary = after.primary().node();
    assert!(std::ptr::eq(primary, before.primary().node()));
    assert_eq!(item::Entity::find().count(&transaction).await?, 0);
    transaction.commit().await?;
    assert_eq!(kept.node().in_flight(), 0);

    // The same value is the same node though a closure in it could not be compared.
    let value = NodeConfig::new(sea_orm::ConnectOptions::new(servers.replica(0).url())).name("value");
    db.swap_replicas([value.clone()]).await?;
    assert_eq!(db.swap_replicas([value.clone()]).await?.kept, ["value"]);
    assert_eq!(db.swap_replicas([value.max_connections(3)]).await?.added, ["value"], "other pool, other node");
    Ok(())
}

on_each_database!(an_unchanged_node_keeps_its_pools_and_its_counts, [postgres, mariadb]);

async fn a_removed_node_finishes_its_operations_and_is_closed(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().primary_read_share(0.0).drain_timeout(PATIENCE)).await?;
    fill(&servers.plain().await?).await?;
    servers.wait_caught_up().await?;
    db.drain("replica-1").await?;
    let transaction = db.read().begin().await?;
    assert_eq!(transaction.node(), "replica-0");
    let mut stream = item::Entity::find().stream(&db).await?;
    assert!(stream.try_next().await?.is_some());
    db.resume("replica-1")?;
    assert_eq!(in_flight(&db)["replica-0"], 2);
    // A reader of an old snapshot keeps the node alive, and must not keep its pools open.
    let before = db.topology();

    let removing = db.clone();
    let removing = tokio::spawn(async move { removing.remove_replica("replica-0").await });
    wait_until("it has left", PATIENCE, async || Ok(db.topology().member("replica-0").is_none())).await?;
    for _ in 0..20 {
        assert_eq!(item::Entity::find().all(&db).await?.len(), ROWS);
    }
    assert!(!removing.is_finished(), "it waits for what runs there");
    assert!(servers.connections(servers.replica(0)).await? >= 2);
    assert_eq!(item::Entity::find().all(&transaction).await?.len(), ROWS);
    transaction.commit().await?;
    let mut rest = 1;
    while stream.try_next().await?.is_some() {
        rest += 1;
    }
    assert_eq!(rest, ROWS);
    assert!(!removing.is_finished(), "the stream is still held");
    drop(stream);
    removing.await??;
    let closed = async || Ok(servers.connections(servers.replica(0)).await? == 0);
    wait_until("its connections are closed", PATIENCE, closed).await?;
    assert!(before.member("replica-0").is_some());
    Ok(())
}

on_each_database!(a_removed_node_finishes_its_operations_and_is_closed, [postgres, mariadb]);

#[tokio::test]
async fn a_node_whose_operations_do_not_end_says_so_and_lets_them_go_on() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = file.builder().primary_read_share(0.0).drain_timeout(Duration::from_millis(50)).connect().await?;
    db.drain("replica-1").await?;
    let transaction = db.read().begin().await?;
    let error = db.drain("replica-0").await.expect_err("a transaction runs there");
    assert!(error.is_drain_timed_out() && error.node() == Some("replica-0"), "{error}");
    let error = db.remove_replica("replica-0").await.expect_err("a transaction runs there");
    assert!(error.is_drain_timed_out(), "{error}");
    assert_eq!(item::Entity::find().count(&transaction).await?, 0);
    transaction.commit().await?;
    Ok(())
}

#[tokio::test]
async fn a_drained_node_gets_no_reads_until_it_is_resumed() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = file.builder().primary_read_share(0.0).connect().await?;
    let held = db.read();
    let node = held.node().expect("drawn");
    db.drain(&node).await?;
    assert_eq!(db.topology().member(&node).map(Member::rotation), Some(Rotation::Drained));
    let before = served_reads(&db)[&node];
    for _ in 0..100 {
        item::Entity::find().all(&db).await?;
        item::Entity::find().all(&db.read()).await?;
    }
    item::Entity::find().all(&held).await?;
    assert_ne!(held.node(), Some(node.clone()), "it has drawn again");
    assert_eq!(served_reads(&db)[&node], before);
    db.swap_replicas([file.node("replica-0"), file.node("replica-1")]).await?;
    assert_eq!(db.topology().member(&node).map(Member::rotation), Some(Rotation::Drained), "a swap resumes nothing");
    db.resume(&node)?;
    for _ in 0..100 {
        item::Entity::find().all(&db).await?;
    }
    assert!(served_reads(&db)[&node] > before + 20);
    // With every replica drained the primary's read connections serve.
    db.drain("replica-0").await?;
    db.drain("replica-1").await?;
    assert_eq!(db.read().node().as_deref(), Some("primary"));
    item::Entity::find().all(&db).await?;
    Ok(())
}

async fn a_node_that_does_not_answer_is_reported_and_the_old_set_stays(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().connect_timeout(Duration::from_millis(500))).await?;
    let before = db.topology();
    servers.replica(1).kill().await?;
    servers.replica(0).freeze()?;
    let dead = || NodeConfig::new(servers.replica(1).url()).name("dead");
    let frozen = || NodeConfig::new(servers.replica(0).url()).name("frozen");
    let wrong = || NodeConfig::new(servers.primary().url().replace("s3cret", "wrong")).name("wrong");
    let names =
        |db: &DatabaseConnection| db.topology().members().map(|member| member.name().to_owned()).collect::<Vec<_>>();
    for (node, name) in [(dead(), "dead"), (frozen(), "frozen"), (wrong(), "wrong")] {
        for error in [
            db.add_replica(node.clone()).await.expect_err(name),
            db.swap_replicas([servers.primary_node().name("fine"), node.clone()]).await.expect_err(name),
            db.swap_primary(node).await.expect_err(name),
        ] {
            assert!(error.is_unreachable(), "{error}");
            assert_eq!(error.node(), Some(name), "{error}");
        }
        assert_eq!(names(&db), ["primary", "replica-0", "replica-1"]);
    }
    for member in before.members() {
        let now = db.topology();
        assert!(std::ptr::eq(now.member(member.name()).expect("it stayed").node(), member.node()));
    }
    servers.replica(0).thaw()?;
    Ok(())
}

on_each_database!(a_node_that_does_not_answer_is_reported_and_the_old_set_stays, [postgres, mariadb]);

#[tokio::test]
async fn a_swap_that_is_dropped_before_it_is_ready_leaves_the_old_set() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.connect().await?;
    let before = db.topology();
    servers.replica(0).freeze()?;
    let swap = db.swap_replicas([NodeConfig::new(servers.replica(0).url()).name("frozen")]);
    tokio::time::timeout(Duration::from_millis(100), swap).await.expect_err("nobody answers");
    servers.replica(0).thaw()?;
    assert_eq!(db.topology().replicas().len(), before.replicas().len());
    // The dropped future let the turn go, too.
    db.swap_replicas([servers.replica_node(1)]).await?;
    assert_eq!(db.topology().replicas().len(), 1);
    Ok(())
}

/// Polls a future a number of times and drops it; returns whether it was ready by then.
async fn dropped_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|cx| {
        polled += 1;
        match future.poll_unpin(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending if polled >= polls => std::task::Poll::Ready(None),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}

/// One kind of operation, dropped after its first poll, its second, and so on until it is done.
async fn dropped_at_every_point<F>(db: &DatabaseConnection, what: &str, mut operation: F) -> Result<u32>
where
    F: AsyncFnMut() -> Result<(), DbErr>,
{
    for polls in 1..1_000 {
        let done = dropped_after(polls, operation()).await;
        // The end of a transaction runs on when it is dropped; all else gives its place back at once.
        if what.ends_with("transaction") {
            wait_until("the transaction ends", PATIENCE, async || Ok(in_flight(db).values().sum::<u64>() == 0)).await?;
        }
        assert!(in_flight(db).values().all(|&count| count == 0), "{what} after {polls} polls: {:?}", in_flight(db));
        if let Some(done) = done {
            done?;
            return Ok(polls);
        }
    }
    anyhow::bail!("{what} was never ready")
}

async fn no_future_that_is_dropped_leaks(builder: Builder) -> Result<BTreeMap<&'static str, u32>> {
    let db = builder.connect().await?;
    // The rows are found wherever a read goes, also when a dropped write sends it to the primary.
    let mut points = BTreeMap::new();
    let find = async || item::Entity::find().all(&db).await.map(drop);
    points.insert("find", dropped_at_every_point(&db, "find", find).await?);
    let read = async || item::Entity::find().all(&db.read()).await.map(drop);
    points.insert("read()", dropped_at_every_point(&db, "read()", read).await?);
    let stream =
        async || db.session().stream(&item::Entity::find().into_query()).await?.try_collect::<Vec<_>>().await.map(drop);
    points.insert("stream", dropped_at_every_point(&db, "stream", stream).await?);
    let transaction = async || {
        let transaction = db.session().read().begin().await?;
        item::Entity::find().all(&transaction).await?;
        transaction.commit().await
    };
    points.insert("read transaction", dropped_at_every_point(&db, "read transaction", transaction).await?);
    let write = async || db.execute_unprepared("DELETE FROM item WHERE id = 0").await.map(drop);
    points.insert("write", dropped_at_every_point(&db, "write", write).await?);
    let transaction = async || {
        let transaction = db.begin().await?;
        transaction.execute_unprepared("DELETE FROM item WHERE id = 0").await?;
        let nested = transaction.begin().await?;
        nested.rollback().await?;
        transaction.commit().await
    };
    points.insert("transaction", dropped_at_every_point(&db, "transaction", transaction).await?);
    // The pools still work, all of them.
    for _ in 0..30 {
        item::Entity::find().all(&db.session().read()).await?;
        item::Entity::find().all(&db.write()).await?;
    }
    assert!(db.topology().members().all(|member| member.health() == Health::Up), "{}", db.topology());
    Ok(points)
}

/// Every answer takes a while, so that every await is seen pending.
async fn a_future_that_is_dropped_anywhere_leaks_nothing(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    servers.wait_caught_up().await?;
    let mut nodes = Vec::new();
    let mut proxies = Vec::new();
    for server in servers.servers() {
        let proxy = ChaosProxy::start(server.port()).await?;
        proxy.set_latency(Duration::from_millis(2));
        nodes.push(NodeConfig::new(proxy.url(server)));
        proxies.push(proxy);
    }
    let primary = nodes.remove(0);
    let points =
        no_future_that_is_dropped_leaks(DatabaseConnection::builder().primary(primary).replicas(nodes)).await?;
    for (what, least) in
        [("find", 2), ("read()", 2), ("stream", 2), ("read transaction", 4), ("write", 2), ("transaction", 6)]
    {
        assert!(points[what] >= least, "they were dropped midway: {points:?}");
    }
    Ok(())
}

on_each_database!(a_future_that_is_dropped_anywhere_leaks_nothing, [postgres, mariadb]);

#[tokio::test]
async fn sqlite_a_future_that_is_dropped_anywhere_leaks_nothing() -> Result<()> {
    let file = SharedFile::new().await?;
    no_future_that_is_dropped_leaks(file.builder()).await?;
    Ok(())
}

#[tokio::test]
async fn the_last_handle_ends_the_monitor_and_closes_every_connection() -> Result<()> {
    for servers in [Servers::postgres().await?, Servers::mariadb().await?] {
        let all = async || {
            let mut open = 0;
            for server in servers.servers() {
                open += servers.connections(server).await?;
            }
            anyhow::Ok(open)
        };
        let db = servers.connect().await?;
        let clone = db.session();
        let held = db.read();
        item::Entity::find().all(&held).await?;
        drop(db);
        wait_until("pools and probes are connected", PATIENCE, async || Ok(all().await? >= 4)).await?;
        item::Entity::find().all(&clone).await?;
        drop(clone);
        item::Entity::find().all(&held).await?;
        drop(held);
        wait_until("everything is closed", PATIENCE, async || Ok(all().await? == 0)).await?;

        // `close` ends the connection although handles remain, and no call of theirs opens a pool again.
        let db = servers.builder().probe_interval(Duration::from_millis(50)).connect().await?;
        db.close_by_ref().await?;
        wait_until("everything is closed", PATIENCE, async || Ok(all().await? == 0)).await?;
        let error = item::Entity::find().all(&db).await.expect_err("closed");
        assert!(Error::from_db_err(&error).is_none_or(|error| !error.is_refused()), "{error}");
        item::new("x", 1).insert(&db).await.expect_err("closed");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(all().await?, 0, "a closed connection probes nobody");
    }
    Ok(())
}

/// sqlx counts a MySQL transaction only when the answer to BEGIN has come: a connection that went
/// back to its pool before that would keep what is written afterwards to itself.
#[tokio::test]
async fn mariadb_a_begin_that_is_dropped_leaves_no_transaction_behind() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let plain = servers.plain().await?;
    item::create_table(&plain).await?;
    let proxy = ChaosProxy::start(servers.primary().port()).await?;
    proxy.set_latency(Duration::from_millis(2));
    let db = Database::connect(NodeConfig::new(proxy.url(servers.primary())).max_connections(1)).await?;
    let mut written = 0;
    for access in [None, Some(AccessMode::ReadOnly)] {
        for polls in 1..50 {
            let begun = dropped_after(polls, db.begin_with_config(None, access)).await;
            let is_done = begun.is_some();
            drop(begun);
            item::new("seen", 1).insert(&db).await?;
            written += 1;
            assert_eq!(item::Entity::find().count(&plain).await?, written, "after {polls} polls");
            if is_done {
                break;
            }
        }
    }
    assert!(written > 5, "it was dropped midway: {written}");
    Ok(())
}
