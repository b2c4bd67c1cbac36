//! Runs statements on a connection: they travel, run in one instant, and their answers travel back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{self, StreamExt},
};
use sea_orm::{AccessMode, DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions};
use sea_orm_resolver::driver::{DriverTransaction, Rows, WriteProgress};
use tokio::time;

use super::{
    Ailment, KEYS, LATEST_COMMIT, Shared, WriteId,
    server::Process,
    state::{Connection, State},
    statement::{Command, command, values},
};
use crate::scripted::{Row, fault, rows};

/// Waits as long as a message travels.
pub(super) async fn latency(shared: &Shared) {
    let (chance, dice_throw) = {
        let dice = &mut shared.state().dice;
        (dice.below(100), dice.below(1_000))
    };
    let millis = match chance {
        0..40 => return,
        40..60 => return others_first(dice_throw % 4).await,
        60..90 => 1 + dice_throw % 4,
        90..98 => 4 + dice_throw % 30,
        _ => 30 + dice_throw % 200,
    };
    time::sleep(Duration::from_millis(millis)).await;
}

/// Lets other tasks of the same instant run first.
async fn others_first(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Waits until the server at the other end answers; fails when the connection is broken.
pub(super) async fn reach(shared: &Shared, connection: &Connection) -> Result<(), DbErr> {
    loop {
        let changed = shared.changed.notified();
        {
            let state = shared.state();
            if state.is_broken(connection) {
                return Err(fault::reset());
            }
            if state.servers[connection.server].process == Process::Running {
                return Ok(());
            }
        }
        changed.await;
    }
}

/// Opens a connection to the server to which an address leads now.
pub(super) async fn connect(shared: &Shared, address: usize) -> Result<Connection, DbErr> {
    latency(shared).await;
    let server = shared.state().next_server(address);
    loop {
        let changed = shared.changed.notified();
        {
            let state = shared.state();
            match state.servers[server].process {
                Process::Running if state.servers[server].has(Ailment::Full) => {
                    return Err(fault::not_connected("53300"));
                }
                Process::Running => return Ok(state.open(server)),
                Process::Stopped => return Err(fault::refused()),
                Process::Frozen => {}
            }
        }
        changed.await;
    }
}

/// Asks a server the prober's question.
pub(super) async fn ask(shared: &Shared, connection: &Connection) -> Result<Row, DbErr> {
    latency(shared).await;
    reach(shared, connection).await?;
    let row = shared.state().answer(connection.server);
    latency(shared).await;
    reach(shared, connection).await?;
    Ok(row)
}

/// Runs a statement, in a transaction or committed by itself.
pub(super) async fn run(
    shared: &Arc<Shared>,
    connection: &Connection,
    command: Command,
    transaction: Option<&Open>,
    progress: Option<WriteProgress>,
) -> Result<Row, DbErr> {
    let (key, write) = match command {
        Command::Write { key, write } => (key, write),
        Command::Ask => return ask(shared, connection).await,
        Command::Read(read) => {
            shared.state().read_begins(read);
            latency(shared).await;
            reach(shared, connection).await?;
            let row = {
                let mut state = shared.state();
                state.try_statement(connection.server, Some(read))?;
                row(&mut state, connection, transaction)
            };
            latency(shared).await;
            reach(shared, connection).await?;
            shared.state().read_answered(read);
            return Ok(row);
        }
    };
    if transaction.is_some_and(|open| open.read_only) || !shared.state().servers[connection.server].is_primary {
        return Err(fault::server("25006"));
    }
    {
        let mut state = shared.state();
        state.write_arrives(write);
        state.try_statement(connection.server, None)?;
    }
    let written = Row::from([("last_write".to_owned(), i64::from(write).into())]);
    match transaction {
        Some(open) => {
            latency(shared).await;
            reach(shared, connection).await?;
            open.pending().push((key, write));
            if shared.state().dice.percent(50) {
                shared.state().leave_tail(connection.server);
            }
            latency(shared).await;
            reach(shared, connection).await?;
        }
        None => commit(shared, connection, vec![(key, write)], progress).await?,
    }
    Ok(written)
}

/// The row that a read sees now.
fn row(state: &mut State, connection: &Connection, transaction: Option<&Open>) -> Row {
    let server = state.server(connection.server);
    let mut visible = server.visible;
    let number = server.number;
    for (key, write) in transaction.map(|open| open.pending().clone()).unwrap_or_default() {
        visible[key] = write;
    }
    let name = server.name.clone();
    state.trace.note(move |f| write!(f, "{name} is read: {visible:?}"));
    let mut row = Row::from([("server".to_owned(), i64::from(number).into())]);
    for (key, write) in visible.into_iter().enumerate().take(KEYS) {
        row.insert(format!("k{key}"), i64::from(write).into());
    }
    row
}

/// Commits at some instant before the acknowledgement.
async fn commit(
    shared: &Arc<Shared>,
    connection: &Connection,
    writes: Vec<(usize, WriteId)>,
    progress: Option<WriteProgress>,
) -> Result<(), DbErr> {
    if let Some(progress) = &progress {
        progress.sent();
    }
    let mut underway = Underway { shared, connection, writes, progress };
    latency(shared).await;
    reach(shared, connection).await?;
    if !underway.writes.is_empty() {
        let writes = std::mem::take(&mut underway.writes);
        shared.state().commit(connection.server, &writes);
    }
    latency(shared).await;
    reach(shared, connection).await
}

/// Writes that were sent and are not committed. Their caller may have stopped waiting.
struct Underway<'a> {
    shared: &'a Arc<Shared>,
    connection: &'a Connection,
    writes: Vec<(usize, WriteId)>,
    /// The progress of a statement that commits by itself.
    progress: Option<WriteProgress>,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.writes.is_empty() {
            return;
        }
        let (shared, connection, writes) =
            (Arc::clone(self.shared), *self.connection, std::mem::take(&mut self.writes));
        let after = {
            let mut state = shared.state();
            if state.dice.percent(50) {
                return;
            }
            state.dice.millis(0, u64::try_from(LATEST_COMMIT.as_millis()).unwrap_or(u64::MAX))
        };
        let progress = self.progress.take();
        let later = async move {
            time::sleep(after).await;
            let mut state = shared.state();
            if state.still_runs(&connection) {
                state.commit(connection.server, &writes);
            }
            drop(state);
            drop(progress);
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(later);
        }
    }
}

/// A transaction that is open on a server.
#[derive(Debug)]
pub(super) struct Open {
    read_only: bool,
    pending: Mutex<Vec<(usize, WriteId)>>,
}

impl Open {
    fn pending(&self) -> MutexGuard<'_, Vec<(usize, WriteId)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction, or a savepoint in one. Its connection is not used again.
pub(super) struct Transaction {
    shared: Arc<Shared>,
    backend: DbBackend,
    connection: Connection,
    open: Arc<Open>,
    /// For a savepoint, the number of writes before it.
    savepoint: Option<usize>,
}

impl Transaction {
    pub(super) fn begin(
        shared: Arc<Shared>,
        backend: DbBackend,
        connection: Connection,
        options: &TransactionOptions,
    ) -> Self {
        let read_only = options.access_mode == Some(AccessMode::ReadOnly);
        let open = Arc::new(Open { read_only, pending: Mutex::default() });
        Self { shared, backend, connection, open, savepoint: None }
    }

    async fn run(&self, command: Command) -> Result<Row, DbErr> {
        run(&self.shared, &self.connection, command, Some(&self.open), None).await
    }
}

impl DriverTransaction for Transaction {
    fn execute(&self, statement: Statement) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move {
            self.run(command).await?;
            rows::executed(self.backend)
        }
        .boxed()
    }

    fn execute_unprepared<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        let command = command(sql, &[]);
        async move {
            self.run(command).await?;
            rows::executed(self.backend)
        }
        .boxed()
    }

    fn query_one(&self, statement: Statement) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move { rows::queried(self.backend, self.run(command).await?).map(Some) }.boxed()
    }

    fn query_all(&self, statement: Statement) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        async move { rows::queried(self.backend, self.run(command).await?).map(|row| vec![row]) }.boxed()
    }

    fn stream(&self, statement: Statement) -> BoxFuture<'_, Result<Rows<'_>, DbErr>> {
        let command = command(&statement.sql, values(&statement));
        let first = async move { rows::queried(self.backend, self.run(command).await?) };
        async move { Ok(stream::once(first).boxed() as Rows<'_>) }.boxed()
    }

    fn begin(&self, _options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        let savepoint = Self {
            shared: Arc::clone(&self.shared),
            backend: self.backend,
            connection: self.connection,
            open: Arc::clone(&self.open),
            savepoint: Some(self.open.pending().len()),
        };
        async move { Ok(Box::new(savepoint) as Box<dyn DriverTransaction>) }.boxed()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>> {
        async move {
            let writes = match self.savepoint {
                Some(_) => Vec::new(),
                None => std::mem::take(&mut *self.open.pending()),
            };
            commit(&self.shared, &self.connection, writes, None).await
        }
        .boxed()
    }

    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>> {
        async move {
            self.open.pending().truncate(self.savepoint.unwrap_or_default());
            latency(&self.shared).await;
            reach(&self.shared, &self.connection).await
        }
        .boxed()
    }
}
