//! The shop on SQLite in memory: the relations lead where they say.

use entity::{card, category, customer, journal, order, order_line, pairing, product, product_tag, review, tag};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, Database, DatabaseConnection, DbErr, EntityTrait, IntoActiveModel, LoaderTrait,
    ModelTrait, PaginatorTrait, QueryFilter, QueryOrder,
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

#[tokio::test]
async fn details_fill_every_other_table_but_the_journal() -> Result<(), DbErr> {
    let (db, shop) = shop().await?;
    entity::seed_details(&db, &shop).await?;
    assert_eq!(category::Entity::find().count(&db).await?, 6);
    assert_eq!(tag::Entity::find().count(&db).await?, 4);
    assert_eq!(product_tag::Entity::find().count(&db).await?, 7);
    assert_eq!(pairing::Entity::find().count(&db).await?, 8);
    assert_eq!(card::Entity::find().count(&db).await?, 5);
    assert_eq!(review::Entity::find().count(&db).await?, 5);
    assert_eq!(journal::Entity::find().count(&db).await?, 0);

    let bought = shop.customers[2].find_linked(customer::ToBought).all(&db).await?;
    let orders = shop.orders.iter().filter(|order| order.customer_id == shop.customers[2].id);
    let lines = orders.flat_map(|order| shop.lines.iter().filter(|line| line.order_id == order.id));
    assert_eq!(bought.len(), lines.count());
    Ok(())
}

#[tokio::test]
async fn reviews_keep_their_rules_and_a_journal() -> Result<(), DbErr> {
    let (db, shop) = shop().await?;
    let review = |stars, body: &str| review::ActiveModel {
        product_id: Set(shop.products[0].id),
        customer_id: Set(shop.customers[0].id),
        stars: Set(stars),
        body: Set(Some(body.to_owned())),
        ..Default::default()
    };
    assert!(matches!(review(6, "").insert(&db).await, Err(DbErr::Custom(_))));
    let mut unknown = review(3, "");
    unknown.product_id = Set(999);
    assert!(matches!(unknown.insert(&db).await, Err(DbErr::RecordNotFound(_))));

    let kept = review(5, "  fine ").insert(&db).await?;
    assert_eq!(kept.body.as_deref(), Some("fine"));
    assert!(matches!(kept.clone().delete(&db).await, Err(DbErr::Custom(_))));
    let mut changed = kept.into_active_model();
    changed.stars = Set(4);
    changed.update(&db).await?.delete(&db).await?;
    let journal: Vec<String> = journal::Entity::find().all(&db).await?.into_iter().map(|entry| entry.what).collect();
    let customer = shop.customers[0].id;
    assert_eq!(
        journal,
        ["wrote 5 stars", "changed 4 stars", "took 4 stars back"].map(|what| format!("customer {customer} {what}"))
    );
    Ok(())
}
