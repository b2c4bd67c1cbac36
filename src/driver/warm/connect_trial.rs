//! Why a pool cannot open a connection.
//!
//! sqlx tries a connection again until its acquire time-out when the server refuses it, when the server has no free
//! slot (53300) and when it starts (57P03), and then says no more than that the time is over. One direct connection at a
//! time supplies the server's own error. A direct connection that the server took is kept for a short time, for the next
//! question beside the pool: on a busy server each login counts.

use std::{
    io::{self, ErrorKind},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr,
    sqlx::{self, ConnectOptions, Connection, Database, Pool, pool::PoolConnection},
};
use tokio::time::{Instant, sleep, timeout};

use crate::driver::{quiet::quietly, recipe::OptionsOf, seaorm::count_idle};

/// A server on the same network answers sooner than this, so an acquire that takes longer is worth a question.
const TRIED_AFTER: Duration = Duration::from_millis(25);
/// The same for an acquire that gets an idle connection, or one that is on its way back: sqlx pings both.
const TRIED_AFTER_PING: Duration = Duration::from_millis(250);
/// For so long a server that took a direct connection is believed to take the pool's, too.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// For so long a direct connection waits for a question: the prober opens its own connection at its second turn, a
/// `probe_interval` after the first.
const SPARE_FOR: Duration = Duration::from_secs(2);

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

/// An error of the pool, as SeaORM maps it.
pub(super) fn not_acquired(NotAcquired(error): NotAcquired) -> DbErr {
    match &*error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        _ => DbErr::Conn(RuntimeErr::SqlxError(error)),
    }
}

/// The end of one direct connection: the error, or none when the server took it.
pub(super) type Trial = Shared<BoxFuture<'static, Option<NotAcquired>>>;

/// The direct connection of one pool.
pub(super) struct ConnectTrial<DB: Database> {
    state: Arc<Mutex<State<DB>>>,
    /// Whether a direct connection that the server took is kept.
    is_kept: bool,
}

struct State<DB: Database> {
    running: Option<Trial>,
    /// The options that the direct connection was opened with.
    options: Option<Arc<OptionsOf<DB>>>,
    began: Option<Instant>,
    spare: Option<Spare<DB>>,
    /// A connection that was opened in an earlier epoch is not kept.
    epoch: u64,
}

/// A direct connection that the server took.
struct Spare<DB: Database> {
    connection: DB::Connection,
    /// How many cutoffs there were when the connection was opened.
    cutoffs: u64,
}

impl<DB: Database> State<DB> {
    /// Whether the direct connection was opened with these options. With another login it tells nothing.
    fn is_of(&self, options: &Arc<OptionsOf<DB>>) -> bool {
        self.options.as_ref().is_some_and(|known| Arc::ptr_eq(known, options))
    }
}

impl<DB: Database> ConnectTrial<DB> {
    /// `is_kept` says whether a direct connection that the server took is kept for the next question.
    pub(super) fn new(is_kept: bool) -> Self {
        let state = State { running: None, options: None, began: None, spare: None, epoch: 0 };
        Self { state: Arc::new(Mutex::new(state)), is_kept }
    }

    /// Waits for a connection of the pool, which may have to be opened. Ends early with the server's error when a direct
    /// connection is refused, or is not there `within` the time, and `ends` says so of the error. `cutoffs` is the number of
    /// cutoffs until now.
    ///
    /// # Cancel safety
    /// Dropping the future takes no connection.
    pub(super) async fn watch(
        &self,
        pool: &Pool<DB>,
        acquiring: impl Future<Output = Result<PoolConnection<DB>, sqlx::Error>>,
        within: Duration,
        ends: fn(&sqlx::Error) -> bool,
        cutoffs: u64,
    ) -> Result<PoolConnection<DB>, NotAcquired> {
        let mut acquiring = pin!(acquiring);
        let has_to_open = count_idle(pool) == 0 && pool.size() < pool.options().get_max_connections();
        let mut pause = if has_to_open { TRIED_AFTER } else { TRIED_AFTER_PING };
        loop {
            if let Ok(acquired) = timeout(pause, &mut acquiring).await {
                return Ok(acquired?);
            }
            tokio::select! {
                biased;
                acquired = &mut acquiring => return Ok(acquired?),
                refused = self.refusal(pool, within, cutoffs) => match refused {
                    Some(refused) if ends(&refused.0) => return Err(refused),
                    _ => {
                        if self.is_kept {
                            if let Ok(acquired) = timeout(TRIED_AFTER_PING, &mut acquiring).await {
                                return Ok(acquired?);
                            }
                            // The direct connection may have the last session that the server grants.
                            self.forget();
                        }
                        pause = BELIEVED_FOR;
                    }
                },
            }
        }
    }

    /// The error of the direct connection that is on its way, or of another one; `None` when the server took it.
    pub(super) fn refusal(&self, pool: &Pool<DB>, within: Duration, cutoffs: u64) -> Trial {
        let mut state = self.state();
        let options = pool.connect_options();
        let is_recent = state.spare.is_some() || state.began.is_some_and(|began| began.elapsed() < BELIEVED_FOR);
        if let Some(running) = &state.running
            && state.is_of(&options)
            && (running.peek().is_none() || is_recent && running.peek().is_some_and(Option::is_none))
        {
            return running.clone();
        }
        state.options = Some(Arc::clone(&options));
        state.spare = None;
        let (kept_in, epoch, is_kept) = (Arc::downgrade(&self.state), state.epoch, self.is_kept);
        // A task, so that the trial ends when every operation that waits for it was dropped.
        let trial = tokio::spawn(async move {
            let connecting = options.as_ref().clone().disable_statement_logging();
            match timeout(within, quietly(async { connecting.connect().await })).await {
                Ok(Ok(connection)) => {
                    let spare = Spare { connection, cutoffs };
                    let unwanted = if is_kept { keep(&kept_in, &options, epoch, spare) } else { Some(spare) };
                    if let Some(spare) = unwanted {
                        drop(spare.connection.close().await);
                    }
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

    /// The direct connection, if the server took one a moment ago and nothing was asked over it yet.
    pub(super) fn take_spare(&self, options: &Arc<OptionsOf<DB>>, cutoffs: u64) -> Option<DB::Connection> {
        let mut state = self.state();
        let spare = state.spare.take()?;
        (state.is_of(options) && spare.cutoffs == cutoffs).then_some(spare.connection)
    }

    /// Closes the direct connection: it may be broken, lead to a former server, or take the last session that the server grants. One
    /// that is on its way is closed, too. Returns whether there was one.
    pub(super) fn forget(&self) -> bool {
        let mut state = self.state();
        state.epoch += 1;
        let spare = state.spare.take();
        drop(state);
        spare.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State<DB>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a direct connection for [`SPARE_FOR`]; gives it back where it is not wanted any more.
fn keep<DB: Database>(
    kept_in: &Weak<Mutex<State<DB>>>,
    options: &Arc<OptionsOf<DB>>,
    epoch: u64,
    spare: Spare<DB>,
) -> Option<Spare<DB>> {
    let Some(state) = kept_in.upgrade() else { return Some(spare) };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if state.epoch != epoch || !state.is_of(options) {
        return Some(spare);
    }
    state.spare = Some(spare);
    let kept_in = Weak::clone(kept_in);
    tokio::spawn(async move {
        sleep(SPARE_FOR).await;
        let spare = kept_in.upgrade().and_then(|state| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.spare.take()
        });
        if let Some(spare) = spare {
            drop(spare.connection.close().await);
        }
    });
    None
}
