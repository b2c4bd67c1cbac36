//! A scenario: a task of a SeaORM program, on any connection, and its results.

use std::fmt::{Debug, Write};

use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, StreamTrait, TransactionError, TransactionTrait};

/// The calls that a program may make on a connection: SeaORM's own, or one of this crate's.
pub(super) trait Conn: ConnectionTrait + StreamTrait + TransactionTrait<Transaction: StreamTrait> {}

impl<C: ConnectionTrait + StreamTrait + TransactionTrait<Transaction: StreamTrait>> Conn for C {}

/// The results of a scenario, as text that can be compared. An error means a scenario that went wrong; an error
/// that is part of the results is [`told`].
pub(super) type Seen = Result<String, DbErr>;

/// The name of a scenario, its kind, and its function.
pub(super) struct Scenario<C> {
    pub(super) name: &'static str,
    pub(super) run: for<'c> fn(&'c C) -> BoxFuture<'c, Seen>,
    /// How often the scenario calls `execute_unprepared`, which SeaORM's metrics do not tell.
    pub(super) unprepared: u64,
}

/// Lists functions as scenarios; `name + 2` calls `execute_unprepared` twice.
macro_rules! scenarios {
    ($($name:ident $(+ $unprepared:literal)?),+ $(,)?) => {
        vec![$($crate::equivalence::scenario::Scenario {
            name: concat!(module_path!(), "::", stringify!($name)),
            run: |db| Box::pin($name(db)),
            unprepared: 0 $(+ $unprepared)?,
        }),+]
    };
}

/// Ends a scenario: the text of each expression, and its value.
macro_rules! seen {
    ($($what:expr),+ $(,)?) => {{
        let mut seen = String::new();
        $($crate::equivalence::scenario::note(&mut seen, stringify!($what), &$what);)+
        Ok(seen)
    }};
}

pub(super) use {scenarios, seen};

/// Records the value of an expression.
pub(super) fn note(seen: &mut String, expression: &str, value: &dyn Debug) {
    let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(seen, "{expression}\n{value:#?}");
}

/// An outcome that may be an error: its kind, its text, and SeaORM's classification of it.
pub(super) fn told<T>(outcome: Result<T, DbErr>) -> Result<T, String> {
    outcome.map_err(|error| {
        // A write inside a READ ONLY transaction: this crate's error has a type for that, and its source is the
        // server's.
        let ours = sea_orm_resolver::Error::from_db_err(&error).and_then(std::error::Error::source);
        let error = ours.and_then(|source| source.downcast_ref()).cloned().unwrap_or(error);
        let kind = format!("{error:?}");
        let kind = kind.split(['(', ' ', '{']).next().unwrap_or_default();
        let text = format!("{kind}: {error} ({:?})", error.sql_err());
        // sqlx names the statements it prepares by a number of the connection, and PostgreSQL tells
        // where in its own source an error arose, which depends on whether the statement was prepared.
        without_number_after(" at line ", &without_number_after("sqlx_s_", &text))
    })
}

/// Takes out the numbers that follow `word`.
fn without_number_after(word: &str, text: &str) -> String {
    let mut parts = text.split(word);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + word + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// [`told`], for the outcome of a transaction.
pub(super) fn ended<T>(outcome: Result<T, TransactionError<DbErr>>) -> Result<T, String> {
    outcome.map_err(|error| match error {
        TransactionError::Connection(error) => format!("connection: {:?}", told::<()>(Err(error))),
        TransactionError::Transaction(error) => format!("transaction: {:?}", told::<()>(Err(error))),
    })
}

/// Both traits of a connection have this method.
pub(super) fn backend(db: &impl ConnectionTrait) -> DbBackend {
    db.get_database_backend()
}
