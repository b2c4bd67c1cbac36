//! Who is measured: four ways to read a row by its key.

use anyhow::Result;
use entity::customer;
use rand::{RngExt, rngs::SmallRng};
use sea_orm::{ConnectOptions, DatabaseConnection, DbErr, EntityTrait};
use sea_orm_resolver::NodeConfig;

/// Connections of every pool: as many as there are tasks, so that nobody waits for one.
const POOL: u32 = 16;

/// The nodes of a database: the primary, then its replicas.
#[derive(Clone, Debug)]
pub(crate) struct Urls(pub(crate) Vec<String>);

/// A program that reads.
#[derive(Clone, Debug)]
pub(crate) enum Contender {
    /// One SeaORM handle.
    Bare(DatabaseConnection),
    /// What one writes oneself: a tenth to the primary, the rest to any replica.
    Split {
        primary: DatabaseConnection,
        replicas: Vec<DatabaseConnection>,
    },
    Resolver(sea_orm_resolver::DatabaseConnection),
}

/// Whether SeaORM asks a connection if it is there before each use, as it does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PingEachUse {
    Yes,
    No,
}

impl Contender {
    pub(crate) const DEFAULTS: &str = "SeaORM, its defaults";
    pub(crate) const NO_PING: &str = "SeaORM, no ping";
    pub(crate) const SPLIT: &str = "10/90 split by hand, no ping";
    pub(crate) const RESOLVER: &str = "sea-orm-resolver";

    /// The four of them, with their names.
    pub(crate) async fn all(urls: &Urls) -> Result<Vec<(&'static str, Self)>> {
        Ok(vec![
            (Self::DEFAULTS, Self::Bare(open(&urls.0[0], PingEachUse::Yes).await?)),
            (Self::NO_PING, Self::Bare(open(&urls.0[0], PingEachUse::No).await?)),
            (Self::SPLIT, Self::split(urls).await?),
            (Self::RESOLVER, Self::resolver(urls).await?),
        ])
    }

    pub(crate) async fn split(urls: &Urls) -> Result<Self> {
        let primary = open(&urls.0[0], PingEachUse::No).await?;
        let mut replicas = Vec::new();
        for url in &urls.0[1..] {
            replicas.push(open(url, PingEachUse::No).await?);
        }
        Ok(Self::Split { primary, replicas })
    }

    pub(crate) async fn resolver(urls: &Urls) -> Result<Self> {
        let mut nodes = urls.0.iter().enumerate();
        let mut node =
            || nodes.next().map(|(at, url)| NodeConfig::new(url).name(format!("node-{at}")).max_connections(POOL));
        let builder = sea_orm_resolver::DatabaseConnection::builder().primary(node().expect("there is a primary"));
        Ok(Self::Resolver(builder.replicas(std::iter::from_fn(node)).primary_read_connections(POOL).connect().await?))
    }

    /// One point read through an entity.
    pub(crate) async fn read(&self, id: i32, random: &mut SmallRng) -> Result<Option<customer::Model>, DbErr> {
        let query = customer::Entity::find_by_id(id);
        match self {
            Self::Bare(db) => query.one(db).await,
            Self::Split { primary, .. } if random.random::<f64>() < 0.1 => query.one(primary).await,
            Self::Split { replicas, .. } => query.one(&replicas[random.random_range(0..replicas.len())]).await,
            Self::Resolver(db) => query.one(db).await,
        }
    }
}

async fn open(url: &str, ping: PingEachUse) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(POOL);
    if ping == PingEachUse::No {
        options.test_before_acquire(false);
    }
    sea_orm::Database::connect(options).await
}
