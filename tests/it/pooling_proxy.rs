//! PgBouncer between the resolver and a server, in session and in transaction mode. PgBouncer refuses the start-up options
//! of read sessions; told to ignore them, it accepts and drops them.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result};
use sea_orm::{ActiveModelTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, Statement, TransactionTrait};
use sea_orm_resolver::{Consistency, DatabaseConnection, Error, NodeConfig};
use testkit::{PgBouncer, PostgresCluster, Server};

use crate::item;

/// The answer of PgBouncer to start-up options that it does not know.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Options {
    Refused,
    Ignored,
}

/// A PgBouncer in front of one server; `mode` is its `pool_mode`.
pub(crate) async fn start_bouncer(server: &Server, mode: &str, options: Options) -> Result<PgBouncer> {
    // In transaction mode all clients share few sessions.
    let sessions = if mode == "session" { "20" } else { "3" };
    let ignored = match options {
        Options::Refused => "extra_float_digits",
        Options::Ignored => "extra_float_digits,options",
    };
    let settings = [
        ("pool_mode", mode),
        ("default_pool_size", sessions),
        ("max_prepared_statements", "100"),
        ("ignore_startup_parameters", ignored),
    ];
    PgBouncer::start(server, &[], &settings).await
}

const INSERT: &str = "INSERT INTO item (name, amount) VALUES ('lost', 1)";

fn sql(text: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, text)
}

async fn with_table(replicas: usize) -> Result<PostgresCluster> {
    let cluster = PostgresCluster::start(replicas).await?;
    let plain = sea_orm::Database::connect(cluster.primary().url()).await?;
    item::create_table(&plain).await?;
    // A function that writes, though the configuration calls it harmless.
    plain
        .execute_unprepared(
            "CREATE FUNCTION write_item() RETURNS int LANGUAGE sql VOLATILE AS \
             $$ INSERT INTO item (name, amount) VALUES ('lost', 1) RETURNING 1 $$;",
        )
        .await?;
    cluster.wait_caught_up().await?;
    Ok(cluster)
}

/// The values of a setting on the server's sessions of the test's user, as another client of the pooler meets them.
async fn met(bouncer: &PgBouncer, setting: &str) -> Result<Vec<String>> {
    let mut values = Vec::new();
    let held: Vec<_> = futures_util::future::try_join_all((0..3).map(async |_| {
        let alone = sea_orm::Database::connect(bouncer.url()).await?;
        Ok::<_, anyhow::Error>(alone.begin().await?)
    }))
    .await?;
    for transaction in &held {
        let row = transaction.query_one_raw(sql(&format!("SELECT current_setting('{setting}')"))).await?;
        values.push(row.context("a row")?.try_get_by_index::<String>(0)?);
    }
    Ok(values)
}

/// Each read of the primary behind a pooler refuses to write, and leaves nothing on the server's sessions. PgBouncer since
/// 1.20 gives `default_transaction_read_only` to the sessions of a client and takes it away again, and refuses other options.
async fn reads_behind_a_pooler_refuse_writes(mode: &str, options: Options) -> Result<()> {
    let cluster = with_table(0).await?;
    let bouncer = start_bouncer(cluster.primary(), mode, options).await?;
    let limit = Duration::from_secs(20);
    // Behind the proxy is the primary itself, so that nothing but the resolver refuses the write.
    let db = DatabaseConnection::builder()
        .primary(NodeConfig::new(cluster.primary().url()).name("primary"))
        .replica(NodeConfig::new(bouncer.url()).name("behind-proxy").role_check(false).statement_timeout(limit))
        .primary_read_share(0.0)
        .harmless_functions(["public.write_item"])
        .connect()
        .await?;
    let read = db.read();
    assert_eq!(read.node().as_deref(), Some("behind-proxy"));
    let transaction = read.begin().await?;
    let raw: &sea_orm::DatabaseTransaction = transaction.as_ref();
    let refused = raw.execute_unprepared(INSERT).await.expect_err("read-only");
    assert!(refused.to_string().contains("read-only transaction"), "{refused}");
    transaction.rollback().await?;
    for round in 0..10 {
        assert_eq!(item::Entity::find().count(&read).await?, 0);
        // A shape of its own: a shape that was refused once is not sent again.
        let calling = sql(&format!("SELECT public.write_item() AS a{round}"));
        let error = read.query_one_raw(calling).await.map(drop).expect_err("it writes");
        let ours = Error::from_db_err(&error).filter(|ours| ours.is_refused()).context("refused")?;
        assert!(std::error::Error::source(ours).is_some(), "the server refused it: {ours}");
    }
    if options == Options::Refused {
        assert_eq!(db.topology().replicas()[0].pooler(), Some("detected"));
        let shown = db.topology().to_string();
        assert!(shown.contains("behind-proxy: behind a pooler (detected)"), "{shown}");
    }
    if mode == "transaction" {
        for setting in ["default_transaction_read_only", "transaction_read_only"] {
            assert_eq!(met(&bouncer, setting).await?, ["off"; 3], "{setting}");
        }
    }
    db.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_pooler_in_session_mode_that_refuses_options_is_detected_and_reads_refuse_writes() -> Result<()> {
    reads_behind_a_pooler_refuse_writes("session", Options::Refused).await
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_that_refuses_options_is_detected_and_reads_refuse_writes() -> Result<()> {
    reads_behind_a_pooler_refuse_writes("transaction", Options::Refused).await
}

#[tokio::test]
async fn reads_refuse_writes_behind_a_pooler_in_transaction_mode_that_ignores_options() -> Result<()> {
    reads_behind_a_pooler_refuse_writes("transaction", Options::Ignored).await
}

/// Writes and reads in turn until the time is over; gives how many were tried and how many failed.
async fn write_and_read(db: &impl ConnectionTrait, times: u32) -> (u32, u32) {
    let failed = AtomicU32::new(0);
    for round in 0..times {
        let written = item::new(format!("row {round}"), 1).insert(db).await.map(drop);
        let read = item::Entity::find().count(db).await.map(drop);
        for ended in [written, read] {
            if let Err(error) = ended {
                failed.fetch_add(1, Relaxed);
                eprintln!("{error}");
            }
        }
    }
    (times * 2, failed.load(Relaxed))
}

/// The program under test and another one share a pooler. `(ours, the other's, the other's afterwards)` failures.
async fn shared_pooler(resolver: bool, options: Options) -> Result<[u32; 3]> {
    let cluster = with_table(1).await?;
    let bouncer = start_bouncer(cluster.primary(), "transaction", options).await?;
    let replica = start_bouncer(cluster.replica(0), "transaction", options).await?;
    let other = sea_orm::Database::connect(bouncer.url()).await?;
    let (ours, others) = if resolver {
        let db = DatabaseConnection::builder()
            .primary(NodeConfig::new(bouncer.url()).name("primary").statement_timeout(Duration::from_secs(20)))
            .replica(NodeConfig::new(replica.url()).name("replica"))
            .primary_read_share(0.5)
            .connect()
            .await?;
        let (read_only, eventual) = (db.read(), db.with_consistency(Consistency::Eventual));
        let reading = async {
            for _ in 0..100 {
                item::Entity::find().count(&read_only).await?;
                item::Entity::find().count(&eventual).await?;
            }
            Ok::<_, sea_orm::DbErr>(())
        };
        let (ours, others, read) = tokio::join!(write_and_read(&db, 200), write_and_read(&other, 200), reading);
        read?;
        db.close().await?;
        (ours, others)
    } else {
        let db = sea_orm::Database::connect(bouncer.url()).await?;
        let both = tokio::join!(write_and_read(&db, 200), write_and_read(&other, 200));
        db.close().await?;
        both
    };
    let afterwards = write_and_read(&other, 200).await;
    assert_eq!(met(&bouncer, "default_transaction_read_only").await?, ["off"; 3]);
    assert_eq!(met(&bouncer, "statement_timeout").await?, ["0"; 3]);
    Ok([ours.1, others.1, afterwards.1])
}

#[tokio::test]
async fn neither_our_writes_nor_another_programs_fail_behind_a_pooler_in_transaction_mode() -> Result<()> {
    assert_eq!(shared_pooler(false, Options::Refused).await?, [0; 3], "SeaORM alone");
    assert_eq!(shared_pooler(true, Options::Refused).await?, [0; 3]);
    assert_eq!(shared_pooler(true, Options::Ignored).await?, [0; 3]);
    Ok(())
}

/// A standby whose role asks for `serializable`, behind a pooler: no setting can override it.
#[tokio::test]
async fn a_standby_behind_a_pooler_serves_reads_though_its_role_asks_for_serializable() -> Result<()> {
    let cluster = with_table(1).await?;
    cluster.primary().execute("ALTER ROLE shop SET default_transaction_isolation = 'serializable'").await?;
    cluster.wait_caught_up().await?;
    let bouncer = start_bouncer(cluster.replica(0), "transaction", Options::Refused).await?;
    let db = DatabaseConnection::builder()
        .primary(NodeConfig::new(cluster.primary().url()).name("primary"))
        .replica(NodeConfig::new(bouncer.url()).name("replica"))
        .primary_read_share(0.0)
        .connect()
        .await?;
    let read = db.read();
    assert_eq!(read.node().as_deref(), Some("replica"), "{}", db.topology());
    for _ in 0..10 {
        item::Entity::find().count(&read).await?;
        let transaction = read.begin().await?;
        item::Entity::find().count(&transaction).await?;
        transaction.commit().await?;
    }
    assert_eq!(read.node().as_deref(), Some("replica"), "{}", db.topology());
    Ok(())
}
