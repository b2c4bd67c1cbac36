//! Read-only sessions on MySQL and MariaDB: a statement on each new physical connection, in the pool's `after_connect`.
//! The resolver sets that one hook; every other pool option of the user stays.

use std::{sync::Arc, time::Duration};

use sea_orm::{
    DatabaseConnection,
    sqlx::{self, MySql, MySqlPool},
};

use super::{
    Access, ConnectProbe, Driver, LaneOptions,
    connect_probe::ask_server,
    open::{resize, run_all, run_hooks},
    warm::opened,
};

/// Makes a lane of a handle that SeaORM opened lazily.
pub(super) fn lane(
    connection: DatabaseConnection,
    lane: &LaneOptions,
    access: Access,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    if access == Access::Full
        && lane.on_connect.is_empty()
        && lane.statement_timeout.is_none()
        && connect_probe.is_none()
    {
        let pool = connection.get_mysql_connection_pool().clone();
        return opened(connection, pool, lane, access);
    }
    sibling(connection.get_mysql_connection_pool(), lane, access, connect_probe)
}

/// A pool with the options of another, whose every connection is opened as the lane says.
pub(super) fn sibling(
    template: &MySqlPool,
    lane: &LaneOptions,
    access: Access,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    let statement_timeout = lane.statement_timeout;
    let statements = Arc::clone(&lane.on_connect);
    let last = access.is_read_only().then_some("SET SESSION TRANSACTION READ ONLY");
    let connect_probe = connect_probe.cloned();
    let options = resize(template.options().clone(), lane).after_connect(move |connection, _| {
        let (statements, connect_probe) = (Arc::clone(&statements), connect_probe.clone());
        Box::pin(async move {
            if let Some(connect_probe) = &connect_probe {
                ask_server::<MySql>(connection, connect_probe).await?;
            }
            if let Some(timeout) = statement_timeout {
                limit_statements(connection, timeout).await?;
            }
            run_hooks::<MySql>(connection, &statements, last).await
        })
    });
    let pool = options.connect_lazy_with(template.connect_options().as_ref().clone());
    opened(pool.clone().into(), pool, lane, access)
}

/// MariaDB limits every statement, in seconds; MySQL limits SELECTs, in milliseconds. Each server refuses the other's
/// variable, which tells them apart.
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
