//! Read-only sessions on SQLite: `PRAGMA query_only` at every connect. A reader of a WAL-mode
//! file may need to write its shared-memory index, which `mode=ro` would forbid.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection, SqlxSqliteConnector,
    sqlx::{Sqlite, SqlitePool, sqlite::SqliteConnectOptions},
};

use super::{Access, Driver, LaneOptions, SeaOrmDriver, open::run_all};

/// Turns the handle of a connector into a lane.
pub(super) async fn lane(connection: DatabaseConnection, lane: &LaneOptions, access: Access) -> Arc<dyn Driver> {
    let pool = connection.get_sqlite_connection_pool();
    if !access.is_read_only() && lane.on_connect.is_empty() {
        return Arc::new(SeaOrmDriver::owned(connection));
    }
    if !lane.on_connect.is_empty() {
        return with_hook(pool, lane, access);
    }
    pool.set_connect_options(read_only(&pool.connect_options()));
    // SeaORM asked for the version on a connection that was opened before the line above.
    while let Some(early) = pool.try_acquire() {
        // It is discarded either way.
        let _ = early.close().await;
    }
    Arc::new(SeaOrmDriver::owned_read_only(connection))
}

/// A read-only pool beside one that was given to us.
pub(super) fn sibling(adopted: &DatabaseConnection, lane: &LaneOptions) -> Arc<dyn Driver> {
    with_hook(adopted.get_sqlite_connection_pool(), lane, Access::ReadOnly)
}

fn with_hook(template: &SqlitePool, lane: &LaneOptions, access: Access) -> Arc<dyn Driver> {
    let mut options = template.options().clone();
    if !lane.on_connect.is_empty() {
        let statements = Arc::clone(&lane.on_connect);
        let last = access.is_read_only().then_some("PRAGMA query_only = ON");
        options = options.after_connect(move |connection, _| {
            let statements = Arc::clone(&statements);
            Box::pin(async move { run_all::<Sqlite>(connection, &statements, last).await })
        });
    }
    let connect = template.connect_options();
    if access.is_read_only() {
        if let Some(max) = lane.max_connections {
            options = options.max_connections(max);
        }
        let pool = options.connect_lazy_with(read_only(&connect));
        return Arc::new(SeaOrmDriver::owned_read_only(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)));
    }
    let pool = options.connect_lazy_with(connect.as_ref().clone());
    Arc::new(SeaOrmDriver::owned(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)))
}

fn read_only(options: &SqliteConnectOptions) -> SqliteConnectOptions {
    options.clone().pragma("query_only", "ON")
}
