//! Doing a fault to the servers, showing that it is there, and mending it.

use std::{
    future::pending,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sea_orm::sqlx::{Connection, MySqlConnection, PgConnection, raw_sql};
use testkit::{Server, SmallDisk};
use tokio::{task::JoinSet, time::sleep};

use super::{
    account,
    faults::Fault,
    world::{Database, World},
};
use crate::wait::wait_until;

/// A fault of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// SIGKILL, and a start when the fault ends.
    Kill,
    /// SIGSTOP, and SIGCONT when the fault ends.
    Freeze,
    /// An orderly stop, and a start some time later.
    Restart,
    /// Connections of other clients take all places, those of the application too.
    Fill,
    /// The server refuses the application's account; its sessions are ended.
    RefuseAccount,
    /// The account has another password; its sessions are ended.
    ChangePassword,
    /// The database has another name, or is dropped; its sessions are ended.
    RemoveDatabase,
    /// A table that replicas do not have yet is read.
    NewTable,
    /// A column that replicas do not have yet is read.
    NewColumn,
    /// Replay on a standby cancels reads, again and again.
    Conflict,
    /// The disk has no room for the temporary files of a read.
    NoRoom,
    /// The isolation level of the account's sessions is one that a standby does not have.
    Serializable,
    /// The result of a prepared statement changes.
    NewResult,
    /// The network swallows everything.
    Swallow,
    /// The network forgets the connections that are open.
    Abandon,
    /// The connections that are open end in the middle of an answer.
    Tear,
    /// Each answer is late.
    Slow(Duration),
    /// The pooler is killed, and started some time later.
    RestartPooler,
    /// A lock on the table that is read: on a standby, one that replay holds and does not give back; elsewhere, that of a
    /// session that keeps it.
    Lock,
    /// Statements of the superuser change a setting, and others change it back. The application's sessions are ended.
    Set { to: &'static [&'static str], back: &'static [&'static str] },
    /// A signal ends one process of the server, and the server ends all the others.
    CrashOneProcess,
}

/// What a fault holds until it is mended.
#[derive(Debug, Default)]
pub(super) struct Held {
    tasks: JoinSet<()>,
    disk: Option<SmallDisk>,
}

/// The statement that shows the fault, where it differs from the usual one.
pub(super) fn telling_read(deed: Deed, pause: &str) -> Option<String> {
    match deed {
        Deed::NewTable => Some(format!("SELECT amount, {pause} AS pause FROM fresh WHERE id = 1")),
        Deed::NewResult => Some(format!("SELECT item.*, {pause} AS pause FROM item WHERE id = 1")),
        Deed::NewColumn => Some(format!("SELECT amount, fresh, {pause} AS pause FROM item WHERE id = 1")),
        Deed::NoRoom => Some(
            "SELECT count(*) FROM (SELECT g, repeat('x', 100) FROM generate_series(1, 6000) AS g ORDER BY 2, 1 DESC) AS s"
                .to_owned(),
        ),
        // Longer than the smallest packet of the matrix.
        Deed::Set { to: [setting], .. } if setting.contains("max_allowed_packet") => {
            Some(format!("SELECT amount, {pause} AS pause FROM item WHERE id = 1 /* {} */", "x".repeat(30_000)))
        }
        _ => None,
    }
}

/// The state of the servers that a fault needs before a client connects.
pub(super) async fn prepare(deed: Deed, world: &World) -> Result<()> {
    let setting = match (deed, world.database) {
        (Deed::Serializable, _) => Some("default_transaction_isolation = 'serializable'"),
        (Deed::Lock, Database::Postgres) => Some("lock_timeout = '200ms'"),
        _ => None,
    };
    if let Some(setting) = setting {
        let sql = &format!("ALTER ROLE shop SET {setting}");
        world.server(0).query_scalar(sql).await?;
        world.servers.wait_caught_up().await?;
    }
    Ok(())
}

/// Does the deed and shows that it bit.
pub(super) async fn inject(fault: &Fault, world: &World, read: &str) -> Result<Held> {
    let mut held = Held::default();
    for &index in fault.seat.servers() {
        do_to(fault, world, index, &mut held).await?;
    }
    for &index in fault.seat.servers() {
        if !fault.meets.is_empty() {
            let bites = async || Ok(fault.meets.contains(&world.meets(index, read).await.as_str()));
            wait_until(&format!("the fault to bite: {:?}", fault.meets), LIMIT, bites).await?;
        }
    }
    Ok(held)
}

async fn do_to(fault: &Fault, world: &World, index: usize, held: &mut Held) -> Result<()> {
    let server = world.server(index).clone();
    let is_first = fault.seat.servers().first() == Some(&index);
    match fault.deed {
        Deed::Kill => world.strike(server.kill()).await?,
        Deed::Freeze => world.strike(tokio::task::spawn_blocking(move || server.freeze())).await??,
        Deed::Restart => {
            world.strike(server.stop()).await?;
            sleep(fault.lasts).await;
            server.start().await?;
        }
        Deed::Fill => fill(world, index, held).await?,
        Deed::RefuseAccount | Deed::ChangePassword => {
            account::change(fault.deed, world, index).await?;
            world.strike(end_sessions(world, index)).await?;
        }
        Deed::RemoveDatabase if is_first => world.strike(account::remove_database(world, index)).await?,
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
        Deed::Conflict => {
            let mut primary = PgConnection::connect(&world.server(0).admin_url()).await?;
            held.tasks.spawn(async move {
                let sql = "BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE; COMMIT";
                while raw_sql(sql).execute(&mut primary).await.is_ok() {
                    sleep(Duration::from_millis(150)).await;
                }
            });
            // A reader of its own shows that replay cancels reads, whichever of the cell's are met.
            let url = server.url();
            held.tasks.spawn(async move {
                while let Ok(mut replica) = PgConnection::connect(&url).await {
                    let _cancelled = raw_sql("SELECT pg_sleep(1) FROM item").execute(&mut replica).await;
                }
            });
        }
        Deed::NoRoom => held.disk = Some(SmallDisk::for_sorts(&server, 256)?),
        Deed::NewResult if is_first => {
            server.execute("ALTER TABLE item ADD COLUMN fresh int").await?;
            world.servers.wait_caught_up().await?;
        }
        Deed::Swallow => world.strike(async { world.proxy(index).hold() }).await,
        Deed::Abandon => world.strike(async { world.proxy(index).abandon() }).await,
        Deed::Tear => world.strike(async { world.proxy(index).tear() }).await,
        Deed::Slow(late) => world.proxy(index).set_latency(late),
        Deed::RestartPooler => {
            let pooler = world.pooler.as_ref().context("a pooler")?;
            world.strike(pooler.kill()).await?;
            sleep(fault.lasts).await;
            pooler.start_again().await?;
        }
        Deed::Lock => lock(world, index, held).await?,
        Deed::Set { to, .. } => {
            for sql in to {
                world.command(index, sql).await?;
            }
            world.strike(end_sessions(world, index)).await?;
        }
        Deed::CrashOneProcess => world.strike(crash_one_process(&server)).await?,
        Deed::RemoveDatabase | Deed::NewResult | Deed::Serializable => {}
    }
    Ok(())
}

/// Ends the fault.
pub(super) async fn mend(fault: &Fault, world: &World, held: Held) -> Result<()> {
    if fault.deed == Deed::Conflict {
        let sql = "SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = 'shop'";
        ensure!(world.server(1).query_scalar(sql).await? != "0", "no read met replay");
    }
    drop(held);
    for &index in fault.seat.servers() {
        let server = world.server(index).clone();
        let is_first = fault.seat.servers().first() == Some(&index);
        match fault.deed {
            Deed::Kill => server.start().await?,
            Deed::Freeze => tokio::task::spawn_blocking(move || server.thaw()).await??,
            Deed::RefuseAccount | Deed::ChangePassword => account::change_back(fault.deed, world, index).await?,
            Deed::RemoveDatabase if is_first => account::bring_database_back(world).await?,
            Deed::NewTable | Deed::NewColumn => world.servers.resume_replay().await?,
            Deed::Swallow => world.proxy(index).restore(),
            Deed::Slow(_) => world.proxy(index).set_latency(Duration::ZERO),
            Deed::Lock if world.database == Database::Postgres => server.resume_replay().await?,
            Deed::Set { back, .. } => {
                for sql in back {
                    world.command(index, sql).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// How long the servers take at most to be as bad as a fault wants them.
const LIMIT: Duration = Duration::from_secs(20);

/// Locks the table that is read, on one server only, until the fault is mended.
async fn lock(world: &World, index: usize, held: &mut Held) -> Result<()> {
    let server = world.server(index).clone();
    if world.database != Database::Postgres {
        let mut holder = MySqlConnection::connect(&server.admin_url()).await?;
        raw_sql("LOCK TABLES item WRITE").execute(&mut holder).await?;
        held.tasks.spawn(async move {
            let _holder = holder;
            pending::<()>().await;
        });
        return Ok(());
    }
    let mut primary = PgConnection::connect(&world.server(0).admin_url()).await?;
    raw_sql("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE").execute(&mut primary).await?;
    let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'item'::regclass";
    let is_replayed = async || {
        // The record of the lock is not flushed by itself.
        world.server(0).query_scalar("SELECT pg_switch_wal()").await?;
        Ok(server.query_scalar(locks).await? != "0")
    };
    wait_until("the lock to be replayed", LIMIT, is_replayed).await?;
    server.pause_replay().await?;
    primary.close().await?;
    Ok(())
}

/// Kills the process of one session of the application, as a system without memory does.
async fn crash_one_process(server: &Server) -> Result<()> {
    let sessions = "SELECT pid FROM pg_stat_activity WHERE usename = 'shop' LIMIT 1";
    let pid = server.query_scalar(sessions).await?;
    let killed = Command::new("kill").args(["-KILL", &pid]).status()?;
    ensure!(killed.success(), "no process {pid}");
    Ok(())
}

/// Takes the places on a server, those of the application's sessions too, and each one that becomes free later.
async fn fill(world: &World, index: usize, held: &mut Held) -> Result<()> {
    const TAKERS: usize = 8;
    let url = world.url(index).replace("://shop", "://filler");
    let refused = Arc::new(AtomicUsize::new(0));
    for _ in 0..TAKERS {
        held.tasks.spawn(take_places(world.database, url.clone(), Arc::clone(&refused)));
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
    match world.database {
        Database::Postgres => {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'";
            world.command(index, sql).await
        }
        Database::MariaDb => world.command(index, "KILL USER shop").await,
        Database::MySql => {
            let server = world.server(index);
            let list = "SELECT group_concat(id) FROM information_schema.processlist WHERE user = 'shop'";
            for id in server.query_scalar(list).await?.split(',').filter(|id| !id.is_empty()) {
                // A session that has ended by itself is no failure.
                let _gone = world.command(index, &format!("KILL {id}")).await;
            }
            Ok(())
        }
    }
}
