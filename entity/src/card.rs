//! Who comes back gets a card. It has a column of every type that databases store differently.

use sea_orm::entity::prelude::*;

/// An enumeration of the database itself, where it has such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "card_tier", rename_all = "snake_case")]
pub enum Tier {
    Basic,
    Silver,
    Gold,
}

/// The loyalty card of one customer. Its key is given by the shop, not by the database.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "cards")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    #[sea_orm(unique)]
    pub customer_id: i32,
    pub tier: Tier,
    #[sea_orm(column_type = "Decimal(Some((12, 2)))")]
    pub balance: Decimal,
    pub preferences: Json,
    pub issued_at: DateTimeUtc,
    pub birthday: Option<Date>,
    pub is_active: bool,
    pub signature: Vec<u8>,
    #[sea_orm(belongs_to, from = "customer_id", to = "id")]
    pub customer: BelongsTo<super::customer::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
