//! Read-only sessions on SQLite: `PRAGMA query_only` at every connect. A reader of a WAL-mode
//! file may need to write its shared-memory index, which `mode=ro` would forbid.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection,
    sqlx::{ConnectOptions, Sqlite, SqlitePool},
};

use super::{
    Access, Driver, LaneOptions,
    open::{resize, run_hooks},
    warm::opened,
};

/// Makes a lane of a handle that SeaORM opened.
pub(super) async fn lane(connection: DatabaseConnection, lane: &LaneOptions, access: Access) -> Arc<dyn Driver> {
    let pool = connection.get_sqlite_connection_pool().clone();
    if access == Access::Full && lane.on_connect.is_empty() {
        return opened(connection, pool, lane, access);
    }
    let sibling = sibling(&pool, lane, access);
    // SeaORM asked for SQLite's version on a connection of this pool, which may still be on its way back.
    pool.close().await;
    sibling
}

/// A pool with the options of another, whose every connection is opened as the lane says.
pub(super) fn sibling(template: &SqlitePool, lane: &LaneOptions, access: Access) -> Arc<dyn Driver> {
    let mut options = resize(template.options().clone(), lane);
    if !lane.on_connect.is_empty() {
        let statements = Arc::clone(&lane.on_connect);
        let last = access.is_read_only().then_some("PRAGMA query_only = ON");
        options = options.after_connect(move |connection, _| {
            let statements = Arc::clone(&statements);
            Box::pin(async move { run_hooks::<Sqlite>(connection, &statements, last).await })
        });
    }
    let connect = template.connect_options().as_ref().clone();
    // sqlx runs and logs statements in a thread of its own, which cannot be told to leave out some.
    let hides = !lane.on_connect.is_empty() && lane.logging != Some(true);
    let connect = if hides { connect.disable_statement_logging() } else { connect };
    let connect = if access.is_read_only() { connect.pragma("query_only", "ON") } else { connect };
    let pool = options.connect_lazy_with(connect);
    opened(pool.clone().into(), pool, lane, access)
}
