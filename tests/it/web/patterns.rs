//! Every way of a client to use its connections, with the layer and without, with its token and without.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::{
    CONTROL_EVERY, Tally, by_role,
    client::{Client, Connections, Tokens},
    late_replicas, pause_before_late_read, replicas_serve_when_it_is_quiet, rounds,
    service::{Service, Setup},
};
use crate::servers::{Servers, on_each_database};

/// Without the layer a service gives no token that a client could return.
const SETUPS: [(Setup, Tokens); 3] =
    [(Setup::Plain, Tokens::Ignored), (Setup::Layer, Tokens::Ignored), (Setup::Layer, Tokens::Returned)];

async fn a_client_reads_what_it_wrote(servers: Servers) -> Result<()> {
    let _lag = late_replicas(&servers).await?;
    let began = Instant::now();
    let clients = Connections::ALL
        .into_iter()
        .flat_map(|connections| SETUPS.map(|(setup, tokens)| one_client(&servers, connections, setup, tokens)));
    let tallies = try_join_all(clients).await?;
    println!("all clients: {:?}", began.elapsed());
    // A busy machine asks the control of one slow client too late, each time.
    tallies.into_iter().fold(Tally::default(), Tally::and).proves("all clients")
}

/// A client and a process of its own, so that no write of another client raises the floor.
async fn one_client(servers: &Servers, connections: Connections, setup: Setup, tokens: Tokens) -> Result<Tally> {
    let name = format!("{connections:?}, {setup:?}, token {tokens:?}");
    let db = servers.builder().connect().await?;
    let service = Service::start(&db, setup).await?;
    let (at, mut client, mut tally) = (service.address, Client::new(connections, tokens), Tally::default());
    let mut last = None;
    for round in 0..rounds() {
        let id = client.write(at, round).await.with_context(|| format!("{name}, round {round}"))?;
        tally.read(client.finds(at, id).await?);
        if round % CONTROL_EVERY == 0 {
            tally.control(client.finds_eventually(at, id).await?);
        }
        if let Some(pause) = pause_before_late_read(round) {
            sleep(pause).await;
            let before = by_role(&db);
            let found = client.finds(at, id).await?;
            tally.late_read(found, by_role(&db).1 - before.1);
        }
        last = Some(id);
    }
    let last = last.context("a client writes")?;
    ensure!(tally.stale == 0, "{name}: {tally}");
    replicas_serve_when_it_is_quiet(&name, &db, async || client.finds(at, last).await).await?;
    ensure!(client.has_token() == (setup != Setup::Plain), "{name}: only the layer gives tokens");
    db.close().await?;
    Ok(tally)
}

on_each_database!(a_client_reads_what_it_wrote, [postgres, mariadb], worker_threads = 2);
