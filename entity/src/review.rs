//! What customers think. Saving one has consequences: each is noted in the journal, through the
//! connection that saves it.

use sea_orm::{ActiveValue::Set, DbErr, TryIntoModel, entity::prelude::*};

use super::journal;

/// Stars and a text, once per customer and product.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "reviews")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    #[sea_orm(unique_key = "opinion")]
    pub product_id: i32,
    #[sea_orm(unique_key = "opinion")]
    pub customer_id: i32,
    pub stars: i32,
    pub body: Option<String>,
    #[sea_orm(belongs_to, from = "product_id", to = "id")]
    pub product: BelongsTo<super::product::Entity>,
    #[sea_orm(belongs_to, from = "customer_id", to = "id")]
    pub customer: BelongsTo<super::customer::Entity>,
}

#[async_trait::async_trait]
impl ActiveModelBehavior for ActiveModel {
    /// One to five stars for a product that there is; the text is trimmed.
    async fn before_save<C: ConnectionTrait>(mut self, db: &C, insert: bool) -> Result<Self, DbErr> {
        if let Some(stars) = self.stars.try_as_ref().filter(|stars| !(1..=5).contains(*stars)) {
            return Err(DbErr::Custom(format!("{stars} is no number of stars")));
        }
        if insert && let Set(product) = self.product_id {
            // A read in the middle of a write: it has to see what the caller wrote before.
            super::product::Entity::find_by_id(product).require_one(db).await?;
        }
        if let Set(Some(body)) = &self.body {
            self.body = Set(Some(body.trim().to_owned()));
        }
        Ok(self)
    }

    async fn after_save<C: ConnectionTrait>(model: Model, db: &C, insert: bool) -> Result<Model, DbErr> {
        let verb = if insert { "wrote" } else { "changed" };
        journal::note(db, format!("customer {} {verb} {} stars", model.customer_id, model.stars)).await?;
        Ok(model)
    }

    /// Five stars are forever.
    async fn before_delete<C: ConnectionTrait>(self, db: &C) -> Result<Self, DbErr> {
        if let Some(id) = self.id.try_as_ref() {
            let review = Entity::find_by_id(*id).one(db).await?;
            if review.is_some_and(|review| review.stars == 5) {
                return Err(DbErr::Custom("a review of five stars stays".to_owned()));
            }
        }
        Ok(self)
    }

    async fn after_delete<C: ConnectionTrait>(self, db: &C) -> Result<Self, DbErr> {
        let what = match self.clone().try_into_model() {
            Ok(review) => format!("customer {} took {} stars back", review.customer_id, review.stars),
            Err(_) => "a review went".to_owned(),
        };
        journal::note(db, what).await?;
        Ok(self)
    }
}
