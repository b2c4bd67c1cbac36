//! A future dropped at every await point, with every gate in front of it: nothing stays in flight,
//! the floors are right, and the next operation works.

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

use futures_util::TryStreamExt;
use sea_orm::{AccessMode, DbErr, EntityTrait, Statement, StreamTrait, TransactionTrait};
use sea_orm_resolver::DatabaseConnection;
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time;

use super::{NANOSECOND, Nodes, STICK, UNKNOWN_OUTCOME_HOLD, in_flight, in_task, item_row, who, write};
use crate::item;

/// How long a slow gate takes.
const LATE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Read,
    ReadAll,
    ReadStream,
    ReadOnlyTransaction,
    Write,
    WriteStream,
    Transaction,
    RolledBack,
}

/// The steps of an operation, and the step before which the gate stands.
const CASES: [(Operation, &[Step]); 8] = [
    (Operation::Read, &[Step::QueryOne]),
    (Operation::ReadAll, &[Step::QueryAll]),
    (Operation::ReadStream, &[Step::StreamOpen, Step::FirstRow, Step::LaterRow]),
    (Operation::ReadOnlyTransaction, &[Step::Begin, Step::QueryOne, Step::Commit]),
    (Operation::Write, &[Step::Execute]),
    (Operation::WriteStream, &[Step::StreamOpen, Step::FirstRow, Step::LaterRow]),
    (Operation::Transaction, &[Step::Begin, Step::Execute, Step::Commit]),
    (Operation::RolledBack, &[Step::Begin, Step::Execute, Step::Rollback]),
];

impl Operation {
    async fn run(self, db: &DatabaseConnection) -> Result<(), DbErr> {
        match self {
            Self::Read => who(db).await.map(drop),
            Self::ReadAll => item::Entity::find().all(db).await.map(drop),
            Self::ReadStream => {
                let rows = item::Entity::find().stream(db).await?;
                assert_eq!(rows.try_collect::<Vec<_>>().await?.len(), 3);
                Ok(())
            }
            Self::ReadOnlyTransaction => {
                let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
                who(&transaction).await?;
                transaction.commit().await
            }
            Self::Write => write(db).await,
            Self::WriteStream => {
                let sql = "UPDATE item SET amount = 1 RETURNING *";
                let rows = db.stream_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
                assert_eq!(rows.try_collect::<Vec<_>>().await?.len(), 3);
                Ok(())
            }
            Self::Transaction => {
                let transaction = db.begin().await?;
                write(&transaction).await?;
                transaction.commit().await
            }
            Self::RolledBack => {
                let transaction = db.begin().await?;
                write(&transaction).await?;
                transaction.rollback().await
            }
        }
    }

    /// The state that the operation leaves behind when it ended in this way, with the gate at this step.
    fn leaves(self, gate: Step, ended: Ended) -> Left {
        match (self, ended) {
            (_, Ended::NotBegun) => Left::Nothing,
            (Self::Read | Self::ReadAll | Self::ReadStream | Self::ReadOnlyTransaction, _) => Left::Nothing,
            (_, Ended::Well) => Left::Floor,
            // The statement goes out when its rows are first asked for.
            (Self::WriteStream, Ended::Dropped) if gate == Step::StreamOpen => Left::Nothing,
            (Self::Write | Self::WriteStream, Ended::Dropped | Ended::Badly) => Left::OpenFloor,
            (Self::Transaction | Self::RolledBack, Ended::Dropped | Ended::Badly) => match gate {
                Step::Begin => Left::Nothing,
                Step::Commit => Left::OpenFloor,
                // The write was rolled back, but not everything in a database is transactional.
                _ => Left::Floor,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    NotBegun,
    Dropped,
    Well,
    /// The connection broke at the gate.
    Badly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Floor,
    OpenFloor,
}

/// Polls a future this often at the most, or until it has waited a virtual minute, and drops it.
async fn drop_after<T>(polls: usize, future: impl Future<Output = T>) -> (Option<T>, usize) {
    let mut future = Box::pin(future);
    let mut polled = 0;
    let bounded = poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if polled == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    let value = time::timeout(Duration::from_secs(60), bounded).await.unwrap_or_default();
    (value, polled)
}

/// One case; `false` when more polls change nothing.
async fn check(operation: Operation, gate: Step, behaviour: Behaviour, polls: usize) -> Result<bool, DbErr> {
    let name = format!("{operation:?}, {gate:?} is {behaviour:?}, dropped after {polls} polls");
    let nodes = Nodes::postgres(2);
    nodes.each(|node| node.set_rows((1..=3).map(|id| item_row(id, node.name()))));
    let db = nodes.connect().await?.session();
    nodes.on_each(gate, &behaviour);
    in_task(async move {
        let (value, polled) = drop_after(polls, operation.run(&db)).await;
        let ended = match &value {
            None if polled == 0 => Ended::NotBegun,
            None => Ended::Dropped,
            Some(Ok(())) => Ended::Well,
            Some(Err(_)) => Ended::Badly,
        };
        // The end of a transaction runs on when its caller stops waiting.
        let runs_on = ended == Ended::Dropped && matches!(gate, Step::Commit | Step::Rollback);
        let running = || {
            let mut running = 0;
            nodes.each(|node| running += node.running());
            running
        };
        assert_eq!(in_flight(&db), u64::from(runs_on), "{name}: {value:?}");
        assert_eq!(running(), usize::from(runs_on), "{name}: a server still waits");
        nodes.each(testkit::scripted::ScriptedNode::recover);
        if runs_on {
            time::sleep(LATE).await;
            tokio::task::yield_now().await;
        }
        let hangs = running();
        assert_eq!(hangs, usize::from(runs_on && matches!(behaviour, Behaviour::Never)), "{name}");

        // The session's floor rises when the caller stops waiting, and again at the end.
        let since_dropped = if runs_on { LATE } else { Duration::ZERO };
        let held_for = match (operation.leaves(gate, ended), &behaviour) {
            (Left::Nothing, _) => Duration::ZERO,
            (Left::Floor, Behaviour::Never) => STICK - since_dropped,
            (Left::Floor, _) => STICK,
            (Left::OpenFloor, Behaviour::SlowFail(..)) => UNKNOWN_OUTCOME_HOLD,
            (Left::OpenFloor, _) => UNKNOWN_OUTCOME_HOLD - since_dropped,
        };
        if !held_for.is_zero() {
            assert_eq!(who(&db).await?, "p", "{name}: {ended:?}");
            time::advance(held_for - NANOSECOND).await;
            assert_eq!(who(&db).await?, "p", "{name}: {ended:?}, just before its time");
            time::advance(NANOSECOND).await;
        }
        assert_ne!(who(&db).await?, "p", "{name}: {ended:?}");
        write(&db).await?;
        assert_eq!(in_flight(&db), u64::try_from(hangs).unwrap_or(u64::MAX), "{name}");
        Ok(value.is_none() && polled == polls)
    })
    .await
}

async fn check_all(behaviour: &Behaviour) -> Result<usize, DbErr> {
    let mut cases = 0;
    for (operation, gates) in CASES {
        for &gate in gates {
            let mut polls = 0;
            while check(operation, gate, behaviour.clone(), polls).await? {
                polls += 1;
            }
            cases += polls + 1;
        }
    }
    Ok(cases)
}

#[tokio::test(start_paused = true)]
async fn dropped_at_every_await_point_with_open_gates() -> Result<(), DbErr> {
    check_all(&Behaviour::Ok).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn dropped_at_every_await_point_with_broken_connections() -> Result<(), DbErr> {
    check_all(&Behaviour::Fail(fault::reset())).await?;
    let late = Behaviour::SlowFail(LATE, fault::reset());
    let cases = check_all(&late).await?;
    assert!(cases > 50, "the gates were waited at: {cases}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dropped_at_every_await_point_with_slow_gates() -> Result<(), DbErr> {
    let cases = check_all(&Behaviour::Slow(LATE)).await?;
    assert!(cases > 50, "the gates were waited at: {cases}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dropped_at_every_await_point_with_closed_gates() -> Result<(), DbErr> {
    let cases = check_all(&Behaviour::Never).await?;
    assert!(cases > 50, "the gates were waited at: {cases}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_dropped_is_rolled_back_and_gives_its_place_back() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let transaction = db.begin().await?;
    let nested = transaction.begin().await?;
    assert_eq!(in_flight(&db), 2);
    drop(nested);
    assert_eq!(in_flight(&db), 1);
    drop(transaction);
    assert_eq!(in_flight(&db), 0);
    assert_eq!(nodes.primary.count(Step::Rollback), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_for_a_node_leaves_nothing_when_it_is_dropped() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.each(super::refuse_probes);
    super::until_health(&db, "p", sea_orm_resolver::Health::Down).await;
    super::until_health(&db, "r1", sea_orm_resolver::Health::Down).await;
    let (value, _) = drop_after(3, who(&db)).await;
    assert!(value.is_none());
    assert_eq!(in_flight(&db), 0);
    nodes.each(testkit::scripted::ScriptedNode::restart);
    super::until_health(&db, "r1", sea_orm_resolver::Health::Up).await;
    assert_eq!(who(&db).await?, "r1");
    Ok(())
}
