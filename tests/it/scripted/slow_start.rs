//! The share of the reads of a node that came back.
//!
//! Of 400 reads on two replicas each has 200, or the part of 200 that its slow start allows; the standard deviation is
//! 10 at most. The draws are seeded, so a run that is inside the band is always inside.

use std::time::Duration;

use sea_orm::DbErr;
use sea_orm_resolver::{DatabaseConnection, Health};
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time;

use super::{Nodes, health, node, refuse_probes, replica, tally, until_health};

const READS: usize = 400;
const TEN: Duration = Duration::from_secs(10);
/// The longest time between two probes.
const INTERVAL: Duration = Duration::from_millis(1_201);

/// How many of 400 reads a member serves now.
async fn served(db: &DatabaseConnection, name: &str) -> Result<usize, DbErr> {
    Ok(tally(db, READS).await?.remove(name).unwrap_or_default())
}

fn starts_slowly(db: &DatabaseConnection, name: &str) -> bool {
    let topology = db.topology();
    let starts = topology.member(name).expect("a member").is_starting_slowly();
    let row = topology.to_string().lines().find(|line| line.starts_with(name)).expect("its row").to_owned();
    assert_eq!(row.contains("slow start"), starts, "{row}");
    starts
}

fn assert_near(served: usize, expected: usize) {
    assert!(served.abs_diff(expected) <= 45, "{served}, not {expected}");
}

/// The member has just come back.
async fn assert_grows(db: &DatabaseConnection, name: &str) -> Result<(), DbErr> {
    assert!(starts_slowly(db, name));
    let first = served(db, name).await?;
    assert!((1..=45).contains(&first), "a tenth: {first}");
    time::sleep(TEN / 2).await;
    assert_near(served(db, name).await?, 110);
    time::sleep(TEN / 2 + INTERVAL).await;
    assert!(!starts_slowly(db, name));
    assert_near(served(db, name).await?, 200);
    Ok(())
}

async fn assert_full(db: &DatabaseConnection, name: &str) -> Result<(), DbErr> {
    assert!(!starts_slowly(db, name));
    assert_near(served(db, name).await?, 200);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_down_comes_back_to_a_tenth_of_its_reads_and_has_all_of_them_after_the_slow_start()
-> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    assert_full(&db, "r1").await?;
    refuse_probes(&nodes.replicas[0]);
    until_health(&db, "r1", Health::Down).await;
    time::sleep(TEN * 6).await;
    nodes.replicas[0].recover();
    until_health(&db, "r1", Health::Up).await;
    assert_grows(&db, "r1").await
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_only_suspected_keeps_its_share() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    for round in 0..5 {
        nodes.replicas[0].forget();
        // A probe over a new connection fails, too; the next one is answered.
        for _ in 0..2 {
            nodes.replicas[0].once(Step::ProbeAsk, Behaviour::Fail(fault::reset()));
        }
        nodes.replicas[0].reached(Step::ProbeAsk, 3).await;
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(health(&db, "r1"), Health::Up);
        assert!(!starts_slowly(&db, "r1"), "round {round}");
        time::sleep(INTERVAL).await;
    }
    assert_full(&db, "r1").await
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_ejection_ended_starts_slowly() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    nodes.replicas[0].on(Step::QueryOne, Behaviour::Fail(fault::server("XX001")));
    tally(&db, 100).await?;
    assert!(db.topology().to_string().contains("ejected"));
    nodes.replicas[0].recover();
    time::sleep(Duration::from_millis(1_300)).await;
    // One of these is the trial.
    tally(&db, 2).await?;
    assert_grows(&db, "r1").await
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_that_is_resumed_starts_slowly() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    db.resume("r1").expect("a member");
    assert!(!starts_slowly(&db, "r1"), "it was in");
    db.drain("r1").await.expect("it is idle");
    db.resume("r1").expect("a member");
    assert_grows(&db, "r1").await
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_starts_slowly_beside_the_others_and_newcomers_alone_share_as_usual() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let (new, second, third) = (replica("new"), replica("second"), replica("third"));
    db.add_replica(new.config()).await.expect("it answers");
    assert!(!starts_slowly(&db, "r1"));
    assert_grows(&db, "new").await?;

    db.swap_replicas([second.config(), third.config()]).await.expect("they answer");
    assert!(starts_slowly(&db, "second") && starts_slowly(&db, "third"));
    assert_near(served(&db, "second").await?, 200);

    db.swap_replicas([second.config()]).await.expect("it answers");
    assert_eq!(served(&db, "second").await?, READS, "no other replica may serve");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_new_primary_begins_with_a_part_of_its_draws() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connected(nodes.builder().primary_read_share(0.5)).await?;
    assert_near(served(&db, "p").await?, 200);
    let new = node("p2", sea_orm_resolver::Role::Primary, sea_orm::DbBackend::Postgres);
    db.swap_primary(new.config()).await.expect("it answers");
    assert_grows(&db, "p2").await
}

#[tokio::test(start_paused = true)]
async fn without_a_slow_start_a_node_comes_back_to_its_full_share() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connected(nodes.builder().slow_start(Duration::ZERO)).await?;
    refuse_probes(&nodes.replicas[0]);
    until_health(&db, "r1", Health::Down).await;
    nodes.replicas[0].recover();
    until_health(&db, "r1", Health::Up).await;
    assert_full(&db, "r1").await
}
