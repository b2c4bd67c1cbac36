//! The table of built-in functions of SQLite against the SQLite that is linked.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, Database, DbBackend, DbErr, Statement};
use sea_orm_resolver::{Reason, classify};

async fn names(sql: &str) -> Result<BTreeSet<String>, DbErr> {
    let db = Database::connect("sqlite::memory:").await?;
    let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

#[tokio::test]
async fn every_function_of_the_linked_sqlite_is_known() -> Result<(), DbErr> {
    let functions = names("SELECT DISTINCT name FROM pragma_function_list").await?;
    // Operators such as `->` are in the list, but no statement can call them.
    let called = functions.iter().filter(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()));
    let unknown: Vec<_> = called
        .filter(|name| {
            let reason = classify(&format!("SELECT {name}(1)"), DbBackend::Sqlite).reason;
            !matches!(reason, Reason::PlainRead | Reason::PrimaryFunction { .. })
        })
        .collect();
    assert!(functions.len() > 100, "only {} functions", functions.len());
    assert!(unknown.is_empty(), "scripts/function_tables.py does not know {unknown:?}");
    Ok(())
}

#[tokio::test]
async fn every_pragma_of_the_linked_sqlite_that_is_a_table_is_known_to_read_or_refused() -> Result<(), DbErr> {
    let tables = names("SELECT name FROM pragma_module_list WHERE name LIKE 'pragma_%'").await?;
    let pragmas = names("SELECT 'pragma_' || name FROM pragma_pragma_list").await?;
    for table in tables.union(&pragmas) {
        let ways =
            [format!("SELECT * FROM {table}"), format!("SELECT * FROM '{table}'"), format!("SELECT 1 IN \"{table}\"")];
        let intents = ways.map(|sql| classify(&sql, DbBackend::Sqlite).intent);
        assert!(intents.iter().all(|intent| *intent == intents[0]), "{table}: {intents:?}");
    }
    for acts in ["pragma_optimize", "pragma_wal_checkpoint", "pragma_incremental_vacuum"] {
        assert!(!classify(&format!("SELECT * FROM {acts}"), DbBackend::Sqlite).intent.is_read(), "{acts}");
    }
    assert!(pragmas.len() > 50, "only {} pragmas", pragmas.len());
    Ok(())
}

#[tokio::test]
async fn a_string_where_a_table_stands_runs_the_pragma_and_is_no_read() -> Result<(), DbErr> {
    for written in ["SELECT * FROM 'pragma_optimize'(65538)", "SELECT * FROM t, main.'pragma_optimize'(65538)"] {
        let db = Database::connect("sqlite::memory:").await?;
        for sql in ["CREATE TABLE t (a)", "CREATE INDEX i ON t (a)", "INSERT INTO t VALUES (1)", written] {
            db.execute_unprepared(sql).await?;
        }
        let written_to = db.execute_unprepared("SELECT * FROM sqlite_stat1").await;
        assert!(written_to.is_ok(), "{written} wrote nothing: {written_to:?}");
        assert!(!classify(written, DbBackend::Sqlite).intent.is_read(), "{written}");
    }
    Ok(())
}
