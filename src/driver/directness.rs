//! The proof that a connection to a node is a session of the server, and that no proxy gives the session to others, too.
//!
//! To end a statement at the server is to name its session. Behind a pooling proxy the named session may run the statement
//! of a stranger by then, and not each such proxy refuses the settings of the resolver (PgBouncer 1.26 keeps
//! `default_transaction_read_only` for each client). So before the first statement of a node is ended, one connection beside the
//! pools looks for the proof.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    DbBackend, DbErr, QueryResult,
    sqlx::{Database, Executor},
};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use super::{Pooling, ProbeLink, Sessions, link::QuestionLink, recipe::OptionsOf};

/// A setting that no server and no proxy knows. PostgreSQL keeps it for the session, because its name has two parts; PgBouncer
/// refuses it, or drops it where it was told to ignore options.
#[cfg(feature = "postgres")]
pub(super) const MARK: [(&str, &str); 1] = [("sea_orm_resolver.direct", "on")];

const HAS_MARK: &str = "SELECT COALESCE(current_setting('sea_orm_resolver.direct', true), '')";

/// ProxySQL answers exactly this text by itself, with the number of its own session.
const OWN_NUMBER: &str = "SELECT CONNECTION_ID()";
const SERVERS_NUMBER: &str = "SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE id = CONNECTION_ID()";

/// How long the proof may take.
const PROVEN_WITHIN: Duration = Duration::from_secs(5);
/// A proof that failed is looked for again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The knowledge about the way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Known {
    Nothing,
    /// One task looks for the proof.
    Sought,
    Proven,
    Disproven,
}

/// Whether the connections of a node are proven to be sessions of the server.
#[derive(Debug)]
pub(super) struct Directness(AtomicU8);

impl Default for Directness {
    fn default() -> Self {
        Self(AtomicU8::new(Known::Nothing as u8))
    }
}

impl Directness {
    fn is(&self, known: Known) -> bool {
        self.0.load(Ordering::Relaxed) == known as u8
    }

    fn set(&self, known: Known) {
        self.0.store(known as u8, Ordering::Relaxed);
    }

    /// Makes the caller the one that looks for the proof, if no task did.
    fn seek(&self) -> bool {
        let (from, to) = (Known::Nothing as u8, Known::Sought as u8);
        self.is(Known::Nothing) && self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Whether the sessions of a node are proven to be its connections. Without a proof, a task looks for one; `options` opens the
/// connection of that task.
pub(super) fn is_proven<DB>(
    sessions: &Arc<Sessions>,
    backend: DbBackend,
    options: impl FnOnce() -> OptionsOf<DB>,
) -> bool
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    QueryResult: From<DB::Row>,
{
    if sessions.pooling() != Pooling::None {
        return false;
    }
    let directness = sessions.directness();
    if let Ok(runtime) = Handle::try_current()
        && directness.seek()
    {
        let (sessions, options) = (Arc::clone(sessions), options());
        runtime.spawn(async move {
            let given_back = GivenBack(&sessions);
            match timeout(PROVEN_WITHIN, prove::<DB>(options, backend)).await {
                Ok(Ok(is_direct)) => {
                    given_back.0.directness().set(if is_direct { Known::Proven } else { Known::Disproven });
                }
                Ok(Err(_)) | Err(_) => sleep(AGAIN_AFTER).await,
            }
        });
    }
    directness.is(Known::Proven)
}

/// Lets another task look for the proof, when this one ended without: its runtime may be gone.
struct GivenBack<'a>(&'a Sessions);

impl Drop for GivenBack<'_> {
    fn drop(&mut self) {
        if self.0.directness().is(Known::Sought) {
            self.0.directness().set(Known::Nothing);
        }
    }
}

async fn prove<DB>(options: OptionsOf<DB>, backend: DbBackend) -> Result<bool, DbErr>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    QueryResult: From<DB::Row>,
{
    let failed = |error: sea_orm::sqlx::Error| DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into()));
    let mut link = QuestionLink::<DB>::open(options, None).await.map_err(failed)?;
    let is_direct = match backend {
        DbBackend::Postgres => link.ask(HAS_MARK).await?.try_get_by_index::<String>(0)? == "on",
        _ => {
            let own = link.ask(OWN_NUMBER).await?;
            // MySQL's number has no sign, MariaDB's has one.
            let own =
                own.try_get_by_index::<u64>(0).or_else(|_| own.try_get_by_index::<i64>(0).map(i64::unsigned_abs))?;
            let servers: String = link.ask(SERVERS_NUMBER).await?.try_get_by_index(0)?;
            servers == own.to_string()
        }
    };
    link.close().await;
    Ok(is_direct)
}
