//! Classifies a statement as a read or a write: one pass, no allocation, linear in the length of the text.
//!
//! A statement is a read when the rules recognise it as one under every setting by which a server may read the text.
//! Every other statement is a write. `ROUTING.md` has the rules, `tests/spec/classify/` the cases, each with its reason
//! and its source.
//!
//! [`lexer`] makes tokens; [`literal`], [`number`] and [`comment`] find their ends. [`scan`] follows the tokens to the
//! end of the text: [`query`] follows queries, [`forms`] the other statements. For a query, [`clause`] has the rules of
//! the keywords, [`parenthesis`] and [`with`] those of their constructs, [`call`] decides about a name before a
//! parenthesis, and [`grammar`] about a keyword before one. [`names`] finds keywords and built-ins; [`functions`] has
//! the lists of built-ins.

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
    /// Any fresh node may run the statement.
    Read,
    /// The primary must run the statement.
    Write,
}

impl Intent {
    /// Whether any fresh node may run the statement.
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Read)
    }
}

/// The intent of a statement, and the reason for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Classification {
    /// Where the statement must run.
    pub intent: Intent,
    /// The rule that decided.
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
/// The classifier takes one pass over the text and allocates nothing.
///
/// # Kept on the primary, although a replica could run it
///
/// A read must be recognised as one. These statements are not, and each is a case in
/// `tests/spec/classify/over_cautious.toml`:
///
/// * A statement that only looks, but at what belongs to one session: `pg_backend_pid()`, `LAST_INSERT_ID()`,
///   `FOUND_ROWS()`, `last_insert_rowid()`, `@x`, `@@session.x`, `SHOW WARNINGS`, `SHOW STATUS`, `SHOW PROFILE`; and
///   the statements that begin and end state of a session: `BEGIN`, `COMMIT`, `SAVEPOINT`, `SET STATEMENT`, `UNLOCK
///   TABLES`, …
/// * A statement about one server, by which the primary is meant: `pg_terminate_backend()`, `pg_export_snapshot()`,
///   `LOAD_FILE()`, `SHOW PROCESSLIST`, `SHOW ENGINE`, `CHECK TABLE`, … Views such as `pg_stat_activity` are reads.
/// * A call that looks for a lock or releases one, because the lock is held on the primary: `pg_advisory_unlock()`,
///   `IS_FREE_LOCK()`, …
/// * An effect that the server never reaches: in a member of `WITH` that the statement does not use, under `EXPLAIN`,
///   or in a locking clause without a table. The words decide.
/// * A call of a function that is neither built in nor declared harmless by [`classify_with`]; on MySQL a built-in
///   whose name is quoted, one of those that only `IGNORE_SPACE` lets stand before a space (`count (x)`), and MariaDB's
///   short names of shapes (`X()`, `AREA()`, `WITHIN()`, …), which can as well be functions of yours.
/// * On MySQL a system variable that is not one of the usual settings, any `/*! … */`, and `DEFAULT(column)`, because
///   the default of a column may take a value of a sequence on MariaDB.
/// * A literal that another setting of the server would end elsewhere, if the text were then a write that the server
///   can parse.
/// * On PostgreSQL a qualified column that is named like a function that needs the primary (`t.nextval`): without such
///   a column the server takes the name for a call. A called name with escapes (`U&"…"(1)`).
/// * A `WITH` inside more than 64 parentheses, and a text of four gigabytes.
/// * On MySQL a name that begins with a digit and is not quoted (`2020_orders`).
/// * On SQLite a literal that begins with `pragma_` and does not stand behind an operator: the literal may name a
///   table.
/// * A pragma that is not known to only read, `DO`, `HELP`, and every verb that is no query, `SHOW`, `EXPLAIN`,
///   `DESCRIBE` or `COPY … TO STDOUT`.
///
/// # Reads about the node that answers
///
/// These are reads, and a replica answers them; but the replica tells of itself, not of the primary, and another node
/// may answer the next call (`tests/spec/classify/node_local.toml` has the cases):
///
/// * On PostgreSQL the views `pg_stat_*` and `pg_statio_*` (`pg_stat_activity`, `pg_stat_replication`,
///   `pg_stat_user_tables`, …), `pg_locks`, `pg_settings`, `pg_file_settings`, `pg_replication_slots`; `SHOW x` and
///   `current_setting()`; `pg_is_in_recovery()`, `pg_last_wal_replay_lsn()`, `inet_server_addr()`,
///   `inet_server_port()`, `pg_blocking_pids()`, `pg_stat_get_*()`, `version()`.
/// * On MySQL and MariaDB `performance_schema`, `information_schema.PROCESSLIST`, `INNODB_TRX`, `GLOBAL_STATUS` and
///   `GLOBAL_VARIABLES`; `SHOW VARIABLES`, `SHOW GLOBAL VARIABLES`; `@@port`, `@@hostname`, `@@global.x`, `VERSION()`.
///
/// `SHOW STATUS`, `SHOW PROCESSLIST` and `SHOW ENGINE` are about one node too, but the primary answers them.
///
/// On PostgreSQL `SELECT last_value FROM s` and the view `pg_sequences` are reads too, and a replica is up to 32 values
/// ahead of the primary in them: the log has values that the primary has not given out yet.
///
/// # Your own functions that are taken for built-ins
///
/// One table stands for all versions of a server, and for MySQL and MariaDB. A function that only some of them have
/// (`nvl`, `to_char`, `add_months`, `median` on MariaDB; `uuid_to_bin`, `regexp_like`, `any_value` on MySQL; `uuid_v7`
/// on new ones) counts as harmless everywhere, also where one of your own functions has that name or replaces a
/// built-in of SQLite. In the read-only session on a replica such a function cannot write; if it locks or changes its
/// session, call it on [`DatabaseConnection::write`](crate::DatabaseConnection::write), or choose another name.
///
/// To ask the primary, run the statement on [`DatabaseConnection::write`](crate::DatabaseConnection::write). To run
/// several statements on one node, keep one [`DatabaseConnection::read`](crate::DatabaseConnection::read) for all of
/// them: its node changes only when it has left or is down, and [`ReadConn::node`](crate::ReadConn::node) names it.
#[must_use]
pub fn classify(sql: &str, backend: DbBackend) -> Classification {
    classify_with(sql, backend, &BuiltInsOnly)
}

/// Classifies `sql`; `known` may declare further functions harmless.
#[must_use]
pub fn classify_with(sql: &str, backend: DbBackend, known: &dyn KnownFunctions) -> Classification {
    Classification::of(examine(sql, backend, known).0)
}

/// Whether this is the name of a PostgreSQL built-in that only reads, spelled as the catalogue stores it.
pub(crate) fn is_harmless_on_postgres(name: &str) -> bool {
    classify(&format!("SELECT pg_catalog.\"{name}\"()"), DbBackend::Postgres).intent.is_read()
}

/// The reason, and how many bytes the lexer read under all rules for literals.
fn examine(sql: &str, backend: DbBackend, known: &dyn KnownFunctions) -> (Reason, usize) {
    let Some(dialect) = Dialect::of(backend) else {
        return (Reason::UnknownBackend, 0);
    };
    if sql.len() >= token::TOO_LONG {
        return (Reason::TooLong, 0);
    }
    let (usual, others) = dialect.literal_rules();
    let mut scan = Scan::new(sql, dialect, usual, known);
    let reason = scan.run();
    let mut passed = scan.position();
    let Some(at) = scan.ambiguous().filter(|_| may_read(reason)) else {
        return (reason, passed);
    };
    for rules in others {
        let mut scan = Scan::new(sql, dialect, *rules, known);
        let mut other = scan.run();
        // A server with these rules refuses a statement that breaks off, and has run the statements before it.
        if !may_read(other) && scan.breaks_off(other) {
            other = scan.unknown_before().unwrap_or(reason);
        }
        passed += scan.position();
        if other != reason {
            return (Reason::AmbiguousLiteral { at }, passed);
        }
    }
    (reason, passed)
}

/// Whether the reason is that of a read, or one that the caller may know better.
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
