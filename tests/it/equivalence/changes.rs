//! Updates, deletes and saves.

use entity::{category, customer, journal, order, order::Status, order_line, product, product_tag, tag};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, DbErr, Deleter, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter, TryIntoModel,
    sea_query::{Expr, ExprTrait, Query},
};

use super::scenario::{Conn, Scenario, Seen, scenarios, seen, told};

pub(super) fn writes<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        update_a_model,
        update_of_nothing,
        update_one,
        update_many,
        update_many_returning,
        set_from_json,
        save,
        delete_a_model,
        delete_one,
        delete_many,
        delete_returning,
        delete_rows_that_others_reference,
        hand_built,
        read_change_read,
    ]
}

async fn update_a_model<C: Conn>(db: &C) -> Seen {
    let customer = customer::Entity::find_by_id(2).require_one(db).await?;
    let mut changed = customer.clone().into_active_model();
    changed.city = Set("Turku".to_owned());
    let updated = changed.update(db).await?;
    let mut all = updated.clone().into_active_model().reset_all();
    all.name = Set("Renamed".to_owned());
    let mut line = order_line::Entity::find().order_by_id_asc().require_one(db).await?.into_active_model();
    line.quantity = Set(99);
    seen![
        customer,
        updated,
        all.update(db).await?,
        line.update(db).await?,
        customer::Entity::find_by_id(2).one(db).await?,
    ]
}

/// Updates that change nothing, or match no row.
async fn update_of_nothing<C: Conn>(db: &C) -> Seen {
    let unchanged = customer::Entity::find_by_id(3).require_one(db).await?.into_active_model();
    let nobody = customer::ActiveModel { id: Unchanged(987_654), city: Set("x".to_owned()), ..Default::default() };
    let keyless = customer::ActiveModel { city: Set("x".to_owned()), ..Default::default() };
    seen![
        unchanged.clone().update(db).await?,
        told(unchanged.update_without_returning(db).await.map(|done| done.rows_affected)),
        told(nobody.clone().update(db).await),
        told(nobody.update_without_returning(db).await.map(|done| done.rows_affected)),
        told(keyless.update(db).await),
    ]
}

async fn update_one<C: Conn>(db: &C) -> Seen {
    let change =
        |id: i32, stock: i32| product::ActiveModel { id: Unchanged(id), stock: Set(stock), ..Default::default() };
    let with_filter = |stock: i32| {
        let one = product::Entity::update(change(2, stock)).validate()?;
        Ok::<_, DbErr>(one.filter(product::Column::Stock.lt(1_000)))
    };
    seen![
        product::Entity::update(change(1, 5)).exec(db).await?,
        product::Entity::update(change(1, 6)).exec_without_returning(db).await?.rows_affected,
        told(product::Entity::update(change(987_654, 6)).exec(db).await),
        with_filter(2_000)?.exec(db).await?,
        told(with_filter(3_000)?.exec(db).await),
        change(3, 7).update_without_returning(db).await?.rows_affected,
    ]
}

async fn update_many<C: Conn>(db: &C) -> Seen {
    seen![
        product::Entity::update_many()
            .col_expr(product::Column::Stock, Expr::col(product::Column::Stock).add(10))
            .filter(product::Column::PriceCents.lt(1_300))
            .exec(db)
            .await?
            .rows_affected,
        order::Entity::update_many()
            .set(order::ActiveModel { status: Set(Status::Shipped), ..Default::default() })
            .filter(order::Column::Status.eq(Status::Paid))
            .exec(db)
            .await?
            .rows_affected,
        product::Entity::update_many()
            .col_expr(product::Column::Stock, Expr::value(1))
            .filter(product::Column::Id.lt(0))
            .exec(db)
            .await?
            .rows_affected,
        told(product::Entity::update_many().exec(db).await.map(|done| done.rows_affected)),
    ]
}

async fn update_many_returning<C: Conn>(db: &C) -> Seen {
    let updated = product::Entity::update_many()
        .col_expr(product::Column::PriceCents, Expr::col(product::Column::PriceCents).mul(2))
        .filter(product::Column::Id.is_in([1, 2]))
        .exec_with_returning(db)
        .await
        .map(|mut products| {
            products.sort_by_key(|product| product.id);
            products
        });
    seen![told(updated), product::Entity::find_by_id(1).one(db).await?]
}

async fn set_from_json<C: Conn>(db: &C) -> Seen {
    let mut line = journal::note(db, "as it was").await?.into_active_model();
    line.set_from_json(serde_json::json!({ "what": "as JSON has it" }))?;
    seen![line.update(db).await?]
}

async fn save<C: Conn>(db: &C) -> Seen {
    let new = tag::ActiveModel { name: Set("saved".to_owned()), ..Default::default() };
    let mut saved = new.save(db).await?;
    let inserted = saved.clone().try_into_model()?;
    saved.name = Set("saved again".to_owned());
    let saved = saved.save(db).await?;
    seen![inserted, saved.clone(), saved.clone().save(db).await?, saved.try_into_model()?]
}

async fn delete_a_model<C: Conn>(db: &C) -> Seen {
    let doomed = |name: &str| tag::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
    let (first, second) = (doomed("doomed 1").insert(db).await?, doomed("doomed 2").insert(db).await?);
    let line = order_line::Entity::find().order_by_id_asc().require_one(db).await?;
    seen![
        first.clone().delete(db).await?.rows_affected,
        first.clone().delete(db).await?.rows_affected,
        second.into_active_model().delete(db).await?.rows_affected,
        tag::Entity::find_by_id(first.id).one(db).await?,
        line.delete(db).await?.rows_affected,
    ]
}

async fn delete_one<C: Conn>(db: &C) -> Seen {
    let doomed = |name: &str| tag::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
    let (first, second) = (doomed("doomed 3").insert(db).await?, doomed("doomed 4").insert(db).await?);
    let pair = product_tag::Entity::find().order_by_id_asc().require_one(db).await?;
    doomed("doomed 5").insert(db).await?;
    seen![
        tag::Entity::delete_by_name("doomed 5").exec(db).await?.rows_affected,
        tag::Entity::delete(first.into_active_model()).exec(db).await?.rows_affected,
        tag::Entity::delete_by_id(second.id).exec(db).await?.rows_affected,
        tag::Entity::delete_by_id(second.id).exec(db).await?.rows_affected,
        product_tag::Entity::delete_by_id((pair.product_id, pair.tag_id)).exec(db).await?.rows_affected,
        told(
            tag::Entity::delete(tag::ActiveModel { ..Default::default() })
                .exec(db)
                .await
                .map(|done| done.rows_affected)
        ),
    ]
}

async fn delete_many<C: Conn>(db: &C) -> Seen {
    let doomed = (0..6).map(|n| tag::ActiveModel { id: Set(700 + n), name: Set(format!("doomed {n} of many")) });
    tag::Entity::insert_many(doomed).exec_without_returning(db).await?;
    seen![
        tag::Entity::delete_many().filter(tag::Column::Id.is_in([700, 701, 999])).exec(db).await?.rows_affected,
        tag::Entity::delete_many().filter_by_ids([702, 703]).exec(db).await?.rows_affected,
        tag::Entity::delete_many().filter(tag::Column::Id.lt(0)).exec(db).await?.rows_affected,
        tag::Entity::find().filter(tag::Column::Id.between(700, 710)).order_by_id_asc().all(db).await?,
    ]
}

async fn delete_returning<C: Conn>(db: &C) -> Seen {
    let doomed = (0..3).map(|n| tag::ActiveModel { id: Set(800 + n), name: Set(format!("doomed {n} of returned")) });
    tag::Entity::insert_many(doomed).exec_without_returning(db).await?;
    let many = tag::Entity::delete_many().filter(tag::Column::Id.is_in([801, 802])).exec_with_returning(db).await;
    seen![
        told(tag::Entity::delete_by_id(800).exec_with_returning(db).await),
        told(tag::Entity::delete_by_id(800).exec_with_returning(db).await),
        told(many.map(|mut tags| {
            tags.sort_by_key(|tag| tag.id);
            tags
        })),
    ]
}

/// Foreign keys: one refuses, one cascades.
async fn delete_rows_that_others_reference<C: Conn>(db: &C) -> Seen {
    let buyer = customer::Entity::find_by_id(2).require_one(db).await?;
    let orders = buyer.find_related(order::Entity).order_by_id_asc().all(db).await?;
    seen![
        told(product::Entity::delete_by_id(1).exec(db).await.map(|done| done.rows_affected)),
        orders.len(),
        buyer.delete(db).await?.rows_affected,
        order::Entity::find().filter(order::Column::CustomerId.eq(2)).all(db).await?,
    ]
}

async fn hand_built<C: Conn>(db: &C) -> Seen {
    let mut update = Query::update();
    update.table(category::Entity).value(category::Column::Name, "Ware!").and_where(category::Column::Name.eq("Ware"));
    let mut delete = Query::delete();
    delete.from_table(category::Entity).and_where(category::Column::Name.eq("Cups"));
    let deleted = if db.support_returning() {
        let row = db.query_one(delete.returning_col(category::Column::Name)).await?;
        row.map(|row| row.try_get_by_index::<String>(0)).transpose()?
    } else {
        db.execute(&delete).await?.rows_affected().to_string().into()
    };
    let mut none = Query::delete();
    none.from_table(category::Entity).and_where(category::Column::Id.lt(0));
    seen![db.execute(&update).await?.rows_affected(), deleted, Deleter::new(none).exec(db).await?.rows_affected,]
}

/// Each read sees the change before it.
async fn read_change_read<C: Conn>(db: &C) -> Seen {
    let mut stock = Vec::new();
    for n in 0..10 {
        let mut product = product::Entity::find_by_id(5).require_one(db).await?.into_active_model();
        stock.push(product.stock.clone().take());
        product.stock = Set(n);
        product::Entity::update(product).exec_without_returning(db).await?;
    }
    seen![stock, product::Entity::find_by_id(5).one(db).await?]
}
