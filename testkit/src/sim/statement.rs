//! The few statements that the model understands.

use sea_orm::{DbBackend, Statement, Value};

use super::{KEYS, ReadId, WriteId};

/// A statement of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Read(ReadId),
    /// The prober's question, which comes through a pool when the nodes are not probed.
    Ask,
    Write {
        key: usize,
        write: WriteId,
    },
}

const SELECT: &str = "SELECT k0, k1, k2, server FROM register";
const NAMED: &str = " WHERE id <> ";

pub(super) fn select(backend: DbBackend, read: ReadId) -> Statement {
    let name = if backend == DbBackend::Postgres { "$1" } else { "?" };
    Statement::from_sql_and_values(backend, format!("{SELECT}{NAMED}{name}"), [i64::from(read).into()])
}

pub(super) fn update(backend: DbBackend, key: usize, write: WriteId) -> Statement {
    prepared(backend, key, write, "")
}

pub(super) fn update_returning(backend: DbBackend, key: usize, write: WriteId) -> Statement {
    prepared(backend, key, write, " RETURNING last_write")
}

fn prepared(backend: DbBackend, key: usize, write: WriteId, rest: &str) -> Statement {
    let (first, second) = if backend == DbBackend::Postgres { ("$1", "$2") } else { ("?", "?") };
    let sql = format!("UPDATE register SET last_write = {first} WHERE id = {second}{rest}");
    #[expect(clippy::cast_possible_wrap, reason = "a handful of keys")]
    let key = key as i64;
    Statement::from_sql_and_values(backend, sql, [i64::from(write).into(), key.into()])
}

pub(super) fn update_text(key: usize, write: WriteId) -> String {
    format!("UPDATE register SET last_write = {write} WHERE id = {key}")
}

/// Reads a statement with its values, or a text.
///
/// # Panics
/// The statement was made by none of the functions above.
pub(super) fn command(sql: &str, values: &[Value]) -> Command {
    if sql.contains("AS incarnation") {
        return Command::Ask;
    }
    let numbers: Vec<u64> = if values.is_empty() {
        sql.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    } else {
        let number = |value: &Value| match value {
            Value::BigInt(Some(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        values.iter().filter_map(number).collect()
    };
    if sql.starts_with(SELECT) {
        let read = numbers.first().and_then(|read| ReadId::try_from(*read).ok());
        return Command::Read(read.expect("the name of a read"));
    }
    let [write, key] = numbers[..] else { panic!("no model of `{sql}`") };
    let key = usize::try_from(key).ok().filter(|key| *key < KEYS).expect("a key of the table");
    Command::Write { key, write: WriteId::try_from(write).expect("the name of a write") }
}

pub(super) fn values(statement: &Statement) -> &[Value] {
    statement.values.as_ref().map_or(&[], |values| &values.0)
}
