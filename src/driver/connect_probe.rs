//! The question that each new connection is asked: which server did it reach?

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use sea_orm::QueryResult;

#[cfg(any(feature = "postgres", feature = "mysql"))]
use super::{Pooling, Sessions, quiet::quietly};

/// Receives a server's answer on one new connection.
pub type ConnectProbeCallback = Box<dyn FnOnce(&QueryResult) + Send>;
/// Called before the question is sent; returns the receiver of the answer.
type Listener = Box<dyn Fn() -> Option<ConnectProbeCallback> + Send + Sync>;

/// Has each new physical connection of a pool asked which server it reached, before a statement uses the
/// connection: an address can come to mean another server, or the same one restarted.
///
/// The pool's owner sets the question. The monitor listens from the moment it believes something of the node.
#[derive(Clone)]
pub struct ConnectProbe {
    question: &'static str,
    listener: Arc<OnceLock<Listener>>,
}

impl ConnectProbe {
    pub(crate) fn new(question: &'static str) -> Self {
        Self { question, listener: Arc::default() }
    }

    /// Calls `listener` for each new connection from now on, before the question is sent. Without a receiver the
    /// question is not sent.
    pub(crate) fn listen(&self, listener: impl Fn() -> Option<ConnectProbeCallback> + Send + Sync + 'static) {
        // Only the first listener is kept.
        let _ = self.listener.set(Box::new(listener));
    }

    /// The question for a new connection and the receiver of the answer; `None` while there is no listener. A driver
    /// calls this before it sends the question.
    pub fn ask(&self) -> Option<(&'static str, ConnectProbeCallback)> {
        Some((self.question, self.listener.get()?()?))
    }
}

impl fmt::Debug for ConnectProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectProbe")
    }
}

/// Asks on a new connection, if the monitor listens. Behind a pooling proxy the answer would say nothing about the server
/// of the next statement.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) async fn ask_server<DB>(
    connection: &mut DB::Connection,
    connect_probe: &ConnectProbe,
    sessions: &Sessions,
) -> Result<(), sea_orm::sqlx::Error>
where
    DB: sea_orm::sqlx::Database,
    for<'e> &'e mut DB::Connection: sea_orm::sqlx::Executor<'e, Database = DB>,
    QueryResult: From<DB::Row>,
{
    use sea_orm::sqlx::{self, Executor};

    if sessions.pooling() != Pooling::None {
        return Ok(());
    }
    let Some((question, receive)) = connect_probe.ask() else { return Ok(()) };
    match quietly(connection.fetch_one(sqlx::raw_sql(question))).await {
        Ok(row) => receive(&QueryResult::from(row)),
        // The prober meets the same error from a server that does not know the question.
        Err(sqlx::Error::Database(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
