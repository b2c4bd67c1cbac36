//! The shortest way through everything.

use anyhow::Result;
use sea_orm::{ActiveValue::Set, EntityTrait};

use crate::{
    item,
    servers::{Servers, served_reads},
};

async fn insert_then_find_then_spread(servers: Servers) -> Result<()> {
    let db = servers.connect().await?;
    println!("{}", db.topology());
    for n in 0..20 {
        let inserted = item::Entity::insert(item::ActiveModel {
            name: Set(format!("item {n}")),
            amount: Set(n),
            ..Default::default()
        })
        .exec(&db)
        .await?;
        let found = item::Entity::find_by_id(inserted.last_insert_id).one(&db).await?;
        assert_eq!(found.map(|item| item.amount), Some(n));
    }
    servers.wait_caught_up().await?;
    let reader = db.clone();
    tokio::spawn(async move {
        for _ in 0..500 {
            assert_eq!(item::Entity::find().all(&reader).await?.len(), 20);
        }
        anyhow::Ok(())
    })
    .await??;
    println!("{}", db.topology());
    let served = served_reads(&db);
    assert!(served["replica-0"] > 150 && served["replica-1"] > 150, "{served:?}");
    let answers = servers.who_answers(&db.read()).await?;
    println!("{answers}");
    Ok(())
}

#[tokio::test]
async fn postgres_insert_then_find_then_spread() -> Result<()> {
    insert_then_find_then_spread(Servers::postgres().await?).await
}

#[tokio::test]
async fn mariadb_insert_then_find_then_spread() -> Result<()> {
    insert_then_find_then_spread(Servers::mariadb().await?).await
}
