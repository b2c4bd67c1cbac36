//! Why a pool cannot open a connection.
//!
//! sqlx tries a connection again until its acquire time-out when the server refuses it, when the server has no free
//! slot (53300) and when it starts (57P03), and then says no more than that the time is over. One direct connection at a
//! time supplies the server's own error.

use std::{
    any::Any,
    io::{self, ErrorKind},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Database, Pool, pool::PoolConnection};
use tokio::time::{Instant, timeout};

use crate::driver::seaorm::count_idle;

/// A server on the same network answers sooner than this, so an acquire that takes longer is worth a question.
const TRIED_AFTER: Duration = Duration::from_millis(25);
/// The same for an acquire that finds an idle connection, which sqlx may ping first.
const TRIED_AFTER_PING: Duration = Duration::from_millis(250);
/// For so long a server that took a direct connection is believed to take the pool's, too.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// Why there is no connection: sqlx's own error, shared by the operations that wait for one direct connection.
#[derive(Clone, Debug)]
pub(super) struct NotAcquired(pub(super) Arc<sqlx::Error>);

impl From<sqlx::Error> for NotAcquired {
    fn from(error: sqlx::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl From<crate::Error> for NotAcquired {
    fn from(error: crate::Error) -> Self {
        error.into_sqlx().into()
    }
}

/// The end of one direct connection: the error, or none when the server took it.
type Trial = Shared<BoxFuture<'static, Option<NotAcquired>>>;

/// The direct connection of one pool.
#[derive(Debug, Default)]
pub(super) struct ConnectTrial(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: Option<Trial>,
    /// The options that the direct connection was opened with.
    options: Option<Arc<dyn Any + Send + Sync>>,
    began: Option<Instant>,
}

impl State {
    /// Whether the direct connection was opened with these options. With another login it tells nothing.
    fn is_of<T: Any + Send + Sync>(&self, options: &Arc<T>) -> bool {
        self.options.as_ref().is_some_and(|known| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(options)))
    }
}

impl ConnectTrial {
    /// Waits for a connection of the pool, which may have to be opened. Ends early with the server's error when a direct
    /// connection is refused, or is not there `within` the time, and `ends` says so of the error.
    ///
    /// # Cancel safety
    /// Dropping the future takes no connection.
    pub(super) async fn watch<DB: Database>(
        &self,
        pool: &Pool<DB>,
        acquiring: impl Future<Output = Result<PoolConnection<DB>, sqlx::Error>>,
        within: Duration,
        ends: fn(&sqlx::Error) -> bool,
    ) -> Result<PoolConnection<DB>, NotAcquired> {
        let mut acquiring = pin!(acquiring);
        let mut pause = if count_idle(pool) == 0 { TRIED_AFTER } else { TRIED_AFTER_PING };
        loop {
            if let Ok(acquired) = timeout(pause, &mut acquiring).await {
                return Ok(acquired?);
            }
            tokio::select! {
                biased;
                acquired = &mut acquiring => return Ok(acquired?),
                refused = self.refusal(pool, within) => match refused {
                    Some(refused) if ends(&refused.0) => return Err(refused),
                    _ => pause = BELIEVED_FOR,
                },
            }
        }
    }

    /// The error of the direct connection that is on its way, or of another one; `None` when the server took it.
    pub(super) fn refusal<DB: Database>(
        &self,
        pool: &Pool<DB>,
        within: Duration,
    ) -> impl Future<Output = Option<NotAcquired>> + use<DB> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let options = pool.connect_options();
        let is_recent = state.began.is_some_and(|began| began.elapsed() < BELIEVED_FOR);
        if let Some(running) = &state.running
            && state.is_of(&options)
            && (running.peek().is_none() || is_recent && running.peek().is_some_and(Option::is_none))
        {
            return running.clone();
        }
        state.options = Some(Arc::clone(&options) as Arc<dyn Any + Send + Sync>);
        // A task, so that the trial ends when every operation that waits for it was dropped.
        let trial = tokio::spawn(async move {
            match timeout(within, options.connect()).await {
                Ok(Ok(connection)) => {
                    drop(connection.close().await);
                    None
                }
                Ok(Err(error)) => Some(error.into()),
                Err(_) => Some(sqlx::Error::Io(io::Error::from(ErrorKind::TimedOut)).into()),
            }
        });
        let trial = trial.map(Result::unwrap_or_default).boxed().shared();
        state.began = Some(Instant::now());
        state.running = Some(trial.clone());
        trial
    }
}
