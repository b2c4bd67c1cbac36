//! What is sold.

use sea_orm::entity::prelude::*;

/// A thing with a price.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "products")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    #[sea_orm(unique)]
    pub name: String,
    pub price_cents: i64,
    pub stock: i32,
    #[sea_orm(has_many)]
    pub lines: HasMany<super::order_line::Entity>,
    #[sea_orm(has_many, via = "order_line")]
    pub orders: HasMany<super::order::Entity>,
    #[sea_orm(has_many, via = "product_tag")]
    pub tags: HasMany<super::tag::Entity>,
    #[sea_orm(has_many)]
    pub reviews: HasMany<super::review::Entity>,
    #[sea_orm(self_ref, via = "pairing", from = "Product", to = "Companion")]
    pub companions: HasMany<Entity>,
    #[sea_orm(self_ref, via = "pairing", reverse)]
    pub companion_of: HasMany<Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
