//! Every way to begin and end a transaction, and the rows that are seen inside of it and outside.

use entity::{customer, order, order_line, product, tag};
use futures_util::TryStreamExt;
use sea_orm::{
    AccessMode, ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, IntoActiveModel, IsolationLevel, LoaderTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionSession, TransactionTrait,
    sea_query::{LockBehavior, LockType},
};

use super::scenario::{Conn, Scenario, Seen, backend, ended, scenarios, seen, told};

pub(super) fn writes<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        closures,
        begun_and_ended,
        nested,
        levels_and_modes,
        options,
        reads_inside_see_the_writes,
        a_read_first_and_then_a_write,
        everything_that_reads_inside,
        locks,
        locks_outside,
        not_seen_outside,
        an_error_inside,
        read_only,
        moved_money,
    ]
}

fn tag(name: &str) -> tag::ActiveModel {
    tag::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

/// Inserts a tag and ends as told.
async fn insert_and<T: ConnectionTrait>(tx: &T, name: &str, end: Result<i32, DbErr>) -> Result<i32, DbErr> {
    tag(name).insert(tx).await?;
    end
}

fn oops() -> DbErr {
    DbErr::Custom("oops".to_owned())
}

async fn names<T: ConnectionTrait>(db: &T, like: &str) -> Result<Vec<String>, DbErr> {
    let tags = tag::Entity::find().filter(tag::Column::Name.like(like)).order_by_asc(tag::Column::Name).all(db).await?;
    Ok(tags.into_iter().map(|tag| tag.name).collect())
}

async fn closures<C: Conn>(db: &C) -> Seen {
    let level = (backend(db) != DbBackend::Sqlite).then_some(IsolationLevel::Serializable);
    seen![
        ended(db.transaction(|tx| Box::pin(insert_and(tx, "closed 1", Ok(1)))).await),
        ended(db.transaction(|tx| Box::pin(insert_and(tx, "closed lost", Err(oops())))).await),
        ended(db.transaction(|tx| Box::pin(insert_and(tx, "sale", Ok(1)))).await),
        ended(db.transaction_with_config(|tx| Box::pin(insert_and(tx, "closed 2", Ok(2))), level, None).await),
        ended(db.transaction_with_config(|tx| Box::pin(insert_and(tx, "closed lost", Err(oops()))), level, None).await),
        names(db, "closed%").await?,
    ]
}

async fn begun_and_ended<C: Conn>(db: &C) -> Seen {
    let committed = db.begin().await?;
    insert_and(&committed, "begun 1", Ok(1)).await?;
    committed.commit().await?;
    let rolled_back = db.begin().await?;
    insert_and(&rolled_back, "begun lost", Ok(1)).await?;
    rolled_back.rollback().await?;
    let dropped = db.begin().await?;
    insert_and(&dropped, "begun lost", Ok(1)).await?;
    drop(dropped);
    let empty = db.begin().await?;
    empty.commit().await?;
    seen![names(db, "begun%").await?]
}

async fn nested<C: Conn>(db: &C) -> Seen {
    let outer = db.begin().await?;
    insert_and(&outer, "nested 1", Ok(1)).await?;
    let inner = outer.begin().await?;
    insert_and(&inner, "nested lost", Ok(1)).await?;
    inner.rollback().await?;
    let inner = outer.begin().await?;
    insert_and(&inner, "nested 2", Ok(1)).await?;
    let innermost = inner.begin().await?;
    insert_and(&innermost, "nested lost", Ok(1)).await?;
    drop(innermost);
    inner.commit().await?;
    let closed = ended(outer.transaction(|tx| Box::pin(insert_and(tx, "nested 3", Ok(3)))).await);
    let failed = ended(outer.transaction(|tx| Box::pin(insert_and(tx, "nested lost", Err(oops())))).await);
    let within = names(&outer, "nested%").await?;
    outer.commit().await?;
    let lost = db.begin().await?;
    let inner = lost.begin().await?;
    insert_and(&inner, "nested lost", Ok(1)).await?;
    inner.commit().await?;
    lost.rollback().await?;
    seen![closed, failed, within, names(db, "nested%").await?]
}

async fn levels_and_modes<C: Conn>(db: &C) -> Seen {
    let mut all = Vec::new();
    if backend(db) == DbBackend::Sqlite {
        // SQLite has neither; SeaORM says so in the log and goes on.
        return seen![all];
    }
    let levels = [
        None,
        Some(IsolationLevel::ReadUncommitted),
        Some(IsolationLevel::ReadCommitted),
        Some(IsolationLevel::RepeatableRead),
        Some(IsolationLevel::Serializable),
    ];
    for level in levels {
        for mode in [None, Some(AccessMode::ReadWrite), Some(AccessMode::ReadOnly)] {
            let tx = db.begin_with_config(level, mode).await?;
            let found = product::Entity::find().count(&tx).await?;
            let inside = session(&tx).await?;
            let name = format!("level {}", all.len());
            let written = told(insert_and(&tx, &name, Ok(1)).await);
            tx.rollback().await?;
            all.push((format!("{level:?} {mode:?}"), found, inside, written));
        }
    }
    // Neither outlives its transaction.
    let after = db.begin().await?;
    let inside = session(&after).await?;
    after.commit().await?;
    seen![all, inside]
}

/// The server's answer about the transaction.
async fn session<T: ConnectionTrait>(tx: &T) -> Result<Vec<String>, DbErr> {
    let sql = match tx.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        }
        _ => "SELECT CAST(@@in_transaction AS CHAR), @@tx_isolation",
    };
    let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), sql)).await?;
    let row = row.ok_or_else(oops)?;
    Ok(vec![row.try_get_by_index(0)?, row.try_get_by_index(1)?])
}

async fn options<C: Conn>(db: &C) -> Seen {
    let is_sqlite = backend(db) == DbBackend::Sqlite;
    let options = [
        TransactionOptions::default(),
        TransactionOptions {
            isolation_level: (!is_sqlite).then_some(IsolationLevel::RepeatableRead),
            access_mode: (!is_sqlite).then_some(AccessMode::ReadWrite),
            sqlite_transaction_mode: is_sqlite.then_some(SqliteTransactionMode::Immediate),
        },
        TransactionOptions {
            sqlite_transaction_mode: is_sqlite.then_some(SqliteTransactionMode::Exclusive),
            ..TransactionOptions::default()
        },
    ];
    for (n, options) in options.into_iter().enumerate() {
        let tx = db.begin_with_options(options).await?;
        insert_and(&tx, &format!("options {n}"), Ok(1)).await?;
        tx.commit().await?;
    }
    seen![names(db, "options%").await?]
}

async fn reads_inside_see_the_writes<C: Conn>(db: &C) -> Seen {
    let tx = db.begin().await?;
    let inserted = tag("inside 1").insert(&tx).await?;
    let found = tag::Entity::find_by_id(inserted.id).one(&tx).await?;
    let mut changed = inserted.clone().into_active_model();
    changed.name = Set("inside 2".to_owned());
    let changed = changed.update(&tx).await?;
    let again = tag::Entity::find_by_id(inserted.id).one(&tx).await?;
    let counted = tag::Entity::find().filter(tag::Column::Name.like("inside%")).count(&tx).await?;
    tag::Entity::delete_by_id(inserted.id).exec(&tx).await?;
    let gone = tag::Entity::find_by_id(inserted.id).one(&tx).await?;
    tx.commit().await?;
    seen![inserted, found, changed, again, counted, gone]
}

async fn a_read_first_and_then_a_write<C: Conn>(db: &C) -> Seen {
    let tx = db.begin().await?;
    let product = product::Entity::find_by_id(2).require_one(&tx).await?;
    let mut sold = product.clone().into_active_model();
    sold.stock = Set(product.stock - 1);
    let sold = sold.update(&tx).await?;
    tx.commit().await?;
    seen![product, sold, product::Entity::find_by_id(2).one(db).await?]
}

async fn everything_that_reads_inside<C: Conn>(db: &C) -> Seen {
    let tx = db.begin().await?;
    let customer = customer::ActiveModel {
        name: Set("Inside".to_owned()),
        email: Set("inside@example.com".to_owned()),
        city: Set("Inside".to_owned()),
        ..Default::default()
    };
    let customer = customer.insert(&tx).await?;
    let placed =
        order::ActiveModel { customer_id: Set(customer.id), status: Set(order::Status::Placed), ..Default::default() };
    let order = placed.insert(&tx).await?;
    let of_them = || customer::Entity::find().filter(customer::Column::City.eq("Inside"));
    let streamed: Vec<_> = of_them().stream(&tx).await?.try_collect().await?;
    let pages = of_them().order_by_id_asc().paginate(&tx, 1).fetch_page(0).await?;
    let cursor = of_them().cursor_by(customer::Column::Id).first(1).all(&tx).await?;
    let related = of_them().find_with_related(order::Entity).all(&tx).await?;
    let loaded = streamed.load_many(order::Entity, &tx).await?;
    let lines = order::Entity::load().filter(order::COLUMN.id.eq(order.id)).with(order_line::Entity).one(&tx).await?;
    let raw = Statement::from_string(backend(db), "SELECT * FROM customers WHERE city = 'Inside'");
    let raw = customer::Entity::find().from_raw_sql(raw).all(&tx).await?;
    tx.rollback().await?;
    seen![streamed, pages, cursor, related, loaded, lines, raw, of_them().all(db).await?]
}

async fn locks<C: Conn>(db: &C) -> Seen {
    let tx = db.begin().await?;
    let products = || product::Entity::find().filter(product::Column::Id.is_in([1, 2])).order_by_id_asc();
    let mut all = vec![
        products().lock_exclusive().all(&tx).await?,
        products().lock_shared().all(&tx).await?,
        products().lock(LockType::Update).all(&tx).await?,
    ];
    if backend(db) == DbBackend::Postgres {
        all.push(products().lock(LockType::NoKeyUpdate).all(&tx).await?);
        all.push(products().lock(LockType::KeyShare).all(&tx).await?);
    }
    // A second session, over another connection, skips the rows or is told that they are locked.
    let others = if backend(db) == DbBackend::Sqlite {
        None
    } else {
        let second = db.begin().await?;
        let skipped = products().lock_with_behavior(LockType::Update, LockBehavior::SkipLocked).all(&second).await?;
        let refused = products().lock_with_behavior(LockType::Update, LockBehavior::Nowait).all(&second).await;
        second.rollback().await?;
        Some((skipped, told(refused)))
    };
    tx.commit().await?;
    seen![all, others]
}

/// A lock that ends with its statement, and yet is no plain read.
async fn locks_outside<C: Conn>(db: &C) -> Seen {
    let products = || product::Entity::find().order_by_id_asc().limit(2);
    seen![
        products().lock_exclusive().all(db).await?,
        products().lock_shared().one(db).await?,
        products().lock_exclusive().stream(db).await?.try_collect::<Vec<_>>().await?,
    ]
}

async fn not_seen_outside<C: Conn>(db: &C) -> Seen {
    if backend(db) == DbBackend::Sqlite {
        return seen!["SeaORM's pool of a file has one connection, which the transaction has"];
    }
    let tx = db.begin().await?;
    insert_and(&tx, "hidden", Ok(1)).await?;
    let inside = names(&tx, "hidden").await?;
    let outside = names(db, "hidden").await?;
    tx.commit().await?;
    seen![inside, outside, names(db, "hidden").await?]
}

async fn an_error_inside<C: Conn>(db: &C) -> Seen {
    let tx = db.begin().await?;
    insert_and(&tx, "before the error", Ok(1)).await?;
    let twice = told(insert_and(&tx, "sale", Ok(1)).await);
    // PostgreSQL refuses everything after an error; the others go on.
    let after = told(names(&tx, "before%").await);
    let end = told(tx.commit().await);
    // Inside a savepoint the error is contained.
    let outer = db.begin().await?;
    let inner = outer.begin().await?;
    let contained = told(insert_and(&inner, "sale", Ok(1)).await);
    inner.rollback().await?;
    insert_and(&outer, "after the error", Ok(1)).await?;
    outer.commit().await?;
    seen![twice, after, end, contained, names(db, "%the error").await?]
}

async fn read_only<C: Conn>(db: &C) -> Seen {
    if backend(db) == DbBackend::Sqlite {
        return seen!["it has no access modes"];
    }
    let read = |tx: TransactionOptions| db.begin_with_options(tx);
    let options = TransactionOptions { access_mode: Some(AccessMode::ReadOnly), ..TransactionOptions::default() };
    let tx = read(options).await?;
    let found = product::Entity::find().order_by_id_asc().all(&tx).await?;
    let refused = told(insert_and(&tx, "read only", Ok(1)).await);
    tx.rollback().await?;
    let closed = db
        .transaction_with_config(
            |tx| Box::pin(async move { customer::Entity::find().count(tx).await }),
            Some(IsolationLevel::RepeatableRead),
            Some(AccessMode::ReadOnly),
        )
        .await;
    seen![found, refused, ended(closed), names(db, "read only").await?]
}

/// Two rows change together, many times, in transactions that follow each other.
async fn moved_money<C: Conn>(db: &C) -> Seen {
    let mut sums = Vec::new();
    for n in 0..10 {
        let moved = db
            .transaction(|tx| {
                Box::pin(async move {
                    let mut from =
                        product::Entity::find_by_id(6).lock_exclusive().require_one(tx).await?.into_active_model();
                    let mut to =
                        product::Entity::find_by_id(7).lock_exclusive().require_one(tx).await?.into_active_model();
                    from.stock = Set(from.stock.take().unwrap_or_default() - n);
                    to.stock = Set(to.stock.take().unwrap_or_default() + n);
                    let (from, to) = (from.update(tx).await?, to.update(tx).await?);
                    if n % 3 == 2 { Err(oops()) } else { Ok((from.stock, to.stock)) }
                })
            })
            .await;
        let now = product::Entity::find().filter(product::Column::Id.is_in([6, 7])).order_by_id_asc().all(db).await?;
        sums.push((ended(moved), now.iter().map(|product| product.stock).collect::<Vec<_>>()));
    }
    seen![sums]
}
