//! Functions that take a type of SeaORM's by name, and the handles that this crate converts into it.

use std::time::Duration;

use anyhow::Result;
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseConnectionType, DatabaseExecutor, DbBackend, DbErr, EntityTrait,
    IntoDatabaseExecutor, PaginatorTrait, SqlxSqliteConnector, TransactionTrait,
    rbac::{RbacContext, RbacUserId},
};
use sea_orm_resolver::{Builder, Database, DatabaseConnection, DatabaseTransaction, Error, NodeConfig};

use crate::{
    files::{NamedFiles, SharedFile},
    item,
    servers::in_flight,
    wait::wait_until,
};

/// Longer than any test runs.
const HOLD: Duration = Duration::from_secs(3_600);

/// Helpers of a crate that knows SeaORM only.
async fn third_party_insert(db: &sea_orm::DatabaseConnection, name: &str) -> Result<(), DbErr> {
    item::new(name, 1).insert(db).await.map(drop)
}

async fn third_party_insert_within(transaction: &sea_orm::DatabaseTransaction, name: &str) -> Result<(), DbErr> {
    item::new(name, 1).insert(transaction).await.map(drop)
}

async fn count(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    item::Entity::find().count(db).await
}

/// Reads go to the replicas, except for the writes of the session.
fn told_apart(files: &NamedFiles) -> Builder {
    files.builder().primary_read_share(0.0).unknown_outcome_hold(HOLD)
}

#[tokio::test]
async fn helpers_that_take_seaorms_types_can_be_called() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = file.builder().connect().await?;
    third_party_insert(db.as_ref(), "connection").await?;
    third_party_insert(db.write().as_ref(), "write connection").await?;
    let transaction = db.begin().await?;
    third_party_insert_within(transaction.as_ref(), "transaction").await?;
    transaction.commit().await?;
    assert_eq!(count(&db).await?, 3);
    Ok(())
}

/// SeaORM's handles of the primary, in every way a session gives one away.
fn lent_by(session: &DatabaseConnection) -> [(&'static str, sea_orm::DatabaseConnection); 4] {
    let of_write = session.write();
    let executor = |executor: DatabaseExecutor<'_>| match executor {
        DatabaseExecutor::Connection(connection) => connection.clone(),
        _ => panic!("a connection gives a connection"),
    };
    [
        ("AsRef", AsRef::<sea_orm::DatabaseConnection>::as_ref(session).clone()),
        ("From", executor(DatabaseExecutor::from(session))),
        ("AsRef of write()", AsRef::<sea_orm::DatabaseConnection>::as_ref(&of_write).clone()),
        ("primary()", session.primary()),
    ]
}

#[tokio::test]
async fn a_write_that_a_lent_handle_tells_is_seen_by_its_session_and_by_plain_reads() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = told_apart(&files).connect().await?;
    let (who, stick) = (files.who(), Duration::from_secs(1));
    for number in 0..4 {
        for in_transaction in [false, true] {
            let (session, other) = (db.session(), db.session());
            let (name, lent) = lent_by(&session)[number].clone();
            assert!(who.answers(&session).await?.starts_with("replica"), "{name}: lending alone changes nothing");
            count(&lent).await?;
            assert!(who.answers(&session).await?.starts_with("replica"), "{name}: a read is no write");
            if in_transaction {
                let transaction = lent.begin().await?;
                third_party_insert_within(&transaction, "lent").await?;
                transaction.commit().await?;
            } else {
                third_party_insert(&lent, "lent").await?;
            }
            assert_eq!(who.answers(&session).await?, "primary", "{name}, in a transaction: {in_transaction}");
            assert_eq!(who.answers(&db).await?, "primary", "{name}, in a transaction: {in_transaction}");
            assert!(who.answers(&other).await?.starts_with("replica"), "{name}: another session is not concerned");
        }
    }
    // No session is bound for longer than a write binds.
    tokio::time::sleep(stick * 2).await;
    assert!(who.answers(&db.session()).await?.starts_with("replica"));
    wait_until("plain reads are back on the replicas", stick * 20, async || {
        Ok(who.answers(&db).await?.starts_with("replica"))
    })
    .await?;
    // SeaORM's handle outlives this crate's, and then has no connection to tell.
    let lent = db.primary();
    drop(db);
    third_party_insert(&lent, "late").await?;
    Ok(())
}

#[tokio::test]
async fn a_lent_handle_is_of_the_primary_of_the_moment_and_stays_so() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = DatabaseConnection::builder().primary(files.node("primary")).connect().await?;
    let who = files.who();
    let before: &sea_orm::DatabaseConnection = db.as_ref();
    let pool = db.get_sqlite_connection_pool();
    assert!(std::ptr::eq(before, AsRef::<sea_orm::DatabaseConnection>::as_ref(&db)), "made once");
    assert_eq!(who.answers(before).await?, "primary");

    // A node whose pool was given open is not closed when it leaves.
    let open = sea_orm::Database::connect(files.url("replica-0")).await?;
    db.swap_primary(NodeConfig::from(&open).name("replica-0")).await?;
    assert_eq!(who.answers(AsRef::<sea_orm::DatabaseConnection>::as_ref(&db)).await?, "replica-0");
    assert!(!std::ptr::eq(pool, db.get_sqlite_connection_pool()));
    let second: &sea_orm::DatabaseConnection = db.as_ref();
    db.swap_primary(files.node("replica-1")).await?;
    assert_eq!(who.answers(second).await?, "replica-0", "a reference that is out keeps its node");
    assert_eq!(who.answers(AsRef::<sea_orm::DatabaseConnection>::as_ref(&db)).await?, "replica-1");
    assert_eq!(who.answers(AsRef::<sea_orm::DatabaseConnection>::as_ref(&db.clone())).await?, "replica-1");
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_is_given_away_ends_as_its_new_owner_says() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = told_apart(&files).connect().await?;
    let session = db.session();
    let transaction = session.begin().await?;
    item::new("given", 1).insert(&transaction).await?;
    let DatabaseExecutor::OwnedTransaction(given) = transaction.into_database_executor() else {
        panic!("it is owned");
    };
    assert!(in_flight(&db).values().all(|&count| count == 0), "it is no operation of ours any more");
    assert_eq!(count(&given).await?, 1);
    given.commit().await?;
    assert_eq!(count(&session).await?, 1, "the session does not know how it ended");
    assert_eq!(files.who().answers(&session).await?, "primary");

    let dropped = db.session().begin().await?;
    item::new("dropped", 1).insert(&dropped).await?;
    drop(dropped.into_database_executor());
    assert_eq!(count(&db.write()).await?, 1);
    Ok(())
}

#[tokio::test]
async fn read_and_write_connections_have_the_methods_too() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = files.builder().primary_read_share(0.0).connect().await?;
    let (read, write) = (db.read(), db.write());
    read.ping().await?;
    write.ping().await?;
    assert_eq!((read.get_database_backend(), write.get_database_backend()), (DbBackend::Sqlite, DbBackend::Sqlite));
    assert_eq!(
        format!("{:?}", read.get_schema_builder().register(item::Entity)),
        format!("{:?}", write.get_schema_builder().register(item::Entity)),
    );
    let registry = format!("{:?}", db.get_schema_registry("entity::*"));
    assert!(registry.contains("order_lines"), "{registry}");
    assert_eq!(format!("{:?}", read.get_schema_registry("entity::*")), registry);
    assert_eq!(format!("{:?}", write.get_schema_registry("entity::*")), registry);

    let node = read.node().expect("drawn");
    let seen = read.transaction_async(async |tx: &DatabaseTransaction| Ok::<_, DbErr>(tx.node().to_owned())).await?;
    assert_eq!(seen, node);
    let insert = async |tx: &DatabaseTransaction| item::new("async", 1).insert(tx).await;
    write.transaction_with_config_async(insert, None, None).await?;
    read.transaction_async(insert).await.expect_err("its session is read-only");
    assert_eq!(count(&db.write()).await?, 1);
    Ok(())
}

#[tokio::test]
async fn open_pools_and_handles_become_ours() -> Result<()> {
    let file = SharedFile::new().await?;
    let plain = sea_orm::Database::connect(file.url()).await?;
    let pool = plain.get_sqlite_connection_pool().clone();
    let ours: [DatabaseConnection; 4] = [
        plain.clone().into(),
        pool.clone().into(),
        plain.inner.clone().into(),
        SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.clone()).into(),
    ];
    for (number, db) in (1..).zip(ours) {
        item::new("adopted", 1).insert(&db).await?;
        assert_eq!(count(&db).await?, number);
        db.close().await?;
    }
    assert!(!pool.is_closed(), "it is its owner who closes it");
    Ok(())
}

/// No runtime, as in a `Default` of an application's state.
#[test]
fn a_default_connection_is_connected_to_nothing() {
    let db = DatabaseConnection::default();
    assert!(format!("{db:?}").contains("disconnected"), "{db:?}");
    // SeaORM panics here.
    db.get_database_backend();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for db in [db, DatabaseConnectionType::Disconnected.into()] {
            for result in [
                count(&db).await.map(drop),
                count(&db.read()).await.map(drop),
                item::new("lost", 1).insert(&db).await.map(drop),
                db.begin().await.map(drop),
                db.ping().await,
                third_party_disconnected(db.as_ref()).await,
            ] {
                assert!(
                    matches!(&result, Err(DbErr::Conn(error)) if error.to_string() == "Disconnected"),
                    "{result:?}"
                );
            }
        }
        let error = DatabaseConnection::builder().primary(sea_orm::DatabaseConnection::default()).connect().await;
        let error = error.expect_err("a node must be connected");
        assert!(Error::from_db_err(&error).is_some_and(Error::is_config), "{error}");
    });
}

async fn third_party_disconnected(db: &sea_orm::DatabaseConnection) -> Result<(), DbErr> {
    db.execute_unprepared("SELECT 1").await.map(drop)
}

#[tokio::test]
async fn access_rules_are_those_of_the_primary_they_were_loaded_for() -> Result<()> {
    let files = NamedFiles::new().await?;
    let mut rules_db = Database::connect(files.url("primary")).await?;
    rules_db.set_metric_callback(|_| {});
    sea_orm::rbac::schema::create_tables(&rules_db, sea_orm::rbac::schema::RbacCreateTablesParams::default()).await?;
    let mut rules = RbacContext::load(&rules_db).await?;
    rules.add_tables(&rules_db, &["item"]).await?;
    rules.add_crud_permissions(&rules_db).await?;
    rules.add_roles(&rules_db, &["reader"]).await?;
    rules.assign_user_role(&rules_db, &[(1, "reader")]).await?;
    rules.add_role_permissions(&rules_db, "reader", &["select"], &["item"]).await?;

    let reader = RbacUserId(1);
    let mut db = files.builder().primary_read_share(0.0).connect().await?;
    db.load_rbac_from(&rules_db).await?;
    let allowed = async |db: &DatabaseConnection| {
        let restricted = db.restricted_for(reader)?;
        let denied = item::new("stolen", 1).insert(&restricted).await.expect_err("a reader");
        assert!(matches!(denied, DbErr::AccessDenied { .. }), "{denied}");
        count(&restricted).await
    };
    assert_eq!(allowed(&db).await?, 0);
    // Neither another handle nor a callback that is set later forgets the rules.
    assert_eq!(allowed(&db.session()).await?, 0);
    db.set_metric_callback(|_| {});
    assert_eq!(allowed(&db).await?, 0);
    assert!(db.primary().restricted_for(reader).is_ok(), "the same rules on SeaORM's own handle");

    db.swap_primary(files.node("replica-0")).await?;
    let error = db.restricted_for(reader).map(drop).expect_err("nobody is let in without rules");
    assert!(matches!(error, DbErr::RbacError(_)), "{error}");
    db.load_rbac().await.expect_err("this file has no rules");
    db.load_rbac_from(&rules_db).await?;
    assert_eq!(allowed(&db).await?, 0);
    Ok(())
}
