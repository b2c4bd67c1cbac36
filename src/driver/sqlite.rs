//! Read-only sessions on SQLite: `PRAGMA query_only` at every connect. A reader of a WAL-mode
//! file may need to write its shared-memory index, which `mode=ro` would forbid.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection, DbBackend,
    sqlx::{Sqlite, SqlitePool, sqlite::SqliteConnectOptions},
};

use super::{
    Access, Driver, LaneOptions,
    open::{resize, run_hooks},
    recipe::{Compose, Recipe},
    sessions::Settings,
    warm::opened,
};

/// A file has no login.
const COMPOSE: Compose<Sqlite> = Compose { log_in: |connect, _| connect, set: with_settings, mark: |connect| connect };

/// Makes a lane of a handle that SeaORM opened.
pub(super) async fn lane(connection: DatabaseConnection, lane: &LaneOptions, settings: Settings) -> Arc<dyn Driver> {
    let pool = connection.get_sqlite_connection_pool().clone();
    let recipe = Recipe::fixed(pool.connect_options(), settings, COMPOSE);
    if recipe.settings().access == Access::Full && lane.on_connect.is_empty() {
        return opened(connection, pool, lane, recipe);
    }
    let sibling = from_template(&pool, lane, recipe);
    // SeaORM asked for SQLite's version on a connection of this pool, which may still be on its way back.
    pool.close().await;
    sibling
}

/// A pool for reads with the options of one that was given to the resolver.
pub(super) fn sibling(given: &SqlitePool, lane: &LaneOptions, settings: Settings) -> Arc<dyn Driver> {
    from_template(given, lane, Recipe::of_pool(given, settings, COMPOSE))
}

/// A pool with the options of another, whose every connection is opened as the lane says.
fn from_template(template: &SqlitePool, lane: &LaneOptions, recipe: Recipe<Sqlite>) -> Arc<dyn Driver> {
    let mut options = resize(template.options().clone(), lane);
    if !lane.on_connect.is_empty() {
        let statements = Arc::clone(&lane.on_connect);
        let last = recipe.settings().access.is_read_only().then_some("PRAGMA query_only = ON");
        options = options.after_connect(move |connection, _| {
            let statements = Arc::clone(&statements);
            Box::pin(async move { run_hooks::<Sqlite>(connection, &statements, last).await })
        });
    }
    let pool = options.connect_lazy_with(recipe.options());
    opened(pool.clone().into(), pool, lane, recipe)
}

fn with_settings(connect: SqliteConnectOptions, settings: &Settings) -> SqliteConnectOptions {
    let connect = settings.hide_hooks(connect, DbBackend::Sqlite);
    if settings.access.is_read_only() { connect.pragma("query_only", "ON") } else { connect }
}
