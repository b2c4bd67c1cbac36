//! Runs one fault of the matrix: all parties at once, on one cluster.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;

use super::{
    deeds,
    faults::{Deed, Fault, Seat, Writers},
    load::{Load, Script},
    party::{Client, Party, Pools},
    table::{Promise, Row, Tally},
    world::{Database, World},
};
use crate::wait::wait_until;

/// Peace before a fault, and after it was mended.
const PEACE: Duration = Duration::from_millis(900);
/// For a replica to be used by all parties.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read runs: reads of one moment are on the server at once, without work for the machine.
const PAUSE: Duration = Duration::from_millis(30);

/// Runs the fault and returns a row for each party.
pub(super) async fn run(fault: &Fault, database: Database) -> Result<Vec<Row>> {
    let world = World::start(database, fault.settings, fault.wire).await?;
    let pause = world.pause(PAUSE);
    let usual = format!("SELECT amount, {pause} AS pause FROM item WHERE id = 1");
    let telling = deeds::read_during(fault.deed, &pause).unwrap_or_else(|| usual.clone());
    let write = (fault.writers == Writers::Some).then(|| world.statement("INSERT INTO entry (amount) VALUES (1)"));
    let script = |read: &str| Script { read: world.statement(read), write: write.clone() };

    let opened =
        Party::ALL.map(async |party| Ok::<_, anyhow::Error>((party, Client::open(party, &world, Pools::USUAL).await?)));
    let clients = try_join_all(opened).await?;
    let is_old = fault.deed == Deed::NewResult; // the statement is known before
    let mut load = Load::new(clients.clone(), script(if is_old { &telling } else { &usual }));
    load.during(1, tokio::time::sleep(PEACE)).await;
    if fault.seat == Seat::Replica {
        load.during(1, replica_reads(&clients)).await?;
    }
    let held = load.during(1, deeds::inject(fault, &world, &telling)).await?;
    load.read_by(script(&telling));
    load.during(2, tokio::time::sleep(fault.lasts)).await;
    load.during(2, deeds::mend(fault, &world, held)).await?;
    load.during(1, tokio::time::sleep(PEACE)).await;

    let done = load.end().await;
    let strikes = world.strikes();
    let tally = |party| Tally::of(done.iter().filter(|done| done.party == party), &strikes);
    let alone = tally(Party::Alone);
    let rows = Party::ALL.map(|party| {
        let mut row = Row::new(database, fault.title(), party, tally(party));
        match party {
            Party::Alone => {}
            Party::OneUrl => row.judge(Promise::AsAlone, &alone),
            Party::OneReplica | Party::TwoReplicas => row.judge(fault.promise, &alone),
        }
        row
    });
    Ok(rows.into())
}

/// Waits until the replica of the fault has served each party that has the replica.
async fn replica_reads(clients: &[(Party, Client)]) -> Result<()> {
    for (party, client) in clients {
        wait_until(&format!("{party} to read on the replica"), PATIENCE, async || {
            Ok(client.served_reads("replica-0").is_none_or(|served| served > 0))
        })
        .await?;
    }
    Ok(())
}
