//! A program keeps its meaning, also in a session that has written nothing and whose reads could go to any node.

use anyhow::{Context, Result};
use entity::product;
use futures_util::TryStreamExt;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel, PaginatorTrait, QuerySelect, Statement, StreamTrait,
    TransactionTrait,
    sea_query::{LockBehavior, LockType},
};
use sea_orm_resolver::DatabaseConnection;

use super::{play::Served, stage::Stage};
use crate::servers::on_each_database;

/// Texts about a session, with an effect beyond rows, or of several statements. Each text ends what it begins.
fn texts(backend: DbBackend) -> &'static [&'static str] {
    match backend {
        DbBackend::Postgres => &[
            "SET application_name = 'x'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "RESET application_name",
            "PREPARE p AS SELECT 1; EXECUTE p; DEALLOCATE p",
            "LISTEN something; UNLISTEN something",
            "NOTIFY nobody",
            "CREATE TEMPORARY TABLE t (id int); SELECT * FROM t; DROP TABLE t",
            "BEGIN; SELECT 1; COMMIT",
            "BEGIN; LOCK TABLE products IN SHARE MODE; COMMIT",
            "BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; CLOSE c; COMMIT",
            "DO $$ BEGIN PERFORM 1; END $$",
            "DISCARD PLANS",
            "ANALYZE products",
            "SELECT 1; SELECT nextval('products_id_seq')",
        ],
        DbBackend::MySql => &[
            "SET @x = 1",
            "SET SESSION sort_buffer_size = 262144",
            "PREPARE p FROM 'SELECT 1'; EXECUTE p; DEALLOCATE PREPARE p",
            "CREATE TEMPORARY TABLE t (id int); SELECT * FROM t; DROP TEMPORARY TABLE t",
            "START TRANSACTION; SELECT 1; COMMIT",
            "LOCK TABLES products READ; UNLOCK TABLES",
            "DO GET_LOCK('x', 0); DO RELEASE_LOCK('x')",
            "HANDLER products OPEN; HANDLER products READ FIRST; HANDLER products CLOSE",
            "USE shop",
            "ANALYZE TABLE products",
        ],
        _ => &[
            "PRAGMA cache_size = -2000",
            "CREATE TEMPORARY TABLE t (id int); SELECT * FROM t; DROP TABLE t",
            "BEGIN; SELECT 1; COMMIT",
            "ANALYZE",
        ],
    }
}

/// They return rows like a read does.
fn questions(backend: DbBackend) -> &'static [&'static str] {
    match backend {
        DbBackend::Postgres => &[
            "SELECT nextval('products_id_seq')",
            "SELECT pg_advisory_lock(7), pg_advisory_unlock(7)",
            "SELECT pg_try_advisory_xact_lock(7)",
            "SELECT \"pg_try_advisory_xact_lock\"(7)",
            "SELECT set_config('application_name', 'x', false)",
            "SELECT pg_notify('nobody', '')",
            "SELECT txid_current()",
            "SELECT pg_current_wal_lsn()",
            "SELECT name FROM products FOR UPDATE",
            "SELECT name FROM products FOR NO KEY UPDATE SKIP LOCKED",
            "SELECT name FROM products FOR KEY SHARE",
            "SELECT * FROM (SELECT name FROM products FOR SHARE) AS t",
            "WITH t AS (UPDATE products SET stock = stock RETURNING name) SELECT * FROM t",
            "UPDATE products SET stock = stock RETURNING name",
        ],
        DbBackend::MySql => &[
            "SELECT LAST_INSERT_ID()",
            "SELECT ROW_COUNT()",
            "SELECT FOUND_ROWS()",
            "SELECT CONNECTION_ID()",
            "SELECT @@identity",
            "SELECT @x := 1",
            "SELECT GET_LOCK('x', 0), RELEASE_LOCK('x')",
            "SELECT IS_FREE_LOCK('x')",
            "SELECT name FROM products FOR UPDATE",
            "SELECT name FROM products LOCK IN SHARE MODE",
            "SELECT name FROM products FOR UPDATE SKIP LOCKED",
            "SELECT name FROM (SELECT name FROM products FOR UPDATE) AS t",
            "SHOW WARNINGS",
            "DELETE FROM products WHERE id < 0 RETURNING name",
        ],
        _ => &[
            "SELECT last_insert_rowid()",
            "SELECT changes()",
            "SELECT total_changes()",
            "UPDATE products SET stock = stock RETURNING name",
        ],
    }
}

const ONE_ON_THE_PRIMARY: Served = Served { replica_reads: 0, replica_writes: 0, primary_reads: 0, primary_writes: 1 };

async fn a_statement_that_is_no_read_goes_to_the_primary(stage: &Stage) -> Result<()> {
    stage.reset().await?;
    let db = stage.resolver().await?;
    let raw = |sql: &str| Statement::from_string(db.get_database_backend(), sql);
    for text in texts(db.get_database_backend()) {
        let before = Served::by(&db);
        db.session().execute_unprepared(text).await.with_context(|| (*text).to_owned())?;
        assert_eq!(Served::by(&db) - before, ONE_ON_THE_PRIMARY, "{text}");
    }
    for question in questions(db.get_database_backend()) {
        let before = Served::by(&db);
        db.session().query_one_raw(raw(question)).await.with_context(|| (*question).to_owned())?;
        assert_eq!(Served::by(&db) - before, ONE_ON_THE_PRIMARY, "query_one_raw: {question}");
        let before = Served::by(&db);
        db.session().query_all_raw(raw(question)).await?;
        assert_eq!(Served::by(&db) - before, ONE_ON_THE_PRIMARY, "query_all_raw: {question}");
        let before = Served::by(&db);
        db.session().execute_raw(raw(question)).await?;
        assert_eq!(Served::by(&db) - before, ONE_ON_THE_PRIMARY, "execute_raw: {question}");
        let before = Served::by(&db);
        db.session().stream_raw(raw(question)).await?.try_collect::<Vec<_>>().await?;
        assert_eq!((Served::by(&db) - before).replica_reads, 0, "stream_raw: {question}");
    }
    Ok(())
}

on_each_database!(a_statement_that_is_no_read_goes_to_the_primary, Stage: [postgres, mariadb, sqlite]);

/// SeaORM's own locking selects, where SQLite has none.
async fn locking_selects_go_to_the_primary(stage: &Stage) -> Result<()> {
    stage.reset().await?;
    let db = stage.resolver().await?;
    let products = || product::Entity::find().order_by_id_asc().limit(2);
    let locking = [
        products().lock_exclusive(),
        products().lock_shared(),
        products().lock(LockType::Update),
        products().lock_with_behavior(LockType::Update, LockBehavior::SkipLocked),
        products().lock_with_behavior(LockType::Update, LockBehavior::Nowait),
    ];
    for select in locking {
        let before = Served::by(&db);
        select.clone().all(&db.session()).await?;
        assert_eq!(Served::by(&db) - before, ONE_ON_THE_PRIMARY, "{select:?}");
        let before = Served::by(&db);
        select.clone().paginate(&db.session(), 1).fetch_page(0).await?;
        assert_eq!(Served::by(&db) - before, ONE_ON_THE_PRIMARY, "a page of {select:?}");
    }
    Ok(())
}

on_each_database!(locking_selects_go_to_the_primary, Stage: [postgres, mariadb]);

/// The replicas have stood still since before the first write.
async fn a_transaction_sees_the_present(stage: &Stage) -> Result<()> {
    stage.reset().await?;
    let db = stage.resolver().await?;
    stage.pause().await?;
    let plain = stage.plain().await?;
    let mut product = product::Entity::find_by_id(1).require_one(&plain).await?.into_active_model();
    product.stock = Set(7);
    product.update(&plain).await?;
    for round in 0..5 {
        let session = db.session();
        let stock =
            async |db: &DatabaseConnection| anyhow::Ok(product::Entity::find_by_id(1).require_one(db).await?.stock);
        if let Stage::Servers(_) = stage {
            assert_eq!(stock(&session).await?, 100, "a read alone may be as old as a replica");
        }
        // The procedure begins with a read, which has to see the commits of others, and then writes by its result.
        let before = Served::by(&db);
        let tx = session.begin().await?;
        let product = product::Entity::find_by_id(1).require_one(&tx).await?;
        assert_eq!((tx.node(), product.stock), ("primary", 7 + round));
        let mut more = product.into_active_model();
        more.stock = Set(7 + round + 1);
        more.update(&tx).await?;
        assert_eq!(product::Entity::find_by_id(1).require_one(&tx).await?.stock, 7 + round + 1);
        tx.commit().await?;
        assert_eq!(Served::by(&db) - before, ONE_ON_THE_PRIMARY, "a transaction is one operation");
        assert_eq!(stock(&session).await?, 7 + round + 1, "the session wrote");
    }
    Ok(())
}

on_each_database!(a_transaction_sees_the_present, Stage: [postgres, mariadb, sqlite]);
