//! The node that answers, when each node answers with its own name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use sea_orm::{
    AccessMode, ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, IsolationLevel, Statement, StreamTrait,
    TransactionTrait,
};
use sea_orm_resolver::{
    Candidate, DatabaseConnection, Draw, Error, Health, LeastInFlight, LeastLatency, Policy, RoundRobin, WeightedRandom,
};
use testkit::scripted::{Behaviour, ScriptedNode, Step};

use super::{Nodes, WRITE, in_flight, in_task, select, tally, until_health, who, write};
use crate::item;

#[tokio::test(start_paused = true)]
async fn built_selects_spread_over_the_replicas_and_are_counted_where_they_ran() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(3);
    let db = nodes.connect().await?;
    let tally = tally(&db, 300).await?;
    // Each replica takes a third: standard deviation √(300 · 1/3 · 2/3) ≈ 8.2, tolerance 4 of it.
    assert_eq!(tally.keys().collect::<Vec<_>>(), ["r1", "r2", "r3"]);
    for replica in &nodes.replicas {
        assert!(tally[replica.name()].abs_diff(100) < 33, "{tally:?}");
        assert_eq!(tally[replica.name()], replica.statements().len());
        let served = db.topology().member(replica.name()).expect("a member").node().served_reads();
        assert_eq!(served, tally[replica.name()] as u64);
    }
    assert_eq!(nodes.primary.statements(), Vec::<String>::new());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_the_reads_is_the_primarys_and_the_ends_of_the_share_are_exact() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connected(nodes.builder().primary_read_share(0.10)).await?;
    // 5 000 reads, p = 0.1: standard deviation ≈ 21.2; the 99.9 % band is ± 3.29 of it ≈ 70.
    let statements = tally(&db, 5_000).await?;
    assert!(statements["p"].abs_diff(500) < 70, "{statements:?}");
    let mut values = BTreeMap::<_, usize>::new();
    for _ in 0..5_000 {
        *values.entry(who(&db.read()).await?).or_default() += 1;
    }
    assert!(values["p"].abs_diff(500) < 70, "{values:?}");

    for (share, expected) in [(0.0, &["r1", "r2"][..]), (1.0, &["p"])] {
        db.set_primary_read_share(share).expect("a share");
        assert_eq!(tally(&db, 500).await?.keys().collect::<Vec<_>>(), expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn reads_go_to_replicas_and_writes_to_the_primary_however_they_are_written() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    db.set_primary_read_share(0.0).expect("a share");
    let statement = |sql: &str| Statement::from_string(db.get_database_backend(), sql);
    for _ in 0..10 {
        db.query_one_raw(select(&db)).await?.expect("a row");
        db.query_all_raw(select(&db)).await?;
        db.execute_unprepared("SELECT 1; SELECT 2").await?;
        db.stream_raw(select(&db)).await?;
    }
    assert_eq!(nodes.primary.statements(), Vec::<String>::new());
    let replicas = |what: fn(&ScriptedNode) -> usize| nodes.replicas.iter().map(|node| what(node)).sum::<usize>();
    assert_eq!(replicas(|replica| replica.statements().len()), 30);
    assert_eq!(replicas(|replica| replica.count(Step::StreamOpen)), 10);

    write(&db).await?;
    let new = item::ActiveModel { name: Set("x".to_owned()), amount: Set(1), ..Default::default() };
    item::Entity::insert(new).exec(&db).await?;
    item::Entity::delete_by_id(1).exec(&db).await?;
    for sql in ["SELECT 1 FOR UPDATE", "SELECT 1; DELETE FROM item", "SET work_mem = 1", "SELECT nextval('s')"] {
        db.query_all_raw(statement(sql)).await?;
    }
    assert_eq!(nodes.primary.statements().len(), 7);
    assert_eq!(replicas(|replica| replica.statements().len()), 30);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_write_connection_reads_and_writes_on_the_primary_alone() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let write_to = db.write();
    assert_eq!(tally(&write_to, 50).await?.keys().collect::<Vec<_>>(), ["p"]);
    write(&write_to).await?;
    write_to.begin().await?.commit().await?;
    assert_eq!(nodes.replicas.iter().map(|replica| replica.journal().len()).sum::<usize>(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_connection_keeps_its_node_and_takes_raw_reads_there() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(3);
    let db = nodes.connected(nodes.builder().primary_read_share(0.2)).await?;
    let mut drawn = BTreeSet::new();
    for _ in 0..50 {
        let read = db.read();
        let node = read.node().expect("everybody is up");
        assert_eq!(tally(&read, 10).await?, BTreeMap::from([(node.clone(), 10)]));
        let row = read.query_one_raw(select(&db)).await?.expect("a row");
        assert_eq!(row.try_get::<String>("", "name")?, node);
        drawn.insert(node);
    }
    assert_eq!(drawn.len(), 4, "every node was somebody's: {drawn:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_connection_refuses_a_write_before_the_wire() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let read = db.read();
    let refused = read.execute_unprepared(WRITE).await.expect_err("a write");
    assert!(Error::from_db_err(&refused).is_some_and(Error::is_refused), "{refused}");
    let refused = read.begin_with_config(None, Some(AccessMode::ReadWrite)).await.expect_err("READ WRITE");
    assert!(Error::from_db_err(&refused).is_some_and(Error::is_refused), "{refused}");
    assert_eq!(nodes.count(Step::Execute) + nodes.count(Step::Begin), 0);
    read.begin().await?.commit().await?;
    assert_eq!(nodes.replicas[0].journal()[0].sql, "BEGIN READ ONLY");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn transactions_go_where_their_options_say() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let read_only = Some(AccessMode::ReadOnly);
    for (isolation, access, expected) in [
        (None, None, "p"),
        (None, Some(AccessMode::ReadWrite), "p"),
        (None, read_only, "r1"),
        (Some(IsolationLevel::RepeatableRead), read_only, "r1"),
        (Some(IsolationLevel::Serializable), read_only, "p"),
    ] {
        let task_db = db.session();
        in_task(async move {
            let transaction = task_db.begin_with_config(isolation, access).await?;
            assert_eq!((transaction.node(), who(&transaction).await?.as_str()), (expected, expected));
            assert_eq!(in_flight(&task_db), 1);
            transaction.commit().await?;
            assert_eq!(in_flight(&task_db), 0);
            Ok::<_, DbErr>(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_explicit_session_keeps_its_node_in_every_task_and_sessions_spread() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(3);
    let db = nodes.connect().await?;
    let mut kept = BTreeSet::new();
    for _ in 0..30 {
        let session = db.session();
        let node = who(&session).await?;
        for _ in 0..5 {
            let clone = session.clone();
            assert_eq!(in_task(async move { who(&clone).await }).await?, node);
            assert_eq!(who(&session.read()).await?, node);
        }
        kept.insert(node);
    }
    assert_eq!(kept.len(), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn weights_hold_in_every_policy_and_can_be_changed() -> Result<(), DbErr> {
    async fn check(policy: impl Policy + 'static) -> Result<(), DbErr> {
        let nodes = Nodes::postgres(2);
        let db = nodes.connected(nodes.builder().policy(policy)).await?;
        // 2 000 reads at 3 to 1: standard deviation √(2 000 · 3/4 · 1/4) ≈ 19.4, tolerance 4 of it.
        for (one, other) in [("r1", "r2"), ("r2", "r1")] {
            db.set_weight(one, 3).expect("a member");
            db.set_weight(other, 1).expect("a member");
            let tally = tally(&db, 2_000).await?;
            assert!(tally[one].abs_diff(1_500) < 78, "{tally:?}");
        }
        Ok(())
    }
    check(LeastInFlight).await?;
    check(WeightedRandom).await?;
    check(Arc::new(WeightedRandom)).await?;
    check(RoundRobin::default()).await
}

#[tokio::test(start_paused = true)]
async fn round_robin_takes_turns() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(3);
    let db = nodes.connected(nodes.builder().policy(RoundRobin::default())).await?;
    for _ in 0..4 {
        let turn = [who(&db).await?, who(&db).await?, who(&db).await?];
        assert_eq!(turn, ["r1", "r2", "r3"]);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn least_in_flight_avoids_the_slow_replica() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    nodes.replicas[0].on(Step::QueryOne, Behaviour::Never);
    let waiting = (0..20).map(|_| {
        let db = db.clone();
        tokio::spawn(async move { who(&db).await })
    });
    let waiting: Vec<_> = waiting.collect();
    tokio::task::yield_now().await;
    assert_eq!(nodes.replicas[0].running(), 1, "one was enough to see it");
    assert_eq!(nodes.replicas[1].statements().len(), 19);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// The latency that a policy is shown.
#[derive(Debug, Default)]
struct Shown(Mutex<BTreeMap<String, Option<Duration>>>);

impl Policy for Shown {
    fn order(&self, candidates: &mut [Candidate<'_>], _draw: &mut Draw) {
        let latencies = candidates.iter().map(|candidate| (candidate.name().to_owned(), candidate.latency()));
        *self.0.lock().expect("no panic") = latencies.collect();
    }

    fn latency_decay(&self) -> Option<Duration> {
        Some(Duration::from_secs(10))
    }
}

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[tokio::test(start_paused = true)]
async fn least_latency_leaves_a_slow_replica_and_tries_it_again_later() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connected(nodes.builder().policy(LeastLatency::default())).await?;
    for (replica, time) in nodes.replicas.iter().zip([1, 20]) {
        replica.on(Step::QueryOne, Behaviour::Slow(milliseconds(time)));
    }
    // 1 000 reads, one after the other: at most a tenth on the slow one, and one at least, which told how slow it is.
    let first = tally(&db, 1_000).await?;
    assert!((1..=100).contains(&first["r2"]), "{first:?}");
    // 40 s with a read each 0.1 s: 20 ms have decayed to 1 ms after about 30 s.
    let mut later = 0;
    for _ in 0..400 {
        tokio::time::sleep(milliseconds(100)).await;
        later += usize::from(who(&db).await? == "r2");
    }
    assert!((1..=40).contains(&later), "{later} of 400");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn least_latency_leaves_a_replica_on_which_reads_are_given_up() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connected(nodes.builder().policy(LeastLatency::default())).await?;
    for replica in &nodes.replicas {
        replica.on(Step::QueryOne, Behaviour::Slow(milliseconds(5)));
    }
    tally(&db, 100).await?;
    // The application cancels reads after 100 ms, and the node is silent to statements only.
    nodes.replicas[0].on(Step::QueryOne, Behaviour::Never);
    let mut given_up = 0;
    for _ in 0..100 {
        given_up += usize::from(tokio::time::timeout(milliseconds(100), who(&db)).await.is_err());
    }
    assert!((1..=2).contains(&given_up), "{given_up} of 100");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn reads_are_measured_and_streams_transactions_and_pings_are_not() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let shown = Arc::new(Shown::default());
    let db = nodes.connected(nodes.builder().policy(Arc::clone(&shown))).await?;
    let latency = |name: &str| shown.0.lock().expect("no panic")[name];
    for step in [Step::Begin, Step::StreamOpen, Step::Ping] {
        nodes.on_each(step, &Behaviour::Slow(milliseconds(50)));
    }
    drop(db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?);
    drop(db.stream_raw(select(&db)).await?);
    db.ping().await?;
    drop(db.read());
    assert_eq!((latency("r1"), latency("r2")), (None, None));

    nodes.on_each(Step::QueryOne, &Behaviour::Slow(milliseconds(7)));
    assert_eq!(who(&db).await?, "r1", "this policy keeps the order of the configuration");
    drop(db.read());
    // The clock of the test moves in whole milliseconds.
    assert!(latency("r1").is_some_and(|latency| latency.abs_diff(milliseconds(7)) < milliseconds(2)));
    assert_eq!(latency("r2"), None);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn reads_stay_in_the_zone_until_no_member_of_the_zone_can_serve_them() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(4);
    let zones = ["a", "b", "a", "b"];
    nodes.replicas[2].set_max_connections(1);
    let builder = DatabaseConnection::builder()
        .primary(nodes.primary.config())
        .replicas(nodes.replicas.iter().zip(zones).map(|(replica, zone)| replica.config().zone(zone)))
        .primary_read_share(0.0)
        .seed(7)
        .zone("a");
    let db = nodes.connected(builder).await?;
    let serving = async |reads| Ok::<_, DbErr>(tally(&db, reads).await?.into_keys().collect::<Vec<_>>());
    assert_eq!(serving(200).await?, ["r1", "r3"]);
    let explained = db.explain(&select(&db)).to_string();
    assert!(explained.contains("candidates  r1, r3, r2, r4"), "{explained}");
    nodes.replicas[0].kill();
    until_health(&db, "r1", Health::Down).await;
    assert_eq!(serving(200).await?, ["r3"]);
    // The last member of the zone has one connection for reads, and that is busy.
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    assert_eq!(transaction.node(), "r3");
    assert_eq!(serving(200).await?, ["r2", "r4"]);
    drop(transaction);
    assert_eq!(serving(200).await?, ["r3"]);
    db.drain("r3").await.expect("idle");
    assert_eq!(serving(200).await?, ["r2", "r4"]);
    Ok(())
}

/// A user's own: alphabetical order, backwards.
#[derive(Debug)]
struct LastName;

impl Policy for LastName {
    fn order(&self, candidates: &mut [Candidate<'_>], _draw: &mut Draw) {
        candidates.sort_by(|a, b| b.name().cmp(a.name()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_users_own_policy_decides() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(3);
    let db = nodes.connected(nodes.builder().policy(LastName)).await?;
    assert_eq!(tally(&db, 20).await?.keys().collect::<Vec<_>>(), ["r3"]);
    db.drain("r3").await.expect("idle");
    assert_eq!(tally(&db, 20).await?.keys().collect::<Vec<_>>(), ["r2"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_nodes() -> Result<(), DbErr> {
    async fn nodes_of(seed: u64) -> Result<Vec<String>, DbErr> {
        let nodes = Nodes::postgres(3);
        let db = nodes.connected(nodes.builder().primary_read_share(0.10).seed(seed)).await?;
        let mut names = Vec::new();
        for _ in 0..100 {
            names.push(who(&db).await?);
        }
        Ok(names)
    }
    assert_eq!(nodes_of(1).await?, nodes_of(1).await?);
    assert_ne!(nodes_of(1).await?, nodes_of(2).await?);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_primarys_draw_is_skipped_while_its_read_connections_are_busy() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    nodes.primary.set_max_connections(2);
    let db = nodes.connected(nodes.builder().primary_read_share(1.0)).await?;
    let first = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    assert_eq!(who(&db).await?, "p");
    let second = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    assert_eq!((first.node(), second.node()), ("p", "p"));
    assert_eq!(who(&db).await?, "r1");
    drop(second);
    assert_eq!(who(&db).await?, "p");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn without_replicas_everything_is_the_primarys_and_nothing_is_asked() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(0);
    let db = nodes.connect().await?;
    assert_eq!(tally(&db, 20).await?.keys().collect::<Vec<_>>(), ["p"]);
    assert_eq!(tally(&db.read(), 20).await?.keys().collect::<Vec<_>>(), ["p"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(nodes.count(Step::ProbeConnect) + nodes.count(Step::ProbeAsk), 0);
    Ok(())
}
