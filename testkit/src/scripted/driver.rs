//! A scripted server as the resolver's driver.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{self, StreamExt},
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, MockDatabase, QueryResult, Statement,
    TransactionOptions, Value,
};
use sea_orm_resolver::{
    Role,
    driver::{Driver, DriverTransaction, ProbeLink, Race, RacingDriver, Rows, WriteProgress},
};
use tokio::{sync::Notify, time};

use super::{
    Behaviour, Outcome, Row, ScriptedNode, Step, fault,
    journal::{EntryId, Journal},
    position::Position,
    rows,
    script::Script,
};

/// The fake server. All changing state is in [`State`].
pub(super) struct Server {
    name: Arc<str>,
    backend: DbBackend,
    state: Mutex<State>,
    /// Wakes the tasks that wait for the journal to grow.
    grown: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) script: Script,
    pub(super) journal: Journal,
    pub(super) role: Role,
    pub(super) position: Position,
    pub(super) rows: Vec<Row>,
    pub(super) max_connections: Option<u32>,
    pub(super) functions: String,
    life: u64,
    transactions: u64,
}

impl State {
    pub(super) fn begin_another_life(&mut self) {
        self.life += 1;
    }
}

impl Server {
    pub(super) fn new(name: &str, role: Role, backend: DbBackend) -> Self {
        let own_row = Row::from([("node".to_owned(), Value::from(name))]);
        let state = State {
            script: Script::default(),
            journal: Journal::default(),
            role,
            position: Position::default(),
            functions: String::new(),
            rows: vec![own_row],
            max_connections: None,
            life: 1,
            transactions: 0,
        };
        Self { name: name.into(), backend, state: Mutex::new(state), grown: Notify::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            let grown = self.grown.notified();
            if condition() {
                return;
            }
            grown.await;
        }
    }

    /// Writes a step into the journal and acts as the script says.
    async fn pass(&self, step: Step, sql: &str, transaction: Option<u64>) -> Result<(), DbErr> {
        let (running, behaviour) = {
            let mut state = self.state();
            let entry = state.journal.add(step, sql, transaction);
            (Running { server: self, entry, outcome: Outcome::Dropped }, state.script.next(step))
        };
        self.grown.notify_waiters();
        let result = match behaviour {
            Behaviour::Ok => Ok(()),
            Behaviour::Fail(error) => Err(error),
            Behaviour::Slow(duration) => {
                time::sleep(duration).await;
                Ok(())
            }
            Behaviour::SlowFail(duration, error) => {
                time::sleep(duration).await;
                Err(error)
            }
            Behaviour::Never => std::future::pending().await,
            Behaviour::Panic => panic!("node {} was told to panic in {step:?}", self.name),
        };
        running.ends(if result.is_ok() { Outcome::Done } else { Outcome::Failed });
        result
    }

    async fn execute(&self, sql: &str, transaction: Option<u64>) -> Result<ExecResult, DbErr> {
        self.pass(Step::Execute, sql, transaction).await?;
        rows::executed(self.backend)
    }

    async fn query_one(&self, sql: &str, transaction: Option<u64>) -> Result<Option<QueryResult>, DbErr> {
        self.pass(Step::QueryOne, sql, transaction).await?;
        self.rows_as_seaorm_gives_them().query_one_raw(Statement::from_string(self.backend, sql)).await
    }

    async fn query_all(&self, sql: &str, transaction: Option<u64>) -> Result<Vec<QueryResult>, DbErr> {
        self.pass(Step::QueryAll, sql, transaction).await?;
        self.rows_as_seaorm_gives_them().query_all_raw(Statement::from_string(self.backend, sql)).await
    }

    async fn stream(
        self: Arc<Self>,
        sql: String,
        transaction: Option<u64>,
        write: Option<WriteProgress>,
    ) -> Result<Rows<'static>, DbErr> {
        self.pass(Step::StreamOpen, &sql, transaction).await?;
        let before = Sending { server: self, sql, transaction, write, rows: None };
        Ok(stream::unfold(before, Sending::next).boxed())
    }

    fn rows_as_seaorm_gives_them(&self) -> DatabaseConnection {
        // Only SeaORM can make a `QueryResult`, and its mock makes one of any columns.
        let rows = self.state().rows.clone();
        MockDatabase::new(self.backend).append_query_results([rows]).into_connection()
    }

    async fn begin(self: Arc<Self>, sql: String, within: Option<u64>) -> Result<Box<dyn DriverTransaction>, DbErr> {
        self.pass(Step::Begin, &sql, within).await?;
        let number = within.unwrap_or_else(|| {
            let mut state = self.state();
            state.transactions += 1;
            state.transactions
        });
        Ok(Box::new(Transaction { server: self, number, is_nested: within.is_some(), is_open: true }))
    }

    fn answer_probe(&self, step: Step) -> Result<QueryResult, DbErr> {
        let row = if step == Step::ListFunctions {
            Row::from([("functions".to_owned(), self.state().functions.clone().into())])
        } else {
            let state = self.state();
            let is_replica = state.role == Role::Replica;
            let (column, value) = match self.backend {
                DbBackend::MySql => ("read_only", if is_replica { "ON" } else { "OFF" }),
                _ => ("in_recovery", if is_replica { "true" } else { "false" }),
            };
            let incarnation = format!("{}@{}", self.name, state.life);
            let mut row =
                Row::from([(column.to_owned(), value.into()), ("incarnation".to_owned(), incarnation.into())]);
            state.position.say(&mut row);
            row
        };
        rows::queried(self.backend, row)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedNode").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A step that has begun; records in the journal how the step ended.
struct Running<'a> {
    server: &'a Server,
    entry: EntryId,
    outcome: Outcome,
}

impl Running<'_> {
    fn ends(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.server.state().journal.end(self.entry, self.outcome);
    }
}

/// A stream of rows that is being sent.
struct Sending {
    server: Arc<Server>,
    sql: String,
    transaction: Option<u64>,
    /// The progress of a statement that writes.
    write: Option<WriteProgress>,
    /// The rows that are left to send; `None` before the first row.
    rows: Option<std::vec::IntoIter<QueryResult>>,
}

impl Sending {
    async fn next(mut self) -> Option<(Result<QueryResult, DbErr>, Self)> {
        let step = match &self.rows {
            None => Step::FirstRow,
            Some(rows) if rows.len() == 0 => return None,
            Some(_) => Step::LaterRow,
        };
        if let Some(write) = &self.write {
            write.sent();
        }
        let sent = async {
            self.server.pass(step, &self.sql, self.transaction).await?;
            if self.rows.is_none() {
                let mock = self.server.rows_as_seaorm_gives_them();
                let rows = mock.query_all_raw(Statement::from_string(self.server.backend, &self.sql)).await?;
                self.rows = Some(rows.into_iter());
            }
            Ok(self.rows.as_mut().and_then(Iterator::next))
        };
        match sent.await {
            Ok(row) => row.map(|row| (Ok(row), self)),
            // As with sqlx, a stream yields nothing after an error.
            Err(error) => {
                self.rows = Some(Vec::new().into_iter());
                Some((Err(error), self))
            }
        }
    }
}

/// Runs a statement: a scripted node has no queue before it.
fn sent<'a, T>(
    write: Option<WriteProgress>,
    running: impl Future<Output = Result<T, DbErr>> + Send + 'a,
) -> BoxFuture<'a, Result<T, DbErr>> {
    async move {
        if let Some(write) = &write {
            write.sent();
        }
        running.await
    }
    .boxed()
}

impl Driver for ScriptedNode {
    fn backend(&self) -> DbBackend {
        self.server.backend
    }

    fn execute(&self, statement: Statement, write: Option<WriteProgress>) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        sent(write, async move { self.server.execute(&statement.sql, None).await })
    }

    fn execute_unprepared<'a>(
        &'a self,
        sql: &'a str,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        sent(write, self.server.execute(sql, None))
    }

    fn query_one(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        sent(write, async move { self.server.query_one(&statement.sql, None).await })
    }

    fn query_all(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        sent(write, async move { self.server.query_all(&statement.sql, None).await })
    }

    fn stream(
        &self,
        statement: Statement,
        write: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<Rows<'static>, DbErr>> {
        Arc::clone(&self.server).stream(statement.sql, None, write).boxed()
    }

    fn begin(&self, options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        Arc::clone(&self.server).begin(begin_sql(&options), None).boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        self.server.pass(Step::Ping, "", None).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        self.server.pass(Step::Close, "", None).boxed()
    }

    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>> {
        let connecting = async move {
            self.server.pass(Step::ProbeConnect, "", None).await?;
            let life = self.server.state().life;
            Ok(Box::new(Link { server: Arc::clone(&self.server), life }) as Box<dyn ProbeLink>)
        };
        Some(connecting.boxed())
    }

    fn max_connections(&self) -> Option<u32> {
        self.server.state().max_connections
    }

    fn racing(&self) -> Option<&dyn RacingDriver> {
        Some(self)
    }
}

impl RacingDriver for ScriptedNode {
    fn query_one(&self, statement: Statement, race: Race) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        self.run_in_race(race, Driver::query_one(self, statement, None)).boxed()
    }

    fn query_all(&self, statement: Statement, race: Race) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        self.run_in_race(race, Driver::query_all(self, statement, None)).boxed()
    }
}

impl ScriptedNode {
    async fn run_in_race<T>(&self, race: Race, mut running: BoxFuture<'_, Result<T, DbErr>>) -> Result<T, DbErr> {
        tokio::select! {
            biased;
            result = &mut running => return result,
            () = race.lost() => {}
        }
        // The statement runs until the server has been told.
        self.server.pass(Step::Cancel, "", None).await?;
        Err(Race::error())
    }
}

fn begin_sql(options: &TransactionOptions) -> String {
    let mut sql = "BEGIN".to_owned();
    if let Some(level) = options.isolation_level {
        sql += &format!(" ISOLATION LEVEL {level}");
    }
    if let Some(mode) = options.access_mode {
        sql += &format!(" {mode}");
    }
    sql
}

struct Link {
    server: Arc<Server>,
    life: u64,
}

impl ProbeLink for Link {
    fn ask<'a>(&'a mut self, sql: &'static str) -> BoxFuture<'a, Result<QueryResult, DbErr>> {
        async move {
            let step = if sql.contains("pg_proc") { Step::ListFunctions } else { Step::ProbeAsk };
            self.server.pass(step, sql, None).await?;
            if self.server.state().life != self.life {
                return Err(fault::reset());
            }
            self.server.answer_probe(step)
        }
        .boxed()
    }
}

/// An open transaction or savepoint.
struct Transaction {
    server: Arc<Server>,
    number: u64,
    is_nested: bool,
    is_open: bool,
}

impl Transaction {
    /// From here on only the server rolls the transaction back.
    async fn end(mut self, step: Step, sql: &str) -> Result<(), DbErr> {
        self.is_open = false;
        let server = Arc::clone(&self.server);
        server.pass(step, sql, Some(self.number)).await
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.is_open {
            let mut state = self.server.state();
            let entry = state.journal.add(Step::Rollback, "ROLLBACK because it was dropped", Some(self.number));
            state.journal.end(entry, Outcome::Done);
        }
    }
}

impl DriverTransaction for Transaction {
    fn execute(&self, statement: Statement) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        async move { self.server.execute(&statement.sql, Some(self.number)).await }.boxed()
    }

    fn execute_unprepared<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        self.server.execute(sql, Some(self.number)).boxed()
    }

    fn query_one(&self, statement: Statement) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        async move { self.server.query_one(&statement.sql, Some(self.number)).await }.boxed()
    }

    fn query_all(&self, statement: Statement) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        async move { self.server.query_all(&statement.sql, Some(self.number)).await }.boxed()
    }

    fn stream(&self, statement: Statement) -> BoxFuture<'_, Result<Rows<'_>, DbErr>> {
        async move {
            let rows: Rows<'_> =
                Server::stream(Arc::clone(&self.server), statement.sql, Some(self.number), None).await?;
            Ok(rows)
        }
        .boxed()
    }

    fn begin(&self, _options: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        Arc::clone(&self.server).begin("SAVEPOINT".to_owned(), Some(self.number)).boxed()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>> {
        let sql = if self.is_nested { "RELEASE SAVEPOINT" } else { "COMMIT" };
        self.end(Step::Commit, sql).boxed()
    }

    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<(), DbErr>> {
        let sql = if self.is_nested { "ROLLBACK TO SAVEPOINT" } else { "ROLLBACK" };
        self.end(Step::Rollback, sql).boxed()
    }
}
