//! The clusters a test can ask for.

use std::{collections::BTreeMap, ops::Deref};

use anyhow::Result;
use sea_orm::{ConnectOptions, DbBackend};
use sea_orm_resolver::{Builder, DatabaseConnection, NodeConfig};
use testkit::{Cluster, MariaDbCluster, MySqlCluster, PostgresCluster, Server};

use crate::{item, who::Who};

/// Makes a module of tests from one function: the test `name::postgres` starts a PostgreSQL cluster and calls
/// `name` with it.
///
/// ```ignore
/// async fn a_row_is_found(servers: Servers) -> Result<()> { .. }
/// on_each_database!(a_row_is_found, [postgres, mariadb, mysql]);
/// // On a runtime of two threads, instead of one:
/// on_each_database!(a_row_is_found, [postgres, mariadb], worker_threads = 2);
/// // With `&Stage` in the place of `Servers`, from `Stage::postgres()`, `Stage::sqlite()`:
/// on_each_database!(a_row_is_found, Stage: [postgres, sqlite]);
/// ```
macro_rules! on_each_database {
    ($test:ident, [$($database:ident),+]) => {
        mod $test {
            $(
                #[tokio::test]
                async fn $database() -> anyhow::Result<()> {
                    crate::servers::run_on::$database(super::$test).await
                }
            )+
        }
    };
    ($test:ident, [$($database:ident),+], worker_threads = $threads:tt) => {
        mod $test {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = $threads)]
                async fn $database() -> anyhow::Result<()> {
                    crate::servers::run_on::$database(super::$test).await
                }
            )+
        }
    };
    ($test:ident, $stage:ident: [$($database:ident),+]) => {
        mod $test {
            $(
                #[tokio::test]
                async fn $database() -> anyhow::Result<()> {
                    super::$test(&super::$stage::$database().await?).await
                }
            )+
        }
    };
}
pub(crate) use on_each_database;

/// Calls a test with a cluster of the database that the function is named after.
pub(crate) mod run_on {
    use anyhow::Result;
    use testkit::MySqlCluster;

    use super::Servers;

    pub(crate) async fn postgres(test: impl AsyncFnOnce(Servers) -> Result<()>) -> Result<()> {
        test(Servers::postgres().await?).await
    }

    pub(crate) async fn mariadb(test: impl AsyncFnOnce(Servers) -> Result<()>) -> Result<()> {
        test(Servers::mariadb().await?).await
    }

    pub(crate) async fn mysql(test: impl AsyncFnOnce(Servers) -> Result<()>) -> Result<()> {
        if MySqlCluster::is_left_out() {
            return Ok(());
        }
        test(Servers::mysql().await?).await
    }
}

/// A real cluster of any kind: a promise on one kind must hold on the others.
pub(crate) enum Servers {
    Postgres(PostgresCluster),
    MariaDb(MariaDbCluster),
    MySql(MySqlCluster),
}

impl Deref for Servers {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        match self {
            Self::Postgres(cluster) => cluster,
            Self::MariaDb(cluster) => cluster,
            Self::MySql(cluster) => cluster,
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

    pub(crate) async fn mysql() -> Result<Self> {
        Ok(Self::MySql(MySqlCluster::start(2).await?))
    }

    /// A second cluster of the same database.
    pub(crate) async fn another(&self) -> Result<Self> {
        match self {
            Self::Postgres(_) => Self::postgres().await,
            Self::MariaDb(_) => Self::mariadb().await,
            Self::MySql(_) => Self::mysql().await,
        }
    }

    pub(crate) fn backend(&self) -> DbBackend {
        match self {
            Self::Postgres(_) => DbBackend::Postgres,
            Self::MariaDb(_) | Self::MySql(_) => DbBackend::MySql,
        }
    }

    /// The primary and its replicas, named `primary`, `replica-0`, `replica-1`.
    pub(crate) fn builder(&self) -> Builder {
        let builder = DatabaseConnection::builder().primary(self.primary_node());
        (0..self.replicas().len()).fold(builder, |builder, index| builder.replica(self.replica_node(index)))
    }

    pub(crate) fn primary_node(&self) -> NodeConfig {
        NodeConfig::new(self.primary().url()).name("primary")
    }

    pub(crate) fn replica_node(&self, index: usize) -> NodeConfig {
        NodeConfig::new(self.replica(index).url()).name(format!("replica-{index}"))
    }

    /// A connection to all of them, with the `item` table on every node.
    pub(crate) async fn connect(&self) -> Result<DatabaseConnection> {
        self.open(self.builder()).await
    }

    /// Opens the built connection, with the `item` table on every node. No session has written.
    pub(crate) async fn open(&self, builder: Builder) -> Result<DatabaseConnection> {
        let db = builder.connect().await?;
        item::create_table(&self.plain().await?).await?;
        self.wait_caught_up().await?;
        Ok(db)
    }

    /// SeaORM's own connection to the primary.
    pub(crate) async fn plain(&self) -> Result<sea_orm::DatabaseConnection> {
        Ok(sea_orm::Database::connect(ConnectOptions::new(self.primary().url())).await?)
    }

    pub(crate) fn who(&self) -> Who {
        let name = |(index, server): (usize, &Server)| {
            let name = if index == 0 { "primary".to_owned() } else { format!("replica-{}", index - 1) };
            (server.port().to_string(), name)
        };
        Who::by_port(self.backend(), self.servers().iter().enumerate().map(name).collect())
    }

    /// How many connections the application has open on a server, by that server's own word.
    pub(crate) async fn connections(&self, server: &Server) -> Result<u64> {
        let sql = match self {
            Self::Postgres(_) => "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop'",
            Self::MariaDb(_) | Self::MySql(_) => {
                "SELECT count(*) FROM information_schema.processlist WHERE user = 'shop'"
            }
        };
        Ok(server.query_scalar(sql).await?.parse()?)
    }

    pub(crate) async fn pause_replay(&self) -> Result<()> {
        for replica in self.replicas() {
            replica.pause_replay().await?;
        }
        Ok(())
    }

    pub(crate) async fn resume_replay(&self) -> Result<()> {
        for replica in self.replicas() {
            replica.resume_replay().await?;
        }
        Ok(())
    }
}

/// The routed reads each member has answered.
pub(crate) fn served_reads(db: &DatabaseConnection) -> BTreeMap<String, u64> {
    db.topology().members().map(|member| (member.name().to_owned(), member.node().served_reads())).collect()
}

/// The number of operations that run on each member now.
pub(crate) fn in_flight(db: &DatabaseConnection) -> BTreeMap<String, u64> {
    db.topology().members().map(|member| (member.name().to_owned(), member.node().in_flight())).collect()
}
