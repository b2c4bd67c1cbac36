//! What happened in the shop, in its order.

use sea_orm::{ActiveValue::Set, DbErr, entity::prelude::*};
use serde::{Deserialize, Serialize};

/// A line of the journal, which programs exchange as JSON.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DeriveEntityModel)]
#[sea_orm(table_name = "journal")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub what: String,
}

impl ActiveModelBehavior for ActiveModel {}

/// Writes a line.
///
/// # Errors
/// What the database says.
pub async fn note<C: ConnectionTrait>(db: &C, what: impl Into<String>) -> Result<Model, DbErr> {
    ActiveModel { what: Set(what.into()), ..Default::default() }.insert(db).await
}
