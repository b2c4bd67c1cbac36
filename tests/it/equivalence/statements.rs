//! Raw statements that are no reads, and those that are about a session.

use entity::tag;
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, QueryFilter, Statement, TransactionSession};

use super::scenario::{Conn, Scenario, Seen, backend, scenarios, seen, told};

pub(super) fn writes<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        raw_writes,
        raw_writes_with_values,
        raw_returning,
        several_in_one_text,
        several_in_one_text_with_an_error,
        data_definition,
        of_one_session,
        in_one_session,
        writes_in_disguise,
    ]
}

fn raw(db: &impl ConnectionTrait, sql: &str) -> Statement {
    Statement::from_string(backend(db), sql)
}

async fn raw_writes<C: Conn>(db: &C) -> Seen {
    seen![
        db.execute_raw(raw(db, "INSERT INTO tags (name) VALUES ('raw 1'), ('raw 2')")).await?.rows_affected(),
        db.execute_unprepared("INSERT INTO tags (name) VALUES ('raw 3')").await?.rows_affected(),
        db.execute_raw(raw(db, "UPDATE tags SET name = 'raw 4' WHERE name = 'raw 1'")).await?.rows_affected(),
        db.execute_raw(raw(db, "/* a comment */ DELETE FROM tags WHERE name = 'raw 2' -- and another"))
            .await?
            .rows_affected(),
        db.execute_raw(raw(db, "UPDATE tags SET name = 'x' WHERE name = 'no such tag'")).await?.rows_affected(),
        tag::Entity::find().filter(tag::COLUMN.name.like("raw%")).order_by_id_asc().all(db).await?,
    ]
}

async fn raw_writes_with_values<C: Conn>(db: &C) -> Seen {
    let sql = match backend(db) {
        DbBackend::Postgres => "INSERT INTO categories (id, name, parent_id) VALUES ($1, $2, $3)",
        _ => "INSERT INTO categories (id, name, parent_id) VALUES (?, ?, ?)",
    };
    let insert = |id: i32| {
        let values = [id.into(), format!("Value {id}; DROP TABLE tags").into(), None::<i32>.into()];
        Statement::from_sql_and_values(backend(db), sql, values)
    };
    seen![
        db.execute_raw(insert(501)).await?.rows_affected(),
        told(db.execute_raw(insert(501)).await.map(|done| done.rows_affected())),
        db.execute_raw(insert(502)).await?.rows_affected(),
    ]
}

async fn raw_returning<C: Conn>(db: &C) -> Seen {
    let insert = "INSERT INTO tags (name) VALUES ('returned') RETURNING name";
    let rows = db.query_all_raw(raw(db, insert)).await?;
    let names: Vec<_> = rows.iter().map(|row| row.try_get_by_index::<String>(0)).collect();
    seen![names, tag::Entity::find_by_name("returned").one(db).await?.is_some()]
}

async fn several_in_one_text<C: Conn>(db: &C) -> Seen {
    let text = "INSERT INTO tags (name) VALUES ('several 1'); \
                UPDATE tags SET name = 'several 2' WHERE name = 'several 1'; \
                SELECT 1; \
                INSERT INTO tags (name) VALUES ('several 3');";
    seen![
        db.execute_unprepared(text).await.is_ok(),
        db.execute_unprepared("SELECT 1; DELETE FROM tags WHERE name = 'several 3'").await.is_ok(),
        tag::Entity::find().filter(tag::COLUMN.name.like("several%")).order_by_id_asc().all(db).await?,
    ]
}

async fn several_in_one_text_with_an_error<C: Conn>(db: &C) -> Seen {
    let text = "INSERT INTO tags (name) VALUES ('several 4'); INSERT INTO no_such_table VALUES (1)";
    seen![
        told(db.execute_unprepared(text).await.map(|done| done.rows_affected())),
        tag::Entity::find().filter(tag::COLUMN.name.eq("several 4")).one(db).await?.is_some(),
    ]
}

async fn data_definition<C: Conn>(db: &C) -> Seen {
    let mut seen = Vec::new();
    for sql in [
        "CREATE TABLE scratch (id INT PRIMARY KEY, what VARCHAR(20))",
        "CREATE INDEX scratch_what ON scratch (what)",
        "INSERT INTO scratch VALUES (1, 'x')",
        "ALTER TABLE scratch ADD COLUMN more INT",
        "CREATE VIEW scratched AS SELECT id FROM scratch",
        "SELECT * FROM scratched",
        "DROP VIEW scratched",
        "DROP TABLE scratch",
        "SELECT * FROM scratch",
    ] {
        // SQLite counts a SELECT as the connection's last write, and which connection that is, is open.
        let is_read = sql.starts_with("SELECT");
        let count = |done: sea_orm::ExecResult| if is_read { 0 } else { done.rows_affected() };
        seen.push((sql, told(db.execute_unprepared(sql).await.map(count))));
    }
    seen![seen]
}

/// Statements about a session, each of which cleans up after itself: over a pool the session of a statement is not
/// known, with SeaORM as with this crate.
async fn of_one_session<C: Conn>(db: &C) -> Seen {
    let texts: &[&str] = match backend(db) {
        DbBackend::Postgres => &[
            "SET statement_timeout = '7s'; SHOW statement_timeout; RESET statement_timeout",
            "PREPARE p AS INSERT INTO tags (name) VALUES ('prepared'); EXECUTE p; DEALLOCATE p",
            "LISTEN something; NOTIFY something; UNLISTEN something",
            "CREATE TEMPORARY TABLE temporary (id int); INSERT INTO temporary VALUES (1); DROP TABLE temporary",
            "SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7)",
            "BEGIN; INSERT INTO tags (name) VALUES ('begun as text'); COMMIT",
            "DO $$ BEGIN INSERT INTO tags (name) VALUES ('done'); END $$",
        ],
        DbBackend::MySql => &[
            "SET @x = 1; SET SESSION wait_timeout = 1000",
            "PREPARE p FROM 'INSERT INTO tags (name) VALUES (''prepared'')'; EXECUTE p; DEALLOCATE PREPARE p",
            "CREATE TEMPORARY TABLE temporary (id int); INSERT INTO temporary VALUES (1); DROP TEMPORARY TABLE temporary",
            "DO GET_LOCK('equal', 1); DO RELEASE_LOCK('equal')",
            "LOCK TABLES tags WRITE; UNLOCK TABLES",
            "START TRANSACTION; INSERT INTO tags (name) VALUES ('begun as text'); COMMIT",
        ],
        _ => &[
            "PRAGMA cache_size = -2000",
            "CREATE TEMPORARY TABLE temporary (id int); INSERT INTO temporary VALUES (1); DROP TABLE temporary",
            "BEGIN; INSERT INTO tags (name) VALUES ('begun as text'); COMMIT",
        ],
    };
    let mut seen = Vec::new();
    for text in texts {
        seen.push((text, told(db.execute_unprepared(text).await.map(drop))));
    }
    seen![seen]
}

/// A transaction has one session, and that session answers each question about it.
async fn in_one_session<C: Conn>(db: &C) -> Seen {
    let tx = db.begin().await?;
    tx.execute_unprepared("INSERT INTO tags (name) VALUES ('one session')").await?;
    let (set_up, questions): (&[&str], &[&str]) = match backend(db) {
        DbBackend::Postgres => (
            &[
                "SET LOCAL statement_timeout = '7s'",
                "CREATE TEMPORARY TABLE mine (id int) ON COMMIT DROP",
                "INSERT INTO mine VALUES (8)",
            ],
            &[
                "SHOW statement_timeout",
                "SELECT id::text FROM mine",
                "SELECT (lastval() = currval('tags_id_seq'))::text",
                "SELECT pg_try_advisory_xact_lock(9)::text",
            ],
        ),
        DbBackend::MySql => (
            &["SET @mine = 7", "CREATE TEMPORARY TABLE mine (id int)", "INSERT INTO mine VALUES (8)"],
            &[
                "SELECT CAST(@mine AS CHAR)",
                "SELECT CAST(id AS CHAR) FROM mine",
                "SELECT CAST(LAST_INSERT_ID() > 0 AS CHAR)",
                "SELECT CAST(ROW_COUNT() AS CHAR)",
                "SELECT CAST(GET_LOCK('mine', 0) AS CHAR)",
                "SELECT CAST(RELEASE_LOCK('mine') AS CHAR)",
            ],
        ),
        _ => (
            &["CREATE TEMPORARY TABLE mine (id int)", "INSERT INTO mine VALUES (8)"],
            &[
                "SELECT CAST(id AS TEXT) FROM mine",
                "SELECT CAST(last_insert_rowid() > 0 AS TEXT)",
                "SELECT CAST(changes() AS TEXT)",
            ],
        ),
    };
    for sql in set_up {
        tx.execute_raw(raw(db, sql)).await?;
    }
    let mut answers = Vec::new();
    for sql in questions {
        let row = tx.query_one_raw(raw(db, sql)).await?;
        answers.push((sql, row.map(|row| row.try_get_by_index::<Option<String>>(0)).transpose()?));
    }
    if backend(db) == DbBackend::MySql {
        tx.execute_unprepared("DROP TEMPORARY TABLE mine").await?;
    }
    if backend(db) == DbBackend::Sqlite {
        tx.execute_unprepared("DROP TABLE mine").await?;
    }
    tx.commit().await?;
    seen![answers]
}

/// They begin like reads, or come through methods for reads.
async fn writes_in_disguise<C: Conn>(db: &C) -> Seen {
    let texts: &[&str] = match backend(db) {
        DbBackend::Postgres => &[
            "WITH new AS (INSERT INTO tags (name) VALUES ('disguised 1') RETURNING name) SELECT name FROM new",
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) INSERT INTO tags (name) VALUES ('disguised 2')",
            "SELECT nextval('tags_id_seq') > 0",
            "TABLE tags FOR UPDATE",
            "SELECT name INTO copied FROM tags",
            "DROP TABLE copied",
        ],
        DbBackend::MySql => &[
            "SELECT name FROM tags LIMIT 1 FOR UPDATE",
            "SELECT name FROM tags LIMIT 1 LOCK IN SHARE MODE",
            "INSERT INTO tags (name) VALUES ('disguised 1') RETURNING name",
            "SELECT @disguised := 1",
            "ANALYZE INSERT INTO tags (name) VALUES ('disguised 2')",
        ],
        _ => &[
            "INSERT INTO tags (name) VALUES ('disguised 1') RETURNING name",
            "WITH new AS (SELECT 'disguised 2' AS name) INSERT INTO tags (name) SELECT name FROM new RETURNING name",
        ],
    };
    let mut seen = Vec::new();
    for text in texts {
        seen.push((text, told(db.query_all_raw(raw(db, text)).await.map(|rows| rows.len()))));
    }
    let all = tag::Entity::find().filter(tag::COLUMN.name.like("disguised%")).order_by_id_asc().all(db).await?;
    seen![seen, all.into_iter().map(|tag| tag.name).collect::<Vec<_>>()]
}
