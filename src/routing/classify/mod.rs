//! Is a statement a read? In one pass, without allocation, linear in its length.
//!
//! A read is what is positively recognised as one in every way the server may read the text;
//! everything else is a write. `ROUTING.md` has the rules, `tests/spec/classify/` the cases, each with its reason and
//! where it comes from.
//!
//! [`lexer`] makes tokens, and [`literal`], [`number`] and [`comment`] find their ends; [`chunk`] reads eight
//! bytes at once for them. [`scan`] is where a text is followed to its end: [`query`] through queries, with
//! [`clause`] for the keywords, [`parenthesis`], [`with`], [`call`] for a name before a parenthesis and [`grammar`] for a
//! keyword there; [`forms`] through the statements that are not queries. [`functions`] holds the tables.

mod call;
mod called;
mod clause;
mod comment;
mod copy;
mod dialect;
mod explain;
mod forms;
mod functions;
mod grammar;
mod keyword;
mod lexer;
mod literal;
mod names;
mod number;
mod parenthesis;
mod phase;
mod pragma;
mod query;
mod reason;
mod scan;
mod shape;
mod show;
mod token;
mod with;

use sea_orm::DbBackend;
use serde::Serialize;

pub use called::{FunctionName, KnownFunctions};
pub use functions::Effect;
pub use reason::Reason;
pub(crate) use shape::{Shape, Statements, shape_of, text_of_shape};

use called::BuiltInsOnly;
use dialect::Dialect;
use scan::Scan;

/// Where a statement must run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Any fresh node will do.
    Read,
    /// The primary.
    Write,
}

impl Intent {
    /// Will any fresh node do?
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Read)
    }
}

/// The intent of a statement, and what decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Classification {
    /// Where it must run.
    pub intent: Intent,
    /// What decided.
    pub reason: Reason,
}

impl Classification {
    fn of(reason: Reason) -> Self {
        let intent = match reason {
            Reason::PlainRead | Reason::Empty => Intent::Read,
            _ => Intent::Write,
        };
        Self { intent, reason }
    }
}

/// Classifies `sql`, the text of one or several statements; only built-in functions are known.
///
/// It takes one pass over the text and allocates nothing.
///
/// # Kept on the primary, although a replica could run it
///
/// A read is what is recognised as one. These are not, and each is a case in `tests/spec/classify/over_cautious.toml`:
///
/// * What belongs to one session, though it only looks: `pg_backend_pid()`, `LAST_INSERT_ID()`, `FOUND_ROWS()`,
///   `last_insert_rowid()`, `@x`, `@@session.x`, `SHOW WARNINGS`, `SHOW STATUS`, `SHOW PROFILE`; and the statements that
///   begin and end what a session has: `BEGIN`, `COMMIT`, `SAVEPOINT`, `SET STATEMENT`, `UNLOCK TABLES`, …
/// * What is about one server, where the primary is meant: `pg_terminate_backend()`, `pg_export_snapshot()`,
///   `LOAD_FILE()`, `SHOW PROCESSLIST`, `SHOW ENGINE`, `CHECK TABLE`, … Views such as `pg_stat_activity` are reads.
/// * Looking for or releasing a lock, which nobody holds on a replica: `pg_advisory_unlock()`, `IS_FREE_LOCK()`, …
/// * An effect that the server never comes to: in a member of `WITH` that nobody refers to, under `EXPLAIN`, or a
///   locking clause where there is no table. The words decide.
/// * A function that is neither built in nor declared, however harmless ([`classify_with`] can be told); on MySQL a
///   built-in whose name is quoted, one of those that only `IGNORE_SPACE` lets stand before a space (`count (x)`), and
///   MariaDB's short names of shapes (`X()`, `AREA()`, `WITHIN()`, …), which can as well be functions of yours.
/// * On MySQL a system variable that is not one of the usual settings, and any `/*! … */`.
/// * A literal that another setting of the server would end elsewhere, if the text would then be no read.
/// * On PostgreSQL a qualified column that is named like a function that needs the primary (`t.nextval`): without such
///   a column it would be a call. A called name with escapes (`U&"…"(1)`).
/// * A `WITH` inside more than 64 parentheses, and a text of four gigabytes.
/// * On MySQL a name that begins with a digit and is not quoted (`2020_orders`).
/// * On SQLite a literal that begins with `pragma_` and does not stand behind an operator: it may name a table.
/// * A pragma that is not known to only read, `DO`, `HELP`, and every verb that is no query, `SHOW`, `EXPLAIN`,
///   `DESCRIBE` or `COPY … TO STDOUT`.
///
/// # Reads about the node that answers
///
/// These are reads, and a replica answers them; but it tells of itself, not of the primary, and the next call may be
/// answered by another node (`tests/spec/classify/node_local.toml` has the cases):
///
/// * On PostgreSQL the views `pg_stat_*` and `pg_statio_*` (`pg_stat_activity`, `pg_stat_replication`,
///   `pg_stat_user_tables`, …), `pg_locks`, `pg_settings`, `pg_file_settings`, `pg_replication_slots`; `SHOW x` and
///   `current_setting()`; `pg_is_in_recovery()`, `pg_last_wal_replay_lsn()`, `inet_server_addr()`,
///   `inet_server_port()`, `pg_blocking_pids()`, `pg_stat_get_*()`, `version()`.
/// * On MySQL and MariaDB `performance_schema`, `information_schema.PROCESSLIST`, `INNODB_TRX`, `GLOBAL_STATUS` and
///   `GLOBAL_VARIABLES`; `SHOW VARIABLES`, `SHOW GLOBAL VARIABLES`; `@@port`, `@@hostname`, `@@global.x`, `VERSION()`.
///
/// `SHOW STATUS`, `SHOW PROCESSLIST` and `SHOW ENGINE` are about one node too, but no reads: the primary answers.
///
/// On PostgreSQL `SELECT last_value FROM s` and the view `pg_sequences` are reads too, and a replica is up to 32 values
/// ahead of the primary in them: the log has values that were not given out yet.
///
/// # Functions of yours that are taken for built-ins
///
/// One table stands for all versions of a server, and for MySQL and MariaDB. What is built in on some of them only
/// (`nvl`, `to_char`, `add_months`, `median` on MariaDB; `uuid_to_bin`, `regexp_like`, `any_value` on MySQL; `uuid_v7` on
/// new ones) is a read everywhere, also where a function of yours has that name, or replaces a built-in of SQLite. In the
/// read-only session on a replica it cannot write; if it locks or changes its session, call it on
/// [`DatabaseConnection::write`](crate::DatabaseConnection::write), or choose another name.
///
/// To ask the primary, run the statement on [`DatabaseConnection::write`](crate::DatabaseConnection::write). To ask
/// several things of one node, keep one [`DatabaseConnection::read`](crate::DatabaseConnection::read) for all of them:
/// its node changes only when it has left or is down, and [`ReadConn::node`](crate::ReadConn::node) names it.
#[must_use]
pub fn classify(sql: &str, backend: DbBackend) -> Classification {
    classify_with(sql, backend, &BuiltInsOnly)
}

/// Classifies `sql`; `known` may declare further functions harmless.
#[must_use]
pub fn classify_with(sql: &str, backend: DbBackend, known: &dyn KnownFunctions) -> Classification {
    Classification::of(examine(sql, backend, known).0)
}

/// Is this the name of a built-in of PostgreSQL, as its catalogue stores it, that only reads?
pub(crate) fn is_harmless_on_postgres(name: &str) -> bool {
    classify(&format!("SELECT pg_catalog.\"{name}\"()"), DbBackend::Postgres).intent.is_read()
}

/// The reason, and how many bytes the lexer went over in all readings.
fn examine(sql: &str, backend: DbBackend, known: &dyn KnownFunctions) -> (Reason, usize) {
    let Some(dialect) = Dialect::of(backend) else {
        return (Reason::UnknownBackend, 0);
    };
    if sql.len() >= token::TOO_LONG {
        return (Reason::TooLong, 0);
    }
    let mut passed = 0;
    let mut usual = None;
    for rules in dialect.literal_rules() {
        let mut scan = Scan::new(sql, dialect, *rules, known);
        let reason = scan.run();
        passed += scan.position();
        let first = *usual.get_or_insert((reason, scan.ambiguous()));
        let Some(at) = first.1 else {
            return (first.0, passed);
        };
        if !may_read(first.0) {
            return (first.0, passed);
        }
        let seen = match reason {
            // The server refuses the statement that breaks off; it has run those before.
            Reason::Unterminated { .. } => scan.unknown_before().unwrap_or(first.0),
            other => other,
        };
        if seen != first.0 {
            return (Reason::AmbiguousLiteral { at }, passed);
        }
    }
    (usual.map_or(Reason::UnknownBackend, |first| first.0), passed)
}

/// Is this no reason against a read, or one that the caller may know better?
fn may_read(reason: Reason) -> bool {
    matches!(reason, Reason::PlainRead | Reason::Empty | Reason::UnknownFunction { .. })
}

#[cfg(test)]
mod tests {
    use super::{BuiltInsOnly, examine};
    use sea_orm::DbBackend;

    #[test]
    fn no_text_is_passed_over_more_often_than_there_are_readings() {
        for piece in
            ["(", "'", "\"", "\\'", "$a", "$a$", "/*", "*/", "E'\\'\n", "--", "a.", "f(", "with x as (", "u&\"", ";"]
        {
            for count in [1, 10, 1_000, 50_000] {
                let sql = format!("SELECT {}", piece.repeat(count));
                for (backend, readings) in [(DbBackend::Postgres, 2), (DbBackend::MySql, 4), (DbBackend::Sqlite, 1)] {
                    let (_, passed) = examine(&sql, backend, &BuiltInsOnly);
                    assert!(passed <= readings * sql.len(), "{piece} × {count}: {passed} of {}", sql.len());
                }
            }
        }
    }
}
