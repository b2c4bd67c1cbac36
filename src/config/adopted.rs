//! Connections that the user opened.

use std::sync::Arc;

use sea_orm::{DatabaseConnection, DatabaseConnectionType};

/// The facts about an open connection that its node is planned with.
pub(super) struct Adopted {
    /// The default name of the node.
    pub(super) name: String,
    /// Names the pool: two handles of one pool are the same node.
    pub(super) identity: String,
    pub(super) in_memory: bool,
    /// The maximum of the pool's connections, where that number limits its reads.
    pub(super) max_connections: Option<u32>,
}

impl Adopted {
    pub(super) fn of(connection: &DatabaseConnection) -> Self {
        match &connection.inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                let pool = connection.get_postgres_connection_pool();
                let options = pool.connect_options();
                let name = format!("{}:{}", options.get_host(), options.get_port());
                Self::pool(name, &options, Some(pool.options().get_max_connections()))
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                let pool = connection.get_mysql_connection_pool();
                let options = pool.connect_options();
                let name = format!("{}:{}", options.get_host(), options.get_port());
                Self::pool(name, &options, Some(pool.options().get_max_connections()))
            }
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                let pool = connection.get_sqlite_connection_pool();
                let options = pool.connect_options();
                let file = options.get_filename().to_string_lossy();
                // sqlx names the shared cache of an in-memory database so.
                let in_memory = file.is_empty() || file.contains(":memory:") || file.starts_with("file:sqlx-in-memory");
                let stem = options.get_filename().file_stem().map(|stem| stem.to_string_lossy().into_owned());
                let name = if in_memory { "memory".to_owned() } else { stem.unwrap_or_else(|| "sqlite".to_owned()) };
                // One connection is SeaORM's default, because of the writers.
                let max_connections = Some(pool.options().get_max_connections()).filter(|max| *max > 1);
                Self { in_memory, ..Self::pool(name, &options, max_connections) }
            }
            #[cfg(feature = "mock")]
            DatabaseConnectionType::MockDatabaseConnection(mock) => {
                Self { identity: format!("mock {:p}", Arc::as_ptr(mock)), ..Self::other("mock".to_owned()) }
            }
            other => Self::other(format!("{other:?}")),
        }
    }

    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    fn pool<T>(name: String, options: &Arc<T>, max_connections: Option<u32>) -> Self {
        Self { identity: format!("pool {:p}", Arc::as_ptr(options)), max_connections, ..Self::other(name) }
    }

    fn other(name: String) -> Self {
        Self { name, identity: String::new(), in_memory: false, max_connections: None }
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
mod tests {
    use super::*;
    use crate::{
        config::{Config, NodeConfig, Settings, plan_nodes},
        topology::Role,
    };

    /// The most reads at once of an open pool of this size, in the primary's seat and in a replica's.
    fn read_connections(open: &DatabaseConnection) -> [Option<u32>; 2] {
        let node = NodeConfig::from(open);
        let settings = Settings::try_from(&Config::new(node.clone())).expect("valid");
        let plan = |role| plan_nodes(&settings, &[("node".to_owned(), &node, role)], &[]).expect("valid").remove(0);
        let [primary, replica] = [Role::Primary, Role::Replica].map(plan);
        assert_eq!(primary.read.max_connections, replica.read.max_connections, "a promotion keeps the pool");
        [Some(primary.primary_reads), replica.replica_reads]
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn the_reads_of_an_open_postgres_pool_have_connections_by_its_size() {
        use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};

        for (size, reads) in [(60, [Some(30), Some(60)]), (2, [Some(2), Some(2)])] {
            let pool = PgPoolOptions::new().max_connections(size).connect_lazy_with(PgConnectOptions::new());
            assert_eq!(read_connections(&pool.into()), reads);
        }
    }

    #[cfg(feature = "mysql")]
    #[tokio::test]
    async fn the_reads_of_an_open_mysql_pool_have_connections_by_its_size() {
        use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};

        let pool = MySqlPoolOptions::new().max_connections(60).connect_lazy_with(MySqlConnectOptions::new());
        assert_eq!(read_connections(&pool.into()), [Some(30), Some(60)]);
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn the_reads_of_an_open_sqlite_pool_have_connections_by_its_size_unless_that_is_for_the_writers() {
        use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

        for (size, reads) in [(12, [Some(6), Some(12)]), (1, [Some(2), Some(4)])] {
            let file = SqliteConnectOptions::new().filename("never-opened.db");
            let pool = SqlitePoolOptions::new().max_connections(size).connect_lazy_with(file);
            assert_eq!(read_connections(&pool.into()), reads);
        }
    }
}
