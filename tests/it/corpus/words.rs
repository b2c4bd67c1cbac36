//! Words that are grammar at some places name functions at others: no read by the classifier calls such a function.

use anyhow::Result;
use sea_orm::DbBackend;
use sea_orm_resolver::classify;
use testkit::{Cluster, MariaDbCluster, MySqlCluster};

use super::{Link, statements};

/// The words for which the servers accept a function of the user's.
const WORDS: &[&str] = &["columns", "sql_cache", "sql_no_cache", "sql_buffer_result", "f", "fn", "d"];

/// The settings that move the ends of literals.
const SQL_MODES: &[&str] = &["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES"];

async fn no_read_calls_a_function_that_is_named_like_a_word(cluster: &Cluster) -> Result<()> {
    let mut link = Link::open(&cluster.primary().admin_url()).await?;
    link.must("CREATE DATABASE words").await?;
    link.must("USE words").await?;
    link.must("CREATE TABLE called (word varchar(20))").await?;
    link.must("CREATE TABLE t (id int PRIMARY KEY, a int, s varchar(9))").await?;
    link.must("INSERT INTO t VALUES (1, 1, 's')").await?;
    for word in WORDS {
        let body = format!("BEGIN INSERT INTO called VALUES ('{word}'); RETURN x; END");
        link.must(&format!("CREATE FUNCTION {word}(x int) RETURNS int DETERMINISTIC MODIFIES SQL DATA {body}")).await?;
    }
    let mut ran = 0;
    let reads = statements::of(DbBackend::MySql).into_iter().filter(|sql| {
        let sql = sql.to_ascii_lowercase();
        WORDS.iter().any(|word| sql.contains(word)) && classify(&sql, DbBackend::MySql).intent.is_read()
    });
    for sql in reads.collect::<Vec<_>>() {
        for mode in SQL_MODES {
            link.must(&format!("SET SESSION sql_mode = '{mode}'")).await?;
            ran += usize::from(link.run(&sql).await.is_ok());
            assert_eq!(link.texts("SELECT word FROM called").await?, Vec::<String>::new(), "{sql:?} under {mode:?}");
        }
    }
    assert!(ran > 100, "only {ran} reads ran");
    // The control: a statement that the classifier takes for a write calls such a function, and the table shows it.
    link.must("SET SESSION sql_mode = ''").await?;
    link.must("SELECT {`d` f(1)}").await?;
    assert_eq!(link.texts("SELECT word FROM called").await?, ["f"]);
    Ok(())
}

#[tokio::test]
async fn no_read_calls_a_function_that_is_named_like_a_word_of_mariadb() -> Result<()> {
    let cluster = MariaDbCluster::start(0).await?;
    no_read_calls_a_function_that_is_named_like_a_word(&cluster).await
}

#[tokio::test]
async fn no_read_calls_a_function_that_is_named_like_a_word_of_mysql() -> Result<()> {
    if MySqlCluster::is_left_out() {
        return Ok(());
    }
    let cluster = MySqlCluster::start(0).await?;
    no_read_calls_a_function_that_is_named_like_a_word(&cluster).await
}
