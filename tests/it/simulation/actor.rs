//! The users of a connection: tasks, sessions, readers.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::StreamExt;
use sea_orm::{
    AccessMode, ConnectionTrait, DbErr, QueryResult, StreamTrait, TransactionOptions, TransactionSession,
    TransactionTrait,
};
use sea_orm_resolver::{Consistency, DatabaseConnection, ReadConn};
use testkit::sim::{Dice, KEYS, WriteId};
use tokio::time::{self, Instant};

use super::ledger::{Ledger, Outcome, Session, Terms};

/// The session of an actor's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No session: the operations are those of the process.
    Implicit,
    /// An explicit one.
    Explicit,
}

/// One task that writes and reads.
pub(super) struct Actor {
    pub(super) name: Arc<str>,
    pub(super) db: DatabaseConnection,
    pub(super) kind: Kind,
    pub(super) session: Arc<Session>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) dice: Dice,
    /// The staleness that the actor accepts.
    pub(super) bound: Duration,
    /// The connections on which the actor's session may go on.
    pub(super) elsewhere: Vec<(DatabaseConnection, Arc<Ledger>)>,
    /// How many more times the actor checks whether a write of unknown outcome has happened.
    doubts: u32,
    /// A read connection that the actor keeps for a while, and the rows that it has shown.
    pub(super) reader: Option<(ReadConn, Arc<Session>)>,
}

impl Actor {
    pub(super) fn new(
        name: Arc<str>,
        db: DatabaseConnection,
        kind: Kind,
        session: Arc<Session>,
        ledger: Arc<Ledger>,
        elsewhere: Vec<(DatabaseConnection, Arc<Ledger>)>,
        mut dice: Dice,
    ) -> Self {
        // A tight bound makes the probers busy.
        let bound = Duration::from_millis(*dice.pick(&[300, 1_500, 3_000]));
        Self { name, db, kind, session, ledger, dice, bound, elsewhere, doubts: 0, reader: None }
    }

    /// Runs so many operations, one after the other.
    pub(super) async fn act(mut self, operations: u64) {
        for _ in 0..operations {
            if self.doubts > 0 {
                self.doubts -= 1;
                time::sleep(self.dice.millis(20, 300)).await;
                self.look(Consistency::Session, 7).await;
                continue;
            }
            self.think().await;
            let name = Arc::clone(&self.name);
            match self.dice.below(100) {
                0..30 => {
                    self.ledger.cluster.note(move |f| write!(f, "{name} writes"));
                    self.write().await;
                }
                30..37 => {
                    self.ledger.cluster.note(move |f| write!(f, "{name} transacts"));
                    self.transact().await;
                }
                37..41 => self.go_on_elsewhere().await,
                _ => {
                    self.ledger.cluster.note(move |f| write!(f, "{name} reads"));
                    self.read().await;
                }
            }
        }
    }

    async fn think(&mut self) {
        let pause = match self.dice.below(100) {
            0..35 => return,
            35..65 => self.dice.millis(1, 20),
            65..95 => self.dice.millis(20, 300),
            _ => self.dice.millis(300, 1_500),
        };
        time::sleep(pause).await;
    }

    // --- writes --------------------------------------------------------------------------------

    async fn write(&mut self) {
        let (key, write) = (self.dice.index(KEYS), self.ledger.cluster.new_write());
        let began = Instant::now();
        let cluster = self.ledger.cluster.clone();
        let way = self.dice.below(6);
        let db = self.db.clone();
        let writing = async move {
            match way {
                0 => db.execute_unprepared(&cluster.update_text(key, write)).await.map(drop),
                1 => db.query_one_raw(cluster.update_returning(key, write)).await.map(drop),
                2 => exhaust(db.stream_raw(cluster.update_returning(key, write)).await?).await.map(drop),
                3 => db.write().execute_raw(cluster.update(key, write)).await.map(drop),
                _ => db.execute_raw(cluster.update(key, write)).await.map(drop),
            }
        };
        let outcome = self.perhaps_give_up(writing).await;
        if matches!(outcome, Outcome::GivenUp) {
            self.doubts = 6;
        }
        self.ledger.write_ended(&self.name, &self.session, &[(key, write)], began, &outcome);
    }

    /// Runs an operation, and now and then does not wait for its end.
    async fn perhaps_give_up<T>(&mut self, running: impl Future<Output = Result<T, DbErr>>) -> Outcome<T> {
        let patience =
            if self.dice.percent(12) { self.dice.millis(0, 12) } else { Duration::from_secs(self.dice.between(5, 20)) };
        time::timeout(patience, running).await.map_or(Outcome::GivenUp, Outcome::Ended)
    }

    /// A transaction that writes, and reads its own writes.
    async fn transact(&mut self) {
        let began = Instant::now();
        let begun = match self.perhaps_give_up(self.db.clone().begin()).await {
            Outcome::Ended(Ok(begun)) => begun,
            outcome => return self.ledger.write_ended(&self.name, &self.session, &[], began, &outcome),
        };
        let mut pending = [None; KEYS];
        let mut writes: Vec<(usize, WriteId)> = Vec::new();
        for _ in 0..self.dice.between(1, 4) {
            let (key, write) = (self.dice.index(KEYS), self.ledger.cluster.new_write());
            let written = begun.execute_raw(self.ledger.cluster.update(key, write)).await;
            if written.is_err() {
                return self.ledger.write_ended(&self.name, &self.session, &[], began, &Outcome::Ended(written));
            }
            pending[key] = Some(write);
            writes.retain(|(known, _)| *known != key);
            writes.push((key, write));
            self.think().await;
        }
        if self.dice.percent(50) {
            let terms = Terms { pending, is_fragile: true, ..self.terms(Consistency::Session) };
            let reading = self.ledger.begin(Terms { seen: Vec::new(), ..terms });
            let row = begun.query_one_raw(self.ledger.select(&reading)).await.map(only);
            self.ledger.ended(&reading, row);
        }
        match self.dice.below(10) {
            0 => {
                let rolled_back = begun.rollback().await;
                self.ledger.write_ended(&self.name, &self.session, &[], began, &Outcome::Ended(rolled_back));
            }
            1 => drop(begun),
            _ => {
                let outcome = self.perhaps_give_up(begun.commit()).await;
                self.ledger.write_ended(&self.name, &self.session, &writes, began, &outcome);
            }
        }
    }

    /// Carries its session to another connection, as a text.
    async fn go_on_elsewhere(&mut self) {
        let (db, ledger) = self.dice.pick(&self.elsewhere).clone();
        let plain = (self.kind == Kind::Implicit).then_some(&*self.ledger);
        let carried = self.session.carried_on(plain);
        let began = Instant::now();
        match self.db.causal_token().await {
            Err(error) => self.ledger.token_failed(began, &error),
            Ok(token) => {
                let text = token.to_string();
                let (name, shown) = (Arc::clone(&self.name), text.clone());
                self.ledger.cluster.note(move |f| write!(f, "{name} goes on elsewhere after {shown}"));
                self.db = db.session_after(&text.parse().expect("a token is read as it was written"));
                self.ledger = ledger;
                self.session = Arc::new(carried);
                self.kind = Kind::Explicit;
                self.reader = None;
                self.ledger.tally.tokens.fetch_add(1, Relaxed);
            }
        }
    }

    // --- reads ---------------------------------------------------------------------------------

    fn terms(&self, consistency: Consistency) -> Terms {
        let seen = match self.kind {
            Kind::Implicit => Vec::new(),
            Kind::Explicit => vec![Arc::clone(&self.session)],
        };
        Terms {
            who: Arc::clone(&self.name),
            consistency,
            session: Arc::clone(&self.session),
            is_plain: self.kind == Kind::Implicit,
            seen,
            is_fragile: false,
            pending: [None; KEYS],
        }
    }

    fn some_consistency(&mut self) -> Consistency {
        match self.dice.below(100) {
            0..66 => Consistency::Session,
            66..77 => Consistency::Eventual,
            77..82 => Consistency::BoundedStaleness(self.bound),
            82..92 => Consistency::Process,
            _ => Consistency::Strong,
        }
    }

    async fn read(&mut self) {
        if self.dice.percent(20) {
            return self.read_through_reader().await;
        }
        let consistency = self.some_consistency();
        let way = self.dice.below(8);
        self.look(consistency, way).await;
    }

    /// Reads in one of several ways.
    async fn look(&mut self, consistency: Consistency, way: u64) {
        let db = self.db.with_consistency(consistency);
        let terms = Terms { is_fragile: way == 0, ..self.terms(consistency) };
        let reading = self.ledger.begin(terms);
        let select = self.ledger.select(&reading);
        let row = match way {
            0 => read_only_transaction(&db, select).await,
            1 => match db.stream_raw(select).await {
                Ok(rows) => exhaust(rows).await,
                Err(error) => Err(error),
            },
            2 | 3 => db.query_all_raw(select).await.map(|rows| only(rows.into_iter().next())),
            _ => db.query_one_raw(select).await.map(only),
        };
        self.ledger.ended(&reading, row);
    }

    /// A read connection keeps to its node, and never shows an older state than before.
    async fn read_through_reader(&mut self) {
        if self.reader.is_none() || self.dice.percent(15) {
            self.reader = Some((self.db.read(), Arc::default()));
        }
        let mut terms = self.terms(self.db.consistency());
        let Some((reader, seen)) = &self.reader else { return };
        terms.seen.push(Arc::clone(seen));
        let way = self.dice.below(4);
        let reading = self.ledger.begin(terms);
        let select = self.ledger.select(&reading);
        let row = match way {
            0 => match reader.stream_raw(select).await {
                Ok(rows) => exhaust(rows).await,
                Err(error) => Err(error),
            },
            _ => reader.query_one_raw(select).await.map(only),
        };
        self.ledger.ended(&reading, row);
    }
}

async fn read_only_transaction(db: &DatabaseConnection, select: sea_orm::Statement) -> Result<QueryResult, DbErr> {
    let options = TransactionOptions { access_mode: Some(AccessMode::ReadOnly), ..TransactionOptions::default() };
    let begun = db.begin_with_options(options).await?;
    let row = begun.query_one_raw(select).await.map(only)?;
    TransactionSession::commit(begun).await?;
    Ok(row)
}

/// Reads a stream to its end; returns its first row.
async fn exhaust(rows: impl futures_util::Stream<Item = Result<QueryResult, DbErr>>) -> Result<QueryResult, DbErr> {
    let mut rows = std::pin::pin!(rows);
    let first = only(rows.next().await.transpose()?);
    while rows.next().await.transpose()?.is_some() {}
    Ok(first)
}

fn only(row: Option<QueryResult>) -> QueryResult {
    row.expect("the model answers with one row")
}
