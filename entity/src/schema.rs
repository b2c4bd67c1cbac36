//! The tables.

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, Schema};

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
    create_table(db, crate::order_line::Entity).await
}

async fn create_table<C: ConnectionTrait, E: EntityTrait>(db: &C, entity: E) -> Result<(), DbErr> {
    let mut table = Schema::new(db.get_database_backend()).create_table_from_entity(entity);
    db.execute(table.if_not_exists()).await?;
    Ok(())
}
