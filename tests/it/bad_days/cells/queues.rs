//! Waiting is no failure: bursts, and pools that are in use.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use futures_util::{
    TryStreamExt,
    future::{join_all, try_join_all},
};
use sea_orm::StreamTrait;
use sea_orm_resolver::DatabaseConnection;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::super::{
    load::{Done, Op, Script},
    party::{Client, Party, Pools},
    table::{Promise, Row, Tally},
    world::{Database, Wire, World},
};

/// B4: far more slow reads than connections, with the default time-outs.
pub(super) async fn burst(name: &'static str, database: Database) -> Result<Vec<Row>> {
    const POOLS: Pools = Pools { connections: 10, acquire: None };
    const PATIENCE: Duration = Duration::from_secs(40);
    let world = World::start(database, &[("max_connections", "200")], Wire::Direct).await?;
    let read = world.statement(format!("SELECT {}", world.pause(Duration::from_millis(300))));
    let script = Arc::new(Script { read, write: None });
    let runs = Party::ALL.map(async |party| {
        let client = Client::open(party, &world, POOLS).await?;
        let mut done = Vec::new();
        for (op, count) in [(Op::Read, 200), (Op::ReadConn, 100)] {
            let burst = (0..count).map(|_| Done::after(party, op, op.run(&client, &script), PATIENCE));
            done.extend(join_all(burst).await);
        }
        Ok::<_, anyhow::Error>((party, Tally::of(&done, &[])))
    });
    let tallies = try_join_all(runs).await?;
    let alone = tallies[0].1.clone();
    Ok(rows(name, database, &tallies, &alone))
}

fn rows(name: &str, database: Database, tallies: &[(Party, Tally)], alone: &Tally) -> Vec<Row> {
    let judged = tallies.iter().map(|(party, tally)| {
        let mut row = Row::new(database, name, *party, tally.clone());
        if *party != Party::Alone {
            row.judge(Promise::NoReadFails, alone);
        }
        row
    });
    judged.collect()
}

/// B5: long streams hold all connections of the replicas; the primary is idle.
pub(super) async fn held_by_streams(name: &'static str, database: Database) -> Result<Vec<Row>> {
    const POOLS: Pools = Pools { connections: 3, acquire: None };
    const PATIENCE: Duration = Duration::from_secs(15);
    let world = World::start(database, &[], Wire::Direct).await?;
    let long = match database {
        Database::Postgres => "SELECT id, repeat('x', 4000) AS body FROM generate_series(1, 100000) AS id",
        Database::MariaDb | Database::MySql => "SELECT seq, repeat('x', 4000) AS body FROM seq_1_to_100000",
    };
    let script = Script { read: world.statement("SELECT amount FROM item WHERE id = 1"), write: None };
    let mut tallies = Vec::new();
    for party in Party::ALL {
        let client = Client::open(party, &world, POOLS).await?;
        let held = match &client {
            Client::Alone(_) => JoinSet::new(), // the primary, as for the other parties, is idle
            Client::Resolver(db) => hold_replicas(db, &world.statement(long), POOLS.connections).await?,
        };
        let mut done = Vec::new();
        for op in [Op::Read, Op::ReadConn, Op::SessionRead, Op::Stream, Op::ReadOnlyTransaction] {
            let reads = (0..8).map(|_| Done::after(party, op, op.run(&client, &script), PATIENCE));
            done.push(reads.collect::<Vec<_>>());
        }
        let done = join_all(done.into_iter().flatten()).await;
        tallies.push((party, Tally::of(&done, &[])));
        drop(held);
    }
    let alone = tallies[0].1.clone();
    Ok(rows(name, database, &tallies, &alone))
}

/// Opens streams until each replica has one for each connection of its pool, and holds them at their first row.
async fn hold_replicas(db: &DatabaseConnection, long: &sea_orm::Statement, each: u32) -> Result<JoinSet<Result<()>>> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut handles = Vec::new();
    for replica in db.topology().members().skip(1) {
        // While no stream runs, all replicas are equal and each is drawn.
        let drawn = (0..2_000).map(|_| db.read()).filter(|read| read.node().as_deref() == Some(replica.name()));
        handles.extend(drawn.take(each as usize));
    }
    let replicas = db.topology().members().count() - 1;
    ensure!(handles.len() == replicas * each as usize, "some replica was not drawn: {}", db.topology());
    let mut held = JoinSet::new();
    let (begun, mut first_rows) = mpsc::channel(64);
    for read in handles {
        let (long, begun) = (long.clone(), begun.clone());
        held.spawn(async move {
            let mut stream = read.stream_raw(long).await?;
            stream.try_next().await?.context("a first row")?;
            begun.send(()).await?;
            std::future::pending().await
        });
    }
    for _ in 0..held.len() {
        timeout(PATIENCE, first_rows.recv()).await.context("a stream does not begin")?;
    }
    for replica in db.topology().members().skip(1) {
        ensure!(replica.node().in_flight() == u64::from(each), "{} is not held", replica.name());
    }
    Ok(held)
}
