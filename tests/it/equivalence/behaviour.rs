//! Active models with hooks that run when they are saved, and nested ones that save each other.

use entity::{
    card, card::Tier, category, customer, journal, order, order::Status, order_line, pairing, product, review, tag,
};
use sea_orm::{
    ActiveHasMany, ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, EntityLoaderTrait, EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait, QueryFilter,
    prelude::{DateTimeUtc, Decimal, Uuid},
};

use super::scenario::{Conn, Scenario, Seen, scenarios, seen, told};

pub(super) fn writes<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        hooks_of_an_insert,
        hooks_of_an_update,
        hooks_of_a_delete,
        hooks_that_many_do_not_have,
        nested_insert,
        nested_save,
        nested_replace,
        nested_many_to_many,
        nested_of_the_same_entity,
        nested_failure,
        cascade_delete,
    ]
}

fn review(product: i32, customer: i32, stars: i32) -> review::ActiveModel {
    review::ActiveModel {
        product_id: Set(product),
        customer_id: Set(customer),
        stars: Set(stars),
        body: Set(Some("  room around  ".to_owned())),
        ..Default::default()
    }
}

async fn lines<C: Conn>(db: &C) -> Result<Vec<journal::Model>, sea_orm::DbErr> {
    journal::Entity::find().order_by_id_asc().all(db).await
}

async fn hooks_of_an_insert<C: Conn>(db: &C) -> Seen {
    let product = product::ActiveModel {
        name: Set("Reviewed at once".to_owned()),
        price_cents: Set(1),
        stock: Set(1),
        ..Default::default()
    };
    // The hook reads the product, which exists only for this statement.
    let product = product.insert(db).await?;
    seen![
        review(product.id, 5, 4).insert(db).await?,
        review(product.id, 6, 5).save(db).await?,
        told(review(product.id, 7, 6).insert(db).await),
        told(review(987_654, 7, 3).insert(db).await),
        told(review(product.id, 5, 1).insert(db).await),
        lines(db).await?,
    ]
}

async fn hooks_of_an_update<C: Conn>(db: &C) -> Seen {
    let of = |stars: i32| review::Entity::find().filter(review::Column::Stars.eq(stars)).order_by_id_asc();
    let mut changed = of(4).require_one(db).await?.into_active_model();
    changed.stars = Set(3);
    let mut refused = of(5).require_one(db).await?.into_active_model();
    refused.stars = Set(0);
    seen![changed.update(db).await?, told(refused.update(db).await), lines(db).await?]
}

async fn hooks_of_a_delete<C: Conn>(db: &C) -> Seen {
    let of = |stars: i32| review::Entity::find().filter(review::Column::Stars.eq(stars)).order_by_id_asc();
    let kept = of(5).require_one(db).await?;
    let gone = of(3).require_one(db).await?;
    let by_key = of(1).require_one(db).await?.into_active_model();
    seen![
        told(kept.delete(db).await.map(|done| done.rows_affected)),
        gone.delete(db).await?.rows_affected,
        by_key.delete(db).await?.rows_affected,
        lines(db).await?,
    ]
}

/// Statements about many rows have no hooks.
async fn hooks_that_many_do_not_have<C: Conn>(db: &C) -> Seen {
    let before = journal::Entity::find().count(db).await?;
    seen![
        review::Entity::insert_many([review(6, 6, 9), review(7, 8, 9)]).exec_without_returning(db).await?,
        review::Entity::delete_many().filter(review::Column::Stars.eq(9)).exec(db).await?.rows_affected,
        journal::Entity::find().count(db).await? - before,
    ]
}

fn new_customer(n: u32) -> customer::ActiveModelEx {
    customer::ActiveModel::builder()
        .set_name(format!("Nested {n}"))
        .set_email(format!("nested.{n}@example.com"))
        .set_city("Graz")
}

fn new_card(n: u128) -> card::ActiveModelEx {
    card::ActiveModel::builder()
        .set_id(Uuid::from_u128(n))
        .set_tier(Tier::Basic)
        .set_balance(Decimal::new(1, 2))
        .set_preferences(serde_json::json!({}))
        .set_issued_at(DateTimeUtc::from_timestamp(1_600_000_000, 0).unwrap_or_default())
        .set_is_active(true)
        .set_signature(vec![1])
}

async fn nested_insert<C: Conn>(db: &C) -> Seen {
    let inserted = new_customer(1)
        .set_card(new_card(101))
        .add_order(order::ActiveModel::builder().set_status(Status::Placed))
        .add_order(order::ActiveModel::builder().set_status(Status::Paid))
        .insert(db)
        .await?;
    let id = inserted.id;
    seen![inserted, customer::Entity::load().filter_by_id(id).with(card::Entity).with(order::Entity).one(db).await?,]
}

async fn nested_save<C: Conn>(db: &C) -> Seen {
    let order = order::ActiveModel::builder().set_status(Status::Placed).set_customer(new_customer(2)).save(db).await?;
    let mut customer = new_customer(3).save(db).await?;
    let saved = customer.clone();
    customer.orders.push(order::ActiveModel::builder().set_status(Status::Shipped));
    customer.city = Set("Linz".to_owned());
    let mut customer = customer.save(db).await?;
    customer.orders[0].status = Set(Status::Paid);
    let customer = customer.save(db).await?;
    seen![
        order,
        saved,
        customer.clone(),
        customer.find_related(order::Entity).all(db).await?,
        // Nothing has changed.
        customer.save(db).await?,
    ]
}

async fn nested_replace<C: Conn>(db: &C) -> Seen {
    let placed = || order::ActiveModel::builder().set_status(Status::Placed);
    let mut customer = new_customer(4).add_order(placed()).add_order(placed()).save(db).await?;
    customer.orders = ActiveHasMany::Replace(vec![order::ActiveModel::builder().set_status(Status::Shipped)]);
    let mut customer = customer.save(db).await?;
    let one = customer.find_related(order::Entity).order_by_id_asc().all(db).await?;
    customer.orders.replace_all([]);
    let customer = customer.save(db).await?;
    seen![one, customer.find_related(order::Entity).order_by_id_asc().all(db).await?]
}

async fn nested_many_to_many<C: Conn>(db: &C) -> Seen {
    let sale = tag::Entity::find_by_name("sale").require_one(db).await?;
    let mut product = product::ActiveModel::builder()
        .set_name("Nested product")
        .set_price_cents(7)
        .set_stock(7)
        .add_tag(sale.clone().into_active_model())
        .add_tag(tag::ActiveModel::builder().set_name("nested"))
        .save(db)
        .await?;
    let tags =
        async |product: &product::ActiveModelEx| product.find_related(tag::Entity).order_by_id_asc().all(db).await;
    let two = tags(&product).await?;
    product.tags = ActiveHasMany::Append(vec![tag::ActiveModel::builder().set_name("appended")]);
    let mut product = product.save(db).await?;
    let three = tags(&product).await?;
    product.tags =
        ActiveHasMany::Replace(vec![tag::ActiveModel { id: Unchanged(sale.id), name: Unchanged(sale.name) }.into()]);
    let product = product.save(db).await?;
    seen![two, three, tags(&product).await?]
}

async fn nested_of_the_same_entity<C: Conn>(db: &C) -> Seen {
    let product = |name: &str| product::ActiveModel::builder().set_name(name).set_price_cents(1).set_stock(1);
    let kettle = product("Kettle").add_companion(product("Lid")).save(db).await?;
    let handle = product("Handle").add_companion_of(kettle.clone()).save(db).await?;
    let leaf = category::ActiveModel::builder()
        .set_name("Kettles")
        .set_parent(category::ActiveModel::builder().set_name("Metal"))
        .save(db)
        .await?;
    seen![
        kettle,
        handle,
        leaf,
        product::Entity::load()
            .filter(product::COLUMN.name.is_in(["Kettle", "Handle", "Lid"]))
            .order_by_id_asc()
            .with(pairing::Entity)
            .all(db)
            .await?,
    ]
}

/// Nested models are saved as a whole or not at all.
async fn nested_failure<C: Conn>(db: &C) -> Seen {
    let taken = customer::ActiveModel::builder().set_name("Taken").set_email("tony.5@example.com").set_city("x");
    let order = order::ActiveModel::builder().set_status(Status::Placed).set_customer(taken);
    let bad =
        new_customer(5).add_order(order::ActiveModel::builder().set_status(Status::Placed).add_line(
            order_line::ActiveModel::builder().set_product_id(987_654).set_quantity(1).set_unit_price_cents(1),
        ));
    seen![
        told(order.save(db).await),
        told(bad.save(db).await),
        customer::Entity::find_by_email("nested.5@example.com").one(db).await?,
    ]
}

async fn cascade_delete<C: Conn>(db: &C) -> Seen {
    let customer = new_customer(6)
        .set_card(new_card(102))
        .add_order(order::ActiveModel::builder().set_status(Status::Placed))
        .insert(db)
        .await?;
    let id = customer.id;
    let plain = customer::Entity::find_by_id(id).require_one(db).await?;
    seen![
        told(plain.clone().delete(db).await.map(|done| done.rows_affected)),
        plain.cascade_delete(db).await?.rows_affected,
        customer::Entity::find_by_id(id).one(db).await?,
        card::Entity::find_by_id(Uuid::from_u128(102)).one(db).await?,
    ]
}
