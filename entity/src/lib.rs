//! A small shop in SeaORM 2's dense entity format, used by the examples, tests and benches.
//!
//! ```text
//! customers 1 ──── n orders 1 ──── n order_lines n ──── 1 products
//!                        └─────────── n : n ──────────────┘
//!
//! customers 1 ── 0..1 cards        products n ── n tags (product_tags)
//! customers 1 ──── n reviews       products n ── n products (pairings)
//! products  1 ──── n reviews       categories n ── 0..1 categories
//! ```
//!
//! The tables have plural names, none of which is a word of SQL, so that raw text needs no quotes
//! on any database. Prices are whole cents. What is below the line is there to show what SeaORM
//! can do (hooks, trees, unusual columns) and stays empty unless [`seed_details`] fills it.
//!
//! ```no_run
//! # async fn example(db: sea_orm::DatabaseConnection) -> Result<(), sea_orm::DbErr> {
//! use entity::{customer, order};
//! use sea_orm::EntityTrait;
//!
//! entity::create_schema(&db).await?;
//! let shop = entity::seed(&db, 100).await?;
//! let orders_by_customer = customer::Entity::find().find_with_related(order::Entity).all(&db).await?;
//! assert_eq!(orders_by_customer.len(), shop.customers.len());
//! # Ok(()) }
//! ```

pub mod card;
pub mod category;
pub mod customer;
mod details;
pub mod journal;
pub mod order;
pub mod order_line;
pub mod pairing;
pub mod product;
pub mod product_tag;
pub mod review;
mod schema;
mod seed;
pub mod tag;

pub use details::seed_details;
pub use schema::create_schema;
pub use seed::{Shop, seed};
