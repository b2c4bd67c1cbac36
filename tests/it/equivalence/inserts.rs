//! Inserts: one, many, upserts, and the returned rows.

use entity::{card, card::Tier, category, customer, journal, order, order::Status, order_line, product, tag};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    EntityTrait, Inserter, IntoActiveModel, QueryFilter, QueryTrait, TryInsertResult,
    prelude::{DateTimeUtc, Decimal, Uuid},
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};

use super::scenario::{Conn, Scenario, Seen, scenarios, seen, told};

pub(super) fn writes<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        active_model,
        unusual_columns,
        insert_one,
        returning,
        composite_and_given_keys,
        many,
        many_returning,
        none_at_all,
        on_conflict_do_nothing,
        on_conflict_update,
        try_insert,
        from_json,
        from_select,
        hand_built,
        refused,
    ]
}

fn customer(n: u32) -> customer::ActiveModel {
    customer::ActiveModel {
        name: Set(format!("New {n}")),
        email: Set(format!("new.{n}@example.com")),
        city: Set("Bergen".to_owned()),
        ..Default::default()
    }
}

fn tag(name: &str) -> tag::ActiveModel {
    tag::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

fn product(name: &str, stock: i32) -> product::ActiveModel {
    product::ActiveModel { name: Set(name.to_owned()), price_cents: Set(100), stock: Set(stock), ..Default::default() }
}

/// Inserts and, without RETURNING, reads back.
async fn active_model<C: Conn>(db: &C) -> Seen {
    let inserted = customer(1).insert(db).await?;
    let order = order::ActiveModel { customer_id: Set(inserted.id), status: Set(Status::Placed), ..Default::default() };
    let order = order.insert(db).await?;
    seen![customer::Entity::find_by_id(inserted.id).one(db).await?, inserted, order, customer(2).save(db).await?]
}

async fn unusual_columns<C: Conn>(db: &C) -> Seen {
    let owner = customer(10).insert(db).await?;
    let card = card::ActiveModel {
        id: Set(Uuid::from_u128(77)),
        customer_id: Set(owner.id),
        tier: Set(Tier::Silver),
        balance: Set(Decimal::new(-12_345, 2)),
        preferences: Set(serde_json::json!({ "nested": [1, null, "x'; --"] })),
        issued_at: Set(DateTimeUtc::from_timestamp(1_600_000_000, 0).unwrap_or_default()),
        birthday: Set(None),
        is_active: Set(true),
        signature: Set(vec![0, 1, 2, 255]),
    };
    seen![card.insert(db).await?, card::Entity::find_by_id(Uuid::from_u128(77)).one(db).await?]
}

async fn insert_one<C: Conn>(db: &C) -> Seen {
    seen![
        customer::Entity::insert(customer(20)).exec(db).await?.last_insert_id,
        customer::Entity::insert(customer(21)).exec_without_returning(db).await?,
        journal::Entity::insert(journal::ActiveModel { what: Set("x".to_owned()), ..Default::default() })
            .exec(db)
            .await?
            .last_insert_id,
    ]
}

async fn returning<C: Conn>(db: &C) -> Seen {
    seen![
        customer::Entity::insert(customer(30)).exec_with_returning(db).await?,
        told(customer::Entity::insert(customer(31)).exec_with_returning_keys(db).await),
        told(customer::Entity::insert(customer(32)).exec_with_returning_many(db).await),
    ]
}

async fn composite_and_given_keys<C: Conn>(db: &C) -> Seen {
    let line = |product: i32| order_line::ActiveModel {
        order_id: Set(1),
        product_id: Set(product),
        quantity: Set(3),
        unit_price_cents: Set(5),
    };
    let given = category::ActiveModel { id: Set(900), name: Set("Given".to_owned()), parent_id: Set(None) };
    seen![
        line(7).insert(db).await?,
        order_line::Entity::insert(line(8)).exec(db).await?.last_insert_id,
        told(order_line::Entity::insert_many([line(5), line(6)]).exec_with_returning_keys(db).await),
        given.insert(db).await?,
    ]
}

async fn many<C: Conn>(db: &C) -> Seen {
    seen![
        customer::Entity::insert_many([customer(40), customer(41)]).exec(db).await?.last_insert_id,
        customer::Entity::insert_many([customer(42), customer(43), customer(44)]).exec_without_returning(db).await?,
        tag::Entity::insert_many((0..300).map(|n| tag(&format!("tag {n}")))).exec_without_returning(db).await?,
    ]
}

#[expect(deprecated, reason = "SeaORM still has it")]
async fn many_returning<C: Conn>(db: &C) -> Seen {
    seen![
        told(tag::Entity::insert_many([tag("r 1"), tag("r 2")]).exec_with_returning(db).await),
        told(tag::Entity::insert_many([tag("r 3"), tag("r 4")]).exec_with_returning_keys(db).await),
        told(tag::Entity::insert_many([tag("r 5"), tag("r 6")]).exec_with_returning_many(db).await),
    ]
}

#[expect(deprecated, reason = "SeaORM still has it")]
async fn none_at_all<C: Conn>(db: &C) -> Seen {
    let none = || tag::Entity::insert_many(Vec::<tag::ActiveModel>::new());
    seen![
        none().exec(db).await?.last_insert_id,
        told(none().exec_without_returning(db).await),
        told(none().exec_with_returning(db).await),
        matches!(none().on_empty_do_nothing().exec(db).await?, TryInsertResult::Empty),
    ]
}

async fn on_conflict_do_nothing<C: Conn>(db: &C) -> Seen {
    let existing = || customer::ActiveModel { email: Set("ada.0@example.com".to_owned()), ..customer(50) };
    let nothing = || OnConflict::column(customer::Column::Email).do_nothing_on([customer::Column::Id]).to_owned();
    seen![
        told(
            customer::Entity::insert(existing()).on_conflict(nothing()).exec(db).await.map(|done| done.last_insert_id)
        ),
        told(customer::Entity::insert(existing()).on_conflict(nothing()).exec_without_returning(db).await),
        told(
            customer::Entity::insert_many([existing(), customer(51)])
                .on_conflict(nothing())
                .exec(db)
                .await
                .map(|done| done.last_insert_id)
        ),
        told(customer::Entity::insert(existing()).on_conflict(nothing()).exec_with_returning(db).await),
        customer::Entity::find_by_email("ada.0@example.com").one(db).await?,
    ]
}

async fn on_conflict_update<C: Conn>(db: &C) -> Seen {
    let upsert = |n: i32| {
        let update = OnConflict::column(product::Column::Name)
            .update_columns([product::Column::Stock, product::Column::PriceCents])
            .to_owned();
        product::Entity::insert(product("Teapot", n)).on_conflict(update)
    };
    let add = OnConflict::column(product::Column::Name)
        .value(product::Column::Stock, Expr::col((product::Entity, product::Column::Stock)).add(1))
        .to_owned();
    let line = |quantity: i32| {
        let again = OnConflict::columns([order_line::Column::OrderId, order_line::Column::ProductId])
            .update_column(order_line::Column::Quantity)
            .to_owned();
        let line = order_line::ActiveModel {
            order_id: Set(2),
            product_id: Set(8),
            quantity: Set(quantity),
            unit_price_cents: Set(1),
        };
        order_line::Entity::insert(line).on_conflict(again)
    };
    seen![
        upsert(11).exec(db).await?.last_insert_id,
        upsert(12).exec_without_returning(db).await?,
        told(upsert(13).exec_with_returning(db).await),
        product::Entity::insert(product("Teapot", 0)).on_conflict(add).exec_without_returning(db).await?,
        product::Entity::find_by_name("Teapot").one(db).await?,
        line(1).exec(db).await?.last_insert_id,
        line(2).exec(db).await?.last_insert_id,
        order_line::Entity::find_by_id((2, 8)).one(db).await?,
    ]
}

async fn try_insert<C: Conn>(db: &C) -> Seen {
    let existing = || tag("sale");
    let what = |result: TryInsertResult<_>| match result {
        TryInsertResult::Empty => "empty",
        TryInsertResult::Conflicted => "conflicted",
        TryInsertResult::Inserted(_) => "inserted",
    };
    seen![
        told(tag::Entity::insert(existing()).on_conflict_do_nothing_on([tag::Column::Name]).exec(db).await.map(what)),
        told(
            tag::Entity::insert(tag("try 1"))
                .on_conflict_do_nothing_on([tag::Column::Name])
                .exec(db)
                .await
                .map(|done| done.last_insert_id().map_err(|error| error.to_string()))
        ),
        told(
            tag::Entity::insert_many([existing(), tag("try 2")])
                .on_conflict_do_nothing()
                .exec_without_returning(db)
                .await
                .map(|done| format!("{done:?}"))
        ),
        told(
            tag::Entity::insert(existing())
                .on_conflict_do_nothing()
                .exec_with_returning(db)
                .await
                .map(|done| format!("{done:?}"))
        ),
        told(
            tag::Entity::insert(tag("try 3"))
                .try_insert()
                .exec_with_returning(db)
                .await
                .map(|done| format!("{done:?}"))
        ),
    ]
}

async fn from_json<C: Conn>(db: &C) -> Seen {
    let line = journal::ActiveModel::from_json(serde_json::json!({ "what": "from json" }))?;
    let inserted = line.insert(db).await?;
    let mut copy = inserted.clone().into_active_model().reset_all();
    copy.set_from_json(serde_json::json!({ "what": "from json again" }))?;
    copy.id = NotSet;
    seen![inserted, copy.insert(db).await?]
}

async fn from_select<C: Conn>(db: &C) -> Seen {
    let select = customer::Entity::find().filter(customer::COLUMN.id.lt(4));
    let select = sea_orm::QuerySelect::select_only(select);
    let select = sea_orm::QuerySelect::column(select, customer::Column::Email).into_query();
    let mut insert = Query::insert();
    insert.into_table(tag::Entity).columns([tag::Column::Name]);
    let insert = insert.select_from(select).map_err(|error| sea_orm::DbErr::Custom(error.to_string()))?;
    seen![db.execute(insert).await?.rows_affected()]
}

async fn hand_built<C: Conn>(db: &C) -> Seen {
    let insert = |name: &str| {
        let mut insert = Query::insert();
        insert.into_table(tag::Entity).columns([tag::Column::Name]).values_panic([name.into()]);
        insert
    };
    let returned = if db.support_returning() {
        let row = db.query_one(insert("hand 1").returning_col(tag::Column::Id)).await?;
        let rows = db.query_all(insert("hand 2").returning_col(tag::Column::Name)).await?;
        (row.map(|row| row.try_get::<i32>("", "id")), rows.first().map(|row| row.try_get_by_index::<String>(0)))
    } else {
        (None, None)
    };
    let done = db.execute(&insert("hand 3")).await?;
    let inserter = Inserter::<tag::ActiveModel>::new(None, insert("hand 4"));
    seen![returned, done.rows_affected(), inserter.exec_without_returning(db).await?]
}

async fn refused<C: Conn>(db: &C) -> Seen {
    let existing = customer::ActiveModel { email: Set("ada.0@example.com".to_owned()), ..customer(60) };
    let of_nobody = order::ActiveModel { customer_id: Set(987_654), status: Set(Status::Paid), ..Default::default() };
    let again =
        order_line::ActiveModel { order_id: Set(1), product_id: Set(1), quantity: Set(1), unit_price_cents: Set(1) };
    let nameless = customer::ActiveModel { city: Set("x".to_owned()), ..Default::default() };
    seen![
        told(existing.clone().insert(db).await),
        told(customer::Entity::insert(existing.clone()).exec(db).await.map(|done| done.last_insert_id)),
        told(customer::Entity::insert_many([customer(61), existing]).exec(db).await.map(|done| done.last_insert_id)),
        told(of_nobody.insert(db).await),
        told(again.insert(db).await.map(|_| "the seed has no such line")),
        told(nameless.insert(db).await),
        // The rows before the error are kept, or not, as the database decides.
        customer::Entity::find_by_email("new.61@example.com").one(db).await?,
    ]
}
