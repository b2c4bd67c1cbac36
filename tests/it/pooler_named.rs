//! A pooler whose mode the configuration names.

use anyhow::{Context, Result};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_resolver::{Config, DatabaseConnection, Error, NodeConfig, Pooler};
use testkit::PostgresCluster;

use crate::pooling_proxy::{Options, start_bouncer};

async fn value(db: &impl ConnectionTrait, setting: &str) -> Result<String> {
    let shown = Statement::from_string(DbBackend::Postgres, format!("SHOW {setting}"));
    Ok(db.query_one_raw(shown).await?.context("a row")?.try_get_by_index(0)?)
}

#[tokio::test]
async fn a_pooler_in_session_mode_keeps_the_guard_and_the_time_out_by_statements() -> Result<()> {
    let cluster = PostgresCluster::start(0).await?;
    let bouncer = start_bouncer(cluster.primary(), "session", Options::Refused).await?;
    let node =
        NodeConfig::new(bouncer.url()).pooler(Pooler::Session).statement_timeout(std::time::Duration::from_secs(7));
    let db = DatabaseConnection::builder()
        .primary(node.clone().name("primary"))
        .replica(node.name("replica").role_check(false))
        .primary_read_share(0.0)
        .connect()
        .await?;
    assert_eq!(value(&db.read(), "default_transaction_read_only").await?, "on");
    assert_eq!(value(&db.read(), "statement_timeout").await?, "7s");
    assert_eq!(value(&db.write(), "default_transaction_read_only").await?, "off");
    assert_eq!(value(&db.write(), "statement_timeout").await?, "7s");
    assert_eq!(db.topology().replicas()[0].pooler(), Some("session"));
    db.close().await?;
    let alone = sea_orm::Database::connect(bouncer.url()).await?;
    assert_eq!(value(&alone, "default_transaction_read_only").await?, "off");
    assert_eq!(value(&alone, "statement_timeout").await?, "0");
    Ok(())
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_sent_no_setting_at_all() -> Result<()> {
    let cluster = PostgresCluster::start(1).await?;
    let primary = start_bouncer(cluster.primary(), "transaction", Options::Refused).await?;
    let replica = start_bouncer(cluster.replica(0), "transaction", Options::Refused).await?;
    let db = DatabaseConnection::builder()
        .primary(NodeConfig::new(primary.url()).pooler(Pooler::Transaction).name("primary"))
        .replica(NodeConfig::new(replica.url()).pooler(Pooler::Transaction).name("replica"))
        .primary_read_share(0.0)
        .connect()
        .await?;
    assert_eq!(db.read().node().as_deref(), Some("replica"));
    // A standby's reads need no transaction around them.
    assert_eq!(value(&db.read(), "default_transaction_read_only").await?, "off");
    db.set_primary_read_share(1.0)?;
    assert_eq!(db.read().node().as_deref(), Some("primary"));
    assert_eq!(value(&db.read(), "transaction_read_only").await?, "on");
    assert_eq!(value(&db.write(), "transaction_read_only").await?, "off");
    assert!(db.topology().members().all(|member| member.pooler() == Some("transaction")));
    Ok(())
}

#[tokio::test]
async fn settings_that_a_pooler_in_transaction_mode_would_show_to_strangers_are_refused_by_name() -> Result<()> {
    let node = || NodeConfig::new("postgres://shop@localhost:6432/shop").pooler(Pooler::Transaction);
    let mut options = sea_orm::ConnectOptions::new("postgres://shop@localhost:6432/shop");
    options.statement_timeout(std::time::Duration::from_secs(1));
    for (node, field) in [
        (node().statement_timeout(std::time::Duration::from_secs(1)), "primary.statement_timeout"),
        (NodeConfig::new(options).pooler(Pooler::Transaction), "primary.statement_timeout"),
        (node().on_connect("SET a.b = 'c'"), "primary.on_connect"),
        (NodeConfig::new("sqlite://a.db").pooler(Pooler::Session), "primary.pooler"),
    ] {
        let error = DatabaseConnection::builder().config(Config::new(node)).connect().await.expect_err(field);
        let error = Error::from_db_err(&error).context("ours")?;
        assert_eq!(error.field(), Some(field), "{error}");
    }
    Ok(())
}
