//! Two processes behind the layer, and clients that go from one to the other.

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::{
    CONTROL_EVERY, Tally, by_role,
    client::{Client, Connections, Tokens},
    late_replicas, pause_before_late_read, replicas_serve_when_it_is_quiet, rounds,
    service::{Service, Setup},
};
use crate::servers::{Servers, on_each_database};

async fn a_client_with_a_token_reads_in_one_process_what_it_wrote_in_the_other(servers: Servers) -> Result<()> {
    let _lag = late_replicas(&servers).await?;
    let layered = Connections::ALL.map(|connections| one_client(&servers, connections, Setup::Layer));
    let joining = one_client(&servers, Connections::Http2, Setup::LayerJoiningProcess);
    try_join_all(layered.into_iter().chain([joining])).await?;
    Ok(())
}

/// A client and two processes of its own. Under `Setup::Layer` the token alone says what a request must see: what the
/// process has written itself does not bind a request with a token.
async fn one_client(servers: &Servers, connections: Connections, setup: Setup) -> Result<()> {
    let name = format!("two processes, {connections:?}, {setup:?}");
    let processes = [servers.builder().connect().await?, servers.builder().connect().await?];
    let services = [Service::start(&processes[0], setup).await?, Service::start(&processes[1], setup).await?];
    let mut client = Client::new(connections, Tokens::Returned);
    let (mut tally, mut last) = (Tally::default(), 0);
    for round in 0..rounds() {
        let (here, there) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        let at = services[there].address;
        let id = client.write(services[here].address, round / 2).await?;
        tally.read(client.finds(at, id).await?);
        // Not every tenth round, whose writes are all in one process.
        if round % (CONTROL_EVERY + 1) == 0 {
            tally.control(client.finds_eventually(at, id).await?);
        }
        if let Some(pause) = pause_before_late_read(round) {
            sleep(pause).await;
            let before = by_role(&processes[there]);
            let found = client.finds(at, id).await?;
            tally.late_read(found, by_role(&processes[there]).1 - before.1);
        }
        last = id;
    }
    tally.proves(&name)?;
    for (db, service) in processes.iter().zip(&services) {
        let found = async || client.finds(service.address, last).await;
        replicas_serve_when_it_is_quiet(&name, db, found).await?;
    }
    for db in processes {
        db.close().await?;
    }
    Ok(())
}

on_each_database!(
    a_client_with_a_token_reads_in_one_process_what_it_wrote_in_the_other,
    [postgres, mariadb],
    worker_threads = 2
);
