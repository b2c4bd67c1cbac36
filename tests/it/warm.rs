//! Warm connections: no statement waits while a warm connection lies idle, no connection answers another
//! statement's question, and no connection that may be broken is used.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{TryStreamExt, future::join_all};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbBackend, EntityTrait, ExprTrait, PaginatorTrait, Statement, StreamTrait,
    TransactionTrait,
    sea_query::{Expr, Query, SelectStatement},
};
use sea_orm_resolver::{DatabaseConnection, Error, NodeConfig, Ping, ReadConn};
use testkit::{ChaosProxy, PostgresCluster};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    files::SharedFile,
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

const PATIENCE: Duration = Duration::from_secs(15);
/// Longer than any test, so that the monitor causes none of the effects.
const SELDOM: Duration = Duration::from_secs(9);

/// A question whose answer shows that it is its own.
fn echo(number: i32) -> SelectStatement {
    Query::select().expr_as(Expr::val(number).cast_as("CHAR(9)"), "echo").to_owned()
}

async fn echoes(connection: &impl ConnectionTrait, number: i32) -> Result<()> {
    let row = connection.query_one(&echo(number)).await?.context("there is a row")?;
    let answer: String = row.try_get("", "echo")?;
    ensure!(answer.trim() == number.to_string(), "{answer} is the answer to another question than {number}");
    Ok(())
}

/// A read connection to the one replica.
fn on_replica(db: &DatabaseConnection) -> Result<ReadConn> {
    db.set_primary_read_share(0.0)?;
    Ok(db.read())
}

/// The number of connections that ten reads of one task open on a replica that answers late.
async fn connections_of_one_task(servers: &Servers, keep_warm: Duration) -> Result<u64> {
    let proxy = ChaosProxy::start(servers.replica(0).port()).await?;
    let replica = NodeConfig::new(proxy.url(servers.replica(0))).keep_warm(keep_warm);
    let builder = DatabaseConnection::builder().primary(servers.primary_node()).replica(replica);
    let db = builder.probe_interval(SELDOM).connect().await?;
    let read = on_replica(&db)?;
    let of_replica =
        |db: &DatabaseConnection| db.topology().members().nth(1).map_or(0, |member| member.node().probes());
    wait_until("the monitor asks", PATIENCE, async || Ok(of_replica(&db) > 0)).await?;
    tokio::time::sleep(Duration::from_millis(100)).await; // and has its connection
    echoes(&read, 0).await?;
    // With sqlx's ping on the way, the connection is not ready for the next read.
    proxy.set_latency(Duration::from_millis(20));
    let before = proxy.connections();
    for number in 1..=10 {
        echoes(&read, number).await?;
    }
    let opened = proxy.connections() - before;
    db.close().await?;
    Ok(opened)
}

async fn one_task_reads_on_one_connection(servers: Servers) -> Result<()> {
    assert_eq!(connections_of_one_task(&servers, Duration::from_secs(4)).await?, 0);
    let cold = connections_of_one_task(&servers, Duration::ZERO).await?;
    assert!(cold > 0, "sqlx asks a connection that is given back no more? then nothing has to be kept warm");
    Ok(())
}

on_each_database!(one_task_reads_on_one_connection, [postgres, mariadb]);

/// The number of connections that ten writes and ten reads of one task open on a lone primary that answers late.
async fn connections_of_a_writer(servers: &Servers, keep_warm: Duration) -> Result<u64> {
    let proxy = ChaosProxy::start(servers.primary().port()).await?;
    let primary = NodeConfig::new(proxy.url(servers.primary())).keep_warm(keep_warm);
    let db = DatabaseConnection::builder().primary(primary).probe_interval(SELDOM).connect().await?;
    item::new("first", 0).insert(&db).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.set_latency(Duration::from_millis(20));
    let before = proxy.connections();
    for number in 1..=10 {
        let written = item::new("next", number).insert(&db).await?;
        let read = item::Entity::find_by_id(written.id).one(&db).await?;
        assert_eq!(read, Some(written));
    }
    let opened = proxy.connections() - before;
    db.close().await?;
    Ok(opened)
}

async fn one_task_writes_on_one_connection(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    assert_eq!(connections_of_a_writer(&servers, Duration::from_secs(4)).await?, 0);
    assert!(connections_of_a_writer(&servers, Duration::ZERO).await? > 0, "sqlx asks no more?");
    Ok(())
}

on_each_database!(one_task_writes_on_one_connection, [postgres, mariadb]);

/// How many pings ten reads of one task cost a replica, by the server's own count.
async fn pings(servers: &Servers, replica: NodeConfig, ping_after_idle: Duration) -> Result<u64> {
    const PAUSE: Duration = Duration::from_millis(30);
    const PINGS: &str =
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Com_admin_commands'";
    let builder = DatabaseConnection::builder().primary(servers.primary_node()).replica(replica);
    let db = builder.probe_interval(SELDOM).ping_after_idle(ping_after_idle).connect().await?;
    let read = on_replica(&db)?;
    let count = async || Ok::<u64, anyhow::Error>(servers.replica(0).query_scalar(PINGS).await?.parse()?);
    echoes(&read, 0).await?;
    tokio::time::sleep(PAUSE * 10).await;
    let before = count().await?;
    for number in 1..=10 {
        echoes(&read, number).await?;
        // The ping of giving the connection back has come and gone by then.
        tokio::time::sleep(PAUSE).await;
    }
    tokio::time::sleep(PAUSE * 10).await;
    let pings = count().await? - before;
    db.close().await?;
    Ok(pings)
}

#[tokio::test]
async fn mariadb_a_connection_is_pinged_when_the_node_says_so() -> Result<()> {
    const LONG: Duration = Duration::from_secs(60);
    let servers = Servers::mariadb().await?;
    let node = || servers.replica_node(0);
    let cold = || node().keep_warm(Duration::ZERO);
    for (replica, idle, expected) in [
        (node().keep_warm(LONG), LONG, 0..=0),
        // sqlx's own, each time a connection is given back.
        (cold(), LONG, 10..=10),
        (cold().ping(Ping::Never), Duration::from_millis(1), 10..=10),
        // And ours before it is used, unless it is a new one because the last was still on its way.
        (cold(), Duration::from_millis(1), 15..=20),
        (node().ping(Ping::Always), LONG, 15..=20),
    ] {
        let said = format!("{replica:?}, {idle:?}");
        let pings = pings(&servers, replica, idle).await?;
        assert!(expected.contains(&pings), "{pings} and not {expected:?}: {said}");
    }
    Ok(())
}

/// Many tasks on few connections, whose reads are dropped at any moment.
async fn check_dropped_reads(db: &DatabaseConnection) -> Result<()> {
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let db = db.clone();
        tasks.spawn(async move {
            for turn in 0..150 {
                let number = task * 1_000 + turn;
                // Some end, some are dropped on their way there, most of them at another place each time.
                let _ = timeout(Duration::from_micros(u64::try_from(turn)? * 20), echoes(&db, -number)).await;
                echoes(&db, number).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

fn few(servers: &Servers) -> Result<sea_orm_resolver::Builder> {
    let few = |node: NodeConfig| node.max_connections(3).acquire_timeout(PATIENCE);
    let builder = DatabaseConnection::builder().primary(few(servers.primary_node()));
    Ok(builder.replica(few(servers.replica_node(0))).read_selection_timeout(PATIENCE))
}

async fn no_read_gets_the_answer_of_a_dropped_one(servers: Servers) -> Result<()> {
    check_dropped_reads(&few(&servers)?.connect().await?).await
}

on_each_database!(no_read_gets_the_answer_of_a_dropped_one, [postgres, mariadb], worker_threads = 2);

/// Each statement is a new one for its connection, so the server prepares it first.
async fn no_read_gets_the_answer_of_one_that_was_dropped_while_it_was_prepared(servers: Servers) -> Result<()> {
    let proxy = ChaosProxy::start(servers.primary().port()).await?;
    // No other node can give the right answer.
    let alone = NodeConfig::new(proxy.url(servers.primary())).max_connections(1).acquire_timeout(PATIENCE);
    let db = DatabaseConnection::builder().primary(alone).connect().await?;
    echoes(&db, 0).await?;
    proxy.set_latency(Duration::from_millis(10));
    for number in 1..=12 {
        let values = [number.into()];
        let (cast, mark) = if servers.backend() == DbBackend::Postgres { ("text", "$1") } else { ("char(9)", "?") };
        let sql = format!("SELECT CAST({mark} AS {cast}) AS dropped_{number}, 1 AS one");
        let dropped = db.query_one_raw(Statement::from_sql_and_values(servers.backend(), sql, values));
        drop(timeout(Duration::from_millis(u64::try_from(number)? * 4), dropped).await);
        for again in [number, -number] {
            echoes(&db, again).await?;
        }
    }
    Ok(())
}

on_each_database!(
    no_read_gets_the_answer_of_one_that_was_dropped_while_it_was_prepared,
    [postgres, mariadb, mysql],
    worker_threads = 2
);

/// sqlx does not know that the answer to a dropped ping of MySQL is still to come, and takes it for that of the next one.
async fn no_read_gets_the_answer_of_a_dropped_ping(servers: Servers) -> Result<()> {
    let proxy = ChaosProxy::start(servers.primary().port()).await?;
    let alone = NodeConfig::new(proxy.url(servers.primary())).max_connections(1).acquire_timeout(PATIENCE);
    let builder = DatabaseConnection::builder().primary(alone).ping_after_idle(Duration::from_millis(1));
    let db = builder.connect().await?;
    for number in 1..=12 {
        proxy.set_latency(Duration::ZERO);
        echoes(&db, number).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        proxy.set_latency(Duration::from_millis(50));
        let patience = Duration::from_millis(20);
        if number % 2 == 0 {
            drop(timeout(patience, db.ping()).await);
        } else {
            drop(timeout(patience, echoes(&db, number)).await); // after the ping of a connection that rested
        }
        for again in [number, -number] {
            echoes(&db, again).await?;
        }
    }
    Ok(())
}

on_each_database!(no_read_gets_the_answer_of_a_dropped_ping, [postgres, mariadb, mysql], worker_threads = 2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_no_read_gets_the_answer_of_a_dropped_one() -> Result<()> {
    let file = SharedFile::new().await?;
    check_dropped_reads(&file.builder().connect().await?).await?;
    let alone = DatabaseConnection::builder().primary(file.node("alone").max_connections(3));
    check_dropped_reads(&alone.connect().await?).await
}

fn few_alone(servers: &Servers) -> sea_orm_resolver::Builder {
    DatabaseConnection::builder().primary(servers.primary_node().max_connections(3).acquire_timeout(PATIENCE))
}

async fn nor_on_the_connections_for_writes(servers: Servers) -> Result<()> {
    check_dropped_reads(&few_alone(&servers).connect().await?).await
}

on_each_database!(nor_on_the_connections_for_writes, [postgres, mariadb], worker_threads = 2);

/// Many tasks on few connections, whose writes are dropped at any moment: each is there once or not at all, and what
/// was answered is there.
async fn check_dropped_writes(db: &DatabaseConnection) -> Result<()> {
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let db = db.clone();
        tasks.spawn(async move {
            let mut answered = Vec::new();
            for turn in 0..60 {
                let number = task * 1_000 + turn;
                let dropped = Duration::from_micros(u64::try_from(turn)? * 40);
                if timeout(dropped, item::new("perhaps", number).insert(&db)).await.is_ok_and(|done| done.is_ok()) {
                    answered.push(number);
                }
                let written = item::new("surely", -number - 1).insert(&db).await?;
                ensure!(written.amount == -number - 1, "the row of another write: {written:?}");
                answered.push(-number - 1);
            }
            Ok(answered)
        });
    }
    let mut answered = Vec::new();
    while let Some(task) = tasks.join_next().await {
        answered.extend(task??);
    }
    // A dropped write may still be on its way.
    let count = async || item::Entity::find().count(&db.write()).await;
    wait_until("nothing is on its way", PATIENCE, async || {
        let before = count().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(count().await? == before)
    })
    .await?;
    let mut there: Vec<i32> = item::Entity::find().all(&db.write()).await?.iter().map(|item| item.amount).collect();
    there.sort_unstable();
    ensure!(there.windows(2).all(|pair| pair[0] != pair[1]), "a write came twice");
    answered.retain(|number| there.binary_search(number).is_err());
    ensure!(answered.is_empty(), "answered, and not there: {answered:?}");
    Ok(())
}

async fn no_write_is_lost_or_comes_twice(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    check_dropped_writes(&few_alone(&servers).connect().await?).await
}

on_each_database!(no_write_is_lost_or_comes_twice, [postgres, mariadb], worker_threads = 2);

/// Reads, streams and transactions that share one connection: each waits for the one before, and none for a warm
/// connection.
async fn check_reads_on_one_connection(db: &DatabaseConnection) -> Result<()> {
    let reads = (0..6).map(async |kind| {
        let read = on_replica(db)?;
        for turn in 0..20 {
            match kind % 3 {
                0 => echoes(&read, turn).await?,
                1 => {
                    let rows: Vec<_> = read.stream(&echo(turn)).await?.try_collect().await?;
                    ensure!(rows.len() == 1);
                }
                _ => {
                    let transaction = read.begin().await?;
                    echoes(&transaction, turn).await?;
                    transaction.commit().await?;
                }
            }
        }
        anyhow::Ok(())
    });
    for result in timeout(PATIENCE * 4, join_all(reads)).await? {
        result?;
    }
    Ok(())
}

fn one(servers: &Servers) -> sea_orm_resolver::Builder {
    let replica = servers.replica_node(0).max_connections(1).acquire_timeout(PATIENCE);
    let builder = DatabaseConnection::builder().primary(servers.primary_node()).replica(replica);
    builder.read_selection_timeout(PATIENCE)
}

async fn one_connection_serves_all_kinds_of_reads(servers: Servers) -> Result<()> {
    check_reads_on_one_connection(&one(&servers).connect().await?).await
}

on_each_database!(one_connection_serves_all_kinds_of_reads, [postgres, mariadb], worker_threads = 2);

/// Writes, streams and transactions that share one connection, now and then with a user of SeaORM's own handle:
/// none waits while a warm connection lies idle.
async fn check_writes_on_one_connection(db: &DatabaseConnection) -> Result<()> {
    let writers = (0..8).map(async |kind| {
        for turn in 0..20 {
            let number = kind * 100 + turn;
            match kind % 4 {
                0 => drop(item::new("plain", number).insert(db).await?),
                1 => {
                    let rows: Vec<_> = db.write().stream(&echo(turn)).await?.try_collect().await?;
                    ensure!(rows.len() == 1);
                }
                2 => {
                    let transaction = db.begin().await?;
                    item::new("inside", number).insert(&transaction).await?;
                    transaction.commit().await?;
                }
                _ => drop(item::new("by hand", number).insert(&db.primary()).await?),
            }
        }
        anyhow::Ok(())
    });
    for result in timeout(PATIENCE * 4, join_all(writers)).await? {
        result?;
    }
    ensure!(item::Entity::find().count(&db.write()).await? == 6 * 20);
    Ok(())
}

fn one_alone(servers: &Servers) -> sea_orm_resolver::Builder {
    // Longer than a test may take: a task that waits for a warm connection fails the test.
    let keep = PATIENCE * 5;
    let primary = servers.primary_node().max_connections(1).acquire_timeout(PATIENCE).keep_warm(keep);
    DatabaseConnection::builder().primary(primary).ping_after_idle(keep)
}

async fn one_connection_serves_all_kinds_of_writes(servers: Servers) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    check_writes_on_one_connection(&one_alone(&servers).connect().await?).await
}

on_each_database!(one_connection_serves_all_kinds_of_writes, [postgres, mariadb], worker_threads = 2);

/// A refusal costs no connection for writes: the state of its session, here all of the database, is meant to stay.
#[tokio::test]
async fn a_database_in_memory_survives_a_write_that_it_refuses() -> Result<()> {
    let db = DatabaseConnection::builder().primary(NodeConfig::new("sqlite::memory:")).connect().await?;
    item::create_table(&db).await?;
    item::new("before", 1).insert(&db).await?;
    db.execute_unprepared("PRAGMA query_only = ON").await?;
    item::new("refused", 2).insert(&db).await.expect_err("the database takes no writes now");
    db.execute_unprepared("PRAGMA query_only = OFF").await?;
    item::new("after", 3).insert(&db).await?;
    assert_eq!(item::Entity::find().count(&db).await?, 2);
    Ok(())
}

/// The first of many rows is asked for, and the rest is on its way when the next read begins.
#[tokio::test]
async fn mariadb_rows_that_no_task_waits_for_delay_no_other_read() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let db = one(&servers).connect().await?;
    let read = on_replica(&db)?;
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                SELECT i, REPEAT('x', 200) FROM n";
    for turn in 0..20 {
        let statement = Statement::from_string(servers.backend(), many);
        let row = read.query_one_raw(statement).await?.context("there is a row")?;
        assert_eq!(row.try_get_by_index::<i64>(0)?, 1);
        echoes(&read, turn).await?;
    }
    Ok(())
}

/// A warm connection goes back to its pool, whose own rules then hold for the connection.
#[tokio::test]
async fn postgres_idle_connections_are_closed_as_the_pool_is_told() -> Result<()> {
    let servers = Servers::postgres().await?;
    let replica = servers.replica_node(0).idle_timeout(Duration::from_secs(1)).keep_warm(Duration::from_millis(100));
    let db = DatabaseConnection::builder().primary(servers.primary_node()).replica(replica).connect().await?;
    let read = on_replica(&db)?;
    let probe = 1;
    wait_until("one reads and one probes", PATIENCE, async || {
        echoes(&read, 1).await?;
        Ok(servers.connections(servers.replica(0)).await? > probe)
    })
    .await?;
    wait_until("idle connections are closed", PATIENCE, async || {
        Ok(servers.connections(servers.replica(0)).await? == probe)
    })
    .await
}

/// A program that stands still between two reads: none of its code runs, and meanwhile its connection is cut off.
#[test]
fn postgres_a_connection_that_broke_while_the_program_stood_still_is_not_used() -> Result<()> {
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let cluster = servers.block_on(PostgresCluster::start(0))?;
    let program = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let db = program.block_on(async {
        let db = DatabaseConnection::builder()
            .primary(cluster.primary().url())
            .ping_after_idle(Duration::from_millis(200))
            .connect()
            .await?;
        echoes(&db.read(), 1).await?;
        anyhow::Ok(db)
    })?;
    servers.block_on(
        cluster
            .primary()
            .query_scalar("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'shop'"),
    )?;
    std::thread::sleep(Duration::from_millis(300));
    program.block_on(echoes(&db.read(), 2))?;
    program.block_on(db.close())?;
    Ok(())
}

/// sqlx gives a connection back by a task, which needs a runtime.
#[test]
fn the_last_handle_may_be_dropped_where_no_runtime_is() -> Result<()> {
    let program = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let file = program.block_on(SharedFile::new())?;
    let opened = || {
        program.block_on(async {
            let db = file.builder().connect().await?;
            for number in 0..20 {
                echoes(&db, number).await?;
            }
            anyhow::Ok(db)
        })
    };
    drop(opened()?); // while it runs
    let last = opened()?;
    program.shutdown_background();
    drop(last); // when it is gone
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_pinged_before_every_use_is_not_kept_warm() -> Result<()> {
    let file = SharedFile::new().await?;
    let both = file.node("reader").ping(Ping::Always).keep_warm(Duration::from_secs(1));
    let error = file.builder().replica(both).connect().await.expect_err("the two contradict each other");
    let error = Error::from_db_err(&error).context("it is ours")?;
    assert!(error.to_string().contains("keep_warm"), "{error}");
    let off = file.node("reader").ping(Ping::Always).keep_warm(Duration::ZERO);
    file.builder().replica(off).connect().await?.close().await?;
    Ok(())
}
