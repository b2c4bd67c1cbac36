//! The parties of a cell: SeaORM alone, and the resolver with none, one or two replicas.

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use sea_orm::ConnectOptions;
use sea_orm_resolver::{DatabaseConnection, NodeConfig, Topology};

use super::world::World;

/// One way to connect to the cluster of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// SeaORM's own connection to the primary.
    Alone,
    /// The resolver with the primary's URL only.
    OneUrl,
    /// The resolver with the primary and `replica-0`, the replica that a fault is given to.
    OneReplica,
    /// The resolver with the primary, `replica-0` and `replica-1`, which stays healthy.
    TwoReplicas,
}

impl Party {
    pub(super) const ALL: [Self; 4] = [Self::Alone, Self::OneUrl, Self::OneReplica, Self::TwoReplicas];

    fn replicas(self) -> usize {
        match self {
            Self::Alone | Self::OneUrl => 0,
            Self::OneReplica => 1,
            Self::TwoReplicas => 2,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alone => "SeaORM alone",
            Self::OneUrl => "one URL",
            Self::OneReplica => "primary + 1",
            Self::TwoReplicas => "primary + 2",
        })
    }
}

/// The sizes of every pool in a cell, equal for all parties.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pools {
    pub(super) connections: u32,
    /// None for SeaORM's default, 30 s, and the library's.
    pub(super) acquire: Option<Duration>,
}

impl Pools {
    /// A small pool, and an acquire time-out that a test can wait for.
    pub(super) const USUAL: Self = Self { connections: 8, acquire: Some(Duration::from_secs(3)) };
}

/// An open connection of one party.
#[derive(Clone, Debug)]
pub(super) enum Client {
    Alone(sea_orm::DatabaseConnection),
    Resolver(DatabaseConnection),
}

impl Client {
    /// Connects the party to the cluster with the library's defaults, except for the pools.
    pub(super) async fn open(party: Party, world: &World, pools: Pools) -> Result<Self> {
        Self::open_as(party, world, pools, |url| url).await
    }

    /// [`open`](Self::open) with other URLs, for example those of another account.
    pub(super) async fn open_as(
        party: Party,
        world: &World,
        pools: Pools,
        url: impl Fn(String) -> String,
    ) -> Result<Self> {
        if party == Party::Alone {
            let mut options = ConnectOptions::new(url(world.url(0)));
            options.max_connections(pools.connections).sqlx_logging(false);
            if let Some(acquire) = pools.acquire {
                options.acquire_timeout(acquire);
            }
            return Ok(Self::Alone(sea_orm::Database::connect(options).await?));
        }
        let node = |index: usize, name: String| {
            let node = NodeConfig::new(url(world.url(index))).name(name);
            let node = node.max_connections(pools.connections).sqlx_logging(false);
            pools.acquire.into_iter().fold(node, NodeConfig::acquire_timeout)
        };
        // Some clusters start at once: a connect that takes long is no part of any cell.
        let builder = DatabaseConnection::builder().connect_timeout(Duration::from_secs(15));
        let mut builder = builder.primary(node(0, "primary".to_owned()));
        for index in 0..party.replicas() {
            builder = builder.replica(node(index + 1, format!("replica-{index}")));
        }
        Ok(Self::Resolver(builder.connect().await.with_context(|| party.to_string())?))
    }

    /// The resolver's beliefs; SeaORM alone has none.
    pub(super) fn topology(&self) -> Option<std::sync::Arc<Topology>> {
        match self {
            Self::Alone(_) => None,
            Self::Resolver(db) => Some(db.topology()),
        }
    }

    /// The number of routed reads that a member has answered.
    pub(super) fn served_reads(&self, member: &str) -> Option<u64> {
        Some(self.topology()?.member(member)?.node().served_reads())
    }
}
