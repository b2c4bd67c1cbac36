//! User functions: the primary lists them, and a call of a function that only reads may run on a replica.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use sea_orm_resolver::DatabaseConnection;
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time;

use super::Nodes;

const SOONEST: Duration = Duration::from_secs(10);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The node that runs this statement, in a session of its own.
async fn runs(db: &DatabaseConnection, sql: &str) -> Result<String, DbErr> {
    let db = db.session();
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    row.expect("a row").try_get("", "name")
}

async fn listing(nodes: &Nodes) -> Result<DatabaseConnection, DbErr> {
    nodes.primary.set_functions(&[
        ("public", "price_of", true),
        ("public", "log_it", false),
        ("public", "two", true),
        ("shop", "two", false),
    ]);
    let db = nodes.connect().await?;
    nodes.primary.reached(Step::ListFunctions, 1).await;
    // The list has arrived when the prober has gone on.
    time::sleep(PROBE_INTERVAL).await;
    Ok(db)
}

#[tokio::test(start_paused = true)]
async fn a_listed_function_that_only_reads_runs_on_a_replica() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(2);
    let db = listing(&nodes).await?;
    for read in ["SELECT price_of(7)", "SELECT public.price_of(7)", "SELECT public.two(7)", "SELECT lower('A')"] {
        assert!(runs(&db, read).await?.starts_with('r'), "{read}");
    }
    for write in ["SELECT log_it(7)", "SELECT two(7)", "SELECT shop.two(7)", "SELECT shop.price_of(7)", "SELECT x.y(7)"]
    {
        assert_eq!(runs(&db, write).await?, "p", "{write}");
    }
    for replica in &nodes.replicas {
        assert_eq!(replica.count(Step::ListFunctions), 0, "the primary alone is asked");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_unlisted_name_has_the_list_asked_for_again_and_a_listed_one_has_not() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = listing(&nodes).await?;
    for _ in 0..20 {
        runs(&db, "SELECT log_it(7)").await?;
        time::sleep(SOONEST).await;
    }
    assert_eq!(nodes.primary.count(Step::ListFunctions), 1, "what writes is known, and stays on the primary");

    nodes.primary.set_functions(&[("public", "young", true)]);
    let unlisted = Statement::from_string(db.get_database_backend(), "SELECT young(7)");
    for _ in 0..3 {
        assert_eq!(db.explain(&unlisted).node(), Some("p"));
        time::sleep(SOONEST).await;
    }
    assert_eq!(nodes.primary.count(Step::ListFunctions), 1, "what is only explained asks nobody");
    assert_eq!(runs(&db, "SELECT young(7)").await?, "p");
    nodes.primary.reached(Step::ListFunctions, 2).await;
    time::sleep(PROBE_INTERVAL).await;
    assert_eq!(runs(&db, "SELECT young(7)").await?, "r1");
    assert_eq!(runs(&db, "SELECT price_of(7)").await?, "p", "it is gone");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_exist_is_asked_for_less_and_less_often() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = listing(&nodes).await?;
    nodes.primary.forget();
    for _ in 0..3_600 {
        runs(&db, "SELECT nobody_has_it(7)").await?;
        time::sleep(Duration::from_secs(1)).await;
    }
    // Ten seconds, then twice as long each time, up to ten minutes: 10 · (1 + 2 + … + 32) = 630 s, then 6 times 600.
    let asked = nodes.primary.count(Step::ListFunctions);
    assert!((9..=13).contains(&asked), "{asked}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_had_costs_nothing_but_the_replicas() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    for behaviour in [Behaviour::Never, Behaviour::Fail(fault::server("42501")), Behaviour::Panic] {
        nodes.primary.on(Step::ListFunctions, behaviour);
        let db = nodes.connect().await?;
        nodes.primary.reached(Step::ListFunctions, 1).await;
        for _ in 0..30 {
            assert_eq!(runs(&db, "SELECT price_of(7)").await?, "p");
            assert_eq!(runs(&db, "SELECT 1").await?, "r1");
            time::sleep(PROBE_INTERVAL).await;
        }
        let health = db.topology().primary().health();
        assert_eq!(health, sea_orm_resolver::Health::Up, "{:?}", db.topology().primary());
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_restarted_primary_lists_its_functions_again() -> Result<(), DbErr> {
    let nodes = Nodes::postgres(1);
    let db = listing(&nodes).await?;
    nodes.primary.set_functions(&[("public", "young", true)]);
    nodes.primary.forget();
    nodes.primary.restart();
    nodes.primary.reached(Step::ListFunctions, 1).await;
    time::sleep(PROBE_INTERVAL).await;
    assert_eq!(runs(&db, "SELECT young(7)").await?, "r1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn mysql_has_no_such_list() -> Result<(), DbErr> {
    let nodes = Nodes::speaking(DbBackend::MySql, 1);
    let db = nodes.connect().await?;
    for _ in 0..30 {
        assert_eq!(runs(&db, "SELECT price_of(7)").await?, "p");
        time::sleep(PROBE_INTERVAL).await;
    }
    assert_eq!(nodes.count(Step::ListFunctions), 0);
    Ok(())
}
