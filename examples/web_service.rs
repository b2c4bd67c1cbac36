//! A small web service over one primary and its replicas: a client reads in one request what the client wrote in
//! the request before.
//!
//! Without any layer this is true of requests to one process: a plain read sees every write that its process has
//! acknowledged, whichever task or connection served the write. With `CausalLayer`, one line in `app`, a token
//! travels with the client, and the next request may go to any process.
//!
//! ```text
//! cargo run --example web_service                     # serves on 127.0.0.1:3000, from a SQLite file
//! DATABASE_URL=postgres://… DATABASE_REPLICA_URLS=postgres://…,postgres://… \
//!     cargo run --example web_service                 # from your servers; see Config::from_env
//! cargo run --example web_service -- --demo           # plays both with three processes, and checks the answers
//! ```
//!
//! In your own databases the program creates the shop's tables where they are missing, and fills them where they
//! are empty. `LISTEN` is the address; `CAUSAL_LAYER=off` leaves the layer out. `web_service/demo.rs` is the client
//! of the demo, and no part of the service.
//!
//! ```text
//! curl -i localhost:3000/orders --json '{"customer": 1, "product": 2, "quantity": 3}'
//! curl localhost:3000/orders?page=0 -H 'x-causal-token: …'     # the token of the first answer
//! curl localhost:3000/admin/topology
//! ```

#[path = "web_service/demo.rs"]
mod demo;

use std::env;

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use entity::{customer, order, order_line, product};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, EntityTrait, LoaderTrait, ModelTrait, PaginatorTrait, QueryOrder,
    TransactionTrait,
};
use sea_orm_resolver::{Config, Database, DatabaseConnection, Topology, tower::CausalLayer};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

const ORDERS_PER_PAGE: u64 = 10;

#[tokio::main]
async fn main() -> Result<()> {
    match env::args().nth(1).as_deref() {
        None => serve().await,
        Some("--demo") => demo::play().await,
        Some(other) => anyhow::bail!("`{other}` is unknown; there is only --demo"),
    }
}

/// Serves until SIGINT or SIGTERM; requests that run then are answered.
async fn serve() -> Result<()> {
    let (config, _file) = config()?;
    let db = Database::connect(config).await?;
    prepare(&db).await?;

    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await.with_context(|| format!("listening on {address}"))?;
    println!("listening on {}", listener.local_addr()?);
    let shop = if env::var("CAUSAL_LAYER").is_ok_and(|setting| setting == "off") { shop() } else { layered_shop(&db) };
    axum::serve(listener, app(shop, db.clone())).with_graceful_shutdown(told_to_stop()).await?;

    println!("{}", db.topology());
    db.close().await?;
    println!("stopped");
    Ok(())
}

/// The handlers. The facade is their plain state: each reads what this process has written.
fn shop() -> Router<DatabaseConnection> {
    Router::new().route("/orders", get(list_orders).post(place_order)).route("/orders/{id}", get(show_order))
}

/// The same handlers, with the layer around them: each client reads what the client wrote, also in another process.
fn layered_shop(db: &DatabaseConnection) -> Router<DatabaseConnection> {
    shop().layer(CausalLayer::new(db)) // with TLS: .cookie(CausalCookie::default().secure(true))
}

fn app(shop: Router<DatabaseConnection>, db: DatabaseConnection) -> Router {
    let operations = Router::new()
        .route("/health", get(async || "alive"))
        .route("/ready", get(ready))
        // For operators alone: on a real service behind a port or a login of its own.
        .route("/admin/replicas", post(swap_replicas))
        .route("/admin/topology", get(show_topology))
        .route("/admin/topology.json", get(show_topology_as_json));
    shop.merge(operations).with_state(db)
}

#[derive(Debug, Deserialize)]
struct NewOrder {
    customer: i32,
    product: i32,
    quantity: i32,
}

/// An order of one line, in a transaction: on the primary.
async fn place_order(State(db): State<DatabaseConnection>, Json(new): Json<NewOrder>) -> Answer<impl IntoResponse> {
    let transaction = db.begin().await?;
    let customer = customer::Entity::find_by_id(new.customer).one(&transaction).await?;
    let product = product::Entity::find_by_id(new.product).one(&transaction).await?;
    let (Some(customer), Some(product)) = (customer, product) else {
        return Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, "no such customer or product".to_owned()));
    };
    let order =
        order::ActiveModel { customer_id: Set(customer.id), status: Set(order::Status::Placed), ..Default::default() };
    let order = order.insert(&transaction).await?;
    let line = order_line::ActiveModel {
        order_id: Set(order.id),
        product_id: Set(product.id),
        quantity: Set(new.quantity),
        unit_price_cents: Set(product.price_cents),
    };
    let line = line.insert(&transaction).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(&order, &[line]))))
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    page: u64,
}

/// The latest orders: a page of them, how many pages there are, and their lines.
async fn list_orders(State(db): State<DatabaseConnection>, Query(Page { page }): Query<Page>) -> Answer<Json<Value>> {
    let latest = order::Entity::find().order_by_desc(order::COLUMN.id).paginate(&db, ORDERS_PER_PAGE);
    let (orders, pages) = (latest.fetch_page(page).await?, latest.num_pages().await?);
    let lines = orders.load_many(order_line::Entity, &db).await?;
    let orders: Vec<_> = orders.iter().zip(&lines).map(|(order, lines)| shown(order, lines)).collect();
    Ok(Json(json!({ "orders": orders, "page": page, "pages": pages })))
}

async fn show_order(State(db): State<DatabaseConnection>, Path(id): Path<i32>) -> Answer<Json<Value>> {
    let Some(order) = order::Entity::find_by_id(id).one(&db).await? else {
        return Err(Refusal(StatusCode::NOT_FOUND, format!("there is no order {id}")));
    };
    let lines = order.find_related(order_line::Entity).all(&db).await?;
    Ok(Json(shown(&order, &lines)))
}

fn shown(order: &order::Model, lines: &[order_line::Model]) -> Value {
    let total: i64 = lines.iter().map(order_line::Model::total_cents).sum();
    json!({ "id": order.id, "customer": order.customer_id, "status": format!("{:?}", order.status), "cents": total })
}

/// Whether requests should come here: a service without its primary still reads, but takes no order.
async fn ready(State(db): State<DatabaseConnection>) -> Answer<&'static str> {
    let primary = db.ping().await;
    primary.map_err(|_| Refusal(StatusCode::SERVICE_UNAVAILABLE, "the primary does not answer".to_owned()))?;
    Ok("ready")
}

/// Other replicas, while requests run. None of them fails because of it.
async fn swap_replicas(State(db): State<DatabaseConnection>, Json(urls): Json<Vec<String>>) -> Answer<Json<Value>> {
    let swap = db.swap_replicas(urls).await;
    let swap = swap.map_err(|error| Refusal(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    Ok(Json(json!({ "added": swap.added, "kept": swap.kept, "removed": swap.removed })))
}

async fn show_topology(State(db): State<DatabaseConnection>) -> String {
    format!("{}\n", db.topology())
}

async fn show_topology_as_json(State(db): State<DatabaseConnection>) -> Json<Value> {
    let topology: &Topology = &db.topology();
    Json(json!(topology))
}

/// A status, and what the client is told.
#[derive(Debug)]
struct Refusal(StatusCode, String);

type Answer<T> = Result<T, Refusal>;

impl From<sea_orm::DbErr> for Refusal {
    fn from(error: sea_orm::DbErr) -> Self {
        eprintln!("a request failed: {error}");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "the database did not do it".to_owned())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

/// From the environment, or a SQLite file of our own, which lives as long as the second value.
fn config() -> Result<(Config, Option<TempDir>)> {
    if env::var_os("DATABASE_URL").is_some() {
        return Ok((Config::from_env()?, None));
    }
    println!("No DATABASE_URL: serving from a SQLite file, with one writer and two readers as its nodes.");
    let folder = tempfile::tempdir()?;
    let url = demo::sqlite_url(folder.path());
    Ok((Config::new(url.as_str()).replica(url.as_str()).replica(url.as_str()), Some(folder)))
}

/// The tables, and something to sell.
async fn prepare(db: &DatabaseConnection) -> Result<()> {
    let db = db.session();
    entity::create_schema(&db).await?;
    if product::Entity::find().count(&db).await? == 0 {
        entity::seed(&db, 20).await?;
    }
    Ok(())
}

async fn told_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
