//! A metric callback hears every node: those there are, and those to come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, MockDatabase, Statement, StreamTrait, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, NodeConfig};

use crate::{files::NamedFiles, item, servers::served_reads, who::Who};

/// What a callback was told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn by(db: &mut DatabaseConnection) -> Self {
        let told = Self::default();
        let heard = told.clone();
        db.set_metric_callback(move |info| {
            heard.0.lock().unwrap_or_else(PoisonError::into_inner).push(info.statement.sql.clone());
        });
        told
    }

    /// What was told since it was asked last.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn numbered(number: usize) -> Statement {
    Statement::from_string(DbBackend::Sqlite, format!("SELECT who, {number} FROM who"))
}

/// Reads until each member has answered, and checks that each answer was told.
async fn reads_of_every_member_are_told(db: &DatabaseConnection, who: &Who, told: &Told) -> Result<()> {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    let members = db.topology().members().count();
    told.take();
    let mut asked = 0;
    while answers.len() < members {
        asked += 1;
        assert!(asked < 1_000, "{answers:?}");
        *answers.entry(who.answers(&db.session().read()).await?).or_default() += 1;
    }
    assert_eq!(told.take().len(), asked, "{answers:?}");
    Ok(())
}

#[tokio::test]
async fn a_callback_hears_whatever_way_a_statement_takes() -> Result<()> {
    let files = NamedFiles::new().await?;
    let mut db = files.builder().primary_read_share(0.5).seed(1).connect().await?;
    let (older, read, write) = (db.clone(), db.read(), db.write());
    let told = Told::by(&mut db);
    reads_of_every_member_are_told(&db, &files.who(), &told).await?;

    let mut expected = Vec::new();
    let mut next = || {
        let statement = numbered(expected.len());
        expected.push(statement.sql.clone());
        statement
    };
    older.query_one_raw(next()).await?;
    read.query_all_raw(next()).await?;
    write.execute_raw(next()).await?;
    db.primary().query_one_raw(next()).await?;
    let lent: &sea_orm::DatabaseConnection = db.as_ref();
    lent.query_one_raw(next()).await?;
    read.stream_raw(next()).await?.try_collect::<Vec<_>>().await?;
    for transaction in [db.begin().await?, read.begin().await?] {
        transaction.query_one_raw(next()).await?;
        transaction.stream_raw(next()).await?.try_collect::<Vec<_>>().await?;
        transaction.begin().await?.query_one_raw(next()).await?;
    }
    assert_eq!(told.take(), expected);
    Ok(())
}

#[tokio::test]
async fn a_callback_hears_the_nodes_to_come() -> Result<()> {
    let files = NamedFiles::new().await?;
    let mut db = DatabaseConnection::builder().primary(files.node("primary")).seed(1).connect().await?;
    let told = Told::by(&mut db);
    db.set_primary_read_share(0.5)?;
    db.add_replica(files.node("replica-0")).await?;
    reads_of_every_member_are_told(&db, &files.who(), &told).await?;

    // One that is open already, and was told to somebody else.
    let mut open = sea_orm::Database::connect(files.url("replica-1")).await?;
    open.set_metric_callback(|_| panic!("the facade's callback takes its place"));
    db.swap_replicas([files.node("replica-0"), NodeConfig::from(&open).name("replica-1")]).await?;
    reads_of_every_member_are_told(&db, &files.who(), &told).await?;

    db.swap_primary(NodeConfig::from(&open).name("replica-1")).await?;
    assert_eq!(db.topology().primary().name(), "replica-1");
    told.take();
    item::Entity::insert(item::new("told", 1)).exec(&db.session()).await?;
    assert_eq!(told.take().len(), 1, "the read-write pool that was given");
    reads_of_every_member_are_told(&db, &files.who(), &told).await
}

/// Nodes join while callbacks are set: whoever is published is heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_is_missed_when_callbacks_are_set_meanwhile() -> Result<()> {
    let files = NamedFiles::new().await?;
    for _ in 0..20 {
        let db = DatabaseConnection::builder().primary(files.node("primary")).seed(1).connect().await?;
        db.set_primary_read_share(0.5)?;
        let (mut setter, replica) = (db.clone(), files.node("replica-0"));
        let setting = tokio::spawn(async move { Told::by(&mut setter) });
        db.add_replica(replica).await?;
        reads_of_every_member_are_told(&db, &files.who(), &setting.await?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn another_callback_takes_the_place_of_the_first_and_may_be_set_by_it() -> Result<()> {
    let files = NamedFiles::new().await?;
    let mut db = files.builder().connect().await?;
    let first = Told::by(&mut db);
    db.write().query_one_raw(numbered(1)).await?;
    let second = Told::by(&mut db);
    db.write().query_one_raw(numbered(2)).await?;
    assert_eq!((first.take().len(), second.take().len()), (1, 1));

    let third: Arc<Mutex<Option<Told>>> = Arc::default();
    let (setter, place) = (Mutex::new(db.clone()), Arc::clone(&third));
    db.set_metric_callback(move |_| {
        let mut db = setter.lock().unwrap_or_else(PoisonError::into_inner);
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Told::by(&mut db));
    });
    db.write().query_one_raw(numbered(3)).await?;
    let third = third.lock().unwrap_or_else(PoisonError::into_inner).take().expect("the callback ran");
    db.write().query_one_raw(numbered(4)).await?;
    assert_eq!(third.take(), [numbered(4).sql]);
    Ok(())
}

#[tokio::test]
async fn probes_and_mocks_are_not_told() -> Result<()> {
    let files = NamedFiles::new().await?;
    let mut db = DatabaseConnection::builder().primary(files.node("primary")).connect().await?;
    let told = Told::by(&mut db);
    db.add_replica(files.node("replica-0")).await?;
    db.ping().await?;
    assert_eq!(told.take(), Vec::<String>::new());
    assert_eq!(served_reads(&db).len(), 2);

    let mut db: DatabaseConnection =
        MockDatabase::new(DbBackend::Sqlite).append_query_results([Vec::<item::Model>::new()]).into_connection().into();
    let told = Told::by(&mut db);
    item::Entity::find().all(&db).await?;
    assert_eq!(told.take(), Vec::<String>::new(), "as with SeaORM");
    assert_eq!(db.into_transaction_log().len(), 1);
    Ok(())
}

/// A handle that was given open may bring a callback, which only SeaORM can call.
#[tokio::test]
async fn the_callback_that_a_given_handle_brings_along_is_told() -> Result<()> {
    let files = NamedFiles::new().await?;
    let mut own = sea_orm::Database::connect(files.url("primary")).await?;
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let teller = Arc::clone(&told);
    own.set_metric_callback(move |info| {
        teller.lock().unwrap_or_else(PoisonError::into_inner).push(info.statement.sql.clone());
    });
    let db = DatabaseConnection::from(own);
    db.query_one_raw(numbered(1)).await?;
    db.write().query_all_raw(numbered(2)).await?;
    let write = Statement::from_string(DbBackend::Sqlite, "UPDATE item SET amount = 3");
    db.execute_raw(write.clone()).await?;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(told, [numbered(1).sql, numbered(2).sql, write.sql]);
    Ok(())
}
