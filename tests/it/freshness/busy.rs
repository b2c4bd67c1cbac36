//! A session that reads without a pause. At no moment could the primary be asked for its position after the
//! session's last read and before its next one.

use anyhow::Result;
use sea_orm::ActiveModelTrait;
use sea_orm_resolver::DatabaseConnection;

use super::{finds_without_a_pause_until_served_by_a_replica, in_a_task};
use crate::{
    item,
    servers::{Servers, on_each_database},
};

async fn a_busy_session_comes_back_to_the_replicas(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    let busy = async |db: DatabaseConnection| {
        let id = item::new("x", 1).insert(&db).await?.id;
        finds_without_a_pause_until_served_by_a_replica(&db, id).await
    };
    busy(db.session()).await?;
    in_a_task(async move { busy(db).await }).await?
}

on_each_database!(a_busy_session_comes_back_to_the_replicas, [postgres, mariadb]);
