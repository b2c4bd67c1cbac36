//! Something to sell, and people who bought it.

use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, QueryOrder};

use crate::{
    customer,
    order::{self, Status},
    order_line, product,
};

/// Name and price in cents.
const PRODUCTS: [(&str, i64); 8] = [
    ("Oolong tea", 1_490),
    ("Sencha tea", 1_290),
    ("Teapot", 4_900),
    ("Teacup", 890),
    ("Bamboo whisk", 2_350),
    ("Tea tray", 6_700),
    ("Sugar tongs", 1_150),
    ("Sand timer", 790),
];
const NAMES: [&str; 6] = ["Ada", "Alan", "Barbara", "Edsger", "Grace", "Tony"];
const CITIES: [&str; 5] = ["Lisbon", "Oslo", "Porto", "Riga", "Vienna"];
const STATUSES: [Status; 3] = [Status::Placed, Status::Paid, Status::Shipped];

/// Rows per INSERT: every database takes fewer than 2^15 parameters in one.
const BATCH: usize = 1_000;

/// What [`seed`] put into the tables, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shop {
    pub customers: Vec<customer::Model>,
    pub products: Vec<product::Model>,
    pub orders: Vec<order::Model>,
    pub lines: Vec<order_line::Model>,
}

/// Fills an empty shop, always in the same way: eight products, and `customers` customers of whom
/// the n-th has n modulo 4 orders, of one to three lines each.
///
/// The keys are given by the database and read back through `db`, which must see its own writes.
/// It is no transaction; hand one over to have one.
///
/// # Errors
/// What the database says, for example that there are such customers already.
pub async fn seed<C: ConnectionTrait>(db: &C, customers: usize) -> Result<Shop, DbErr> {
    insert(db, PRODUCTS.iter().map(product)).await?;
    let products = product::Entity::find().order_by_asc(product::COLUMN.id).all(db).await?;

    insert(db, (0..customers).map(customer)).await?;
    let customers = customer::Entity::find().order_by_asc(customer::COLUMN.id).all(db).await?;

    let orders = customers.iter().enumerate().flat_map(|(n, customer)| (0..n % 4).map(move |k| order(customer, n + k)));
    insert(db, orders).await?;
    let orders = order::Entity::find().order_by_asc(order::COLUMN.id).all(db).await?;

    let lines = orders.iter().enumerate().flat_map(|(n, order)| {
        let products = &products;
        (0..=n % 3).map(move |k| line(order, &products[(n + k) % products.len()], n + k))
    });
    insert(db, lines).await?;
    let lines = order_line::Entity::find()
        .order_by_asc(order_line::COLUMN.order_id)
        .order_by_asc(order_line::COLUMN.product_id)
        .all(db)
        .await?;

    Ok(Shop { customers, products, orders, lines })
}

async fn insert<C, A>(db: &C, rows: impl Iterator<Item = A>) -> Result<(), DbErr>
where
    C: ConnectionTrait,
    A: sea_orm::ActiveModelTrait,
{
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        A::Entity::insert_many(rows.by_ref().take(BATCH)).exec_without_returning(db).await?;
    }
    Ok(())
}

fn product(&(name, price_cents): &(&str, i64)) -> product::ActiveModel {
    product::ActiveModel {
        name: Set(name.to_owned()),
        price_cents: Set(price_cents),
        stock: Set(100),
        ..Default::default()
    }
}

fn customer(n: usize) -> customer::ActiveModel {
    let name = NAMES[n % NAMES.len()];
    customer::ActiveModel {
        name: Set(format!("{name} {n}")),
        email: Set(format!("{}.{n}@example.com", name.to_lowercase())),
        city: Set(CITIES[n % CITIES.len()].to_owned()),
        ..Default::default()
    }
}

fn order(customer: &customer::Model, n: usize) -> order::ActiveModel {
    order::ActiveModel {
        customer_id: Set(customer.id),
        status: Set(STATUSES[n % STATUSES.len()]),
        ..Default::default()
    }
}

fn line(order: &order::Model, product: &product::Model, n: usize) -> order_line::ActiveModel {
    order_line::ActiveModel {
        order_id: Set(order.id),
        product_id: Set(product.id),
        quantity: Set(if n.is_multiple_of(2) { 1 } else { 2 }),
        unit_price_cents: Set(product.price_cents),
    }
}
