//! A COMMIT whose future is dropped while it is on its way, there or back.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, bail};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, NodeConfig};
use testkit::ChaosProxy;

use super::{PATIENCE, served};
use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

/// How long the connection believes that the commit may still happen. The commit is released much sooner.
const HOLD: Duration = Duration::from_secs(6);
const READS: u32 = 50;

/// The direction in which the commit is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    OnItsWay,
    OnItsWayBack,
}

/// A session that looks for its row, and remembers that it saw the row.
struct Looker {
    db: DatabaseConnection,
    has_seen: AtomicBool,
}

impl Looker {
    async fn looks(&self) -> Result<bool> {
        let rows = item::Entity::find().filter(item::Column::Name.eq("held")).count(&self.db).await?;
        assert!(rows > 0 || !self.has_seen.load(Relaxed), "the row came and went; {}", self.db.topology());
        self.has_seen.fetch_or(rows > 0, Relaxed);
        Ok(rows > 0)
    }

    async fn looks_on(&self) -> Result<()> {
        for _ in 0..READS {
            self.looks().await?;
        }
        Ok(())
    }

    async fn looks_until_served_by(&self, name: &str) -> Result<()> {
        let before = served(&self.db, name);
        let deadline = tokio::time::Instant::now() + HOLD + PATIENCE;
        while served(&self.db, name) == before {
            self.looks().await?;
            if tokio::time::Instant::now() > deadline {
                bail!("{name} never serves; {}", self.db.topology());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

async fn commit_and_look(servers: Servers, held: Held) -> Result<()> {
    let proxy = ChaosProxy::start(servers.primary().port()).await?;
    let primary = NodeConfig::new(proxy.url(servers.primary())).name("primary");
    let db = servers.open(servers.builder().primary(primary).unknown_outcome_hold(HOLD)).await?;
    db.set_primary_read_share(0.0)?;
    let db = db.session();

    let transaction = db.begin().await?;
    item::new("held", 1).insert(&transaction).await?;
    // PostgreSQL logs the row before the commit, and now the replicas have that: they lack nothing.
    servers.primary().execute("CREATE TABLE other (id int)").await?;
    servers.wait_caught_up().await?;
    // One replica goes on, the other one stands still: a session that changed between them would see
    // the row come and go.
    servers.replica(1).pause_replay().await?;
    match held {
        Held::OnItsWay => proxy.hold_requests_from("COMMIT"),
        Held::OnItsWayBack => proxy.hold_answers_from("COMMIT"),
    }
    let caught = proxy.caught();
    tokio::select! {
        end = transaction.commit() => bail!("the commit ended: {end:?}"),
        arrived = wait_until("the commit is sent", PATIENCE, async || Ok(proxy.caught() > caught)) => arrived?,
    }
    let looker = Looker { db, has_seen: AtomicBool::new(false) };
    looker.looks_on().await?;
    assert!(held == Held::OnItsWayBack || !looker.has_seen.load(Relaxed), "nothing was committed yet");
    proxy.restore();
    wait_until("the commit happens", PATIENCE, async || {
        looker.looks().await?;
        Ok(servers.primary().query_scalar("SELECT count(*) FROM item").await? == "1")
    })
    .await?;
    assert!(looker.looks().await?, "the session reads from the primary while the commit may happen");
    looker.looks_on().await?;
    looker.looks_until_served_by("replica-0").await?;
    looker.looks_on().await?;
    servers.replica(1).resume_replay().await?;
    Ok(())
}

async fn a_dropped_commit_that_arrives_late_is_seen_once_and_for_all(servers: Servers) -> Result<()> {
    commit_and_look(servers, Held::OnItsWay).await
}

on_each_database!(a_dropped_commit_that_arrives_late_is_seen_once_and_for_all, [postgres, mariadb]);

async fn a_dropped_commit_that_happened_is_seen_once_and_for_all(servers: Servers) -> Result<()> {
    commit_and_look(servers, Held::OnItsWayBack).await
}

on_each_database!(a_dropped_commit_that_happened_is_seen_once_and_for_all, [postgres, mariadb]);
