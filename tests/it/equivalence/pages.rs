//! Pages, cursors and streams.

use entity::{card, customer, order, order_line, product};
use futures_util::{StreamExt, TryStreamExt};
use sea_orm::{
    ColumnTrait, DerivePartialModel, EntityTrait, FromQueryResult, JsonValue, Paginator, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, Statement,
};

use super::scenario::{Conn, Scenario, Seen, backend, scenarios, seen, told};

pub(super) fn reads<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        pages,
        pages_one_after_the_other,
        pages_of_other_selects,
        cursors,
        cursors_over_several_columns,
        cursors_over_two_models,
        cursors_into_something_else,
        streams,
        streams_of_statements,
        streams_that_are_left,
        streams_that_fail,
    ]
}

#[derive(Debug, DerivePartialModel)]
#[sea_orm(entity = "customer::Entity")]
#[expect(dead_code, reason = "shown")]
struct Name {
    id: i32,
    name: String,
}

#[derive(Debug, FromQueryResult)]
#[expect(dead_code, reason = "shown")]
struct City {
    city: String,
}

async fn pages<C: Conn>(db: &C) -> Seen {
    let pages = customer::Entity::find().order_by_id_asc().paginate(db, 4);
    seen![
        pages.num_items().await?,
        pages.num_pages().await?,
        pages.num_items_and_pages().await?,
        pages.fetch_page(0).await?,
        pages.fetch_page(2).await?,
        pages.fetch_page(9).await?,
        pages.fetch().await?,
        customer::Entity::find().filter(customer::Column::Id.lt(0)).paginate(db, 4).num_items_and_pages().await?,
    ]
}

async fn pages_one_after_the_other<C: Conn>(db: &C) -> Seen {
    let mut pages = customer::Entity::find().order_by_id_asc().paginate(db, 4);
    let mut sizes = Vec::new();
    while let Some(page) = pages.fetch_and_next().await? {
        sizes.push((pages.cur_page(), page.len()));
    }
    let mut by_hand: Paginator<'_, C, _> = customer::Entity::find().order_by_id_asc().paginate(db, 4);
    by_hand.set_page(1);
    by_hand.next();
    seen![sizes, by_hand.fetch().await?]
}

/// SeaORM's stream of pages is not `Send`, so this function is no scenario like the others.
pub(super) async fn stream_of_pages<C: Conn>(db: &C) -> Seen {
    let pages = customer::Entity::find().order_by_id_asc().paginate(db, 4).into_stream();
    seen![pages.try_collect::<Vec<_>>().await?]
}

async fn pages_of_other_selects<C: Conn>(db: &C) -> Seen {
    let raw = Statement::from_string(backend(db), "SELECT city FROM customers ORDER BY id");
    let raw = City::find_by_statement(raw).paginate(db, 2);
    seen![
        order::Entity::find()
            .find_also_related(customer::Entity)
            .order_by_asc(order::Column::Id)
            .paginate(db, 3)
            .fetch_page(1)
            .await?,
        customer::Entity::find().order_by_id_asc().into_partial_model::<Name>().paginate(db, 3).fetch_page(1).await?,
        customer::Entity::find().order_by_id_asc().into_json().paginate(db, 3).fetch_page(0).await?,
        raw.fetch_page(1).await?,
        raw.num_items().await?,
    ]
}

async fn cursors<C: Conn>(db: &C) -> Seen {
    let cursor = || customer::Entity::find().cursor_by(customer::Column::Id);
    seen![
        cursor().first(3).all(db).await?,
        cursor().last(3).all(db).await?,
        cursor().after(4).first(2).all(db).await?,
        cursor().before(4).last(2).all(db).await?,
        cursor().after(2).before(6).all(db).await?,
        cursor().desc().first(3).all(db).await?,
        cursor().desc().after(5).last(2).all(db).await?,
        cursor().asc().after(999).first(3).all(db).await?,
        customer::Entity::find()
            .filter(customer::Column::City.ne("Oslo"))
            .cursor_by(customer::Column::Name)
            .first(4)
            .all(db)
            .await?,
    ]
}

async fn cursors_over_several_columns<C: Conn>(db: &C) -> Seen {
    let cursor = || order_line::Entity::find().cursor_by((order_line::Column::OrderId, order_line::Column::ProductId));
    seen![
        cursor().first(4).all(db).await?,
        cursor().after((3, 4)).first(3).all(db).await?,
        cursor().before((3, 4)).last(3).all(db).await?,
        cursor().desc().after((5, 1)).first(3).all(db).await?,
    ]
}

async fn cursors_over_two_models<C: Conn>(db: &C) -> Seen {
    let both = || order::Entity::find().find_also_related(customer::Entity);
    seen![
        both().cursor_by(order::Column::Id).after(3).first(3).all(db).await?,
        both().cursor_by_other(customer::Column::Id).before(5).last(3).all(db).await?.len(),
        order_line::Entity::find()
            .find_also_related(order::Entity)
            .and_also_related(customer::Entity)
            .cursor_by((order_line::Column::OrderId, order_line::Column::ProductId))
            .after((2, 3))
            .first(2)
            .all(db)
            .await?,
    ]
}

async fn cursors_into_something_else<C: Conn>(db: &C) -> Seen {
    let cursor = || customer::Entity::find().cursor_by(customer::Column::Id);
    seen![
        cursor().into_json().after(2).first(2).all(db).await?,
        cursor().into_partial_model::<Name>().after(2).first(2).all(db).await?,
        cursor().into_model::<City>().after(2).first(2).all(db).await?,
    ]
}

async fn streams<C: Conn>(db: &C) -> Seen {
    let customers = || customer::Entity::find().order_by_id_asc();
    let also = || customer::Entity::find().find_also_related(card::Entity).order_by_asc(customer::Column::Id);
    seen![
        customers().stream(db).await?.try_collect::<Vec<_>>().await?,
        customers().stream_partial_model::<_, Name>(db).await?.try_collect::<Vec<_>>().await?,
        customers().into_json().stream(db).await?.try_collect::<Vec<_>>().await?,
        customers().into_model::<City>().stream(db).await?.try_collect::<Vec<_>>().await?,
        also().stream(db).await?.try_collect::<Vec<_>>().await?,
        customer::Entity::find()
            .find_both_related(card::Entity)
            .order_by_asc(customer::Column::Id)
            .stream(db)
            .await?
            .try_collect::<Vec<_>>()
            .await?,
        order_line::Entity::find()
            .find_also_related(order::Entity)
            .and_also_related(customer::Entity)
            .order_by_asc(order_line::Column::OrderId)
            .order_by_asc(order_line::Column::ProductId)
            .stream(db)
            .await?
            .try_collect::<Vec<_>>()
            .await?,
        customers().filter(customer::Column::Id.lt(0)).stream(db).await?.try_collect::<Vec<_>>().await?,
    ]
}

async fn streams_of_statements<C: Conn>(db: &C) -> Seen {
    let raw = || Statement::from_string(backend(db), "SELECT city FROM customers ORDER BY id");
    let query = product::Entity::find().order_by_id_asc().into_query();
    let mut names = Vec::new();
    let mut rows = Box::pin(db.stream(&query).await?);
    while let Some(row) = rows.try_next().await? {
        names.push(row.try_get::<String>("", "name")?);
    }
    drop(rows);
    let rows: Vec<_> = db.stream_raw(raw()).await?.map_ok(|row| row.column_names()).try_collect().await?;
    seen![
        names,
        rows,
        City::find_by_statement(raw()).stream(db).await?.try_collect::<Vec<_>>().await?,
        JsonValue::find_by_statement(raw()).stream(db).await?.try_collect::<Vec<_>>().await?,
        customer::Entity::find().from_raw_sql(all(backend(db))).stream(db).await?.try_collect::<Vec<_>>().await?,
    ]
}

fn all(backend: sea_orm::DbBackend) -> Statement {
    Statement::from_string(backend, "SELECT * FROM customers ORDER BY id")
}

/// A stream that is dropped after its first rows gives its connection back.
async fn streams_that_are_left<C: Conn>(db: &C) -> Seen {
    let mut first = Vec::new();
    for _ in 0..20 {
        let mut rows = customer::Entity::find().order_by_id_asc().stream(db).await?;
        first.push(rows.next().await.transpose()?.map(|customer| customer.id));
    }
    let limited = customer::Entity::find().order_by_id_asc().limit(2);
    seen![first, limited.stream(db).await?.try_collect::<Vec<_>>().await?]
}

async fn streams_that_fail<C: Conn>(db: &C) -> Seen {
    let missing = Statement::from_string(backend(db), "SELECT * FROM no_such_table");
    let opened = db.stream_raw(missing).await;
    let first = match opened {
        Ok(rows) => told(rows.map_ok(|row| row.column_names()).try_collect::<Vec<_>>().await),
        Err(error) => told(Err(error)),
    };
    seen![first]
}
