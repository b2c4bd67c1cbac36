//! A scenario: something a SeaORM program does, on any connection, and what it gets to see.

use std::fmt::{Debug, Write};

use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, StreamTrait, TransactionError, TransactionTrait};

/// What a program may ask of a connection: SeaORM's own, or one of ours.
pub(super) trait Conn: ConnectionTrait + StreamTrait + TransactionTrait<Transaction: StreamTrait> {}

impl<C: ConnectionTrait + StreamTrait + TransactionTrait<Transaction: StreamTrait>> Conn for C {}

/// What a scenario saw, as text that can be compared. An error is a scenario that went wrong; one
/// that is meant to be seen is [`told`].
pub(super) type Seen = Result<String, DbErr>;

/// A name, what kind of thing it is, and how it is done.
pub(super) struct Scenario<C> {
    pub(super) name: &'static str,
    pub(super) run: for<'c> fn(&'c C) -> BoxFuture<'c, Seen>,
    /// How often it calls `execute_unprepared`, of which SeaORM's metrics do not hear.
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

/// Ends a scenario: each expression, as it stands here, and what it was.
macro_rules! seen {
    ($($what:expr),+ $(,)?) => {{
        let mut seen = String::new();
        $($crate::equivalence::scenario::note(&mut seen, stringify!($what), &$what);)+
        Ok(seen)
    }};
}

pub(super) use {scenarios, seen};

/// Writes down what an expression was.
pub(super) fn note(seen: &mut String, expression: &str, value: &dyn Debug) {
    let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(seen, "{expression}\n{value:#?}");
}

/// An outcome that may be an error: its kind, its text, and what SeaORM recognises in it.
pub(super) fn told<T>(outcome: Result<T, DbErr>) -> Result<T, String> {
    outcome.map_err(|error| {
        // A write inside a READ ONLY transaction: ours says so by its type, and its source is the server's.
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
