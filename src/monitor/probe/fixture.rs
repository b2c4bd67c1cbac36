//! Answers as servers gave them, and answers that no server should give.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, MockDatabase, QueryResult, Statement, Value};

use super::Answer;
use crate::topology::Role;

/// The columns of an answer; a column that is `None` is NULL.
pub(super) type Columns<'a> = &'a [(&'a str, Option<&'a str>)];

/// Reads an answer for a node to which the configuration gives this role.
pub(super) async fn understood(backend: DbBackend, configured: Role, columns: Columns<'_>) -> Result<Answer, DbErr> {
    super::read_answer(backend, configured, &row(backend, columns).await)
}

/// The answer with one column replaced.
pub(super) fn with<'a>(columns: Columns<'a>, name: &'a str, value: Option<&'a str>) -> Vec<(&'a str, Option<&'a str>)> {
    columns.iter().map(|&(column, said)| (column, if column == name { value } else { said })).collect()
}

async fn row(backend: DbBackend, columns: Columns<'_>) -> QueryResult {
    let value = |text: &Option<&str>| Value::String(text.map(str::to_owned));
    let row: BTreeMap<_, _> = columns.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
    let mock = MockDatabase::new(backend).append_query_results([[row]]).into_connection();
    let answer = mock.query_one_raw(Statement::from_string(backend, "")).await;
    answer.expect("the mock answers").expect("with one row")
}
