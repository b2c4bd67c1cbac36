//! Query methods of `Select` and their results.

use entity::{
    card::{self, Tier},
    category, customer,
    order::{self, Status},
    order_line, product, review,
};
use sea_orm::{
    ColumnTrait, Condition, DbBackend, DerivePartialModel, EntityTrait, FromQueryResult, JoinType, Order,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, RelationTrait, SelectExt, dynamic,
    prelude::{Decimal, Uuid},
    sea_query::{
        CommonTableExpression, Expr, ExprTrait, Func, IntoIden, NullOrdering, Query, UnionType, WindowStatement,
        WithClause,
    },
};

use super::scenario::{Conn, Scenario, Seen, backend, scenarios, seen, told};

pub(super) fn reads<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        one_all_and_require_one,
        by_every_kind_of_key,
        by_conditions,
        in_orders_and_windows,
        distinct_rows,
        chosen_columns,
        groups,
        tuples_values_models_and_json,
        partial_models,
        counts_and_existence,
        subqueries,
        unions_and_common_tables,
        window_functions,
        expressions,
        unusual_columns,
        dynamic_models,
        errors,
        the_kind_of_connection,
    ]
}

async fn one_all_and_require_one<C: Conn>(db: &C) -> Seen {
    let by_id = || customer::Entity::find().order_by_id_asc();
    let nobody = || customer::Entity::find().filter(customer::COLUMN.city.eq("Atlantis"));
    seen![
        by_id().all(db).await?,
        by_id().one(db).await?,
        customer::Entity::find().order_by_id_desc().require_one(db).await?,
        nobody().all(db).await?,
        nobody().one(db).await?,
        told(nobody().require_one(db).await),
    ]
}

async fn by_every_kind_of_key<C: Conn>(db: &C) -> Seen {
    let line = order_line::Entity::find().order_by_id_asc().require_one(db).await?;
    let review = review::Entity::find().order_by_id_desc().require_one(db).await?;
    seen![
        customer::Entity::find_by_id(3).one(db).await?,
        customer::Entity::find_by_id(999).one(db).await?,
        customer::Entity::find_by_email("alan.1@example.com").one(db).await?,
        order_line::Entity::find_by_id((line.order_id, line.product_id)).one(db).await?,
        card::Entity::find_by_id(Uuid::from_u128(0x5eed_0002)).one(db).await?,
        card::Entity::find_by_customer_id(1).one(db).await?,
        review::Entity::find_by_opinion((review.product_id, review.customer_id)).one(db).await?,
        customer::Entity::find().filter(customer::COLUMN.id.is_in([2, 4, 999])).order_by_id_asc().all(db).await?,
    ]
}

async fn by_conditions<C: Conn>(db: &C) -> Seen {
    let customers = || customer::Entity::find().order_by_id_asc();
    let first = customers().require_one(db).await?;
    let nested = Condition::any()
        .add(customer::Column::Name.starts_with("Ada"))
        .add(Condition::all().add(customer::Column::City.eq("Oslo")).add(customer::Column::Id.lt(5)).not());
    seen![
        customers().filter(nested).all(db).await?,
        customers().filter(customer::Column::Name.contains("ra")).all(db).await?,
        customers().filter(customer::Column::Name.ends_with("8")).all(db).await?,
        customers().filter(customer::Column::Email.like("%.1@%")).all(db).await?,
        customers().filter(customer::Column::Id.between(3, 5)).all(db).await?,
        customers().filter(customer::Column::City.is_not_in(["Oslo", "Riga"])).all(db).await?,
        customers().apply_if(Some(4), |select, id| select.filter(customer::Column::Id.gt(id))).all(db).await?,
        customers().apply_if(None::<i32>, |select, id| select.filter(customer::Column::Id.gt(id))).count(db).await?,
        order::Entity::find().left_join(customer::Entity).belongs_to(&first).all(db).await?,
        order::Entity::find().filter(order::Column::Status.eq(Status::Paid)).order_by_id_asc().all(db).await?,
        category::Entity::find().filter(category::Column::ParentId.is_null()).all(db).await?,
        review::Entity::find().filter(review::Column::Body.is_not_null()).order_by_id_asc().all(db).await?,
        // Words of SQL in values are values.
        customers().filter(customer::Column::Name.eq("x'; DELETE FROM customers; -- FOR UPDATE")).all(db).await?,
    ]
}

async fn in_orders_and_windows<C: Conn>(db: &C) -> Seen {
    let products = || product::Entity::find();
    seen![
        products().order_by_desc(product::Column::PriceCents).all(db).await?,
        products().order_by(product::Column::Name, Order::Asc).limit(3).all(db).await?,
        products().order_by_asc(product::Column::Id).offset(2).limit(3).all(db).await?,
        products().order_by_asc(Expr::col(product::Column::PriceCents).modulo(100)).order_by_id_asc().all(db).await?,
        category::Entity::find()
            .order_by_with_nulls(category::Column::ParentId, Order::Asc, NullOrdering::Last)
            .order_by_id_asc()
            .all(db)
            .await?,
        products().order_by_id_asc().limit(0).all(db).await?,
        products().order_by_id_asc().limit(2).limit(None).count(db).await?,
    ]
}

async fn distinct_rows<C: Conn>(db: &C) -> Seen {
    let cities = customer::Entity::find().select_only().column(customer::Column::City);
    let cities: Vec<String> = cities.distinct().order_by_asc(customer::Column::City).into_tuple().all(db).await?;
    // PostgreSQL only.
    let firsts = match backend(db) {
        DbBackend::Postgres => {
            let firsts = customer::Entity::find().distinct_on([customer::Column::City]);
            firsts.order_by_asc(customer::Column::City).order_by_id_asc().all(db).await?
        }
        _ => Vec::new(),
    };
    seen![cities, firsts]
}

async fn chosen_columns<C: Conn>(db: &C) -> Seen {
    let products = || product::Entity::find().select_only().order_by_id_asc();
    seen![
        products().column(product::Column::Name).into_json().all(db).await?,
        products().columns([product::Column::Id, product::Column::Stock]).into_json().all(db).await?,
        products()
            .column_as(product::Column::PriceCents.sum(), "sum")
            .group_by(product::Column::Id)
            .into_json()
            .all(db)
            .await?,
        products()
            .expr(Expr::col(product::Column::Id))
            .exprs([Expr::col(product::Column::Name)])
            .expr_as(Expr::col(product::Column::PriceCents).div(100), "whole")
            .into_json()
            .all(db)
            .await?,
        products().tbl_col_as((product::Entity, product::Column::Name), "label").into_json().all(db).await?,
        product::Entity::find().select_except([product::Column::Stock]).order_by_id_asc().into_json().all(db).await?,
    ]
}

async fn groups<C: Conn>(db: &C) -> Seen {
    let per_city = || {
        customer::Entity::find()
            .select_only()
            .column(customer::Column::City)
            .column_as(customer::Column::Id.count(), "many")
            .group_by(customer::Column::City)
            .order_by_asc(customer::Column::City)
    };
    let sold = order_line::Entity::find()
        .select_only()
        .column(order_line::Column::ProductId)
        .column_as(order_line::Column::UnitPriceCents.max(), "dearest")
        .column_as(order_line::Column::UnitPriceCents.min(), "cheapest")
        .column_as(order_line::Column::Quantity.sum(), "pieces")
        .group_by(order_line::Column::ProductId)
        .having(order_line::Column::Quantity.sum().gt(1))
        .order_by_asc(order_line::Column::ProductId);
    seen![
        per_city().into_tuple::<(String, i64)>().all(db).await?,
        per_city().having(customer::Column::Id.count().gt(1)).into_tuple::<(String, i64)>().all(db).await?,
        sold.into_json().all(db).await?,
    ]
}

#[derive(Debug, FromQueryResult)]
#[expect(dead_code, reason = "shown")]
struct Label {
    name: String,
    #[sea_orm(alias = "price_cents")]
    price: i64,
    #[sea_orm(skip)]
    nothing: Option<u8>,
}

#[derive(Clone, Copy, Debug, sea_orm::EnumIter, sea_orm::DeriveColumn)]
enum OfInterest {
    Name,
    Stock,
}

async fn tuples_values_models_and_json<C: Conn>(db: &C) -> Seen {
    let products = || product::Entity::find().order_by_id_asc();
    seen![
        products().into_model::<Label>().all(db).await?,
        products().into_model::<Label>().one(db).await?,
        products().into_json().one(db).await?,
        products().into_json().require_one(db).await?,
        products()
            .select_only()
            .columns([product::Column::Name, product::Column::Stock])
            .into_values::<(String, i32), OfInterest>()
            .all(db)
            .await?,
        products().select_only().column(product::Column::Name).into_tuple::<String>().one(db).await?,
        products()
            .select_only()
            .columns([product::Column::Id, product::Column::Name])
            .into_tuple::<(i32, String)>()
            .all(db)
            .await?,
        told(products().filter(product::Column::Id.lt(0)).into_model::<Label>().require_one(db).await),
    ]
}

#[derive(Debug, DerivePartialModel)]
#[sea_orm(entity = "customer::Entity")]
#[expect(dead_code, reason = "shown")]
struct Buyer {
    id: i32,
    #[sea_orm(from_col = "name")]
    called: String,
}

#[derive(Debug, DerivePartialModel)]
#[sea_orm(entity = "order::Entity")]
#[expect(dead_code, reason = "shown")]
struct Bought {
    id: i32,
    status: Status,
    #[sea_orm(nested)]
    buyer: Option<Buyer>,
    #[sea_orm(from_expr = "Expr::col(order::Column::CustomerId).add(1000)")]
    number: i32,
}

#[derive(Debug, DerivePartialModel)]
#[sea_orm(entity = "order::Entity")]
#[expect(dead_code, reason = "shown")]
struct ByAlias {
    id: i32,
    #[sea_orm(nested, alias = "who")]
    buyer: Option<Buyer>,
}

async fn partial_models<C: Conn>(db: &C) -> Seen {
    let orders = || order::Entity::find().order_by_asc(order::Column::Id);
    seen![
        customer::Entity::find().order_by_id_asc().into_partial_model::<Buyer>().all(db).await?,
        orders().left_join(customer::Entity).into_partial_model::<Bought>().all(db).await?,
        orders()
            .join_as(JoinType::LeftJoin, order::Relation::Customer.def(), "who")
            .into_partial_model::<ByAlias>()
            .one(db)
            .await?,
        customer::Entity::find().order_by_id_desc().into_partial_model::<customer::Model>().require_one(db).await?,
    ]
}

async fn counts_and_existence<C: Conn>(db: &C) -> Seen {
    let of = |city: &str| customer::Entity::find().filter(customer::Column::City.eq(city));
    seen![
        customer::Entity::find().count(db).await?,
        of("Oslo").count(db).await?,
        of("Oslo").exists(db).await?,
        of("Atlantis").exists(db).await?,
        of("Oslo").limit(1).order_by_id_asc().exists(db).await?,
        of("Oslo").into_json().exists(db).await?,
        order::Entity::find().find_also_related(customer::Entity).count(db).await?,
        order::Entity::find().find_also_related(customer::Entity).exists(db).await?,
        order_line::Entity::find().count(db).await?,
        customer::Entity::find().select_only().column(customer::Column::City).distinct().count(db).await?,
    ]
}

async fn subqueries<C: Conn>(db: &C) -> Seen {
    let buyers = Query::select().column(order::Column::CustomerId).from(order::Entity).to_owned();
    let paid = Query::select()
        .expr(Expr::val(1))
        .from(order::Entity)
        .and_where(
            Expr::col((order::Entity, order::Column::CustomerId)).equals((customer::Entity, customer::Column::Id)),
        )
        .and_where(Expr::col((order::Entity, order::Column::Status)).eq("paid"))
        .to_owned();
    let dearest = Query::select().expr(Expr::col(product::Column::PriceCents).max()).from(product::Entity).to_owned();
    let cheap = product::Entity::find().filter(product::Column::PriceCents.lt(1_200)).into_query();
    let from_sub = Query::select().column("name").from_subquery(cheap, "cheap").order_by("name", Order::Asc).to_owned();
    let mut names = Vec::new();
    for row in db.query_all(&from_sub).await? {
        names.push(row.try_get::<String>("", "name")?);
    }
    seen![
        customer::Entity::find()
            .filter(customer::Column::Id.in_subquery(buyers.clone()))
            .order_by_id_asc()
            .all(db)
            .await?,
        customer::Entity::find().filter(customer::Column::Id.not_in_subquery(buyers)).order_by_id_asc().all(db).await?,
        customer::Entity::find().filter(Expr::exists(paid)).order_by_id_asc().all(db).await?,
        product::Entity::find().filter(Expr::col(product::Column::PriceCents).eq(dearest)).all(db).await?,
        names,
    ]
}

async fn unions_and_common_tables<C: Conn>(db: &C) -> Seen {
    let names_of = |city: &str| {
        let of = customer::Entity::find().select_only().column(customer::Column::Name);
        of.filter(customer::Column::City.eq(city)).into_query()
    };
    let mut union = names_of("Oslo");
    union.union(UnionType::All, names_of("Riga")).order_by("name", Order::Asc);
    let mut distinct = names_of("Oslo");
    distinct.union(UnionType::Distinct, names_of("Oslo")).order_by("name", Order::Asc);
    let mut names = Vec::new();
    for union in [union, distinct] {
        for row in db.query_all(&union).await? {
            names.push(row.try_get_by_index::<String>(0)?);
        }
    }
    let cte = CommonTableExpression::new().query(names_of("Porto")).column("name").table_name("of_porto").to_owned();
    let with = WithClause::new().cte(cte).to_owned();
    let query = Query::select().column("name").from("of_porto").order_by("name", Order::Asc).to_owned().with(with);
    for row in db.query_all(&query).await? {
        names.push(row.try_get::<String>("", "name")?);
    }
    seen![names]
}

async fn window_functions<C: Conn>(db: &C) -> Seen {
    let per_city =
        WindowStatement::partition_by(customer::Column::City).order_by(customer::Column::Id, Order::Asc).to_owned();
    let query = Query::select()
        .column(customer::Column::Id)
        .expr_window_as(Func::cust("ROW_NUMBER"), per_city, "place")
        .from(customer::Entity)
        .order_by(customer::Column::Id, Order::Asc)
        .to_owned();
    let mut places = Vec::new();
    for row in db.query_all(&query).await? {
        places.push((row.try_get::<i32>("", "id")?, row.try_get::<i64>("", "place")?));
    }
    seen![places]
}

async fn expressions<C: Conn>(db: &C) -> Seen {
    let price = || Expr::col(product::Column::PriceCents);
    let kind = Expr::case(price().gt(4_000), "dear").case(price().gt(1_200), "fair").finally("cheap");
    let select = product::Entity::find()
        .select_only()
        .column(product::Column::Id)
        .expr_as(kind, "kind")
        .expr_as(Func::upper(Expr::col(product::Column::Name)), "upper")
        .expr_as(Func::coalesce([Expr::value(Option::<i32>::None), Expr::col(product::Column::Stock)]), "stock")
        .expr_as(Func::char_length(Expr::col(product::Column::Name)), "length")
        .expr_as(Func::greatest([Expr::col(product::Column::Stock), Expr::val(150)]), "more")
        .order_by_id_asc();
    let select = match backend(db) {
        // SQLite has no GREATEST and no CHAR_LENGTH.
        DbBackend::Sqlite => product::Entity::find().select_only().column(product::Column::Id).order_by_id_asc(),
        _ => select,
    };
    seen![select.into_json().all(db).await?]
}

async fn unusual_columns<C: Conn>(db: &C) -> Seen {
    let cards = || card::Entity::find().order_by_asc(card::Column::CustomerId);
    seen![
        cards().all(db).await?,
        cards().filter(card::Column::Tier.eq(Tier::Gold)).all(db).await?,
        cards().filter(card::Column::Tier.is_in([Tier::Basic, Tier::Silver])).count(db).await?,
        cards().filter(card::Column::Balance.gt(Decimal::new(2_000, 2))).all(db).await?,
        cards().filter(card::Column::Birthday.is_null()).all(db).await?,
        cards().filter(card::Column::IsActive.eq(false)).all(db).await?,
        cards().filter(card::Column::Signature.eq(vec![0_u8, 0xff, 0x27, 0x5c, 4])).all(db).await?,
        cards().into_json().one(db).await?,
        cards().select_only().column(card::Column::Tier).into_tuple::<Tier>().all(db).await?,
        cards()
            .select_only()
            .columns([card::Column::Id, card::Column::Balance])
            .into_tuple::<(Uuid, Decimal)>()
            .all(db)
            .await?,
    ]
}

/// SeaORM's unstable interface to columns that only the running program knows.
async fn dynamic_models<C: Conn>(db: &C) -> Seen {
    let dynamic = dynamic::Entity::from_entity(customer::Entity).to_model_type();
    let orders = order::Entity::find().left_join(customer::Entity).order_by_id_asc();
    let found = orders.select_also_dyn_model("customers".into_iden(), dynamic).all(db).await;
    seen![told(found.map(|rows| rows.len()))]
}

async fn errors<C: Conn>(db: &C) -> Seen {
    let select = |sql: &'static str| customer::Entity::find().select_only().expr(Expr::cust(sql));
    seen![
        told(select("no_such_column").into_json().all(db).await),
        told(select("name").into_tuple::<i32>().all(db).await),
        told(select("name").into_model::<Label>().one(db).await),
        told(customer::Entity::find().filter(Expr::cust("name = 'x' COLLATE nonsense")).all(db).await),
        told(customer::Entity::find().select_only().column(customer::Column::Id).one(db).await),
        // Whether this is an error or NULL is the database's own matter.
        told(select("1 / (id - id)").into_json().all(db).await.map(|rows| rows.len())),
    ]
}

async fn the_kind_of_connection<C: Conn>(db: &C) -> Seen {
    seen![backend(db), sea_orm::StreamTrait::get_database_backend(db), db.support_returning(), db.is_mock_connection(),]
}
