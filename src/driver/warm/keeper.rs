//! The connections of one pool that are at hand, and who may use one.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::sqlx::{self, Database, Pool, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Takes connections out of a pool and keeps them for the next read.
///
/// There are as many permits as the pool may open connections, and whoever uses a connection holds one: here by
/// [`take`](Self::take), inside SeaORM by [`lend`](Self::lend). Each comer takes a connection at hand if there is
/// one, for itself or for the pool to give to SeaORM. So those at hand and those in use are together never more
/// than the pool opens, and nobody waits in the pool while a connection lies here.
pub(super) struct Keeper<DB: Database> {
    pool: Pool<DB>,
    /// How long a connection stays away from its pool.
    keep: Duration,
    permits: Arc<Semaphore>,
    /// Who waits in the pool all the same: a transaction that was handed to a helper by its SeaORM type has
    /// a connection, and no permit any more.
    waiting: AtomicUsize,
    shelf: Mutex<Shelf<DB>>,
}

struct Shelf<DB: Database> {
    connections: Vec<Held<DB>>,
    is_open: bool,
    /// Gives back what has been here for long; runs only while there is something.
    sweeper: Option<JoinHandle<()>>,
    /// Where connections can be given back from a thread that is not a runtime's.
    runtime: Option<Handle>,
}

/// Dropped, it goes back to the pool by sqlx's own way: with a ping, which also clears what a statement that
/// did not come to its end has left unread.
struct Held<DB: Database> {
    connection: PoolConnection<DB>,
    since: Instant,
}

/// A connection in use. Dropped without [`rest`](Self::rest), it goes back to the pool.
pub(super) struct Taken<'a, DB: Database> {
    keeper: &'a Arc<Keeper<DB>>,
    // In this order: the connection first, then the right to the next one.
    held: Held<DB>,
    _permit: SemaphorePermit<'a>,
}

/// The right to a connection that SeaORM takes out of the pool by itself; held as long as it is used.
pub(super) struct Lent(pub(super) OwnedSemaphorePermit);

impl<DB: Database> Keeper<DB> {
    pub(super) fn new(pool: Pool<DB>, keep: Duration) -> Arc<Self> {
        let connections = pool.options().get_max_connections() as usize;
        Arc::new(Self {
            keep,
            permits: Arc::new(Semaphore::new(connections)),
            waiting: AtomicUsize::new(0),
            shelf: Mutex::new(Shelf {
                connections: Vec::with_capacity(connections.min(64)),
                is_open: true,
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
    pub(super) async fn take(self: &Arc<Self>) -> Result<Taken<'_, DB>, sqlx::Error> {
        match self.permits.try_acquire() {
            Ok(permit) => self.take_by(permit).await,
            Err(TryAcquireError::Closed) => Err(sqlx::Error::PoolClosed),
            // Boxed, so that the future of a read that finds a connection is the smaller one.
            Err(TryAcquireError::NoPermits) => Box::pin(self.wait_and_take()).await,
        }
    }

    async fn wait_and_take(self: &Arc<Self>) -> Result<Taken<'_, DB>, sqlx::Error> {
        // One time-out for both waits.
        self.in_time(async {
            let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
            self.take_by(permit).await
        })
        .await
    }

    async fn take_by<'a>(self: &'a Arc<Self>, permit: SemaphorePermit<'a>) -> Result<Taken<'a, DB>, sqlx::Error> {
        let at_hand = self.shelf().connections.pop();
        let held = match at_hand {
            Some(held) => held,
            None => {
                let _waiting = Waiting::begin(&self.waiting);
                Held { connection: self.pool.acquire().await?, since: Instant::now() }
            }
        };
        Ok(Taken { keeper: self, held, _permit: permit })
    }

    /// The right to a connection that `take_out` takes out of the pool.
    ///
    /// # Cancel safety
    /// As that of `take_out`.
    pub(super) async fn lend<T, E>(
        &self,
        refused: impl FnOnce(sqlx::Error) -> E,
        take_out: impl AsyncFnOnce(Lent) -> Result<T, E>,
    ) -> Result<T, E> {
        let permit = self
            .in_time(async { Arc::clone(&self.permits).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed) })
            .await
            .map_err(refused)?;
        // The pool needs one to give.
        let at_hand = self.shelf().connections.pop();
        drop(at_hand);
        let _waiting = Waiting::begin(&self.waiting);
        take_out(Lent(permit)).await
    }

    async fn in_time<T>(&self, waited_for: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        timeout(self.pool.options().get_acquire_timeout(), waited_for).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Gives back to the pool what is at hand: it asks each whether it is there.
    pub(super) fn give_back(&self) {
        let (all, runtime) = {
            let mut shelf = self.shelf();
            (mem::take(&mut shelf.connections), shelf.runtime.clone())
        };
        give_back(all, runtime.as_ref());
    }

    /// From now on nothing stays here and nobody gets a connection.
    pub(super) fn close(&self) {
        self.shelf().is_open = false;
        self.permits.close();
        self.give_back();
    }

    fn put(self: &Arc<Self>, held: Held<DB>) {
        if self.waiting.load(Ordering::Relaxed) > 0 || held.since.elapsed() >= self.keep {
            return;
        }
        let mut shelf = self.shelf();
        // Asked under the lock: what is put down after `close` would never be given back.
        if !shelf.is_open {
            return;
        }
        shelf.connections.push(held);
        // One whose runtime is gone is finished too.
        if shelf.sweeper.as_ref().is_none_or(JoinHandle::is_finished)
            && let Ok(runtime) = Handle::try_current()
        {
            shelf.sweeper = Some(runtime.spawn(sweep(Arc::downgrade(self), self.keep)));
            shelf.runtime = Some(runtime);
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<DB>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: Database> Drop for Keeper<DB> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<DB: Database> fmt::Debug for Keeper<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("keep", &self.keep)
            .field("at_hand", &self.shelf().connections.len())
            .finish_non_exhaustive()
    }
}

impl<DB: Database> Taken<'_, DB> {
    pub(super) fn connection(&mut self) -> &mut DB::Connection {
        &mut self.held.connection
    }

    /// Its statement came to a clean end: it stays at hand.
    pub(super) fn rest(self) {
        let Self { keeper, held, _permit } = self;
        keeper.put(held);
    }
}

/// Gives back what has been here for long, until nothing is here any more.
async fn sweep<DB: Database>(keeper: Weak<Keeper<DB>>, keep: Duration) {
    loop {
        tokio::time::sleep(keep).await;
        let Some(keeper) = keeper.upgrade() else { return };
        let old: Vec<_> = {
            let mut shelf = keeper.shelf();
            let old = shelf.connections.extract_if(.., |held| held.since.elapsed() >= keep).collect();
            if shelf.connections.is_empty() {
                shelf.sweeper = None; // Whoever comes next starts another.
            }
            old
        };
        let is_done = keeper.shelf().sweeper.is_none();
        drop(old);
        if is_done {
            return;
        }
    }
}

/// sqlx gives back by a task, which needs a runtime.
fn give_back<DB: Database>(connections: Vec<Held<DB>>, runtime: Option<&Handle>) {
    let is_inside = Handle::try_current().is_ok();
    let _entered = runtime.filter(|_| !is_inside).map(Handle::enter);
    drop(connections);
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
