//! What the monitor learns from probes; the monitor lives as long as its connection.

use std::time::Duration;

use sea_orm::{DbErr, TransactionTrait};
use sea_orm_resolver::{Consistency, Error, Health, Role};
use testkit::scripted::{Behaviour, ScriptedNode, Step, fault};
use tokio::{
    runtime::{Builder as RuntimeBuilder, Runtime},
    time::{self, Instant},
};

use super::{
    Nodes, health, in_flight, item_row, refuse_probes, replica, reset_probes, select, tally, until_health, who, write,
};

const INTERVAL: Duration = Duration::from_secs(1);
/// The longest that a second probe is after a first: the interval and a fifth.
const LONGEST_PAUSE: Duration = Duration::from_millis(1_200);

#[tokio::test(start_paused = true)]
async fn every_member_is_probed_about_once_per_interval_over_one_connection() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let _db = nodes.connect().await?;
    time::sleep(INTERVAL * 100).await;
    nodes.each(|node| {
        // 100 intervals of 0.8 to 1.2 s: standard deviation of the sum ≈ 1.2, tolerance 4 of it.
        assert!(node.count(Step::ProbeAsk).abs_diff(100) <= 5, "{}", node.count(Step::ProbeAsk));
        // The list of functions comes over a connection of its own.
        assert_eq!(node.count(Step::ProbeConnect), 1 + node.count(Step::ListFunctions));
        assert_eq!(node.statements(), Vec::<String>::new());
    });
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn probe_connections_close_between_slow_probes_and_stay_open_between_others() -> Result<(), DbErr> {
    for (seconds, stays_open) in [(15, false), (11, false), (9, true), (1, true)] {
        let nodes = Nodes::postgres(2);
        let interval = Duration::from_secs(seconds);
        let _db = nodes.connected(nodes.builder().probe_interval(interval)).await?;
        time::sleep(interval * 20).await;
        nodes.each(|node| {
            let asked = node.count(Step::ProbeAsk);
            assert!(asked >= 16, "{node:?}: {asked}");
            let opened = node.count(Step::ProbeConnect) - node.count(Step::ListFunctions);
            assert_eq!(opened, if stays_open { 1 } else { asked }, "every {interval:?}, {node:?}");
        });
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_two_probes_are_equally_far_apart_and_all_are_within_a_fifth_of_the_interval() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let _db = nodes.connect().await?;
    time::sleep(INTERVAL * 200).await;
    let gaps = |node: &ScriptedNode| {
        let journal = node.journal();
        let asked: Vec<_> = journal.iter().filter(|entry| entry.step == Step::ProbeAsk).map(|entry| entry.at).collect();
        asked.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
    };
    nodes.each(|node| {
        let mut gaps = gaps(node);
        gaps.sort_unstable();
        let (shortest, longest) = (gaps[0], gaps[gaps.len() - 1]);
        // A timer is late by up to a millisecond.
        let late = Duration::from_millis(1);
        assert!(shortest >= INTERVAL.mul_f64(0.8) && longest <= LONGEST_PAUSE + late, "{shortest:?} {longest:?}");
        // Of 160 gaps, that none is in one of the outer eighths has a probability below 1e-9.
        assert!(shortest < INTERVAL.mul_f64(0.85) && longest > INTERVAL.mul_f64(1.15), "{shortest:?} {longest:?}");
        gaps.dedup();
        assert!(gaps.len() > 100, "{} of them differ", gaps.len());
    });
    assert_ne!(gaps(&nodes.replicas[0]), gaps(&nodes.replicas[1]), "nor are they in step");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_refused_probe_is_enough() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let replica = &nodes.replicas[0];
    replica.reached(Step::ProbeAsk, 1).await;
    time::sleep(Duration::from_millis(1)).await;
    replica.kill();
    let killed_at = Instant::now();
    until_health(&db, "r1", Health::Down).await;
    assert!(killed_at.elapsed() <= LONGEST_PAUSE + Duration::from_millis(1), "{:?}", killed_at.elapsed());
    assert!(tally(&db, 20).await?.into_keys().eq(["r2"]));
    let why = db.topology().member("r1").expect("a member").last_failure().map(str::to_owned);
    assert!(why.is_some_and(|why| why.contains("refused")));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn three_broken_probes_in_a_row_are_needed_and_two_are_not_enough() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let replica = &nodes.replicas[0];
    replica.reached(Step::ProbeAsk, 1).await;
    replica.forget();
    // The first is asked twice, because its connection may be older than the trouble.
    for _ in 0..3 {
        replica.once(Step::ProbeAsk, Behaviour::Fail(fault::reset()));
    }
    replica.reached(Step::ProbeAsk, 4).await;
    time::sleep(INTERVAL * 5).await;
    assert_eq!(health(&db, "r1"), Health::Up);
    assert_eq!(db.topology().member("r1").expect("a member").last_failure(), None);

    replica.forget();
    for _ in 0..4 {
        replica.once(Step::ProbeAsk, Behaviour::Fail(fault::reset()));
    }
    replica.reached(Step::ProbeAsk, 3).await;
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(health(&db, "r1"), Health::Up);
    replica.reached(Step::ProbeAsk, 4).await;
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(health(&db, "r1"), Health::Down);
    // And the first success is enough to come back.
    replica.reached(Step::ProbeAsk, 5).await;
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(health(&db, "r1"), Health::Up);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_back_serves_after_one_probe() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.replicas[0].kill();
    until_health(&db, "r1", Health::Down).await;
    assert_eq!(who(&db).await?, "p");
    let lives = |db: &sea_orm_resolver::DatabaseConnection| {
        db.topology().member("r1").and_then(|member| member.incarnation().map(str::to_owned))
    };
    let before = lives(&db);
    nodes.replicas[0].restart();
    let back_at = Instant::now();
    until_health(&db, "r1", Health::Up).await;
    assert!(back_at.elapsed() <= LONGEST_PAUSE + Duration::from_millis(1), "{:?}", back_at.elapsed());
    assert_eq!(who(&db).await?, "r1");
    assert_ne!(lives(&db), before, "another life of the server was seen");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_down_after_three_probes_timed_out() -> Result<(), DbErr> {
    for gate in [Step::ProbeAsk, Step::ProbeConnect] {
        let nodes = Nodes::postgres(1);
        let db = nodes.connected(nodes.builder().probe_timeout(Duration::from_millis(200))).await?;
        let replica = &nodes.replicas[0];
        if gate == Step::ProbeAsk {
            replica.reached(Step::ProbeAsk, 1).await;
        }
        replica.forget();
        replica.on(gate, Behaviour::Never);
        let silent_since = Instant::now();
        until_health(&db, "r1", Health::Down).await;
        // A pause, four questions of 200 ms, and two short pauses in between at the most.
        assert!(silent_since.elapsed() <= Duration::from_millis(1_200 + 4 * 200 + 2 * 100 + 5));
        assert!((3..=4).contains(&replica.count(gate)), "{gate:?}: {}", replica.count(gate));
        replica.recover();
        until_health(&db, "r1", Health::Up).await;
        assert_eq!(who(&db).await?, "r1");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_says_it_is_a_primary_serves_no_reads_unless_the_check_is_off() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let unchecked = replica("unchecked");
    let db = nodes.connected(nodes.builder().replica(unchecked.config().role_check(false))).await?;
    for node in [&nodes.replicas[0], &unchecked] {
        node.forget();
        node.set_role(Role::Primary);
        node.reached(Step::ProbeAsk, 1).await;
    }
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(db.topology().member("r1").and_then(sea_orm_resolver::Member::observed_role), Some(Role::Primary));
    assert!(tally(&db, 40).await?.into_keys().eq(["unchecked"]));
    nodes.replicas[0].set_role(Role::Replica);
    nodes.replicas[0].forget();
    nodes.replicas[0].reached(Step::ProbeAsk, 1).await;
    time::sleep(Duration::from_millis(1)).await;
    assert!(tally(&db, 40).await?.into_keys().eq(["r1", "unchecked"]));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_says_it_is_a_replica_serves_no_routed_reads() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connected(nodes.builder().primary_read_share(1.0)).await?;
    assert_eq!(who(&db).await?, "p");
    nodes.primary.set_role(Role::Replica);
    nodes.primary.reached(Step::ProbeAsk, 1).await;
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(who(&db).await?, "r1");
    let refused = write(&db).await.expect_err("the server in the primary's seat says that it is a replica");
    assert!(Error::from_db_err(&refused).is_some_and(Error::is_not_primary), "{refused}");
    assert_eq!(nodes.primary.count(Step::Execute), 0, "an old primary may be behind");
    db.write().begin().await.map(drop).expect_err("nor a transaction");
    let strong = db.with_consistency(Consistency::Strong);
    let refused = who(&strong).await.expect_err("nor a strong read");
    assert!(Error::from_db_err(&refused).is_some_and(Error::is_no_eligible_node), "{refused}");
    nodes.primary.set_role(Role::Primary);
    time::sleep(Duration::from_secs(2)).await;
    write(&db).await?;
    assert_eq!(who(&strong).await?, "p");
    Ok(())
}

/// How long after the mend of an outage the operation that is tried all the time succeeds.
async fn outage_after_the_mend(mend: impl FnOnce(), operation: impl AsyncFn() -> Result<(), DbErr>) -> Duration {
    for _ in 0..20 {
        operation().await.expect_err("the mend is still to come");
        time::sleep(Duration::from_millis(50)).await;
    }
    mend();
    let mended = Instant::now();
    while operation().await.is_err() {
        time::sleep(Duration::from_millis(1)).await;
    }
    mended.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_operations_miss_is_asked_soon_after_its_mend() -> Result<(), DbErr> {
    const INTERVAL: Duration = Duration::from_secs(20);
    let nodes = Nodes::postgres(1);
    let builder = nodes.builder().probe_interval(INTERVAL).read_selection_timeout(Duration::from_millis(20));
    let db = nodes.connected(builder).await?;
    for is_down in [false, true] {
        nodes.each(ScriptedNode::forget);
        if is_down {
            refuse_probes(&nodes.primary);
        } else {
            nodes.primary.set_role(Role::Replica);
        }
        refuse_probes(&nodes.replicas[0]);
        until_health(&db, "r1", Health::Down).await;
        time::sleep(INTERVAL + INTERVAL / 2).await; // the primary was asked, too
        let mend = || {
            nodes.primary.set_role(Role::Primary);
            nodes.each(ScriptedNode::recover);
        };
        let outage = if is_down {
            outage_after_the_mend(mend, async || who(&db).await.map(drop)).await
        } else {
            outage_after_the_mend(mend, async || write(&db).await).await
        };
        assert!(outage < INTERVAL / 5, "{outage:?}");
        until_health(&db, "r1", Health::Up).await;
        nodes.each(ScriptedNode::forget);
        time::sleep(INTERVAL / 2).await;
        assert!(nodes.primary.count(Step::ProbeAsk) <= 1, "nobody misses it now");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_connectivity_error_has_its_node_asked_at_once() -> Result<(), DbErr> {
    for error in [fault::reset(), fault::refused()] {
        let nodes = Nodes::postgres(1);
        let db = nodes.connect().await?;
        nodes.each(|node| node.on(Step::QueryOne, Behaviour::Fail(error.clone())));
        nodes.primary.on(Step::Execute, Behaviour::Fail(error.clone()));
        nodes.replicas[0].reached(Step::ProbeAsk, 1).await;
        nodes.primary.reached(Step::ProbeAsk, 1).await;
        time::sleep(Duration::from_millis(50)).await;
        nodes.each(ScriptedNode::forget);
        refuse_probes(&nodes.replicas[0]);

        let now = Instant::now();
        let asked = async {
            nodes.replicas[0].reached(Step::ProbeAsk, 1).await;
            nodes.primary.reached(Step::ProbeAsk, 1).await;
            assert_eq!(Instant::now(), now);
        };
        let (failed, ()) = tokio::join!(who(&db), asked);
        failed.expect_err("everybody fails");
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(health(&db, "r1"), Health::Down, "so that it is down before its next probe was due");
        nodes.primary.forget();
        let now = Instant::now();
        write(&db).await.expect_err("it fails");
        nodes.primary.reached(Step::ProbeAsk, 1).await;
        // Not at the same instant: a node that is suspected with every write is asked every 10 ms.
        assert!(now.elapsed() <= Duration::from_millis(10), "writes cast suspicion too");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_pool_or_a_statement_error_casts_no_suspicion() -> Result<(), DbErr> {
    for error in [fault::pool_timed_out(), fault::pool_closed(), fault::server("42P01")] {
        let nodes = Nodes::postgres(1);
        let db = nodes.connect().await?;
        time::sleep(Duration::from_millis(1)).await; // the monitor's first question
        nodes.each(ScriptedNode::forget);
        nodes.on_each(Step::QueryOne, &Behaviour::Fail(error));
        // A read that finds no connection goes on asking.
        let failed = time::timeout(Duration::from_millis(10), who(&db)).await;
        assert!(!matches!(failed, Ok(Ok(_))), "everybody fails");
        assert_eq!(nodes.count(Step::ProbeAsk), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_does_not_end_the_monitor() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    nodes.replicas[0].once(Step::ProbeAsk, Behaviour::Panic);
    nodes.replicas[0].reached(Step::ProbeAsk, 1).await;
    nodes.each(ScriptedNode::forget);
    time::sleep(INTERVAL * 10).await;
    nodes.each(|node| assert!(node.count(Step::ProbeAsk) >= 6, "{node:?}: {}", node.count(Step::ProbeAsk)));
    nodes.replicas[0].kill();
    until_health(&db, "r1", Health::Down).await;
    assert_eq!(who(&db).await?, "r2");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_probes_always_panic_is_down_and_hides_no_other_node() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    nodes.replicas[0].on(Step::ProbeAsk, Behaviour::Panic);
    nodes.replicas[0].reached(Step::ProbeAsk, 1).await;
    reset_probes(&nodes.replicas[1]);
    let broken_at = Instant::now();
    until_health(&db, "r2", Health::Down).await;
    assert!(broken_at.elapsed() < Duration::from_secs(3), "{:?}", broken_at.elapsed());
    until_health(&db, "r1", Health::Down).await;
    assert_eq!(who(&db).await?, "p");
    nodes.each(ScriptedNode::recover);
    until_health(&db, "r1", Health::Up).await;
    until_health(&db, "r2", Health::Up).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_monitor_ends_with_the_last_handle() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let (clone, read, transaction) = (db.clone(), db.read(), db.begin().await?);
    drop((db, clone));
    nodes.each(ScriptedNode::forget);
    time::sleep(INTERVAL * 5).await;
    assert!(nodes.count(Step::ProbeAsk) >= 6, "a read connection is a handle");
    assert_eq!(who(&read).await?, "r1");
    drop(read);
    nodes.each(ScriptedNode::forget);
    time::sleep(INTERVAL * 5).await;
    assert!(nodes.count(Step::ProbeAsk) >= 6, "and so is a transaction");
    transaction.commit().await?;
    tokio::task::yield_now().await;
    nodes.each(ScriptedNode::forget);
    time::sleep(INTERVAL * 60).await;
    assert_eq!(nodes.count(Step::ProbeAsk) + nodes.count(Step::ProbeConnect), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_probes_no_node_any_more() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::pool_closed()));
    db.clone().close().await?;
    tokio::task::yield_now().await;
    who(&db).await.expect_err("the pools are closed");
    nodes.each(ScriptedNode::forget);
    time::sleep(INTERVAL * 10).await;
    assert_eq!(nodes.count(Step::ProbeAsk) + nodes.count(Step::ProbeConnect), 0);
    Ok(())
}

fn paused_runtime() -> Runtime {
    RuntimeBuilder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

#[test]
fn nothing_panics_when_the_runtime_goes_away_under_it() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    nodes.each(|node| node.set_rows((1..=3).map(|id| item_row(id, node.name()))));
    let runtime = paused_runtime();
    let (db, transaction, stream) = runtime.block_on(async {
        let db = nodes.connect().await?;
        // Held by tasks that end with the runtime: the last handle may be dropped while the runtime goes.
        for _ in 0..3 {
            let own = nodes.connect().await?;
            tokio::spawn(async move {
                let _transaction = own.begin().await;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
        let transaction = db.begin().await?;
        let stream = sea_orm::StreamTrait::stream_raw(&db, select(&db)).await?;
        Ok::<_, DbErr>((db, transaction, stream))
    })?;
    drop(runtime);
    // And outside of any runtime.
    drop(transaction);
    drop(stream);
    let _read = db.read();
    assert_eq!(in_flight(&db), 0);
    drop(db);
    Ok(())
}

#[test]
fn the_monitor_starts_again_on_the_runtime_that_uses_the_connection() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let first = paused_runtime();
    let db = first.block_on(nodes.connect())?;
    drop(first);
    nodes.each(ScriptedNode::forget);
    paused_runtime().block_on(async {
        assert_eq!(who(&db).await?, "r1");
        time::sleep(INTERVAL * 5).await;
        assert!(nodes.count(Step::ProbeAsk) >= 6, "{}", nodes.count(Step::ProbeAsk));
        nodes.replicas[0].kill();
        until_health(&db, "r1", Health::Down).await;
        Ok(())
    })
}
