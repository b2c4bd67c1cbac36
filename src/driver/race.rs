//! The race of two attempts at one read, on two nodes: the loser is ended at its server.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use sea_orm::{DbErr, QueryResult, Statement};

use super::Signal;

/// Tells one attempt at a read that the other attempt has answered. The caller and the driver each hold a clone.
#[derive(Clone, Default)]
pub struct Race(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_lost: AtomicBool,
    signal: Signal,
}

impl Race {
    /// The other attempt has answered.
    pub(crate) fn lose(&self) {
        self.0.is_lost.store(true, Ordering::SeqCst);
        self.0.signal.raise();
    }

    /// Returns when the race is lost.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + '_ {
        self.0.signal.until(|| self.0.is_lost.load(Ordering::SeqCst).then_some(()))
    }

    /// The error of an attempt that lost its race, which no caller sees.
    pub fn error() -> DbErr {
        DbErr::Custom("another node has answered the read".to_owned())
    }
}

impl fmt::Debug for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Race")
    }
}

/// A pool that can end a statement at its server.
///
/// When the race is lost, the future of a statement ends the statement at the server, closes the connection after that,
/// and returns an error. A connection whose statement was ended is not used again: the order to end it may arrive late and
/// would end the next statement.
pub trait RacingDriver: Send + Sync {
    /// Runs a statement for its first row.
    fn query_one(&self, statement: Statement, race: Race) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>>;

    /// Runs a statement for all its rows.
    fn query_all(&self, statement: Statement, race: Race) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>>;
}
