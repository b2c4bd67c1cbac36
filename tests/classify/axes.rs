//! Cases multiplied along the axes of `ROUTING.md`: a rule × where it stands × how it is written.

use sea_orm::DbBackend;
use sea_orm_resolver::{Intent, classify};

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

const PLACES: &[&str] = &[
    "SELECT a FROM t {}",
    "SELECT a FROM (SELECT b FROM t {}) x",
    "SELECT a FROM t WHERE b IN (SELECT c FROM t {})",
    "WITH c AS (SELECT a FROM t {}) SELECT 1",
    "WITH c AS (SELECT 1), d (x) AS (SELECT a FROM t {}) SELECT * FROM c",
    "(SELECT a FROM t {}) UNION (SELECT 1)",
    "(SELECT 1) UNION ALL (SELECT a FROM t {})",
    "SELECT a FROM t CROSS JOIN LATERAL (SELECT 1 FROM t {}) x",
    "SELECT 1; SELECT a FROM t {}",
    "EXPLAIN SELECT a FROM t {}",
    "((SELECT a FROM t {}))",
    "SELECT ARRAY(SELECT a FROM t {})",
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

struct Tally {
    seen: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn expect(&mut self, sql: &str, backend: DbBackend, intent: Intent) {
        self.seen += 1;
        let seen = classify(sql, backend);
        if seen.intent != intent {
            self.wrong.push(format!("{backend:?} {sql:?} is {seen:?}"));
        }
    }

    fn verdict(self, at_least: usize) {
        assert!(
            self.wrong.is_empty(),
            "{} of {}:\n{}",
            self.wrong.len(),
            self.seen,
            self.wrong[..self.wrong.len().min(40)].join("\n")
        );
        assert!(self.seen >= at_least, "only {} cases", self.seen);
        println!("{} cases", self.seen);
    }
}

const NONE: Tally = Tally { seen: 0, wrong: Vec::new() };

#[test]
fn a_locking_clause_is_a_write_wherever_and_however_it_is_written() {
    let mut tally = NONE;
    for (lock, backends) in LOCKS {
        for &backend in *backends {
            for spelling in spellings(lock, backend) {
                for place in PLACES {
                    for end in ENDS {
                        tally.expect(&(place.replace("{}", &spelling) + end), backend, Intent::Write);
                    }
                }
            }
        }
    }
    tally.verdict(5_000);
}

#[test]
fn the_same_places_without_the_clause_are_reads() {
    let mut tally = NONE;
    for place in PLACES {
        for end in ENDS {
            for backend in [DbBackend::Postgres, DbBackend::MySql, DbBackend::Sqlite] {
                tally.expect(&(place.replace("{}", "") + end), backend, Intent::Read);
            }
        }
    }
    tally.verdict(200);
}

#[test]
fn a_modifying_member_of_with_is_a_write() {
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
    let mut tally = NONE;
    for verb in verbs {
        for place in places {
            for open in ["({})", "( {})", "(\n{}\n)", "(/* c */{})", "(-- c\n{})", "(\t{} )"] {
                for lower in [false, true] {
                    let sql = place.replace("({})", open).replace("{}", verb);
                    let sql = if lower { sql.to_lowercase() } else { sql };
                    for backend in [DbBackend::Postgres, DbBackend::MySql, DbBackend::Sqlite] {
                        tally.expect(&sql, backend, Intent::Write);
                    }
                }
            }
        }
    }
    tally.verdict(2_000);
}

#[test]
fn a_keyword_inside_a_literal_a_name_or_a_comment_decides_nothing() {
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
        "SELECT 1 # {}\n",
        "SELECT 1 #{}",
        "SELECT _utf8'{}'",
    ];
    let sqlite = ["SELECT [{}] FROM t", "SELECT `{}` FROM t"];
    let mut tally = NONE;
    for word in words {
        for (places, backends) in [
            (&all[..], &[DbBackend::Postgres, DbBackend::MySql, DbBackend::Sqlite][..]),
            (&postgres, &[DbBackend::Postgres]),
            (&mysql, &[DbBackend::MySql]),
            (&sqlite, &[DbBackend::Sqlite]),
        ] {
            for place in places {
                for &backend in backends {
                    tally.expect(&place.replace("{}", word), backend, Intent::Read);
                    tally.expect(&place.replace("{}", &word.to_lowercase()), backend, Intent::Read);
                }
            }
        }
    }
    tally.verdict(1_500);
}

#[test]
fn a_stacked_statement_is_a_read_only_if_each_is() {
    let reads = ["SELECT 1", "VALUES (1)", "WITH c AS (SELECT 1) SELECT 2", "(SELECT 1)", ""];
    let writes = [
        "DELETE FROM t",
        "SET a = 1",
        "SELECT 1 INTO x",
        "BEGIN",
        "WITH c AS (SELECT 1) DELETE FROM t",
        "SELECT no_such_function(1)",
    ];
    let mut tally = NONE;
    for backend in [DbBackend::Postgres, DbBackend::MySql, DbBackend::Sqlite] {
        for between in [";", " ; ", ";;", "; -- x\n", "/* x */;\n"] {
            for first in reads {
                for second in reads {
                    tally.expect(&format!("{first}{between}{second}"), backend, Intent::Read);
                }
                for second in writes {
                    tally.expect(&format!("{first}{between}{second}"), backend, Intent::Write);
                    tally.expect(&format!("{second}{between}{first}"), backend, Intent::Write);
                }
            }
        }
    }
    tally.verdict(1_000);
}

#[test]
fn very_long_texts_get_an_answer() {
    let deep = 100_000;
    let mut tally = NONE;
    for backend in [DbBackend::Postgres, DbBackend::MySql, DbBackend::Sqlite] {
        tally.expect(&format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep)), backend, Intent::Read);
        tally.expect(&format!("{}SELECT 1{}", "(".repeat(deep), ")".repeat(deep)), backend, Intent::Read);
        tally.expect(&format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep - 1)), backend, Intent::Write);
        tally.expect(&format!("SELECT {}nextval(1){}", "(".repeat(deep), ")".repeat(deep)), backend, Intent::Write);
        tally.expect(
            &format!("SELECT {}SELECT 1 FOR UPDATE{}", "(".repeat(deep), ")".repeat(deep)),
            backend,
            Intent::Write,
        );
        tally.expect(
            &format!("SELECT {}WITH c AS (SELECT 1) SELECT 1{}", "(".repeat(deep), ")".repeat(deep)),
            backend,
            Intent::Write,
        );
        tally.expect(&format!("SELECT '{}'", "x".repeat(1 << 20)), backend, Intent::Read);
        tally.expect(&format!("SELECT '{}' FOR UPDATE", "x".repeat(1 << 20)), backend, Intent::Write);
        tally.expect(&format!("SELECT a FROM t WHERE b IN ({}1)", "1, ".repeat(1 << 18)), backend, Intent::Read);
        tally.expect(&"SELECT 1;".repeat(1 << 16), backend, Intent::Read);
        tally.expect(&("/*".repeat(deep) + &"*/".repeat(deep) + "SELECT 1"), DbBackend::Postgres, Intent::Read);
    }
    tally.verdict(30);
}
