//! Read-only sessions on PostgreSQL: a start-up option of the connection, so that it costs no
//! round trip, composes with every hook of the user, and holds for every physical connection.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection, SqlxPostgresConnector,
    sqlx::{PgPool, Postgres, postgres::PgConnectOptions},
};

use super::{Access, Driver, LaneOptions, SeaOrmDriver, open::run_all};

const BY_STATEMENT: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";

/// Turns the lazily opened handle of a connector into a lane.
pub(super) fn lane(connection: DatabaseConnection, lane: &LaneOptions, access: Access) -> Arc<dyn Driver> {
    let pool = connection.get_postgres_connection_pool();
    if lane.on_connect.is_empty() && access != Access::ReadOnlyByStatement {
        if access.is_read_only() {
            // The handle stays SeaORM's own, with all it was told (search path, hooks, spans).
            pool.set_connect_options(read_only(&pool.connect_options()));
            return Arc::new(SeaOrmDriver::owned_read_only(connection));
        }
        return Arc::new(SeaOrmDriver::owned(connection));
    }
    with_hook(pool, lane, access)
}

/// A read-only pool beside one that was given to us.
pub(super) fn sibling(adopted: &DatabaseConnection, lane: &LaneOptions, access: Access) -> Arc<dyn Driver> {
    let pool = adopted.get_postgres_connection_pool();
    if !lane.on_connect.is_empty() || access == Access::ReadOnlyByStatement {
        return with_hook(pool, lane, access);
    }
    let mut options = pool.options().clone();
    if let Some(max) = lane.max_connections {
        options = options.max_connections(max);
    }
    let pool = options.connect_lazy_with(read_only(&pool.connect_options()));
    Arc::new(SeaOrmDriver::owned_read_only(SqlxPostgresConnector::from_sqlx_postgres_pool(pool)))
}

/// A pool that runs statements on each new connection; they take the place of the pool's own
/// `after_connect`, which cannot be read back (documented at `NodeConfig::on_connect`).
fn with_hook(template: &PgPool, lane: &LaneOptions, access: Access) -> Arc<dyn Driver> {
    let statements = Arc::clone(&lane.on_connect);
    let last = access.is_read_only().then_some(BY_STATEMENT);
    let mut options = template.options().clone().after_connect(move |connection, _| {
        let statements = Arc::clone(&statements);
        Box::pin(async move { run_all::<Postgres>(connection, &statements, last).await })
    });
    if let Some(max) = lane.max_connections {
        options = options.max_connections(max);
    }
    let connect = match access {
        Access::ReadOnly => read_only(&template.connect_options()),
        Access::ReadWrite | Access::ReadOnlyByStatement => template.connect_options().as_ref().clone(),
    };
    let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(options.connect_lazy_with(connect));
    Arc::new(if access.is_read_only() {
        SeaOrmDriver::owned_read_only(connection)
    } else {
        SeaOrmDriver::owned(connection)
    })
}

fn read_only(options: &PgConnectOptions) -> PgConnectOptions {
    // Of two equal options the later wins, so this one cannot be undone by the user's own.
    options.clone().options([("default_transaction_read_only", "on")])
}
