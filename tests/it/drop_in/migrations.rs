//! `Migrator` and schema sync run on the facade as they are, replicas or not.
#![expect(elided_lifetimes_in_paths, reason = "SeaORM's trait leaves them out, and an implementation has to")]

use std::time::Duration;

use anyhow::Result;
use entity::{customer, order, product};
use sea_orm::{ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, Schema, TransactionTrait};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait::async_trait};
use sea_orm_resolver::{Builder, DatabaseConnection};

use crate::{
    files::NamedFiles,
    item,
    servers::{Servers, on_each_database},
};

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateItems), Box::new(FillItems)]
    }
}

struct CreateItems;

impl MigrationName for CreateItems {
    fn name(&self) -> &str {
        "m1_create_items"
    }
}

#[async_trait]
impl MigrationTrait for CreateItems {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let schema = Schema::new(manager.get_database_backend());
        manager.create_table(schema.create_table_from_entity(item::Entity)).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(sea_orm::sea_query::Table::drop().table(item::Entity).to_owned()).await
    }
}

/// Rows by text, by entity, and in a transaction of its own.
struct FillItems;

impl MigrationName for FillItems {
    fn name(&self) -> &str {
        "m2_fill_items"
    }
}

#[async_trait]
impl MigrationTrait for FillItems {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        assert!(manager.has_table("item").await?);
        db.execute_unprepared("INSERT INTO item (name, amount) VALUES ('text', 1)").await?;
        item::new("entity", 2).insert(db).await?;
        let transaction = manager.begin().await?;
        item::new("transaction", 3).insert(transaction.get_connection()).await?;
        transaction.commit().await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        item::Entity::delete_many().exec(manager.get_connection()).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }
}

/// Reads go to the replicas, where no write ever arrives. The exception is a session's floor, which lasts longer
/// than any test.
async fn reads_on_replicas(builder: Builder) -> Result<DatabaseConnection, DbErr> {
    const LONG: Duration = Duration::from_secs(3_600);
    builder.primary_read_share(0.0).stick_after_write(LONG).unknown_outcome_hold(LONG).connect().await
}

/// Rows and pending migrations, each as the session sees them.
async fn state(db: &DatabaseConnection) -> Result<(u64, usize)> {
    let pending = Migrator::get_pending_migrations_read_only(db).await?.len();
    Ok((item::Entity::find().count(db).await?, pending))
}

async fn check_migrations(db: &DatabaseConnection) -> Result<()> {
    Migrator::up(db, Some(1)).await?;
    assert_eq!(state(db).await?, (0, 1));
    Migrator::up(db, None).await?;
    assert_eq!(state(db).await?, (3, 0));
    Migrator::status(db).await?;
    assert_eq!(Migrator::get_applied_migrations(db).await?.len(), 2);
    Migrator::down(db, Some(1)).await?;
    assert_eq!(state(db).await?, (0, 1));
    Migrator::refresh(db).await?;
    assert_eq!(state(db).await?, (3, 0));
    Migrator::fresh(&db.write()).await?;
    assert_eq!(state(db).await?, (3, 0));
    Migrator::reset(db).await?;
    let transaction = db.begin().await?;
    Migrator::up(&transaction, Some(1)).await?;
    transaction.commit().await?;
    assert_eq!(state(db).await?, (0, 1));
    Migrator::down(db.begin().await?, None).await.expect("a transaction that is given away is dropped");
    Ok(())
}

#[tokio::test]
async fn sqlite_migrations_run() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = reads_on_replicas(files.builder()).await?;
    db.execute_unprepared("DROP TABLE item").await?;
    check_migrations(&db.session()).await
}

async fn migrations_run(servers: Servers) -> Result<()> {
    let db = reads_on_replicas(servers.builder()).await?;
    servers.pause_replay().await?;
    check_migrations(&db).await
}

on_each_database!(migrations_run, [postgres, mariadb]);

/// The replicas lack the primary's tables, and reads of a session that has written nothing could go to the
/// replicas.
async fn the_schema_is_compared_with_the_primarys(db: &DatabaseConnection) -> Result<()> {
    // Created over another connection.
    let plain = db.primary();
    plain.get_schema_builder().register(customer::Entity).register(order::Entity).apply(&plain).await?;
    for connection in [db.session(), db.session()] {
        assert_eq!(discovered(&connection, "customers").await, Ok(0));
        connection.get_schema_builder().register(customer::Entity).register(order::Entity).sync(&connection).await?;
        connection.get_schema_registry("entity::*").sync(&connection).await?;
        assert_eq!(product::Entity::find().count(&connection).await?, 0, "what it found, the session sees");
    }
    let write = db.write();
    write.get_schema_registry("entity::*").sync(&write).await?;
    let transaction = db.begin().await?;
    db.get_schema_registry("entity::*").sync(&transaction).await?;
    transaction.commit().await?;
    Ok(())
}

#[tokio::test]
async fn sqlite_schema_sync_compares_with_the_primary() -> Result<()> {
    let files = NamedFiles::new().await?;
    the_schema_is_compared_with_the_primarys(&reads_on_replicas(files.builder()).await?).await
}

async fn schema_sync_compares_with_the_primary(servers: Servers) -> Result<()> {
    let db = reads_on_replicas(servers.builder()).await?;
    servers.pause_replay().await?;
    the_schema_is_compared_with_the_primarys(&db).await
}

on_each_database!(schema_sync_compares_with_the_primary, [postgres, mariadb]);

/// The questions of schema discovery; the text names a table.
async fn discovered(db: &impl sea_schema::Connection, table: &str) -> Result<usize, String> {
    let rows = db.query_all_raw(format!("SELECT * FROM {table}")).await;
    rows.map(|rows| rows.len()).map_err(|error| error.to_string())
}

/// SeaORM's own way to read an error takes it apart, which panics when another owner keeps a copy.
#[tokio::test]
async fn an_error_of_schema_discovery_comes_through() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = files.builder().connect().await?;
    assert_eq!(discovered(&db, "who").await, Ok(1));
    let error = discovered(&db, "nowhere").await.expect_err("no such table");
    assert!(error.contains("nowhere"), "{error}");
    let error = discovered(&db.begin().await?, "nowhere").await.expect_err("no such table");
    assert!(error.contains("nowhere"), "{error}");
    db.close_by_ref().await?;
    discovered(&db, "who").await.expect_err("it is closed");
    discovered(&DatabaseConnection::default(), "who").await.expect_err("it is connected to nothing");
    Ok(())
}
