//! A SeaORM program without changes, on replicas that are 50 ms late.

use std::time::Duration;

use anyhow::Result;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait,
    QueryFilter, sea_query::Expr,
};
use sea_orm_resolver::DatabaseConnection;
use tokio::task::JoinSet;

use super::{PATIENCE, comes_back_to_a_replica, served};
use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

const LATE: Duration = Duration::from_millis(50);
const ROUNDS: i32 = 30;

/// Inserts, finds, changes, finds; no other task uses `name`.
async fn insert_find_update_find(db: &DatabaseConnection, name: &str) -> Result<()> {
    let mine = || item::Entity::find().filter(item::Column::Name.eq(name));
    for n in 1..=ROUNDS {
        // SeaORM asks for the row by RETURNING, or reads it back where there is none.
        let inserted = item::new(name, n).insert(db).await?;
        assert_eq!(mine().one(db).await?.as_ref(), Some(&inserted), "round {n}");
        let mut changed = inserted.into_active_model();
        changed.amount = Set(-n);
        let updated = changed.update(db).await?;
        assert_eq!(updated.amount, -n);
        assert_eq!(item::Entity::find_by_id(updated.id).one(db).await?.as_ref(), Some(&updated), "round {n}");

        // And the ways that never ask for a row.
        item::Entity::insert(item::new(name, n)).exec_without_returning(db).await?;
        assert_eq!(mine().count(db).await?, 2, "round {n}");
        let raised = item::Entity::update_many().col_expr(item::Column::Amount, Expr::value(n + 1));
        raised.filter(item::Column::Name.eq(name)).exec(db).await?;
        let amounts: Vec<_> = mine().all(db).await?.iter().map(|item| item.amount).collect();
        assert_eq!(amounts, [n + 1, n + 1], "round {n}");
        updated.delete(db).await?;
        assert_eq!(mine().count(db).await?, 1, "round {n}");
        item::Entity::delete_many().filter(item::Column::Name.eq(name)).exec(db).await?;
        assert_eq!(mine().one(db).await?, None, "round {n}");
        if n % 5 == 0 {
            // Now and then the program thinks, and the replicas catch up.
            tokio::time::sleep(2 * LATE).await;
            assert_eq!(mine().count(db).await?, 0, "round {n}");
        }
    }
    Ok(())
}

async fn an_unchanged_program_is_right_on_late_replicas(servers: Servers) -> Result<()> {
    let db = servers.connect().await?;
    let _lag = servers.lag(LATE).await?;
    let mut tasks = JoinSet::new();
    for task in 0..6 {
        let db = if task < 3 { db.clone() } else { db.session() };
        tasks.spawn(async move { insert_find_update_find(&db, &format!("task {task}")).await });
    }
    insert_find_update_find(&db, "main").await?; // which is no task
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    for name in ["replica-0", "replica-1"] {
        wait_until(&format!("{name} serves"), PATIENCE, async || {
            item::Entity::find().count(&db).await?;
            Ok(served(&db, name) > 0)
        })
        .await?;
    }
    comes_back_to_a_replica(&db, &servers.who()).await
}

on_each_database!(an_unchanged_program_is_right_on_late_replicas, [postgres, mariadb], worker_threads = 2);
