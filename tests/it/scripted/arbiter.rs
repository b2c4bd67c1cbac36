//! Statements that look like reads and that a server refuses.

use std::{error::Error as _, time::Duration};

use futures_util::TryStreamExt;
use sea_orm::{AccessMode, ConnectionTrait, DbBackend, DbErr, EntityTrait, Statement, StreamTrait, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, DecidedBy, Error, StatementRoute};
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time;

use super::{Nodes, STICK, in_flight, in_task, select, who};
use crate::item;

const READ_ONLY: &str = "25006";
const NOT_SUPPORTED: &str = "0A000";
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

fn hidden(argument: u32) -> Statement {
    statement(&format!("SELECT * FROM writing_view WHERE id = {argument}"))
}

/// Replicas that refuse every query with this code; the primary runs it.
async fn refusing(replicas: usize, code: &'static str) -> Result<(Nodes, DatabaseConnection), DbErr> {
    let nodes = Nodes::postgres(replicas);
    let db = nodes.connect().await?;
    for replica in &nodes.replicas {
        for step in [Step::QueryOne, Step::QueryAll, Step::Execute, Step::FirstRow] {
            replica.on(step, Behaviour::Fail(fault::server(code)));
        }
    }
    Ok((nodes, db))
}

fn recover(nodes: &Nodes) {
    for replica in &nodes.replicas {
        replica.recover();
    }
}

fn on_replicas(nodes: &Nodes) -> usize {
    nodes.replicas.iter().map(|replica| replica.statements().len()).sum()
}

#[tokio::test(start_paused = true)]
async fn a_refused_read_runs_once_on_the_primary_is_counted_and_remembered_by_its_shape() -> Result<(), DbErr> {
    for code in [READ_ONLY, NOT_SUPPORTED] {
        let (nodes, db) = refusing(2, code).await?;
        let row = db.query_one_raw(hidden(1)).await?.expect("a row");
        assert_eq!(row.try_get::<String>("", "name")?, "p", "{code}");
        assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (1, 1));
        assert_eq!(db.reads_rerun_on_primary(), 1);

        recover(&nodes);
        time::sleep(STICK).await;
        for argument in 2..12 {
            db.query_all_raw(hidden(argument)).await?;
        }
        assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (1, 11), "another argument, same shape");
        assert_eq!(db.reads_rerun_on_primary(), 1);
        time::sleep(STICK).await;
        db.query_all_raw(select(&db)).await?;
        assert_eq!(on_replicas(&nodes), 2, "another shape");

        time::sleep(REMEMBERED_FOR).await;
        db.query_all_raw(hidden(1)).await?;
        assert_eq!(on_replicas(&nodes), 3, "after ten minutes it is tried again");
        assert_eq!(in_flight(&db), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_said_once_for_each_shape() -> Result<(), DbErr> {
    let (nodes, db) = refusing(2, READ_ONLY).await?;
    let (log, _guard) = crate::secrets::record();
    for argument in 0..5 {
        db.session().query_all_raw(hidden(argument)).await?;
    }
    let said = log.take();
    let refusals: Vec<_> = said.lines().filter(|line| line.contains("refused to run this as a read")).collect();
    assert_eq!(refusals.len(), 1, "{said}");
    assert!(refusals[0].contains("writing_view") && !refusals[0].contains("id = 0"), "{}", refusals[0]);
    time::sleep(REMEMBERED_FOR).await;
    db.session().query_all_raw(hidden(1)).await?;
    assert!(log.take().contains("refused to run this as a read"), "after ten minutes it is news again");
    assert_eq!(nodes.primary.statements().len(), 6);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_way_to_run_a_statement_is_arbitrated() -> Result<(), DbErr> {
    for way in ["execute_raw", "execute_unprepared", "query_one", "query_all", "stream", "stream_raw"] {
        let (nodes, db) = refusing(1, READ_ONLY).await?;
        match way {
            "execute_raw" => assert_eq!(db.execute_raw(hidden(1)).await?.rows_affected(), 1),
            "execute_unprepared" => {
                db.execute_unprepared(&hidden(1).sql).await?;
            }
            "query_one" => assert_eq!(who(&db).await?, "p"),
            "query_all" => assert_eq!(item::Entity::find().all(&db).await?[0].name, "p"),
            "stream" => {
                let rows: Vec<_> = item::Entity::find().stream(&db).await?.try_collect().await?;
                assert_eq!(rows[0].name, "p");
            }
            _ => {
                let rows: Vec<_> = db.stream_raw(hidden(1)).await?.try_collect().await?;
                assert_eq!(rows[0].try_get::<String>("", "name")?, "p");
            }
        }
        assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (1, 1), "{way}");
        assert_eq!((db.reads_rerun_on_primary(), in_flight(&db)), (1, 0), "{way}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_primarys_own_read_only_sessions_refuse_as_well() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    db.set_primary_read_share(1.0).expect("a share");
    nodes.primary.once(Step::QueryOne, Behaviour::Fail(fault::server(READ_ONLY)));
    assert_eq!(who(&db).await?, "p");
    assert_eq!((nodes.primary.statements().len(), on_replicas(&nodes)), (2, 0));
    assert_eq!(db.reads_rerun_on_primary(), 1);

    // A statement that a primary does not support is supported nowhere.
    time::sleep(STICK).await;
    nodes.primary.once(Step::QueryOne, Behaviour::Fail(fault::server(NOT_SUPPORTED)));
    db.query_one_raw(hidden(1)).await.expect_err("the statement's own error");
    assert_eq!(db.reads_rerun_on_primary(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refused_read_is_a_write_of_its_session_and_of_no_other() -> Result<(), DbErr> {
    let (nodes, db) = refusing(1, READ_ONLY).await?;
    let session = db.session();
    session.query_one_raw(hidden(1)).await?;
    recover(&nodes);
    assert_eq!(who(&session).await?, "p", "its session reads what it wrote");
    assert_eq!(who(&db.session()).await?, "r1");
    time::sleep(STICK).await;
    assert_eq!(who(&session).await?, "r1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_error_that_the_primary_has_too_is_the_statements_own_and_not_remembered() -> Result<(), DbErr> {
    let (nodes, db) = refusing(1, NOT_SUPPORTED).await?;
    nodes.primary.once(Step::QueryOne, Behaviour::Fail(fault::server(NOT_SUPPORTED)));
    let error = db.query_one_raw(hidden(1)).await.expect_err("nobody supports it");
    assert!(Error::from_db_err(&error).is_none(), "{error}");
    assert_eq!(db.reads_rerun_on_primary(), 0);
    recover(&nodes);
    time::sleep(STICK).await;
    assert_eq!(db.query_one_raw(hidden(1)).await?.expect("a row").try_get::<String>("", "name")?, "r1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_text_of_several_statements_is_not_run_again() -> Result<(), DbErr> {
    let (nodes, db) = refusing(1, READ_ONLY).await?;
    let several = "SELECT 1; SELECT * FROM writing_view";
    let error = db.execute_unprepared(several).await.expect_err("refused");
    assert!(Error::from_db_err(&error).is_none(), "the server's own words: {error}");
    assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (1, 0));
    db.execute_unprepared(several).await?;
    assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (1, 1), "it is known by then");
    db.session().execute_unprepared("SELECT * FROM writing_view; -- one statement;\n;").await?;
    assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (2, 2));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_connection_stays_read_only() -> Result<(), DbErr> {
    let (nodes, db) = refusing(1, READ_ONLY).await?;
    let read = db.read();
    let refused = |error: DbErr| {
        let ours = Error::from_db_err(&error).expect("typed");
        assert!(ours.is_refused(), "{error}");
        (ours.node().map(str::to_owned), ours.source().is_some())
    };
    let by_server = (Some("r1".to_owned()), true);
    assert_eq!(refused(read.query_one_raw(hidden(1)).await.expect_err("it writes")), by_server);
    let stream = async { db.read().stream_raw(select(&db)).await?.try_collect::<Vec<_>>().await };
    assert_eq!(refused(stream.await.expect_err("it writes")), by_server);
    assert_eq!(refused(read.query_one_raw(hidden(2)).await.expect_err("it writes")), (None, false), "not sent");
    let unknown = "SELECT nobody_knows(1)";
    for expected in [by_server, (None, false)] {
        assert_eq!(refused(read.execute_unprepared(unknown).await.expect_err("it writes")), expected);
    }
    assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (3, 0));
    assert_eq!(db.reads_rerun_on_primary(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_connection_reads_from_the_primary_what_a_standby_cannot_read() -> Result<(), DbErr> {
    let (nodes, db) = refusing(1, NOT_SUPPORTED).await?;
    let read = db.read();
    let name = |row: Option<sea_orm::QueryResult>| row.expect("a row").try_get::<String>("", "name");
    assert_eq!(name(read.query_one_raw(hidden(1)).await?)?, "p");
    assert_eq!(name(read.query_one_raw(hidden(2)).await?)?, "p");
    assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (1, 2), "the second time at once");
    let rows: Vec<_> = db.read().stream_raw(select(&db)).await?.try_collect().await?;
    assert_eq!(rows[0].try_get::<String>("", "name")?, "p");
    assert_eq!(db.reads_rerun_on_primary(), 2);
    assert_eq!(read.node().as_deref(), Some("r1"), "it keeps its node for everything else");
    recover(&nodes);
    assert_eq!(who(&db.session()).await?, "r1", "nothing was written");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_after_its_first_row_is_not_run_again() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.each(|node| node.set_rows((1..=2).map(|id| super::item_row(id, node.name()))));
    nodes.replicas[0].on(Step::LaterRow, Behaviour::Fail(fault::server(READ_ONLY)));
    let mut rows = db.stream_raw(select(&db)).await?;
    assert_eq!(rows.try_next().await?.expect("a row").try_get::<String>("", "name")?, "r1");
    rows.try_next().await.expect_err("rows that were seen cannot be taken back");
    assert_eq!((nodes.primary.statements().len(), db.reads_rerun_on_primary()), (0, 0));
    assert_eq!(db.explain(&select(&db)).decided_by(), Some(DecidedBy::Server), "the next one goes to the primary");

    let late = statement("SELECT id, name, amount FROM item WHERE id > 0");
    let mut rows = db.read().stream_raw(late).await?;
    rows.try_next().await?.expect("a row");
    let error = rows.try_next().await.expect_err("rows that were seen cannot be taken back");
    assert!(Error::from_db_err(&error).is_some_and(Error::is_refused), "typed on a read connection: {error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_counted_and_remembered_only_when_the_primary_has_run_it() -> Result<(), DbErr> {
    let (nodes, db) = refusing(1, NOT_SUPPORTED).await?;
    nodes.primary.once(Step::FirstRow, Behaviour::Fail(fault::server(NOT_SUPPORTED)));
    for (succeeds, expected) in [(false, DecidedBy::Text), (true, DecidedBy::Standby)] {
        let rows = async { db.session().stream_raw(hidden(1)).await?.try_collect::<Vec<_>>().await };
        assert_eq!(rows.await.is_ok(), succeeds);
        assert_eq!(db.reads_rerun_on_primary(), u64::from(succeeds));
        assert_eq!(db.explain(&hidden(1)).decided_by(), Some(expected));
        // The error that both nodes gave is the statement's own for ten minutes.
        time::advance(Duration::from_secs(601)).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_rule_for_replicas_does_not_outlive_a_refusal() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connected(nodes.builder().statement("SELECT f(?)", StatementRoute::Replica)).await?;
    nodes.replicas[0].on(Step::QueryOne, Behaviour::Fail(fault::server(READ_ONLY)));
    for argument in 0..5 {
        db.session().query_one_raw(statement(&format!("SELECT f({argument})"))).await?;
    }
    assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (1, 5));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_rule_for_the_primary_holds_on_read_connections_too() -> Result<(), DbErr> {
    let nodes = Nodes::speaking(DbBackend::MySql, 1);
    let db = nodes.connected(nodes.builder().statement("SELECT f(?)", StatementRoute::Primary)).await?;
    db.read().execute_unprepared("SELECT f(1)").await?;
    assert_eq!((on_replicas(&nodes), nodes.primary.statements().len()), (0, 1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_run_again_inside_a_transaction() -> Result<(), DbErr> {
    let (nodes, db) = refusing(1, READ_ONLY).await?;
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    assert_eq!(transaction.node(), "r1");
    let nested = transaction.begin().await?;
    for open in [&nested, &transaction] {
        let error = open.execute_unprepared("INSERT INTO item DEFAULT VALUES").await.expect_err("refused");
        let ours = Error::from_db_err(&error).expect("typed");
        assert!(ours.is_refused() && ours.node() == Some("r1") && ours.source().is_some(), "{error}");
    }
    // The server refuses each time: another statement of the same shape may be a read.
    for sent in 1..=2 {
        nodes.replicas[0].forget();
        let error = transaction.query_one_raw(hidden(sent)).await.expect_err("refused");
        assert!(Error::from_db_err(&error).is_some_and(Error::is_refused), "{error}");
        assert_eq!(on_replicas(&nodes), 1);
    }
    let rows = async { transaction.stream_raw(select(&db)).await?.try_collect::<Vec<_>>().await };
    let error = rows.await.expect_err("refused");
    assert!(Error::from_db_err(&error).is_some_and(Error::is_refused), "{error}");
    transaction.rollback().await?;

    let transaction = db.begin().await?;
    nodes.primary.once(Step::Execute, Behaviour::Fail(fault::server(READ_ONLY)));
    let error = transaction.execute_unprepared("UPDATE item SET amount = 1").await.expect_err("it fails");
    assert!(Error::from_db_err(&error).is_none(), "the server's own words: {error}");
    transaction.rollback().await?;
    assert_eq!(nodes.primary.statements().len(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_node_alone_behaves_as_seaorm_alone() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(0);
    let db = nodes.connect().await?;
    nodes.primary.on(Step::QueryOne, Behaviour::Fail(fault::server(READ_ONLY)));
    let error = db.query_one_raw(hidden(1)).await.expect_err("it fails");
    assert!(Error::from_db_err(&error).is_none(), "the server's own words: {error}");
    let error = db.read().query_one_raw(hidden(1)).await.expect_err("it fails");
    assert!(Error::from_db_err(&error).is_some_and(Error::is_refused), "a read connection: {error}");
    assert_eq!(nodes.primary.statements().len(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_write_that_a_demoted_primary_refuses_is_not_run_again() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    nodes.primary.on(Step::Execute, Behaviour::Fail(fault::server(READ_ONLY)));
    db.execute_unprepared(super::WRITE).await.expect_err("it fails");
    assert_eq!((nodes.primary.statements().len(), on_replicas(&nodes)), (1, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_configuration_has_the_last_word_on_a_shape() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let builder = nodes
        .builder()
        .statement("select * from REPORT where day = $1", StatementRoute::Primary)
        .statement("SELECT my_function(?)", StatementRoute::Replica)
        .harmless_functions(["shop.price_of"]);
    let db = nodes.connected(builder).await?;
    let run = |sql: &'static str| {
        let db = db.session();
        async move { db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await }
    };
    for (sql, place) in [
        ("SELECT * FROM report WHERE day = '2026-11-21'", "p"),
        ("SELECT * FROM report WHERE day = '2026-11-21' AND id = 1", "r1"),
        ("SELECT my_function(7)", "r1"),
        ("SELECT my_function(7), other_function(7)", "p"),
        ("SELECT shop.price_of(7)", "r1"),
        ("SELECT price_of(7)", "p"),
    ] {
        let row = in_task(run(sql)).await?.expect("a row");
        assert_eq!(row.try_get::<String>("", "name")?, place, "{sql}");
    }
    let read = db.session().read();
    assert_eq!(read.node().as_deref(), Some("r1"));
    read.execute_unprepared("SELECT * FROM report WHERE day = 1").await?;
    assert_eq!(nodes.primary.statements().len(), 4, "a read connection reads it from the primary");
    // A rule is an opinion about reads; the server's is stronger.
    nodes.replicas[0].once(Step::QueryOne, Behaviour::Fail(fault::server(READ_ONLY)));
    let row = in_task(run("SELECT my_function(8)")).await?.expect("a row");
    assert_eq!(row.try_get::<String>("", "name")?, "p");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_cannot_work_is_an_error_that_names_it() {
    let nodes = Nodes::postgres(1);
    for (sql, route) in [
        ("", StatementRoute::Primary),
        (" -- nothing\n;", StatementRoute::Primary),
        ("SELECT 'open", StatementRoute::Primary),
        ("UPDATE item SET amount = 1", StatementRoute::Replica),
        ("SELECT 1 FOR UPDATE", StatementRoute::Replica),
        ("SELECT 1; DROP TABLE item", StatementRoute::Replica),
        ("SELECT 2", StatementRoute::Replica),
    ] {
        let builder = nodes.builder().statement("SELECT 1", StatementRoute::Primary).statement(sql, route);
        let error = builder.connect().await.expect_err(sql);
        let ours = Error::from_db_err(&error).expect("ours");
        assert_eq!(ours.field(), Some("statements[1].shape"), "{sql}: {error}");
    }
    for name in ["", "f()", "a b", "\"F\""] {
        let error = nodes.builder().harmless_functions(["fine", name]).connect().await.expect_err(name);
        assert_eq!(Error::from_db_err(&error).and_then(Error::field), Some("harmless_functions[1]"), "{error}");
    }
}
