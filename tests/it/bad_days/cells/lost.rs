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
    deeds::end_sessions,
    load::{Done, Op, Script},
    party::{Client, Party, Pools},
    table::{Promise, Row, Tally},
    world::{Database, Wire, World},
};
use crate::wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(15);

/// B14: the primary and one of two replicas are killed; read connections were on them. The other replica has
/// everything, because no process writes. `since` is the time between the last read of the handles and the kill:
/// with two probes in it, the resolver can know that the other replica has what they read.
pub(super) async fn handles(name: &'static str, database: Database, since: Duration) -> Result<Vec<Row>> {
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
    try_join_all(handles.iter().map(|handle| handle.query_all_raw(read.clone()))).await?;
    tokio::time::sleep(since).await;
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
    let on_replica = || client.topology().and_then(|now| Some(now.member("replica-0")?.node().in_flight()));
    let most_are_there = async || Ok(on_replica().is_some_and(|reads| reads > 120));
    wait_until("most reads to be on the replica", PATIENCE, most_are_there).await?;
    world.server(1).kill().await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    stop.store(true, Relaxed);
    let done: Vec<Done> = tasks.join_all().await.into_iter().flatten().collect();
    let mut row = Row::new(database, name, party, Tally::of(&done, &[]));
    row.judge(Promise::NoReadFails, &Tally::default());
    Ok(vec![row])
}

/// B7: an administrator, or a firewall that says so, ends all sessions while they rest; then all come at once.
pub(super) async fn ended_while_idle(name: &'static str, database: Database) -> Result<Vec<Row>> {
    const ROUNDS: usize = 3;
    const REST: Duration = Duration::from_millis(300);
    let world = World::start(database, &[], Wire::Direct).await?;
    let read = world.statement(format!("SELECT amount, {} AS pause FROM item WHERE id = 1", world.pause(REST / 10)));
    let script = Script { read, write: Some(world.statement("INSERT INTO entry (amount) VALUES (1)")) };
    let mut clients = Vec::new();
    for party in Party::ALL {
        clients.push((party, Client::open(party, &world, Pools::USUAL).await?));
    }
    let at_once = async || {
        let operations = clients.iter().flat_map(|(party, client)| {
            let script = &script;
            let eight = [Op::Write, Op::Read, Op::Transaction].into_iter().flat_map(|op| [op; 8]);
            eight.map(move |op| Done::after(*party, op, op.run(client, script), PATIENCE))
        });
        join_all(operations).await
    };
    let mut done = Vec::new();
    for _ in 0..ROUNDS {
        let before = at_once().await;
        ensure!(before.iter().all(|done| done.error.is_none()), "in peace nothing fails: {before:?}");
        tokio::time::sleep(REST).await;
        for index in 0..3 {
            end_sessions(&world, index).await?;
        }
        done.extend(at_once().await);
    }
    Ok(held_against_alone(name, database, &done))
}

/// B6: the account may open one session more than the pool, or fewer than all pools together.
pub(super) async fn capped(name: &'static str, database: Database) -> Result<Vec<Row>> {
    const POOLS: Pools = Pools { connections: 5, ..Pools::USUAL };
    let world = World::start(database, &[], Wire::Direct).await?;
    for party in Party::ALL {
        let user = account_of(party);
        let sql = match database {
            Database::Postgres => {
                format!("CREATE ROLE {user} LOGIN PASSWORD 's3cret-shop' IN ROLE shop CONNECTION LIMIT 6")
            }
            Database::MariaDb | Database::MySql => format!(
                "GRANT SELECT, INSERT ON shop.* TO {user} IDENTIFIED BY 's3cret-shop' WITH MAX_USER_CONNECTIONS 6"
            ),
        };
        world.server(0).query_scalar(&sql).await?;
    }
    world.servers.wait_caught_up().await?;
    let read = world.statement("SELECT amount FROM item WHERE id = 1");
    let script = Arc::new(Script { read, write: Some(world.statement("INSERT INTO entry (amount) VALUES (1)")) });
    let mut tasks = JoinSet::new();
    for party in Party::ALL {
        let user = format!("://{}", account_of(party));
        let client = Client::open_as(party, &world, POOLS, |url| url.replace("://shop", &user)).await?;
        for _ in 0..8 {
            let (client, script) = (client.clone(), Arc::clone(&script));
            tasks.spawn(async move {
                let mut done = Vec::new();
                for _ in 0..12 {
                    for op in [Op::Write, Op::Read] {
                        done.push(Done::after(party, op, op.run(&client, &script), PATIENCE).await);
                    }
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                done
            });
        }
    }
    let done: Vec<Done> = tasks.join_all().await.into_iter().flatten().collect();
    Ok(held_against_alone(name, database, &done))
}

fn account_of(party: Party) -> &'static str {
    match party {
        Party::Alone => "app_alone",
        Party::OneUrl => "app_one_url",
        Party::OneReplica => "app_one_replica",
        Party::TwoReplicas => "app_two_replicas",
    }
}

/// The rows of all parties, each of which may not fail more often than SeaORM alone.
fn held_against_alone(name: &'static str, database: Database, done: &[Done]) -> Vec<Row> {
    let tally = |party| Tally::of(done.iter().filter(|done| done.party == party), &[]);
    let alone = tally(Party::Alone);
    let judged = Party::ALL.map(|party| {
        let mut row = Row::new(database, name, party, tally(party));
        if party != Party::Alone {
            row.judge(Promise::NoMoreThanAlone, &alone);
        }
        row
    });
    judged.into()
}
