//! Who is measured: ways to read a row by its key.

use std::time::Duration;

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

/// When SeaORM asks a connection if it is there, before it uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ping {
    /// Each time, its default.
    Always,
    /// After five seconds idle, the resolver's default.
    WhenIdle,
    Never,
}

/// Whether the resolver's connections for reads stay at hand, as they do by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warm {
    Kept,
    Off,
}

impl Contender {
    pub(crate) const DEFAULTS: &str = "SeaORM, its defaults";
    pub(crate) const NO_PING: &str = "SeaORM, no ping";
    pub(crate) const SAME_PING: &str = "SeaORM, ping when idle";
    pub(crate) const ALONE: &str = "sea-orm-resolver, one node";
    pub(crate) const SPLIT: &str = "10/90 split by hand, no ping";
    pub(crate) const SPLIT_SAME_PING: &str = "10/90 split by hand, ping when idle";
    pub(crate) const COLD: &str = "sea-orm-resolver, keep_warm off";
    pub(crate) const RESOLVER: &str = "sea-orm-resolver";

    /// All of them, with their names.
    pub(crate) async fn all(urls: &Urls) -> Result<Vec<(&'static str, Self)>> {
        let primary = &urls.0[0];
        Ok(vec![
            (Self::DEFAULTS, Self::Bare(open(primary, Ping::Always).await?)),
            (Self::NO_PING, Self::Bare(open(primary, Ping::Never).await?)),
            (Self::SAME_PING, Self::Bare(open(primary, Ping::WhenIdle).await?)),
            (Self::ALONE, Self::resolver(&urls.0[..1], Warm::Kept).await?),
            (Self::SPLIT, Self::split(urls, Ping::Never).await?),
            (Self::SPLIT_SAME_PING, Self::split(urls, Ping::WhenIdle).await?),
            (Self::COLD, Self::resolver(&urls.0, Warm::Off).await?),
            (Self::RESOLVER, Self::resolver(&urls.0, Warm::Kept).await?),
        ])
    }

    pub(crate) async fn split(urls: &Urls, ping: Ping) -> Result<Self> {
        let primary = open(&urls.0[0], ping).await?;
        let mut replicas = Vec::new();
        for url in &urls.0[1..] {
            replicas.push(open(url, ping).await?);
        }
        Ok(Self::Split { primary, replicas })
    }

    pub(crate) async fn resolver(urls: &[String], warm: Warm) -> Result<Self> {
        let mut nodes = urls.iter().enumerate();
        let mut node =
            || nodes.next().map(|(at, url)| NodeConfig::new(url).name(format!("node-{at}")).max_connections(POOL));
        let builder = sea_orm_resolver::DatabaseConnection::builder().primary(node().expect("there is a primary"));
        let builder = match warm {
            Warm::Kept => builder,
            Warm::Off => builder.keep_warm(Duration::ZERO),
        };
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

async fn open(url: &str, ping: Ping) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(POOL);
    match ping {
        Ping::Always => options.test_before_acquire(true),
        Ping::WhenIdle => options.test_before_acquire_if_idle_for(Duration::from_secs(5)),
        Ping::Never => options.test_before_acquire(false),
    };
    sea_orm::Database::connect(options).await
}
