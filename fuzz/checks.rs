//! Properties that hold for every text, in every dialect: for the fuzzer, and for the statements of the spec
//! (`tests/classify/every_text.rs`).

use sea_orm::DbBackend;
use sea_orm_resolver::{Classification, Intent, Reason, classify};
use sqlparser::ast::Statement;
use sqlparser::dialect::{Dialect, GenericDialect, PostgreSqlDialect};
use sqlparser::parser::Parser;

const BACKENDS: [DbBackend; 3] = [DbBackend::Postgres, DbBackend::MySql, DbBackend::Sqlite];

/// A byte order mark means something only at the very beginning.
const BOM: char = '\u{feff}';

/// Fails when a property does not hold for this text.
pub(crate) fn check(bytes: &[u8]) {
    let sql = String::from_utf8_lossy(bytes);
    for backend in BACKENDS {
        let seen = classify(&sql, backend);
        has_a_place(&sql, seen);
        if !sql.starts_with(BOM) {
            same(&format!("/* x */{sql}"), backend, &sql, seen);
            same(&format!("-- it's\n{sql}"), backend, &sql, seen);
            same(&format!("SELECT 1;\n{sql}"), backend, &sql, seen);
        }
        if !is_open(&sql, seen.reason) {
            same(&format!("{sql}\n/* x */"), backend, &sql, seen);
            same(&format!("{sql}\n;"), backend, &sql, seen);
            in_parentheses(&sql, backend, seen);
        }
        if is_plain(&sql) {
            same(&sql.to_ascii_uppercase(), backend, &sql, seen);
            same(&sql.to_ascii_lowercase(), backend, &sql, seen);
            for space in ["\n", "\t\t", "/**/", " /* FOR UPDATE ' */ ", " -- it's\n"] {
                same(&sql.replace([' ', '\n', '\t'], space), backend, &sql, seen);
                same(
                    &sql.replace('(', &format!("({space}")).replace(',', &format!("{space},{space}")),
                    backend,
                    &sql,
                    seen,
                );
            }
            second_opinion(&sql, backend, seen);
        }
    }
}

fn has_a_place(sql: &str, seen: Classification) {
    assert!(seen.reason.position().is_none_or(|at| at <= sql.len()), "{sql:?} {seen:?}");
    let _ = (seen.reason.to_string(), seen.reason.text(sql));
}

/// Checks that another way to write a statement has the same intent.
#[track_caller]
fn same(other: &str, backend: DbBackend, sql: &str, seen: Classification) {
    let also = classify(other, backend);
    assert_eq!(also.intent, seen.intent, "{backend:?}\n  {sql:?}\n  is {seen:?},\n  {other:?}\n  is {also:?}");
}

/// A query in parentheses is the same query.
fn in_parentheses(sql: &str, backend: DbBackend, seen: Classification) {
    let verb = sql.get(..6).unwrap_or_default();
    if verb.eq_ignore_ascii_case("select") && !sql.contains(';') && !matches!(seen.reason, Reason::Incomplete { .. }) {
        same(&format!("({sql}\n)"), backend, sql, seen);
    }
}

/// Whether more text behind this one could change how it ends; with a backslash, perhaps only under another setting.
fn is_open(sql: &str, reason: Reason) -> bool {
    sql.contains('\\') || matches!(reason, Reason::Unterminated { .. } | Reason::AmbiguousLiteral { .. })
}

/// Whether case and space do not count: no literal, quoted name, comment, parameter, variable, or number with a base.
fn is_plain(sql: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || " \n\t_,.()*+<>=;%|&^~-/".contains(c);
    sql.chars().all(is_word) && !["--", "/*", "*/", "0x", "0X", "0b", "0B"].iter().any(|mark| sql.contains(mark))
}

/// Checks that a statement which another parser takes for anything but a query is no read.
fn second_opinion(sql: &str, backend: DbBackend, seen: Classification) {
    // Its dialects for MySQL and SQLite panic at an operator without a right side: a DIV, a MATCH.
    let dialect: &dyn Dialect = match backend {
        DbBackend::Postgres => &PostgreSqlDialect {},
        _ => &GenericDialect {},
    };
    if seen.intent != Intent::Read {
        return;
    }
    let Ok(statements) = Parser::parse_sql(dialect, sql) else { return };
    for statement in statements {
        let may_read = match &statement {
            Statement::Query(query) => query.locks.is_empty(),
            Statement::Explain { .. } | Statement::ExplainTable { .. } | Statement::Pragma { .. } => true,
            Statement::Copy { to, .. } => *to,
            other => other.to_string().to_ascii_uppercase().starts_with("SHOW"),
        };
        assert!(may_read, "{backend:?} {sql:?} is a read, and for sqlparser it is {statement:?}");
    }
}
