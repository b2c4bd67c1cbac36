//! Sessions for reads are read-only *in the database*. These tests bypass the resolver's own refusal: through
//! SeaORM's transaction inside the resolver's, and through functions that the catalogue does not list.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, SqlxMySqlConnector, SqlxPostgresConnector,
    SqlxSqliteConnector, Statement, TransactionTrait,
    sqlx::{mysql::MySqlPoolOptions, postgres::PgPoolOptions, sqlite::SqlitePoolOptions},
};
use sea_orm_resolver::{DatabaseConnection, DatabaseTransaction, Error, NodeConfig};

use crate::{
    files::SharedFile,
    item,
    servers::{Servers, on_each_database},
};

const HELD: usize = 10;
const INSERT: &str = "INSERT INTO item (name, amount) VALUES ('lost', 1)";

/// The only replica, or the primary's read connections when the share is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
enum On {
    Replica,
    PrimaryReads,
}

async fn one_node_for_reads(primary: NodeConfig, replica: NodeConfig, on: On) -> Result<DatabaseConnection> {
    let held = u32::try_from(HELD)?;
    let db = DatabaseConnection::builder()
        .primary(primary.max_connections(held).name("primary"))
        .replica(replica.max_connections(held).name("replica"))
        .primary_read_connections(held)
        .primary_read_share(if on == On::Replica { 0.0 } else { 1.0 })
        .connect()
        .await?;
    assert_eq!(db.read().node().as_deref(), Some(if on == On::Replica { "replica" } else { "primary" }));
    Ok(db)
}

/// A name for the physical connection, and whether the session says that it is read-only.
async fn session(transaction: &DatabaseTransaction) -> Result<(String, bool)> {
    let raw: &sea_orm::DatabaseTransaction = transaction.as_ref();
    let backend = raw.get_database_backend();
    let sql = match backend {
        // Of the session: the transaction itself was begun READ ONLY, which proves nothing.
        DbBackend::Postgres => "SELECT pg_backend_pid()::text, current_setting('default_transaction_read_only')",
        // The name of the variable in MySQL and in MariaDB.
        DbBackend::MySql => {
            "SELECT CAST(connection_id() AS CHAR), \
             CAST(/*!50708 @@session.transaction_read_only */ /*M!100000 @@session.tx_read_only */ AS CHAR)"
        }
        _ => "SELECT '', CAST(query_only AS TEXT) FROM pragma_query_only",
    };
    let row = raw.query_one_raw(Statement::from_string(backend, sql)).await?.context("a row")?;
    let said: String = row.try_get_by_index(1)?;
    Ok((row.try_get_by_index(0)?, said == "1" || said.eq_ignore_ascii_case("on")))
}

/// Holds every connection of the read-only pool and tries to write on each.
async fn every_connection_refuses(db: &DatabaseConnection, function: Option<&str>) -> Result<BTreeSet<String>> {
    let mut held = Vec::new();
    let mut names = BTreeSet::new();
    for _ in 0..HELD {
        let transaction = db.read().begin().await?;
        let (name, is_read_only) = session(&transaction).await?;
        assert!(is_read_only, "connection {name} of {}", transaction.node());
        names.insert(name);
        held.push(transaction);
    }
    assert_eq!(db.topology().member(held[0].node()).context("a member")?.node().in_flight(), HELD as u64);
    if db.get_database_backend() != DbBackend::Sqlite {
        assert_eq!(names.len(), HELD, "ten physical connections");
    }
    for transaction in &held {
        let raw: &sea_orm::DatabaseTransaction = transaction.as_ref();
        let error = raw.execute_unprepared(INSERT).await.expect_err("it is read-only");
        assert!(Error::from_db_err(&error).is_none(), "the server refused it, not we: {error}");
    }
    // Outside of a transaction, on each connection: nine are held, so the tenth is used.
    for _ in 0..HELD {
        held.remove(0).rollback().await?;
        if let Some(function) = function {
            let call = Statement::from_string(db.get_database_backend(), format!("SELECT {function}()"));
            let error = db.read().query_one_raw(call).await.expect_err("it is read-only");
            assert!(Error::from_db_err(&error).is_some_and(Error::is_refused), "{error}");
        }
        held.push(db.read().begin().await?);
    }
    for transaction in held {
        transaction.rollback().await?;
    }
    assert_eq!(item::Entity::find().count(&db.primary()).await?, 0, "nothing was written");
    Ok(names)
}

/// A function that writes, and of which the resolver knows nothing.
async fn create_function(servers: &Servers) -> Result<&'static str> {
    servers
        .primary()
        .execute(match servers {
            Servers::Postgres(_) => {
                "CREATE FUNCTION write_item() RETURNS int LANGUAGE sql VOLATILE AS \
                 'INSERT INTO item (name, amount) VALUES (''lost'', 1) RETURNING id'"
            }
            Servers::MariaDb(_) | Servers::MySql(_) => {
                "CREATE FUNCTION write_item() RETURNS INT DETERMINISTIC MODIFIES SQL DATA \
                 BEGIN INSERT INTO item (name, amount) VALUES ('lost', 1); RETURN 1; END"
            }
        })
        .await?;
    Ok("write_item")
}

/// Makes nodes of a cluster: `(primary, replica)` from their URLs.
type Nodes<'a> = &'a dyn Fn(&str) -> NodeConfig;

pub(crate) async fn ten_held_connections_refuse_writes(servers: &Servers, node: Nodes<'_>) -> Result<()> {
    item::create_table(&servers.plain().await?).await?;
    let function = create_function(servers).await?;
    servers.wait_caught_up().await?;
    for on in [On::Replica, On::PrimaryReads] {
        let (primary, replica) = (node(&servers.primary().url()), node(&servers.replica(0).url()));
        let db = one_node_for_reads(primary, replica, on).await?;
        every_connection_refuses(&db, Some(function)).await.with_context(|| format!("{on:?}"))?;
    }
    Ok(())
}

async fn ten_held_read_connections_refuse_writes(servers: Servers) -> Result<()> {
    ten_held_connections_refuse_writes(&servers, &|url| url.into()).await
}

on_each_database!(ten_held_read_connections_refuse_writes, [postgres, mariadb]);

#[tokio::test]
async fn postgres_read_connections_with_statements_on_connect_refuse_writes() -> Result<()> {
    let servers = Servers::postgres().await?;
    let node = |url: &str| {
        NodeConfig::new(url).on_connect("SET default_transaction_read_only = off").on_connect("SET a.b = 'c'")
    };
    ten_held_connections_refuse_writes(&servers, &node).await
}

#[tokio::test]
async fn mariadb_read_connections_with_statements_on_connect_refuse_writes() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let node = |url: &str| {
        NodeConfig::new(url)
            .on_connect("SET SESSION TRANSACTION READ WRITE")
            .statement_timeout(std::time::Duration::from_secs(20))
    };
    ten_held_connections_refuse_writes(&servers, &node).await
}

#[tokio::test]
async fn sqlite_ten_held_read_connections_refuse_writes() -> Result<()> {
    let file = SharedFile::new().await?;
    for node in [
        NodeConfig::new(file.url()),
        NodeConfig::new(file.url()).on_connect("PRAGMA query_only = OFF"),
        NodeConfig::new(sea_orm::Database::connect(file.url()).await?),
    ] {
        for on in [On::Replica, On::PrimaryReads] {
            let db = one_node_for_reads(node.clone(), node.clone(), on).await?;
            every_connection_refuses(&db, None).await.with_context(|| format!("{on:?}, {node:?}"))?;
            db.execute_unprepared("DELETE FROM item").await?;
        }
    }
    Ok(())
}

/// A connection that opened before its pool was made read-only would show here, now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_no_connection_slips_in_before_the_pool_is_read_only() -> Result<()> {
    let file = SharedFile::new().await?;
    for _ in 0..40 {
        let db = one_node_for_reads(NodeConfig::new(file.url()), NodeConfig::new(file.url()), On::Replica).await?;
        let mut held = Vec::new();
        for _ in 0..HELD {
            let transaction = db.read().begin().await?;
            assert!(session(&transaction).await?.1);
            held.push(transaction);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_user_with_every_privilege_cannot_write_on_a_mariadb_replica_through_a_read() -> Result<()> {
    let servers = Servers::mariadb().await?;
    item::create_table(&servers.plain().await?).await?;
    let function = create_function(&servers).await?;
    servers.wait_caught_up().await?;
    // The rights of this user on the replica without the resolver.
    let privileged = sea_orm::Database::connect(servers.replica(0).privileged_url()).await?;
    privileged.execute_unprepared("CREATE TABLE on_replica_only (id int)").await?;
    for on in [On::Replica, On::PrimaryReads] {
        let primary = servers.primary().privileged_url();
        let db = one_node_for_reads(primary.into(), servers.replica(0).privileged_url().into(), on).await?;
        every_connection_refuses(&db, Some(function)).await.with_context(|| format!("{on:?}"))?;
    }
    assert_eq!(item::Entity::find().count(&privileged).await?, 0);
    Ok(())
}

/// Counts how often each closure of a user ran.
#[derive(Clone, Default)]
struct Ran {
    opts: Arc<AtomicU64>,
    pool_opts: Arc<AtomicU64>,
    pool_after_connect: Arc<AtomicU64>,
    before_acquire: Arc<AtomicU64>,
    after_connect: Arc<AtomicU64>,
}

fn tick(counter: &Arc<AtomicU64>) -> u64 {
    counter.fetch_add(1, Relaxed)
}

fn postgres_with_closures(url: &str, ran: &Ran) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    let ran = ran.clone();
    options.set_schema_search_path("shelf,public");
    let counter = Arc::clone(&ran.opts);
    options.map_sqlx_postgres_opts(move |opts| {
        tick(&counter);
        opts.application_name("closures").options([("default_transaction_read_only", "off")])
    });
    let counter = Arc::clone(&ran.before_acquire);
    options.map_sqlx_postgres_before_acquire(move |_, _| {
        tick(&counter);
        Box::pin(async { Ok(true) })
    });
    let counter = Arc::clone(&ran.pool_opts);
    options.map_sqlx_postgres_pool_opts(move |pool| {
        tick(&counter);
        pool.test_before_acquire(false)
    });
    after_connect(&mut options, &ran);
    options
}

fn mysql_with_closures(url: &str, ran: &Ran) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    let ran = ran.clone();
    let counter = Arc::clone(&ran.opts);
    options.map_sqlx_mysql_opts(move |opts| {
        tick(&counter);
        opts.pipes_as_concat(false)
    });
    let counter = Arc::clone(&ran.before_acquire);
    options.map_sqlx_mysql_before_acquire(move |_, _| {
        tick(&counter);
        Box::pin(async { Ok(true) })
    });
    let (counter, hook) = (Arc::clone(&ran.pool_opts), Arc::clone(&ran.pool_after_connect));
    options.map_sqlx_mysql_pool_opts(move |pool| {
        tick(&counter);
        let hook = Arc::clone(&hook);
        pool.test_before_acquire(false).after_connect(move |_, _| {
            tick(&hook);
            Box::pin(async { Ok(()) })
        })
    });
    after_connect(&mut options, &ran);
    options
}

fn sqlite_with_closures(url: &str, ran: &Ran) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    let ran = ran.clone();
    let counter = Arc::clone(&ran.opts);
    options.map_sqlx_sqlite_opts(move |opts| {
        tick(&counter);
        opts.pragma("cache_size", "-321")
    });
    let counter = Arc::clone(&ran.before_acquire);
    options.map_sqlx_sqlite_before_acquire(move |_, _| {
        tick(&counter);
        Box::pin(async { Ok(true) })
    });
    let (counter, hook) = (Arc::clone(&ran.pool_opts), Arc::clone(&ran.pool_after_connect));
    options.map_sqlx_sqlite_pool_opts(move |pool| {
        tick(&counter);
        let hook = Arc::clone(&hook);
        pool.after_connect(move |_, _| {
            tick(&hook);
            Box::pin(async { Ok(()) })
        })
    });
    after_connect(&mut options, &ran);
    options
}

/// SeaORM's own hook, which runs a statement and so opens a connection before any other code does.
fn after_connect(options: &mut ConnectOptions, ran: &Ran) {
    let counter = Arc::clone(&ran.after_connect);
    options.after_connect(move |db| {
        tick(&counter);
        Box::pin(async move { db.execute_unprepared("SELECT 1").await.map(drop) })
    });
}

impl Ran {
    fn all_but_the_pool_hook(&self) -> bool {
        [&self.opts, &self.pool_opts, &self.before_acquire, &self.after_connect]
            .into_iter()
            .all(|count| count.load(Relaxed) > 0)
    }
}

#[tokio::test]
async fn postgres_closures_in_every_slot_survive_and_leave_reads_read_only() -> Result<()> {
    let servers = Servers::postgres().await?;
    servers.primary().execute("CREATE SCHEMA shelf; CREATE TABLE shelf.book (title text)").await?;
    item::create_table(&servers.plain().await?).await?;
    let function = create_function(&servers).await?;
    servers.wait_caught_up().await?;
    for on in [On::Replica, On::PrimaryReads] {
        let ran = Ran::default();
        let node = |url: &str| NodeConfig::new(postgres_with_closures(url, &ran));
        let (primary, replica) = (node(&servers.primary().url()), node(&servers.replica(0).url()));
        let db = one_node_for_reads(primary, replica, on).await?;
        every_connection_refuses(&db, Some(function)).await.with_context(|| format!("{on:?}"))?;
        assert!(ran.all_but_the_pool_hook());
        let read = db.read();
        let ask = async |sql: &str| {
            let row = read.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?.context("a row")?;
            anyhow::Ok(row.try_get_by_index::<String>(0)?)
        };
        assert_eq!(ask("SELECT current_setting('application_name')").await?, "closures");
        assert!(ask("SELECT current_setting('search_path')").await?.contains("shelf"));
        ask("SELECT count(*)::text FROM book").await.context("it is found along the search path")?;
        assert_eq!(
            db.execute_unprepared("INSERT INTO book VALUES ('x')").await?.rows_affected(),
            1,
            "writes still write"
        );
    }
    Ok(())
}

#[tokio::test]
async fn mariadb_closures_in_every_slot_survive_and_leave_reads_read_only() -> Result<()> {
    let servers = Servers::mariadb().await?;
    item::create_table(&servers.plain().await?).await?;
    let function = create_function(&servers).await?;
    servers.wait_caught_up().await?;
    for on in [On::Replica, On::PrimaryReads] {
        let ran = Ran::default();
        let node = |url: &str| NodeConfig::new(mysql_with_closures(url, &ran));
        let (primary, replica) = (node(&servers.primary().url()), node(&servers.replica(0).url()));
        let db = one_node_for_reads(primary, replica, on).await?;
        every_connection_refuses(&db, Some(function)).await.with_context(|| format!("{on:?}"))?;
        assert!(ran.all_but_the_pool_hook());
        // Read sessions, and then those for writes.
        let hooks = ran.pool_after_connect.load(Relaxed);
        assert!(usize::try_from(hooks)? >= HELD, "{hooks}");
        let transactions = [db.begin().await?, db.begin().await?, db.begin().await?];
        assert!(ran.pool_after_connect.load(Relaxed) > hooks);
        drop(transactions);
    }
    Ok(())
}

/// `NOW()` differs by hours where a hook that sets the time zone is lost.
async fn a_hook_that_sets_the_time_zone_holds_for_reads_and_writes(servers: Servers) -> Result<()> {
    let zone = |db: DatabaseConnection| async move {
        let ask = Statement::from_string(DbBackend::MySql, "SELECT TIMESTAMPDIFF(MINUTE, UTC_TIMESTAMP(), NOW())");
        let mut zones = BTreeSet::new();
        for row in [db.read().query_one_raw(ask.clone()).await?, db.write().query_one_raw(ask).await?] {
            zones.insert(row.context("a row")?.try_get_by_index::<i64>(0)?);
        }
        anyhow::Ok(zones)
    };
    let hook = |url: String| {
        let mut options = ConnectOptions::new(url);
        options.map_sqlx_mysql_pool_opts(|pool| {
            pool.after_connect(|connection, _| {
                Box::pin(async move {
                    use sea_orm::sqlx::Executor;
                    connection.execute("SET time_zone = '-05:00'").await.map(drop)
                })
            })
        });
        options
    };
    let (primary, replica) = (hook(servers.primary().url()), hook(servers.replica(0).url()));
    let opened =
        [sea_orm::Database::connect(primary.clone()).await?, sea_orm::Database::connect(replica.clone()).await?];
    let limit = std::time::Duration::from_secs(20);
    for [primary, replica] in [
        [NodeConfig::new(primary.clone()), NodeConfig::new(replica.clone())],
        [NodeConfig::new(primary).statement_timeout(limit), NodeConfig::new(replica).statement_timeout(limit)],
        opened.map(NodeConfig::from),
    ] {
        for on in [On::Replica, On::PrimaryReads] {
            let db = one_node_for_reads(primary.clone(), replica.clone(), on).await?;
            assert_eq!(zone(db).await?, BTreeSet::from([-300]), "{on:?}");
        }
    }
    Ok(())
}

on_each_database!(a_hook_that_sets_the_time_zone_holds_for_reads_and_writes, [mariadb, mysql]);

/// A standby refuses every statement under `serializable`; a primary's reads keep what the role asks for.
#[tokio::test]
async fn replicas_serve_reads_though_the_role_asks_for_serializable() -> Result<()> {
    let servers = Servers::postgres().await?;
    item::create_table(&servers.plain().await?).await?;
    servers.primary().execute("ALTER ROLE shop SET default_transaction_isolation = 'serializable'").await?;
    servers.wait_caught_up().await?;
    let isolation = async |read: &sea_orm_resolver::ReadConn| {
        let ask = Statement::from_string(DbBackend::Postgres, "SHOW transaction_isolation");
        let row = read.query_one_raw(ask).await?.context("a row")?;
        anyhow::Ok(row.try_get_by_index::<String>(0)?)
    };
    let given = sea_orm::Database::connect(servers.replica(0).url()).await?;
    for replica in [NodeConfig::new(servers.replica(0).url()), NodeConfig::from(given)] {
        let db = one_node_for_reads(servers.primary().url().into(), replica, On::Replica).await?;
        let read = db.read();
        for _ in 0..5 {
            item::Entity::find().all(&read).await?;
            let transaction = read.begin().await?;
            item::Entity::find().all(&transaction).await?;
            transaction.commit().await?;
            item::Entity::find().all(&db).await?;
        }
        assert_eq!(read.node().as_deref(), Some("replica"), "{}", db.topology());
        assert_eq!(isolation(&read).await?, "repeatable read");
        db.set_primary_read_share(1.0)?;
        assert_eq!(isolation(&db.read()).await?, "serializable");
    }
    Ok(())
}

#[tokio::test]
async fn sqlite_closures_in_every_slot_survive_and_leave_reads_read_only() -> Result<()> {
    let file = SharedFile::new().await?;
    for on in [On::Replica, On::PrimaryReads] {
        let ran = Ran::default();
        let node = || NodeConfig::new(sqlite_with_closures(&file.url(), &ran));
        let db = one_node_for_reads(node(), node(), on).await?;
        every_connection_refuses(&db, None).await.with_context(|| format!("{on:?}"))?;
        assert!(ran.all_but_the_pool_hook() && ran.pool_after_connect.load(Relaxed) as usize >= HELD);
        let transaction = db.read().begin().await?;
        let row = AsRef::<sea_orm::DatabaseTransaction>::as_ref(&transaction)
            .query_one_raw(Statement::from_string(DbBackend::Sqlite, "SELECT cache_size FROM pragma_cache_size"))
            .await?
            .context("a row")?;
        assert_eq!(row.try_get_by_index::<i64>(0)?, -321);
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_that_is_down_does_not_stop_a_service_whose_options_have_closures() -> Result<()> {
    let servers = Servers::postgres().await?;
    servers.replica(0).kill().await?;
    let ran = Ran::default();
    let mut options = postgres_with_closures(&servers.replica(0).url(), &ran);
    // SeaORM runs this hook inside of its `connect`, so a hook that needs the server needs the server up.
    options.after_connect(|_| Box::pin(async { Ok(()) }));
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(NodeConfig::new(options).name("replica"))
        .probe_interval(std::time::Duration::from_millis(100))
        .connect()
        .await?;
    assert_eq!(db.topology().replicas()[0].health(), sea_orm_resolver::Health::Down);
    servers.replica(0).start().await?;
    crate::wait::wait_until("it is up", std::time::Duration::from_secs(5), async || {
        Ok(db.topology().replicas()[0].health() == sea_orm_resolver::Health::Up)
    })
    .await
}

/// A connection that was given open keeps its settings, and stays open.
async fn an_adopted_connection_stays_its_owners(
    backend: DbBackend,
    primary: sea_orm::DatabaseConnection,
    replica: sea_orm::DatabaseConnection,
    function: Option<&str>,
) -> Result<()> {
    for on in [On::Replica, On::PrimaryReads] {
        let db = one_node_for_reads((&primary).into(), (&replica).into(), on).await?;
        every_connection_refuses(&db, function).await.with_context(|| format!("{on:?}"))?;
        db.remove_replica("replica").await?;
        db.close().await?;
        for pool in [&primary, &replica] {
            // Read-write and open, on connections that were there before and on new ones.
            let held = [pool.begin().await?, pool.begin().await?];
            for transaction in &held {
                transaction.query_one_raw(Statement::from_string(backend, "SELECT 1")).await?;
            }
            drop(held);
        }
        primary.execute_unprepared(INSERT).await?;
        primary.execute_unprepared("DELETE FROM item").await?;
    }
    Ok(())
}

#[tokio::test]
async fn postgres_an_adopted_connection_stays_open_and_writable_for_its_owner() -> Result<()> {
    let servers = Servers::postgres().await?;
    item::create_table(&servers.plain().await?).await?;
    let function = create_function(&servers).await?;
    servers.wait_caught_up().await?;
    let pool = async |url: String| anyhow::Ok(PgPoolOptions::new().max_connections(4).connect(&url).await?);
    let primary = SqlxPostgresConnector::from_sqlx_postgres_pool(pool(servers.primary().url()).await?);
    let replica = SqlxPostgresConnector::from_sqlx_postgres_pool(pool(servers.replica(0).url()).await?);
    an_adopted_connection_stays_its_owners(DbBackend::Postgres, primary, replica, Some(function)).await
}

#[tokio::test]
async fn mariadb_an_adopted_connection_stays_open_and_writable_for_its_owner() -> Result<()> {
    let servers = Servers::mariadb().await?;
    item::create_table(&servers.plain().await?).await?;
    let function = create_function(&servers).await?;
    servers.wait_caught_up().await?;
    let pool = async |url: String| anyhow::Ok(MySqlPoolOptions::new().max_connections(4).connect(&url).await?);
    let primary = SqlxMySqlConnector::from_sqlx_mysql_pool(pool(servers.primary().url()).await?);
    // As a user with the right to write on the replica.
    let replica = SqlxMySqlConnector::from_sqlx_mysql_pool(pool(servers.replica(0).privileged_url()).await?);
    an_adopted_connection_stays_its_owners(DbBackend::MySql, primary, replica, Some(function)).await
}

#[tokio::test]
async fn sqlite_an_adopted_connection_stays_open_and_writable_for_its_owner() -> Result<()> {
    let file = SharedFile::new().await?;
    let pool = async || anyhow::Ok(SqlitePoolOptions::new().max_connections(4).connect(&file.url()).await?);
    let primary = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool().await?);
    let replica = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool().await?);
    an_adopted_connection_stays_its_owners(DbBackend::Sqlite, primary, replica, None).await
}

#[tokio::test]
async fn an_adopted_connection_alone_is_a_primary_without_replicas() -> Result<()> {
    let file = SharedFile::new().await?;
    let plain = sea_orm::Database::connect(file.url()).await?;
    let db = DatabaseConnection::from(plain.clone());
    item::Entity::insert(item::new("x", 1)).exec(&db).await?;
    assert_eq!(item::Entity::find().count(&db.read()).await?, 1);
    db.close().await?;
    assert_eq!(item::Entity::find().count(&plain).await?, 1, "it is still open");
    Ok(())
}
