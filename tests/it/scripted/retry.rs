//! A read that its node fails runs once more on another one; no other statement does.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use sea_orm::{AccessMode, ConnectionTrait, DbErr, EntityTrait, Statement, StreamTrait, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, Error, Health};
use testkit::scripted::{Behaviour, Outcome, Step, fault};
use tokio::time::{self, Instant};

use super::{
    Nodes, WRITE, ended, health, in_flight, in_task, item_row, refuse_probes, reset_probes, select, who, write,
};
use crate::item;

fn connectivity_errors() -> [DbErr; 4] {
    [fault::reset(), fault::refused(), fault::pool_timed_out(), fault::pool_closed()]
}

#[tokio::test(start_paused = true)]
async fn a_read_that_its_replica_fails_runs_once_more_on_another_node() -> Result<(), DbErr> {
    for error in connectivity_errors() {
        let nodes = Nodes::postgres(2);
        let db = nodes.connect().await?;
        nodes.replicas[0].on(Step::QueryOne, Behaviour::Fail(error.clone()));
        for _ in 0..40 {
            assert_eq!(who(&db).await?, "r2");
        }
        let failed = nodes.replicas[0].count(Step::QueryOne);
        assert!(failed > 0, "{error:?}");
        assert_eq!(nodes.replicas[1].count(Step::QueryOne), 40);
        assert_eq!(in_flight(&db), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_only_replicas_reads_run_once_more_on_the_primary() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.replicas[0].on(Step::QueryAll, Behaviour::Fail(fault::reset()));
    let found = item::Entity::find().all(&db).await?;
    assert_eq!(found[0].name, "p");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn raw_reads_of_a_read_connection_run_once_more_with_their_text() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let read = db.read();
    let kept = read.node();
    nodes.each(|node| node.once(Step::QueryOne, Behaviour::Fail(fault::reset())));
    let other = nodes.replicas.iter().find(|replica| Some(replica.name()) != kept.as_deref()).expect("two");
    other.recover();
    let row = read.query_one_raw(select(&db)).await?.expect("a row");
    assert_eq!(row.try_get::<String>("", "name")?, other.name());
    assert_eq!(other.statements(), [select(&db).sql]);
    assert_eq!(read.node().as_deref(), Some(other.name()), "it keeps to the node that worked");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn when_three_nodes_fail_the_error_comes_back() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(3);
    let db = nodes.connect().await?;
    nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::reset()));
    let error = who(&db).await.expect_err("all fail");
    assert_eq!(error.to_string(), fault::reset().to_string());
    assert_eq!(nodes.count(Step::QueryOne), 3);
    assert!(nodes.replicas.iter().all(|replica| replica.count(Step::QueryOne) < 2), "another node, not the same");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_the_server_answered_is_not_run_again() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    for code in ["42601", "23505"] {
        nodes.each(testkit::scripted::ScriptedNode::forget);
        nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::server(code)));
        who(&db).await.expect_err("the server said no");
        assert_eq!(nodes.count(Step::QueryOne), 1, "{code}");
        assert_eq!(nodes.count(Step::ProbeAsk), 0, "nobody is suspected");
    }
    Ok(())
}

/// A limit of time that one server has by mistake costs no read. One that all servers have is met twice, and remembered.
#[tokio::test(start_paused = true)]
async fn a_read_that_its_server_ended_soon_is_run_on_one_other_node() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    nodes.replicas[0].on(Step::QueryOne, Behaviour::Fail(fault::server("57014")));
    for _ in 0..100 {
        who(&db).await?;
    }
    assert!(nodes.replicas[0].count(Step::QueryOne) > 20, "the node is not ejected for a limit of time");
    nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::server("57014")));
    for runs in [2, 1, 1] {
        nodes.each(testkit::scripted::ScriptedNode::forget);
        who(&db).await.expect_err("all of them have the limit");
        assert_eq!(nodes.count(Step::QueryOne), runs);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_that_its_server_ended_late_is_not_run_again() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    for (seconds, runs) in [(4, 2), (6, 1)] {
        nodes.each(testkit::scripted::ScriptedNode::forget);
        nodes.on_each(Step::QueryOne, &Behaviour::SlowFail(Duration::from_secs(seconds), fault::server("57014")));
        let sql = format!("SELECT {seconds} FROM t{seconds}");
        let statement = Statement::from_string(db.get_database_backend(), sql);
        db.query_one_raw(statement).await.expect_err("all of them have the limit");
        assert_eq!(nodes.count(Step::QueryOne), runs, "after {seconds} s");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_write_is_never_repeated() -> Result<(), DbErr> {
    for error in connectivity_errors() {
        let nodes = Nodes::postgres(2);
        let db = nodes.connect().await?;
        nodes.on_each(Step::Execute, &Behaviour::Fail(error.clone()));
        nodes.on_each(Step::QueryOne, &Behaviour::Fail(error.clone()));
        nodes.on_each(Step::StreamOpen, &Behaviour::Fail(error.clone()));
        write(&db).await.expect_err("it failed");
        write(&db.write()).await.expect_err("it failed");
        let returning = format!("{WRITE} RETURNING *");
        let statement = Statement::from_string(db.get_database_backend(), returning);
        db.query_one_raw(statement.clone()).await.expect_err("it failed");
        db.stream_raw(statement).await.map(drop).expect_err("it failed");
        assert_eq!(nodes.primary.count(Step::Execute), 2);
        assert_eq!(nodes.count(Step::Execute) + nodes.count(Step::QueryOne) + nodes.count(Step::StreamOpen), 4);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn begin_read_only_runs_once_more_and_a_statement_inside_does_not() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    nodes.replicas[0].on(Step::Begin, Behaviour::Fail(fault::reset()));
    for _ in 0..10 {
        let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
        assert_eq!(transaction.node(), "r2");
    }
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::reset()));
    who(&transaction).await.expect_err("the connection broke");
    assert_eq!(nodes.count(Step::QueryOne), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_inside_a_transaction_has_its_node_asked_at_once() -> Result<(), DbErr> {
    for gate in [Step::Execute, Step::Commit] {
        let nodes = Nodes::postgres(1);
        let db = nodes.connect().await?;
        nodes.primary.reached(Step::ProbeAsk, 1).await;
        time::sleep(Duration::from_millis(50)).await;
        nodes.primary.forget();
        nodes.primary.on(gate, Behaviour::Fail(fault::reset()));
        let transaction = db.begin().await?;
        let failed = match write(&transaction).await {
            Ok(()) => transaction.commit().await,
            failed => failed,
        };
        failed.expect_err("the connection broke");
        let broke_at = Instant::now();
        nodes.primary.reached(Step::ProbeAsk, 1).await;
        assert_eq!(Instant::now(), broke_at, "{gate:?} broke, so the node is asked how it is");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_runs_once_more_before_its_first_row() -> Result<(), DbErr> {
    for gate in [Step::StreamOpen, Step::FirstRow] {
        for error in connectivity_errors() {
            let nodes = Nodes::postgres(2);
            let db = nodes.connect().await?;
            nodes.replicas[0].on(gate, Behaviour::Fail(error));
            for _ in 0..10 {
                let rows: Vec<_> = item::Entity::find().stream(&db).await?.try_collect().await?;
                assert_eq!(rows[0].name, "r2");
            }
            assert!(nodes.replicas[0].count(gate) > 0);
            assert_eq!(in_flight(&db), 0);
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_runs_three_times_at_the_most() -> Result<(), DbErr> {
    for (first, second) in [
        (Step::StreamOpen, Step::FirstRow),
        (Step::FirstRow, Step::FirstRow),
        (Step::FirstRow, Step::StreamOpen),
        (Step::StreamOpen, Step::StreamOpen),
    ] {
        let nodes = Nodes::postgres(3);
        let db = nodes.connect().await?;
        let session = db.session();
        let kept = who(&session).await?;
        nodes.each(|node| {
            let gate = if node.name() == kept { first } else { second };
            node.on(gate, Behaviour::Fail(fault::reset()));
        });
        let failed = async { item::Entity::find().stream(&session).await?.try_collect::<Vec<_>>().await };
        failed.await.expect_err("everybody fails");
        let attempts: usize = nodes.count(Step::StreamOpen);
        assert_eq!(attempts, 3, "{first:?}, then {second:?}");
        assert_eq!(in_flight(&db), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn after_the_first_row_the_error_comes_through_and_its_node_is_asked_at_once() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    nodes.each(|node| node.set_rows((1..=3).map(|id| item_row(id, node.name()))));
    let db = nodes.connect().await?;
    nodes.replicas[0].reached(Step::ProbeAsk, 1).await;
    nodes.replicas[1].reached(Step::ProbeAsk, 1).await;
    time::sleep(Duration::from_millis(50)).await;
    nodes.each(testkit::scripted::ScriptedNode::forget);
    nodes.on_each(Step::LaterRow, &Behaviour::Fail(fault::reset()));
    let mut rows = item::Entity::find().stream(&db).await?;
    let first = rows.next().await.expect("a first row")?;
    rows.next().await.expect("an error").expect_err("the connection broke");
    assert!(rows.next().await.is_none());
    drop(rows);
    assert_eq!(nodes.count(Step::StreamOpen), 1);
    let broke_at = Instant::now();
    let replica = nodes.replicas.iter().find(|replica| replica.name() == first.name).expect("a replica");
    replica.reached(Step::ProbeAsk, 1).await;
    assert_eq!(Instant::now(), broke_at);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_before_a_row_is_not_run_again() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    nodes.each(|node| node.set_rows([]));
    let db = nodes.connect().await?;
    assert!(item::Entity::find().stream(&db).await?.next().await.is_none());
    assert_eq!(nodes.count(Step::StreamOpen), 1);
    assert_eq!(in_flight(&db), 0);
    Ok(())
}

/// The number of runs of a read of a shape that no other read has.
async fn runs_of_another_shape(nodes: &Nodes, db: &DatabaseConnection, number: usize) -> usize {
    nodes.each(testkit::scripted::ScriptedNode::forget);
    let read = Statement::from_string(db.get_database_backend(), format!("SELECT name FROM item{number}"));
    db.query_one_raw(read).await.expect_err("both nodes fail");
    nodes.count(Step::QueryOne)
}

#[tokio::test(start_paused = true)]
async fn second_opinions_that_settle_nothing_have_a_budget() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::server("XX001")));
    let mut asked_twice = 0;
    while runs_of_another_shape(&nodes, &db, asked_twice).await == 2 {
        asked_twice += 1;
        assert!(asked_twice < 1_000, "without end");
    }
    assert_eq!(asked_twice, 100);
    time::advance(Duration::from_secs(1)).await;
    let mut again = 0;
    while runs_of_another_shape(&nodes, &db, 1_000 + again).await == 2 {
        again += 1;
    }
    assert!((10..=11).contains(&again), "ten a second: {again}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_error_that_two_nodes_give_is_the_statements_own_for_ten_minutes() -> Result<(), DbErr> {
    for code in ["42P01", "XX001", "53200"] {
        let nodes = Nodes::postgres(2);
        let db = nodes.connect().await?;
        nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::server(code)));
        for runs in [2, 1, 1] {
            nodes.each(testkit::scripted::ScriptedNode::forget);
            // On a replica: for a table that the primary lacks there is no second opinion.
            who(&db.session()).await.expect_err("each node says no");
            let runs = if nodes.primary.count(Step::QueryOne) == nodes.count(Step::QueryOne) { 1 } else { runs };
            assert_eq!(nodes.count(Step::QueryOne), runs, "{code}");
            assert_eq!(nodes.count(Step::ProbeAsk), 0, "no node is suspected");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_node_does_not_confirm_its_own_error() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    refuse_probes(&nodes.replicas[0]);
    while health(&db, "r1") == Health::Up {
        time::sleep(Duration::from_millis(100)).await;
    }
    nodes.primary.on(Step::QueryOne, Behaviour::Fail(fault::server("XX001")));
    let before = nodes.primary.count(Step::QueryOne);
    let error = who(&db).await.expect_err("no other node can serve the read");
    assert_eq!(error.to_string(), fault::server("XX001").to_string());
    assert_eq!(nodes.primary.count(Step::QueryOne) - before, 1, "the same node is not asked again");
    nodes.replicas[0].recover();
    while health(&db, "r1") != Health::Up {
        time::sleep(Duration::from_millis(100)).await;
    }
    db.set_primary_read_share(1.0)?;
    assert_eq!(who(&db).await?, "r1", "nothing was remembered of the one opinion");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_behind_in_schema_costs_no_read_however_many_there_are() -> Result<(), DbErr> {
    for code in ["42P01", "42703", "42883", "42501"] {
        let nodes = Nodes::postgres(2);
        let db = nodes.connect().await?;
        for replica in &nodes.replicas {
            replica.on(Step::QueryOne, Behaviour::Fail(fault::server(code)));
        }
        for _ in 0..1_000 {
            assert_eq!(who(&db).await?, "p", "{code}");
        }
        assert!(nodes.replicas.iter().all(|replica| replica.count(Step::QueryOne) <= 1_000), "once on a replica");
        assert_eq!(health(&db, "r1"), Health::Up);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_conflict_with_replay_goes_to_the_primary() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(3);
    let db = nodes.connect().await?;
    for replica in &nodes.replicas {
        replica.on(Step::QueryOne, Behaviour::Fail(fault::server("40001")));
    }
    for _ in 0..500 {
        assert_eq!(who(&db).await?, "p");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_statement_whose_plan_is_stale_is_sent_again_reads_and_writes() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.each(|node| {
        for step in [Step::QueryOne, Step::Execute] {
            node.once(step, Behaviour::Fail(fault::server("26000")));
        }
    });
    who(&db).await?;
    write(&db).await?;
    assert_eq!(nodes.primary.count(Step::Execute), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_that_no_node_can_give_a_connection_waits_as_long_as_the_pool_would() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    nodes.on_each(Step::QueryOne, &Behaviour::Fail(fault::pool_timed_out()));
    let recovers = async {
        time::sleep(Duration::from_millis(600)).await;
        nodes.replicas[1].recover();
    };
    let (served, ()) = tokio::join!(who(&db), recovers);
    assert_eq!(served?, "r2");
    let runs = nodes.count(Step::QueryOne);
    assert!(runs < 100, "with a pause between two rounds: {runs}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_on_a_node_that_goes_down_moves() -> Result<(), DbErr> {
    // Refused probes are certain at once; broken ones need three.
    for (probes, longest) in [(refuse_probes as fn(&_), 1_300), (reset_probes, 1_700)] {
        let nodes = Nodes::postgres(1);
        let db = nodes.connect().await?;
        let replica = &nodes.replicas[0];
        replica.on(Step::QueryOne, Behaviour::Never);
        let started = Instant::now();
        let (reader, streamer) = (db.clone(), db.clone());
        let read = tokio::spawn(async move { who(&reader).await });
        replica.on(Step::FirstRow, Behaviour::Never);
        let stream = tokio::spawn(async move {
            item::Entity::find().stream(&streamer).await?.try_next().await.map(|row| row.expect("a row").name)
        });
        replica.reached(Step::FirstRow, 1).await;
        replica.reached(Step::QueryOne, 1).await;
        probes(replica);
        assert_eq!(ended(read).await?, "p");
        assert_eq!(ended(stream).await?, "p");
        assert!(started.elapsed() < Duration::from_millis(longest), "{:?}", started.elapsed());
        assert_eq!(health(&db, "r1"), Health::Down);
        let given_up = replica.journal();
        let given_up = given_up.iter().filter(|entry| entry.outcome == Outcome::Dropped);
        assert_eq!(given_up.count(), 2);
        assert_eq!(in_flight(&db), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_second_attempt_does_not_wait_on_a_node_that_goes_down_either() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connected(nodes.builder().read_selection_timeout(Duration::from_secs(1))).await?;
    nodes.on_each(Step::QueryOne, &Behaviour::Never);
    nodes.on_each(Step::FirstRow, &Behaviour::Never);
    nodes.each(refuse_probes);
    let streamer = db.clone();
    let stream = tokio::spawn(async move {
        item::Entity::find().stream(&streamer).await?.try_next().await.map(|row| row.expect("a row").name)
    });
    let read = time::timeout(Duration::from_secs(10), who(&db)).await.expect("it does not hang");
    let read = read.expect_err("everybody is down");
    let stream = time::timeout(Duration::from_secs(10), stream).await.expect("it does not hang");
    let stream = stream.expect("no panic").expect_err("everybody is down");
    for error in [read, stream] {
        let ours = Error::from_db_err(&error).expect("typed");
        assert!(ours.is_unreachable() || ours.is_no_eligible_node(), "{error}");
    }
    assert_eq!(in_flight(&db), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_on_a_primary_that_goes_down_is_left_alone() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.primary.on(Step::Execute, Behaviour::Slow(Duration::from_secs(10)));
    refuse_probes(&nodes.primary);
    let started = Instant::now();
    in_task(async move { write(&db).await }).await?;
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    assert_eq!(nodes.count(Step::Execute), 1);
    Ok(())
}
