//! The reasons of a route: asked for before, and recorded while the statement runs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::TryStreamExt;
use sea_orm::{AccessMode, ConnectionTrait, DbBackend, DbErr, EntityTrait, Statement, StreamTrait, TransactionTrait};
use sea_orm_resolver::{Consistency, DatabaseConnection, DecidedBy, Intent, RoundRobin, RouteLog, Sessions};
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time;
use tracing::{Subscriber, field::Visit, span::Attributes};
use tracing_subscriber::{Layer, layer::Context};

use super::{Nodes, STICK, WRITE, in_flight, refuse_probes, select, tally, until_health, who, write};
use crate::item;

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

#[tokio::test(start_paused = true)]
async fn a_read_and_a_write_are_explained() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connected(nodes.builder().primary_read_share(0.1)).await?;
    let read = db.explain(&select(&db));
    assert!(read.node().is_some_and(|node| node.starts_with('r')), "{read}");
    assert_eq!((read.intent(), read.sessions()), (Intent::Read, Sessions::ReadOnly));
    assert!((read.primary_probability() - 0.1).abs() < 1e-9 && (read.replica_probability() - 0.9).abs() < 1e-9);
    assert_eq!((read.candidates(), read.rejected().len()), (&["r1".to_owned(), "r2".to_owned()][..], 0));
    assert_eq!((read.floor(), read.decided_by()), (None, Some(DecidedBy::Text)));
    assert_eq!(read.generation(), db.topology().generation());

    let write = db.explain(&statement("SELECT nextval('s')"));
    assert_eq!((write.node(), write.intent(), write.sessions()), (Some("p"), Intent::Write, Sessions::ReadWrite));
    assert_eq!(write.reason().map(|reason| reason.kind()), Some("primary_function"), "{write}");
    assert_eq!(write.candidates(), ["p"]);
    assert!(write.to_string().contains("nextval"), "{write}");

    nodes.each(|node| assert_eq!(node.statements(), Vec::<String>::new(), "nothing ran"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_floor_the_down_nodes_and_the_refusals_are_explained() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    refuse_probes(&nodes.replicas[1]);
    until_health(&db, "r2", sea_orm_resolver::Health::Down).await;
    let session = db.session();
    write(&session).await?;
    time::advance(Duration::from_millis(100)).await;
    let said = session.explain(&select(&db));
    assert_eq!((said.node(), said.sessions()), (Some("p"), Sessions::ReadOnly), "{said}");
    assert_eq!(said.floor().and_then(|floor| floor.written_ago), Some(Duration::from_millis(100)));
    let why: BTreeMap<_, _> = said.rejected().iter().map(|no| (no.node.as_str(), no.why.as_str())).collect();
    assert_eq!(why, BTreeMap::from([("r1", "this session wrote too recently"), ("r2", "down")]));
    assert_eq!(session.with_consistency(Consistency::Eventual).explain(&select(&db)).node(), Some("r1"));
    let strong = session.with_consistency(Consistency::Strong).explain(&select(&db));
    assert_eq!((strong.node(), strong.sessions()), (Some("p"), Sessions::ReadWrite));

    nodes.replicas[0].once(Step::QueryOne, Behaviour::Fail(fault::server("25006")));
    let hidden = statement("SELECT * FROM hidden WHERE id = 1");
    assert_eq!(db.explain(&hidden).decided_by(), Some(DecidedBy::Text));
    db.session().query_one_raw(hidden).await?;
    let said = db.explain(&statement("SELECT * FROM hidden WHERE id = 2"));
    assert_eq!((said.node(), said.decided_by()), (Some("p"), Some(DecidedBy::Server)), "{said}");

    nodes.each(refuse_probes);
    until_health(&db, "p", sea_orm_resolver::Health::Down).await;
    let said = db.explain(&select(&db));
    assert_eq!((said.node(), said.rejected().len()), (None, 3), "{said}");
    let json = serde_json::to_value(&said).expect("data");
    assert_eq!(json["rejected"][0]["node"], "p");
    Ok(())
}

/// Explaining between the reads changes nothing about them: draws, turns, kept nodes, SeaORM's read-back.
#[tokio::test(start_paused = true)]
async fn explaining_changes_nothing() -> Result<(), DbErr> {
    let mut sequences = vec![];
    for explains in [0, 3] {
        for turns in [false, true] {
            let nodes = Nodes::speaking(DbBackend::MySql, 3);
            let builder = nodes.builder().primary_read_share(0.3);
            let builder = if turns { builder.policy(RoundRobin::default()) } else { builder };
            let db = nodes.connected(builder).await?;
            let session = db.session();
            let explain = |db: &DatabaseConnection| {
                for _ in 0..explains {
                    db.explain(&select(db));
                }
                assert_eq!(in_flight(db), 0);
            };
            let mut sequence = vec![];
            for _ in 0..50 {
                explain(&db);
                explain(&session);
                sequence.push(who(&db).await?);
            }
            sequence.push(who(&session).await?);
            let eventual = session.with_consistency(Consistency::Eventual);
            write(&eventual).await?;
            explain(&eventual);
            assert_eq!(who(&eventual).await?, "p", "the read-back");
            sequences.push(sequence);
        }
    }
    assert_eq!(sequences[0], sequences[2]);
    assert_eq!(sequences[1], sequences[3]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_log_has_the_decision_of_everything_that_ran() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let plain = nodes.connected(nodes.builder().primary_read_share(0.5)).await?;
    let log = RouteLog::new();
    let db = plain.recorded(&log);
    let took = |log: &RouteLog| {
        let decisions = log.take();
        decisions.iter().map(|said| (said.node().unwrap_or("-").to_owned(), said.intent())).collect::<Vec<_>>()
    };

    let tally = tally(&db, 100).await?;
    let mut said = BTreeMap::<_, usize>::new();
    for (node, intent) in took(&log) {
        assert_eq!(intent, Intent::Read);
        *said.entry(node).or_default() += 1;
    }
    assert_eq!(said, tally, "each said where it went");

    let read = db.read();
    let node = read.node().expect("drawn");
    who(&read).await?;
    read.begin().await?;
    item::Entity::find().stream(&read).await?.try_collect::<Vec<_>>().await?;
    assert_eq!(took(&log), vec![(node, Intent::Read); 3]);

    write(&db).await?;
    db.write().execute_unprepared(WRITE).await?;
    db.begin().await?.commit().await?;
    db.stream_raw(statement("SELECT 1 FOR UPDATE")).await?;
    assert_eq!(took(&log), vec![("p".to_owned(), Intent::Write); 4]);

    time::sleep(STICK).await;
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    let node = transaction.node().to_owned();
    assert_eq!(took(&log), [(node.clone(), Intent::Read)]);
    transaction.query_all_raw(statement("SELECT 'secret' WHERE 1 = 2")).await?;
    transaction.stream_raw(select(&db)).await?;
    assert_eq!(log.last().and_then(|said| said.statement().map(str::to_owned)), Some(select(&db).sql));
    assert_eq!(took(&log), vec![(node, Intent::Read); 2], "what runs inside is there too");
    db.query_all_raw(statement("SELECT 'secret' FROM item WHERE id = 17")).await?;
    let said = log.last().expect("one decision").to_string();
    assert!(said.contains("SELECT ? FROM item WHERE id = ?") && !said.contains("secret"), "{said}");
    log.take();
    who(&plain).await?;
    assert_eq!(took(&log), [], "the other handle is not recorded");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_logged_and_so_is_a_read_that_a_server_refused() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let log = RouteLog::new();
    let db = nodes.connect().await?.recorded(&log);
    nodes.replicas[0].on(Step::QueryOne, Behaviour::Fail(fault::reset()));
    while log.take().len() < 2 {
        assert_eq!(who(&db.session()).await?, "r2");
    }
    nodes.each(testkit::scripted::ScriptedNode::recover);
    let refusing = |node: &testkit::scripted::ScriptedNode| {
        if node.name() != "p" {
            node.on(Step::QueryOne, Behaviour::Fail(fault::server("25006")));
        }
    };
    nodes.each(refusing);
    assert_eq!(who(&db).await?, "p");
    let [attempt, overruled] = &log.take()[..] else { panic!("two decisions") };
    assert_eq!((attempt.intent(), attempt.decided_by()), (Intent::Read, Some(DecidedBy::Text)));
    assert_eq!((overruled.node(), overruled.decided_by()), (Some("p"), Some(DecidedBy::Server)));

    for _ in 0..3_000 {
        who(&db).await?;
    }
    assert_eq!(log.take().len(), 1_024, "a log is bounded");
    Ok(())
}

/// Writes down the fields of the route spans.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &tracing::span::Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "sea_orm_resolver.route" {
            let mut fields = BTreeMap::new();
            attributes.record(&mut Fields(&mut fields));
            self.0.lock().expect("no panic under it").push(fields);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_of_an_operation_carries_its_decision() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let spans = Spans::default();
    let db = nodes.connect().await?;
    let _guard = crate::listen::listen(spans.clone());
    who(&db.session()).await?;
    write(&db).await?;
    let spans = spans.0.lock().expect("no panic under it").clone();
    let [read, write] = &spans[..] else { panic!("two operations: {spans:?}") };
    let field = |span: &BTreeMap<String, String>, name| span.get(name).cloned().unwrap_or_default();
    assert_eq!((field(read, "node"), field(read, "intent")), ("\"r1\"".to_owned(), "Read".to_owned()), "{read:?}");
    assert_eq!((field(write, "node"), field(write, "sessions")), ("\"p\"".to_owned(), "read-write".to_owned()));
    for name in ["reason", "decided_by", "generation", "primary_probability", "candidates", "rejected"] {
        assert!(read.contains_key(name) && write.contains_key(name), "{name}: {spans:?}");
    }
    Ok(())
}
