//! Unit tests of an application, as SeaORM's documentation has them, behind the changed import.

use anyhow::Result;
use entity::{customer, order};
use futures_util::TryStreamExt;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, IntoMockRow,
    MockDatabase, MockExecResult, PaginatorTrait, QueryFilter, QuerySelect, RuntimeErr, Statement, Transaction,
    TransactionError, TransactionTrait, sea_query::Value,
};
use sea_orm_resolver::{DatabaseConnection, NodeConfig};

use crate::item;

const SELECT: &str = r#"SELECT "item"."id", "item"."name", "item"."amount" FROM "item""#;
const INSERT: &str = r#"INSERT INTO "item" ("name", "amount") VALUES ($1, $2) RETURNING "id", "name", "amount""#;

fn model(id: i32, name: &str) -> item::Model {
    item::Model { id, name: name.to_owned(), amount: 1 }
}

fn connected(mock: MockDatabase) -> DatabaseConnection {
    mock.into_connection().into()
}

fn postgres<I: IntoIterator<Item = Value>>(sql: &str, values: I) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

#[tokio::test]
async fn query_results_come_in_order_and_are_logged() -> Result<()> {
    let mock = MockDatabase::new(DbBackend::Postgres)
        .append_query_results([vec![model(1, "tea")], vec![model(1, "tea"), model(2, "rum")]]);
    let db = connected(mock);
    assert_eq!(item::Entity::find().one(&db).await?, Some(model(1, "tea")));
    assert_eq!(item::Entity::find().all(&db).await?, [model(1, "tea"), model(2, "rum")]);
    assert!(db.is_mock_connection());
    let expected = [
        Transaction::from_sql_and_values(DbBackend::Postgres, format!("{SELECT} LIMIT $1"), [1u64.into()]),
        Transaction::from_sql_and_values(DbBackend::Postgres, SELECT, []),
    ];
    assert_eq!(db.into_transaction_log(), expected);
    Ok(())
}

#[tokio::test]
async fn an_insert_returns_its_row_and_without_returning_is_read_back() -> Result<()> {
    let mock = MockDatabase::new(DbBackend::Postgres).append_query_results([[model(15, "tea")]]);
    let db = connected(mock);
    assert_eq!(item::new("tea", 1).insert(&db).await?, model(15, "tea"));
    let logged = Transaction::from_sql_and_values(DbBackend::Postgres, INSERT, ["tea".into(), 1.into()]);
    assert_eq!(db.into_transaction_log(), [logged]);

    let mock = MockDatabase::new(DbBackend::MySql)
        .append_query_results([[model(15, "tea")]])
        .append_exec_results([MockExecResult { last_insert_id: 15, rows_affected: 1 }]);
    let db = connected(mock);
    assert_eq!(item::new("tea", 1).insert(&db).await?, model(15, "tea"));
    let insert = "INSERT INTO `item` (`name`, `amount`) VALUES (?, ?)";
    let select = "SELECT `item`.`id`, `item`.`name`, `item`.`amount` FROM `item` WHERE `item`.`id` = ? LIMIT ?";
    let expected = [
        Transaction::from_sql_and_values(DbBackend::MySql, insert, ["tea".into(), 1.into()]),
        Transaction::from_sql_and_values(DbBackend::MySql, select, [15.into(), 1u64.into()]),
    ];
    assert_eq!(db.into_transaction_log(), expected);
    Ok(())
}

#[tokio::test]
async fn exec_results_and_rows_of_joins() -> Result<()> {
    let ada = customer::Model {
        id: 1,
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
        city: "Turin".to_owned(),
    };
    let bought = order::Model { id: 9, customer_id: ada.id, status: order::Status::Paid };
    let mock = MockDatabase::new(DbBackend::Postgres)
        .append_query_results([[(bought.clone(), ada.clone())]])
        .append_query_results([[std::collections::BTreeMap::from([("num_items", Value::from(7i64))]).into_mock_row()]])
        .append_exec_results([MockExecResult { last_insert_id: 0, rows_affected: 4 }]);
    let db = connected(mock);
    let found = order::Entity::find().find_also_related(customer::Entity).all(&db).await?;
    assert_eq!(found, [(bought, Some(ada))]);
    assert_eq!(item::Entity::find().count(&db).await?, 7);
    let deleted = item::Entity::delete_many().filter(item::Column::Amount.lt(3)).exec(&db).await?;
    assert_eq!(deleted.rows_affected, 4);
    assert_eq!(db.into_transaction_log().len(), 3);
    Ok(())
}

#[tokio::test]
async fn transactions_are_logged_as_one() -> Result<()> {
    let mock = MockDatabase::new(DbBackend::Postgres).append_query_results([
        vec![model(1, "tea")],
        vec![model(2, "rum")],
        vec![model(3, "gin")],
    ]);
    let db = connected(mock);
    db.transaction::<_, (), DbErr>(|transaction| {
        Box::pin(async move {
            item::Entity::find().one(transaction).await?;
            item::Entity::find().filter(item::Column::Name.eq("rum")).all(transaction).await?;
            Ok(())
        })
    })
    .await?;
    item::Entity::find().all(&db).await?;
    let text = |sql: &str| Statement::from_string(DbBackend::Postgres, sql);
    let expected = [
        Transaction::many([
            text("BEGIN"),
            postgres(&format!("{SELECT} LIMIT $1"), [1u64.into()]),
            postgres(&format!(r#"{SELECT} WHERE "item"."name" = $1"#), ["rum".into()]),
            text("COMMIT"),
        ]),
        Transaction::from_sql_and_values(DbBackend::Postgres, SELECT, []),
    ];
    assert_eq!(db.into_transaction_log(), expected);
    Ok(())
}

#[tokio::test]
async fn transactions_end_by_an_error_a_drop_or_a_savepoint() -> Result<()> {
    let mock = MockDatabase::new(DbBackend::Postgres).append_query_results([
        [model(1, "tea")],
        [model(2, "rum")],
        [model(3, "gin")],
    ]);
    let db = connected(mock);
    let failed = db
        .transaction::<_, (), DbErr>(|transaction| {
            Box::pin(async move {
                item::Entity::find().one(transaction).await?;
                Err(DbErr::Custom("no".to_owned()))
            })
        })
        .await;
    assert!(matches!(failed, Err(TransactionError::Transaction(DbErr::Custom(_)))), "{failed:?}");
    let outer = db.begin().await?;
    let inner = outer.begin().await?;
    item::Entity::find().one(&inner).await?;
    inner.commit().await?;
    drop(outer.begin().await?);
    outer.commit().await?;
    drop(db.begin().await?);
    let log: Vec<Vec<String>> = db
        .into_transaction_log()
        .iter()
        .map(|transaction| transaction.statements().iter().map(|statement| statement.sql.clone()).collect())
        .collect();
    let one = format!("{SELECT} LIMIT $1");
    let expected: [&[&str]; 3] = [
        &["BEGIN", &one, "ROLLBACK"],
        &[
            "BEGIN",
            "SAVEPOINT savepoint_1",
            &one,
            "RELEASE SAVEPOINT savepoint_1",
            "SAVEPOINT savepoint_1",
            "ROLLBACK TO SAVEPOINT savepoint_1",
            "COMMIT",
        ],
        &["BEGIN", "ROLLBACK"],
    ];
    assert_eq!(log, expected);
    Ok(())
}

#[tokio::test]
async fn scripted_errors_come_through_as_they_are_and_nothing_is_run_again() -> Result<()> {
    let mock = MockDatabase::new(DbBackend::Postgres)
        .append_query_errors([
            DbErr::Custom("no".to_owned()),
            DbErr::Conn(RuntimeErr::Internal("gone".to_owned())),
            DbErr::RecordNotFound("none".to_owned()),
        ])
        .append_exec_errors([DbErr::Exec(RuntimeErr::Internal("full".to_owned()))]);
    let db = connected(mock);
    assert_eq!(item::Entity::find().all(&db).await, Err(DbErr::Custom("no".to_owned())));
    let gone = item::Entity::find().one(&db).await;
    assert_eq!(gone, Err(DbErr::Conn(RuntimeErr::Internal("gone".to_owned()))));
    let none = item::Entity::find().all(&db.read()).await;
    assert_eq!(none, Err(DbErr::RecordNotFound("none".to_owned())));
    let full = db.execute_unprepared("DELETE FROM item").await.map(drop);
    assert_eq!(full, Err(DbErr::Exec(RuntimeErr::Internal("full".to_owned()))));
    // Behind the list SeaORM says so.
    assert!(item::Entity::find().all(&db).await.is_err());
    assert_eq!(db.into_transaction_log().len(), 5);
    Ok(())
}

#[tokio::test]
async fn streams_cursors_and_the_other_handles() -> Result<()> {
    let mock = MockDatabase::new(DbBackend::Postgres).append_query_results([
        vec![model(1, "tea"), model(2, "rum")],
        vec![model(3, "gin")],
        vec![model(4, "mate")],
        vec![model(5, "milk")],
        vec![model(6, "beer")],
    ]);
    let db = connected(mock);
    let streamed: Vec<_> = item::Entity::find().stream(&db).await?.try_collect().await?;
    assert_eq!(streamed, [model(1, "tea"), model(2, "rum")]);
    let transaction = db.read().begin().await?;
    let streamed: Vec<_> = item::Entity::find().stream(&transaction).await?.try_collect().await?;
    transaction.commit().await?;
    assert_eq!(streamed, [model(3, "gin")]);
    assert_eq!(item::Entity::find().cursor_by(item::Column::Id).first(1).all(&db).await?, [model(4, "mate")]);
    assert_eq!(item::Entity::find().all(&db.read()).await?, [model(5, "milk")]);
    let mut update: item::ActiveModel = model(6, "beer").into();
    update.name = Set("beer".to_owned());
    assert_eq!(update.update(&db.write()).await?, model(6, "beer"));
    assert_eq!(db.into_transaction_log().len(), 5);
    Ok(())
}

/// A test may give each node a mock of its own, to see where its statements go.
#[tokio::test]
async fn mocks_of_a_primary_and_a_replica_show_where_statements_go() -> Result<()> {
    let primary = MockDatabase::new(DbBackend::Postgres).append_query_results([[model(7, "new")]]).into_connection();
    let replica = MockDatabase::new(DbBackend::Postgres).append_query_results([[model(1, "tea")]]).into_connection();
    let db = DatabaseConnection::builder()
        .primary(NodeConfig::from(&primary))
        .replica(NodeConfig::from(&replica))
        .primary_read_share(0.0)
        .connect()
        .await?;
    assert_eq!(item::Entity::find().limit(1).all(&db).await?, [model(1, "tea")]);
    assert_eq!(item::new("new", 1).insert(&db).await?, model(7, "new"));
    assert!(db.as_mock_connection().get_database_backend() == DbBackend::Postgres);
    assert_eq!(db.into_transaction_log().len(), 1, "of the primary");
    assert_eq!(replica.into_transaction_log().len(), 1);
    Ok(())
}

#[test]
#[should_panic(expected = "Not mock connection")]
fn a_node_that_is_no_mock_has_no_log() {
    let pool = sea_orm::sqlx::sqlite::SqlitePoolOptions::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _inside = runtime.enter();
    let pool = pool.connect_lazy("sqlite::memory:").expect("a pool");
    DatabaseConnection::from(pool).into_transaction_log();
}
