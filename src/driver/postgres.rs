//! Read-only sessions on PostgreSQL: a start-up option of the connection. The option costs no round trip, composes with
//! every hook of the user, and holds for every physical connection.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection,
    sqlx::{PgPool, Postgres},
};

use super::{
    Access, ConnectProbe, Driver, LaneOptions,
    connect_probe::ask_server,
    open::{resize, run_hooks},
    warm::opened,
};

const BY_STATEMENT: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";

/// Makes a lane of a handle that SeaORM opened lazily.
pub(super) fn lane(
    connection: DatabaseConnection,
    lane: &LaneOptions,
    access: Access,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    if access == Access::Full && lane.on_connect.is_empty() && connect_probe.is_none() {
        let pool = connection.get_postgres_connection_pool().clone();
        return opened(connection, pool, lane, access);
    }
    sibling(connection.get_postgres_connection_pool(), lane, access, connect_probe)
}

/// A pool with the options of another, whose every connection is opened as the lane says.
pub(super) fn sibling(
    template: &PgPool,
    lane: &LaneOptions,
    access: Access,
    connect_probe: Option<&ConnectProbe>,
) -> Arc<dyn Driver> {
    let mut options = resize(template.options().clone(), lane);
    if !lane.on_connect.is_empty() || access == Access::ReadOnlyByStatement || connect_probe.is_some() {
        // Replaces the pool's own hook, which sqlx does not give out (documented at `NodeConfig::on_connect`).
        let statements = Arc::clone(&lane.on_connect);
        let last = access.is_read_only().then_some(BY_STATEMENT);
        let connect_probe = connect_probe.cloned();
        options = options.after_connect(move |connection, _| {
            let (statements, connect_probe) = (Arc::clone(&statements), connect_probe.clone());
            Box::pin(async move {
                if let Some(connect_probe) = &connect_probe {
                    ask_server::<Postgres>(connection, connect_probe).await?;
                }
                run_hooks::<Postgres>(connection, &statements, last).await
            })
        });
    }
    let mut connect = template.connect_options().as_ref().clone();
    if let Some(timeout) = lane.statement_timeout {
        connect = connect.options([("statement_timeout", timeout.as_millis().to_string())]);
    }
    if access == Access::ReadOnly {
        // Of two equal options the later wins, so an option of the user cannot undo this one.
        connect = connect.options([("default_transaction_read_only", "on")]);
    }
    let pool = options.connect_lazy_with(connect);
    opened(pool.clone().into(), pool, lane, access)
}
