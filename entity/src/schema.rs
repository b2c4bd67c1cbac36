//! The tables.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, EntityTrait, Schema, sea_query::PostgresQueryBuilder};

/// Creates the tables that are missing, in the order of their foreign keys.
///
/// Works on PostgreSQL, MySQL, MariaDB and SQLite; drops and changes nothing, so it may run twice.
/// Any connection will do: SeaORM's own, the resolver's, or a transaction of either.
///
/// # Errors
/// What the database says.
pub async fn create_schema<C: ConnectionTrait>(db: &C) -> Result<(), DbErr> {
    create_table(db, crate::customer::Entity).await?;
    create_table(db, crate::product::Entity).await?;
    create_table(db, crate::order::Entity).await?;
    create_table(db, crate::order_line::Entity).await?;
    create_table(db, crate::category::Entity).await?;
    create_table(db, crate::tag::Entity).await?;
    create_table(db, crate::product_tag::Entity).await?;
    create_table(db, crate::pairing::Entity).await?;
    create_enums(db, crate::card::Entity).await?;
    create_table(db, crate::card::Entity).await?;
    create_table(db, crate::review::Entity).await?;
    create_table(db, crate::journal::Entity).await
}

/// The types of an entity's enumerations, which PostgreSQL wants to know before the table.
async fn create_enums<C: ConnectionTrait, E: EntityTrait>(db: &C, entity: E) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for create in Schema::new(DbBackend::Postgres).create_enum_from_entity(entity) {
        // There is no CREATE TYPE IF NOT EXISTS; and to ask first would race with whoever creates it too.
        let create = create.to_string(PostgresQueryBuilder);
        let unless_there = format!("DO $$ BEGIN {create}; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
        db.execute_unprepared(&unless_there).await?;
    }
    Ok(())
}

async fn create_table<C: ConnectionTrait, E: EntityTrait>(db: &C, entity: E) -> Result<(), DbErr> {
    let mut table = Schema::new(db.get_database_backend()).create_table_with_index_from_entity(entity);
    db.execute(table.if_not_exists()).await?;
    Ok(())
}
