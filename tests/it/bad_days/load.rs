//! The operations of a cell: every kind at once, at fixed times, equal for all parties.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Result;
use futures_util::TryStreamExt;
use sea_orm::{AccessMode, ConnectionTrait, DbErr, Statement, StreamTrait, TransactionSession, TransactionTrait};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::party::{Client, Party};

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    ReadConn,
    SessionRead,
    Stream,
    ReadOnlyTransaction,
    Write,
    Transaction,
}

impl Op {
    pub(super) const ALL: [Self; 7] = [
        Self::Read,
        Self::ReadConn,
        Self::SessionRead,
        Self::Stream,
        Self::ReadOnlyTransaction,
        Self::Write,
        Self::Transaction,
    ];

    pub(super) fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::Transaction)
    }

    /// Runs the operation; for SeaORM alone, read connections and sessions are plain reads.
    pub(super) async fn run(self, client: &Client, script: &Script) -> Result<(), DbErr> {
        match (self, client) {
            (Self::ReadConn, Client::Resolver(db)) => read(&db.read(), script).await,
            (Self::SessionRead, Client::Resolver(db)) => read(&db.session(), script).await,
            (_, Client::Alone(db)) => self.run_on(db, script).await,
            (_, Client::Resolver(db)) => self.run_on(db, script).await,
        }
    }

    async fn run_on<C>(self, db: &C, script: &Script) -> Result<(), DbErr>
    where
        C: ConnectionTrait + StreamTrait + TransactionTrait,
    {
        match self {
            Self::Read | Self::ReadConn | Self::SessionRead => read(db, script).await,
            Self::Stream => db.stream_raw(script.read.clone()).await?.try_collect::<Vec<_>>().await.map(drop),
            Self::ReadOnlyTransaction => {
                let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
                read(&transaction, script).await?;
                transaction.commit().await
            }
            Self::Write => write(db, script).await,
            Self::Transaction => {
                let transaction = db.begin().await?;
                read(&transaction, script).await?;
                write(&transaction, script).await?;
                transaction.commit().await
            }
        }
    }
}

async fn read(connection: &impl ConnectionTrait, script: &Script) -> Result<(), DbErr> {
    connection.query_all_raw(script.read.clone()).await.map(drop)
}

async fn write(connection: &impl ConnectionTrait, script: &Script) -> Result<(), DbErr> {
    let Some(write) = &script.write else { return Ok(()) };
    connection.execute_raw(write.clone()).await.map(drop)
}

/// The statements of a cell.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) read: Statement,
    /// None in a cell in which no process of the application writes.
    pub(super) write: Option<Statement>,
}

/// One operation that has ended.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) party: Party,
    pub(super) op: Op,
    pub(super) started: Instant,
    pub(super) ended: Instant,
    pub(super) error: Option<String>,
}

impl Done {
    /// Runs one operation to its end, or for as long as a cell has patience.
    pub(super) async fn after(
        party: Party,
        op: Op,
        work: impl Future<Output = Result<(), DbErr>>,
        patience: Duration,
    ) -> Self {
        let started = Instant::now();
        let error = match timeout(patience, work).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_elapsed) => Some(format!("no answer in {patience:?}")),
        };
        Self { party, op, started, ended: Instant::now(), error }
    }
}

/// Starts operations of all parties at the same times, however long the earlier ones take: so every party has the
/// same number of them, and a party that fails fast has no more failures for it.
#[derive(Debug)]
pub(super) struct Load {
    clients: Vec<(Party, Client)>,
    script: Arc<Script>,
    running: JoinSet<Done>,
}

/// The time between two starts.
const PERIOD: Duration = Duration::from_millis(300);
/// After this an operation counts as failed: longer than a fault, its mending and an acquire time-out together.
const PATIENCE: Duration = Duration::from_secs(9);

impl Load {
    pub(super) fn new(clients: Vec<(Party, Client)>, script: Script) -> Self {
        Self { clients, script: Arc::new(script), running: JoinSet::new() }
    }

    /// Runs other statements from now on.
    pub(super) fn read_by(&mut self, script: Script) {
        self.script = Arc::new(script);
    }

    /// Starts `width` operations of each kind at each time for as long.
    pub(super) async fn last(&mut self, width: usize, lasts: Duration) {
        // Counted, not timed: on a busy machine, too, each cell has as many operations as on an idle one.
        for _ in 0..lasts.as_millis().div_ceil(PERIOD.as_millis()) {
            self.start(width);
            sleep(PERIOD).await;
        }
    }

    /// Starts `width` operations of each kind at each time until the future is ready.
    pub(super) async fn during<F: Future>(&mut self, width: usize, future: F) -> F::Output {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return output,
                _ = ticks.tick() => self.start(width),
            }
        }
    }

    fn start(&mut self, width: usize) {
        for op in Op::ALL.into_iter().filter(|op| self.script.write.is_some() || !op.is_write()) {
            for &(party, ref client) in &self.clients {
                for _ in 0..width {
                    let (client, script) = (client.clone(), Arc::clone(&self.script));
                    self.running.spawn(async move { Done::after(party, op, op.run(&client, &script), PATIENCE).await });
                }
            }
        }
    }

    /// Waits for the operations that run, and returns all.
    pub(super) async fn end(self) -> Vec<Done> {
        self.running.join_all().await
    }
}
