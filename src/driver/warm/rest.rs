//! How a connection rests, or goes back, after its statement.

use sea_orm::{
    DbErr,
    sqlx::{Database, Executor, database::HasStatementCache},
};

use super::warm_pool::Checkout;
use crate::driver::{Access, Fault};

/// Gives back a connection on which a statement failed. A session for reads in which a statement was refused is closed:
/// the statement may have taken an advisory lock before. (A session for writes keeps what it has, as in SeaORM: its
/// locks and, of a SQLite database in memory, the database.)
pub(super) async fn give_back_failed<DB>(access: Access, mut checkout: Checkout<DB>, error: &DbErr)
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let fault = Fault::of(error);
    if fault == Fault::StalePlan && checkout.end_read_only().await.is_ok() {
        checkout.forget_plans();
    } else if fault.leaves_locks() && access.is_read_only() || checkout.end_read_only().await.is_err() {
        checkout.close();
    } else {
        checkout.answered();
    }
}

/// Ends the transaction around a statement that came to a clean end, if there is one, and lets the connection rest.
pub(super) async fn rested<DB>(mut checkout: Checkout<DB>, rest: fn(Checkout<DB>))
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    match checkout.end_read_only().await {
        Ok(()) => rest(checkout),
        // The statement has its answer all the same.
        Err(_) => checkout.close(),
    }
}

/// How a connection rests after the first row of a statement. sqlx has read the whole answer of PostgreSQL, and has
/// stopped SQLite's statement; of MySQL's answer it has read one row.
pub(super) fn rest_after_first_row<DB: Database>(checkout: Checkout<DB>) {
    match DB::NAME {
        "PostgreSQL" | "SQLite" => checkout.rest(),
        _ => checkout.rest_if_quiet(),
    }
}
