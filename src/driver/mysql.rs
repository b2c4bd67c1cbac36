//! Read-only sessions on MySQL and MariaDB: a statement on each new physical connection, in the
//! pool's `after_connect`. That one hook is ours here; every other pool option of the user stays.

use std::{sync::Arc, time::Duration};

use sea_orm::{
    DatabaseConnection, SqlxMySqlConnector,
    sqlx::{self, MySql, MySqlPool},
};

use super::{Access, Driver, LaneOptions, SeaOrmDriver, open::run_all};

/// Turns the lazily opened handle of a connector into a lane.
pub(super) fn lane(
    connection: DatabaseConnection,
    lane: &LaneOptions,
    statement_timeout: Option<Duration>,
    access: Access,
) -> Arc<dyn Driver> {
    if !access.is_read_only() && lane.on_connect.is_empty() && statement_timeout.is_none() {
        return Arc::new(SeaOrmDriver::owned(connection));
    }
    with_hook(connection.get_mysql_connection_pool(), lane, statement_timeout, access)
}

/// A read-only pool beside one that was given to us.
pub(super) fn sibling(adopted: &DatabaseConnection, lane: &LaneOptions) -> Arc<dyn Driver> {
    with_hook(adopted.get_mysql_connection_pool(), lane, lane.statement_timeout, Access::ReadOnly)
}

fn with_hook(
    template: &MySqlPool,
    lane: &LaneOptions,
    statement_timeout: Option<Duration>,
    access: Access,
) -> Arc<dyn Driver> {
    let statements = Arc::clone(&lane.on_connect);
    let last = access.is_read_only().then_some("SET SESSION TRANSACTION READ ONLY");
    let mut options = template.options().clone().after_connect(move |connection, _| {
        let statements = Arc::clone(&statements);
        Box::pin(async move {
            if let Some(timeout) = statement_timeout {
                limit_statements(connection, timeout).await?;
            }
            run_all::<MySql>(connection, &statements, last).await
        })
    });
    if let Some(max) = lane.max_connections {
        options = options.max_connections(max);
    }
    let pool = options.connect_lazy_with(template.connect_options().as_ref().clone());
    let connection = SqlxMySqlConnector::from_sqlx_mysql_pool(pool);
    Arc::new(if access.is_read_only() {
        SeaOrmDriver::owned_read_only(connection)
    } else {
        SeaOrmDriver::owned(connection)
    })
}

/// MariaDB limits every statement, in seconds; MySQL limits SELECTs, in milliseconds. Each
/// refuses the other's variable, which is how they are told apart.
async fn limit_statements(connection: &mut sqlx::MySqlConnection, timeout: Duration) -> Result<(), sqlx::Error> {
    let mariadb = format!("SET SESSION max_statement_time = {}", timeout.as_secs_f64());
    match run_all::<MySql>(connection, &[mariadb], None).await {
        Err(sqlx::Error::Database(_)) => {
            let mysql = format!("SET SESSION max_execution_time = {}", timeout.as_millis());
            run_all::<MySql>(connection, &[mysql], None).await
        }
        done => done,
    }
}
