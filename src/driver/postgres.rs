//! Read-only sessions on PostgreSQL: a start-up option of the connection. The option costs no round trip, composes with
//! every hook of the user, and holds for every physical connection. Behind a pooling proxy in session mode, a statement
//! on each new connection takes its place.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection, DbBackend,
    sqlx::{PgPool, Postgres, pool::PoolOptions, postgres::PgConnectOptions},
};

use super::{
    ConnectProbe, Credentials, Driver, LaneOptions, Pooling,
    connect_probe::ask_server,
    directness::MARK,
    open::{resize, run_hooks, run_one},
    recipe::{Compose, Recipe},
    sessions::Settings,
    warm::opened,
};

const BY_STATEMENT: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";

const COMPOSE: Compose<Postgres> =
    Compose { log_in: with_login, set: with_settings, mark: |connect| connect.options(MARK) };

/// Makes a lane of a handle that SeaORM opened lazily.
pub(super) fn lane(
    connection: DatabaseConnection,
    lane: &LaneOptions,
    settings: Settings,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    let pool = connection.get_postgres_connection_pool().clone();
    let recipe = Recipe::fixed(pool.connect_options(), settings, COMPOSE);
    if !recipe.adds_settings()
        && !recipe.settings().await_credentials()
        && lane.on_connect.is_empty()
        && connect_probe.is_none()
    {
        return opened(connection, pool, lane, recipe);
    }
    from_template(&pool, lane, recipe, connect_probe)
}

/// A pool for reads with the options of one that was given to the resolver.
pub(super) fn sibling(
    given: &PgPool,
    lane: &LaneOptions,
    settings: Settings,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    from_template(given, lane, Recipe::of_pool(given, settings, COMPOSE), connect_probe)
}

/// A pool with the options of another, whose every connection is opened as the recipe says.
fn from_template(
    template: &PgPool,
    lane: &LaneOptions,
    recipe: Recipe<Postgres>,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    let mut options = resize(template.options().clone(), lane);
    let sets_by_statement = recipe.sessions().pooling() == Pooling::Session && recipe.adds_settings();
    if !lane.on_connect.is_empty() || sets_by_statement || connect_probe.is_some() {
        // Replaces the pool's own hook, which sqlx does not give out (documented at `NodeConfig::on_connect`).
        options = with_hook(options, lane, recipe.settings(), connect_probe);
    }
    let pool = options.connect_lazy_with(recipe.options());
    opened(pool.clone().into(), pool, lane, recipe)
}

fn with_hook(
    options: PoolOptions<Postgres>,
    lane: &LaneOptions,
    settings: &Settings,
    connect_probe: Option<&ConnectProbe>,
) -> PoolOptions<Postgres> {
    let timeout = settings.statement_timeout.map(|timeout| format!("SET statement_timeout = {}", timeout.as_millis()));
    let (timeout, statements): (Option<Arc<str>>, _) = (timeout.map(Into::into), Arc::clone(&lane.on_connect));
    let (access, sessions) = (settings.access, Arc::clone(&settings.sessions));
    let connect_probe = connect_probe.cloned();
    options.after_connect(move |connection, _| {
        let (timeout, statements) = (timeout.clone(), Arc::clone(&statements));
        let (sessions, connect_probe) = (Arc::clone(&sessions), connect_probe.clone());
        Box::pin(async move {
            if let Some(connect_probe) = &connect_probe {
                ask_server::<Postgres>(connection, connect_probe, &sessions).await?;
            }
            if sessions.pooling() == Pooling::Session
                && let Some(timeout) = &timeout
            {
                run_one::<Postgres>(connection, timeout).await?;
            }
            // After the statements of the user, which may say otherwise.
            let last = (access.is_read_only() && sessions.keep_settings()).then_some(BY_STATEMENT);
            let has_option = statements.is_empty() && sessions.take_options();
            run_hooks::<Postgres>(connection, &statements, last.filter(|_| !has_option)).await
        })
    })
}

/// Adds the start-up options of a lane.
fn with_settings(connect: PgConnectOptions, settings: &Settings) -> PgConnectOptions {
    let connect = settings.hide_hooks(connect, DbBackend::Postgres);
    if settings.sessions.take_options() { with_options(connect, settings) } else { connect }
}

/// Of two equal options the later wins, so an option of the user cannot undo those of the lane.
fn with_options(mut connect: PgConnectOptions, settings: &Settings) -> PgConnectOptions {
    if let Some(timeout) = settings.statement_timeout {
        connect = connect.options([("statement_timeout", timeout.as_millis().to_string())]);
    }
    if settings.access.is_read_only() {
        connect = connect.options([("default_transaction_read_only", "on")]);
    }
    if settings.access.is_read_only() && settings.sessions.is_isolation_overridden() {
        connect = with_standbys_isolation(connect);
    }
    connect
}

/// A hot standby refuses every statement under `serializable`, which may be the default of a role or a database. No
/// isolation that a standby has is closer.
fn with_standbys_isolation(connect: PgConnectOptions) -> PgConnectOptions {
    connect.options([("default_transaction_isolation", "repeatable read")])
}

/// The user's options with other credentials. A part that the credentials lack stays.
fn with_login(mut connect: PgConnectOptions, credentials: &Credentials) -> PgConnectOptions {
    if let Some(user) = credentials.user() {
        connect = connect.username(user);
    }
    if let Some(password) = credentials.password() {
        connect = connect.password(password);
    }
    connect
}
