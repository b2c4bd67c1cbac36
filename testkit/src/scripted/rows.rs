//! The answers of nodes without a server. Only SeaORM can make such answers, and its mock makes any.

use futures_util::FutureExt;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, MockDatabase, MockExecResult, QueryResult, Statement};

use super::Row;

/// One row of any columns.
pub(crate) fn queried(backend: DbBackend, row: Row) -> Result<QueryResult, DbErr> {
    let mock = MockDatabase::new(backend).append_query_results([[row]]).into_connection();
    let answer = mock.query_one_raw(Statement::from_string(backend, "")).now_or_never();
    Ok(answer.expect("a mock answers at once")?.expect("one row was put in"))
}

/// The answer to a statement that changed one row.
pub(crate) fn executed(backend: DbBackend) -> Result<ExecResult, DbErr> {
    let result = MockExecResult { last_insert_id: 1, rows_affected: 1 };
    let mock = MockDatabase::new(backend).append_exec_results([result]).into_connection();
    let answer = mock.execute_raw(Statement::from_string(backend, "")).now_or_never();
    answer.expect("a mock answers at once")
}
