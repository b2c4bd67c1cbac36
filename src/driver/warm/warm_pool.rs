//! The connections of one pool that are at hand, and who may use one.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use sea_orm::sqlx::{self, Connection, Database, Pool, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::driver::seaorm::{count_idle, count_in_use};

/// How long giving back may take: sqlx's ping has no time-out, and on a frozen server none would end.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(5);

/// How often is looked whether a stranger may wait in the pool while a connection lies here.
const LOOK_FOR_STRANGERS: Duration = Duration::from_millis(20);

/// Takes connections out of a pool and keeps them for the next statement.
///
/// There are as many permits as the pool may open connections, and whoever uses a connection holds one: here by
/// [`take`](Self::take), inside SeaORM by [`lend`](Self::lend). Each comer takes a connection at hand if there is
/// one, for itself or for the pool to give to SeaORM. So those at hand and those in use are together never more
/// than the pool opens, and nobody waits in the pool while a connection lies here; but for what has a
/// connection and no permit (a transaction that was handed to a helper by its SeaORM type, one that is nested and
/// outlives its parent), and because of those whoever waits in the pool is counted. Strangers with a handle of
/// SeaORM's cannot be: once one was lent out, a connection comes here, and stays, only while the pool has one for them.
pub(super) struct WarmPool<DB: Database> {
    pool: Pool<DB>,
    /// How long a connection stays away from its pool.
    keep: Duration,
    permits: Arc<Semaphore>,
    idle_list: Mutex<IdleList<DB>>,
}

struct IdleList<DB: Database> {
    connections: Vec<WarmConnection<DB>>,
    is_open: bool,
    /// Connections that were checkout before do not come back here: they may be broken.
    epoch: u64,
    /// Connections of an earlier epoch than this are to be closed.
    closed_before: u64,
    /// Who waits in the pool.
    waiting: usize,
    /// Whether somebody may wait in the pool and is not counted.
    has_strangers: bool,
    /// Gives back what has been here for long; runs only while there is something.
    sweeper: Option<JoinHandle<()>>,
    /// Where connections can be given back from a thread that is not a runtime's.
    runtime: Option<Handle>,
}

impl<DB: Database> IdleList<DB> {
    /// How many the pool must have a connection for. Of strangers one: the next finds what the first gives back.
    fn comers(&self) -> usize {
        self.waiting + usize::from(self.has_strangers)
    }

    /// When the sweeper looks, at the latest when one is too old.
    fn looked_at_next(&self, too_old: Instant) -> Instant {
        if self.has_strangers { too_old.min(Instant::now() + LOOK_FOR_STRANGERS) } else { too_old }
    }
}

impl<DB: Database> WarmConnection<DB> {
    /// Goes back to the pool, or is closed when that takes too long.
    async fn go_back(mut self) {
        let _ = timeout(GIVEN_BACK_WITHIN, self.connection.return_to_pool()).await;
    }
}

/// Dropped, it goes back to the pool by sqlx's own way: with a ping, which also clears what a statement that
/// did not come to its end has left unread.
struct WarmConnection<DB: Database> {
    connection: PoolConnection<DB>,
    since: Instant,
    epoch: u64,
}

/// A connection in use. Dropped without [`rest`](Self::rest), it goes back to the pool.
pub(super) struct Checkout<'a, DB: Database> {
    warm_pool: &'a Arc<WarmPool<DB>>,
    // In this order: the connection first, then the right to the next one.
    held: WarmConnection<DB>,
    _permit: SemaphorePermit<'a>,
}

/// The right to a connection that SeaORM takes out of the pool by itself; held as long as it is used.
pub(super) struct PoolPermit(pub(super) OwnedSemaphorePermit);

impl<DB: Database> WarmPool<DB> {
    pub(super) fn new(pool: Pool<DB>, keep: Duration) -> Arc<Self> {
        let connections = pool.options().get_max_connections() as usize;
        Arc::new(Self {
            keep,
            permits: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            idle_list: Mutex::new(IdleList {
                connections: Vec::new(),
                is_open: true,
                epoch: 0,
                closed_before: 0,
                waiting: 0,
                has_strangers: false,
                sweeper: None,
                runtime: None,
            }),
            pool,
        })
    }

    pub(super) fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    pub(super) fn keeps_for(&self) -> Duration {
        self.keep
    }

    /// A connection: one at hand, or one of the pool. Waits as long as the pool would.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Checkout<'_, DB>, sqlx::Error> {
        match self.permits.try_acquire() {
            Ok(permit) => self.take_by(permit).await,
            Err(TryAcquireError::Closed) => Err(sqlx::Error::PoolClosed),
            // Boxed, so that the future of a read that finds a connection is the smaller one.
            Err(TryAcquireError::NoPermits) => Box::pin(self.wait_and_take()).await,
        }
    }

    async fn wait_and_take(self: &Arc<Self>) -> Result<Checkout<'_, DB>, sqlx::Error> {
        // One time-out for both waits.
        self.in_time(async {
            let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
            self.take_by(permit).await
        })
        .await
    }

    async fn take_by<'a>(self: &'a Arc<Self>, permit: SemaphorePermit<'a>) -> Result<Checkout<'a, DB>, sqlx::Error> {
        let held = match self.at_hand() {
            Ok(held) => held,
            Err(waiting) => {
                let connection = self.pool.acquire().await?;
                WarmConnection { connection, since: Instant::now(), epoch: waiting.epoch }
            }
        };
        Ok(Checkout { warm_pool: self, held, _permit: permit })
    }

    /// A connection that is here, or a place among those who wait in the pool.
    fn at_hand(&self) -> Result<WarmConnection<DB>, Waiting<'_, DB>> {
        let mut too_old = Vec::new(); // given back when the lock is open again
        let mut idle_list = self.idle_list();
        while let Some(held) = idle_list.connections.pop() {
            // The sweeper may not have come to it: a runtime that stood still, a machine that slept.
            if held.since.elapsed() < self.keep && !self.pool.is_closed() {
                return Ok(held);
            }
            too_old.push(held);
        }
        idle_list.waiting += 1;
        Err(Waiting { warm_pool: self, epoch: idle_list.epoch })
    }

    /// Lets `take_out` take a connection out of the pool.
    ///
    /// # Cancel safety
    /// As that of `take_out`.
    pub(super) async fn lend<T, E>(
        &self,
        refused: impl FnOnce(sqlx::Error) -> E,
        take_out: impl AsyncFnOnce(PoolPermit) -> Result<T, E>,
    ) -> Result<T, E> {
        let permit = self
            .in_time(async { Arc::clone(&self.permits).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed) })
            .await
            .map_err(refused)?;
        let (needed, _waiting) = self.wait();
        if let Some(held) = needed {
            // By itself: sqlx closes what is dropped on its way back, and with it a database that lives in memory.
            let _ = tokio::spawn(held.go_back()).await;
        }
        take_out(PoolPermit(permit)).await
    }

    /// A place among those who wait in the pool, and the connection that the pool needs for it. It needs none
    /// while it may open another: giving back takes the round trip of sqlx's ping, and who mixes statements with
    /// transactions would pay it for each of them.
    fn wait(&self) -> (Option<WarmConnection<DB>>, Waiting<'_, DB>) {
        let mut idle_list = self.idle_list();
        idle_list.waiting += 1;
        // Those with permits are counted exactly, the others as the pool tells.
        let has_one =
            idle_list.connections.len() <= self.permits.available_permits() && self.has_for(idle_list.comers());
        let needed = if has_one { None } else { idle_list.connections.pop() };
        (needed, Waiting { warm_pool: self, epoch: idle_list.epoch })
    }

    /// Whether the pool has, or may open, a connection for each of so many comers.
    fn has_for(&self, comers: usize) -> bool {
        let may_open = self.pool.options().get_max_connections().saturating_sub(self.pool.size());
        count_idle(&self.pool) + may_open as usize >= comers
    }

    /// How many connections are in use by holders of SeaORM's own handle, or on their way back to the pool.
    pub(super) fn untracked(&self) -> usize {
        let most = (self.pool.options().get_max_connections() as usize).min(Semaphore::MAX_PERMITS);
        let checked_out = most.saturating_sub(self.permits.available_permits());
        count_in_use(&self.pool).saturating_sub(checked_out + self.idle_list().connections.len())
    }

    /// From now on there may be strangers in the pool, who are not counted.
    pub(super) fn expect_strangers(&self) {
        let mut idle_list = self.idle_list();
        if !mem::replace(&mut idle_list.has_strangers, true) {
            // The next looks more often.
            let sweeper = idle_list.sweeper.take();
            drop(idle_list);
            sweeper.inspect(JoinHandle::abort);
            self.give_back();
        }
    }

    async fn in_time<T>(&self, waited_for: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        timeout(self.pool.options().get_acquire_timeout(), waited_for).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Closes what is at hand, and what is in use when its statement has ended well: it leads to a server that is no
    /// longer meant.
    pub(super) fn close_held(&self) {
        let mut idle_list = self.idle_list();
        idle_list.connections.iter_mut().for_each(|held| held.connection.close_on_drop());
        idle_list.closed_before = idle_list.epoch + 1;
        drop(idle_list);
        self.give_back();
    }

    /// Gives back to the pool what is at hand, and what is in use when its statement has ended: the pool asks each
    /// whether it is there.
    pub(super) fn give_back(&self) {
        let (all, runtime) = {
            let mut idle_list = self.idle_list();
            idle_list.epoch += 1;
            (mem::take(&mut idle_list.connections), idle_list.runtime.clone())
        };
        // sqlx gives back by a task, which needs a runtime.
        let is_inside = Handle::try_current().is_ok();
        let _entered = runtime.as_ref().filter(|_| !is_inside).map(Handle::enter);
        drop(all);
    }

    /// From now on nothing stays here and nobody gets a connection. The pool has to be closed before: what it
    /// is given back then, it closes without asking.
    pub(super) fn close(&self) {
        self.idle_list().is_open = false;
        self.permits.close();
        self.give_back();
    }

    fn put(self: &Arc<Self>, mut held: WarmConnection<DB>) {
        let mut idle_list = self.idle_list();
        if held.epoch < idle_list.closed_before {
            held.connection.close_on_drop();
        }
        if held.since.elapsed() >= self.keep {
            drop(idle_list);
            return;
        }
        // Asked under the lock: what is put down after `close` or `give_back` would be here too long.
        let comers = idle_list.comers();
        let is_wanted_by_the_pool = comers > 0 && !self.has_for(comers);
        if !idle_list.is_open || self.pool.is_closed() || idle_list.epoch != held.epoch || is_wanted_by_the_pool {
            drop(idle_list);
            return;
        }
        let until = idle_list.looked_at_next(held.since + self.keep);
        idle_list.connections.push(held);
        // One whose runtime is gone is finished too.
        if idle_list.sweeper.as_ref().is_none_or(JoinHandle::is_finished)
            && let Ok(runtime) = Handle::try_current()
        {
            idle_list.sweeper = Some(runtime.spawn(sweep(Arc::downgrade(self), until)));
            idle_list.runtime = Some(runtime);
        }
    }

    /// Takes out what is too old, or all when a stranger may wait for it, and says when to look again; `None` when
    /// nothing is left, and whoever comes then starts another sweeper.
    fn too_old(&self) -> (Vec<WarmConnection<DB>>, Option<Instant>) {
        let mut idle_list = self.idle_list();
        let all = self.pool.is_closed() || idle_list.has_strangers && !self.has_for(idle_list.comers());
        let old = idle_list.connections.extract_if(.., |held| all || held.since.elapsed() >= self.keep).collect();
        let next = idle_list.connections.iter().map(|held| held.since + self.keep).min();
        let next = next.map(|next| idle_list.looked_at_next(next));
        if next.is_none() {
            idle_list.sweeper = None;
        }
        (old, next)
    }

    fn idle_list(&self) -> MutexGuard<'_, IdleList<DB>> {
        self.idle_list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: Database> Drop for WarmPool<DB> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<DB: Database> fmt::Debug for WarmPool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmPool")
            .field("keep", &self.keep)
            .field("at_hand", &self.idle_list().connections.len())
            .finish_non_exhaustive()
    }
}

impl<DB: Database> Checkout<'_, DB> {
    pub(super) fn connection(&mut self) -> &mut DB::Connection {
        &mut self.held.connection
    }

    /// Its session may hold what it must not hold for the next statement: it is closed and not given back.
    pub(super) fn close(mut self) {
        self.held.connection.close_on_drop();
    }

    /// Its statement came to a clean end: it stays at hand.
    pub(super) fn rest(self) {
        let Self { warm_pool, held, _permit } = self;
        warm_pool.put(held);
    }

    /// Its statement has its answer, and rows may still be on their way: it stays at hand if none are.
    pub(super) fn rest_if_quiet(self) {
        let Self { warm_pool, mut held, _permit } = self;
        // To its end, whatever happens: sqlx would lose its place in what a server sends if it were dropped between
        // two pieces of a packet.
        let mut quieting: BoxFuture<'static, _> = Box::pin(async move {
            let result = held.connection.flush().await;
            (held, result)
        });
        match (&mut quieting).now_or_never() {
            Some((held, Ok(()))) => warm_pool.put(held),
            Some((_, Err(_))) => {}
            None => {
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(quieting);
                }
            }
        }
    }
}

/// Gives back what has been here for long, until nothing is here any more.
async fn sweep<DB: Database>(warm_pool: Weak<WarmPool<DB>>, mut next: Instant) {
    loop {
        sleep_until(next).await;
        let Some((old, following)) = warm_pool.upgrade().map(|warm_pool| warm_pool.too_old()) else { return };
        for held in old {
            tokio::spawn(held.go_back()); // each on its own: one that hangs keeps no other here
        }
        match following {
            Some(following) => next = following,
            None => return,
        }
    }
}

/// Somebody who waits in the pool.
struct Waiting<'a, DB: Database> {
    warm_pool: &'a WarmPool<DB>,
    epoch: u64,
}

impl<DB: Database> Drop for Waiting<'_, DB> {
    fn drop(&mut self) {
        self.warm_pool.idle_list().waiting -= 1;
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests;
