//! What makes the shop more than four tables: shelves, tags, pairs, cards and reviews.

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait, DbErr, EntityTrait, Iterable,
    prelude::{Date, DateTimeUtc, Decimal, Uuid},
};
use serde_json::json;

use crate::{
    Shop,
    card::{self, Tier},
    category, customer, pairing, product, product_tag, review, tag,
};

/// Name, and the place of the parent in this list.
const CATEGORIES: [(&str, Option<usize>); 6] = [
    ("Everything", None),
    ("Tea", Some(0)),
    ("Green", Some(1)),
    ("Black", Some(1)),
    ("Ware", Some(0)),
    ("Cups", Some(4)),
];
const TAGS: [&str; 4] = ["handmade", "new", "organic", "sale"];

/// Adds to a shop that was just [seeded](crate::seed), always in the same way: a tree of six
/// categories; for the n-th product n modulo 3 tags and a companion; for every second customer a
/// card and n modulo 5 + 1 stars for a product.
///
/// Nothing is written to the journal: these reviews are no events.
///
/// # Errors
/// What the database says, for example that it was called twice.
pub async fn seed_details<C: ConnectionTrait>(db: &C, shop: &Shop) -> Result<(), DbErr> {
    for (n, (name, parent)) in CATEGORIES.iter().enumerate() {
        let row =
            category::ActiveModel { id: Set(key(n)), name: Set((*name).to_owned()), parent_id: Set(parent.map(key)) };
        category::Entity::insert(row).exec_without_returning(db).await?;
    }
    let tags =
        TAGS.iter().enumerate().map(|(n, name)| tag::ActiveModel { id: Set(key(n)), name: Set((*name).to_owned()) });
    tag::Entity::insert_many(tags).exec_without_returning(db).await?;

    let tagged =
        shop.products.iter().enumerate().flat_map(|(n, product)| (0..n % 3).map(move |k| tagged(product, n + k)));
    product_tag::Entity::insert_many(tagged).exec_without_returning(db).await?;
    let pairs = shop.products.iter().zip(shop.products.iter().cycle().skip(1)).map(|(product, companion)| {
        pairing::ActiveModel { product_id: Set(product.id), companion_id: Set(companion.id) }
    });
    pairing::Entity::insert_many(pairs).exec_without_returning(db).await?;

    let regulars = || shop.customers.iter().enumerate().step_by(2);
    card::Entity::insert_many(regulars().map(|(n, customer)| card(customer, n))).exec_without_returning(db).await?;
    let reviews = regulars().map(|(n, customer)| review(customer, &shop.products[n % shop.products.len()], n));
    review::Entity::insert_many(reviews).exec_without_returning(db).await?;
    Ok(())
}

/// The key of the n-th row of a table that was empty. High, because a key that is given does not move
/// the counter of PostgreSQL, whose first own key is 1.
fn key(n: usize) -> i32 {
    i32::try_from(10_001 + n).unwrap_or(i32::MAX)
}

fn tagged(product: &product::Model, n: usize) -> product_tag::ActiveModel {
    product_tag::ActiveModel { product_id: Set(product.id), tag_id: Set(key(n % TAGS.len())) }
}

fn card(customer: &customer::Model, n: usize) -> card::ActiveModel {
    let whole = u32::try_from(n).unwrap_or(u32::MAX);
    card::ActiveModel {
        id: Set(Uuid::from_u128(0x5eed_0000 + u128::from(whole))),
        customer_id: Set(customer.id),
        tier: Set(Tier::iter().cycle().nth(n / 2).unwrap_or(Tier::Basic)),
        balance: Set(Decimal::new(i64::from(whole) * 1_025 + 1, 2)),
        preferences: Set(json!({ "letters": n.is_multiple_of(4), "sizes": [n, n + 1], "name": customer.name })),
        issued_at: Set(DateTimeUtc::from_timestamp(1_700_000_000 + i64::from(whole) * 3_600, 0).unwrap_or_default()),
        birthday: Set(n.is_multiple_of(4).then(|| Date::from_ymd_opt(1990, 2, 1 + whole % 28)).flatten()),
        is_active: Set(!n.is_multiple_of(6)),
        signature: Set(vec![0, 0xff, 0x27, 0x5c, whole.to_le_bytes()[0]]),
    }
}

fn review(customer: &customer::Model, product: &product::Model, n: usize) -> review::ActiveModel {
    let stars = i32::try_from(n % 5 + 1).unwrap_or(1);
    review::ActiveModel {
        id: NotSet,
        product_id: Set(product.id),
        customer_id: Set(customer.id),
        stars: Set(stars),
        body: Set(n.is_multiple_of(4).then(|| format!("{stars} stars for the {}; it's \\ fine?", product.name))),
    }
}
