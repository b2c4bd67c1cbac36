//! The question for each kind of database, and the reading of its answer. One round trip, no privileges.

#[cfg(test)]
mod fixture;
mod mysql;
mod postgres;

use std::fmt;

use sea_orm::{DbBackend, DbErr, QueryResult};

use crate::{
    driver::{Driver, Lost},
    topology::{Lsn, Reported, Role},
};

/// A server's answer about itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) role: Role,
    /// Names one life of one server.
    pub(super) incarnation: String,
    pub(super) position: Reported,
}

/// The extent of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The server's identity and position.
    Position,
    /// The server's identity: for servers that do not know the rest of the question.
    Identity,
}

/// The question for a kind of database; `None` for a database without a server.
pub(super) fn question(backend: DbBackend, scope: Scope) -> Option<&'static str> {
    match (backend, scope) {
        (DbBackend::Postgres, Scope::Position) => Some(postgres::QUESTION),
        (DbBackend::Postgres, Scope::Identity) => Some(postgres::IDENTITY),
        (DbBackend::MySql, Scope::Position) => Some(mysql::QUESTION),
        (DbBackend::MySql, Scope::Identity) => Some(mysql::IDENTITY),
        _ => None,
    }
}

/// The question to a promoted server for the end of its last recovery; `None` where the position tells it.
pub(super) fn recovery_question(backend: DbBackend) -> Option<&'static str> {
    match backend {
        DbBackend::Postgres => Some(postgres::RECOVERY),
        _ => None,
    }
}

/// The end of a server's last recovery, if the server tells it.
pub(super) fn read_recovery(row: &QueryResult) -> Option<Lsn> {
    text(row, "recovered_to")?.parse().ok()
}

/// The question for the user functions of the database; `None` where the catalogue does not tell what a function
/// does.
pub(super) fn functions_question(backend: DbBackend) -> Option<&'static str> {
    match backend {
        DbBackend::Postgres => Some(postgres::FUNCTIONS),
        _ => None,
    }
}

/// The list of functions: a line for each name in each schema.
pub(super) fn read_functions(row: &QueryResult) -> Result<String, DbErr> {
    row.try_get("", "functions")
}

/// Whether a node can be probed. SQLite files and mocks cannot be probed; they count as up.
pub(super) fn can_be_asked(driver: &dyn Driver) -> bool {
    question(driver.backend(), Scope::Identity).is_some() && driver.open_probe().is_some()
}

/// Reads the answer of a node to which the configuration gives this role.
pub(super) fn read_answer(backend: DbBackend, configured: Role, row: &QueryResult) -> Result<Answer, DbErr> {
    match backend {
        DbBackend::Postgres => postgres::read_answer(configured, row),
        _ => mysql::read_answer(configured, row),
    }
}

/// A column of an answer; `None` for NULL, and for a column that was not asked for.
fn text(row: &QueryResult, column: &str) -> Option<String> {
    row.try_get::<Option<String>>("", column).ok().flatten()
}

/// The error for an answer that makes no sense.
fn nonsense(column: &str, problem: impl fmt::Display) -> DbErr {
    DbErr::Type(format!("the server's `{column}` cannot be read: {problem}"))
}

/// Whether reads of the pool cannot write, by whatever means. A session of the pool is asked; where the session does not
/// have the setting that it was opened with, something between drops settings, and reads are protected in another way.
pub(super) async fn is_read_only(driver: &dyn Driver) -> Result<bool, DbErr> {
    let backend = driver.backend();
    let sessions = driver.sessions();
    if sessions.is_some_and(|sessions| !sessions.keep_settings()) {
        return Ok(true);
    }
    let question = match backend {
        // Not `transaction_read_only`, which a standby always has.
        DbBackend::Postgres => "SELECT current_setting('default_transaction_read_only') AS value",
        // MySQL 8 and MariaDB disagree on the variable's name, so neither can be selected.
        DbBackend::MySql => "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_read_only', 'transaction_read_only')",
        _ => "PRAGMA query_only",
    };
    let row = driver.ask(question).await?;
    // A proxy may have refused the setting on the way to this session.
    if sessions.is_some_and(|sessions| !sessions.keep_settings()) {
        return Ok(true);
    }
    let is_on = match (row, backend) {
        (None, _) => false,
        (Some(row), DbBackend::Postgres) => row.try_get_by_index::<String>(0)? == "on",
        (Some(row), DbBackend::MySql) => row.try_get_by_index::<String>(1)?.eq_ignore_ascii_case("on"),
        (Some(row), _) => row.try_get_by_index::<i64>(0)? == 1,
    };
    match sessions {
        Some(sessions) if !is_on => {
            sessions.lose(Lost::Ignored);
            Ok(true)
        }
        _ => Ok(is_on),
    }
}
