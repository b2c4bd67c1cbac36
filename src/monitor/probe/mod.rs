//! What each kind of database is asked, and how its answer is read. One round trip, no privileges.

mod mysql;
mod postgres;

use sea_orm::{DbBackend, DbErr, QueryResult, Statement};

use crate::{driver::Driver, topology::Role};

/// What a server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) role: Role,
    /// Names one life of one server.
    pub(super) incarnation: String,
}

/// The question for a kind of database; `None` where there is no server to ask.
pub(super) fn question(backend: DbBackend) -> Option<&'static str> {
    match backend {
        DbBackend::Postgres => Some(postgres::QUESTION),
        DbBackend::MySql => Some(mysql::QUESTION),
        _ => None,
    }
}

/// The question for the user functions of the database; `None` where the catalogue does not say what a
/// function does.
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

/// Whether a node can be asked how it is. A file or a mock cannot, and is taken at its word.
pub(super) fn can_be_asked(driver: &dyn Driver) -> bool {
    question(driver.backend()).is_some() && driver.connect_probe().is_some()
}

pub(super) fn read_answer(backend: DbBackend, row: &QueryResult) -> Result<Answer, DbErr> {
    match backend {
        DbBackend::Postgres => postgres::read_answer(row),
        _ => mysql::read_answer(row),
    }
}

/// Asks a session of the pool itself whether it is read-only in the database.
pub(super) async fn is_read_only(driver: &dyn Driver) -> Result<bool, DbErr> {
    let backend = driver.backend();
    let sql = match backend {
        DbBackend::Postgres => "SELECT current_setting('transaction_read_only') AS value",
        // MySQL 8 and MariaDB disagree on the variable's name, so neither can be selected.
        DbBackend::MySql => "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_read_only', 'transaction_read_only')",
        _ => "PRAGMA query_only",
    };
    let row = driver.query_one(Statement::from_string(backend, sql)).await?;
    let Some(row) = row else { return Ok(false) };
    match backend {
        DbBackend::Postgres => Ok(row.try_get_by_index::<String>(0)? == "on"),
        DbBackend::MySql => Ok(row.try_get_by_index::<String>(1)?.eq_ignore_ascii_case("on")),
        _ => Ok(row.try_get_by_index::<i64>(0)? == 1),
    }
}
