//! Runs one fault of the matrix: all parties at once, on one cluster.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;

use super::{
    deeds::{self, Deed},
    faults::{Fault, Seat, Writers},
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
    deeds::prepare(fault.deed, &world).await?;
    let pause = world.pause(PAUSE);
    let usual = format!("SELECT amount, {pause} AS pause FROM item WHERE id = 1");
    let telling = deeds::telling_read(fault.deed, &pause).unwrap_or_else(|| usual.clone());
    let write = (fault.writers == Writers::Some).then(|| world.statement("INSERT INTO entry (amount) VALUES (1)"));
    let script = |read: &str| Script { read: world.statement(read), write: write.clone() };

    let opened =
        Party::ALL.map(async |party| Ok::<_, anyhow::Error>((party, Client::open(party, &world, Pools::USUAL).await?)));
    let clients = try_join_all(opened).await?;
    let is_old = matches!(fault.deed, Deed::NewResult | Deed::NoRoom); // the statement is known before
    let mut load = Load::new(clients.clone(), script(if is_old { &telling } else { &usual }));
    load.last(1, PEACE).await;
    if fault.seat == Seat::Replica && fault.deed != Deed::Serializable {
        load.during(1, replica_reads(&clients)).await?;
    }
    let held = load.during(1, deeds::inject(fault, &world, &telling)).await?;
    load.read_by(script(&telling));
    load.last(2, fault.lasts).await;
    load.during(2, deeds::mend(fault, &world, held)).await?;
    load.last(1, PEACE).await;

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
        if fault.deed == Deed::Serializable && served(&clients, party) == Some(0) {
            row.demand(Err("no read ran on the replica".to_owned()));
        }
        row
    });
    Ok(rows.into())
}

fn served(clients: &[(Party, Client)], of: Party) -> Option<u64> {
    let (_, client) = clients.iter().find(|(party, _)| *party == of)?;
    client.served_reads("replica-0")
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
