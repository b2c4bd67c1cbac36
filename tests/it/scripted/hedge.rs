//! Reads that are started a second time, because they run far longer than their like on their node.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_resolver::{Builder, Consistency, DatabaseConnection, RouteLog};
use testkit::scripted::{Behaviour, Outcome, ScriptedNode, Step, fault};
use tokio::time::{self, Instant};

use super::{Nodes, in_flight, who};

/// As usual on both replicas; far longer is more than twice that.
const USUAL: Duration = Duration::from_millis(20);
const FAR: Duration = Duration::from_millis(40);
const STALL: Behaviour = Behaviour::Slow(Duration::from_secs(5));

/// So many reads are measured before an estimate counts.
const ENOUGH: usize = 20;

fn hedging(nodes: &Nodes) -> Builder {
    nodes.builder().consistency(Consistency::Eventual).hedge(0.05)
}

/// Reads until both replicas have answered often enough, and empties the journals.
async fn measured(nodes: &Nodes, builder: Builder) -> Result<DatabaseConnection, DbErr> {
    let db = nodes.connected(builder).await?;
    nodes.replicas.iter().for_each(|replica| replica.on(Step::QueryOne, Behaviour::Slow(USUAL)));
    while nodes.replicas.iter().any(|replica| replica.count(Step::QueryOne) <= ENOUGH) {
        who(&db).await?;
    }
    nodes.each(ScriptedNode::forget);
    Ok(db)
}

/// A session whose reads begin on `r1`.
async fn session_on_r1(db: &DatabaseConnection, nodes: &Nodes) -> Result<DatabaseConnection, DbErr> {
    for _ in 0..100 {
        let session = db.session();
        if who(&session).await? == "r1" {
            nodes.each(ScriptedNode::forget);
            return Ok(session);
        }
    }
    panic!("no session of a hundred keeps to r1");
}

/// Reads, and measures how long that takes.
async fn timed(session: &DatabaseConnection) -> (Result<String, DbErr>, Duration) {
    let began = Instant::now();
    let read = who(session).await;
    (read, began.elapsed())
}

/// The outcome of the last statement that a node ran.
fn outcome(node: &ScriptedNode) -> Option<Outcome> {
    node.journal().into_iter().rev().find(|entry| entry.step == Step::QueryOne).map(|entry| entry.outcome)
}

#[tokio::test(start_paused = true)]
async fn another_node_answers_a_read_that_stalls_and_the_slow_attempt_is_ended() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = measured(&nodes, hedging(&nodes)).await?;
    let log = RouteLog::new();
    let session = session_on_r1(&db.recorded(&log), &nodes).await?;
    nodes.replicas[0].on(Step::QueryOne, STALL);
    nodes.replicas[0].on(Step::Cancel, Behaviour::Slow(Duration::from_secs(1)));
    let (read, took) = timed(&session).await;
    assert_eq!(read?, "r2");
    // The estimate is the 95th percentile of durations that are all alike, and has moved by a few parts of 200.
    assert!((FAR..FAR * 3 / 2 + USUAL).contains(&took), "{took:?}");
    assert_eq!(log.last().expect("recorded").node(), Some("r2"));
    // The lease of the slow attempt lasts until the server has ended the statement.
    nodes.replicas[0].reached(Step::Cancel, 1).await;
    assert_eq!((in_flight(&db), nodes.replicas[0].running()), (1, 2));
    time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!((in_flight(&db), nodes.replicas[0].running()), (0, 0));
    assert_eq!(outcome(&nodes.replicas[0]), Some(Outcome::Dropped));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_may_win_yet_and_the_second_one_is_ended() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = measured(&nodes, hedging(&nodes)).await?;
    let session = session_on_r1(&db, &nodes).await?;
    nodes.replicas[0].on(Step::QueryOne, Behaviour::Slow(FAR * 3));
    nodes.replicas[1].on(Step::QueryOne, STALL);
    let (read, took) = timed(&session).await;
    assert_eq!((read?.as_str(), took), ("r1", FAR * 3));
    nodes.replicas[1].reached(Step::Cancel, 1).await;
    assert_eq!(nodes.replicas[0].count(Step::Cancel), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn by_default_no_read_is_started_twice() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = measured(&nodes, nodes.builder().consistency(Consistency::Eventual)).await?;
    let session = session_on_r1(&db, &nodes).await?;
    nodes.replicas[0].on(Step::QueryOne, STALL);
    let (read, took) = timed(&session).await;
    assert_eq!((read?.as_str(), took), ("r1", Duration::from_secs(5)));
    assert_eq!(nodes.count(Step::QueryOne), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_like_was_not_measured_is_started_once() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = measured(&nodes, hedging(&nodes)).await?;
    nodes.each(|node| node.on(Step::QueryOne, STALL));
    db.query_one_raw(super::select(&db)).await?;
    assert_eq!(nodes.count(Step::QueryOne), 1, "another text");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_the_second_attempts() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = measured(&nodes, hedging(&nodes)).await?;
    let before: u64 = db.topology().members().map(|member| member.node().served_reads()).sum();
    nodes.replicas.iter().for_each(|replica| replica.on(Step::QueryOne, Behaviour::Slow(FAR * 50)));
    for _ in 0..100 {
        who(&db).await?;
    }
    let second = nodes.count(Step::QueryOne) - 100;
    // Ten at once, and a twentieth of the reads that were served before and meanwhile. (The estimate follows the reads, which are
    // not far beyond it in the end.)
    let most = 10 + usize::try_from(before + 100).unwrap_or_default() / 20 + 1;
    assert!((5..=most).contains(&second), "{second} of at most {most}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_node_that_is_behind_is_asked_for_the_second_answer() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    nodes.each(|node| node.set_wal(7, 1, "0/1000000"));
    let db = measured(&nodes, hedging(&nodes).consistency(Consistency::Session)).await?;
    let session = session_on_r1(&db, &nodes).await?;
    nodes.primary.set_wal(7, 1, "0/2000000");
    nodes.replicas[0].set_wal(7, 1, "0/2000000");
    super::write(&session).await?;
    while who(&session).await? != "r1" {
        time::sleep(Duration::from_millis(100)).await;
    }
    nodes.each(ScriptedNode::forget);
    nodes.replicas[0].on(Step::QueryOne, STALL);
    let (read, took) = timed(&session).await;
    assert_eq!(nodes.replicas[1].count(Step::QueryOne), 0, "r2 lacks the write");
    // The primary has everything, and is a node like others.
    assert_eq!(read?, "p");
    assert!(took < FAR * 3, "{took:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_attempt_leaves_the_read_to_the_other() -> Result<(), DbErr> {
    for (on_r1, on_r2, answers) in [
        (Behaviour::SlowFail(FAR * 3, fault::reset()), Behaviour::Slow(FAR * 4), "r2"),
        (Behaviour::SlowFail(FAR * 3, fault::server("XX001")), Behaviour::Slow(FAR * 4), "r2"),
        (Behaviour::Slow(FAR * 4), Behaviour::SlowFail(USUAL, fault::reset()), "r1"),
        (Behaviour::Slow(FAR * 4), Behaviour::SlowFail(USUAL, fault::server("XX001")), "r1"),
        // Both fail: the read goes on as after one failure, and not to the nodes that failed.
        (Behaviour::SlowFail(FAR * 3, fault::reset()), Behaviour::SlowFail(USUAL, fault::reset()), "p"),
        (Behaviour::SlowFail(FAR * 3, fault::server("XX001")), Behaviour::SlowFail(USUAL, fault::reset()), "p"),
        (Behaviour::SlowFail(FAR * 3, fault::reset()), Behaviour::SlowFail(FAR * 6, fault::server("XX001")), "p"),
    ] {
        let nodes = Nodes::postgres(2);
        let db = measured(&nodes, hedging(&nodes)).await?;
        let session = session_on_r1(&db, &nodes).await?;
        nodes.replicas[0].on(Step::QueryOne, on_r1.clone());
        nodes.replicas[1].on(Step::QueryOne, on_r2.clone());
        let (read, _) = timed(&session).await;
        assert_eq!(read?, answers, "{on_r1:?}, {on_r2:?}");
        assert_eq!(nodes.replicas.iter().map(|replica| replica.count(Step::QueryOne)).max(), Some(1), "{on_r1:?}");
        assert_eq!(nodes.count(Step::Cancel), 0, "no attempt ran any more");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_read_cancels_both_attempts() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = measured(&nodes, hedging(&nodes)).await?;
    nodes.each(|node| node.on(Step::QueryOne, Behaviour::Never));
    assert!(time::timeout(FAR * 4, who(&db)).await.is_err());
    assert_eq!(nodes.count(Step::QueryOne), 2);
    assert_eq!((in_flight(&db), nodes.replicas[0].running() + nodes.replicas[1].running()), (0, 0));
    Ok(())
}
