//! A COMMIT or a write of unknown outcome.

use std::time::Duration;

use sea_orm::{DbErr, Statement, StreamTrait, TransactionError, TransactionTrait};
use sea_orm_resolver::DatabaseConnection;
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time;

use super::{NANOSECOND, Nodes, STICK, in_flight, in_task, who, write};

const HOLD: Duration = Duration::from_secs(7);

/// Reads come from the primary until `hold` has passed, to the tick, and then from a replica.
async fn assert_held(db: &DatabaseConnection, hold: Duration) -> Result<(), DbErr> {
    assert_eq!(who(db).await?, "p");
    time::advance(hold - NANOSECOND).await;
    assert_eq!(who(db).await?, "p");
    time::advance(NANOSECOND).await;
    assert_eq!(who(db).await?, "r1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_lost_its_connection_is_not_repeated_and_holds_the_session() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connected(nodes.builder().unknown_outcome_hold(HOLD)).await?.session();
    nodes.primary.on(Step::Commit, Behaviour::Fail(fault::reset()));
    in_task(async move {
        let transaction = db.begin().await?;
        write(&transaction).await?;
        let error = transaction.commit().await.expect_err("the connection broke");
        assert_eq!(error.to_string(), fault::reset().to_string());
        assert_eq!(nodes.count(Step::Commit), 1);
        assert_eq!(in_flight(&db), 0);
        assert_held(&db, HOLD).await?;

        let in_closure = db.transaction::<_, _, DbErr>(|transaction| Box::pin(write(transaction))).await;
        assert!(matches!(in_closure, Err(TransactionError::Connection(_))));
        assert_eq!((nodes.count(Step::Commit), nodes.count(Step::Execute)), (2, 2));
        assert_held(&db, HOLD).await
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_cancelled_is_not_repeated_and_holds_the_session() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connected(nodes.builder().unknown_outcome_hold(HOLD)).await?.session();
    nodes.primary.on(Step::Commit, Behaviour::Never);
    in_task(async move {
        let transaction = db.begin().await?;
        write(&transaction).await?;
        time::timeout(Duration::from_millis(100), transaction.commit()).await.expect_err("it does not answer");
        assert_eq!(nodes.count(Step::Commit), 1);
        assert_eq!(nodes.count(Step::Rollback), 0, "it is on its way");
        assert_eq!(in_flight(&db), 1, "it runs on");
        assert_held(&db, HOLD).await
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_the_server_refused_has_a_known_outcome() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.primary.on(Step::Commit, Behaviour::Fail(fault::server("40001")));
    in_task(async move {
        let transaction = db.begin().await?;
        write(&transaction).await?;
        transaction.commit().await.expect_err("refused");
        assert_held(&db, STICK).await
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_write_that_provably_did_not_run_holds_no_session() -> Result<(), DbErr> {
    for error in [fault::refused(), fault::pool_timed_out(), fault::pool_closed()] {
        let nodes = Nodes::postgres(1);
        let db = nodes.connect().await?;
        nodes.primary.on(Step::Execute, Behaviour::Fail(error.clone()));
        nodes.primary.on(Step::Begin, Behaviour::Fail(error.clone()));
        nodes.primary.on(Step::StreamOpen, Behaviour::Fail(error));
        in_task(async move {
            write(&db).await.expect_err("not executed");
            db.begin().await.map(drop).expect_err("not begun");
            returning(&db).await.expect_err("not executed");
            assert_eq!(who(&db).await?, "r1");
            Ok::<_, DbErr>(())
        })
        .await?;
    }
    Ok(())
}

/// A write whose rows are streamed, as far as its first row or error.
async fn returning(db: &DatabaseConnection) -> Result<(), DbErr> {
    use futures_util::TryStreamExt;

    let statement = Statement::from_string(db.get_database_backend(), "DELETE FROM item RETURNING *");
    db.stream_raw(statement).await?.try_next().await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_server_refused_has_a_known_outcome_however_it_was_sent() -> Result<(), DbErr> {
    for gate in [Step::Execute, Step::StreamOpen, Step::FirstRow] {
        let nodes = Nodes::postgres(1);
        let db = nodes.connect().await?;
        nodes.primary.on(gate, Behaviour::Fail(fault::server("23505")));
        in_task(async move {
            let refused = if gate == Step::Execute { write(&db).await } else { returning(&db).await };
            refused.expect_err("refused");
            assert_eq!(nodes.count(gate), 1);
            assert_held(&db, STICK).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_nested_commit_is_no_commit() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.primary.on(Step::Commit, Behaviour::Fail(fault::reset()));
    in_task(async move {
        let transaction = db.begin().await?;
        let nested = transaction.begin().await?;
        nested.commit().await.expect_err("the savepoint's release failed");
        assert_eq!(who(&db).await?, "r1", "nothing has ended yet");
        transaction.rollback().await?;
        assert_held(&db, STICK).await
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_write_of_unknown_outcome_binds_the_process_only_once_its_connection_is_gone() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connected(nodes.builder().unknown_outcome_hold(HOLD)).await?;
    let session = db.session();
    nodes.primary.once(Step::Execute, Behaviour::Never);
    time::timeout(Duration::from_millis(100), write(&session)).await.expect_err("it does not answer");
    assert_eq!(who(&db.session()).await?, "r1", "another session");
    // A scripted connection is given up with the future that used it.
    time::advance(STICK).await;
    assert_eq!(who(&db).await?, "r1", "plain reads see it as any other write");
    assert_eq!(who(&session).await?, "p", "the session that wrote is held");
    time::advance(HOLD).await;
    assert_eq!(who(&session).await?, "r1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_statement_timeout_is_the_hold_where_none_is_set() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let timeout = Duration::from_secs(3);
    let builder = nodes.builder().primary(nodes.primary.config().statement_timeout(timeout));
    let db = nodes.connected(builder).await?.session();
    nodes.primary.on(Step::Execute, Behaviour::Fail(fault::reset()));
    in_task(async move {
        write(&db).await.expect_err("broken");
        assert_held(&db, timeout).await
    })
    .await
}
