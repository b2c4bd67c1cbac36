//! What goes well with what.

use sea_orm::entity::prelude::*;

/// Two products, of which the second is offered to whoever takes the first.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pairings")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub product_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub companion_id: i32,
    #[sea_orm(belongs_to, from = "product_id", to = "id")]
    pub product: BelongsTo<super::product::Entity>,
    #[sea_orm(belongs_to, relation_enum = "Companion", from = "companion_id", to = "id")]
    pub companion: BelongsTo<super::product::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
