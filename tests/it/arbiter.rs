//! Statements that no reading of their text shows to be writes, on real servers: they do their work
//! once, on the primary, and leave nothing behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use sea_orm::{AccessMode, ConnectionTrait, EntityTrait, PaginatorTrait, Statement, StreamTrait, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, Error};

use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A view whose every read takes a lock, writes an item, and gives the lock back. Refused half-way, the lock
/// stays with the session.
async fn create_hidden_writer(servers: &Servers, db: &DatabaseConnection) -> Result<()> {
    let primary = servers.primary();
    match servers {
        Servers::Postgres(_) => {
            for statement in [
                // The names of the lock functions are put together, so that no reader of the text finds them.
                "CREATE FUNCTION take() RETURNS void LANGUAGE plpgsql VOLATILE SET lock_timeout = '20s' AS $$ \
                 BEGIN EXECUTE 'SELECT pg_ad' || 'visory_lock(7)'; END $$",
                "CREATE FUNCTION give() RETURNS void LANGUAGE plpgsql VOLATILE AS $$ \
                 BEGIN EXECUTE 'SELECT pg_ad' || 'visory_unlock(7)'; END $$",
                "CREATE FUNCTION add_item() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ \
                 BEGIN INSERT INTO item (name, amount) VALUES ('hidden', 1); RETURN 41; END $$",
                "CREATE FUNCTION mislabelled() RETURNS int LANGUAGE plpgsql STABLE AS $$ \
                 DECLARE result int; BEGIN PERFORM take(); result := add_item(); PERFORM give(); \
                 RETURN result; END $$",
            ] {
                primary.execute(statement).await?;
            }
        }
        Servers::MariaDb(_) | Servers::MySql(_) => {
            primary
                .execute(
                    "CREATE FUNCTION mislabelled() RETURNS INT DETERMINISTIC READS SQL DATA BEGIN \
                     DO GET_LOCK('seven', 0); INSERT INTO item (name, amount) VALUES ('hidden', 1); \
                     DO RELEASE_LOCK('seven'); RETURN 41; END",
                )
                .await?;
        }
    }
    db.primary().execute_unprepared("CREATE VIEW hidden AS SELECT mislabelled() AS answer").await?;
    servers.wait_caught_up().await
}

/// The locks that sessions hold on all servers.
async fn locks(servers: &Servers) -> Result<u64> {
    let sql = match servers {
        Servers::Postgres(_) => "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        Servers::MariaDb(_) | Servers::MySql(_) => "SELECT IF(IS_USED_LOCK('seven') IS NULL, 0, 1)",
    };
    let mut count = 0;
    for server in servers.servers() {
        count += server.query_scalar(sql).await?.parse::<u64>()?;
    }
    Ok(count)
}

async fn answer(db: &impl ConnectionTrait, sql: &str) -> Result<i32> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    Ok(row.context("a row")?.try_get_by_index(0)?)
}

/// Runs the view's read a thousand times from ten tasks, as one shape or as a hundred; on replicas, or on the
/// primary's read-only sessions.
async fn a_hidden_write_is_done_as_often_as_it_is_asked_for(servers: Servers) -> Result<()> {
    const TASKS: usize = 10;
    const RUNS: usize = 100;
    let db = servers.connect().await?;
    create_hidden_writer(&servers, &db).await?;
    let mut expected = 0;
    for (share, shapes) in [(0.0, 1), (1.0, 1), (0.5, 100)] {
        let db = servers.builder().primary_read_share(share).connect().await?;
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let db = db.clone();
            tasks.spawn(async move {
                for run in 0..RUNS {
                    // Sessions that have not written, so that each may read from anywhere.
                    let sql = format!("SELECT answer AS a{} FROM hidden", (task * RUNS + run) % shapes);
                    ensure!(answer(&db.session(), &sql).await? == 41);
                }
                Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        expected += (TASKS * RUNS) as u64;
        assert_eq!(item::Entity::find().count(&db.primary()).await?, expected, "share {share}, {shapes} shapes");
        let overruled = db.reads_rerun_on_primary();
        assert!(overruled >= shapes as u64, "each shape is refused once: {overruled}");
        assert!(overruled <= (TASKS * shapes) as u64, "and then known: {overruled}");
        wait_until("no session holds a lock", PATIENCE, async || Ok(locks(&servers).await? == 0)).await?;
        db.close().await?;
    }
    Ok(())
}

on_each_database!(a_hidden_write_is_done_as_often_as_it_is_asked_for, [postgres, mariadb, mysql]);

/// A statement that is refused for good, to read connections and in READ ONLY transactions, leaves no lock either.
async fn a_statement_that_stays_refused_leaves_no_lock(servers: Servers) -> Result<()> {
    let db = servers.connect().await?;
    create_hidden_writer(&servers, &db).await?;
    for (run, share) in [0.0, 1.0].into_iter().enumerate() {
        db.set_primary_read_share(share)?;
        let refused = |error: &sea_orm::DbErr| Error::from_db_err(error).is_some_and(Error::is_refused);
        let sql = |way| format!("SELECT answer AS {way}_{run} FROM hidden");
        let statement = |way| Statement::from_string(db.get_database_backend(), sql(way));

        let error = db.read().query_one_raw(statement("one")).await.expect_err("it writes");
        assert!(refused(&error), "{error}");
        let rows = async { db.read().stream_raw(statement("stream")).await?.try_collect::<Vec<_>>().await };
        let error = rows.await.expect_err("it writes");
        assert!(refused(&error), "{error}");
        let transaction = db.session().begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
        let error = transaction.query_all_raw(statement("transaction")).await.expect_err("it writes");
        assert!(refused(&error), "{error}");
        drop(transaction);
        wait_until("no session holds a lock", PATIENCE, async || Ok(locks(&servers).await? == 0)).await?;
    }
    assert_eq!(item::Entity::find().count(&db.primary()).await?, 0);
    Ok(())
}

/// A function that says it needs the primary, and takes a lock before the server refuses its write.
#[tokio::test]
async fn postgres_a_statement_refused_half_way_in_a_transaction_leaves_no_lock() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    db.primary().execute_unprepared("CREATE SEQUENCE s").await?;
    servers.wait_caught_up().await?;
    for sql in [
        "SELECT pg_advisory_lock(7), nextval('s')",
        "DO $$ BEGIN PERFORM pg_advisory_lock(7); PERFORM nextval('s'); END $$",
    ] {
        let transaction = db.session().begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
        let half_way = Statement::from_string(db.get_database_backend(), sql);
        let error = transaction.execute_raw(half_way).await.expect_err("it writes");
        assert!(Error::from_db_err(&error).is_some_and(Error::is_refused), "{sql}: {error}");
        assert_eq!(locks(&servers).await?, 1, "{sql}: the server took the lock, or there is nothing to clear away");
        drop(transaction);
        wait_until("no session holds a lock", PATIENCE, async || Ok(locks(&servers).await? == 0)).await?;
    }
    Ok(())
}

/// On a connection for writes no server refuses a write that a read hides.
async fn a_write_hidden_in_a_read_of_a_write_connection_counts(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    create_hidden_writer(&servers, &db).await?;
    servers.pause_replay().await?;
    for session in [db.clone(), db.session()] {
        let before = item::Entity::find().count(&db.primary()).await?;
        assert_eq!(answer(&session.write(), "SELECT answer FROM hidden").await?, 41);
        assert_eq!(item::Entity::find().count(&session).await?, before + 1, "the session wrote, and reads it");
    }
    servers.resume_replay().await
}

on_each_database!(a_write_hidden_in_a_read_of_a_write_connection_counts, [postgres, mariadb]);

on_each_database!(a_statement_that_stays_refused_leaves_no_lock, [postgres, mariadb, mysql]);

#[tokio::test]
async fn postgres_an_unlogged_table_is_read_from_the_primary() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    db.primary().execute_unprepared("CREATE UNLOGGED TABLE cache AS SELECT 41 AS answer").await?;
    servers.wait_caught_up().await?;
    for _ in 0..3 {
        assert_eq!(answer(&db.session(), "SELECT answer FROM cache").await?, 41);
        // Of a session: a plain read would wait for what the refused read raised, and perhaps run on the primary at once.
        let read = db.session().read();
        assert_eq!(answer(&read, "SELECT answer FROM cache WHERE answer > 0").await?, 41);
        let rows = db.session().stream_raw(Statement::from_string(db.get_database_backend(), "TABLE cache")).await?;
        assert_eq!(rows.try_collect::<Vec<_>>().await?.len(), 1);
    }
    assert_eq!(db.reads_rerun_on_primary(), 3, "once for each shape");
    Ok(())
}

/// The catalogue says which user functions only read.
#[tokio::test]
async fn postgres_user_functions_run_where_their_labels_allow() -> Result<()> {
    let servers = Servers::postgres().await?;
    for statement in [
        "CREATE SCHEMA shop_math",
        "CREATE FUNCTION public.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'",
        "CREATE FUNCTION public.items() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM pg_class'",
        "CREATE FUNCTION public.rolled() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 4'",
        "CREATE FUNCTION public.mixed(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
        "CREATE FUNCTION public.mixed(text) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'",
        "CREATE FUNCTION shop_math.\"Odd\"(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
        "CREATE FUNCTION public.locks() RETURNS bool LANGUAGE sql STABLE AS 'SELECT pg_try_advisory_lock(1)'",
        "CREATE FUNCTION public.atomic() RETURNS bool LANGUAGE sql STABLE \
         BEGIN ATOMIC SELECT pg_try_advisory_lock(1); END",
        "CREATE FUNCTION public.calls_rolled() RETURNS int LANGUAGE sql STABLE AS 'SELECT rolled()'",
        "CREATE FUNCTION public.deeper() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1 + calls_rolled()'",
        "CREATE FUNCTION public.opens() RETURNS text LANGUAGE sql STABLE AS \
         $$ SELECT set_config('default_transaction_read_only', 'off', false) $$",
        "CREATE FUNCTION public.format(int, int) RETURNS text LANGUAGE sql VOLATILE AS \
         'SELECT pg_try_advisory_lock($1)::text'",
        "CREATE AGGREGATE public.total(int) (SFUNC = int4pl, STYPE = int)",
        "CREATE FUNCTION public.noisy(int, int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1 + $2'",
        "CREATE AGGREGATE public.noisy_total(int) (SFUNC = noisy, STYPE = int)",
        "GRANT USAGE ON SCHEMA shop_math TO PUBLIC",
    ] {
        servers.primary().execute(statement).await?;
    }
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    let on_replica = async |call: &str| -> Result<bool> {
        let sql = format!("SELECT pg_is_in_recovery()::int, {call}");
        Ok(answer(&db.session(), &sql).await? == 1)
    };
    wait_until("the functions are listed", PATIENCE, async || on_replica("twice(1)").await).await?;
    for call in ["public.twice(1)", "Items()", "shop_math.\"Odd\"(1)", "total(1)", "lower('A')"] {
        assert!(on_replica(call).await?, "{call}");
    }
    for call in [
        "rolled()",
        "mixed(1)",
        "locks()",
        "atomic()",
        "noisy_total(1)",
        "calls_rolled()",
        "deeper()",
        "opens()",
        "format(1, 2)",
        "pg_try_advisory_lock(1)",
    ] {
        assert!(!on_replica(call).await?, "{call}");
    }
    servers
        .primary()
        .execute("CREATE FUNCTION public.young() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'")
        .await?;
    servers.wait_caught_up().await?;
    wait_until("an unknown function is asked for", PATIENCE, async || on_replica("young()").await).await
}
