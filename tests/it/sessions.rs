//! The writes that a read sees. No replica replays a write in these tests: a read that goes to a replica misses
//! every row.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, StreamTrait,
    TransactionTrait,
};
use sea_orm_resolver::{Consistency, DatabaseConnection};
use tokio::task::JoinSet;

use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
    who::Who,
};

const ROUNDS: i32 = 25;
const PATIENCE: Duration = Duration::from_secs(20);

/// No pause of a busy machine changes where a statement goes: a write sticks for longer, no node goes down by a probe
/// that is late, and no connection rests for so long that its next statement begins with a ping.
async fn with_paused_replay(servers: &Servers) -> Result<DatabaseConnection> {
    const LONG: Duration = Duration::from_secs(60);
    let sticky = servers.builder().primary_read_share(0.0).stick_after_write(LONG);
    let sticky = sticky.probe_timeout(LONG).ping_after_idle(LONG);
    let db = servers.open(sticky).await?;
    servers.pause_replay().await?;
    Ok(db)
}

/// Inserts, finds, changes, finds, through one connection.
async fn insert_then_find(db: &DatabaseConnection) -> Result<()> {
    for n in 0..ROUNDS {
        let inserted = item::Entity::insert(item::new("found", n)).exec(db).await?;
        let id = inserted.last_insert_id;
        let found = item::Entity::find_by_id(id).one(db).await?;
        assert_eq!(found.as_ref().map(|item| item.amount), Some(n), "round {n}");
        assert_eq!(item::Entity::find_by_id(id).one(&db.read()).await?, found);
        let mut changed = found.expect("just seen").into_active_model();
        changed.amount = Set(-n);
        let updated = changed.update(db).await?;
        assert_eq!(updated.amount, -n);
        assert_eq!(item::Entity::find_by_id(id).one(db).await?, Some(updated));
        let saved = item::new("saved", n).save(db).await?;
        assert!(item::Entity::find_by_id(saved.id.unwrap()).count(db).await? == 1);
    }
    Ok(())
}

async fn finds_the_row_of_main(servers: Servers) -> Result<()> {
    let db = with_paused_replay(&servers).await?;
    assert!(tokio::task::try_id().is_none(), "the main future of a runtime is no task");
    insert_then_find(&db).await
}

async fn finds_the_row_of_a_task(servers: Servers) -> Result<()> {
    let db = with_paused_replay(&servers).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let db = db.clone();
        tasks.spawn(async move { insert_then_find(&db).await });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

async fn finds_the_row_of_a_session_or_scope(servers: Servers) -> Result<()> {
    let db = with_paused_replay(&servers).await?;
    insert_then_find(&db.session()).await?;
    let session = db.session();
    db.scope(&session, insert_then_find(&db)).await?;
    // Clones of a session share it in whatever task they are used; so do scopes that enter it.
    for n in 0..ROUNDS {
        let session = db.session();
        let writer = session.clone();
        let id =
            tokio::spawn(async move { item::new("shared", n).insert(&writer).await.map(|item| item.id) }).await??;
        let reader = session.clone();
        let found = tokio::spawn(async move { item::Entity::find_by_id(id).one(&reader).await }).await??;
        assert!(found.is_some(), "round {n}");
        assert!(db.scope(&session, item::Entity::find_by_id(id).one(&db)).await?.is_some(), "round {n}");
        // Eventual reads do not find the row: this proves that the replicas would have missed it.
        let stranger = db.session();
        assert!(item::Entity::find_by_id(id).one(&stranger).await?.is_none(), "round {n}: {}", db.topology());
        assert!(db.scope(&stranger, item::Entity::find_by_id(id).one(&db)).await?.is_none(), "round {n}");
        let write_in_scope = item::new("scoped", n).insert(&db);
        let id = db.scope(&stranger, write_in_scope).await?.id;
        assert!(item::Entity::find_by_id(id).one(&stranger).await?.is_some(), "round {n}");
    }
    Ok(())
}

on_each_database!(finds_the_row_of_main, [postgres, mariadb], worker_threads = 2);

on_each_database!(finds_the_row_of_a_task, [postgres, mariadb, mysql], worker_threads = 2);

on_each_database!(finds_the_row_of_a_session_or_scope, [postgres, mariadb, mysql]);

/// Every way to write counts: the first read afterwards goes to the primary.
async fn every_write_raises_the_floor_of_its_session(servers: Servers) -> Result<()> {
    let db = with_paused_replay(&servers).await?;
    let seed = item::new("seed", 0).insert(&servers.plain().await?).await?;
    let count = async |db: &DatabaseConnection| item::Entity::find().count(db).await;
    assert_eq!(count(&db.session()).await?, 0, "the replicas do not know it");
    let insert = "INSERT INTO item (name, amount) VALUES ('raw', 1)";

    let session = db.session();
    session.execute_unprepared(insert).await?;
    assert!(count(&session).await? > 0, "execute_unprepared");
    let session = db.session();
    session.execute_raw(sea_orm::Statement::from_string(servers.backend(), insert)).await?;
    assert!(count(&session).await? > 0, "execute_raw");
    let session = db.session();
    item::new("x", 1).insert(&session.write()).await?;
    assert!(count(&session).await? > 0, "write()");
    assert!(item::Entity::find().count(&session.read()).await? > 0, "read() after write()");
    let session = db.session();
    item::Entity::delete_by_id(seed.id).exec(&session).await?;
    assert!(count(&session).await? > 0, "a delete");

    let session = db.session();
    let transaction = session.begin().await?;
    assert_eq!(count(&session).await?, 0, "begun is not written");
    item::new("x", 1).insert(&transaction).await?;
    transaction.commit().await?;
    assert!(count(&session).await? > 0, "a commit");
    let session = db.session();
    session.begin().await?.rollback().await?;
    assert!(count(&session).await? > 0, "a rollback: some statements commit by themselves");
    let session = db.session();
    drop(session.begin().await?);
    assert!(count(&session).await? > 0, "a transaction that was dropped");
    let session = db.session();
    session.transaction::<_, (), sea_orm::DbErr>(|_| Box::pin(async { Ok(()) })).await?;
    assert!(count(&session).await? > 0, "a closure");
    let session = db.session();
    let mut rows = session
        .stream(&sea_orm::sea_query::Query::select().expr(sea_orm::sea_query::Expr::cust("1")).to_owned())
        .await?;
    while futures_util::TryStreamExt::try_next(&mut rows).await?.is_some() {}
    drop(rows);
    session.read().begin().await?.commit().await?;
    session.execute_unprepared("SELECT 1").await?;
    assert_eq!(count(&session).await?, 0, "reads are no writes, wherever they run");
    // A write whose end the session did not see may still happen.
    let session = db.session();
    let write = session.execute_unprepared(insert);
    let _ = tokio::time::timeout(Duration::ZERO, write).await;
    assert!(count(&session).await? > 0, "a write that was dropped");
    Ok(())
}

on_each_database!(every_write_raises_the_floor_of_its_session, [postgres, mariadb, mysql]);

async fn each_consistency_keeps_its_promise(servers: Servers) -> Result<()> {
    let db = with_paused_replay(&servers).await?;
    let who = servers.who();
    let eventual = db.with_consistency(Consistency::Eventual);
    let elsewhere = servers.plain().await?;
    let strong = db.with_consistency(Consistency::Strong);
    for n in 0..ROUNDS {
        let writer = db.clone();
        let id = tokio::spawn(async move { item::new("x", n).insert(&writer).await.map(|item| item.id) }).await??;
        let find = || item::Entity::find_by_id(id);
        // A session of this round: a session never sees less than it has seen.
        let session = db.session();
        let process = db.session().with_consistency(Consistency::Process);
        assert!(find().one(&db).await?.is_some(), "a plain read sees what another task wrote");
        assert!(find().one(&db.read()).await?.is_some(), "and so does a read connection");
        assert!(find().one(&session).await?.is_none(), "a session that did not write");
        assert!(find().one(&eventual).await?.is_none(), "eventual");
        assert!(find().one(&process).await?.is_some(), "process");
        assert!(find().one(&process.read()).await?.is_some(), "process");
        assert!(find().one(&strong).await?.is_some(), "strong");
        assert_eq!(who.answers(&strong).await?, "primary");
        // A write of another process, of which this one knows nothing.
        let id = item::new("elsewhere", n).insert(&elsewhere).await?.id;
        assert!(item::Entity::find_by_id(id).one(&strong).await?.is_some(), "strong");
        assert!(item::Entity::find_by_id(id).one(&strong.session().read()).await?.is_some(), "strong");
    }
    Ok(())
}

on_each_database!(each_consistency_keeps_its_promise, [postgres, mariadb, mysql]);

/// A handle of an explicit session is lent, and the COMMIT comes long after the statement that SeaORM tells of.
async fn a_lent_commit_is_seen_by_its_session(servers: Servers) -> Result<()> {
    // Without a limit of the lag, which would send the session to the primary for another reason.
    let db = servers.open(servers.builder().primary_read_share(0.0).max_lag(None)).await?;
    let session = db.session();
    let lent = session.primary();
    let transaction = lent.begin().await?;
    item::new("lent", 1).insert(&transaction).await?;
    // Another write, so that the primary's position moves on and the replicas pass the statement's floor.
    item::new("other", 1).insert(&db).await?;
    let who = servers.who();
    wait_until("the session reads from a replica", PATIENCE, async || {
        db.causal_token().await?;
        Ok(who.answers(&session).await?.starts_with("replica"))
    })
    .await?;
    for replica in servers.replicas() {
        replica.pause_replay().await?;
    }
    transaction.commit().await?;
    let rows = async || Ok(item::Entity::find().count(&session).await? == 2);
    wait_until("the session sees its COMMIT", PATIENCE, rows).await
}

on_each_database!(a_lent_commit_is_seen_by_its_session, [postgres, mariadb]);

/// SeaORM reads back the row that it inserted where the database has no RETURNING.
async fn an_eventual_insert_still_gives_its_row_back(servers: Servers) -> Result<()> {
    let db = with_paused_replay(&servers).await?.with_consistency(Consistency::Eventual);
    for n in 0..ROUNDS {
        for db in [&db, &db.session()] {
            let inserted = item::new("mine", n).insert(db).await?;
            assert_eq!(inserted.amount, n);
            let mut changed = inserted.into_active_model();
            changed.amount = Set(n + 1);
            assert_eq!(changed.update(db).await?.amount, n + 1);
        }
        let inserted = item::new("mine", n).insert(&db).await?;
        assert!(item::Entity::find_by_id(inserted.id).one(&db).await?.is_none(), "the program's own read is eventual");
    }
    let task = db.clone();
    tokio::spawn(async move { item::new("task", 1).insert(&task).await }).await??;
    Ok(())
}

on_each_database!(an_eventual_insert_still_gives_its_row_back, [postgres, mariadb, mysql]);

#[tokio::test]
async fn the_writes_of_others_do_not_drive_the_reads_of_a_session_to_the_primary() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = with_paused_replay(&servers).await?;
    let writer = db.clone();
    let writer = tokio::spawn(async move {
        for n in 0.. {
            if item::Entity::insert(item::new("x", n)).exec(&writer).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let who = servers.who();
    tokio::spawn(async move {
        for _ in 0..300 {
            let session = db.session();
            assert!(who.answers(&session).await?.starts_with("replica"));
            assert!(who.answers(&session.read()).await?.starts_with("replica"));
        }
        anyhow::Ok(())
    })
    .await??;
    writer.abort();
    Ok(())
}

#[tokio::test]
async fn an_explicit_session_keeps_its_node_however_it_reads() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.connect().await?;
    let who = servers.who();
    let mut seen = BTreeSet::new();
    for round in 0..40 {
        let session = db.session();
        // Whichever comes first draws for all.
        let first = if round % 2 == 0 { who.answers(&session).await? } else { who.answers(&session.read()).await? };
        for _ in 0..5 {
            assert_eq!(who.answers(&session).await?, first);
            assert_eq!(who.answers(&session.clone().read()).await?, first);
            assert_eq!(session.read().node(), Some(first.clone()));
            let transaction = session.read().begin().await?;
            assert_eq!(transaction.node(), first);
            transaction.commit().await?;
        }
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3, "each session draws for itself: {seen:?}");
    Ok(())
}

async fn answers_in_a_row(db: &DatabaseConnection, who: &Who) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(who.answers(db).await?);
    }
    Ok(seen)
}

#[tokio::test]
async fn a_session_returns_to_the_replicas_when_its_time_has_passed() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db =
        servers.open(servers.builder().primary_read_share(0.0).stick_after_write(Duration::from_millis(300))).await?;
    let who = servers.who();
    assert!(!answers_in_a_row(&db, &who).await?.contains("primary"));
    item::new("x", 1).insert(&db).await?;
    assert_eq!(who.answers(&db).await?, "primary");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert!(!answers_in_a_row(&db, &who).await?.contains("primary"));
    Ok(())
}

#[tokio::test]
async fn another_connection_in_the_same_task_is_another_world() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = with_paused_replay(&servers).await?;
    let other = servers.builder().primary_read_share(0.0).connect().await?;
    item::new("x", 1).insert(&db).await?;
    assert_eq!(servers.who().answers(&db).await?, "primary");
    assert!(servers.who().answers(&other).await?.starts_with("replica"));
    let session = db.session();
    item::new("x", 1).insert(&session).await?;
    assert!(db.scope(&session, servers.who().answers(&other)).await?.starts_with("replica"));
    Ok(())
}
