//! Statements multiplied along the axes of `ROUTING.md`: a rule × where it stands × how it is written.
#![allow(dead_code, reason = "each test binary uses its own part")]

use sea_orm::DbBackend;
use sea_orm_resolver::Intent;

/// A generated statement, and its classification.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub(crate) sql: String,
    pub(crate) backend: DbBackend,
    pub(crate) intent: Intent,
    /// The kind of its reason, where the generator makes one kind only.
    pub(crate) reason: Option<&'static str>,
}

const ALL: [DbBackend; 3] = [DbBackend::Postgres, DbBackend::MySql, DbBackend::Sqlite];

fn generated(sql: impl Into<String>, backend: DbBackend, intent: Intent) -> Generated {
    Generated { sql: sql.into(), backend, intent, reason: intent.is_read().then_some("plain_read") }
}

/// A write for this reason.
fn write(sql: impl Into<String>, backend: DbBackend, reason: &'static str) -> Generated {
    Generated { reason: Some(reason), ..generated(sql, backend, Intent::Write) }
}

const LOCKS: &[(&str, &[DbBackend])] = &[
    ("FOR UPDATE", &[DbBackend::Postgres, DbBackend::MySql]),
    ("FOR NO KEY UPDATE", &[DbBackend::Postgres]),
    ("FOR SHARE", &[DbBackend::Postgres, DbBackend::MySql]),
    ("FOR KEY SHARE", &[DbBackend::Postgres]),
    ("FOR UPDATE OF t", &[DbBackend::Postgres, DbBackend::MySql]),
    ("FOR UPDATE NOWAIT", &[DbBackend::Postgres, DbBackend::MySql]),
    ("FOR SHARE SKIP LOCKED", &[DbBackend::Postgres, DbBackend::MySql]),
    ("FOR NO KEY UPDATE OF t NOWAIT", &[DbBackend::Postgres]),
    ("FOR UPDATE WAIT 5", &[DbBackend::MySql]),
    ("LOCK IN SHARE MODE", &[DbBackend::MySql]),
    ("LOCK IN SHARE MODE NOWAIT", &[DbBackend::MySql]),
];

const ENDS: &[&str] = &["", ";", " -- end", " /* end */", "\n", " ;; -- end\n", " /*traceparent='00-ab-01'*/"];

/// Ways for a statement to end.
fn ends(backend: DbBackend) -> impl Iterator<Item = &'static str> {
    let hash = [" # it's the end", " # end\n;"];
    ENDS.iter().copied().chain(hash.into_iter().filter(move |_| backend == DbBackend::MySql))
}

const PLACES: &[&str] = &[
    "SELECT a FROM t {}",
    "SELECT b FROM (SELECT b FROM t {}) x",
    "SELECT a FROM t WHERE b IN (SELECT c FROM t {})",
    "WITH c AS (SELECT a FROM t {}) SELECT 1",
    "WITH c AS (SELECT 1), d (x) AS (SELECT a FROM t {}) SELECT * FROM c",
    "(SELECT a FROM t {}) UNION (SELECT 1)",
    "(SELECT 1) UNION ALL (SELECT a FROM t {})",
    "SELECT a FROM t CROSS JOIN LATERAL (SELECT 1 FROM t {}) x",
    "SELECT 1; SELECT a FROM t {}",
    "EXPLAIN SELECT a FROM t {}",
    "((SELECT a FROM t {}))",
    "SELECT a FROM t WHERE EXISTS(SELECT a FROM t {})",
];

/// Ways to write a phrase that are the same to a server.
fn spellings(phrase: &str, backend: DbBackend) -> Vec<String> {
    let mixed: String = phrase
        .chars()
        .enumerate()
        .map(|(at, letter)| if at % 2 == 0 { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() })
        .collect();
    let mut all = vec![phrase.to_owned(), phrase.to_lowercase(), mixed];
    for between in ["\n", "\t", "  ", "/**/", " /* a ' b */ ", "-- x '\n"] {
        all.push(phrase.replace(' ', between));
    }
    if backend == DbBackend::MySql {
        all.push(phrase.replace(' ', "# x '\n"));
        // Only with white space is it a comment.
        all.retain(|text| !text.contains("--") || text.contains("-- "));
    }
    all
}

/// A locking clause, wherever and however it is written.
pub(crate) fn locking_clauses() -> Vec<Generated> {
    let mut cases = Vec::new();
    for (lock, backends) in LOCKS {
        for &backend in *backends {
            for spelling in spellings(lock, backend) {
                for place in PLACES {
                    for end in ends(backend) {
                        cases.push(write(place.replace("{}", &spelling) + end, backend, "locking_clause"));
                    }
                }
            }
        }
    }
    cases
}

/// The same places without the clause.
pub(crate) fn places_without_clauses() -> Vec<Generated> {
    let mut cases = Vec::new();
    for place in PLACES {
        for backend in ALL {
            // On SQLite `LATERAL` is a name like others.
            if backend == DbBackend::Sqlite && place.contains("LATERAL") {
                continue;
            }
            for end in ends(backend) {
                cases.push(generated(place.replace("{}", "") + end, backend, Intent::Read));
            }
        }
    }
    cases
}

/// A data-modifying member of `WITH`, or a data-modifying statement behind one.
pub(crate) fn modifying_members() -> Vec<Generated> {
    let verbs = [
        "INSERT INTO t VALUES (1) RETURNING a",
        "UPDATE t SET a = 1 RETURNING a",
        "UPDATE ONLY t SET a = 1",
        "UPDATE \"t\" SET a = 1",
        "DELETE FROM t RETURNING a",
        "MERGE INTO t USING u ON (true) WHEN MATCHED THEN DELETE",
        "REPLACE INTO t VALUES (1)",
        "WITH x AS (SELECT 1) DELETE FROM t",
    ];
    let places = [
        "WITH c AS ({}) SELECT * FROM c",
        "WITH c AS (SELECT 1), d AS ({}) SELECT 1",
        "WITH c AS ({}), d AS (SELECT 1) SELECT 1",
        "WITH c AS (WITH d AS ({}) SELECT 1) SELECT 1",
        "WITH c AS MATERIALIZED ({}) SELECT 1",
        "WITH c AS NOT MATERIALIZED ({}) SELECT 1",
        "WITH RECURSIVE c AS ({}) SELECT 1",
        "WITH RECURSIVE c (a, b) AS ({}) SELECT 1",
        "WITH \"c\" (\"a\") AS ({}) SELECT 1",
        "WITH update AS ({}) SELECT 1",
        "WITH c AS (SELECT 1) {}",
        "WITH c (a) AS (SELECT 1), d AS (SELECT 2) {}",
        "WITH RECURSIVE c(a) AS (SELECT 1) SEARCH DEPTH FIRST BY a SET o {}",
        "WITH RECURSIVE c(a) AS (SELECT 1) CYCLE a SET i USING p {}",
        "WITH RECURSIVE c(a) AS (SELECT 1) CYCLE a SET i USING p, d AS ({}) SELECT 1",
        "SELECT * FROM (WITH c AS ({}) SELECT 1) x",
        "EXPLAIN WITH c AS ({}) SELECT 1",
        "EXPLAIN ANALYZE WITH c AS (SELECT 1) {}",
        "(WITH c AS ({}) SELECT 1)",
        "SELECT 1; WITH c AS ({}) SELECT 1",
    ];
    let mut cases = Vec::new();
    for verb in verbs {
        for place in places {
            for open in ["({})", "( {})", "(\n{}\n)", "(/* c */{})", "(-- c\n{})", "(\t{} )"] {
                for lower in [false, true] {
                    let sql = place.replace("({})", open).replace("{}", verb);
                    let sql = if lower { sql.to_lowercase() } else { sql };
                    for backend in ALL {
                        let reason = match backend {
                            // There `"c"` is a string, which names no member.
                            DbBackend::MySql if place.starts_with("WITH \"c\"") => "incomplete",
                            DbBackend::Sqlite if place.starts_with("EXPLAIN ANALYZE") => "verb",
                            // A second list.
                            _ if verb.starts_with("WITH") && place.ends_with(") {}") => "verb",
                            _ => "data_modifying_cte",
                        };
                        cases.push(write(sql.as_str(), backend, reason));
                    }
                }
            }
        }
    }
    cases
}

/// A keyword inside every kind of literal, name and comment.
pub(crate) fn hidden_keywords() -> Vec<Generated> {
    let words = [
        "FOR UPDATE",
        "FOR SHARE",
        "FOR NO KEY UPDATE",
        "LOCK IN SHARE MODE",
        "INTO x",
        "; DELETE FROM t",
        "(DELETE FROM t)",
        "nextval(1)",
        "get_lock(1)",
        "NEXT VALUE FOR s",
        "@@identity",
        "@x := 1",
        "INSERT",
        "UPDATE t SET a = 1",
        "MERGE",
        "REPLACE INTO t",
        "PROCEDURE ANALYSE()",
        "SQL_CALC_FOUND_ROWS",
        "WITH c AS (DELETE",
        "load_extension(1)",
        "s.nextval",
        "CALL p()",
    ];
    let all = [
        "SELECT '{}'",
        "SELECT 'it''s {}' FROM t",
        "SELECT a FROM t WHERE b = '{}' AND c = 1",
        "SELECT 1 /* {} */",
        "SELECT 1 -- {}\n",
        "SELECT 1 -- {}",
        "/* {} */ SELECT 1",
        "SELECT a AS \"{}\" FROM t",
        "SELECT \"x\".\"{}\" FROM t",
        "SELECT \"x\".\"{}\" FROM (SELECT 1 AS \"{}\") AS \"x\"",
    ];
    let postgres = [
        "SELECT $${}$$",
        "SELECT $a$ $$ {} $a$",
        "SELECT E'\\' {}'",
        "SELECT U&'{}'",
        "SELECT N'{}'",
        "SELECT 1 /* /* {} */ {} */",
        "SELECT 1 AS U&\"{}\"",
        "SELECT E'a'\n  'b\\'{}'",
    ];
    let mysql = [
        "SELECT \"{}\"",
        "SELECT `{}`",
        "SELECT `a``{}` FROM t",
        "SELECT a AS `a``{}` FROM t",
        "SELECT `x`.`{}` FROM (SELECT 1 AS `{}`) AS `x`",
        "SELECT 1 # {}\n",
        "SELECT 1 #{}",
        "SELECT _utf8'{}'",
    ];
    let sqlite = ["SELECT [{}] FROM t", "SELECT `{}` FROM t"];
    let mut cases = Vec::new();
    for word in words {
        for (places, backends) in [
            (&all[..], &ALL[..]),
            (&postgres, &[DbBackend::Postgres]),
            (&mysql, &[DbBackend::MySql]),
            (&sqlite, &[DbBackend::Sqlite]),
        ] {
            for place in places {
                for &backend in backends {
                    cases.push(generated(place.replace("{}", word), backend, Intent::Read));
                    cases.push(generated(place.replace("{}", &word.to_lowercase()), backend, Intent::Read));
                }
            }
        }
    }
    cases
}

/// Two statements in one text.
pub(crate) fn stacked() -> Vec<Generated> {
    let reads = ["SELECT 1", "VALUES (1)", "WITH c AS (SELECT 1) SELECT 2", "(SELECT 1)", ""];
    let writes = [
        ("DELETE FROM t", "verb"),
        ("SET a = 1", "verb"),
        ("SELECT 1 INTO x", "select_into"),
        ("BEGIN", "verb"),
        ("WITH c AS (SELECT 1) DELETE FROM t", "data_modifying_cte"),
        ("SELECT no_such_function(1)", "unknown_function"),
    ];
    let mut cases = Vec::new();
    for backend in ALL {
        for between in [";", " ; ", ";;", "; -- x\n", "/* x */;\n"] {
            for first in reads {
                for second in reads {
                    let is_empty = first.is_empty() && second.is_empty();
                    let reason = Some(if is_empty { "empty" } else { "plain_read" });
                    let both = generated(format!("{first}{between}{second}"), backend, Intent::Read);
                    cases.push(Generated { reason, ..both });
                }
                for (second, reason) in writes {
                    cases.push(write(format!("{first}{between}{second}"), backend, reason));
                    cases.push(write(format!("{second}{between}{first}"), backend, reason));
                }
            }
        }
    }
    cases
}

/// Texts of a hundred thousand parentheses, and of a megabyte.
pub(crate) fn long_texts() -> Vec<Generated> {
    let deep = 100_000;
    let mut cases = Vec::new();
    for backend in ALL {
        cases.push(generated(format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep)), backend, Intent::Read));
        cases.push(generated(format!("{}SELECT 1{}", "(".repeat(deep), ")".repeat(deep)), backend, Intent::Read));
        cases.push(write(format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep - 1)), backend, "incomplete"));
        let takes_a_value = if backend == DbBackend::Sqlite { "unknown_function" } else { "primary_function" };
        cases.push(write(format!("SELECT {}nextval(1){}", "(".repeat(deep), ")".repeat(deep)), backend, takes_a_value));
        cases.push(write(
            format!("SELECT {}SELECT 1 FOR UPDATE{}", "(".repeat(deep), ")".repeat(deep)),
            backend,
            "locking_clause",
        ));
        cases.push(write(
            format!("SELECT {}WITH c AS (SELECT 1) SELECT 1{}", "(".repeat(deep), ")".repeat(deep)),
            backend,
            "too_deep",
        ));
        cases.push(generated(format!("SELECT '{}'", "x".repeat(1 << 20)), backend, Intent::Read));
        cases.push(write(format!("SELECT '{}' FOR UPDATE", "x".repeat(1 << 20)), backend, "locking_clause"));
        cases.push(generated(
            format!("SELECT a FROM t WHERE b IN ({}1)", "1, ".repeat(1 << 18)),
            backend,
            Intent::Read,
        ));
        cases.push(generated("SELECT 1;".repeat(1 << 16), backend, Intent::Read));
        cases.push(generated("/*".repeat(deep) + &"*/".repeat(deep) + "SELECT 1", DbBackend::Postgres, Intent::Read));
    }
    cases
}
