//! The stage of the scenarios: a database with the shop in it, the same at every start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use entity::{card, category, customer, journal, order, order_line, pairing, product, product_tag, review, tag};
use sea_orm::{ConnectOptions, ConnectionTrait, EntityTrait, Select};
use sea_orm_resolver::{Builder, DatabaseConnection};

use crate::{files::SharedFile, servers::Servers};

/// Children before their parents.
const TABLES: [&str; 11] = [
    "journal",
    "reviews",
    "cards",
    "pairings",
    "product_tags",
    "tags",
    "categories",
    "order_lines",
    "orders",
    "products",
    "customers",
];

/// The number of rows at the start.
pub(super) const CUSTOMERS: u16 = 9;

pub(super) enum Stage {
    Servers(Servers),
    File(SharedFile),
}

/// SeaORM alone, and how many statements it has run without an error.
pub(super) struct Alone {
    pub(super) db: sea_orm::DatabaseConnection,
    statements: Arc<AtomicU64>,
}

impl Alone {
    pub(super) fn statements(&self) -> u64 {
        self.statements.load(Relaxed)
    }
}

impl Stage {
    pub(super) async fn postgres() -> Result<Self> {
        Self::with_tables(Self::Servers(Servers::postgres().await?)).await
    }

    pub(super) async fn mariadb() -> Result<Self> {
        Self::with_tables(Self::Servers(Servers::mariadb().await?)).await
    }

    pub(super) async fn sqlite() -> Result<Self> {
        Self::with_tables(Self::File(SharedFile::new().await?)).await
    }

    async fn with_tables(stage: Self) -> Result<Self> {
        let db = stage.plain().await?;
        entity::create_schema(&db).await?;
        db.close().await?;
        Ok(stage)
    }

    /// SeaORM's own connection to the primary.
    pub(super) async fn plain(&self) -> Result<sea_orm::DatabaseConnection> {
        match self {
            Self::Servers(servers) => servers.plain().await,
            Self::File(file) => Ok(sea_orm::Database::connect(ConnectOptions::new(file.url())).await?),
        }
    }

    /// SeaORM's own connection to the primary, which counts.
    pub(super) async fn alone(&self) -> Result<Alone> {
        let mut db = self.plain().await?;
        let statements = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&statements);
        db.set_metric_callback(move |info| {
            counter.fetch_add(u64::from(!info.failed), Relaxed);
        });
        Ok(Alone { db, statements })
    }

    /// All nodes. No read is drawn to the primary, a session that wrote sticks to the primary for longer than any
    /// test lasts, and a busy machine is no reason to think that a replica is down.
    pub(super) async fn resolver(&self) -> Result<DatabaseConnection> {
        Ok(self.builder().connect().await?)
    }

    pub(super) fn is_one_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    pub(super) fn builder(&self) -> Builder {
        let builder = match self {
            Self::Servers(servers) => servers.builder(),
            Self::File(file) => file.builder(),
        };
        builder
            .primary_read_share(0.0)
            .stick_after_write(Duration::from_secs(600))
            .probe_interval(Duration::from_secs(30))
            .probe_timeout(Duration::from_secs(20))
    }

    /// Resets the database to its state at the first start, counters included, on every node.
    pub(super) async fn reset(&self) -> Result<()> {
        let db = self.plain().await?;
        for statement in self.emptying() {
            db.execute_unprepared(&statement).await?;
        }
        let shop = entity::seed(&db, CUSTOMERS.into()).await?;
        entity::seed_details(&db, &shop).await?;
        ensure!(shop.orders.len() > 8 && shop.lines.len() > 16, "a shop with little in it shows little");
        db.close().await?;
        self.catch_up().await
    }

    fn emptying(&self) -> Vec<String> {
        let each = |verb: &str| TABLES.iter().map(|table| format!("{verb} {table}")).collect::<Vec<_>>();
        match self {
            Self::Servers(Servers::Postgres(_)) => vec![format!("TRUNCATE {} RESTART IDENTITY", TABLES.join(", "))],
            Self::Servers(Servers::MariaDb(_) | Servers::MySql(_)) => {
                vec![format!(
                    "SET foreign_key_checks = 0; {}; SET foreign_key_checks = 1",
                    each("TRUNCATE TABLE").join("; ")
                )]
            }
            Self::File(_) => {
                let mut statements = each("DELETE FROM");
                statements.push("DELETE FROM sqlite_sequence".to_owned());
                statements
            }
        }
    }

    /// Waits until the replicas have the primary's position.
    pub(super) async fn catch_up(&self) -> Result<()> {
        match self {
            Self::Servers(servers) => servers.wait_caught_up().await,
            Self::File(_) => Ok(()),
        }
    }

    /// From now on no replica shows anything new.
    pub(super) async fn pause(&self) -> Result<()> {
        match self {
            Self::Servers(servers) => servers.pause_replay().await,
            Self::File(_) => Ok(()),
        }
    }

    /// From now on replicas show everything this much later.
    pub(super) async fn delay(&self, delay: Duration) -> Result<()> {
        if let Self::Servers(servers) = self {
            for replica in servers.replicas() {
                replica.delay_replay(delay).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn resume(&self) -> Result<()> {
        if let Self::Servers(servers) = self {
            for replica in servers.replicas() {
                replica.resume_replay().await?;
            }
        }
        self.catch_up().await
    }
}

/// Every row of every table.
pub(super) async fn state(db: &sea_orm::DatabaseConnection) -> Result<String> {
    let mut rows = Vec::new();
    table(db, customer::Entity::find(), &mut rows).await?;
    table(db, product::Entity::find(), &mut rows).await?;
    table(db, order::Entity::find(), &mut rows).await?;
    table(db, order_line::Entity::find(), &mut rows).await?;
    table(db, category::Entity::find(), &mut rows).await?;
    table(db, tag::Entity::find(), &mut rows).await?;
    table(db, product_tag::Entity::find(), &mut rows).await?;
    table(db, pairing::Entity::find(), &mut rows).await?;
    table(db, card::Entity::find(), &mut rows).await?;
    table(db, review::Entity::find(), &mut rows).await?;
    table(db, journal::Entity::find(), &mut rows).await?;
    Ok(rows.join("\n"))
}

async fn table<E>(db: &sea_orm::DatabaseConnection, select: Select<E>, rows: &mut Vec<String>) -> Result<()>
where
    E: EntityTrait,
    E::Model: Sync,
{
    for row in select.order_by_id_asc().all(db).await? {
        rows.push(format!("{} {row:?}", E::default().table_name()));
    }
    Ok(())
}
