//! Opening a connection of a pool, and waiting where the server grants no further session.
//!
//! A server, an account or a database may have a limit of sessions, and the pools of a node share what it grants. SeaORM
//! alone has one pool, which finds its own connections when it is full. A node of the resolver has two, and each may
//! hold idle sessions that the other one needs. sqlx does not help: an operation that opens a connection does not see
//! one that comes free in its own pool meanwhile.
//!
//! So an operation whose connection is refused for want of a session becomes an *heir*: it gets the next connection of its
//! pool that comes free, in the order of arrival. If none comes soon, another pool of the node closes an idle session.
//! Meanwhile the operation goes on trying to open one, and fails when the acquire time-out is over.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use sea_orm::sqlx::{self, Database, pool::PoolConnection};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    connect_trial::NotAcquired,
    warm_connection::WarmConnection,
    warm_pool::{Waiting, WarmPool},
};
use crate::driver::{CredentialsCache, Fault, seaorm::count_idle, sessions::SharesSessions};

/// The first pause before a refused connection is tried again. The pause doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// A place at the server that another client gives up is noticed within this time.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often an heir looks for an idle connection: SeaORM gives back the connection of a transaction past this module.
const LOOK_FOR_IDLE: Duration = Duration::from_millis(20);
/// A BEGIN that takes longer than this is looked at.
const BEGINS_WITHIN: Duration = Duration::from_millis(500);

/// The operations that wait for a connection of another one, the first first.
pub(super) struct Heirs<DB: Database>(VecDeque<oneshot::Sender<WarmConnection<DB>>>);

impl<DB: Database> Default for Heirs<DB> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<DB: Database> Heirs<DB> {
    /// Joins the queue.
    fn join(&mut self) -> oneshot::Receiver<WarmConnection<DB>> {
        self.0.retain(|heir| !heir.is_closed());
        let (heir, inheritance) = oneshot::channel();
        self.0.push_back(heir);
        inheritance
    }

    /// Gives a connection to the first heir that still waits. Returns it when there is none.
    pub(super) fn pass_on(&mut self, mut held: WarmConnection<DB>) -> Option<WarmConnection<DB>> {
        while let Some(heir) = self.0.pop_front() {
            held = heir.send(held).err()?;
        }
        Some(held)
    }
}

impl<DB: Database> WarmPool<DB> {
    /// A connection of the pool, opened if the pool has none. When the login is refused, the source of the credentials is
    /// asked, and others are tried once.
    pub(super) async fn open(&self, waiting: &Waiting<DB>) -> Result<WarmConnection<DB>, NotAcquired> {
        let Some(credentials) = &self.credentials else { return self.open_once(waiting).await };
        if count_idle(&self.pool) == 0 {
            Box::pin(credentials.ready()).await?;
        }
        let used = credentials.version();
        match self.open_once(waiting).await {
            Err(refused) if Box::pin(may_log_in_again(credentials, used, &refused.0)).await => {
                Box::pin(self.open_once(waiting)).await
            }
            opened => opened,
        }
    }

    async fn open_once(&self, waiting: &Waiting<DB>) -> Result<WarmConnection<DB>, NotAcquired> {
        if self.rules.depends_on_runtime {
            self.cutoffs.watch_runtime();
        }
        let taken_after = self.cutoffs.count();
        let connection = if DB::NAME == "SQLite" {
            self.acquire().await?
        } else {
            // Boxed, so that the future of a read that finds a warm connection is the smaller one.
            match self.open_or_inherit().await? {
                Source::Opened(connection) => connection,
                Source::Inherited(held) => return Ok(held),
            }
        };
        let now = Instant::now();
        Ok(WarmConnection {
            connection,
            since: now,
            rests_since: now,
            epoch: waiting.epoch(),
            is_pinged: false,
            session: None,
            cutoffs: Arc::clone(&self.cutoffs),
            taken_after,
        })
    }

    /// Opens a connection, or takes one that comes free. Where another node can run the operation, a server that refuses new
    /// connections ends the wait.
    fn open_or_inherit(&self) -> BoxFuture<'_, Result<Source<DB>, NotAcquired>> {
        match self.rules.elsewhere {
            Some(limits) => {
                let opening = self.watched(limits.connect_within, |_| true);
                opening.map_ok(Source::Opened).boxed()
            }
            None => self.open_or_wait().boxed(),
        }
    }

    async fn open_or_wait(&self) -> Result<Source<DB>, NotAcquired> {
        let deadline = Instant::now() + self.pool.options().get_acquire_timeout();
        let refused = match self.try_to_open().await {
            Err(refused) if Fault::is_session_limit(&refused.0) => refused,
            opened => return opened.map(Source::Opened),
        };
        let inheritance = match self.inherit() {
            Ok(held) => return Ok(Source::Inherited(held)),
            Err(inheritance) => inheritance,
        };
        tokio::select! {
            biased;
            Ok(held) = inheritance => Ok(Source::Inherited(held)),
            opened = timeout_at(deadline, self.keep_trying()) => opened.unwrap_or(Err(refused)).map(Source::Opened),
        }
    }

    /// Opens a connection as soon as the server grants another session.
    async fn keep_trying(&self) -> Result<PoolConnection<DB>, NotAcquired> {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.has_idle() => {}
            }
            if self.promises_all_idle() {
                continue;
            }
            match self.try_to_open().await {
                Err(refused) if Fault::is_session_limit(&refused.0) => {}
                opened => return opened,
            }
            if !self.connect_trial.forget()
                && let Some(sessions) = &self.sessions
            {
                sessions.spare_one(self);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for the BEGIN of SeaORM. Where the server grants no further session, and SeaORM has to open one all the same, idle
    /// sessions are closed until there is one for it: sqlx tries again in vain until then.
    pub(super) async fn make_room_for<T>(&self, beginning: impl Future<Output = T>) -> T {
        let mut beginning = pin!(beginning);
        loop {
            if let Ok(begun) = timeout(BEGINS_WITHIN, &mut beginning).await {
                return begun;
            }
            tokio::select! {
                biased;
                begun = &mut beginning => return begun,
                refused = self.connect_trial.refusal(&self.pool, BEGINS_WITHIN, self.cutoffs.count()) => {
                    let is_short = refused.is_some_and(|refused| Fault::is_session_limit(&refused.0));
                    if is_short && !self.spare_one() && let Some(sessions) = &self.sessions {
                        sessions.spare_one(self);
                    }
                }
            }
        }
    }

    /// Tries as long as SeaORM alone, but ends when the server grants no further session.
    fn try_to_open(&self) -> impl Future<Output = Result<PoolConnection<DB>, NotAcquired>> + '_ {
        self.watched(self.pool.options().get_acquire_timeout(), Fault::is_session_limit)
    }

    fn watched(
        &self,
        within: Duration,
        ends: fn(&sqlx::Error) -> bool,
    ) -> impl Future<Output = Result<PoolConnection<DB>, NotAcquired>> + '_ {
        self.connect_trial.watch(&self.pool, self.acquire(), within, ends, self.cutoffs.count())
    }

    /// A warm connection that came free meanwhile, or a place in the queue of the heirs.
    fn inherit(&self) -> Result<WarmConnection<DB>, oneshot::Receiver<WarmConnection<DB>>> {
        let mut idle_list = self.idle_list();
        while let Some(held) = idle_list.connections.pop() {
            if held.is_current() {
                return Ok(held);
            }
        }
        Err(idle_list.heirs.join())
    }

    /// Waits for an idle connection of sqlx.
    async fn has_idle(&self) {
        while count_idle(&self.pool) <= self.promised() {
            sleep(LOOK_FOR_IDLE).await;
        }
    }
}

impl<DB: Database> SharesSessions for WarmPool<DB> {
    fn spare_one(&self) -> bool {
        if self.connect_trial.forget() {
            return true;
        }
        // The oldest one, and not the one that the next statement would take.
        let warm = {
            let connections = &mut self.idle_list().connections;
            (!connections.is_empty()).then(|| connections.remove(0))
        };
        if let Some(mut held) = warm {
            held.connection.close_on_drop();
            return true;
        }
        self.pool.try_acquire().map(|mut idle| idle.close_on_drop()).is_some()
    }
}

/// The way in which an operation got its connection.
enum Source<DB: Database> {
    Opened(PoolConnection<DB>),
    Inherited(WarmConnection<DB>),
}

/// Whether a login with the credentials of version `used` was refused, and there are others now.
pub(super) async fn may_log_in_again(credentials: &Arc<CredentialsCache>, used: u64, error: &sqlx::Error) -> bool {
    Fault::is_refused_login(error) && credentials.renewed_since(used).await
}

#[cfg(all(test, feature = "postgres", feature = "mysql"))]
mod tests;
