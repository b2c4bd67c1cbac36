//! The primary's log is emptied, and the numbers of its transactions begin again: a replica that has those numbers has
//! other transactions.

use std::time::Duration;

use anyhow::Result;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};
use tokio::time::sleep;

use super::comes_back_to_a_replica;
use crate::{
    item,
    servers::{Servers, on_each_database},
};

async fn no_read_is_from_before_the_reset_of_the_primarys_log(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    let session = db.session();
    for n in 0..40 {
        item::new("before", n).insert(&session).await?;
    }
    let id = item::new("x", 0).insert(&session).await?.id;
    servers.wait_caught_up().await?;
    comes_back_to_a_replica(&session, &servers.who()).await?;

    let reset = match servers {
        Servers::MySql(_) => "RESET BINARY LOGS AND GTIDS",
        _ => "RESET MASTER",
    };
    servers.primary().query_scalar(reset).await?;
    for amount in 1..=20 {
        let mut row = item::Entity::find_by_id(id).one(&db.write()).await?.expect("the row").into_active_model();
        row.amount = Set(amount);
        row.update(&session).await?;
        for _ in 0..5 {
            for reader in [&session, &db] {
                let seen = item::Entity::find_by_id(id).one(reader).await?.map(|row| row.amount);
                assert_eq!(seen, Some(amount), "{}", db.topology());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

on_each_database!(no_read_is_from_before_the_reset_of_the_primarys_log, [mariadb, mysql]);
