//! A table small enough to say what a test is about.
#![expect(unreachable_pub, reason = "SeaORM's derive makes public items of a public model")]

use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, Schema, entity::prelude::*};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "item")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    pub name: String,
    pub amount: i32,
}

impl ActiveModelBehavior for ActiveModel {}

/// Creates the table.
pub(crate) async fn create_table(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let statement = Schema::new(db.get_database_backend()).create_table_from_entity(Entity);
    db.execute(&statement).await.map(drop)
}

/// A row that is not written yet.
pub(crate) fn new(name: impl Into<String>, amount: i32) -> ActiveModel {
    ActiveModel { name: Set(name.into()), amount: Set(amount), ..Default::default() }
}
