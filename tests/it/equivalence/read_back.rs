//! Without RETURNING, SeaORM writes and then reads its row back. Whether SeaORM finds the row must not depend on
//! how far the replicas are, nor on the consistency that a program chose for its own reads.

use std::time::Duration;

use anyhow::{Context, Result};
use entity::{category, customer, order_line, product, tag};
use futures_util::future::try_join_all;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    DbErr, EntityTrait, IntoActiveModel, PaginatorTrait,
    sea_query::OnConflict,
};
use sea_orm_resolver::Consistency;

use super::{
    scenario::Conn,
    stage::{CUSTOMERS, Stage},
};
use crate::servers::on_each_database;

const ROUNDS: u16 = 8;

/// How far the replicas are behind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behind {
    ForEver,
    ASecond,
}

/// Every call of SeaORM that gives back a written row.
async fn write_and_get_back<C: Conn>(db: &C, writer: &str, n: i32) -> Result<(), DbErr> {
    let name = |what: &str| format!("{writer}: {what} {n}");
    let tag = |what: &str| tag::ActiveModel { name: Set(name(what)), ..Default::default() };
    let inserted = tag("inserted").insert(db).await?;
    assert_eq!(inserted.name, name("inserted"));
    let mut changed = inserted.into_active_model();
    changed.name = Set(name("changed"));
    assert_eq!(changed.update(db).await?.name, name("changed"));
    let mut saved = tag("saved").save(db).await?;
    saved.name = Set(name("saved again"));
    assert_eq!(saved.save(db).await?.name, Unchanged(name("saved again")));
    let returned = tag::Entity::insert(tag("returned")).exec_with_returning(db).await?;
    assert_eq!(returned.name, name("returned"));
    let once_more = tag::ActiveModel { id: Unchanged(returned.id), name: Set(name("once more")) };
    assert_eq!(tag::Entity::update(once_more).exec(db).await?.name, name("once more"));

    let product = |stock: i32| product::ActiveModel {
        name: Set(name("product")),
        price_cents: Set(1),
        stock: Set(stock),
        ..Default::default()
    };
    let id = product(1).insert(db).await?.id;
    let update = OnConflict::column(product::Column::Name).update_column(product::Column::Stock).to_owned();
    let upsert = product::Entity::insert(product::ActiveModel { id: Set(id), ..product(2) }).on_conflict(update);
    assert_eq!(upsert.exec_with_returning(db).await?.stock, 2);

    // Keys that the database does not give.
    let category = category::ActiveModel { id: Set(50_000 + id), name: Set(name("category")), parent_id: Set(None) };
    assert_eq!(category.insert(db).await?.name, name("category"));
    let line =
        order_line::ActiveModel { order_id: Set(1), product_id: Set(id), quantity: Set(n), unit_price_cents: Set(1) };
    assert_eq!(line.insert(db).await?.quantity, n);

    let nested = customer::ActiveModel::builder().set_name(name("nested")).set_email(name("@")).set_city("x");
    assert_eq!(nested.insert(db).await?.name, name("nested"));
    Ok(())
}

async fn rounds<C: Conn>(db: &C, writer: &str) -> Result<()> {
    for n in 0..ROUNDS {
        write_and_get_back(db, writer, n.into()).await.with_context(|| format!("{writer}, round {n}"))?;
    }
    Ok(())
}

async fn a_written_row_comes_back(stage: &Stage, behind: Behind) -> Result<()> {
    stage.reset().await?;
    let db = stage.resolver().await?;
    match behind {
        Behind::ForEver => stage.pause().await?,
        Behind::ASecond => stage.delay(Duration::from_secs(1)).await?,
    }
    let plain = stage.plain().await?;
    rounds(&plain, "SeaORM alone").await?;
    rounds(&db, "&db").await?;
    let eventual = db.with_consistency(Consistency::Eventual);
    rounds(&eventual, "eventual").await?;
    rounds(&eventual.session(), "an eventual session").await?;
    rounds(&eventual.write(), "write()").await?;
    let task = eventual.clone();
    tokio::spawn(async move { rounds(&task, "an eventual task").await }).await??;
    let customers = customer::Entity::find().count(&plain).await?;
    assert_eq!(customers, u64::from(CUSTOMERS) + 6 * u64::from(ROUNDS), "all six wrote the same");
    if behind == Behind::ForEver {
        // The program's own reads are eventual all the same: the replicas have no new row.
        assert_eq!(customer::Entity::find().count(&eventual.session()).await?, u64::from(CUSTOMERS));
    }
    Ok(())
}

async fn a_written_row_comes_back_though_no_replica_has_it(stage: &Stage) -> Result<()> {
    a_written_row_comes_back(stage, Behind::ForEver).await
}

on_each_database!(a_written_row_comes_back_though_no_replica_has_it, Stage: [postgres, mariadb]);

#[tokio::test]
async fn mariadb_a_written_row_comes_back_though_replicas_lag() -> Result<()> {
    a_written_row_comes_back(&Stage::mariadb().await?, Behind::ASecond).await
}

/// Writes and reads of one session at the same time, as a session shared by tasks makes them: each write reads
/// back its own row.
async fn writes_at_the_same_time_come_back(stage: &Stage) -> Result<()> {
    stage.reset().await?;
    let db = stage.resolver().await?.with_consistency(Consistency::Eventual);
    stage.pause().await?;
    let session = db.session();
    let tasks = (0..4).map(|task| {
        let session = session.clone();
        tokio::spawn(async move {
            for n in 0..250 {
                let tag = tag::ActiveModel { name: Set(format!("shared {task} {n}")), ..Default::default() };
                tag.insert(&session).await.with_context(|| format!("task {task}, round {n}"))?;
            }
            anyhow::Ok(())
        })
    });
    for task in try_join_all(tasks).await? {
        task?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_writes_at_the_same_time_come_back() -> Result<()> {
    writes_at_the_same_time_come_back(&Stage::mariadb().await?).await
}
