// A program that uses all of SeaORM's functions on connections and transactions. The program is compiled twice,
// with SeaORM's types and with this crate's, and must give the same results; `listed.rs` checks that the program is
// complete. `imported` is the one import that changes.

use std::sync::{Arc, Mutex, PoisonError};

use imported::{Database, DatabaseConnection, DatabaseTransaction, DbConn};
use sea_orm::{
    AccessMode, ActiveModelTrait,
    ActiveValue::Set,
    ConnectOptions, ConnectionTrait, DatabaseConnectionType, DatabaseExecutor, DbBackend, DbErr, EntityTrait,
    IntoDatabaseExecutor, IsolationLevel, MockDatabase, PaginatorTrait, SqliteTransactionMode, Statement, StreamTrait,
    TransactionError, TransactionOptions, TransactionSession, TransactionTrait,
    rbac::{RbacContext, RbacEngine, RbacSnapshot, RbacUserId},
    sqlx,
};
use sea_orm_migration::SchemaManager;

use crate::item;

type Seen = Vec<String>;

/// The state of an application.
#[derive(Clone, Debug, Default)]
struct AppState {
    db: DatabaseConnection,
}

fn said<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error}"),
    }
}

fn raw(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}

pub(super) async fn connect(url: &str) -> Result<DbConn, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await
}

/// Runs the program on an empty database, and returns its results.
pub(super) async fn run(db: DbConn, url: &str) -> Result<Seen, DbErr> {
    let mut seen = Seen::new();
    connection(&db, &mut seen).await?;
    schema(&db, &mut seen).await?;
    transactions(&db, &mut seen).await?;
    transaction(db.begin().await?, &mut seen).await?;
    executors(&db, &mut seen).await?;
    rbac(&db, &mut seen).await?;
    metrics(db.clone(), &mut seen).await?;
    mock(&mut seen).await?;
    disconnected(&mut seen).await;
    pools(&db, &mut seen).await?;
    closing(db, url, &mut seen).await?;
    Ok(seen)
}

async fn connection(db: &DatabaseConnection, seen: &mut Seen) -> Result<(), DbErr> {
    fn is_shared<T: Send + Sync + Clone + std::fmt::Debug + 'static>(_: &T) {}
    is_shared(db);
    seen.push(said(db.ping().await));
    seen.push(format!("{:?}", db.get_database_backend()));
    seen.push(format!("{:?}", StreamTrait::get_database_backend(db)));
    seen.push(format!("returning {} mock {}", db.support_returning(), db.is_mock_connection()));
    item::create_table(db).await?;
    everything_on(db, seen).await
}

/// `ConnectionTrait` and `StreamTrait`.
async fn everything_on<C: ConnectionTrait + StreamTrait>(db: &C, seen: &mut Seen) -> Result<(), DbErr> {
    use futures_util::TryStreamExt;

    let select = sea_orm::sea_query::Query::select().column(item::Column::Name).from(item::Entity).to_owned();
    let all = "SELECT name FROM item ORDER BY id";
    let name = |row: sea_orm::QueryResult| row.try_get::<String>("", "name");
    let insert = "INSERT INTO item (name, amount) VALUES ('raw', 2)";
    let delete = sea_orm::sea_query::Query::delete().from_table(item::Entity).to_owned();

    seen.push(said(item::new("saved", 1).insert(db).await));
    seen.push(said(db.execute_raw(raw(insert)).await.map(|done| done.rows_affected())));
    seen.push(said(db.execute_unprepared(insert).await.map(|done| done.rows_affected())));
    seen.push(said(db.query_one(&select).await?.map(name).transpose()));
    seen.push(said(db.query_one_raw(raw(all)).await?.map(name).transpose()));
    seen.push(said(db.query_all(&select).await?.into_iter().map(name).collect::<Result<Vec<_>, _>>()));
    seen.push(said(db.query_all_raw(raw(all)).await?.into_iter().map(name).collect::<Result<Vec<_>, _>>()));
    seen.push(said(db.stream(&select).await?.map_ok(|row| name(row).is_ok()).try_collect::<Vec<_>>().await));
    seen.push(said(db.stream_raw(raw(all)).await?.map_ok(|row| name(row).is_ok()).try_collect::<Vec<_>>().await));
    seen.push(said(item::Entity::find().paginate(db, 2).num_pages().await));
    seen.push(said(db.query_one_raw(raw("SELECT * FROM nowhere")).await.map(drop)));
    seen.push(said(db.execute_unprepared("not SQL").await.map(drop)));
    seen.push(said(db.execute(&delete).await.map(|done| done.rows_affected())));
    Ok(())
}

async fn schema(db: &DatabaseConnection, seen: &mut Seen) -> Result<(), DbErr> {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    db.get_schema_builder().register(entity::customer::Entity).sync(db).await?;
    db.get_schema_registry("entity::*").sync(db).await?;
    seen.push(format!("{:?}", db.get_schema_registry("nobody::*")));
    for row in db.query_all_raw(raw(tables)).await? {
        seen.push(row.try_get_by_index(0)?);
    }
    let rows = sea_schema_of(db).await;
    seen.push(format!("the same rows in a transaction: {}", sea_schema_of(&db.begin().await?).await == rows));
    seen.push(rows);
    Ok(())
}

/// The schema questions of `SchemaBuilder::sync`.
async fn sea_schema_of(db: &impl sea_schema::Connection) -> String {
    let select = sea_orm::sea_query::Query::select().column("name").from("sqlite_schema").to_owned();
    let rows = db.query_all(select).await.map(|rows| rows.len());
    let raw = db.query_all_raw("SELECT name FROM sqlite_schema".to_owned()).await.map(|rows| rows.len());
    let error = db.query_all_raw("SELECT * FROM nowhere".to_owned()).await.map(drop);
    format!("{} {} {}", said(rows), said(raw), said(error))
}

async fn insert(transaction: &DatabaseTransaction, name: &str, end: Result<u8, DbErr>) -> Result<u8, DbErr> {
    item::ActiveModel { name: Set(name.to_owned()), amount: Set(1), ..Default::default() }.insert(transaction).await?;
    end
}

fn oops() -> Result<u8, DbErr> {
    Err(DbErr::Custom("oops".to_owned()))
}

/// `TransactionTrait`, and the methods for async closures, which are in no trait.
async fn transactions(db: &DatabaseConnection, seen: &mut Seen) -> Result<(), DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let level = Some(IsolationLevel::Serializable);
    let mode = Some(AccessMode::ReadWrite);
    for end in [|| Ok(1), oops] {
        seen.push(said(db.transaction(|tx| Box::pin(async move { insert(tx, "1", end()).await })).await));
        seen.push(said(
            db.transaction_with_config(|tx| Box::pin(async move { insert(tx, "2", end()).await }), level, mode).await,
        ));
        seen.push(said(db.transaction_async(async |tx: &DatabaseTransaction| insert(tx, "3", end()).await).await));
        let with_config = db.transaction_with_config_async(
            async |tx: &DatabaseTransaction| insert(tx, "4", end()).await,
            level,
            mode,
        );
        let result: Result<u8, TransactionError<DbErr>> = with_config.await;
        seen.push(said(result));
    }
    let begun = [db.begin().await?.commit().await, db.begin_with_config(level, mode).await?.rollback().await];
    seen.push(format!("{begun:?}"));
    seen.push(said(TransactionSession::commit(db.begin_with_options(options).await?).await));
    seen.push(said(item::Entity::find().count(db).await));
    Ok(())
}

async fn transaction(outer: DatabaseTransaction, seen: &mut Seen) -> Result<(), DbErr> {
    seen.push(format!("{:?}", ConnectionTrait::get_database_backend(&outer)));
    seen.push(format!("returning {} mock {}", outer.support_returning(), outer.is_mock_connection()));
    everything_on(&outer, seen).await?;
    for end in [|| Ok(1), oops] {
        seen.push(said(outer.transaction(|tx| Box::pin(async move { insert(tx, "1", end()).await })).await));
        seen.push(said(outer.transaction_async(async |tx: &DatabaseTransaction| insert(tx, "2", end()).await).await));
        let callback = async |tx: &DatabaseTransaction| insert(tx, "3", end()).await;
        seen.push(said(outer.transaction_with_config_async(callback, None, None).await));
        seen.push(said(
            outer.transaction_with_config(|tx| Box::pin(async move { insert(tx, "4", end()).await }), None, None).await,
        ));
    }
    outer.begin().await?.commit().await?;
    outer.begin_with_config(None, None).await?.rollback().await?;
    TransactionSession::rollback(outer.begin_with_options(TransactionOptions::default()).await?).await?;
    seen.push(said(item::Entity::find().count(&outer).await));
    seen.push(said(outer.rollback().await));
    Ok(())
}

/// A helper that takes every type that converts into an executor.
async fn count<'c>(db: impl IntoDatabaseExecutor<'c>) -> Result<u64, DbErr> {
    item::Entity::find().count(&db.into_database_executor()).await
}

async fn executors(db: &DatabaseConnection, seen: &mut Seen) -> Result<(), DbErr> {
    seen.push(said(count(db).await));
    seen.push(format!("in a transaction: {}", DatabaseExecutor::from(db).is_transaction()));
    let transaction = db.begin().await?;
    seen.push(said(count(&transaction).await));
    seen.push(format!("in a transaction: {}", DatabaseExecutor::from(&transaction).is_transaction()));
    seen.push(said(count(transaction).await));
    seen.push(said(SchemaManager::new(db).has_table("item").await));
    Ok(())
}

async fn rbac(db: &DatabaseConnection, seen: &mut Seen) -> Result<(), DbErr> {
    let (reader, nobody) = (RbacUserId(1), RbacUserId(2));
    seen.push(said(db.restricted_for(reader).map(drop)));
    sea_orm::rbac::schema::create_tables(db, sea_orm::rbac::schema::RbacCreateTablesParams::default()).await?;
    let mut rules = RbacContext::load(db).await?;
    rules.add_tables(db, &["item"]).await?;
    rules.add_crud_permissions(db).await?;
    rules.add_roles(db, &["reader"]).await?;
    rules.assign_user_role(db, &[(1, "reader")]).await?;
    rules.add_role_permissions(db, "reader", &["select"], &["item"]).await?;
    db.load_rbac().await?;
    for user in [reader, nobody] {
        let restricted = db.restricted_for(user)?;
        seen.push(said(item::Entity::find().count(&restricted).await));
        seen.push(said(item::new("stolen", 1).insert(&restricted).await));
    }
    db.replace_rbac(RbacEngine::from_snapshot(RbacSnapshot::danger_unrestricted()));
    seen.push(said(item::Entity::find().count(&db.restricted_for(reader)?).await));
    db.load_rbac_from(db).await?;
    seen.push(said(item::Entity::find().count(&db.restricted_for(reader)?).await));
    Ok(())
}

async fn metrics(mut db: DatabaseConnection, seen: &mut Seen) -> Result<(), DbErr> {
    let heard: Arc<Mutex<Seen>> = Arc::default();
    let told = Arc::clone(&heard);
    db.set_metric_callback(move |info: &sea_orm::metric::Info<'_>| {
        let text = format!("{} failed: {}", info.statement.sql, info.failed);
        told.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    });
    everything_on(&db, seen).await?;
    let transaction = db.begin().await?;
    everything_on(&transaction, seen).await?;
    everything_on(&transaction.begin().await?, seen).await?;
    drop(transaction);
    seen.append(&mut heard.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

async fn mock(seen: &mut Seen) -> Result<(), DbErr> {
    let model = |id| item::Model { id, name: "mocked".to_owned(), amount: 3 };
    let db: DatabaseConnection = MockDatabase::new(DbBackend::Postgres)
        .append_query_results([vec![model(1)], vec![model(2), model(3)], vec![model(4)]])
        .append_query_errors([DbErr::Custom("scripted".to_owned())])
        .into_connection()
        .into();
    seen.push(format!("{} {:?}", db.is_mock_connection(), db.as_mock_connection().get_database_backend()));
    seen.push(said(db.ping().await));
    seen.push(said(item::Entity::find().one(&db).await));
    let outer = db.begin().await?;
    seen.push(said(item::Entity::find().all(&outer).await));
    seen.push(said(item::Entity::find().one(&outer.begin().await?).await));
    outer.commit().await?;
    seen.push(said(item::Entity::find().all(&db).await));
    seen.push(said(db.execute_unprepared("DROP TABLE item").await.map(drop)));
    seen.push(format!("{:#?}", db.into_transaction_log()));
    Ok(())
}

async fn disconnected(seen: &mut Seen) {
    let db = AppState::default().db;
    seen.push(said(db.ping().await));
    seen.push(said(db.execute_unprepared("SELECT 1").await.map(drop)));
    seen.push(said(db.query_one_raw(raw("SELECT 1")).await.map(drop)));
    seen.push(said(db.query_all_raw(raw("SELECT 1")).await.map(drop)));
    seen.push(said(db.execute_raw(raw("SELECT 1")).await.map(drop)));
    seen.push(said(db.stream_raw(raw("SELECT 1")).await.map(drop)));
    seen.push(said(db.begin().await.map(drop)));
    seen.push(said(db.close_by_ref().await));
    seen.push(said(DatabaseConnection::from(DatabaseConnectionType::Disconnected).close().await));
}

async fn pools(db: &DatabaseConnection, seen: &mut Seen) -> Result<(), DbErr> {
    let _: fn(&DatabaseConnection) -> &sqlx::PgPool = DatabaseConnection::get_postgres_connection_pool;
    let _: fn(&DatabaseConnection) -> &sqlx::MySqlPool = DatabaseConnection::get_mysql_connection_pool;
    let _: fn(sqlx::PgPool) -> DatabaseConnection = DatabaseConnection::from;
    let _: fn(sqlx::MySqlPool) -> DatabaseConnection = DatabaseConnection::from;
    let pool = db.get_sqlite_connection_pool().clone();
    seen.push(format!("{} closed: {}", pool.options().get_max_connections(), pool.is_closed()));
    seen.push(said(item::Entity::find().count(&DatabaseConnection::from(pool)).await));
    Ok(())
}

async fn closing(db: DatabaseConnection, url: &str, seen: &mut Seen) -> Result<(), DbErr> {
    let clone = db.clone();
    seen.push(said(db.close().await));
    seen.push(said(item::Entity::find().count(&clone).await));
    let again = Database::connect(url.to_owned()).await?;
    seen.push(said(item::Entity::find().count(&again).await));
    again.close_by_ref().await?;
    seen.push(said(again.ping().await));
    Ok(())
}
