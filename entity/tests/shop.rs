//! The shop on SQLite in memory: the relations lead where they say.

use entity::{customer, order, order_line, product};
use sea_orm::{
    ActiveValue::Set, Database, DatabaseConnection, DbErr, EntityTrait, LoaderTrait, ModelTrait, PaginatorTrait,
    QueryFilter, QueryOrder,
};

async fn shop() -> Result<(DatabaseConnection, entity::Shop), DbErr> {
    let db = Database::connect("sqlite::memory:").await?;
    entity::create_schema(&db).await?;
    let shop = entity::seed(&db, 10).await?;
    Ok((db, shop))
}

#[tokio::test]
async fn a_schema_may_be_created_twice_and_keeps_its_rows() -> Result<(), DbErr> {
    let (db, shop) = shop().await?;
    entity::create_schema(&db).await?;
    assert_eq!(customer::Entity::find().count(&db).await?, 10);
    assert_eq!((shop.customers.len(), shop.products.len(), shop.orders.len()), (10, 8, 13));
    assert_eq!(shop.lines.len(), 4 * 6 + 1);
    Ok(())
}

#[tokio::test]
async fn customers_come_with_their_orders_and_orders_with_their_lines() -> Result<(), DbErr> {
    let (db, shop) = shop().await?;
    let found = customer::Entity::find()
        .find_with_related(order::Entity)
        .order_by_asc(customer::COLUMN.id)
        .order_by_asc(order::COLUMN.id)
        .all(&db)
        .await?;
    let customers: Vec<_> = found.iter().map(|(customer, _)| customer.clone()).collect();
    let orders: Vec<_> = found.into_iter().flat_map(|(_, orders)| orders).collect();
    assert_eq!((customers, &orders), (shop.customers.clone(), &shop.orders));

    let lines = orders.load_many(order_line::Entity, &db).await?;
    assert_eq!(lines.concat(), shop.lines);

    let owner = orders[0].find_related(customer::Entity).one(&db).await?;
    assert_eq!(owner.as_ref(), Some(&shop.customers[1]));
    Ok(())
}

#[tokio::test]
async fn orders_and_products_meet_through_the_lines() -> Result<(), DbErr> {
    let (db, shop) = shop().await?;
    let products = shop.orders.load_many(product::Entity, &db).await?;
    assert_eq!(products.iter().map(Vec::len).sum::<usize>(), shop.lines.len());

    let teapot = order::Entity::load()
        .with(customer::Entity)
        .with((order_line::Entity, product::Entity))
        .filter(order::COLUMN.id.eq(shop.orders[2].id))
        .one(&db)
        .await?;
    let teapot = teapot.expect("it was seeded");
    assert_eq!(teapot.customer.as_ref().map(|customer| customer.id), Some(shop.customers[2].id));
    assert_eq!(teapot.lines.iter().filter_map(|line| line.product.as_ref()).count(), 3);
    Ok(())
}

#[tokio::test]
async fn pages_cover_everything_once() -> Result<(), DbErr> {
    let (db, shop) = shop().await?;
    let pages = customer::Entity::find().order_by_asc(customer::COLUMN.id).paginate(&db, 4);
    assert_eq!(pages.num_pages().await?, 3);
    let mut seen = Vec::new();
    for page in 0..3 {
        seen.extend(pages.fetch_page(page).await?);
    }
    assert_eq!(seen, shop.customers);
    Ok(())
}

#[tokio::test]
async fn an_unknown_customer_cannot_order() -> Result<(), DbErr> {
    let (db, _) = shop().await?;
    let order = order::ActiveModel { customer_id: Set(999), status: Set(order::Status::Placed), ..Default::default() };
    let error = order::Entity::insert(order).exec(&db).await.expect_err("there is no customer 999");
    assert!(matches!(error.sql_err(), Some(sea_orm::SqlErr::ForeignKeyConstraintViolation(_))), "{error}");
    Ok(())
}
