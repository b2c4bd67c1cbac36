//! What ran on a node, or was kept for it, when the node was lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use futures_util::future::{join_all, try_join_all};
use sea_orm::ConnectionTrait;
use tokio::task::JoinSet;

use super::super::{
    load::{Done, Op, Script},
    party::{Client, Party, Pools},
    table::{Promise, Row, Tally},
    world::{Database, Wire, World},
};

const PATIENCE: Duration = Duration::from_secs(15);

/// B14: the primary and one of two replicas are killed; read connections were on them. The other replica has
/// everything, because no process writes.
pub(super) async fn handles(name: &'static str, database: Database) -> Result<Vec<Row>> {
    const EACH: usize = 4;
    const POOLS: Pools = Pools { acquire: None, ..Pools::USUAL };
    let world = World::start(database, &[], Wire::Direct).await?;
    let party = Party::TwoReplicas;
    let Client::Resolver(db) = Client::open(party, &world, POOLS).await? else { bail!("it is the resolver") };
    let read = world.statement("SELECT amount FROM item WHERE id = 1");
    let mut handles = Vec::new();
    let mut kept = [("primary", 0), ("replica-0", 0)];
    for _ in 0..1_000 {
        let handle = db.read();
        handle.query_all_raw(read.clone()).await?;
        let node = handle.node();
        if let Some((_, count)) = kept.iter_mut().find(|(name, count)| node.as_deref() == Some(*name) && *count < EACH)
        {
            *count += 1;
            handles.push(handle);
        }
    }
    ensure!(handles.len() == 2 * EACH, "of 1 000 handles some are on each node: {kept:?}");
    // What the handles have read last is from this moment: no probe of the primary comes between.
    try_join_all(handles.iter().map(|handle| handle.query_all_raw(read.clone()))).await?;
    tokio::try_join!(world.server(0).kill(), world.server(1).kill())?;
    let reads = handles.iter().map(|handle| async {
        let mut done = Vec::new();
        for _ in 0..3 {
            let read = async { handle.query_all_raw(read.clone()).await.map(drop) };
            done.push(Done::after(party, Op::ReadConn, read, PATIENCE).await);
        }
        done
    });
    let done = join_all(reads).await.concat();
    let mut row = Row::new(database, name, party, Tally::of(&done, &[]));
    row.judge(Promise::NoReadFails, &Tally::default());
    Ok(vec![row])
}

/// B15: a replica is killed under 200 tasks whose reads take 200 ms. No read may fail, those in flight included.
pub(super) async fn many_tasks(name: &'static str, database: Database) -> Result<Vec<Row>> {
    const POOLS: Pools = Pools { connections: 200, acquire: None };
    let world = World::start(database, &[("max_connections", "500")], Wire::Direct).await?;
    let party = Party::OneReplica;
    let client = Client::open(party, &world, POOLS).await?;
    let read = world.statement(format!("SELECT {}", world.pause(Duration::from_millis(200))));
    let script = Arc::new(Script { read, write: None });
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        let (client, script, stop) = (client.clone(), Arc::clone(&script), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut done = Vec::new();
            while !stop.load(Relaxed) {
                done.push(Done::after(party, Op::Read, Op::Read.run(&client, &script), PATIENCE).await);
            }
            done
        });
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let on_replica = client.topology().and_then(|now| Some(now.member("replica-0")?.node().in_flight()));
    world.server(1).kill().await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    stop.store(true, Relaxed);
    let done: Vec<Done> = tasks.join_all().await.into_iter().flatten().collect();
    ensure!(on_replica.is_some_and(|reads| reads > 100), "the killed replica ran {on_replica:?} reads");
    let mut row = Row::new(database, name, party, Tally::of(&done, &[]));
    row.judge(Promise::NoReadFails, &Tally::default());
    Ok(vec![row])
}
