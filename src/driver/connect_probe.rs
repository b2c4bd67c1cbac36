//! Who answers on a new connection.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use sea_orm::QueryResult;

/// Hears what a server said on one new connection.
pub type ConnectProbeCallback = Box<dyn FnOnce(&QueryResult) + Send>;
/// Is called before the question goes out.
type Listener = Box<dyn Fn() -> Option<ConnectProbeCallback> + Send + Sync>;

/// Has each new physical connection of a pool asked who answers there, before it is used: an address can
/// come to mean another server, or the same one restarted.
///
/// Whoever opens a pool puts the question; whoever believes something of the node listens, from when there is
/// something to believe.
#[derive(Clone)]
pub struct ConnectProbe {
    question: &'static str,
    listener: Arc<OnceLock<Listener>>,
}

impl ConnectProbe {
    pub(crate) fn new(question: &'static str) -> Self {
        Self { question, listener: Arc::default() }
    }

    /// Called once for each connection from now on, before the question goes out; it does not if nobody hears.
    pub(crate) fn listen(&self, listener: impl Fn() -> Option<ConnectProbeCallback> + Send + Sync + 'static) {
        // Who listens first goes on listening.
        let _ = self.listener.set(Box::new(listener));
    }

    /// To be called before a new connection is asked: the question, and who hears the answer. `None` while
    /// nobody listens.
    pub fn ask(&self) -> Option<(&'static str, ConnectProbeCallback)> {
        Some((self.question, self.listener.get()?()?))
    }
}

impl fmt::Debug for ConnectProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectProbe")
    }
}

/// Asks on a new connection, if somebody listens.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) async fn greet<DB>(
    connection: &mut DB::Connection,
    connect_probe: &ConnectProbe,
) -> Result<(), sea_orm::sqlx::Error>
where
    DB: sea_orm::sqlx::Database,
    for<'e> &'e mut DB::Connection: sea_orm::sqlx::Executor<'e, Database = DB>,
    QueryResult: From<DB::Row>,
{
    use sea_orm::sqlx::{self, Executor};

    let Some((question, heard)) = connect_probe.ask() else { return Ok(()) };
    match connection.fetch_one(sqlx::raw_sql(question)).await {
        Ok(row) => heard(&QueryResult::from(row)),
        // A server that does not know the question says so to the prober too.
        Err(sqlx::Error::Database(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
