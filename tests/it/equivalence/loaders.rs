//! Loaders of related models, and SeaORM 2's entity loader.

use entity::{card, category, customer, order, order_line, pairing, product, review, tag};
use sea_orm::{ColumnTrait, EntityLoaderTrait, EntityTrait, LoaderTrait, QueryFilter, QueryOrder};

use super::scenario::{Conn, Scenario, Seen, scenarios, seen};

pub(super) fn reads<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        one_for_each,
        many_for_each,
        many_to_many,
        of_the_same_entity,
        of_nothing,
        entity_loader,
        entity_loader_nested,
        entity_loader_of_the_same_entity,
        entity_loader_pages,
    ]
}

async fn one_for_each<C: Conn>(db: &C) -> Seen {
    let orders = order::Entity::find().order_by_id_asc().all(db).await?;
    let customers = customer::Entity::find().order_by_id_asc().all(db).await?;
    seen![
        orders.load_one(customer::Entity, db).await?,
        orders.load_one(customer::Entity::find().filter(customer::Column::City.eq("Porto")), db).await?,
        customers.load_one(card::Entity, db).await?,
        orders.as_slice().load_one(customer::Entity, db).await?,
    ]
}

async fn many_for_each<C: Conn>(db: &C) -> Seen {
    let customers = customer::Entity::find().order_by_id_asc().all(db).await?;
    let orders = order::Entity::find().order_by_id_asc();
    seen![
        customers.load_many(orders.clone(), db).await?,
        customers.load_many(orders.filter(order::Column::Status.eq("paid")), db).await?,
        customers.load_many(review::Entity::find().order_by_id_asc(), db).await?,
    ]
}

async fn many_to_many<C: Conn>(db: &C) -> Seen {
    let orders = order::Entity::find().order_by_id_asc().all(db).await?;
    let products = || product::Entity::find().order_by_id_asc();
    let tags = tag::Entity::find().order_by_id_asc().all(db).await?;
    seen![
        orders.load_many_to_many(products(), order_line::Entity, db).await?,
        orders.load_many(products(), db).await?,
        tags.load_many(products(), db).await?,
    ]
}

async fn of_the_same_entity<C: Conn>(db: &C) -> Seen {
    let by_id = || category::Entity::find().order_by_asc(category::Column::Id);
    let categories = by_id().all(db).await?;
    let products = product::Entity::find().order_by_id_asc().all(db).await?;
    seen![
        categories.load_self(by_id(), category::Relation::Parent, db).await?,
        categories.load_self_many(by_id(), category::Relation::Parent, db).await?,
        categories.load_self_many(by_id(), category::Relation::Children, db).await?,
        products.load_self_via(pairing::Entity, db).await?,
        products.load_self_via_rev(pairing::Entity, db).await?,
    ]
}

/// Without rows no question is asked.
async fn of_nothing<C: Conn>(db: &C) -> Seen {
    let nobody: Vec<customer::Model> = Vec::new();
    seen![nobody.load_many(order::Entity, db).await?, nobody.load_one(card::Entity, db).await?]
}

async fn entity_loader<C: Conn>(db: &C) -> Seen {
    let customers = || customer::Entity::load().order_by_asc(customer::COLUMN.id);
    seen![
        customers().all(db).await?,
        customers().one(db).await?,
        customers().filter(customer::COLUMN.city.eq("Oslo")).all(db).await?,
        customer::Entity::load().filter_by_id(3).one(db).await?,
        customer::Entity::load().filter_by_email("alan.1@example.com").one(db).await?,
        customer::Entity::load().filter_by_id(999).with(order::Entity).one(db).await?,
        customers().with(card::Entity).all(db).await?,
        customers().with(card::Entity).with(order::Entity).with(review::Entity).all(db).await?,
        order_line::Entity::load().filter_by_id((1, 3)).with(order::Entity).with(product::Entity).one(db).await?,
    ]
}

async fn entity_loader_nested<C: Conn>(db: &C) -> Seen {
    seen![
        customer::Entity::load()
            .order_by_id_asc()
            .with((order::Entity, order_line::Entity))
            .with((review::Entity, product::Entity))
            .all(db)
            .await?,
        order::Entity::load()
            .order_by_id_asc()
            .with((customer::Entity, card::Entity))
            .with((order_line::Entity, product::Entity))
            .all(db)
            .await?,
        product::Entity::load()
            .order_by_id_asc()
            .with(tag::Entity)
            .with((review::Entity, customer::Entity))
            .all(db)
            .await?,
    ]
}

async fn entity_loader_of_the_same_entity<C: Conn>(db: &C) -> Seen {
    seen![
        product::Entity::load().order_by_id_asc().with(pairing::Entity).all(db).await?,
        product::Entity::load().order_by_id_asc().with(pairing::Entity::REVERSE).all(db).await?,
        category::Entity::load().order_by_id_asc().with(category::Relation::Parent).all(db).await?,
        category::Entity::load().order_by_id_asc().with(category::Relation::Children).all(db).await?,
    ]
}

async fn entity_loader_pages<C: Conn>(db: &C) -> Seen {
    let mut pages = customer::Entity::load().order_by_id_asc().with(order::Entity).paginate(db, 4);
    seen![
        pages.num_items().await?,
        pages.num_pages().await?,
        pages.num_items_and_pages().await?,
        pages.fetch_page(1).await?,
        pages.fetch_and_next().await?,
        pages.cur_page(),
        pages.fetch().await?,
    ]
}
