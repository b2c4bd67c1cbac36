//! Nodes that answer their probes and fail operations.

use std::time::Duration;

use sea_orm::{ConnAcquireErr, DbErr};
use sea_orm_resolver::DatabaseConnection;
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time;

use super::{Nodes, health, select, who};

/// How often the first replica was asked by so many reads, all of which were served.
async fn asked(nodes: &Nodes, db: &DatabaseConnection, reads: usize) -> Result<usize, DbErr> {
    nodes.each(testkit::scripted::ScriptedNode::forget);
    for _ in 0..reads {
        assert_ne!(who(db).await?, "r1");
    }
    Ok(nodes.replicas[0].count(Step::QueryOne))
}

/// What only the first replica gives.
fn faults_of_one_node() -> [DbErr; 3] {
    // A full server, a damaged page, a node without quorum behind a proxy.
    [fault::not_connected("53300"), fault::server("XX001"), fault::server("58030")]
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_by_itself_is_ejected_with_growing_pauses_and_tried_by_one_read() -> Result<(), DbErr> {
    for error in faults_of_one_node() {
        let nodes = Nodes::postgres(2);
        let db = nodes.connect().await?;
        nodes.replicas[0].on(Step::QueryOne, Behaviour::Fail(error.clone()));
        assert_eq!(asked(&nodes, &db, 100).await?, 3, "{error}: three in a row");
        assert_eq!(db.topology().to_string().lines().filter(|line| line.contains("ejected")).count(), 1);
        assert_eq!(health(&db, "r1"), sea_orm_resolver::Health::Up, "its probes are answered");
        for pause in [1, 2, 4] {
            // Varied by a fifth.
            time::sleep(Duration::from_millis(pause * 790)).await;
            assert_eq!(asked(&nodes, &db, 20).await?, 0, "{error}: within the pause of {pause} s");
            time::sleep(Duration::from_millis(pause * 420)).await;
            assert_eq!(asked(&nodes, &db, 20).await?, 1, "{error}: one trial");
        }
        nodes.replicas[0].recover();
        time::sleep(Duration::from_secs(10)).await;
        // One of these is the trial; then the slow start passes.
        for _ in 0..20 {
            who(&db).await?;
        }
        time::sleep(Duration::from_secs(10)).await;
        let mut served = 0;
        for _ in 0..100 {
            served += usize::from(who(&db).await? == "r1");
        }
        assert!(served > 20, "it takes its share again: {served}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn errors_of_statements_and_cancelled_reads_eject_no_node() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    for error in [fault::server("22012"), fault::server("57014"), fault::server("42P01"), fault::server("XX000")] {
        nodes.on_each(Step::QueryOne, &Behaviour::Fail(error));
        for _ in 0..20 {
            who(&db).await.expect_err("each node gives it");
        }
    }
    nodes.on_each(Step::QueryOne, &Behaviour::Never);
    for _ in 0..20 {
        drop(time::timeout(Duration::from_millis(1), who(&db)).await);
    }
    nodes.each(testkit::scripted::ScriptedNode::recover);
    assert!(!db.topology().to_string().contains("ejected"), "{}", db.topology());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn with_every_replica_full_the_primary_serves_each_read() -> Result<(), DbErr> {
    for replicas in 1..=4 {
        let nodes = Nodes::postgres(replicas);
        let db = nodes.connect().await?;
        for replica in &nodes.replicas {
            replica.on(Step::QueryOne, Behaviour::Fail(fault::not_connected("53300")));
        }
        for _ in 0..200 {
            assert_eq!(who(&db).await?, "p");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn with_every_node_full_a_read_has_the_servers_own_error() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::not_connected("53300")));
    let error = who(&db).await.expect_err("no node has a connection");
    assert!(matches!(error, DbErr::Conn(_)), "{error:?}");
    nodes.on_each(Step::QueryOne, &Behaviour::Fail(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)));
    let error = who(&db).await.expect_err("no node has a connection");
    assert!(error.to_string().contains("busy"), "{error}");
    assert!(!select(&db).sql.is_empty());
    Ok(())
}
