//! Who buys.

use sea_orm::{LinkDef, entity::prelude::*};

/// A person with an address.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "customers")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    pub name: String,
    #[sea_orm(unique)]
    pub email: String,
    pub city: String,
    #[sea_orm(has_many)]
    pub orders: HasMany<super::order::Entity>,
    #[sea_orm(has_one)]
    pub card: HasOne<super::card::Entity>,
    #[sea_orm(has_many)]
    pub reviews: HasMany<super::review::Entity>,
}

/// What a customer has bought, by way of orders and their lines.
#[derive(Clone, Copy, Debug)]
pub struct ToBought;

impl Linked for ToBought {
    type FromEntity = Entity;
    type ToEntity = super::product::Entity;

    fn link(&self) -> Vec<LinkDef> {
        vec![
            super::order::Relation::Customer.def().rev(),
            super::order_line::Relation::Order.def().rev(),
            super::order_line::Relation::Product.def(),
        ]
    }
}

impl ActiveModelBehavior for ActiveModel {}
