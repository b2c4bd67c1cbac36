//! The writes that a read sees, to the tick.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, DbBackend, DbErr, EntityTrait, TransactionTrait};
use sea_orm_resolver::{Consistency, DatabaseConnection};
use testkit::scripted::Step;
use tokio::time;

use super::{NANOSECOND, Nodes, STICK, in_task, who, write};
use crate::item;

async fn connect(nodes: &Nodes) -> Result<DatabaseConnection, DbErr> {
    nodes.connect().await
}

async fn who_in_a_task(db: &DatabaseConnection) -> Result<String, DbErr> {
    let db = db.clone();
    in_task(async move { who(&db).await }).await
}

#[tokio::test(start_paused = true)]
async fn every_task_reads_the_writes_of_its_process_to_the_tick() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    let writer = db.clone();
    in_task(async move {
        for _ in 0..3 {
            assert_eq!(who(&writer).await?, "r1");
            write(&writer).await?;
            assert_eq!(who(&writer).await?, "p");
            assert_eq!(who(&writer.read()).await?, "p");
            assert_eq!(who_in_a_task(&writer).await?, "p", "another task reads it too");
            assert_eq!(who(&writer.session()).await?, "r1", "a session of its own has not written");
            time::advance(STICK - NANOSECOND).await;
            assert_eq!(who_in_a_task(&writer).await?, "p");
            time::advance(NANOSECOND).await;
            assert_eq!(who_in_a_task(&writer).await?, "r1");
        }
        Ok::<_, DbErr>(())
    })
    .await
}

/// Handles of one connection are one process; another connection is another.
#[tokio::test(start_paused = true)]
async fn a_plain_read_sees_a_write_through_whatever_handle() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    let another = connect(&nodes).await?;
    for way in 0..5 {
        assert_eq!(who(&db).await?, "r1", "way {way}");
        match way {
            0 => write(&db.clone()).await?,
            1 => write(&db.write()).await?,
            2 => write(&db.session()).await?,
            3 => write(&db.with_consistency(Consistency::Eventual)).await?,
            _ => {
                let transaction = db.begin().await?;
                write(&transaction).await?;
                assert_eq!(who(&db).await?, "r1", "nothing was committed");
                transaction.commit().await?;
            }
        }
        assert_eq!(who_in_a_task(&db).await?, "p", "way {way}");
        assert_eq!(who(&another).await?, "r1", "way {way}");
        time::advance(STICK).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_changes_no_row_binds_no_session() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    for sql in ["SELECT * FROM item WHERE id = 1 FOR UPDATE", "SET search_path = shop", "LISTEN news", "SELECT 1"] {
        db.execute_unprepared(sql).await?;
        assert_eq!(who(&db).await?, "r1", "{sql}");
    }
    let strong = db.with_consistency(Consistency::Strong);
    assert_eq!(who(&strong).await?, "p");
    assert_eq!(who(&db).await?, "r1");
    assert_eq!(nodes.primary.count(Step::Execute), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn bounded_staleness_stands_for_the_writes_of_others() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    nodes.each(|node| node.set_wal(7, 1, "0/100"));
    let db = connect(&nodes).await?.with_consistency(Consistency::BoundedStaleness(Duration::from_secs(5)));
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(who(&db).await?, "r1");
    write(&db).await?;
    assert_eq!(who(&db).await?, "r1", "the bound alone decides");
    let session = db.session();
    write(&session).await?;
    assert_eq!(who(&session).await?, "p", "a session sees its own writes as well");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_floor_is_where_the_write_ended_not_where_it_began() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    nodes.primary.on(Step::Execute, testkit::scripted::Behaviour::Slow(Duration::from_secs(5)));
    in_task(async move {
        write(&db).await?;
        time::advance(STICK - NANOSECOND).await;
        assert_eq!(who(&db).await?, "p");
        time::advance(NANOSECOND).await;
        assert_eq!(who(&db).await?, "r1");
        Ok(())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_explicit_session_is_the_same_in_every_task() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    let (session, other) = (db.session(), db.session());
    let writer = session.clone();
    in_task(async move { write(&writer).await }).await?;
    assert_eq!(who_in_a_task(&session).await?, "p");
    assert_eq!(who(&session.read()).await?, "p");
    assert_eq!(who(&other).await?, "r1");
    assert_eq!(who(&db).await?, "p", "a plain read sees every write of its process");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_scope_gives_plain_handles_its_session() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    let session = db.session();
    db.scope(&session, write(&db)).await?;
    let another = db.session();
    assert_eq!(db.scope(&another, who(&db)).await?, "r1", "outside of the scope it is another session");
    assert_eq!(who(&session).await?, "p");
    let (inside, entered) = (db.clone(), session.clone());
    let read = async move { inside.scope(&entered, who(&inside)).await };
    assert_eq!(in_task(read).await?, "p", "entered again in another task");

    let inner = db.session();
    let nested = db.scope(&session, async { db.scope(&inner, who(&db)).await });
    assert_eq!(nested.await?, "r1", "the innermost counts");

    let elsewhere = Nodes::postgres(1);
    let elsewhere_db = connect(&elsewhere).await?;
    db.scope(&session, write(&elsewhere_db)).await?;
    assert_eq!(who(&elsewhere_db).await?, "p", "a scope of one database means nothing to another");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_connection_leaves_its_node_for_the_floor_of_its_session() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    let read = db.read();
    assert_eq!(who(&read).await?, "r1");
    write(&db).await?;
    assert_eq!(who(&read).await?, "p");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_connection_returns_to_its_node() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    nodes.each(|node| node.set_wal(7, 1, "0/100"));
    let db = connect(&nodes).await?;
    let read = db.read();
    assert_eq!(who(&read).await?, "r1");
    write(&db).await?;
    nodes.primary.set_wal(7, 1, "0/200");
    assert_eq!((who(&read).await?, read.node()), ("p".to_owned(), Some("r1".to_owned())));
    nodes.replicas[0].set_wal(7, 1, "0/200");
    time::sleep(Duration::from_secs(5)).await;
    for _ in 0..50 {
        assert_eq!((who(&read).await?, read.node()), ("r1".to_owned(), Some("r1".to_owned())));
        time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn process_consistency_adds_the_writes_of_the_process_to_those_of_a_session() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    let session = db.session();
    let process = session.with_consistency(Consistency::Process);
    let writer = db.clone();
    in_task(async move { write(&writer).await }).await?;
    assert_eq!(who_in_a_task(&session).await?, "r1");
    assert_eq!(who_in_a_task(&process).await?, "p");
    time::advance(STICK - NANOSECOND).await;
    assert_eq!(who_in_a_task(&process).await?, "p");
    time::advance(NANOSECOND).await;
    assert_eq!(who_in_a_task(&process).await?, "r1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn strong_reads_are_the_primarys_and_eventual_ones_never_wait() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = connect(&nodes).await?;
    let (strong, eventual) = (db.with_consistency(Consistency::Strong), db.with_consistency(Consistency::Eventual));
    assert_eq!(who(&strong).await?, "p");
    write(&eventual).await?;
    assert_eq!(who(&eventual).await?, "r1");
    assert_eq!(who(&db).await?, "p", "the floor was recorded");
    Ok(())
}

/// SeaORM has no RETURNING here: it writes, and reads the row back.
#[tokio::test(start_paused = true)]
async fn eventual_reads_do_not_lose_seaorms_own_read_back() -> Result<(), DbErr> {
    for stick in [STICK, Duration::ZERO] {
        let nodes = Nodes::speaking(DbBackend::MySql, 2);
        let builder = nodes.builder().consistency(Consistency::Eventual).stick_after_write(stick);
        let db = nodes.connected(builder).await?;
        in_task(async move {
            for _ in 0..10 {
                let new = item::ActiveModel { name: Set("x".to_owned()), amount: Set(1), ..Default::default() };
                let inserted = new.insert(&db).await?;
                assert_eq!(inserted.name, "p", "the row that was read back is the primary's");
                assert_ne!(who(&db).await?, "p", "and the next read goes anywhere");
            }
            assert_eq!(nodes.primary.count(Step::Execute), 10);
            Ok::<_, DbErr>(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn insert_then_find_in_loops_never_misses() -> Result<(), DbErr> {
    for backend in [DbBackend::Postgres, DbBackend::MySql] {
        let nodes = Nodes::speaking(backend, 3);
        let db = connect(&nodes).await?;
        let tasks = (0..10).map(|_| {
            let db = db.clone();
            in_task(async move {
                for _ in 0..20 {
                    let new = item::ActiveModel { name: Set("x".to_owned()), amount: Set(1), ..Default::default() };
                    let id = item::Entity::insert(new).exec(&db).await?.last_insert_id;
                    let found = item::Entity::find_by_id(id).one(&db).await?.expect("a row");
                    assert_eq!(found.name, "p");
                    time::sleep(Duration::from_millis(100)).await;
                }
                Ok::<_, DbErr>(())
            })
        });
        futures_util::future::try_join_all(tasks).await?;
        assert_eq!(nodes.replicas.iter().map(|replica| replica.statements().len()).sum::<usize>(), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn many_sessions_that_wrote_do_not_keep_others_from_the_replicas() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = connect(&nodes).await?;
    let mut tally = BTreeMap::<String, usize>::new();
    for number in 0..200 {
        let task_db = db.session();
        let answer = in_task(async move {
            if number % 2 == 0 {
                write(&task_db).await?;
            }
            who(&task_db).await
        });
        *tally.entry(answer.await?).or_default() += 1;
    }
    assert_eq!(tally["p"], 100, "{tally:?}");
    Ok(())
}

/// One replica is always too far behind.
#[tokio::test(start_paused = true)]
async fn a_thousand_writes_a_second_send_no_session_to_the_primary_that_did_not_write() -> Result<(), DbErr> {
    const SLOW_BY: u64 = 5_000;
    let nodes = Nodes::postgres(2);
    let place = |millis: u64| format!("0/{:X}", 1_000 + millis);
    nodes.each(|node| node.set_wal(7, 1, &place(0)));
    let db = connect(&nodes).await?;
    let mut tally = BTreeMap::<String, usize>::new();
    for millis in 1..10_000_u64 {
        let (writer, reader) = (db.clone(), db.session());
        tokio::spawn(async move { write(&writer).await }).await.expect("a write does not panic")?;
        nodes.primary.set_wal(7, 1, &place(millis));
        nodes.replicas[0].set_wal(7, 1, &place(millis));
        nodes.replicas[1].set_wal(7, 1, &place(millis.saturating_sub(SLOW_BY)));
        if millis % 10 == 0 {
            let node = tokio::spawn(async move { who(&reader).await }).await.expect("a read does not panic")?;
            *tally.entry(node).or_default() += 1;
            // So that the journals stay short.
            nodes.each(testkit::scripted::ScriptedNode::forget);
        }
        time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(tally.get("p"), None, "{tally:?}");
    assert!(tally["r1"] > 300 && tally["r2"] > 300, "both are good enough for a session that wrote nothing: {tally:?}");
    Ok(())
}
