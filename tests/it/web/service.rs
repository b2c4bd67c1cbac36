//! The service that the clients ask: it inserts rows and looks rows up.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use sea_orm::{ActiveModelTrait, DbErr, EntityTrait, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, tower::CausalLayer};
use tokio::{net::TcpListener, task::JoinHandle};

use super::eventual;
use crate::item;

/// What stands between the client and the handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// Handlers and nothing else: what a program gets that changed its import.
    Plain,
    /// `CausalLayer` around the handlers.
    Layer,
    /// As `Layer`, and requests with a token join their process.
    LayerJoiningProcess,
}

/// A running service. Dropping the value ends it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Service {
    pub(super) async fn start(db: &DatabaseConnection, setup: Setup) -> Result<Self> {
        let routes = match setup {
            Setup::Plain => routes(db),
            Setup::Layer => routes(db).layer(CausalLayer::new(db)),
            Setup::LayerJoiningProcess => routes(db).layer(CausalLayer::new(db).join_process(true)),
        };
        let app = routes.merge(control(db));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task =
            tokio::spawn(async move { axum::serve(listener, app).await.expect("axum serves until it is aborted") });
        Ok(Self { address, task })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn routes(db: &DatabaseConnection) -> Router {
    Router::new()
        .route("/statement", post(insert))
        .route("/transaction", post(insert_in_transaction))
        .route("/items/{id}", get(show))
        .with_state(db.clone())
}

/// The same read with any replica, and without a layer.
fn control(db: &DatabaseConnection) -> Router {
    Router::new().route("/control/{id}", get(show)).with_state(eventual(db))
}

type Answer = Result<String, (StatusCode, String)>;

fn failed(error: DbErr) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn insert(State(db): State<DatabaseConnection>) -> Answer {
    let row = item::new("web", 1).insert(&db).await.map_err(failed)?;
    Ok(row.id.to_string())
}

async fn insert_in_transaction(State(db): State<DatabaseConnection>) -> Answer {
    let transaction = db.begin().await.map_err(failed)?;
    let row = item::new("web", 2).insert(&transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(row.id.to_string())
}

async fn show(State(db): State<DatabaseConnection>, Path(id): Path<i32>) -> Answer {
    match item::Entity::find_by_id(id).one(&db).await.map_err(failed)? {
        Some(row) => Ok(row.name),
        None => Err((StatusCode::NOT_FOUND, format!("there is no item {id}"))),
    }
}
