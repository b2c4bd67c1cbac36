//! Joins, related and linked entities, and selects of two to six models.

use entity::{card, category, customer, order, order_line, pairing, product, product_tag, review, tag};
use sea_orm::{
    ColumnTrait, DerivePartialModel, EntityTrait, FromQueryResult, JoinType, ModelTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, RelationTrait,
    sea_query::{Expr, ExprTrait},
};

use super::scenario::{Conn, Scenario, Seen, scenarios, seen, told};

pub(super) fn reads<C: Conn>() -> Vec<Scenario<C>> {
    scenarios![
        joins,
        joins_by_alias,
        has_related,
        of_one_model,
        also_related,
        both_related,
        with_related,
        linked,
        trees,
        selected_together,
        three_models,
        four_to_six_models,
        junctions,
    ]
}

async fn joins<C: Conn>(db: &C) -> Seen {
    let orders = || order::Entity::find().order_by_id_asc();
    let customers = || customer::Entity::find().order_by_id_asc();
    let names = || customer::Entity::find().select_only().column(customer::Column::Name);
    seen![
        customers().inner_join(order::Entity).distinct().all(db).await?,
        customers().left_join(order::Entity).filter(order::Column::Id.is_null()).all(db).await?,
        orders().right_join(customer::Entity).count(db).await?,
        customers().reverse_join(order::Entity).count(db).await?,
        orders()
            .join(JoinType::InnerJoin, order::Relation::Customer.def())
            .filter(customer::Column::City.eq("Porto"))
            .all(db)
            .await?,
        customers().join_rev(JoinType::InnerJoin, order::Relation::Customer.def()).count(db).await?,
        names()
            .column_as(order::Column::Id.count(), "orders")
            .left_join(order::Entity)
            .group_by(customer::Column::Id)
            .group_by(customer::Column::Name)
            .order_by_asc(customer::Column::Id)
            .into_tuple::<(String, i64)>()
            .all(db)
            .await?,
        orders().inner_join(product::Entity).filter(product::Column::Name.eq("Teapot")).all(db).await?,
    ]
}

async fn joins_by_alias<C: Conn>(db: &C) -> Seen {
    let orders = || order::Entity::find().order_by_asc(order::Column::Id);
    let customers = || customer::Entity::find().order_by_asc(customer::Column::Id);
    seen![
        orders()
            .join_as(JoinType::InnerJoin, order::Relation::Customer.def(), "who")
            .filter(Expr::col(("who", customer::Column::City)).eq("Porto"))
            .all(db)
            .await?,
        customers()
            .join_as_rev(JoinType::InnerJoin, order::Relation::Customer.def(), "what")
            .filter(Expr::col(("what", order::Column::Status)).eq("shipped"))
            .distinct()
            .all(db)
            .await?,
    ]
}

async fn has_related<C: Conn>(db: &C) -> Seen {
    seen![
        customer::Entity::find()
            .has_related(order::Entity, order::Column::Status.eq("paid"))
            .order_by_id_asc()
            .all(db)
            .await?,
        product::Entity::find()
            .has_related(tag::Entity, tag::Column::Name.eq("sale"))
            .order_by_id_asc()
            .all(db)
            .await?,
    ]
}

async fn of_one_model<C: Conn>(db: &C) -> Seen {
    let customer = customer::Entity::find_by_id(3).require_one(db).await?;
    let product = product::Entity::find_by_id(3).require_one(db).await?;
    let order = customer.find_related(order::Entity).order_by_id_asc().require_one(db).await?;
    seen![
        customer.find_related(order::Entity).order_by_id_asc().all(db).await?,
        customer.find_related(card::Entity).one(db).await?,
        order.find_related(customer::Entity).one(db).await?,
        order.find_related(product::Entity).order_by_id_asc().all(db).await?,
        product.find_related(tag::Entity).order_by_id_asc().all(db).await?,
        product.find_related(review::Entity).count(db).await?,
        customer.find_linked(customer::ToBought).order_by_id_asc().all(db).await?,
        order::Entity::find_related_rev::<customer::Entity>().count(db).await?,
    ]
}

async fn also_related<C: Conn>(db: &C) -> Seen {
    let cards = || customer::Entity::find().find_also_related(card::Entity).order_by_asc(customer::Column::Id);
    let orders = || order::Entity::find().find_also_related(customer::Entity).order_by_asc(order::Column::Id);
    seen![
        cards().all(db).await?,
        cards().one(db).await?,
        cards().require_one(db).await?,
        told(cards().filter(customer::Column::Id.lt(0)).require_one(db).await),
        orders().into_json().all(db).await?,
        orders().into_model::<Head, Buyer>().all(db).await?,
        // Selects columns under other names than it reads; if that is repaired, both sides will show it.
        told(orders().into_partial_model::<PartialHead, PartialBuyer>().all(db).await),
        product::Entity::find()
            .find_also_related(tag::Entity)
            .order_by_asc(product::Column::Id)
            .order_by_asc(tag::Column::Id)
            .all(db)
            .await?,
    ]
}

#[derive(Debug, FromQueryResult)]
#[expect(dead_code, reason = "shown")]
struct Head {
    id: i32,
}

#[derive(Debug, FromQueryResult)]
#[expect(dead_code, reason = "shown")]
struct Buyer {
    city: String,
}

#[derive(Debug, DerivePartialModel)]
#[sea_orm(entity = "order::Entity")]
#[expect(dead_code, reason = "shown")]
struct PartialHead {
    id: i32,
}

#[derive(Debug, DerivePartialModel)]
#[sea_orm(entity = "customer::Entity")]
#[expect(dead_code, reason = "shown")]
struct PartialBuyer {
    city: String,
}

async fn both_related<C: Conn>(db: &C) -> Seen {
    let both = || customer::Entity::find().find_both_related(card::Entity).order_by_asc(customer::Column::Id);
    seen![
        both().all(db).await?,
        both().one(db).await?,
        both().require_one(db).await?,
        both().into_json().one(db).await?,
        both().into_model::<Head, Head>().one(db).await.is_ok(),
    ]
}

async fn with_related<C: Conn>(db: &C) -> Seen {
    seen![
        customer::Entity::find()
            .find_with_related(order::Entity)
            .order_by_asc(customer::Column::Id)
            .order_by_asc(order::Column::Id)
            .all(db)
            .await?,
        order::Entity::find()
            .find_with_related(product::Entity)
            .order_by_asc(order::Column::Id)
            .order_by_asc(product::Column::Id)
            .all(db)
            .await?,
        product::Entity::find()
            .filter(product::Column::Stock.gt(1_000_000))
            .find_with_related(review::Entity)
            .all(db)
            .await?,
    ]
}

async fn linked<C: Conn>(db: &C) -> Seen {
    let customers = || customer::Entity::find();
    seen![
        customers()
            .find_with_linked(customer::ToBought)
            .order_by_asc(customer::Column::Id)
            .order_by_asc(Expr::col(("r2", product::Column::Id)))
            .all(db)
            .await?,
        customers()
            .find_also_linked(customer::ToBought)
            .order_by_asc(customer::Column::Id)
            .order_by_asc(Expr::col(("r2", product::Column::Id)))
            .order_by_asc(Expr::col(("r0", order::Column::Id)))
            .all(db)
            .await?,
        customers().left_join_linked(customer::ToBought).count(db).await?,
    ]
}

async fn trees<C: Conn>(db: &C) -> Seen {
    let cups = category::Entity::find_by_name("Cups").require_one(db).await?;
    let categories = || category::Entity::find().order_by_asc(category::Column::Id);
    // SeaORM hides these two, and PostgreSQL has no table `cte`: WITH without RECURSIVE.
    let path = told(cups.find_linked_recursive(category::ToParent).all(db).await);
    let below = category::Entity::find().filter(category::Column::Name.eq("Tea"));
    let below = told(below.find_with_linked_recursive(category::ToParent).all(db).await);
    seen![
        cups.find_linked(category::ToParent).one(db).await?,
        categories().find_also_linked(category::ToParent).all(db).await?,
        path.map(|path| path.len()),
        below.map(|below| below.len()),
    ]
}

async fn selected_together<C: Conn>(db: &C) -> Seen {
    let joined = || order::Entity::find().inner_join(customer::Entity).order_by_asc(order::Column::Id);
    seen![
        joined().select_also(customer::Entity).all(db).await?,
        joined().select_two_required(customer::Entity).all(db).await?,
        customer::Entity::find()
            .inner_join(order::Entity)
            .select_with(order::Entity)
            .order_by_asc(customer::Column::Id)
            .order_by_asc(order::Column::Id)
            .all(db)
            .await?,
        order::Entity::find().select_also_fake(customer::Entity).order_by_asc(order::Column::Id).all(db).await?,
        order::Entity::find()
            .find_also(order::Entity, customer::Entity)
            .order_by_asc(order::Column::Id)
            .all(db)
            .await?,
    ]
}

async fn three_models<C: Conn>(db: &C) -> Seen {
    let star = || {
        review::Entity::find()
            .find_also_related(customer::Entity)
            .find_also_related(product::Entity)
            .order_by_asc(review::Column::Id)
    };
    let chain = || {
        order_line::Entity::find()
            .find_also_related(order::Entity)
            .and_also_related(customer::Entity)
            .order_by_asc(order_line::Column::OrderId)
            .order_by_asc(order_line::Column::ProductId)
    };
    seen![
        star().all(db).await?,
        star().one(db).await?,
        star().count(db).await?,
        star().consolidate().all(db).await?,
        chain().all(db).await?,
        chain().consolidate().all(db).await?,
        chain().into_json().one(db).await?,
        chain().into_model::<Pieces, Head, Buyer>().all(db).await?,
    ]
}

#[derive(Debug, FromQueryResult)]
#[expect(dead_code, reason = "shown")]
struct Pieces {
    quantity: i32,
}

async fn four_to_six_models<C: Conn>(db: &C) -> Seen {
    let four = || {
        review::Entity::find()
            .find_also(review::Entity, customer::Entity)
            .find_also(review::Entity, product::Entity)
            .find_also(customer::Entity, card::Entity)
    };
    let five = || four().find_also(product::Entity, tag::Entity);
    seen![
        four().order_by_asc(review::Column::Id).all(db).await?,
        four().order_by_asc(review::Column::Id).one(db).await?,
        four().order_by_asc(review::Column::Id).paginate(db, 2).fetch_page(1).await?,
        five().order_by_asc(review::Column::Id).order_by_asc(tag::Column::Id).all(db).await?,
        five()
            .find_also(customer::Entity, order::Entity)
            .order_by_asc(review::Column::Id)
            .order_by_asc(tag::Column::Id)
            .all(db)
            .await?,
    ]
}

async fn junctions<C: Conn>(db: &C) -> Seen {
    seen![
        pairing::Entity::find()
            .join(JoinType::InnerJoin, pairing::Relation::Companion.def())
            .filter(product::Column::Name.eq("Teacup"))
            .all(db)
            .await?,
        product_tag::Entity::find().inner_join(tag::Entity).filter(tag::Column::Name.eq("new")).count(db).await?,
    ]
}
