//! Statements as text.

use entity::customer;
use sea_orm::{DbBackend, DbErr, EntityTrait, FromQueryResult, JsonValue, QueryResult, SelectExt, Statement, raw_sql};

use super::scenario::{Conn, Scenario, Seen, backend, scenarios, seen, told};

pub(super) fn reads<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        texts,
        values,
        into_models,
        with_the_macro,
        texts_as_people_write_them,
        common_tables,
        rows_by_hand,
        descriptions,
        execute + 2,
        errors,
    ]
}

#[derive(Debug, FromQueryResult)]
#[expect(dead_code, reason = "shown")]
struct Place {
    id: i32,
    #[sea_orm(alias = "city")]
    place: String,
}

#[derive(Debug, FromQueryResult)]
#[expect(dead_code, reason = "shown")]
struct Order {
    id: i32,
    #[sea_orm(nested)]
    buyer: Option<Buyer>,
}

#[derive(Debug, FromQueryResult)]
#[expect(dead_code, reason = "shown")]
struct Buyer {
    #[sea_orm(alias = "buyer_id")]
    id: i32,
    #[sea_orm(alias = "buyer_name")]
    name: String,
}

/// The placeholders of each database.
fn placeholders(backend: DbBackend, sql: &str) -> String {
    match backend {
        DbBackend::Postgres => sql.to_owned(),
        _ => sql.replace("$1", "?").replace("$2", "?"),
    }
}

fn names(rows: &[QueryResult]) -> Result<Vec<String>, DbErr> {
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

async fn texts<C: Conn>(db: &C) -> Seen {
    let all = || Statement::from_string(backend(db), "SELECT name FROM customers ORDER BY id");
    seen![
        names(&db.query_all_raw(all()).await?)?,
        db.query_one_raw(all()).await?.map(|row| row.try_get::<String>("", "name")),
        db.query_one_raw(Statement::from_string(backend(db), "SELECT name FROM customers WHERE id < 0"))
            .await?
            .is_none(),
    ]
}

async fn values<C: Conn>(db: &C) -> Seen {
    let sql = placeholders(backend(db), "SELECT name FROM customers WHERE city = $1 AND id > $2 ORDER BY id");
    let of = |city: &str, id: i32| Statement::from_sql_and_values(backend(db), sql.clone(), [city.into(), id.into()]);
    seen![
        names(&db.query_all_raw(of("Oslo", 0)).await?)?,
        names(&db.query_all_raw(of("Oslo'; DROP TABLE customers; --", 0)).await?)?,
        db.query_one_raw(of("Riga", 4)).await?.map(|row| row.try_get_by_index::<String>(0)),
    ]
}

async fn into_models<C: Conn>(db: &C) -> Seen {
    let all = || Statement::from_string(backend(db), "SELECT * FROM customers ORDER BY id");
    seen![
        customer::Entity::find().from_raw_sql(all()).all(db).await?,
        customer::Entity::find().from_raw_sql(all()).one(db).await?,
        customer::Entity::find().from_raw_sql(all()).require_one(db).await?,
        customer::Entity::find().from_raw_sql(all()).into_model::<Place>().all(db).await?,
        customer::Entity::find().from_raw_sql(all()).into_json().one(db).await?,
        customer::Entity::find().from_raw_sql(all()).exists(db).await?,
        Place::find_by_statement(all()).all(db).await?,
        JsonValue::find_by_statement(all()).all(db).await?,
    ]
}

/// The macro takes a literal and finds the values by the names of variables, so it stands here three times.
fn of_the_cities(backend: DbBackend, cities: [&str; 2], least: i32) -> Statement {
    match backend {
        DbBackend::Postgres => {
            raw_sql!(Postgres, "SELECT * FROM customers WHERE city IN ({..cities}) AND id >= {least} ORDER BY id")
        }
        DbBackend::MySql => {
            raw_sql!(MySql, "SELECT * FROM customers WHERE city IN ({..cities}) AND id >= {least} ORDER BY id")
        }
        _ => raw_sql!(Sqlite, "SELECT * FROM customers WHERE city IN ({..cities}) AND id >= {least} ORDER BY id"),
    }
}

async fn with_the_macro<C: Conn>(db: &C) -> Seen {
    let orders = "SELECT orders.id, customers.id AS buyer_id, customers.name AS buyer_name \
                  FROM orders LEFT JOIN customers ON orders.customer_id = customers.id AND customers.id > 3 \
                  ORDER BY orders.id";
    let sql = of_the_cities(backend(db), ["Oslo", "Riga"], 2);
    seen![
        customer::Entity::find().from_raw_sql(sql.clone()).all(db).await?,
        Place::find_by_statement(sql).all(db).await?,
        Place::find_by_statement(of_the_cities(backend(db), ["Oslo'; --", ""], 2)).one(db).await?,
        Order::find_by_statement(Statement::from_string(backend(db), orders)).all(db).await?,
    ]
}

/// All of them are plain reads.
async fn texts_as_people_write_them<C: Conn>(db: &C) -> Seen {
    let mut seen = Vec::new();
    for sql in [
        "select name from customers order by id",
        "  \n\tSELECT name FROM customers ORDER BY id ;",
        "SELECT name FROM customers ORDER BY id -- FOR UPDATE",
        "/* DELETE FROM customers */ SELECT name FROM customers ORDER BY id",
        "SELECT name FROM customers ORDER BY id /*traceparent='00-1',route='%2Fusers'*/",
        "(SELECT name FROM customers WHERE id = 1) UNION ALL (SELECT name FROM customers WHERE id = 2)",
        "SELECT name FROM customers WHERE name <> 'INSERT; UPDATE' ORDER BY id",
        "SELECT REPLACE(name, 'a', 'b') FROM customers ORDER BY id",
        "SELECT name FROM (SELECT * FROM customers) AS t WHERE EXISTS (SELECT 1) ORDER BY id",
        "SELECT CASE WHEN id > 3 THEN name ELSE 'x' END FROM customers ORDER BY id",
        "SELECT COALESCE(MAX(name), '') FROM customers",
    ] {
        if sql.starts_with('(') && backend(db) == DbBackend::Sqlite {
            continue; // SQLite has no such parentheses.
        }
        let rows = db.query_all_raw(Statement::from_string(backend(db), sql)).await?;
        seen.push((sql, names(&rows)?));
    }
    seen![seen]
}

async fn common_tables<C: Conn>(db: &C) -> Seen {
    let of_oslo = "WITH oslo AS (SELECT * FROM customers WHERE city = 'Oslo') SELECT name FROM oslo ORDER BY id";
    let path = "WITH RECURSIVE path (id, name, parent_id) AS ( \
                SELECT id, name, parent_id FROM categories WHERE name = 'Cups' UNION ALL \
                SELECT c.id, c.name, c.parent_id FROM categories c JOIN path p ON c.id = p.parent_id) \
                SELECT name FROM path ORDER BY id";
    let run = async |sql: &str| names(&db.query_all_raw(Statement::from_string(backend(db), sql)).await?);
    seen![run(of_oslo).await?, run(path).await?]
}

async fn rows_by_hand<C: Conn>(db: &C) -> Seen {
    let sql = "SELECT id, name, NULL AS absent, city AS a_city FROM customers ORDER BY id";
    let row = db.query_one_raw(Statement::from_string(backend(db), sql)).await?;
    let row = row.ok_or(DbErr::RecordNotFound("the first customer".to_owned()))?;
    seen![
        row.column_names(),
        row.try_get::<i32>("", "id"),
        row.try_get::<String>("a_", "city"),
        row.try_get::<Option<String>>("", "absent"),
        row.try_get_by_index::<String>(1),
        row.try_get_by::<String, _>("name"),
        row.try_get_many::<(i32, String)>("", &["id".to_owned(), "name".to_owned()]),
        row.try_get_many_by_index::<(i32, String)>(),
        told(row.try_get::<i32>("", "name")),
        told(row.try_get::<i32>("", "no_such_column")),
        told(row.try_get::<String>("", "absent")),
        told(row.try_get_by_index::<String>(9)),
    ]
}

/// The questions of a program about the database.
async fn descriptions<C: Conn>(db: &C) -> Seen {
    let (explain, columns) = match backend(db) {
        DbBackend::Postgres => (
            "EXPLAIN (COSTS OFF) SELECT * FROM customers WHERE id = 1",
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'customers' ORDER BY ordinal_position",
        ),
        DbBackend::MySql => ("EXPLAIN SELECT * FROM customers WHERE id = 1", "SHOW COLUMNS FROM customers"),
        _ => (
            "EXPLAIN QUERY PLAN SELECT * FROM customers WHERE id = 1",
            "SELECT name FROM pragma_table_info('customers')",
        ),
    };
    let explain = db.query_all_raw(Statement::from_string(backend(db), explain)).await?;
    let columns = db.query_all_raw(Statement::from_string(backend(db), columns)).await?;
    seen![
        explain.iter().map(QueryResult::column_names).collect::<Vec<_>>(),
        columns.iter().map(|row| row.try_get_by_index::<String>(0)).collect::<Vec<_>>(),
    ]
}

/// `execute` says nothing of the kind of a statement.
async fn execute<C: Conn>(db: &C) -> Seen {
    let sql = "SELECT name FROM customers ORDER BY id";
    seen![
        db.execute_raw(Statement::from_string(backend(db), sql)).await?.rows_affected(),
        db.execute_unprepared(sql).await?.rows_affected(),
        db.execute_unprepared("SELECT 1; SELECT 2").await?.rows_affected(),
    ]
}

async fn errors<C: Conn>(db: &C) -> Seen {
    let raw = |sql: &str| Statement::from_string(backend(db), sql);
    let short = Statement::from_sql_and_values(
        backend(db),
        placeholders(backend(db), "SELECT name FROM customers WHERE city = $1 AND id > $2"),
        ["Oslo".into()],
    );
    seen![
        told(db.query_all_raw(raw("SELECT * FROM no_such_table")).await.map(|rows| rows.len())),
        told(db.query_one_raw(raw("SELECT no_such_column FROM customers")).await.map(|row| row.is_some())),
        told(db.query_one_raw(raw("SELECT FROM WHERE customers")).await.map(|row| row.is_some())),
        told(db.execute_unprepared("SELECT * FROM no_such_table").await.map(|done| done.rows_affected())),
        told(db.query_all_raw(short).await.map(|rows| rows.len())),
        told(customer::Entity::find().from_raw_sql(raw("SELECT id FROM customers")).all(db).await),
    ]
}
