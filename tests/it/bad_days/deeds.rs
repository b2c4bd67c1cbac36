//! Doing a fault to the servers, showing that it is there, and mending it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use sea_orm::sqlx::{Connection, MySqlConnection, PgConnection};
use tokio::{task::JoinSet, time::sleep};

use super::{
    faults::{Deed, Fault},
    world::{Database, World},
};
use crate::wait::wait_until;

/// What a fault holds until it is mended.
#[derive(Debug, Default)]
pub(super) struct Held {
    takers: JoinSet<()>,
}

/// The statement that shows the fault, where it differs from the usual one.
pub(super) fn read_during(deed: Deed, pause: &str) -> Option<String> {
    match deed {
        Deed::NewTable => Some(format!("SELECT amount, {pause} AS pause FROM fresh WHERE id = 1")),
        Deed::NewResult => Some(format!("SELECT item.*, {pause} AS pause FROM item WHERE id = 1")),
        Deed::NewColumn => Some(format!("SELECT amount, fresh, {pause} AS pause FROM item WHERE id = 1")),
        _ => None,
    }
}

/// Does the deed and shows that it bit.
pub(super) async fn inject(fault: &Fault, world: &World, read: &str) -> Result<Held> {
    let targets = fault.seat.servers();
    let mut held = Held::default();
    match fault.deed {
        Deed::Kill => {
            for &index in targets {
                world.strike(world.server(index).kill()).await?;
            }
        }
        Deed::Freeze => {
            for &index in targets {
                let server = world.server(index).clone();
                world.strike(tokio::task::spawn_blocking(move || server.freeze())).await??;
            }
        }
        Deed::Restart => {
            for &index in targets {
                let before = world.server(index).pid();
                world.strike(world.server(index).stop()).await?;
                sleep(fault.lasts).await;
                world.server(index).start().await?;
                ensure!(world.server(index).pid() != before, "it was restarted");
            }
        }
        Deed::Fill => {
            for &index in targets {
                fill(world, index, &mut held).await?;
            }
        }
        Deed::NewTable | Deed::NewColumn => {
            world.servers.pause_replay().await?;
            let sql = match fault.deed {
                Deed::NewTable => {
                    "CREATE TABLE fresh (id int PRIMARY KEY, amount int); INSERT INTO fresh VALUES (1, 1)"
                }
                _ => "ALTER TABLE item ADD COLUMN fresh int",
            };
            world.server(0).execute(sql).await?;
        }
        Deed::NewResult => {
            world.server(0).execute("ALTER TABLE item ADD COLUMN fresh int").await?;
            world.servers.wait_caught_up().await?;
        }
    }
    for &index in targets {
        if !fault.meets.is_empty() {
            let met = world.meets(index, read).await;
            ensure!(fault.meets.contains(&met.as_str()), "the fault did not bite: a client meets {met}");
        }
    }
    Ok(held)
}

/// Ends the fault.
pub(super) async fn mend(fault: &Fault, world: &World, held: Held) -> Result<()> {
    drop(held);
    for &index in fault.seat.servers() {
        match fault.deed {
            Deed::Kill => world.server(index).start().await?,
            Deed::Freeze => {
                let server = world.server(index).clone();
                tokio::task::spawn_blocking(move || server.thaw()).await??;
            }
            Deed::NewTable | Deed::NewColumn => world.servers.resume_replay().await?,
            Deed::Restart | Deed::Fill | Deed::NewResult => {}
        }
    }
    Ok(())
}

/// Takes the places on a server, those of the application's sessions too, and each one that becomes free later.
async fn fill(world: &World, index: usize, held: &mut Held) -> Result<()> {
    const TAKERS: usize = 8;
    const LIMIT: Duration = Duration::from_secs(20);
    let url = world.server(index).url().replace("://shop:", "://filler:");
    let refused = Arc::new(AtomicUsize::new(0));
    for _ in 0..TAKERS {
        held.takers.spawn(take_places(world.database, url.clone(), Arc::clone(&refused)));
    }
    let has_refused = async || Ok(refused.load(Relaxed) >= TAKERS);
    wait_until("the server to be full", LIMIT, has_refused).await?;
    // A full server refuses the kit, too, while it refuses others.
    let are_ended = async || Ok(end_sessions(world, index).await.is_ok());
    world.strike(wait_until("the sessions to end", LIMIT, are_ended)).await?;
    refused.store(0, Relaxed);
    wait_until("the server to be full again", LIMIT, has_refused).await
}

/// Opens sessions of the account `filler` for ever, and counts those that the server refuses.
async fn take_places(database: Database, url: String, refused: Arc<AtomicUsize>) {
    const PAUSE: Duration = Duration::from_millis(40);
    let (mut postgres, mut mysql) = (Vec::new(), Vec::new());
    loop {
        let opened = match database {
            Database::Postgres => PgConnection::connect(&url).await.map(|connection| postgres.push(connection)),
            Database::MariaDb | Database::MySql => {
                MySqlConnection::connect(&url).await.map(|connection| mysql.push(connection))
            }
        };
        if opened.is_err() {
            refused.fetch_add(1, Relaxed);
            sleep(PAUSE).await;
        }
    }
}

/// Ends all sessions of the application on a server.
pub(super) async fn end_sessions(world: &World, index: usize) -> Result<()> {
    let server = world.server(index);
    match world.database {
        Database::Postgres => {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'shop'";
            server.query_scalar(sql).await.map(drop)
        }
        Database::MariaDb => server.query_scalar("KILL USER shop").await.map(drop),
        Database::MySql => {
            let list = "SELECT group_concat(id) FROM information_schema.processlist WHERE user = 'shop'";
            for id in server.query_scalar(list).await?.split(',').filter(|id| !id.is_empty()) {
                // A session that has ended by itself is no failure.
                let _gone = server.query_scalar(&format!("KILL {id}")).await;
            }
            Ok(())
        }
    }
}
