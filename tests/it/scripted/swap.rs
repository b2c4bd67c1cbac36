//! Changes of the membership while operations run.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use sea_orm::{AccessMode, DbErr, EntityTrait, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, Error, Health, MembershipChange, NodeConfig, Role, RoundRobin};
use testkit::scripted::{Behaviour, ScriptedNode, Step, fault};
use tokio::time::{self, Instant};

use super::{Nodes, WRITE, ended, health, in_flight, item_row, node, replica, tally, until_health, who, write};
use crate::item;

fn names(db: &DatabaseConnection) -> Vec<String> {
    db.topology().members().map(|member| member.name().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn operations_on_a_removed_node_finish_and_then_its_pools_are_closed() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    nodes.replicas[0].set_rows((1..=3).map(|id| item_row(id, "r1")));
    let db = nodes.connect().await?;
    let (read, session) = (db.read(), db.session());
    assert_eq!((who(&read).await?.as_str(), who(&session).await?.as_str()), ("r1", "r1"));
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    let mut rows = item::Entity::find().stream(&db).await?;
    rows.next().await.expect("a first row")?;

    let new = replica("new");
    let report = db.swap_replicas([new.config()]).await.expect("it answers");
    assert_eq!((report.added, report.removed, report.kept.len()), (vec!["new".to_owned()], vec!["r1".to_owned()], 0));
    assert_eq!(tally(&db, 20).await?.into_keys().collect::<Vec<_>>(), ["new"]);
    assert_eq!(who(&read).await?, "new", "a read connection draws again");
    assert_eq!(who(&session).await?, "new");

    time::sleep(Duration::from_secs(10)).await;
    assert_eq!(nodes.replicas[0].count(Step::Close), 0, "somebody is still there");
    assert_eq!(who(&transaction).await?, "r1");
    transaction.commit().await?;
    assert_eq!(rows.by_ref().count().await, 2);
    assert_eq!(nodes.replicas[0].count(Step::Close), 0);
    drop(rows);
    nodes.replicas[0].reached(Step::Close, 2).await;
    nodes.replicas[0].forget();
    time::sleep(Duration::from_secs(10)).await;
    assert_eq!(nodes.replicas[0].journal().len(), 0, "nobody probes it");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_transaction_of_the_old_primary_finishes_after_the_primary_was_swapped() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let transaction = db.begin().await?;
    write(&transaction).await?;
    let new = node("p2", Role::Primary, sea_orm::DbBackend::Postgres);
    db.swap_primary(new.config()).await.expect("it answers");
    write(&db).await?;
    assert_eq!(new.statements(), [WRITE]);
    assert_eq!(transaction.node(), "p");
    write(&transaction).await?;
    transaction.commit().await?;
    assert_eq!(nodes.primary.count(Step::Execute), 2);
    nodes.primary.reached(Step::Close, 2).await;
    assert_eq!(names(&db), ["p2", "r1"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_says_it_is_a_replica_is_not_swapped_in() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let error = db.swap_primary(replica("r9").config()).await.expect_err("promote it first");
    assert!(error.is_unreachable() && error.node() == Some("r9"), "{error}");
    assert_eq!(names(&db), ["p", "r1"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_promotion_is_a_flip_in_one_publication_and_the_former_primary_can_stay() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    assert!(tally(&db, 20).await?.contains_key("r1"));
    let before = db.topology();
    let served = before.member("r1").expect("a member").node().served_reads();
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    nodes.primary.set_role(Role::Replica);
    nodes.replicas[0].set_role(Role::Primary);

    let change = MembershipChange::default()
        .primary(nodes.replicas[0].config())
        .replicas([nodes.primary.config(), nodes.replicas[1].config()]);
    let report = db.swap_members(change).await.expect("it answers");
    assert_eq!(report.kept, ["r1", "p", "r2"]);
    assert!(report.added.is_empty() && report.removed.is_empty() && report.down.is_empty(), "{report:?}");
    assert_eq!(names(&db), ["r1", "p", "r2"]);
    let after = db.topology();
    for name in ["p", "r1", "r2"] {
        let node = |topology: &sea_orm_resolver::Topology| {
            std::ptr::from_ref(topology.member(name).expect("a member").node()).addr()
        };
        assert_eq!(node(&before), node(&after), "{name} is the same node, pools and counters");
    }
    assert!(after.member("r1").expect("a member").node().served_reads() >= served);
    assert_eq!(nodes.count(Step::Close), 0);

    nodes.each(ScriptedNode::forget);
    write(&db).await?;
    assert_eq!(nodes.replicas[0].statements(), [WRITE]);
    transaction.commit().await?;
    time::sleep(Duration::from_secs(5)).await;
    assert!(tally(&db, 40).await?.contains_key("p"), "the former primary serves reads as a replica: {}", db.topology());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_not_promoted_does_not_take_the_primarys_seat() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let before = db.topology();
    for kill in [false, true] {
        if kill {
            nodes.replicas[0].kill();
        }
        let error = db.swap_primary(nodes.replicas[0].config()).await.expect_err("it is a replica, and later dead");
        assert!(error.is_unreachable() && error.node() == Some("r1"), "{error}");
        assert_eq!(names(&db), ["p", "r1", "r2"]);
    }
    nodes.replicas[0].restart();
    assert_eq!(before.primary().name(), db.topology().primary().name());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_dead_newcomer_fails_a_change_and_joins_as_down_in_a_lenient_one() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let (dead, alive) = (replica("dead"), replica("alive"));
    dead.kill();
    let change = || MembershipChange::default().replicas([dead.config(), nodes.replicas[0].config(), alive.config()]);
    let error = db.swap_members(change()).await.expect_err("a newcomer is dead");
    assert_eq!(error.node(), Some("dead"), "{error}");
    assert_eq!(names(&db), ["p", "r1"]);

    let report = db.swap_members(change().lenient()).await.expect("one dead newcomer blocks no other");
    assert_eq!((report.added, report.down), (vec!["dead".to_owned(), "alive".to_owned()], vec!["dead".to_owned()]));
    assert_eq!(names(&db), ["p", "dead", "r1", "alive"]);
    assert_eq!(health(&db, "dead"), Health::Down);
    let answered = tally(&db, 40).await?;
    assert!(answered.contains_key("alive") && !answered.contains_key("dead"), "{answered:?}");
    dead.restart();
    until_health(&db, "dead", Health::Up).await;

    let (dead_primary, name) = (node("p2", Role::Primary, sea_orm::DbBackend::Postgres), "p2");
    dead_primary.kill();
    let change = MembershipChange::default().primary(dead_primary.config()).lenient();
    assert_eq!(db.swap_members(change).await.expect_err("a primary has to answer").node(), Some(name));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_node_keeps_its_pools_and_its_operations() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    let node = transaction.node().to_owned();
    let kept = nodes.replicas.iter().find(|replica| replica.name() == node).expect("a replica");
    let report = db.swap_replicas([kept.config(), replica("new").config()]).await.expect("it answers");
    assert_eq!((&report.kept, &report.added), (&vec![node.clone()], &vec!["new".to_owned()]));
    assert_eq!(db.topology().member(&node).expect("kept").node().in_flight(), 1);
    db.swap_replicas([kept.config().weight(5)]).await.expect("nothing to connect");
    assert_eq!(db.topology().member(&node).expect("kept").node().in_flight(), 1);
    assert_eq!(db.topology().member(&node).expect("kept").weight().get(), 5);
    transaction.commit().await?;
    assert_eq!((kept.count(Step::ProbeConnect), kept.count(Step::Close)), (0, 0), "it was not connected again");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_says_so_and_nothing_is_cut_off() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db =
        nodes.connected(nodes.builder().policy(RoundRobin::default()).drain_timeout(Duration::from_secs(4))).await?;
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    let name = transaction.node().to_owned();
    let removed = nodes.replicas.iter().find(|replica| replica.name() == name).expect("a replica");

    let started = Instant::now();
    let error = db.drain(&name).await.expect_err("a transaction is open");
    assert_eq!(started.elapsed(), Duration::from_secs(4));
    assert!(error.is_drain_timed_out() && error.node() == Some(name.as_str()), "{error}");
    assert!(!tally(&db, 20).await?.contains_key(&name));
    db.resume(&name).expect("a member");
    assert!(tally(&db, 40).await?.contains_key(&name));

    let started = Instant::now();
    let error = db.remove_replica(&name).await.expect_err("a transaction is open");
    assert_eq!(started.elapsed(), Duration::from_secs(4));
    assert!(error.is_drain_timed_out(), "{error}");
    assert!(!names(&db).contains(&name));
    assert_eq!(who(&transaction).await?, name);
    // However long that takes, and after every handle of the connection was dropped.
    drop(db);
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!(removed.count(Step::Close), 0, "somebody is still there");
    transaction.commit().await?;
    assert_eq!(removed.count(Step::Commit), 1);
    removed.reached(Step::Close, 2).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_removal_ends_with_the_last_operation() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    let transaction = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    let remover = db.clone();
    let removal = tokio::spawn(async move { (remover.remove_replica("r1").await, Instant::now()) });
    time::sleep(Duration::from_secs(3)).await;
    assert!(!removal.is_finished());
    transaction.rollback().await?;
    let ended_at = Instant::now();
    let (removed, removed_at) = ended(removal).await;
    removed.expect("it was drained");
    assert_eq!(removed_at, ended_at);
    assert_eq!(nodes.replicas[0].count(Step::Close), 2);
    Ok(())
}

async fn assert_refused(db: &DatabaseConnection, node: NodeConfig, within: Duration) -> Error {
    let before = (names(db), db.topology().generation());
    let started = Instant::now();
    let error = db.add_replica(node.clone()).await.expect_err("it does not answer");
    assert_eq!(started.elapsed(), within);
    assert!(error.is_unreachable(), "{error}");
    let started = Instant::now();
    db.swap_replicas([replica("other").config(), node]).await.expect_err("it does not answer");
    assert_eq!(started.elapsed(), within);
    assert_eq!(names(db), before.0);
    error
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_is_reported_and_the_old_set_stays() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let connect_timeout = Duration::from_millis(1_500);
    let db = nodes.connected(nodes.builder().connect_timeout(connect_timeout)).await?;
    for (gate, behaviour, within) in [
        (Step::ProbeConnect, Behaviour::Never, connect_timeout),
        (Step::ProbeAsk, Behaviour::Never, connect_timeout),
        (Step::ProbeConnect, Behaviour::Fail(fault::refused()), Duration::ZERO),
    ] {
        let silent = replica("silent");
        silent.on(gate, behaviour);
        let error = assert_refused(&db, silent.config(), within).await;
        assert_eq!(error.node(), Some("silent"));
        assert_eq!(silent.statements(), Vec::<String>::new());
        silent.reached(Step::Close, 2).await;
    }
    assert_eq!(tally(&db, 40).await?.into_keys().collect::<Vec<_>>(), ["r1", "r2"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_has_one_connect_timeout_for_its_answer_and_for_the_reason_of_none() {
    let connect_timeout = Duration::from_millis(1_500);
    let late = Behaviour::Slow(connect_timeout - Duration::from_millis(1));
    let (refused, silent) = (Behaviour::Fail(fault::refused()), Behaviour::Never);
    for (ping, own_connection, said) in [
        (&silent, &silent, Some("no answer within 1.5s")),
        (&silent, &refused, Some("refused")),
        (&silent, &Behaviour::Ok, Some("no answer within 1.5s")),
        // The pool's own answer counts until the end.
        (&late, &refused, None),
        (&late, &silent, None),
    ] {
        let nodes = Nodes::postgres(0);
        nodes.primary.on(Step::Ping, ping.clone());
        nodes.primary.on(Step::ProbeConnect, own_connection.clone());
        let started = Instant::now();
        let connected = nodes.builder().primary_connect_timeout(connect_timeout).connect().await;
        match (said, connected) {
            (Some(said), Err(error)) => {
                assert_eq!(started.elapsed(), connect_timeout);
                assert!(error.to_string().contains(said), "{error}");
            }
            (None, Ok(_)) => {}
            (_, connected) => panic!("{ping:?}, {own_connection:?}: {connected:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_is_cancelled_leaves_the_old_set_and_the_next_one_works() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let slow = replica("slow");
    slow.on(Step::ProbeAsk, Behaviour::Slow(Duration::from_millis(500)));
    let before = names(&db);
    for waited in [0, 1, 499] {
        let swap = db.swap_replicas([slow.config()]);
        time::timeout(Duration::from_millis(waited), swap).await.expect_err("it takes longer");
        assert_eq!(names(&db), before);
        assert_eq!(tally(&db, 40).await?.into_keys().collect::<Vec<_>>(), ["r1", "r2"]);
    }
    db.swap_replicas([slow.config()]).await.expect("it answers in time");
    assert_eq!(who(&db).await?, "slow");
    nodes.replicas[0].reached(Step::Close, 2).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nothing_fails_while_the_replicas_are_swapped_under_load() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let spare: Vec<_> = (0..4).map(|number| replica(&format!("s{number}"))).collect();
    let mut readers = Vec::new();
    for _ in 0..8 {
        let db = db.clone();
        readers.push(tokio::spawn(async move {
            let read = db.read();
            for _ in 0..300 {
                who(&db).await?;
                who(&read).await?;
                item::Entity::find().stream(&db).await?.try_collect::<Vec<_>>().await?;
                time::sleep(Duration::from_millis(3)).await;
            }
            Ok::<_, DbErr>(())
        }));
    }
    let every = nodes.replicas.iter().chain(&spare);
    every.clone().for_each(|node| {
        for step in [Step::QueryOne, Step::FirstRow] {
            node.on(step, Behaviour::Slow(Duration::from_millis(2)));
        }
    });
    for turn in 0..200 {
        let set = every.clone().skip(turn % 5).take(2).map(ScriptedNode::config);
        db.swap_replicas(set).await.expect("they answer");
        time::sleep(Duration::from_millis(7)).await;
    }
    for reader in readers {
        ended(reader).await?;
    }
    assert_eq!(in_flight(&db), 0);
    Ok(())
}
