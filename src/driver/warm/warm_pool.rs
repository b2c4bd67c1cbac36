//! The warm connections of one pool, and the right to use a connection.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use sea_orm::sqlx::{self, Connection, Database, Executor, Pool, database::HasStatementCache, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    connect_trial::{ConnectTrial, NotAcquired},
    cutoffs::Cutoffs,
    opening::Heirs,
    permits::{Closed, Permit, Permits},
    warm_connection::{GIVEN_BACK_WITHIN, WarmConnection},
};
use crate::driver::{
    CredentialsCache, Elsewhere, Sessions, WriteProgress,
    quiet::quietly,
    seaorm::{close_idle, count_idle, count_in_use},
};

/// How often the sweeper looks whether an untracked user of the pool may wait for a warm connection.
const LOOK_FOR_UNTRACKED: Duration = Duration::from_millis(20);
/// SeaORM takes the connection that is promised to it at once. A promise whose BEGIN hangs keeps no other user waiting.
const PROMISED_FOR: Duration = Duration::from_millis(25);

/// Takes connections out of an sqlx pool, and keeps each warm for a while after its statement.
///
/// The pool has as many permits as it may open connections, or fewer while the node's reads are limited. Each user of a
/// connection holds a permit: a statement by [`take`](Self::take), a transaction inside SeaORM by
/// [`reserve`](Self::reserve). So the warm connections and those in use are together never more than the pool opens, and
/// no statement waits in the pool while a warm connection lies idle. Two kinds of users hold a connection without a
/// permit: a transaction that was given away as SeaORM's type, and untracked users, who have SeaORM's own handle of the
/// pool. The statements that wait in the pool are counted because of the first kind. For the second kind, a
/// connection stays warm only while the pool has another one for an untracked user.
///
/// A pool that keeps nothing warm (`keep` is zero) gives each connection back to sqlx after its statement.
pub(super) struct WarmPool<DB: Database> {
    pub(super) pool: Pool<DB>,
    pub(super) rules: PoolRules,
    pub(super) credentials: Option<Arc<CredentialsCache>>,
    pub(super) connect_trial: ConnectTrial<DB>,
    permits: Arc<Permits>,
    idle_list: Mutex<IdleList<DB>>,
    pub(super) cutoffs: Arc<Cutoffs>,
    /// The other pools of the node, with which this one shares the sessions that the server grants.
    pub(super) sessions: Option<Arc<Sessions>>,
}

/// The rules by which connections of a pool are kept, checked and waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolRules {
    /// How long a connection stays away from its pool.
    pub(super) keep: Duration,
    /// A warm connection that rested for so long is pinged before its next use.
    pub(super) ping_after: Option<Duration>,
    /// The limits of waiting, where another node can run the operation.
    pub(super) elsewhere: Option<Elsewhere>,
    /// Whether the connections end with the runtime on which they were opened. A file has no socket, a database in memory lives as long
    /// as its connection, and a pool that was given to the resolver is its owner's.
    pub(super) depends_on_runtime: bool,
}

pub(super) struct IdleList<DB: Database> {
    pub(super) connections: Vec<WarmConnection<DB>>,
    is_open: bool,
    /// A connection that was taken in an earlier epoch is not kept: it may be broken.
    epoch: u64,
    /// How many users wait in the pool.
    waiting: usize,
    /// To how many of them an idle connection of the pool is promised.
    promised: usize,
    /// Those of them that wait for a connection of another user, because the server grants no further session.
    pub(super) heirs: Heirs<DB>,
    /// How many cutoffs there were when the idle connections of the pool were closed last.
    closed_after: u64,
    /// Whether untracked users may wait in the pool.
    has_untracked_users: bool,
    /// Gives connections back that have been warm for long; runs only while the list has some.
    sweeper: Option<JoinHandle<()>>,
    /// The runtime on which connections can be given back from a thread outside of it.
    runtime: Option<Handle>,
}

impl<DB: Database> IdleList<DB> {
    /// For how many users the pool must have a connection. One untracked user counts for all: the next one finds
    /// the connection that the first gives back.
    fn users_in_pool(&self) -> usize {
        self.waiting + usize::from(self.has_untracked_users)
    }

    /// When the sweeper looks again, given the time at which the next connection is too old.
    fn next_look(&self, too_old: Instant) -> Instant {
        if self.has_untracked_users { too_old.min(Instant::now() + LOOK_FOR_UNTRACKED) } else { too_old }
    }
}

/// A connection in use by one statement. Dropped without [`rest`](Self::rest), the connection goes back to the pool.
pub(super) struct Checkout<DB: Database> {
    warm_pool: Arc<WarmPool<DB>>,
    /// `None` once the connection has been passed on.
    held: Option<WarmConnection<DB>>,
    /// The write that may be running on the connection.
    write: Option<WriteProgress>,
    permit: Option<Permit>,
    transaction: ReadOnlyTransaction,
}

/// The READ ONLY transaction around a read, where no session may be made read-only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadOnlyTransaction {
    None,
    /// Begun, and perhaps not ended: another statement would run inside of it.
    Open,
}

/// The right to a connection that SeaORM takes out of the pool by itself; held as long as that connection is used.
pub(super) struct Reservation<DB: Database> {
    permit: Permit,
    _waiting: Waiting<DB>,
}

impl<DB: Database> Reservation<DB> {
    /// SeaORM has its connection.
    pub(super) fn into_permit(self) -> Permit {
        self.permit
    }
}

impl<DB: Database> WarmPool<DB> {
    /// `credentials` are those that connections of the pool are opened with, where they may change.
    pub(super) fn new(
        pool: Pool<DB>,
        rules: PoolRules,
        credentials: Option<Arc<CredentialsCache>>,
        sessions: Option<Arc<Sessions>>,
    ) -> Arc<Self> {
        let warm_pool = Arc::new(Self {
            rules,
            credentials,
            connect_trial: ConnectTrial::new(rules.elsewhere.is_some()),
            permits: Permits::new(pool.options().get_max_connections()),
            idle_list: Mutex::new(IdleList {
                connections: Vec::new(),
                is_open: true,
                epoch: 0,
                waiting: 0,
                promised: 0,
                heirs: Heirs::default(),
                closed_after: 0,
                has_untracked_users: false,
                sweeper: None,
                runtime: None,
            }),
            cutoffs: Arc::default(),
            sessions,
            pool,
        });
        if let Some(sessions) = &warm_pool.sessions {
            let pool: Weak<Self> = Arc::downgrade(&warm_pool);
            sessions.join(pool);
        }
        warm_pool
    }

    pub(super) fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    pub(super) fn rules(&self) -> PoolRules {
        self.rules
    }

    /// Lets at most so many connections be in use from now on.
    pub(super) fn limit(&self, most: u32) {
        self.permits.limit(most);
    }

    /// Takes a connection: a warm one, or one of the pool. Waits as long as the pool would, or for the limits of
    /// [`Elsewhere`].
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Checkout<DB>, NotAcquired> {
        match self.permits.try_acquire()? {
            Some(permit) => self.take_by(permit).await,
            // Boxed, so that the future of a read that finds a connection is the smaller one.
            None => Box::pin(self.wait_and_take()).await,
        }
    }

    async fn wait_and_take(self: &Arc<Self>) -> Result<Checkout<DB>, NotAcquired> {
        // One time-out for both waits.
        self.in_time(async { self.take_by(self.permit().await?).await }).await
    }

    /// Waits for a permit.
    async fn permit(&self) -> Result<Permit, NotAcquired> {
        match self.rules.elsewhere {
            None => Ok(self.permits.acquire().await?),
            Some(limits) => Ok(self.permits.acquire_while_moving(limits).await?.ok_or(sqlx::Error::PoolTimedOut)?),
        }
    }

    async fn take_by(self: &Arc<Self>, permit: Permit) -> Result<Checkout<DB>, NotAcquired> {
        let checkout = |held| Checkout {
            warm_pool: Arc::clone(self),
            held: Some(held),
            write: None,
            permit: Some(permit),
            transaction: ReadOnlyTransaction::None,
        };
        match self.take_warm() {
            Ok(held) if self.is_known_to_answer(&held) => Ok(checkout(held)),
            // Boxed, so that the future of a read that finds a warm connection is the smaller one.
            Ok(rested) => Ok(checkout(Box::pin(self.check_or_open(rested)).await?)),
            Err(waiting) => Ok(checkout(self.open(&waiting).await?)),
        }
    }

    fn is_known_to_answer(&self, held: &WarmConnection<DB>) -> bool {
        held.is_current() && self.rules.ping_after.is_none_or(|longest| held.rests_since.elapsed() < longest)
    }

    /// A connection that rested may have been ended by its server or a firewall in between, so a ping comes
    /// before its use. A connection that does not answer is closed, and the next warm one is pinged too.
    async fn check_or_open(
        self: &Arc<Self>,
        mut rested: WarmConnection<DB>,
    ) -> Result<WarmConnection<DB>, NotAcquired> {
        loop {
            if rested.is_current() && rested.answers().await {
                return Ok(rested);
            }
            rested.connection.close_on_drop();
            drop(rested);
            rested = match self.take_warm() {
                Ok(held) => held,
                Err(waiting) => return self.open(&waiting).await,
            };
        }
    }

    /// A warm connection, or a place among the statements that wait in the pool.
    fn take_warm(self: &Arc<Self>) -> Result<WarmConnection<DB>, Waiting<DB>> {
        let mut too_old = Vec::new(); // given back when the lock is open again
        let mut idle_list = self.idle_list();
        while let Some(held) = idle_list.connections.pop() {
            // The sweeper may be late: a runtime that stood still, a machine that slept.
            if held.since.elapsed() < self.rules.keep && !self.pool.is_closed() {
                return Ok(held);
            }
            too_old.push(held);
        }
        Err(self.wait_in_pool(&mut idle_list))
    }

    /// A place among the statements that wait in the pool.
    fn wait_in_pool(self: &Arc<Self>, idle_list: &mut IdleList<DB>) -> Waiting<DB> {
        self.close_idle_of_before(idle_list);
        idle_list.waiting += 1;
        Waiting { warm_pool: Arc::clone(self), epoch: idle_list.epoch, is_promised: false }
    }

    /// Closes the idle connections of the pool after a cutoff.
    fn close_idle_of_before(&self, idle_list: &mut IdleList<DB>) {
        let cutoffs = self.cutoffs.count();
        if mem::replace(&mut idle_list.closed_after, cutoffs) != cutoffs {
            close_idle(&self.pool);
        }
    }

    /// Reserves a connection that SeaORM takes out of the pool next. All waiting is done here, within the pool's
    /// acquire time-out, so that SeaORM finds an idle connection. (SeaORM's own wait has its own time-out, which starts
    /// after this one. It lasts where an untracked user of the pool is faster, and for the ping of a connection
    /// that is on its way back.)
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(super) async fn reserve(self: &Arc<Self>) -> Result<Reservation<DB>, NotAcquired> {
        self.in_time(async {
            let permit = self.permit().await?;
            let (needed, mut waiting) = self.wait();
            let returned = match needed {
                Some(held) => Some(held),
                None if waiting.promise_without_wait() => None,
                None => Some(self.open(&waiting).await?),
            };
            if let Some(held) = returned {
                waiting.promise();
                // In a task of its own: sqlx closes a connection whose way back is dropped, and with it a SQLite
                // database in memory.
                let _ = tokio::spawn(held.go_back()).await;
            }
            Ok(Reservation { permit, _waiting: waiting })
        })
        .await
    }

    /// How many idle connections of the pool are promised to SeaORM.
    pub(super) fn promised(&self) -> usize {
        self.idle_list().promised
    }

    /// Whether SeaORM would open a connection, or wait for one of an untracked user: neither wait could be cancelled.
    /// A connection that is in use by a statement of ours is not waited for: the permit proves that it is on its way back, if
    /// no other user opens one.
    fn makes_seaorm_wait(&self, idle_list: &IdleList<DB>) -> bool {
        let may_open = self.pool.size() < self.pool.options().get_max_connections();
        let others_open = idle_list.waiting > idle_list.promised + 1;
        count_idle(&self.pool) <= idle_list.promised && (may_open || others_open || idle_list.has_untracked_users)
    }

    /// Takes a connection of the pool, and leaves those that are promised to SeaORM.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<DB>, sqlx::Error> {
        if self.promises_all_idle() {
            // Boxed, so that the future of a read is the smaller one.
            Box::pin(self.leave_promised()).await;
        }
        self.pool.acquire().await
    }

    async fn leave_promised(&self) {
        let began = Instant::now();
        while self.promises_all_idle() && began.elapsed() < PROMISED_FOR {
            sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn promises_all_idle(&self) -> bool {
        let idle = count_idle(&self.pool);
        idle > 0 && idle <= self.promised()
    }

    /// A place among the users that wait in the pool, and the warm connection that the pool needs for this one. The
    /// pool needs none while it may open another: giving back costs the round trip of sqlx's ping, and a service that
    /// mixes statements with transactions would pay it for each of them.
    fn wait(self: &Arc<Self>) -> (Option<WarmConnection<DB>>, Waiting<DB>) {
        let mut idle_list = self.idle_list();
        let waiting = self.wait_in_pool(&mut idle_list);
        // Users with permits are counted exactly, the others as the pool counts them.
        let has_one =
            idle_list.connections.len() <= self.permits.available() && self.has_for(idle_list.users_in_pool());
        let needed = if has_one { None } else { idle_list.connections.pop() };
        (needed, waiting)
    }

    /// Whether the pool has, or may open, a connection for each of so many users.
    fn has_for(&self, users: usize) -> bool {
        let may_open = self.pool.options().get_max_connections().saturating_sub(self.pool.size());
        count_idle(&self.pool) + may_open as usize >= users
    }

    /// How many connections are in use by untracked users, or on their way back to the pool.
    pub(super) fn untracked(&self) -> usize {
        let warm = self.idle_list().connections.len();
        count_in_use(&self.pool).saturating_sub(self.permits.in_use() + warm)
    }

    /// From now on untracked users may take connections out of the pool.
    pub(super) fn expect_untracked_users(&self) {
        let mut idle_list = self.idle_list();
        if !mem::replace(&mut idle_list.has_untracked_users, true) {
            // The next sweeper looks more often.
            let sweeper = idle_list.sweeper.take();
            drop(idle_list);
            sweeper.inspect(JoinHandle::abort);
            self.give_back();
        }
    }

    /// A connection beside the pool that was opened a moment ago to learn whether the server takes connections.
    pub(super) fn take_spare(&self) -> Option<DB::Connection> {
        self.connect_trial.take_spare(&self.pool.connect_options(), self.cutoffs.count())
    }

    async fn in_time<T>(&self, waited_for: impl Future<Output = Result<T, NotAcquired>>) -> Result<T, NotAcquired> {
        let timed_out = || Err(sqlx::Error::PoolTimedOut.into());
        timeout(self.pool.options().get_acquire_timeout(), waited_for).await.unwrap_or_else(|_| timed_out())
    }

    /// Closes all connections, those in use when their statement has ended: they lead to a server that the node's address does not
    /// mean any more, or have settings that do not hold any more.
    pub(super) fn close_all(&self) {
        self.cutoffs.cut();
        self.give_back();
    }

    /// Gives the warm connections back to the pool, and those in use when their statement has ended: the pool pings
    /// each of them.
    pub(super) fn give_back(&self) {
        self.connect_trial.forget();
        let (all, runtime) = {
            let mut idle_list = self.idle_list();
            self.close_idle_of_before(&mut idle_list);
            idle_list.epoch += 1;
            (mem::take(&mut idle_list.connections), idle_list.runtime.clone())
        };
        // sqlx gives back by a task, which needs a runtime.
        let is_inside = Handle::try_current().is_ok();
        let _entered = runtime.as_ref().filter(|_| !is_inside).map(Handle::enter);
        drop(all);
    }

    /// From now on no connection stays warm, and no statement gets one. The pool has to be closed before: it closes
    /// the connections that it is given back then without a ping.
    pub(super) fn close(&self) {
        self.idle_list().is_open = false;
        self.permits.close();
        self.give_back();
    }

    /// Keeps a connection warm after its statement came to a clean end, if that may be.
    fn put(self: &Arc<Self>, mut held: WarmConnection<DB>) {
        held.rests_since = Instant::now();
        let mut idle_list = self.idle_list();
        // Asked under the lock: a connection that is kept after `close` or `give_back` would be kept too long.
        let is_closing = !idle_list.is_open || self.pool.is_closed();
        if is_closing || !held.is_sound() || idle_list.epoch != held.epoch || self.rules.keep.is_zero() {
            drop(idle_list);
            return;
        }
        let Some(held) = idle_list.heirs.pass_on(held) else { return };
        let is_too_old = held.rests_since.duration_since(held.since) >= self.rules.keep;
        let users = idle_list.users_in_pool();
        if is_too_old || users > 0 && !self.has_for(users) {
            drop(idle_list);
            return;
        }
        let until = idle_list.next_look(held.since + self.rules.keep);
        idle_list.connections.push(held);
        // A sweeper whose runtime is gone is finished too.
        if idle_list.sweeper.as_ref().is_none_or(JoinHandle::is_finished)
            && let Ok(runtime) = Handle::try_current()
        {
            idle_list.sweeper = Some(runtime.spawn(sweep(Arc::downgrade(self), until)));
            idle_list.runtime = Some(runtime);
        }
    }

    /// Takes out the connections that are too old, or all when an untracked user may wait for one, and says when to
    /// look again. `None` when the list is empty: the next connection in it starts another sweeper.
    fn too_old(&self) -> (Vec<WarmConnection<DB>>, Option<Instant>) {
        let mut idle_list = self.idle_list();
        let all = self.pool.is_closed() || idle_list.has_untracked_users && !self.has_for(idle_list.users_in_pool());
        let old = idle_list.connections.extract_if(.., |held| all || held.since.elapsed() >= self.rules.keep).collect();
        let next = idle_list.connections.iter().map(|held| held.since + self.rules.keep).min();
        let next = next.map(|next| idle_list.next_look(next));
        if next.is_none() {
            idle_list.sweeper = None;
        }
        (old, next)
    }

    pub(super) fn idle_list(&self) -> MutexGuard<'_, IdleList<DB>> {
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
            .field("keep", &self.rules.keep)
            .field("warm", &self.idle_list().connections.len())
            .finish_non_exhaustive()
    }
}

impl<DB: Database> Checkout<DB> {
    /// The connection. A write that is sent on it is followed to its end.
    pub(super) fn connection(&mut self, write: Option<WriteProgress>) -> &mut DB::Connection {
        if let Some(write) = write {
            write.sent();
            self.write = Some(write);
        }
        &mut self.held().connection
    }

    /// The connection, and what is known of it.
    pub(super) fn held(&mut self) -> &mut WarmConnection<DB> {
        self.held.as_mut().expect("a checkout holds its connection until it ends")
    }

    /// Pings the server. As [`WarmConnection::ping`], cancelling included.
    pub(super) async fn ping(&mut self) -> Result<(), sqlx::Error> {
        self.held().ping().await
    }

    /// Begins a READ ONLY transaction for the statement that follows. A connection that is dropped before
    /// [`end_read_only`](Self::end_read_only) is closed.
    pub(super) async fn begin_read_only(&mut self, begin: &'static str) -> Result<(), sqlx::Error>
    where
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    {
        self.transaction = ReadOnlyTransaction::Open;
        quietly(self.connection(None).execute(sqlx::raw_sql(begin))).await.map(drop)
    }

    /// Ends the READ ONLY transaction, if there is one.
    pub(super) async fn end_read_only(&mut self) -> Result<(), sqlx::Error>
    where
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    {
        if self.transaction == ReadOnlyTransaction::Open {
            quietly(self.connection(None).execute(sqlx::raw_sql("COMMIT"))).await?;
            self.transaction = ReadOnlyTransaction::None;
        }
        Ok(())
    }

    /// The server has answered the statement; the connection goes back to the pool.
    pub(super) fn answered(mut self) {
        drop(self.held.take());
    }

    /// Closes the connection: its session may hold state that the next statement must not meet.
    pub(super) fn close(mut self) {
        if let Some(mut held) = self.held.take() {
            held.connection.close_on_drop();
        }
    }

    /// Has the connection forget its prepared statements, of which one does not fit any more, and keeps it warm then. The
    /// statement that failed runs meanwhile on another connection, or waits for this one.
    pub(super) fn forget_plans(mut self)
    where
        DB: HasStatementCache,
    {
        let Ok(runtime) = Handle::try_current() else { return self.close() };
        runtime.spawn(async move {
            let Some(held) = &mut self.held else { return };
            match timeout(GIVEN_BACK_WITHIN, held.connection.clear_cached_statements()).await {
                Ok(Ok(())) => self.rest(),
                _ => self.close(),
            }
        });
    }

    /// The statement came to a clean end: the connection stays warm.
    pub(super) fn rest(mut self) {
        if let Some(held) = self.held.take() {
            self.warm_pool.put(held);
        }
    }

    /// The statement has its answer, and rows may still be on their way: the connection stays warm if none are.
    pub(super) fn rest_if_quiet(mut self) {
        let Some(mut held) = self.held.take() else { return };
        let write = self.write.take();
        // Runs to its end, whatever happens: sqlx would lose its place in the server's answer if the future were
        // dropped between two pieces of a packet.
        let mut quieting: BoxFuture<'static, _> = Box::pin(async move {
            let result = held.connection.flush().await;
            drop(write);
            (held, result)
        });
        match (&mut quieting).now_or_never() {
            Some((held, Ok(()))) => self.warm_pool.put(held),
            Some((_, Err(_))) => {}
            None => {
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(quieting);
                }
            }
        }
    }
}

impl<DB: Database> Drop for Checkout<DB> {
    /// Gives back the connection of a statement that was cancelled. The server may be running the statement still;
    /// sqlx's ping, with which the connection goes back, ends after it. Only then is a write over and the permit free.
    /// The wait has no bound: closing the connection early would leave the server running the statement.
    fn drop(&mut self) {
        let (Some(mut held), Ok(runtime)) = (self.held.take(), Handle::try_current()) else { return };
        let (write, permit) = (self.write.take(), self.permit.take());
        if self.transaction == ReadOnlyTransaction::Open {
            held.connection.close_on_drop();
            return;
        }
        runtime.spawn(async move {
            if held.is_sound() {
                held.connection.return_to_pool().await;
            }
            drop((held, write, permit));
        });
    }
}

impl From<Closed> for NotAcquired {
    fn from(_: Closed) -> Self {
        sqlx::Error::PoolClosed.into()
    }
}

/// Gives back connections that have been warm for long, until the list is empty.
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

/// A user that waits in the pool.
pub(super) struct Waiting<DB: Database> {
    warm_pool: Arc<WarmPool<DB>>,
    epoch: u64,
    is_promised: bool,
}

impl<DB: Database> Waiting<DB> {
    /// The epoch in which the user began to wait.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Promises an idle connection to the user.
    fn promise(&mut self) {
        self.is_promised = true;
        self.warm_pool.idle_list().promised += 1;
    }

    /// Promises an idle connection to the user, or one that is on its way back; `false` if SeaORM would wait otherwise.
    fn promise_without_wait(&mut self) -> bool {
        let mut idle_list = self.warm_pool.idle_list();
        self.is_promised = !self.warm_pool.makes_seaorm_wait(&idle_list);
        idle_list.promised += usize::from(self.is_promised);
        self.is_promised
    }
}

impl<DB: Database> Drop for Waiting<DB> {
    fn drop(&mut self) {
        let mut idle_list = self.warm_pool.idle_list();
        idle_list.waiting -= 1;
        idle_list.promised -= usize::from(self.is_promised);
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests;
