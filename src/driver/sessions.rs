//! The settings that the resolver adds to the sessions of a node, and the proof that a session keeps them.
//!
//! A pooling proxy gives one session of the server to many clients in turn. Some proxies refuse settings, some ignore
//! them, and a setting that arrives stays on the session for a stranger. No question tells such a proxy from a server. So
//! the first setting that is refused, or that a session does not have when it is asked, ends all settings of the node:
//! reads are then kept from writing by the standby's recovery, or by READ ONLY transactions.

use std::{
    fmt, ptr,
    sync::{
        Arc, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{DbBackend, sqlx::ConnectOptions};
use tokio::{sync::Mutex, time::Instant};
use tracing::dispatcher::has_been_set;

use super::{Access, CredentialsCache, LaneOptions, directness::Directness};

/// The thing between the resolver and the server, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Pooling {
    /// No proxy is known: a connection is a session of the server.
    #[default]
    None,
    /// A proxy that gives a connection one session of the server until the connection is closed.
    Session,
    /// A proxy that gives a connection another session of the server for each transaction.
    Transaction,
    /// A proxy of unknown mode, which refused or ignored a setting.
    Detected,
}

/// The thing that keeps the reads of a node from writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// A setting of each session.
    Session,
    /// The server is in recovery, and so takes no writes.
    Recovery,
    /// A READ ONLY transaction around each read.
    Transaction,
}

/// The way in which a setting was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A connection with the setting was refused, and one without was not.
    Refused,
    /// The session does not have the setting.
    Ignored,
}

/// Whether a server is in recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The server is a standby.
    Running,
    /// The server takes writes.
    Over,
}

/// The settings of a lane that sessions are opened with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) access: Access,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) sessions: Arc<Sessions>,
    /// `None` where the user's own options have the login, and nothing of the resolver's may replace it.
    pub(super) credentials: Option<Arc<CredentialsCache>>,
    /// Whether no log may have the statements of `on_connect`, which may hold a secret.
    hides_hooks: bool,
}

impl Settings {
    pub(super) fn new(
        lane: &LaneOptions,
        access: Access,
        sessions: &Arc<Sessions>,
        credentials: Option<&Arc<CredentialsCache>>,
    ) -> Self {
        Self {
            access,
            statement_timeout: lane.statement_timeout,
            sessions: Arc::clone(sessions),
            credentials: credentials.cloned(),
            hides_hooks: !lane.on_connect.is_empty() && lane.logging != Some(true),
        }
    }

    /// Keeps the statements of `on_connect` out of the log where only the log of all statements can be switched off: on
    /// SQLite, whose statements sqlx logs in a thread of its own, and in a program that has only a logger of the crate `log`.
    pub(super) fn hide_hooks<O: ConnectOptions>(&self, connect: O, backend: DbBackend) -> O {
        let is_all_or_none = backend == DbBackend::Sqlite || !has_been_set();
        if self.hides_hooks && is_all_or_none { connect.disable_statement_logging() } else { connect }
    }

    /// Rises when the next connection is to be opened in another way.
    pub(super) fn version(&self) -> u64 {
        // Both only rise, so the sum is another one after each change.
        self.sessions.version() + self.credentials.as_ref().map_or(0, |credentials| credentials.version())
    }

    /// Whether the login of each connection comes from a source, before which none may be opened.
    pub(super) fn await_credentials(&self) -> bool {
        self.credentials.as_ref().is_some_and(|credentials| credentials.has_source())
    }
}

/// A pool of the node, which shares with the others the sessions that the server grants.
pub(super) trait SharesSessions: Send + Sync {
    /// Closes one idle connection; `false` when there is none.
    fn spare_one(&self) -> bool;
}

/// Called once, when the node's settings are lost.
type Listener = Box<dyn Fn(Lost) + Send + Sync>;

/// How soon a refused connection is compared again with one that has no settings.
const COMPARE_AGAIN: Duration = Duration::from_secs(1);

/// The knowledge about the sessions of one node, shared by all pools of the node.
pub struct Sessions {
    backend: DbBackend,
    pooling: AtomicU8,
    is_standby: AtomicBool,
    /// Whether the standby's default isolation is one that a standby lacks, so that sessions for reads are given another.
    lacks_isolation: AtomicBool,
    directness: Directness,
    /// Rises with each change of the settings that new sessions are opened with.
    version: AtomicU64,
    listener: OnceLock<Listener>,
    /// When a refused connection was compared last.
    compared: Mutex<Option<Instant>>,
    pools: std::sync::Mutex<Vec<Weak<dyn SharesSessions>>>,
}

impl Pooling {
    fn from_u8(value: u8) -> Self {
        [Self::None, Self::Session, Self::Transaction, Self::Detected]
            .get(usize::from(value))
            .copied()
            .unwrap_or_default()
    }

    /// The word for tables; `None` without a proxy.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Session => Some("session"),
            Self::Transaction => Some("transaction"),
            Self::Detected => Some("detected"),
        }
    }
}

impl Sessions {
    pub(crate) fn new(backend: DbBackend, pooling: Pooling) -> Arc<Self> {
        Arc::new(Self {
            backend,
            pooling: AtomicU8::new(pooling as u8),
            is_standby: AtomicBool::new(false),
            lacks_isolation: AtomicBool::new(false),
            directness: Directness::default(),
            version: AtomicU64::new(0),
            listener: OnceLock::new(),
            compared: Mutex::default(),
            pools: std::sync::Mutex::default(),
        })
    }

    /// Calls `listener` when the settings are lost. Only the first listener is kept.
    pub(crate) fn on_loss(&self, listener: impl Fn(Lost) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// The proxy in front of the node, as far as it is known.
    pub fn pooling(&self) -> Pooling {
        Pooling::from_u8(self.pooling.load(Ordering::Relaxed))
    }

    /// Whether the connections of the node are proven to be sessions of the server.
    pub(super) fn directness(&self) -> &Directness {
        &self.directness
    }

    /// Whether new connections carry settings in their start-up packet.
    #[cfg(any(feature = "postgres", test))]
    pub(super) fn take_options(&self) -> bool {
        self.pooling() == Pooling::None
    }

    /// Whether a setting of a session stays with its connection, and reaches no other client.
    pub fn keep_settings(&self) -> bool {
        matches!(self.pooling(), Pooling::None | Pooling::Session)
    }

    /// The thing that keeps the reads of the node from writing.
    pub(super) fn protection(&self) -> Protection {
        if self.keep_settings() {
            Protection::Session
        } else if self.backend == DbBackend::Postgres && self.is_standby.load(Ordering::Relaxed) {
            Protection::Recovery
        } else {
            Protection::Transaction
        }
    }

    /// Sends no setting to this node any more.
    pub fn lose(&self, how: Lost) {
        let before = Pooling::from_u8(self.pooling.swap(Pooling::Detected as u8, Ordering::SeqCst));
        if before == Pooling::Detected {
            return;
        }
        self.version.fetch_add(1, Ordering::SeqCst);
        if let Some(listener) = self.listener.get() {
            listener(how);
        }
    }

    /// A probe said whether the server is in recovery.
    pub fn heard(&self, recovery: Recovery) {
        let is_standby = recovery == Recovery::Running;
        self.is_standby.store(is_standby, Ordering::Relaxed);
        // A promoted server has every isolation.
        if !is_standby && self.lacks_isolation.swap(false, Ordering::SeqCst) {
            self.version.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Has sessions for reads opened with an isolation that a standby has; `false` when that was so before.
    pub(super) fn override_isolation(&self) -> bool {
        let is_new = !self.lacks_isolation.swap(true, Ordering::SeqCst);
        if is_new {
            self.version.fetch_add(1, Ordering::SeqCst);
        }
        is_new
    }

    /// Whether the default isolation is overridden.
    pub(super) fn is_isolation_overridden(&self) -> bool {
        self.lacks_isolation.load(Ordering::Relaxed)
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Adds a pool of the node.
    pub(super) fn join(&self, pool: Weak<dyn SharesSessions>) {
        let mut pools = self.pools();
        pools.retain(|known| known.strong_count() > 0);
        pools.push(pool);
    }

    /// Has a pool other than `starved` close an idle connection: the server grants the node no further session.
    pub(super) fn spare_one<P>(&self, starved: &P) {
        let pools: Vec<_> = self.pools().iter().filter_map(Weak::upgrade).collect();
        for pool in pools.iter().filter(|pool| !ptr::addr_eq(Arc::as_ptr(pool), starved)) {
            if pool.spare_one() {
                return;
            }
        }
    }

    fn pools(&self) -> MutexGuard<'_, Vec<Weak<dyn SharesSessions>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to compare a refused connection with one that has no settings; `None` where that was done a moment ago.
    pub(super) async fn turn_to_compare(&self) -> Option<impl Drop + use<'_>> {
        let mut compared = self.compared.lock().await;
        if compared.is_some_and(|at| at.elapsed() < COMPARE_AGAIN) {
            return None;
        }
        *compared = Some(Instant::now());
        Some(compared)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("pooling", &self.pooling()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lost_setting_ends_all_of_them_and_is_told_once() {
        let sessions = Sessions::new(DbBackend::Postgres, Pooling::None);
        let told = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&told);
        sessions.on_loss(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let before = sessions.version();
        assert_eq!((sessions.protection(), sessions.take_options()), (Protection::Session, true));
        sessions.lose(Lost::Refused);
        sessions.lose(Lost::Ignored);
        assert_eq!((sessions.protection(), sessions.take_options()), (Protection::Transaction, false));
        assert_eq!((told.load(Ordering::Relaxed), sessions.pooling()), (1, Pooling::Detected));
        assert!(sessions.version() > before);
    }

    #[test]
    fn a_standby_protects_itself_until_it_is_promoted() {
        for (backend, while_standby) in
            [(DbBackend::Postgres, Protection::Recovery), (DbBackend::MySql, Protection::Transaction)]
        {
            let sessions = Sessions::new(backend, Pooling::Transaction);
            assert_eq!(sessions.protection(), Protection::Transaction, "nothing is known");
            sessions.heard(Recovery::Running);
            assert!(sessions.override_isolation() && !sessions.override_isolation());
            assert_eq!((sessions.protection(), sessions.is_isolation_overridden()), (while_standby, true));
            sessions.heard(Recovery::Over);
            assert_eq!((sessions.protection(), sessions.is_isolation_overridden()), (Protection::Transaction, false));
        }
    }
}
