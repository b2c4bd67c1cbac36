//! Read-only sessions on MySQL and MariaDB: a part of the one `SET` statement that sqlx sends on each new connection. So no
//! round trip is added, every hook of the user stays, and the setting holds for every physical connection.

use std::{sync::Arc, time::Duration};

use sea_orm::{
    DatabaseConnection, DbBackend,
    sqlx::{MySql, MySqlPool, mysql::MySqlConnectOptions},
};

use super::{
    ConnectProbe, Credentials, Driver, LaneOptions,
    connect_probe::ask_server,
    open::{resize, run_hooks},
    recipe::{Compose, Recipe},
    sessions::Settings,
    warm::opened,
};

const READ_ONLY: &str = "SET SESSION TRANSACTION READ ONLY";

const COMPOSE: Compose<MySql> = Compose { log_in: with_login, set: with_settings, mark: |connect| connect };

/// Makes a lane of a handle that SeaORM opened lazily.
pub(super) fn lane(
    connection: DatabaseConnection,
    lane: &LaneOptions,
    settings: Settings,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    let pool = connection.get_mysql_connection_pool().clone();
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
    given: &MySqlPool,
    lane: &LaneOptions,
    settings: Settings,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    from_template(given, lane, Recipe::of_pool(given, settings, COMPOSE), connect_probe)
}

/// A pool with the options of another, whose every connection is opened as the recipe says.
fn from_template(
    template: &MySqlPool,
    lane: &LaneOptions,
    recipe: Recipe<MySql>,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    let mut options = resize(template.options().clone(), lane);
    if !lane.on_connect.is_empty() || connect_probe.is_some() {
        // Replaces the pool's own hook, which sqlx does not give out (documented at `NodeConfig::on_connect`).
        let statements = Arc::clone(&lane.on_connect);
        let (access, sessions) = (recipe.settings().access, Arc::clone(recipe.sessions()));
        let connect_probe = connect_probe.cloned();
        options = options.after_connect(move |connection, _| {
            let (statements, sessions) = (Arc::clone(&statements), Arc::clone(&sessions));
            let connect_probe = connect_probe.clone();
            Box::pin(async move {
                if let Some(connect_probe) = &connect_probe {
                    ask_server::<MySql>(connection, connect_probe, &sessions).await?;
                }
                // After the statements of the user, which may say otherwise.
                let is_undone = access.is_read_only() && sessions.keep_settings() && !statements.is_empty();
                run_hooks::<MySql>(connection, &statements, is_undone.then_some(READ_ONLY)).await
            })
        });
    }
    let pool = options.connect_lazy_with(recipe.options());
    opened(pool.clone().into(), pool, lane, recipe)
}

/// Adds the settings of a lane to the `SET` statement of sqlx.
///
/// The last part of that statement is `NAMES`, for which sqlx writes the name of the character set, and of a collation if
/// there is one, as they are. Where the user's options leave that part out, and where another sqlx quotes the name, the
/// session is not read-only, and the check of the first session says so.
fn with_settings(connect: MySqlConnectOptions, settings: &Settings) -> MySqlConnectOptions {
    let connect = settings.hide_hooks(connect, DbBackend::MySql);
    if !settings.sessions.keep_settings() {
        return connect;
    }
    let mut added = String::new();
    if let Some(timeout) = settings.statement_timeout {
        added.push_str(&limit_of_statements(timeout));
    }
    if settings.access.is_read_only() {
        added.push_str(&assigned("transaction_read_only = 1", "tx_read_only = 1"));
    }
    if added.is_empty() {
        return connect;
    }
    match connect.get_collation().map(|collation| format!("{collation}{added}")) {
        Some(collation) => connect.collation(&collation),
        None => {
            let charset = format!("{}{added}", connect.get_charset());
            connect.charset(&charset)
        }
    }
}

/// MariaDB limits every statement, in seconds; MySQL limits SELECTs, in milliseconds.
fn limit_of_statements(timeout: Duration) -> String {
    assigned(
        &format!("max_execution_time = {}", timeout.as_millis()),
        &format!("max_statement_time = {}", timeout.as_secs_f64()),
    )
}

/// One assignment in a `SET` statement for MySQL, and one for MariaDB: each server reads the other's as a comment.
fn assigned(mysql: &str, mariadb: &str) -> String {
    format!("/*!50720 , @@session.{mysql} *//*M!100000 , @@session.{mariadb} */")
}

/// The user's options with other credentials. A part that the credentials lack stays.
fn with_login(mut connect: MySqlConnectOptions, credentials: &Credentials) -> MySqlConnectOptions {
    if let Some(user) = credentials.user() {
        connect = connect.username(user);
    }
    if let Some(password) = credentials.password() {
        connect = connect.password(password);
    }
    connect
}
