//! The databases a test can ask for, and who answered.

use std::{collections::BTreeMap, ops::Deref};

use anyhow::Result;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_resolver::{Builder, DatabaseConnection, NodeConfig};
use testkit::{Cluster, MariaDbCluster, PostgresCluster};

use crate::item;

/// A real cluster of either kind: what is true of one must be true of the other.
pub(crate) enum Servers {
    Postgres(PostgresCluster),
    MariaDb(MariaDbCluster),
}

impl Deref for Servers {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        match self {
            Self::Postgres(cluster) => cluster,
            Self::MariaDb(cluster) => cluster,
        }
    }
}

impl Servers {
    pub(crate) async fn postgres() -> Result<Self> {
        Ok(Self::Postgres(PostgresCluster::start(2).await?))
    }

    pub(crate) async fn mariadb() -> Result<Self> {
        Ok(Self::MariaDb(MariaDbCluster::start(2).await?))
    }

    /// The primary and its replicas, named `primary`, `replica-0`, `replica-1`.
    pub(crate) fn builder(&self) -> Builder {
        let mut builder = DatabaseConnection::builder().primary(self.primary_node());
        for index in 0..self.replicas().len() {
            builder = builder.replica(self.replica_node(index));
        }
        builder
    }

    pub(crate) fn primary_node(&self) -> NodeConfig {
        NodeConfig::new(self.primary().url()).name("primary")
    }

    pub(crate) fn replica_node(&self, index: usize) -> NodeConfig {
        NodeConfig::new(self.replica(index).url()).name(format!("replica-{index}"))
    }

    /// A connection to all of them, with the `item` table on every node.
    pub(crate) async fn connect(&self) -> Result<DatabaseConnection> {
        let db = self.builder().connect().await?;
        item::create_table(&db.primary()).await?;
        self.wait_caught_up().await?;
        Ok(db)
    }

    /// SQL that names the server that runs it, as an integer column `port`.
    pub(crate) fn port_sql(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "SELECT inet_server_port()::int AS port",
            Self::MariaDb(_) => "SELECT CAST(@@port AS SIGNED) AS port",
        }
    }

    /// The name of the server a connection runs its statements on, by the server's own word.
    pub(crate) async fn who_answers(&self, connection: &impl ConnectionTrait) -> Result<String> {
        let statement = Statement::from_string(connection.get_database_backend(), self.port_sql());
        let row = connection.query_one_raw(statement).await?.expect("one row");
        let port = match connection.get_database_backend() {
            DbBackend::MySql => row.try_get::<i64>("", "port")?,
            _ => row.try_get::<i32>("", "port")?.into(),
        };
        Ok(self.name_of(port))
    }

    pub(crate) fn name_of(&self, port: i64) -> String {
        if i64::from(self.primary().port()) == port {
            return "primary".to_owned();
        }
        let index = self.replicas().iter().position(|replica| i64::from(replica.port()) == port);
        index.map_or_else(|| format!("unknown port {port}"), |index| format!("replica-{index}"))
    }
}

/// The routed reads each member has answered.
pub(crate) fn served_reads(db: &DatabaseConnection) -> BTreeMap<String, u64> {
    db.topology().members().map(|member| (member.name().to_owned(), member.node().served_reads())).collect()
}
