//! Every method of SeaORM's traits on every handle: the same answers as SeaORM alone, from the
//! node where they belong.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use entity::{customer, order, order_line, product};
use futures_util::TryStreamExt;
use sea_orm::{
    AccessMode, ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, IntoActiveModel, IsolationLevel, LoaderTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, SqliteTransactionMode, Statement, StreamTrait,
    TransactionError, TransactionOptions, TransactionTrait,
    sea_query::{Expr, ExprTrait, LockType},
};
use sea_orm_resolver::{DatabaseConnection, DatabaseTransaction, Error};

use crate::{
    files::{NamedFiles, SharedFile},
    item,
    servers::{Servers, in_flight, on_each_database, served_reads},
    who::Who,
};

type Places = BTreeMap<&'static str, String>;

/// Asks, through every method that returns rows, for the node that answers.
async fn places<C: ConnectionTrait + StreamTrait>(db: &C, who: &Who) -> Result<Places> {
    let built = who.built();
    let raw = || who.raw();
    let some = |row: Option<_>| row.expect("one row");
    let one = |rows: Vec<_>| {
        assert_eq!(rows.len(), 1);
        rows.into_iter().next().expect("one row")
    };
    let mut places = Places::new();
    let mut put = |method, row| anyhow::Ok(places.insert(method, who.named(&row)?));
    put("query_one", some(db.query_one(&built).await?))?;
    put("query_all", one(db.query_all(&built).await?))?;
    put("stream", one(db.stream(&built).await?.try_collect().await?))?;
    put("query_one_raw", some(db.query_one_raw(raw()).await?))?;
    put("query_all_raw", one(db.query_all_raw(raw()).await?))?;
    put("stream_raw", one(db.stream_raw(raw()).await?.try_collect().await?))?;
    Ok(places)
}

fn everywhere(name: &str) -> Places {
    ["query_one", "query_all", "stream", "query_one_raw", "query_all_raw", "stream_raw"]
        .map(|method| (method, name.to_owned()))
        .into()
}

/// The share is 0, so that every routed statement shows up on a replica.
async fn check_origins_of_rows(db: &DatabaseConnection, who: &Who) -> Result<()> {
    for (method, place) in places(db, who).await? {
        assert!(place.starts_with("replica"), "&db, {method}: {place}");
    }
    let read = db.read();
    let node = read.node().expect("drawn");
    assert!(node.starts_with("replica"), "{node}");
    assert_eq!(places(&read, who).await?, everywhere(&node), "a read connection keeps its node");
    assert_eq!(places(&db.write(), who).await?, everywhere("primary"));

    let transaction = db.begin().await?;
    assert_eq!(transaction.node(), "primary");
    assert_eq!(places(&transaction, who).await?, everywhere("primary"));
    let nested = transaction.begin().await?;
    assert_eq!(places(&nested, who).await?, everywhere("primary"));
    nested.commit().await?;
    transaction.rollback().await?;

    // A session of its own: the end of the transaction above was a write of this one.
    let session = db.session();
    let transaction = session.read().begin().await?;
    let node = transaction.node().to_owned();
    assert!(node.starts_with("replica"), "{node}");
    assert_eq!(places(&transaction, who).await?, everywhere(&node));
    transaction.commit().await?;
    let transaction = session.begin_with_config(None, read_only_mode(db)).await?;
    let place = if db.get_database_backend() == DbBackend::Sqlite { "primary" } else { node.as_str() };
    assert_eq!(places(&transaction, who).await?, everywhere(place), "an explicit session keeps its node");
    transaction.commit().await?;
    assert!(in_flight(db).values().all(|&count| count == 0), "{:?}", in_flight(db));
    Ok(())
}

/// SQLite has no access modes.
fn read_only_mode(db: &DatabaseConnection) -> Option<AccessMode> {
    (db.get_database_backend() != DbBackend::Sqlite).then_some(AccessMode::ReadOnly)
}

async fn rows_come_from_where_they_belong(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    check_origins_of_rows(&db, &servers.who()).await
}

on_each_database!(rows_come_from_where_they_belong, [postgres, mariadb]);

#[tokio::test]
async fn sqlite_rows_come_from_where_they_belong() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = files.builder().primary_read_share(0.0).connect().await?;
    check_origins_of_rows(&db, &files.who()).await
}

/// The questions to a shop, in all the ways SeaORM has.
#[derive(Debug, PartialEq)]
struct Answers {
    all: Vec<customer::Model>,
    one: Option<customer::Model>,
    count: u64,
    pages: Vec<Vec<customer::Model>>,
    streamed: Vec<order::Model>,
    cursor: Vec<customer::Model>,
    related: Vec<(customer::Model, Vec<order::Model>)>,
    also: Vec<(order::Model, Option<customer::Model>)>,
    loaded: Vec<Vec<order::Model>>,
    owners: Vec<Option<customer::Model>>,
    bought: Vec<Vec<product::Model>>,
    names: Vec<String>,
    raw: Vec<customer::Model>,
    rows_affected_by_a_select: bool,
}

async fn answers<C: ConnectionTrait + StreamTrait>(db: &C) -> Result<Answers, DbErr> {
    let by_id = || customer::Entity::find().order_by_asc(customer::Column::Id);
    let orders = order::Entity::find().order_by_asc(order::Column::Id).all(db).await?;
    let paginator = by_id().paginate(db, 7);
    let mut pages = Vec::new();
    for page in 0..paginator.num_pages().await? {
        pages.push(paginator.fetch_page(page).await?);
    }
    let all = by_id().all(db).await?;
    let mut bought = orders.load_many_to_many(product::Entity, order_line::Entity, db).await?;
    bought.iter_mut().for_each(|products| products.sort_by_key(|product| product.id));
    let names = by_id().select_only().column(customer::Column::Name).into_tuple().all(db).await?;
    let raw = Statement::from_string(
        ConnectionTrait::get_database_backend(db),
        "SELECT * FROM customers ORDER BY id LIMIT 3",
    );
    // Its count differs between drivers; that it can be asked does not.
    let select = db.execute_unprepared("SELECT 1").await.is_ok();
    Ok(Answers {
        one: customer::Entity::find_by_id(all[3].id).one(db).await?,
        count: customer::Entity::find().count(db).await?,
        streamed: order::Entity::find().order_by_asc(order::Column::Id).stream(db).await?.try_collect().await?,
        cursor: customer::Entity::find().cursor_by(customer::Column::Id).after(all[4].id).first(5).all(db).await?,
        related: by_id().find_with_related(order::Entity).order_by_asc(order::Column::Id).all(db).await?,
        also: order::Entity::find().find_also_related(customer::Entity).order_by_asc(order::Column::Id).all(db).await?,
        loaded: all.load_many(order::Entity::find().order_by_asc(order::Column::Id), db).await?,
        owners: orders.load_one(customer::Entity, db).await?,
        raw: customer::Entity::find().from_raw_sql(raw).all(db).await?,
        rows_affected_by_a_select: select,
        all,
        pages,
        bought,
        names,
    })
}

async fn check_answers(db: &DatabaseConnection) -> Result<()> {
    let expected = answers(&db.primary()).await?;
    assert_eq!((expected.all.len(), expected.pages.len()), (24, 4));
    assert!(expected.bought.iter().any(|products| products.len() > 1), "the seed has orders of several products");
    assert_eq!(answers(db).await?, expected, "&db");
    assert_eq!(answers(&db.session()).await?, expected, "a session");
    assert_eq!(answers(&db.write()).await?, expected, "write()");
    let transaction = db.begin().await?;
    assert_eq!(answers(&transaction).await?, expected, "a transaction");
    transaction.commit().await?;
    let session = db.session();
    let before = served_reads(db);
    for _ in 0..3 {
        assert_eq!(answers(&session.read()).await?, expected, "read()");
        let transaction = session.read().begin().await?;
        assert_eq!(answers(&transaction).await?, expected, "a read transaction");
        transaction.commit().await?;
    }
    let routed: u64 = served_reads(db).values().sum::<u64>() - before.values().sum::<u64>();
    assert!(routed > 3 * 15, "every one of them was routed: {routed}");
    Ok(())
}

async fn every_read_answers_as_seaorm_does(servers: Servers) -> Result<()> {
    let plain = servers.plain().await?;
    entity::create_schema(&plain).await?;
    entity::seed(&plain, 24).await?;
    servers.wait_caught_up().await?;
    check_answers(&servers.builder().primary_read_share(0.2).connect().await?).await
}

on_each_database!(every_read_answers_as_seaorm_does, [postgres, mariadb]);

#[tokio::test]
async fn sqlite_every_read_answers_as_seaorm_does() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = file.builder().primary_read_share(0.2).connect().await?;
    entity::create_schema(&db.primary()).await?;
    entity::seed(&db.primary(), 24).await?;
    check_answers(&db).await
}

/// Everything that writes, through one handle; SeaORM's results must equal the rows in the database.
async fn write_everything<C: ConnectionTrait>(db: &C, name: &str) -> Result<(), DbErr> {
    let inserted = item::new(name, 1).insert(db).await?;
    assert_eq!((inserted.name.as_str(), inserted.amount), (name, 1));
    let mut changed = inserted.clone().into_active_model();
    changed.amount = Set(2);
    assert_eq!(changed.update(db).await?.amount, 2);
    let saved = item::new(name, 3).save(db).await?;
    item::Entity::insert_many([item::new(name, 4), item::new(name, 5)]).exec(db).await?;
    let updated = item::Entity::update_many()
        .col_expr(item::Column::Amount, Expr::col(item::Column::Amount).add(10))
        .filter(item::Column::Name.eq(name))
        .filter(item::Column::Amount.gte(4))
        .exec(db)
        .await?;
    assert_eq!(updated.rows_affected, 2);
    assert_eq!(saved.delete(db).await?.rows_affected, 1);
    let backend = db.get_database_backend();
    let raw = |amount: i32| {
        Statement::from_string(backend, format!("INSERT INTO item (name, amount) VALUES ('{name}', {amount})"))
    };
    assert_eq!(db.execute_raw(raw(6)).await?.rows_affected(), 1);
    assert_eq!(db.execute_unprepared(&raw(7).sql).await?.rows_affected(), 1);
    let delete =
        sea_orm::sea_query::Query::delete().from_table(item::Entity).and_where(item::Column::Amount.eq(7)).to_owned();
    assert_eq!(db.execute(&delete).await?.rows_affected(), 1);
    if db.support_returning() {
        let returned = item::Entity::insert(item::new(name, 8)).exec_with_returning(db).await?;
        assert_eq!(returned.amount, 8);
        item::Entity::delete_by_id(returned.id).exec(db).await?;
    }
    Ok(())
}

async fn amounts(db: &sea_orm::DatabaseConnection, name: &str) -> Result<Vec<i32>, DbErr> {
    let found =
        item::Entity::find().filter(item::Column::Name.eq(name)).order_by_asc(item::Column::Amount).all(db).await?;
    Ok(found.into_iter().map(|item| item.amount).collect())
}

async fn check_writes(db: &DatabaseConnection) -> Result<()> {
    let plain = db.primary();
    write_everything(&plain, "seaorm").await?;
    let expected = amounts(&plain, "seaorm").await?;
    assert_eq!(expected, [2, 6, 14, 15]);
    assert_eq!(db.support_returning(), plain.support_returning());
    assert!(!db.is_mock_connection());

    write_everything(db, "db").await?;
    write_everything(&db.session(), "session").await?;
    write_everything(&db.write(), "write").await?;
    let transaction = db.begin().await?;
    write_everything(&transaction, "transaction").await?;
    transaction.commit().await?;
    let transaction = db.write().begin().await?;
    let nested = transaction.begin().await?;
    write_everything(&nested, "nested").await?;
    nested.commit().await?;
    transaction.commit().await?;
    for name in ["db", "session", "write", "transaction", "nested"] {
        assert_eq!(amounts(&plain, name).await?, expected, "{name}");
    }
    Ok(())
}

async fn every_write_arrives_on_the_primary(servers: Servers) -> Result<()> {
    check_writes(&servers.connect().await?).await
}

on_each_database!(every_write_arrives_on_the_primary, [postgres, mariadb]);

#[tokio::test]
async fn sqlite_every_write_arrives_on_the_primary() -> Result<()> {
    let file = SharedFile::new().await?;
    check_writes(&file.builder().connect().await?).await
}

/// Inserts one row and fails or not.
async fn insert_and(transaction: &DatabaseTransaction, name: &str, end: Result<u8, DbErr>) -> Result<u8, DbErr> {
    item::new(name, 1).insert(transaction).await?;
    end
}

fn oops() -> DbErr {
    DbErr::Custom("oops".to_owned())
}

fn is_oops<T: std::fmt::Debug>(result: Result<T, TransactionError<DbErr>>) {
    match result.expect_err("it was rolled back") {
        TransactionError::Transaction(DbErr::Custom(text)) => assert_eq!(text, "oops"),
        other => panic!("{other}"),
    }
}

/// Every way to begin and end a transaction, on anything that begins one.
async fn transactions_end_as_they_should<C>(
    db: &C,
    plain: &sea_orm::DatabaseConnection,
    isolation: IsolationLevel,
) -> Result<()>
where
    C: TransactionTrait<Transaction = DatabaseTransaction>,
{
    let backend = plain.get_database_backend();
    let count =
        || async { anyhow::Ok(item::Entity::find().filter(item::Column::Name.like("tx %")).count(plain).await?) };
    let start = count().await?;

    let kept = db.transaction(|tx| Box::pin(insert_and(tx, "tx 1", Ok(1)))).await?;
    assert_eq!(kept, 1);
    is_oops(db.transaction::<_, u8, _>(|tx| Box::pin(insert_and(tx, "tx lost", Err(oops())))).await);
    let level = (backend != DbBackend::Sqlite).then_some(isolation);
    let mode = (backend != DbBackend::Sqlite).then_some(AccessMode::ReadWrite);
    db.transaction_with_config(|tx| Box::pin(insert_and(tx, "tx 2", Ok(1))), level, mode).await?;
    is_oops(
        db.transaction_with_config::<_, u8, _>(|tx| Box::pin(insert_and(tx, "tx lost", Err(oops()))), level, None)
            .await,
    );
    let transaction = db.begin_with_config(level, mode).await?;
    insert_and(&transaction, "tx 3", Ok(1)).await?;
    transaction.commit().await?;
    let options = TransactionOptions {
        isolation_level: level,
        access_mode: mode,
        sqlite_transaction_mode: (backend == DbBackend::Sqlite).then_some(SqliteTransactionMode::Immediate),
    };
    let transaction = db.begin_with_options(options).await?;
    insert_and(&transaction, "tx 4", Ok(1)).await?;
    transaction.commit().await?;
    let transaction = db.begin().await?;
    insert_and(&transaction, "tx lost", Ok(1)).await?;
    transaction.rollback().await?;
    let transaction = db.begin().await?;
    insert_and(&transaction, "tx lost", Ok(1)).await?;
    drop(transaction);

    let outer = db.begin().await?;
    insert_and(&outer, "tx 5", Ok(1)).await?;
    let inner = outer.begin().await?;
    insert_and(&inner, "tx lost", Ok(1)).await?;
    inner.rollback().await?;
    outer.transaction(|tx| Box::pin(insert_and(tx, "tx 6", Ok(1)))).await?;
    is_oops(outer.transaction::<_, u8, _>(|tx| Box::pin(insert_and(tx, "tx lost", Err(oops())))).await);
    outer.transaction_async(async |tx: &DatabaseTransaction| insert_and(tx, "tx 7", Ok(1)).await).await?;
    is_oops(
        outer.transaction_async(async |tx: &DatabaseTransaction| insert_and(tx, "tx lost", Err(oops())).await).await,
    );
    let innermost = outer.begin().await?.begin().await?;
    insert_and(&innermost, "tx lost", Ok(1)).await?;
    drop(innermost);
    outer.commit().await?;
    assert_eq!(count().await? - start, 7);
    assert_eq!(item::Entity::find().filter(item::Column::Name.eq("tx lost")).count(plain).await?, 0);
    Ok(())
}

async fn check_transactions(db: &DatabaseConnection) -> Result<()> {
    let plain = db.primary();
    transactions_end_as_they_should(db, &plain, IsolationLevel::Serializable).await?;
    transactions_end_as_they_should(&db.write(), &plain, IsolationLevel::RepeatableRead).await?;
    // SeaORM has these two on its own types only, not in a trait.
    db.transaction_async(async |tx: &DatabaseTransaction| insert_and(tx, "async", Ok(1)).await).await?;
    is_oops(
        db.transaction_async(async |tx: &DatabaseTransaction| insert_and(tx, "async lost", Err(oops())).await).await,
    );
    db.transaction_with_config_async(async |tx: &DatabaseTransaction| insert_and(tx, "async", Ok(1)).await, None, None)
        .await?;
    assert_eq!(amounts(&plain, "async").await?.len(), 2);
    assert_eq!(amounts(&plain, "async lost").await?.len(), 0);
    assert!(in_flight(db).values().all(|&count| count == 0), "{:?}", in_flight(db));
    Ok(())
}

async fn every_transaction_ends_as_it_should(servers: Servers) -> Result<()> {
    check_transactions(&servers.connect().await?).await
}

on_each_database!(every_transaction_ends_as_it_should, [postgres, mariadb]);

#[tokio::test]
async fn sqlite_every_transaction_ends_as_it_should() -> Result<()> {
    let file = SharedFile::new().await?;
    check_transactions(&file.builder().connect().await?).await
}

fn refused<T: std::fmt::Debug>(what: &str, result: Result<T, DbErr>) {
    let error = result.map_err(|error| (Error::from_db_err(&error).map(Error::is_refused), error));
    match error {
        Err((Some(true), error)) => {
            let as_conn = matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_));
            assert!(!as_conn, "{what}: code that retries on `Conn` would be misled");
        }
        other => panic!("{what} was not refused: {other:?}"),
    }
}

/// Every server is frozen: a statement that is refused without an answer was refused before the wire.
async fn read_connections_refuse_all_but_plain_reads_before_the_wire(servers: Servers) -> Result<()> {
    let db = servers.connect().await?;
    item::Entity::insert(item::new("kept", 1)).exec(&db.primary()).await?;
    servers.wait_caught_up().await?;
    let read = db.read();
    let before = served_reads(&db);
    for server in servers.servers() {
        server.freeze()?;
    }
    let refusals = async {
        let raw = |sql: &str| Statement::from_string(db.get_database_backend(), sql);
        let insert = "INSERT INTO item (name, amount) VALUES ('lost', 1)";
        for sql in [
            insert,
            "UPDATE item SET amount = 0",
            "DELETE FROM item",
            "DROP TABLE item",
            "SELECT * FROM item FOR UPDATE",
            "SELECT 1; DELETE FROM item",
            "WITH x AS (SELECT 1) DELETE FROM item",
            "SELECT * INTO copy FROM item",
            "TRUNCATE item",
            "SET TRANSACTION READ WRITE",
        ] {
            refused(sql, read.execute_raw(raw(sql)).await);
            refused(sql, read.execute_unprepared(sql).await);
            refused(sql, read.query_one_raw(raw(sql)).await);
            refused(sql, read.query_all_raw(raw(sql)).await);
            refused(sql, read.stream_raw(raw(sql)).await.map(drop));
        }
        refused("insert", item::new("lost", 1).insert(&read).await);
        refused("insert with exec", item::Entity::insert(item::new("lost", 1)).exec(&read).await);
        refused("insert_many", item::Entity::insert_many([item::new("lost", 1)]).exec(&read).await);
        let mut update = item::new("lost", 1);
        update.id = Set(1);
        refused("update", update.update(&read).await);
        refused("delete", item::Entity::delete_by_id(1).exec(&read).await);
        refused("delete_many", item::Entity::delete_many().exec(&read).await);
        refused("for update", item::Entity::find().lock(LockType::Update).all(&read).await);
        refused("for share", item::Entity::find().lock(LockType::Share).one(&read).await);
        refused("stream for update", item::Entity::find().lock(LockType::Update).stream(&read).await.map(drop));
        refused("create table", item::create_table(&read).await);
        refused("begin read write", read.begin_with_config(None, Some(AccessMode::ReadWrite)).await);
        let options = TransactionOptions { access_mode: Some(AccessMode::ReadWrite), ..Default::default() };
        refused("begin with options", read.begin_with_options(options).await);
        let result = read
            .transaction_with_config::<_, u8, DbErr>(|_| Box::pin(async { Ok(1) }), None, Some(AccessMode::ReadWrite))
            .await;
        refused(
            "transaction",
            result.map_err(|error| match error {
                TransactionError::Connection(error) | TransactionError::Transaction(error) => error,
            }),
        );
    };
    tokio::time::timeout(Duration::from_secs(20), refusals).await.expect("refused without asking anybody");
    assert_eq!(served_reads(&db), before);
    for server in servers.servers() {
        server.thaw()?;
    }
    let found = item::Entity::find().all(&servers.plain().await?).await?;
    assert_eq!(found.into_iter().map(|item| (item.name, item.amount)).collect::<Vec<_>>(), [("kept".to_owned(), 1)]);
    Ok(())
}

on_each_database!(read_connections_refuse_all_but_plain_reads_before_the_wire, [postgres, mariadb]);

async fn a_read_transaction_is_read_only_in_the_database(servers: Servers) -> Result<()> {
    let db = servers.connect().await?;
    for transaction in [
        db.read().begin().await?,
        db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?,
        db.write().begin_with_config(None, Some(AccessMode::ReadOnly)).await?,
        db.read().begin_with_config(Some(IsolationLevel::RepeatableRead), None).await?,
    ] {
        let error = item::new("lost", 1).insert(&transaction).await.expect_err("read only");
        let ours = Error::from_db_err(&error).expect("typed");
        assert!(ours.is_refused() && ours.node() == Some(transaction.node()), "{error}");
        assert!(std::error::Error::source(ours).is_some(), "the server refuses it, not we: {error}");
        transaction.rollback().await?;
    }
    // A statement that no standby can run goes to the primary.
    for transaction in [
        db.begin_with_config(Some(IsolationLevel::Serializable), Some(AccessMode::ReadOnly)).await?,
        db.read().begin_with_config(Some(IsolationLevel::Serializable), None).await?,
    ] {
        assert_eq!(transaction.node(), "primary");
        assert_eq!(item::Entity::find().count(&transaction).await?, 0);
        transaction.commit().await?;
    }
    let seen =
        db.read().transaction::<_, String, DbErr>(|tx| Box::pin(async move { Ok(tx.node().to_owned()) })).await?;
    assert!(db.topology().member(&seen).is_some());
    Ok(())
}

on_each_database!(a_read_transaction_is_read_only_in_the_database, [postgres, mariadb]);

#[tokio::test]
async fn every_inherent_method_of_seaorm_exists() -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.connect().await?;
    db.ping().await?;
    assert_eq!(db.get_database_backend(), DbBackend::Postgres);
    assert_eq!(db.read().get_database_backend(), DbBackend::Postgres);
    assert_eq!(db.write().get_database_backend(), DbBackend::Postgres);
    assert_eq!(StreamTrait::get_database_backend(&db), DbBackend::Postgres);
    let transaction = db.begin().await?;
    assert_eq!(ConnectionTrait::get_database_backend(&transaction), DbBackend::Postgres);
    assert!(transaction.support_returning() && !transaction.is_mock_connection());
    assert!(db.read().support_returning() && db.write().support_returning());
    drop(transaction);
    db.get_schema_builder().register(customer::Entity).apply(&db.primary()).await?;
    assert_eq!(customer::Entity::find().count(&db.primary()).await?, 0);
    db.clone().close().await?;
    item::Entity::find().all(&db).await.expect_err("it is closed");
    item::new("x", 1).insert(&db).await.expect_err("it is closed");
    db.ping().await.expect_err("it is closed");
    Ok(())
}
