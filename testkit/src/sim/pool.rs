//! The pools through which a process reaches the servers: the resolver's drivers.

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{self, StreamExt},
};
use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions};
use sea_orm_resolver::{
    NodeConfig,
    driver::{ConnectProbe, Driver, DriverTransaction, ProbeLink, Race, RacingDriver, Rows, WriteProgress},
};
use tokio::time::{self, Instant};

use super::{
    Ailment, Shared,
    session::{self, Transaction},
    state::Connection,
    statement::{Command, command, values},
};
use crate::scripted::{Row, fault, rows};

/// How long a pool whose connections are all busy lets an operation queue, while another node may have a free one.
const QUEUES_FOR: Duration = Duration::from_millis(200);

/// How long an operation waits for a connection in all.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Hears of each read that reaches the pool of an address.
type Watcher = Arc<OnceLock<Box<dyn Fn(&str) + Send + Sync>>>;

/// Idle connections are pinged after this time, as in the real pools of the resolver.
const PING_AFTER: Duration = Duration::from_secs(5);

/// A process with pools of its own to the servers of a cluster.
pub struct Process {
    shared: Arc<Shared>,
    watcher: Watcher,
    pools: Mutex<BTreeMap<String, Arc<Pool>>>,
}

impl Process {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, watcher: Watcher::default(), pools: Mutex::default() }
    }

    /// Has a closure called with the address of each read that is about to run through a pool of this process, from now
    /// on. Only the first closure is kept.
    pub fn watch_reads(&self, watcher: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.watcher.set(Box::new(watcher));
    }

    /// The node at an address, with this process's pool to that address. Equal for every call until the pool is
    /// closed.
    ///
    /// # Panics
    /// The cluster has no such address.
    pub fn node(&self, address: &str) -> NodeConfig {
        let known = self.pools().get(address).filter(|pool| !pool.is_closed()).cloned();
        known.map_or_else(|| self.another_pool(address), |pool| config(&pool, address))
    }

    /// The node at an address, with a new pool in the place of the old one.
    ///
    /// # Panics
    /// The cluster has no such address.
    pub fn another_pool(&self, address: &str) -> NodeConfig {
        let number = self.shared.state().address(address);
        let pool = Arc::new(Pool {
            shared: Arc::clone(&self.shared),
            address: number,
            name: address.to_owned(),
            watcher: Arc::clone(&self.watcher),
            backend: self.shared.state().kind.dialect.backend(),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
            connect_probe: Mutex::default(),
        });
        let config = config(&pool, address);
        self.pools().insert(address.to_owned(), pool);
        config
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pools", &self.pools).finish_non_exhaustive()
    }
}

fn config(pool: &Arc<Pool>, address: &str) -> NodeConfig {
    NodeConfig::from_driver(Arc::<Pool>::clone(pool)).name(address)
}

/// The pool of one process to one address.
pub(super) struct Pool {
    pub(super) shared: Arc<Shared>,
    address: usize,
    name: String,
    watcher: Watcher,
    pub(super) backend: DbBackend,
    idle: Mutex<Vec<(Connection, Instant)>>,
    closed: AtomicBool,
    connect_probe: Mutex<Option<ConnectProbe>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Pool {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection: an idle one, which may be broken, or a new one.
    pub(super) async fn take(&self) -> Result<Connection, DbErr> {
        loop {
            if self.is_closed() {
                return Err(fault::pool_closed());
            }
            if self.is_busy() {
                time::sleep(QUEUES_FOR).await;
                if self.is_busy() {
                    return Err(fault::pool_timed_out());
                }
            }
            let taken = {
                let mut idle = self.idle();
                let len = idle.len();
                (len > 0).then(|| idle.swap_remove(self.shared.state().dice.index(len)))
            };
            match taken {
                Some((connection, since)) if since.elapsed() >= PING_AFTER => {
                    session::latency(&self.shared).await;
                    if session::reach(&self.shared, &connection).await.is_ok() {
                        return Ok(connection);
                    }
                }
                Some((connection, _)) => return Ok(connection),
                None => return self.open().await,
            }
        }
    }

    fn is_busy(&self) -> bool {
        let state = self.shared.state();
        state.servers[state.addresses[self.address].servers[0]].has(Ailment::Busy)
    }

    /// A new physical connection.
    async fn open(&self) -> Result<Connection, DbErr> {
        let connection = session::connect(&self.shared, self.address).await?;
        self.greet(&connection).await?;
        Ok(connection)
    }

    /// Tells the resolver which server answers on a new connection, if the resolver asks.
    async fn greet(&self, connection: &Connection) -> Result<(), DbErr> {
        let asked =
            self.connect_probe.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(ConnectProbe::ask);
        if let Some((_, heard)) = asked {
            let row = session::ask(&self.shared, connection).await?;
            heard(&rows::queried(self.backend, row)?);
        }
        Ok(())
    }

    fn tell(&self, command: Command) {
        if let (Command::Read(_), Some(watcher)) = (command, self.watcher.get()) {
            watcher(&self.name);
        }
    }

    /// Takes back a connection that is free again.
    pub(super) fn give_back(&self, connection: Connection) {
        if !self.is_closed() {
            self.idle().push((connection, Instant::now()));
        }
    }

    /// Runs one statement on a connection of the pool.
    async fn run(&self, command: Command, write: Option<WriteProgress>) -> Result<Row, DbErr> {
        self.tell(command);
        let connection = self.take().await?;
        let answer = session::run(&self.shared, &connection, command, None, write).await?;
        self.give_back(connection);
        Ok(answer)
    }
}

impl Driver for Pool {
    fn backend(&self) -> DbBackend {
        self.backend
    }

    fn execute(&self, statement: Statement, write: Option<WriteProgress>) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move {
            self.run(command, write).await?;
            rows::executed(self.backend)
        }
        .boxed()
    }

    fn execute_unprepared<'a>(
        &'a self,
        sql: &'a str,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        let command = command(sql, &[]);
        async move {
            self.run(command, write).await?;
            rows::executed(self.backend)
        }
        .boxed()
    }

    fn query_one(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move { rows::queried(self.backend, self.run(command, write).await?).map(Some) }.boxed()
    }

    fn query_all(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move { rows::queried(self.backend, self.run(command, write).await?).map(|row| vec![row]) }.boxed()
    }

    fn stream(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Rows<'static>, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move {
            self.tell(command);
            let connection = self.take().await?;
            let shared = Arc::clone(&self.shared);
            let backend = self.backend;
            // The statement goes out with the first poll, as with sqlx. The connection is not used again.
            let first = async move {
                let row = session::run(&shared, &connection, command, None, write).await?;
                rows::queried(backend, row)
            };
            Ok(stream::once(first).boxed())
        }
        .boxed()
    }

    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        async move {
            let connection = self.take().await?;
            session::latency(&self.shared).await;
            session::reach(&self.shared, &connection).await?;
            let begun = Transaction::begin(Arc::clone(&self.shared), self.backend, connection, &options);
            Ok(Box::new(begun) as Box<dyn DriverTransaction>)
        }
        .boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        async move {
            let connection = self.take().await?;
            session::reach(&self.shared, &connection).await?;
            self.give_back(connection);
            Ok(())
        }
        .boxed()
    }

    fn renewed(&self) -> Option<Arc<dyn Driver>> {
        let connect_probe = self.connect_probe.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(Arc::new(Self {
            shared: Arc::clone(&self.shared),
            address: self.address,
            name: self.name.clone(),
            watcher: Arc::clone(&self.watcher),
            backend: self.backend,
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
            connect_probe: Mutex::new(connect_probe),
        }))
    }

    /// Leaves the pool open, because it is the pool for writes too.
    fn close_retired(&self) -> BoxFuture<'_, ()> {
        self.idle().clear();
        async {}.boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        self.closed.store(true, Ordering::Relaxed);
        self.idle().clear();
        async { Ok(()) }.boxed()
    }

    fn racing(&self) -> Option<&dyn RacingDriver> {
        Some(self)
    }

    fn acquire_timeout(&self) -> Option<Duration> {
        Some(ACQUIRE_TIMEOUT)
    }

    fn set_connect_probe(&self, connect_probe: &ConnectProbe) {
        *self.connect_probe.lock().unwrap_or_else(PoisonError::into_inner) = Some(connect_probe.clone());
    }

    fn check_idle(&self) {
        let state = self.shared.state();
        self.idle().retain(|(connection, _)| !state.is_broken(connection));
    }

    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>> {
        let connecting = async move {
            let connection = session::connect(&self.shared, self.address).await?;
            let link = Link { shared: Arc::clone(&self.shared), backend: self.backend, connection };
            Ok(Box::new(link) as Box<dyn ProbeLink>)
        };
        Some(connecting.boxed())
    }
}

impl Pool {
    /// Runs a read that another attempt may outrun. The connection of the loser is not used again.
    async fn run_in_race(&self, command: Command, race: Race) -> Result<Row, DbErr> {
        let lost = {
            let mut running = pin!(self.run(command, None));
            tokio::select! {
                biased;
                result = running.as_mut() => return result,
                () = race.lost() => {
                    self.shared.state().lost_races += 1;
                    session::latency(&self.shared).await;
                    Race::error()
                }
            }
        };
        Err(lost)
    }
}

impl RacingDriver for Pool {
    fn query_one(&self, statement: Statement, race: Race) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move { rows::queried(self.backend, self.run_in_race(command, race).await?).map(Some) }.boxed()
    }

    fn query_all(&self, statement: Statement, race: Race) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move { rows::queried(self.backend, self.run_in_race(command, race).await?).map(|row| vec![row]) }.boxed()
    }
}

/// The connection of a prober.
struct Link {
    shared: Arc<Shared>,
    backend: DbBackend,
    connection: Connection,
}

impl ProbeLink for Link {
    fn ask<'a>(&'a mut self, sql: &'static str) -> BoxFuture<'a, Result<QueryResult, DbErr>> {
        async move {
            let row = if sql.contains("pg_proc") {
                Row::from([("functions".to_owned(), "".into())])
            } else {
                session::ask(&self.shared, &self.connection).await?
            };
            rows::queried(self.backend, row)
        }
        .boxed()
    }
}
