//! Reads that no node may serve now: they wait, and then say why.

use std::time::Duration;

use sea_orm::{DbErr, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, Error, Health, Role};
use testkit::scripted::{ScriptedNode, Step};
use tokio::time::{self, Instant};

use super::{Nodes, ended, in_flight, refuse_probes, until_health, who, write};

async fn all_down(nodes: &Nodes, db: &DatabaseConnection) {
    nodes.each(refuse_probes);
    for member in db.topology().members() {
        until_health(db, member.name(), Health::Down).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_the_selection_timeout_and_names_each_member_and_why() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(3);
    let timeout = Duration::from_millis(700);
    let db = nodes.connected(nodes.builder().read_selection_timeout(timeout)).await?;
    db.drain("r2").await.expect("idle");
    nodes.replicas[2].set_role(Role::Primary);
    nodes.replicas[2].reached(Step::ProbeAsk, 2).await;
    refuse_probes(&nodes.primary);
    refuse_probes(&nodes.replicas[0]);
    until_health(&db, "p", Health::Down).await;
    until_health(&db, "r1", Health::Down).await;

    let started = Instant::now();
    let error = who(&db).await.expect_err("nobody is eligible");
    assert!((timeout..timeout + Duration::from_millis(2)).contains(&started.elapsed()), "{:?}", started.elapsed());
    let ours = Error::from_db_err(&error).expect("typed");
    assert!(ours.is_no_eligible_node());
    let text = error.to_string();
    for why in ["p: down", "r1: down", "r2: drained", "r3: it says it is a primary"] {
        assert!(text.contains(why), "{why} in {text}");
    }
    assert!(matches!(error, DbErr::Conn(_)), "code that retries on `Conn` may");
    assert_eq!((nodes.count(Step::QueryOne), in_flight(&db)), (0, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_waiting_read_wakes_at_once_when_a_node_comes_back() -> Result<(), DbErr> {
    // Not a multiple of the time after which a waiting read looks again by itself.
    for pause in [3, 17, 61, 333] {
        let nodes = Nodes::postgres(2);
        let db = nodes.connected(nodes.builder().read_selection_timeout(Duration::from_secs(10))).await?;
        all_down(&nodes, &db).await;
        let reader = db.clone();
        let read = tokio::spawn(async move { (who(&reader).await, Instant::now()) });
        time::sleep(Duration::from_millis(pause)).await;
        assert!(!read.is_finished());
        nodes.replicas[0].restart();
        nodes.replicas[0].forget();
        nodes.replicas[0].reached(Step::ProbeAsk, 1).await;
        let back_at = Instant::now();
        let (answer, answered_at) = ended(read).await;
        assert_eq!(answer?, "r1");
        assert_eq!(answered_at, back_at);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_waiting_read_wakes_at_once_when_a_drained_node_is_resumed() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = nodes.connect().await?;
    db.drain("r1").await.expect("idle");
    refuse_probes(&nodes.primary);
    until_health(&db, "p", Health::Down).await;
    let reader = db.clone();
    let read = tokio::spawn(async move { who(&reader).await });
    time::sleep(Duration::from_millis(333)).await;
    db.resume("r1").expect("a member");
    let resumed_at = Instant::now();
    assert_eq!(ended(read).await?, "r1");
    assert_eq!(Instant::now(), resumed_at);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_its_floor_to_pass_when_the_primary_is_down() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let stick = Duration::from_millis(600);
    let db = nodes.connected(nodes.builder().stick_after_write(stick)).await?;
    refuse_probes(&nodes.primary);
    until_health(&db, "p", Health::Down).await;
    let wrote_at = Instant::now();
    write(&db).await?;
    assert_eq!(who(&db).await?, "r1");
    let waited = wrote_at.elapsed();
    assert!((stick..stick + Duration::from_millis(55)).contains(&waited), "{waited:?}");

    let longer = nodes
        .connected(
            nodes
                .builder()
                .connect_lazy(true)
                .read_selection_timeout(Duration::from_secs(1))
                .stick_after_write(Duration::from_secs(5)),
        )
        .await?;
    until_health(&longer, "p", Health::Down).await;
    write(&longer).await?;
    let error = who(&longer).await.expect_err("the floor lasts longer than the wait");
    assert!(error.to_string().contains("r1: this session wrote too recently"), "{error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_connection_draws_again_when_its_node_goes_down() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connect().await?;
    let (read, session) = (db.read(), db.session());
    let kept = [who(&read).await?, who(&session).await?];
    refuse_probes(nodes.replicas.iter().find(|replica| replica.name() == kept[0]).expect("a replica"));
    until_health(&db, &kept[0], Health::Down).await;
    assert_ne!(who(&read).await?, kept[0]);
    assert_ne!(who(&session).await?, kept[0]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_down_at_the_start_joins_when_it_answers() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    nodes.replicas[1].kill();
    let started = Instant::now();
    let db = nodes.connect().await?;
    assert_eq!(started.elapsed(), Duration::ZERO, "refused is an answer");
    assert_eq!(super::tally(&db, 20).await?.into_keys().collect::<Vec<_>>(), ["r1"]);
    nodes.replicas[1].restart();
    until_health(&db, "r2", Health::Up).await;
    assert_eq!(super::tally(&db, 40).await?.into_keys().collect::<Vec<_>>(), ["r1", "r2"]);

    nodes.replicas[0].freeze();
    let started = Instant::now();
    let db = nodes.connect().await?;
    assert_eq!(started.elapsed(), Duration::from_secs(2), "a silent one is given its connect time-out");
    assert_eq!(super::tally(&db, 20).await?.into_keys().collect::<Vec<_>>(), ["r2"]);

    nodes.replicas[1].freeze();
    let started = Instant::now();
    nodes.connect().await?;
    assert_eq!(started.elapsed(), Duration::from_secs(2), "all nodes are connected at the same time");

    nodes.primary.kill();
    let error = nodes.connect().await.expect_err("nothing works without the primary");
    assert!(Error::from_db_err(&error).is_some_and(Error::is_unreachable), "{error}");
    let lazy = nodes.connected(nodes.builder().connect_lazy(true)).await?;
    nodes.each(ScriptedNode::restart);
    assert_ne!(who(&lazy).await?, "p");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_operator_reads_the_state_and_the_load_of_each_member() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = nodes.connected(nodes.builder().primary_read_share(0.0)).await?;
    db.set_weight("r1", 2).expect("it is a member");
    db.drain("r2").await.expect("nothing runs there");
    for _ in 0..5 {
        who(&db).await?;
    }
    let transaction = db.read().begin().await?;
    let table = db.topology().to_string();
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().take(6).collect()).collect();
    let served = db.topology().member("r1").map(|member| member.node().served_reads().to_string());
    assert!(table.starts_with("name  role     state          in-flight  served reads  weight  lag\n"), "{table}");
    assert_eq!(rows[1], ["p", "primary", "up", "0", "0", "1"], "{table}");
    assert_eq!(rows[2], ["r1", "replica", "up", "1", served.as_deref().unwrap_or_default(), "2"], "{table}");
    assert_eq!(rows[3], ["r2", "replica", "drained", "0", "0", "1"], "{table}");
    assert_eq!(table.lines().last(), Some("0 % of the reads on the primary"));

    let json = serde_json::to_value(&*db.topology()).expect("it is plain data");
    let r1 = &json["members"][1];
    assert!(r1["served_reads"].as_u64().is_some_and(|served| served >= 5), "{json}");
    assert_eq!((r1["in_flight"].as_u64(), r1["weight"].as_u64()), (Some(1), Some(2)), "{json}");
    assert_eq!((r1["state"].as_str(), json["members"][2]["state"].as_str()), (Some("up"), Some("drained")), "{json}");
    assert!(r1["round_trip_us"].is_u64() && r1["probes"].is_u64(), "{json}");
    drop(transaction);
    Ok(())
}
