//! The freshness of replicas, to the tick, with nodes that report their positions.

use std::time::Duration;

use futures_util::{TryStreamExt, future::join};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait};
use sea_orm_resolver::{Builder, CausalToken, Consistency, DatabaseConnection, Error};
use testkit::scripted::{Behaviour, ScriptedNode, Step, fault};
use tokio::time::{self, Instant};
use tracing::Instrument;

use super::{Nodes, in_task, node, refuse_probes, select, until_health, who, write};

const SYSTEM: u64 = 7;

/// Sets the position of all nodes.
fn all_at(nodes: &Nodes, lsn: &str) {
    nodes.each(|node| node.set_wal(SYSTEM, 1, lsn));
}

async fn connected(nodes: &Nodes, change: impl FnOnce(Builder) -> Builder) -> Result<DatabaseConnection, DbErr> {
    all_at(nodes, "0/100");
    nodes.connected(change(nodes.builder())).await
}

/// Lets time pass until the next session read goes somewhere.
async fn until_read_by(db: &DatabaseConnection, name: &str) -> Result<Duration, DbErr> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        if who(db).await? == name {
            return Ok(started.elapsed());
        }
        time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{name} did not read:\n{}\n{}", db.topology(), db.explain(&select(db)));
}

#[tokio::test(start_paused = true)]
async fn a_replica_serves_a_session_when_it_has_the_sessions_writes_and_not_before() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connected(&nodes, |builder| builder).await?;
    in_task(async move {
        assert_eq!(who(&db).await?, "r1");
        write(&db).await?;
        nodes.primary.set_wal(SYSTEM, 1, "0/200");
        for _ in 0..200 {
            assert_eq!(who(&db).await?, "p");
            time::sleep(Duration::from_millis(50)).await;
        }
        nodes.replicas[0].set_wal(SYSTEM, 1, "0/200");
        let took = until_read_by(&db, "r1").await?;
        assert!(took <= Duration::from_millis(100), "it is asked at least every 40 ms while a read waits: {took:?}");
        assert_eq!(who(&db).await?, "r1");
        Ok::<_, DbErr>(())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn servers_are_asked_seldom_without_waiting_reads_and_not_much_more_with_them() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = connected(&nodes, |builder| builder).await?;
    time::sleep(Duration::from_secs(100)).await;
    nodes.each(|node| assert!(node.count(Step::ProbeAsk) < 110, "{}: {}", node.name(), node.count(Step::ProbeAsk)));
    nodes.each(ScriptedNode::forget);
    in_task(async move {
        for _ in 0..1_000 {
            write(&db).await?;
            for _ in 0..10 {
                who(&db).await?;
                time::sleep(Duration::from_millis(1)).await;
            }
        }
        // Ten seconds at 500 questions a second, all nodes together, and what is kept for a burst.
        assert!(nodes.count(Step::ProbeAsk) <= 5_100, "{}", nodes.count(Step::ProbeAsk));
        assert!(nodes.primary.count(Step::ProbeAsk) > 500, "{}", nodes.primary.count(Step::ProbeAsk));
        Ok::<_, DbErr>(())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_idle_process_leaves_a_replica_alone_whose_replay_is_paused() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    nodes.primary.set_wal(SYSTEM, 1, "0/200");
    nodes.replicas[0].set_wal(SYSTEM, 1, "0/100");
    let _db = nodes.connect().await?;
    time::sleep(Duration::from_secs(3)).await;
    let joining = nodes.replicas[0].count(Step::ProbeAsk);
    assert!((10..=80).contains(&joining), "it may be about to catch up: {joining}");
    nodes.each(ScriptedNode::forget);
    time::sleep(Duration::from_secs(60)).await;
    nodes.each(|node| {
        let asked = node.count(Step::ProbeAsk);
        assert!((48..=76).contains(&asked), "{} was asked {asked} times in 60 s", node.name());
    });
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn many_sessions_and_many_members_ask_no_more_questions_than_the_bound() -> Result<(), DbErr> {
    const MOST: usize = 200;
    let nodes = Nodes::postgres(63);
    let db = connected(&nodes, |builder| builder.max_questions_per_second(200)).await?;
    time::sleep(Duration::from_secs(1)).await;
    nodes.each(ScriptedNode::forget);
    let session = |db: DatabaseConnection| async move {
        let db = db.session();
        for _ in 0..1_000 {
            write(&db).await?;
            who(&db).await?;
            time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, DbErr>(())
    };
    futures_util::future::try_join_all((0..16).map(|_| session(db.clone()))).await?;
    let (seconds, probes_of_the_health) = (10, 64 * 14);
    let asked = nodes.count(Step::ProbeAsk);
    assert!(asked <= MOST * seconds + MOST / 10 + probes_of_the_health, "{asked}");
    assert!(nodes.primary.count(Step::ProbeAsk) >= 500, "and no fewer: {}", nodes.primary.count(Step::ProbeAsk));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_frozen_replica_is_asked_less_and_less_often_while_it_stands_still() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connected(&nodes, |builder| builder.max_lag(None)).await?;
    nodes.primary.set_wal(SYSTEM, 1, "0/200");
    in_task(async move {
        write(&db).await?;
        for _ in 0..10_000 {
            assert_eq!(who(&db).await?, "p");
            time::sleep(Duration::from_millis(1)).await;
        }
        for e in nodes.replicas[0].journal() {
            if e.step == Step::ProbeAsk {}
        }
        assert!(nodes.replicas[0].count(Step::ProbeAsk) < 270, "{}", nodes.replicas[0].count(Step::ProbeAsk));
        Ok::<_, DbErr>(())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn bounded_staleness_is_within_its_bound_and_hurries_the_probes_while_it_is_used() -> Result<(), DbErr> {
    const BOUND: Duration = Duration::from_millis(300);
    let nodes = Nodes::postgres(1);
    let db = connected(&nodes, |builder| builder).await?;
    let bounded = db.with_consistency(Consistency::BoundedStaleness(BOUND));
    until_read_by(&bounded, "r1").await?;
    nodes.each(ScriptedNode::forget);
    for _ in 0..1_000 {
        assert_eq!(who(&bounded).await?, "r1");
        time::sleep(Duration::from_millis(10)).await;
    }
    nodes.each(|node| {
        let asked = node.count(Step::ProbeAsk);
        assert!((90..=110).contains(&asked), "every 100 ms for ten seconds: {asked}");
    });
    // The primary moves on, the replica does not: soon its fresh instant is 300 ms ago.
    nodes.primary.set_wal(SYSTEM, 1, "0/200");
    time::sleep(BOUND + Duration::from_millis(100)).await;
    assert_eq!(who(&bounded).await?, "p");
    assert_eq!(who(&db).await?, "r1", "the others do not mind");
    let why = bounded.explain(&select(&db));
    assert!(why.rejected()[0].why.starts_with("it is not known to be as fresh as asked"), "{why}");
    assert_eq!(why.floor().and_then(|floor| floor.within), Some(BOUND));
    // No read uses the bound any more.
    time::sleep(Duration::from_secs(30)).await;
    nodes.each(ScriptedNode::forget);
    time::sleep(Duration::from_secs(50)).await;
    nodes.each(|node| assert!(node.count(Step::ProbeAsk) < 60));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_replica_as_long_as_it_is_told_and_no_longer() -> Result<(), DbErr> {
    const LONGEST: Duration = Duration::from_millis(100);
    let nodes = Nodes::postgres(1);
    let db = connected(&nodes, |builder| builder.wait_for_replica(LONGEST)).await?;
    in_task(async move {
        write(&db).await?;
        let started = Instant::now();
        assert_eq!(who(&db).await?, "r1", "it has it; one sample shows it");
        assert!(started.elapsed() < LONGEST);
        write(&db).await?;
        nodes.primary.set_wal(SYSTEM, 1, "0/200");
        let started = Instant::now();
        assert_eq!(who(&db).await?, "p");
        assert_eq!(started.elapsed().as_millis(), LONGEST.as_millis());
        Ok::<_, DbErr>(())
    })
    .await
}

/// A primary that takes three reads at once and already runs two of them, which end a second later, under a cap of zero.
/// The replica `r1` follows at once, `r2` stands still.
async fn with_busy_primary(most_questions_per_second: u32) -> Result<(Nodes, DatabaseConnection), DbErr> {
    let nodes = Nodes::postgres(2);
    nodes.primary.set_max_connections(3);
    let change = |builder: Builder| {
        let builder = builder.primary_read_connections(3).primary_staleness_cap(0.0);
        builder.max_questions_per_second(most_questions_per_second)
    };
    let db = connected(&nodes, change).await?;
    // Shows how soon the replica has a write; then the questions that were saved up are asked.
    for (lsn, pause) in (2..10).map(|lsn| (lsn, 700)).chain((10..20).map(|lsn| (lsn, 1))) {
        write(&db).await?;
        for node in [&nodes.primary, &nodes.replicas[0]] {
            node.set_wal(SYSTEM, 1, &format!("0/{lsn}00"));
        }
        who(&db).await?;
        time::sleep(Duration::from_millis(pause)).await;
    }
    nodes.primary.on(Step::QueryOne, Behaviour::Slow(Duration::from_secs(1)));
    write(&db).await?;
    for _ in 0..2 {
        let db = db.clone();
        tokio::spawn(async move { who(&db).await });
    }
    nodes.primary.forget();
    nodes.primary.reached(Step::QueryOne, 2).await;
    Ok((nodes, db))
}

#[tokio::test(start_paused = true)]
async fn while_the_primary_is_busy_a_read_above_the_cap_waits_for_a_replica_that_soon_has_the_write()
-> Result<(), DbErr> {
    let (_nodes, db) = with_busy_primary(500).await?;
    write(&db).await?;
    let started = Instant::now();
    assert_eq!(who(&db).await?, "r1");
    assert!(started.elapsed() <= Duration::from_millis(50), "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_above_the_cap_does_not_wait_for_questions_that_are_too_scarce() -> Result<(), DbErr> {
    // Two questions take up to 200 ms, and a read waits 50 ms at the most.
    let (_nodes, db) = with_busy_primary(10).await?;
    write(&db).await?;
    let started = Instant::now();
    assert_eq!(who(&db).await?, "p");
    assert_eq!(started.elapsed(), Duration::from_secs(1), "the time of the read alone");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_above_the_cap_does_not_wait_for_a_replica_that_takes_no_reads() -> Result<(), DbErr> {
    let (_nodes, db) = with_busy_primary(500).await?;
    db.drain("r1").await?;
    write(&db).await?;
    let started = Instant::now();
    assert_eq!(who(&db).await?, "p");
    assert_eq!(started.elapsed(), Duration::from_secs(1), "the time of the read alone");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn without_a_fresh_replica_and_without_the_primary_every_member_says_why() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = connected(&nodes, |builder| builder).await?;
    in_task(async move {
        write(&db).await?;
        refuse_probes(&nodes.primary);
        until_health(&db, "p", sea_orm_resolver::Health::Down).await;
        let started = Instant::now();
        let error = who(&db).await.expect_err("nobody may serve it");
        assert!(started.elapsed() >= Duration::from_secs(1), "the selection time-out");
        assert!(Error::from_db_err(&error).is_some_and(Error::is_no_eligible_node));
        let text = error.to_string();
        for said in ["p: down", "r1: it is not known to have what", "r2: it is not known to have what"] {
            assert!(text.contains(said), "{text}");
        }
        Ok::<_, DbErr>(())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_restarted_replica_is_trusted_when_it_has_caught_up_again() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connected(&nodes, |builder| builder).await?;
    in_task(async move {
        write(&db).await?;
        all_at(&nodes, "0/200");
        until_read_by(&db, "r1").await?;
        // The node goes back in time, and its connections break.
        nodes.replicas[0].restart();
        nodes.replicas[0].set_wal(SYSTEM, 1, "0/180");
        nodes.replicas[0].once(Step::QueryOne, Behaviour::Fail(fault::reset()));
        for _ in 0..100 {
            assert_eq!(who(&db).await?, "p");
            time::sleep(Duration::from_millis(20)).await;
        }
        nodes.replicas[0].set_wal(SYSTEM, 1, "0/200");
        until_read_by(&db, "r1").await?;
        Ok::<_, DbErr>(())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_session_never_reads_an_older_state_than_it_has_read() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = connected(&nodes, |builder| builder.max_lag(None)).await?;
    let session = db.session();
    let first = who(&session).await?;
    let (kept, other) = if first == "r1" { (0, 1) } else { (1, 0) };
    // The primary and its node move on, the other replica stays.
    nodes.primary.set_wal(SYSTEM, 1, "0/200");
    nodes.replicas[kept].set_wal(SYSTEM, 1, "0/200");
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(who(&session).await?, first);
    refuse_probes(&nodes.replicas[kept]);
    until_health(&db, &first, sea_orm_resolver::Health::Down).await;
    for _ in 0..50 {
        assert_eq!(who(&session).await?, "p", "not the one that stayed behind");
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(who(&db.session()).await?, nodes.replicas[other].name(), "who has read nothing may read there");
    nodes.replicas[other].set_wal(SYSTEM, 1, "0/200");
    until_read_by(&session, nodes.replicas[other].name()).await?;
    Ok(())
}

/// Another server may have answered.
#[tokio::test(start_paused = true)]
async fn a_read_whose_node_lost_a_connection_meanwhile_runs_again() -> Result<(), DbErr> {
    const WAY: Duration = Duration::from_millis(10);
    let nodes = Nodes::postgres(2);
    let db = connected(&nodes, |builder| builder.max_lag(None)).await?;
    let session = db.session();
    write(&session).await?;
    // The other replica stays behind, so that the floor is not settled.
    nodes.primary.set_wal(SYSTEM, 1, "0/200");
    nodes.replicas[0].set_wal(SYSTEM, 1, "0/200");
    let others = db.with_consistency(Consistency::Eventual);
    let r1 = &nodes.replicas[0];
    for is_lost in [false, true] {
        for gate in [Step::QueryOne, Step::FirstRow] {
            let mut home = String::new();
            while home != "r1" {
                time::sleep(Duration::from_millis(1)).await;
                home = who(&session).await?;
            }
            nodes.each(ScriptedNode::forget);
            r1.once(gate, Behaviour::Slow(WAY));
            let read = async {
                if gate == Step::FirstRow {
                    let rows: Vec<_> = crate::item::Entity::find().stream(&session).await?.try_collect().await?;
                    return Ok::<_, DbErr>(rows[0].name.clone());
                }
                who(&session).await
            };
            let lost = async {
                time::sleep(WAY / 2).await;
                if is_lost {
                    nodes.each(|node| node.once(Step::QueryAll, Behaviour::Fail(fault::reset())));
                    while r1.count(Step::QueryAll) == 0 {
                        let _ = others.query_all_raw(select(&others)).await;
                    }
                    nodes.each(|node| node.on(Step::QueryAll, Behaviour::Ok));
                }
            };
            let (answered, ()) = join(read, lost).await;
            let answered = answered?;
            assert!(["r1", "p"].contains(&&*answered), "{answered} is behind");
            assert_eq!(nodes.count(gate), 1 + usize::from(is_lost), "{gate:?}, answered by {answered}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nodes_whose_positions_are_declared_worthless_go_by_time() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    all_at(&nodes, "0/100");
    let replica = nodes.replicas[0].config().positions(false);
    let builder = DatabaseConnection::builder().primary(nodes.primary.config()).replica(replica);
    let db = builder.primary_read_share(0.0).connect().await?;
    in_task(async move {
        write(&db).await?;
        time::advance(super::STICK - super::NANOSECOND).await;
        assert_eq!(who(&db).await?, "p");
        time::advance(super::NANOSECOND).await;
        assert_eq!(who(&db).await?, "r1");
        Ok::<_, DbErr>(())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_token_takes_a_session_to_another_connection() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connected(&nodes, |builder| builder).await?;
    let elsewhere = nodes.builder().connect().await?;
    let session = db.session();
    assert_eq!(session.causal_token().await?, db.session().causal_token().await?, "it asks for nothing yet");
    write(&session).await?;
    nodes.primary.set_wal(SYSTEM, 1, "0/200");
    let token: CausalToken = session.causal_token().await?.to_string().parse().expect("its own text");
    let after = elsewhere.session_after(&token);
    assert_eq!(who(&after).await?, "p");
    assert!(after.explain(&select(&db)).floor().is_some());
    assert_eq!(who(&elsewhere.session()).await?, "r1", "without it anything will do");
    nodes.replicas[0].set_wal(SYSTEM, 1, "0/200");
    until_read_by(&after, "r1").await?;
    // The position that the replica has reached already is enough at once.
    assert_eq!(who(&elsewhere.session_after(&token)).await?, "r1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_history_means_the_primary_and_is_said() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connected(&nodes, |builder| builder).await?;
    let session = db.session();
    write(&session).await?;
    let token = session.causal_token().await?;
    let (log, _guard) = crate::secrets::record();
    for (system, timeline) in [(SYSTEM + 1, 1), (SYSTEM, 2)] {
        nodes.each(|node| node.set_wal(system, timeline, "0/900"));
        let other = nodes.builder().connect().await?;
        let after = other.session_after(&token);
        for _ in 0..50 {
            assert_eq!(who(&after).await?, "p");
            time::sleep(Duration::from_millis(50)).await;
        }
        let said = log.take();
        assert_eq!(said.matches("a causal token cannot be compared").count(), 1, "{said}");
        let why = after.explain(&select(&db));
        assert!(why.floor().is_some_and(|floor| floor.only_primary), "{why}");
        // From there on the token has a place in this history.
        let next = after.causal_token().await?;
        assert_ne!(next, token);
        until_read_by(&other.session_after(&next), "r1").await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_had_without_replicas_too() -> Result<(), DbErr> {
    let primary = node("p", sea_orm_resolver::Role::Primary, sea_orm::DbBackend::Postgres);
    let db = sea_orm_resolver::Database::connect(primary.config()).await?;
    let session = db.session();
    write(&session).await?;
    // Scripted rows have no position, so the token has a time only.
    let token = session.causal_token().await?;
    assert_ne!(token, db.session().causal_token().await?);
    assert_eq!(who(&db.session_after(&token)).await?, "p");
    Ok(())
}

#[test]
fn garbage_is_no_token() {
    for garbage in ["", "x", "1w0.0.1.1.1", "1w0.0.1.1.1~0000000", &"9".repeat(10_000), "🦀"] {
        let error = garbage.parse::<CausalToken>().expect_err("garbage");
        assert!(error.is_bad_token() && error.to_string().starts_with("not a causal token"), "{error}");
        assert!(error.to_string().len() < 200, "it does not repeat what it was given");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mode_for_development_reports_reads_behind_their_own_session() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connected(&nodes, |builder| builder.report_stale_reads(true).consistency(Consistency::Eventual)).await?;
    let (log, _guard) = crate::secrets::record();
    let session = db.session();
    session.query_one_raw(select(&db)).await?;
    let said = log.take();
    assert!(!said.contains("may miss"), "{said}");
    write(&session).await?;
    session.query_one_raw(select(&db)).instrument(tracing::info_span!("checkout")).await?;
    let said = log.take();
    let report = said.lines().find(|line| line.contains("may miss what its session wrote")).unwrap_or_default();
    assert!(report.contains("node=\"r1\"") && report.contains("SELECT"), "{said}");
    assert!(report.ends_with("within=checkout"), "inside the span of the caller: {said}");
    Ok(())
}
