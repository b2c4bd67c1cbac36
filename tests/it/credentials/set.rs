//! Credentials that an operator gives while the service runs.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use sea_orm::{ConnectionTrait, EntityTrait, PaginatorTrait, TransactionTrait};
use sea_orm_resolver::{Credentials, DatabaseConnection, NodeConfig};
use testkit::ChaosProxy;

use super::vault::{Login, PATIENCE, SHORT_LIVED, Vault, builder, without_password};
use crate::{
    files::NamedFiles,
    item,
    servers::{Servers, on_each_database},
};

async fn operate_often(db: &DatabaseConnection) -> Result<()> {
    for _ in 0..10 {
        item::Entity::find().count(&db.read()).await?;
        item::Entity::find().count(&db.write()).await?;
        db.begin().await?.rollback().await?;
        tokio::time::sleep(SHORT_LIVED * 2).await;
    }
    Ok(())
}

async fn credentials_given_by_hand_open_the_next_connections(servers: Servers) -> Result<()> {
    let first = Login::first(&servers);
    let second = first.next();
    let db = servers.open(builder(&servers, |server| NodeConfig::new(server.url()))).await?;
    let lent = db.primary();
    operate_often(&db).await?;
    for name in ["primary", "replica-0", "replica-1"] {
        db.set_credentials(name, second.credentials())?;
    }
    first.replace_by(&second, &servers).await?;
    operate_often(&db).await?;
    for _ in 0..3 {
        lent.execute_unprepared("SELECT 1").await?;
    }
    let error = db.set_credentials("nobody", second.credentials()).expect_err("no such member");
    ensure!(error.is_unknown_node() && error.node() == Some("nobody"), "{error}");

    // A node whose configuration is equal is kept, and its credentials with it.
    let kept = NodeConfig::new(servers.replica(0).url()).name("replica-0").max_lifetime(SHORT_LIVED);
    let report = db.swap_replicas([kept]).await?;
    ensure!(report.kept == ["replica-0"], "{report:?}");
    operate_often(&db).await?;
    db.clone().close().await?;
    let error = db.set_credentials("primary", second.credentials()).expect_err("closed");
    ensure!(error.is_closed(), "{error}");
    Ok(())
}

on_each_database!(credentials_given_by_hand_open_the_next_connections, [postgres, mariadb, mysql]);

async fn a_hook_goes_on_when_the_credentials_of_a_hand_are_refused(servers: Servers) -> Result<()> {
    let first = Login::first(&servers);
    let vault = Vault::of(&first);
    let db = servers.open(builder(&servers, |server| vault.node(server))).await?;
    ensure!(vault.calls() == 3, "{} calls", vault.calls());
    let wrong = Login { user: "nobody".to_owned(), password: Some("wrong".to_owned()), ..first.clone() };
    for name in ["primary", "replica-0", "replica-1"] {
        db.set_credentials(name, wrong.credentials())?;
    }
    operate_often(&db).await?;
    ensure!(vault.calls() <= 6, "{} calls", vault.calls());

    // Nodes with a hook join, and keep their pools as long as the configuration is a clone.
    let node = vault.node(servers.replica(1)).name("another").max_lifetime(SHORT_LIVED);
    db.add_replica(node.clone()).await?;
    let report = db.swap_replicas([node.clone(), vault.node(servers.replica(0)).name("replica-0")]).await?;
    ensure!(report.kept == ["another"] && report.added == ["replica-0"], "another hook, another node: {report:?}");
    operate_often(&db).await?;
    db.swap_primary(vault.node(servers.primary()).name("the same server")).await?;
    operate_often(&db).await
}

on_each_database!(a_hook_goes_on_when_the_credentials_of_a_hand_are_refused, [postgres, mariadb]);

/// Logins with the credentials of before are still under way when the hook has given others: their refusal says nothing
/// about the logins that follow.
async fn a_slow_refusal_of_former_credentials_costs_no_later_login(servers: Servers) -> Result<()> {
    const ROUNDS: usize = 5;
    const READS: u32 = 30;
    let first = Login::first(&servers);
    let vault = Vault::of(&first);
    let slow = ChaosProxy::start(servers.replica(0).port()).await?;
    slow.set_latency(Duration::from_millis(30));
    let replica = vault.node_at(&slow.url(servers.replica(0))).name("slow");
    let replica = replica.max_lifetime(SHORT_LIVED).max_connections(READS + 10);
    let primary = NodeConfig::new(servers.primary().url()).name("primary");
    let builder = DatabaseConnection::builder().primary(primary).replica(replica).primary_read_share(0.0);
    let db = servers.open(builder.probe_timeout(PATIENCE).connect_timeout(PATIENCE)).await?;
    let asked_at_first = vault.calls();
    let wrong = Login { password: Some("wrong".to_owned()), ..first };
    for round in 1..=ROUNDS {
        db.set_credentials("slow", wrong.credentials())?;
        let reads = (0..READS).map(async |place| {
            // The reads begin one after the other, while the logins before are under way.
            tokio::time::sleep(Duration::from_millis(5) * place).await;
            item::Entity::find().count(&db.read()).await
        });
        try_join_all(reads).await?;
        let calls = vault.calls() - asked_at_first;
        ensure!(calls == round, "{calls} calls in {round} rounds");
        ensure!(db.topology().primary().node().served_reads() == 0, "the replica refused reads: {}", db.topology());
    }
    Ok(())
}

on_each_database!(a_slow_refusal_of_former_credentials_costs_no_later_login, [postgres, mariadb]);

#[tokio::test]
async fn nodes_without_a_login_of_the_resolver_take_no_credentials() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = files.builder().connect().await?;
    let error = db.set_credentials("replica-0", Credentials::new("u", "p")).expect_err("a file");
    ensure!(error.is_config() && error.to_string().contains("replica-0"), "{error}");

    let servers = Servers::postgres().await?;
    let db = DatabaseConnection::from(servers.plain().await?);
    let name = db.topology().primary().name().to_owned();
    let error = db.set_credentials(&name, Credentials::new("u", "p")).expect_err("a pool that was given open");
    ensure!(error.is_config() && error.to_string().contains("set_connect_options"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_hook_where_none_can_work_is_an_error_that_names_the_field() -> Result<()> {
    let servers = Servers::postgres().await?;
    let given = servers.plain().await?;
    let hook = async || Ok::<_, std::io::Error>(Credentials::password_only("p"));
    let url = without_password(&servers.primary().url());
    for (node, field) in [
        (NodeConfig::new("sqlite://shop.db").credentials(hook), "primary.credentials"),
        (NodeConfig::new("sqlite://shop.db").password_file("p"), "primary.password_file"),
        (NodeConfig::new(&given).credentials(hook), "primary.credentials"),
        (NodeConfig::new(&given).user_file("u"), "primary.user_file"),
        (NodeConfig::new(&url).password_file("p").credentials(hook), "primary.password_file"),
        (NodeConfig::new(&url).password_file(""), "primary.password_file"),
    ] {
        let error = sea_orm_resolver::Config::new(node).check().expect_err("it cannot work");
        ensure!(error.field() == Some(field), "{error}");
    }
    // A hook that was serialised is gone, and said to be.
    let written = serde_json::to_string(&sea_orm_resolver::Config::new(NodeConfig::new(&url).credentials(hook)))?;
    let read: sea_orm_resolver::Config = serde_json::from_str(&written)?;
    let error = read.check().expect_err("no hook");
    ensure!(error.field() == Some("primary.credentials") && error.to_string().contains("in code"), "{error}");
    let given_again = read.primary.expect("a node").credentials(hook);
    sea_orm_resolver::Config::new(given_again).check()?;
    Ok(())
}
