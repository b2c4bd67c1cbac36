//! Properties that hold for every text.

use crate::support;

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use sea_orm::DbBackend;
use sea_orm_resolver::{Intent, Reason, classify};
use sqlparser::ast::Statement;
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;

const BACKENDS: [DbBackend; 3] = [DbBackend::Postgres, DbBackend::MySql, DbBackend::Sqlite];

/// Texts made of the pieces that matter, so that they come near the rules.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "SELECT", "select", "WITH", "c", "AS", "(", ")", ",", ".", ";", "INSERT", "INTO", "UPDATE", "DELETE", "FROM",
        "t", "FOR", "SHARE", "KEY", "NO", "LOCK", "IN", "MODE", "VALUES", "TABLE", "EXPLAIN", "ANALYZE", "SHOW",
        "TABLES", "PRAGMA", "COPY", "TO", "STDOUT", "'", "\"", "`", "[", "]", "$", "$$", "$a$", "$1", "?", "E'", "U&'",
        "U&\"", "\\", "--", "-- ", "#", "/*", "*/", "/*!", "\n", " ", "\t", "1", "1.5", "nextval(", "lower(", "@",
        "@@", "global", ":=", "::", ":", "=", "union", "all", "on", "join", "group", "by", "rollup", "values(", "x.",
        "é", "\u{feff}", "\0",
    ]);
    prop::collection::vec((piece, prop_oneof![Just(""), Just(" ")]), 0..40)
        .prop_map(|all| all.into_iter().flat_map(|(piece, space)| [piece, space]).collect())
}

/// The cases of the spec without literals and quoted names, whose spelling can be changed without changing their meaning.
fn plain_cases() -> Vec<support::Case> {
    let odd = ['\'', '"', '`', '[', '$', '-', '#', '/', '\\', '@', '\0', ':', '?', '\u{feff}', '\r'];
    support::cases()
        .into_iter()
        .filter(|case| !case.sql.contains(odd) && !case.sql.is_empty() && case.sql.is_ascii())
        // On MySQL `0x1F` is a number, and `0X1F` a name.
        .filter(|case| !["0x", "0X", "0b", "0B"].iter().any(|base| case.sql.contains(base)))
        .collect()
}

proptest! {
    #[test]
    fn any_text_gets_an_answer_with_a_position_inside(sql in any::<String>()) {
        for backend in BACKENDS {
            let seen = classify(&sql, backend);
            prop_assert!(seen.reason.position().is_none_or(|at| at <= sql.len()));
            let _ = (seen.reason.to_string(), seen.reason.text(&sql));
        }
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let sql = String::from_utf8_lossy(&bytes);
        for backend in BACKENDS {
            prop_assert_eq!(classify(&sql, backend), classify(&sql, backend));
        }
    }

    #[test]
    fn pieces_of_sql_get_an_answer_and_a_comment_in_front_changes_nothing(sql in pieces()) {
        for backend in BACKENDS {
            let seen = classify(&sql, backend);
            prop_assert!(seen.reason.position().is_none_or(|at| at <= sql.len()));
            if !sql.starts_with('\u{feff}') {
                prop_assert_eq!(classify(&format!("/* x */ {sql}"), backend).intent, seen.intent, "{:?}", sql);
            }
        }
    }

    #[test]
    fn case_space_and_comments_between_words_never_change_the_intent(
        at in any::<prop::sample::Index>(),
        spaces in prop::collection::vec(prop::sample::select(vec![" ", "\n", "\t", "  ", " /* FOR UPDATE */ ", "/**/", " -- it's\n", "\r\n"]), 1..20),
        upper in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let cases = plain_cases();
        let case = at.get(&cases);
        let mut gaps = spaces.iter().cycle();
        let mut letters = upper.iter().cycle();
        let sql: String = case.sql.chars().map(|letter| match letter {
            ' ' | '\n' | '\t' => (*gaps.next().expect("endless")).to_owned(),
            '(' => "(".to_owned() + gaps.next().expect("endless"),
            ',' => (*gaps.next().expect("endless")).to_owned() + ",",
            _ if *letters.next().expect("endless") => letter.to_ascii_uppercase().to_string(),
            _ => letter.to_ascii_lowercase().to_string(),
        }).collect();
        prop_assert_eq!(classify(&sql, case.backend).intent == Intent::Read, case.read, "{:?} {:?}", case.backend, sql);
    }
}

/// A line break in front of the parenthesis ends a comment, so that each case of the spec is tried, and can fail.
#[test]
fn a_write_in_parentheses_or_behind_a_read_stays_a_write() {
    let writes: Vec<_> = support::cases().into_iter().filter(|case| !case.read).collect();
    let mut reads = Vec::new();
    for case in &writes {
        let sql = &case.sql;
        for sql in [format!("({sql}\n)"), format!("SELECT 1; {sql}"), format!("WITH x AS ({sql}\n) SELECT 1")] {
            if classify(&sql, case.backend).intent == Intent::Read {
                reads.push(format!("{:?} {sql:?}", case.backend));
            }
        }
    }
    assert!(reads.is_empty(), "{} of 3 times {}:\n{}", reads.len(), writes.len(), reads.join("\n"));
    assert!(writes.len() > 1_400, "only {} writes", writes.len());
}

#[test]
fn a_query_in_parentheses_is_what_it_was() {
    for case in support::cases() {
        let verb = case.sql.trim_start().get(..6).unwrap_or_default().to_ascii_uppercase();
        if (verb == "SELECT" || verb == "VALUES") && !case.sql.contains([';', '\u{feff}']) {
            for sql in [format!("({}\n)", case.sql), format!("((({}\n)))", case.sql), format!("EXPLAIN {}", case.sql)] {
                let seen = classify(&sql, case.backend);
                assert_eq!(seen.intent == Intent::Read, case.read, "{:?} {sql:?} {seen:?}", case.backend);
            }
        }
    }
}

/// A second opinion: a statement that another parser takes for anything but a query is no read.
#[test]
fn a_statement_that_sqlparser_takes_for_a_write_is_no_read() {
    let (mut parsed, mut wrong) = (0, Vec::new());
    for case in support::cases() {
        let dialect: &dyn Dialect = match case.backend {
            DbBackend::Postgres => &PostgreSqlDialect {},
            DbBackend::MySql => &MySqlDialect {},
            _ => &SQLiteDialect {},
        };
        // sqlparser does not carry the escapes over to the continued literal; the server does.
        if case.sql.contains("E'a'\n") {
            continue;
        }
        let Ok(statements) = Parser::parse_sql(dialect, &case.sql) else {
            continue;
        };
        parsed += 1;
        let all_read = statements.iter().all(|statement| match statement {
            Statement::Query(query) => query.locks.is_empty(),
            Statement::Explain { statement, .. } => matches!(**statement, Statement::Query(_)),
            Statement::Copy { to, .. } => *to,
            Statement::ExplainTable { .. } | Statement::Pragma { .. } => true,
            other => other.to_string().to_ascii_uppercase().starts_with("SHOW"),
        });
        if !all_read && classify(&case.sql, case.backend).intent == Intent::Read {
            wrong.push(format!("{:?} {}", case.backend, case.sql));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(parsed > 500, "only {parsed} parsed");
}

#[test]
fn only_an_unknown_function_says_so() {
    let unknown = classify("SELECT f(1)", DbBackend::Postgres).reason;
    assert!(unknown.is_unknown_function());
    assert_eq!(unknown, Reason::UnknownFunction { at: 7, len: 1 });
    assert!(!classify("SELECT nextval('s')", DbBackend::Postgres).reason.is_unknown_function());
}
