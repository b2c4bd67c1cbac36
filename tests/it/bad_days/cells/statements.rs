//! Statements of a client that fail by themselves: they say nothing about a node, and cost what they cost alone.

use std::time::Duration;

use anyhow::Result;
use sea_orm::Statement;
use sea_orm_resolver::{Health, Topology};
use tokio::time::sleep;

use super::super::{
    load::{Done, Op, Script},
    party::{Client, Party, Pools},
    table::{Promise, Row, Tally},
    world::{Database, Wire, World},
};

const PATIENCE: Duration = Duration::from_secs(4);

/// G2: an error that a user can provoke by a word that he typed must not open a new session each time.
pub(super) async fn refused(name: &'static str, database: Database) -> Result<Vec<Row>> {
    let world = World::start(database, &[], Wire::Proxied).await?;
    let sql = match database {
        Database::Postgres => "SELECT date_trunc('timezone', now())", // 0A000
        Database::MariaDb | Database::MySql => {
            "SELECT id FROM item WHERE id IN (SELECT id FROM item ORDER BY id LIMIT 1)" // 1235
        }
    };
    provoke(name, &world, &world.statement(sql), 60).await
}

/// G3: the driver, or the server, refuses a statement with so many values.
pub(super) async fn too_many_values(name: &'static str, database: Database) -> Result<Vec<Row>> {
    const VALUES: i32 = 70_000;
    let world = World::start(database, &[], Wire::Proxied).await?;
    let places: Vec<_> = match database {
        Database::Postgres => (1..=VALUES).map(|number| format!("${number}")).collect(),
        Database::MariaDb | Database::MySql => (0..VALUES).map(|_| "?".to_owned()).collect(),
    };
    let sql = format!("SELECT amount FROM item WHERE id IN ({})", places.join(", "));
    let statement = Statement::from_sql_and_values(world.backend(), sql, (0..VALUES).map(sea_orm::Value::from));
    // A debug build takes a second to encode them for MariaDB, which counts them itself.
    let times = if database == Database::Postgres { 24 } else { 6 };
    provoke(name, &world, &statement, times).await
}

/// Waits for the second question to each node, for which the monitor opens its own connection. One URL has no monitor.
async fn until_monitor_is_connected(client: &Client) {
    let is_asked =
        |topology: &Topology| topology.members().count() == 1 || probes(topology).iter().all(|&asked| asked > 1);
    while client.topology().is_some_and(|topology| !is_asked(&topology)) {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(300)).await;
}

/// Runs the failing statement for one party after the other, and counts what it costs the servers.
async fn provoke(name: &str, world: &World, statement: &Statement, times: u32) -> Result<Vec<Row>> {
    let good = Script { read: world.statement("SELECT amount FROM item WHERE id = 1"), write: None };
    let bad = Script { read: statement.clone(), write: None };
    let mut rows: Vec<Row> = Vec::new();
    for party in Party::ALL {
        let client = Client::open(party, world, Pools::USUAL).await?;
        for _ in 0..10 {
            for op in [Op::Read, Op::ReadConn, Op::SessionRead] {
                op.run(&client, &good).await?;
            }
        }
        until_monitor_is_connected(&client).await;
        let (opened, asked, started) = (world.connections(), client.topology(), tokio::time::Instant::now());
        let asked: Vec<u64> = asked.as_deref().map(probes).unwrap_or_default();
        let mut done = Vec::new();
        for number in 0..times {
            let op = [Op::Read, Op::ReadConn, Op::SessionRead][number as usize % 3];
            done.push(Done::after(party, op, op.run(&client, &bad), PATIENCE).await);
        }
        sleep(Duration::from_millis(700)).await;
        let opened = world.connections() - opened;
        let tally = Tally::of(&done, &[]);
        let mut row = Row::new(world.database, name, party, tally.clone());
        if let Some(topology) = client.topology() {
            let alone = &rows[0].tally;
            row.judge(Promise::AsAlone, alone);
            row.demand(if opened <= SPARE { Ok(()) } else { Err(format!("{opened} new server sessions")) });
            // One probe a second is the rule; a busy machine makes up for some.
            let usual = 3 + 3 * started.elapsed().as_secs();
            let most = probes(&topology).iter().zip(&asked).map(|(now, before)| now - before).max().unwrap_or_default();
            row.demand(if most <= usual { Ok(()) } else { Err(format!("a node was probed {most} times")) });
            let all_up = topology.members().all(|member| member.health() == Health::Up);
            row.demand(if all_up { Ok(()) } else { Err(format!("a node is held to be down: {topology}")) });
        } else {
            anyhow::ensure!(tally.failures() == times as usize, "the statement has to fail: {row}");
            anyhow::ensure!(opened <= SPARE, "SeaORM alone opened {opened} sessions");
        }
        rows.push(row);
    }
    Ok(rows)
}

/// A pool may open a session more, by chance, when a connection is still on its way back.
const SPARE: u64 = 5;

fn probes(topology: &Topology) -> Vec<u64> {
    topology.members().map(|member| member.node().probes()).collect()
}
