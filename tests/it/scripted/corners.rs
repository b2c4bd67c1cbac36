//! Traps that were found by reading, each with the former behaviour.

use std::{sync::Arc, time::Duration};

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectOptions, Database as SeaOrm, DbBackend, DbErr};
use sea_orm_resolver::{Consistency, Database, DatabaseConnection, Error, Health, WeightedRandom};
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time;

use super::{Nodes, STICK, ended, health, in_task, refuse_probes, until_health, who, write};
use crate::item;

/// The alarm of a primary stayed raised when the last replica left, and with it the monitor.
#[tokio::test(start_paused = true)]
async fn a_primary_that_was_down_serves_reads_again_without_a_probe() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.primary.kill();
    until_health(&db, "p", Health::Down).await;
    db.swap_replicas(Vec::<String>::new()).await?;
    nodes.primary.recover();
    // An answer that has to be waited for: an answer at once is not raced with the alarm.
    nodes.primary.on(Step::QueryOne, Behaviour::Slow(Duration::from_millis(1)));
    assert_eq!(health(&db, "p"), Health::Up);
    assert_eq!(who(&db.read()).await?, "p");
    assert_eq!(who(&db).await?, "p");
    Ok(())
}

/// A handle took the session of the task that made it along into the tasks that used it.
#[tokio::test(start_paused = true)]
async fn a_write_through_any_handle_is_seen_by_every_task() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let shared = Arc::new(db.write());
    let reader = Arc::new(db.read());
    let from_replica = who(reader.as_ref()).await?;
    assert_ne!(from_replica, "p");
    in_task({
        let (db, shared, reader) = (db.clone(), Arc::clone(&shared), Arc::clone(&reader));
        async move {
            write(shared.as_ref()).await?;
            assert_eq!(who(&db).await?, "p", "the task that wrote");
            assert_eq!(who(reader.as_ref()).await?, "p", "through a handle that another task made");
            Ok::<_, DbErr>(())
        }
    })
    .await?;
    assert_eq!(who(&db).await?, "p", "another task");
    assert_ne!(who(&db.session()).await?, "p", "a session of its own");
    Ok(())
}

/// The retry budget failed the reads of a lost node beyond the hundredth.
#[tokio::test(start_paused = true)]
async fn all_that_a_lost_node_ran_moves_however_much_it_is() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    // Least in-flight would notice the slow node, and send it one read only.
    let db = nodes.connected(nodes.builder().policy(WeightedRandom)).await?;
    nodes.replicas[0].on(Step::QueryOne, Behaviour::Never);
    let reads: Vec<_> = (0..600)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { who(&db).await })
        })
        .collect();
    nodes.replicas[0].reached(Step::QueryOne, 200).await;
    refuse_probes(&nodes.replicas[0]);
    for read in reads {
        assert_eq!(ended(read).await?, "r2");
    }
    Ok(())
}

/// A read that had to run on the primary waited a second and then said that no node was eligible.
#[tokio::test(start_paused = true)]
async fn a_read_that_only_the_primary_may_serve_runs_on_it_once_more() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    write(&db).await?;
    nodes.primary.once(Step::QueryOne, Behaviour::Fail(fault::reset()));
    let before = time::Instant::now();
    assert_eq!(who(&db).await?, "p");
    assert_eq!(before.elapsed(), Duration::ZERO);
    Ok(())
}

/// Alone, `db.read()` ran a failed statement again on the same node.
#[tokio::test(start_paused = true)]
async fn without_replicas_nothing_is_run_again() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(0);
    let db = nodes.connect().await?;
    nodes.primary.on(Step::QueryOne, Behaviour::Fail(fault::reset()));
    who(&db.read()).await.expect_err("it fails");
    who(&db).await.expect_err("it fails");
    assert_eq!(nodes.primary.count(Step::QueryOne), 2);
    Ok(())
}

/// With no time to stick, SeaORM's read-back of a row it had just inserted went to a replica.
#[tokio::test(start_paused = true)]
async fn a_read_back_finds_its_row_though_writes_stick_for_no_time() -> Result<(), DbErr> {
    for consistency in [Consistency::Session, Consistency::Process, Consistency::Eventual] {
        let nodes = Nodes::speaking(DbBackend::MySql, 1);
        let db = nodes.builder().stick_after_write(Duration::ZERO).consistency(consistency).connect().await?;
        let inserted = item::ActiveModel { name: Set("x".to_owned()), amount: Set(1), ..Default::default() };
        assert_eq!(inserted.insert(&db).await?.name, "p", "{consistency}");
        assert_eq!(who(&db).await?, "r1", "{consistency}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_primary_is_not_drained() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    assert!(db.drain("p").await.expect_err("it takes the writes").is_config());
    write(&db).await?;
    time::sleep(STICK).await;
    db.drain("r1").await?;
    assert_eq!(who(&db).await?, "p");
    db.resume("r1")?;
    assert_eq!(who(&db).await?, "r1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn probes_can_be_put_off_for_ever() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.builder().probe_interval(Duration::MAX).connect().await?;
    time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(who(&db).await?, "r1");
    assert!(nodes.replicas[0].count(Step::ProbeAsk) <= 2, "what connect and the monitor asked first");
    Ok(())
}

/// A mock was wrapped in a plain function, without a runtime that keeps time.
#[test]
fn an_open_connection_is_adopted_outside_of_a_runtime() {
    let mock = sea_orm::MockDatabase::new(DbBackend::Postgres).into_connection();
    let db = DatabaseConnection::from(mock);
    assert_eq!(db.topology().replicas().len(), 0);
}

/// Members that are mocks cannot be asked; the monitor counted that against them.
#[tokio::test(start_paused = true)]
async fn mocks_stay_up_as_members() -> Result<(), DbErr> {
    let mock = || sea_orm::MockDatabase::new(DbBackend::Postgres).into_connection();
    let db = DatabaseConnection::builder().primary(mock()).replica(mock()).connect().await?;
    time::sleep(Duration::from_secs(60)).await;
    assert!(db.topology().members().all(|member| member.health() == Health::Up), "{}", db.topology());
    Ok(())
}

/// SeaORM does not know `mariadb://` and repeats the URL in its error.
#[tokio::test]
async fn a_url_that_seaorm_would_repeat_is_refused_without_its_password() -> Result<(), DbErr> {
    let url = "mariadb://shop:hunter2@127.0.0.1:1/shop";
    let leak = SeaOrm::connect(ConnectOptions::new(url)).await.expect_err("no such scheme");
    assert!(leak.to_string().contains("hunter2"), "or the check is not needed any more");
    let error = Database::connect(ConnectOptions::new(url)).await.expect_err("refused");
    assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error}");
    assert_eq!(Error::from_db_err(&error).and_then(Error::field), Some("primary.url"));
    Ok(())
}

/// A strong read connection was sent to the read-write pool, where its statements could write.
#[tokio::test]
async fn a_strong_read_connection_stays_on_read_only_sessions() -> anyhow::Result<()> {
    use sea_orm::{ConnectionTrait, TransactionTrait};

    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
    let db = DatabaseConnection::builder().primary(&url).replica(&url).connect().await?;
    db.execute_unprepared("CREATE TABLE t (id INTEGER)").await?;
    let transaction = db.with_consistency(Consistency::Strong).read().begin().await?;
    transaction.execute_unprepared("INSERT INTO t VALUES (1)").await.expect_err("read-only");
    Ok(())
}
