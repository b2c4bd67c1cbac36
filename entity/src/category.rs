//! On which shelf a product stands.

use sea_orm::{LinkDef, entity::prelude::*};

/// A shelf, or a part of one: a tree.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "categories")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    #[sea_orm(unique)]
    pub name: String,
    pub parent_id: Option<i32>,
    #[sea_orm(self_ref, relation_enum = "Parent", relation_reverse = "Children", from = "parent_id", to = "id")]
    pub parent: BelongsTo<Option<Entity>>,
    #[sea_orm(self_ref, relation_enum = "Children", relation_reverse = "Parent")]
    pub children: HasMany<Entity>,
}

/// One step towards the root.
#[derive(Clone, Copy, Debug)]
pub struct ToParent;

impl Linked for ToParent {
    type FromEntity = Entity;
    type ToEntity = Entity;

    fn link(&self) -> Vec<LinkDef> {
        vec![Relation::Parent.def()]
    }
}

impl ActiveModelBehavior for ActiveModel {}
