//! The valid configurations, and the errors of the invalid ones.

use std::time::Duration;

use anyhow::{Context, Result};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait};
use sea_orm_resolver::{Builder, Config, Consistency, Database, DatabaseConnection, Error, NodeConfig, PolicyKind};

use crate::{
    files::{NamedFiles, SharedFile},
    item,
};

const FULL: &str = r#"
primary = "postgres://shop:hunter2@db-1/shop"
primary_read_share = 0.25
primary_read_connections = 3
policy = "round_robin"
consistency = "process"
stick_after_write = "250ms"
unknown_outcome_hold = "7s"
read_selection_timeout = "900ms"
connect_timeout = "3s"
primary_connect_timeout = "1m"
probe_interval = "2s"
probe_timeout = "400ms"
ping_after_idle = "1m"
slow_start = "90s"
hedge = 0.04
drain_timeout = "10s"
connect_lazy = true
seed = 7

[[replicas]]
url = "postgres://shop:hunter2@db-2:6543/shop?sslmode=require"
name = "near"
weight = 2
zone = "a"
tags = ["analytics", "batch"]
max_connections = 20
min_connections = 1
acquire_timeout = "800ms"
idle_timeout = "5m"
max_lifetime = "30m"
statement_timeout = "30s"
role_check = false
sqlx_logging = false
ping = "always"
on_connect = ["SET application_name = 'shop'"]

[[replicas]]
url = "postgres://shop:hunter2@db-3/shop"
"#;

fn error_of(result: Result<DatabaseConnection, DbErr>) -> Error {
    let error = result.expect_err("it cannot work");
    Error::from_db_err(&error).unwrap_or_else(|| panic!("not an error of ours: {error}")).clone()
}

/// The field a configuration error names.
async fn refused(builder: Builder) -> String {
    let error = error_of(builder.connect().await);
    assert!(error.is_config(), "{error}");
    let field = error.field().expect("a configuration error names a field").to_owned();
    assert!(error.to_string().contains(&field), "{error}");
    field
}

#[test]
fn toml_sets_every_field() -> Result<()> {
    let config: Config = toml::from_str(FULL)?;
    assert!(config.primary.is_some());
    assert!((config.primary_read_share - 0.25).abs() < f64::EPSILON);
    assert_eq!(config.primary_read_connections, Some(3));
    assert_eq!(config.policy, PolicyKind::RoundRobin);
    assert_eq!(config.consistency, Consistency::Process);
    assert_eq!(config.stick_after_write, Duration::from_millis(250));
    assert_eq!(config.unknown_outcome_hold, Some(Duration::from_secs(7)));
    assert_eq!(config.read_selection_timeout, Duration::from_millis(900));
    assert_eq!(config.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.primary_connect_timeout, Some(Duration::from_secs(60)));
    assert_eq!(config.probe_interval, Duration::from_secs(2));
    assert_eq!(config.probe_timeout, Duration::from_millis(400));
    assert_eq!(config.ping_after_idle, Duration::from_secs(60));
    assert_eq!(config.slow_start, Duration::from_secs(90));
    assert!((config.hedge - 0.04).abs() < f64::EPSILON);
    assert_eq!(config.drain_timeout, Duration::from_secs(10));
    assert!(config.connect_lazy);
    assert_eq!(config.seed, Some(7));
    assert_eq!(config.replicas.len(), 2);
    Ok(())
}

#[test]
fn a_configuration_survives_toml_and_json_but_for_its_passwords() -> Result<()> {
    let config: Config = toml::from_str(FULL)?;
    config.check()?;
    let as_toml = toml::to_string(&config)?;
    let as_json = serde_json::to_string(&config)?;
    for text in [&as_toml, &as_json] {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("postgres://shop@db-2:6543/shop?sslmode=require"), "{text}");
    }
    let again: Config = toml::from_str(&as_toml)?;
    assert_eq!(toml::to_string(&again)?, as_toml);
    let again: Config = serde_json::from_str(&as_json)?;
    assert_eq!(serde_json::to_string(&again)?, as_json);
    assert_eq!(wrong_field(&again), "replicas[0].on_connect", "a statement may be a secret, and is not run without it");
    // Nothing but passwords and the ends of statements was lost on the way.
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&as_json)?,
        serde_json::to_value(toml::from_str::<Config>(&as_toml)?)?
    );
    for kept in ["near", "analytics", "800ms", "30s", "always", "application_name", "role_check"] {
        assert!(as_json.contains(kept), "{kept} is missing from {as_json}");
    }
    Ok(())
}

/// The first thing that a reader copies.
#[test]
fn the_configuration_in_the_readme_is_read_as_it_stands() -> Result<()> {
    let readme = include_str!("../../README.md");
    let block = readme.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).context("a toml block")?.0;
    let config: Config = toml::from_str(block)?;
    assert!(config.primary.is_some());
    assert_eq!(config.replicas.len(), 2);
    assert_eq!(config.statements.len(), 1);
    assert_eq!(config.harmless_functions, ["full_name"]);
    // A commented setting that shows a default must show the real one.
    let default = Config::default();
    assert!((config.primary_read_share - default.primary_read_share).abs() < f64::EPSILON);
    assert_eq!(config.policy, default.policy);
    assert_eq!(config.consistency, default.consistency);
    assert_eq!(config.max_lag, default.max_lag);
    assert_eq!(config.wait_for_replica, default.wait_for_replica);
    assert_eq!(config.stick_after_write, default.stick_after_write);
    Ok(())
}

/// The field that a configuration cannot be used for.
fn wrong_field(config: &Config) -> String {
    config.check().expect_err("it cannot work").field().expect("a configuration error names a field").to_owned()
}

#[tokio::test]
async fn a_mistake_in_a_file_is_an_error_that_names_its_field() -> Result<()> {
    for (text, field) in [
        ("primary = \"sqlite://a.db\"\nprimary_read_shares = 0.1", "primary_read_shares"),
        ("[primary]\nurl = \"sqlite://a.db\"\nwieght = 2", "primary.wieght"),
        (
            "primary = \"sqlite://a.db\"\n[[replicas]]\nurl = \"sqlite://b.db\"\nread_only = true",
            "replicas[0].read_only",
        ),
        (
            "primary = \"sqlite://a.db\"\nreplicas = [\"sqlite://b.db\", { url = \"sqlite://c.db\", weight = \"two\" }]",
            "replicas[1].weight",
        ),
        ("[primary]\nweight = 2", "primary.url"),
        ("primary = 5", "primary"),
        ("primary = [\"sqlite://a.db\"]", "primary"),
        ("primary = { url = { path = \"a.db\" } }", "primary.url"),
        ("primary = \"sqlite://a.db\"\nreplicas = \"sqlite://b.db\"", "replicas"),
        ("primary = \"sqlite://a.db\"\nconsistency = \"perfect\"", "consistency"),
        ("primary = \"sqlite://a.db\"\npolicy = \"fastest\"", "policy"),
        ("primary = \"sqlite://a.db\"\nprobe_interval = 1", "probe_interval"),
        ("primary = \"sqlite://a.db\"\nstick_after_write = \"soon\"", "stick_after_write"),
        ("primary = \"sqlite://a.db\"\nstatements = [{ shape = \"SELECT 1\" }]", "statements"),
        ("prmary = \"sqlite://a.db\"", "prmary"),
    ] {
        let config: Config = toml::from_str(text)?;
        assert_eq!(wrong_field(&config), field, "{text}");
        let error = error_of(Database::connect(config).await);
        assert_eq!(error.field(), Some(field), "{text}");
    }
    let config: Config = serde_json::from_str(r#"{"primary": "sqlite://a.db", "replica": []}"#)?;
    let error = config.check().expect_err("unknown");
    assert!(error.field() == Some("replica") && error.to_string().contains("replicas"), "{error}");
    assert_eq!(wrong_field(&serde_json::from_str(r#"["sqlite://a.db"]"#)?), "configuration");
    let config: Config =
        serde_json::from_str(r#"{"primary": {"url": "sqlite://a.db", "weight": "2"}, "primary_read_share": "0.5"}"#)?;
    config.check()?;
    assert!((config.primary_read_share - 0.5).abs() < f64::EPSILON, "variables of the environment are texts");
    Ok(())
}

#[tokio::test]
async fn a_configuration_read_from_a_file_connects() -> Result<()> {
    let file = SharedFile::new().await?;
    let url = file.url();
    let text = format!(
        "primary = {url:?}\n[[replicas]]\nurl = {url:?}\nname = \"reader\"\nweight = 3\nzone = \"a\"\ntags = [\"x\"]"
    );
    let db = Database::connect(toml::from_str::<Config>(&text)?).await?;
    let topology = db.topology();
    let reader = topology.member("reader").expect("it is a member");
    assert_eq!((reader.weight().get(), reader.zone(), reader.tags().collect::<Vec<_>>()), (3, Some("a"), vec!["x"]));
    let table = topology.to_string();
    assert!(table.contains("reader") && table.contains("10 % of the reads"), "{table}");
    let json = serde_json::to_value(&*topology)?;
    assert_eq!(json["members"][1]["name"], "reader");
    assert_eq!(json["members"][1]["role"], "replica");
    assert_eq!(json["members"][1]["weight"], 3);
    Ok(())
}

#[tokio::test]
async fn every_value_that_cannot_work_is_an_error_that_names_its_field() -> Result<()> {
    let file = SharedFile::new().await?;
    let node = || NodeConfig::new(file.url());
    let one = || DatabaseConnection::builder().primary(node());
    let two = |replica| one().replica(replica);
    let zero = Duration::ZERO;
    for (builder, field) in [
        (DatabaseConnection::builder(), "primary"),
        (DatabaseConnection::builder().replica(node()), "primary"),
        (one().primary_read_share(1.5), "primary_read_share"),
        (one().primary_read_share(-0.1), "primary_read_share"),
        (one().primary_read_share(f64::NAN), "primary_read_share"),
        (one().primary_read_connections(0), "primary_read_connections"),
        (one().read_selection_timeout(zero), "read_selection_timeout"),
        (one().connect_timeout(zero), "connect_timeout"),
        (one().primary_connect_timeout(zero), "primary_connect_timeout"),
        (one().probe_interval(zero), "probe_interval"),
        (one().probe_timeout(zero), "probe_timeout"),
        (two(node().weight(0)), "replicas[0].weight"),
        (two(node().max_connections(0)), "replicas[0].max_connections"),
        (two(node().max_connections(2).min_connections(3)), "replicas[0].min_connections"),
        (two(node().acquire_timeout(zero)), "replicas[0].acquire_timeout"),
        (two(node().idle_timeout(zero)), "replicas[0].idle_timeout"),
        (two(node().max_lifetime(zero)), "replicas[0].max_lifetime"),
        (two(node().statement_timeout(zero)), "replicas[0].statement_timeout"),
        (two(node().name(" ")), "replicas[0].name"),
        (two(node().name("a")).replica(node().name("a")), "replicas[1].name"),
        (one().primary(node().name("a")).replica(node().name("a")), "replicas[0].name"),
        (two(NodeConfig::new("")), "replicas[0].url"),
        (two(NodeConfig::new("shop.db")), "replicas[0].url"),
        (two(NodeConfig::new("redis://localhost/0")), "replicas[0].url"),
        (two(NodeConfig::new("sqlite::memory:")), "replicas[0]"),
        (one().primary("sqlite::memory:").replica(node()), "primary"),
        (two(NodeConfig::new("postgres://localhost/shop")), "replicas[0]"),
        (two(sea_orm::DatabaseConnection::default().into()), "replicas[0]"),
    ] {
        let shown = format!("{builder:?}");
        assert_eq!(refused(builder).await, field, "{shown}");
    }
    Ok(())
}

#[tokio::test]
async fn changes_of_the_membership_are_checked_as_the_configuration_is() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = files.builder().connect().await?;
    let before = db.topology();
    let field = |result: Result<_, Error>| result.map(drop).expect_err("it cannot work").field().map(str::to_owned);
    assert_eq!(field(db.add_replica(files.node("replica-0")).await).as_deref(), Some("replica.name"));
    assert_eq!(field(db.add_replica(files.node("x").weight(0)).await).as_deref(), Some("replica.weight"));
    assert_eq!(field(db.swap_replicas(["sqlite::memory:"]).await).as_deref(), Some("memory"));
    assert_eq!(field(db.swap_replicas([files.node("primary")]).await).as_deref(), Some("replicas[0].name"));
    assert_eq!(db.set_weight("replica-0", 0).expect_err("no weight").field(), Some("weight"));
    assert_eq!(db.set_primary_read_share(2.0).expect_err("no share").field(), Some("primary_read_share"));
    for error in [
        db.set_weight("nobody", 1).expect_err("unknown"),
        db.drain("nobody").await.expect_err("unknown"),
        db.resume("nobody").expect_err("unknown"),
        db.remove_replica("nobody").await.expect_err("unknown"),
    ] {
        assert!(error.is_unknown_node(), "{error}");
        assert_eq!(error.node(), Some("nobody"));
        assert!(error.to_string().contains("replica-1"), "it lists who there is: {error}");
    }
    assert_eq!(db.topology().generation(), before.generation(), "nothing was published");
    Ok(())
}

#[tokio::test]
async fn the_primary_can_be_neither_drained_nor_removed() -> Result<()> {
    let files = NamedFiles::new().await?;
    let db = files.builder().connect().await?;
    assert!(db.remove_replica("primary").await.expect_err("it is no replica").is_config());
    let drained = tokio::time::timeout(Duration::from_secs(5), db.drain("primary")).await?;
    assert!(drained.expect_err("it is no replica").is_config());
    // A primary that takes no operations would hang every write.
    tokio::time::timeout(Duration::from_secs(5), db.write().execute_unprepared("SELECT 1")).await??;
    Ok(())
}

#[tokio::test]
async fn nodes_without_a_name_are_named_after_their_file_and_numbered_when_alike() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = DatabaseConnection::builder().primary(file.url()).replicas([file.url(), file.url()]).connect().await?;
    let names =
        |db: &DatabaseConnection| db.topology().members().map(|member| member.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&db), ["shared", "shared-2", "shared-3"]);
    let report = db.add_replica(file.url()).await?;
    assert_eq!(report.added, ["shared-4"]);
    let report = db.swap_replicas([file.url(), file.url()]).await?;
    assert_eq!(
        (report.kept, report.added, report.removed),
        (vec!["shared-2".to_owned(), "shared-3".to_owned()], vec![], vec!["shared-4".to_owned()],)
    );
    // A given name is never taken from its node by a default one.
    let db = DatabaseConnection::builder()
        .primary(file.url())
        .replicas([NodeConfig::new(file.url()), NodeConfig::new(file.url()).name("shared-2")])
        .connect()
        .await?;
    assert_eq!(names(&db), ["shared", "shared-3", "shared-2"]);
    Ok(())
}

#[tokio::test]
async fn a_memory_database_alone_is_the_same_for_reads_and_writes() -> Result<()> {
    let db = Database::connect("sqlite::memory:").await?;
    item::create_table(&db).await?;
    item::Entity::insert(item::new("tea", 1)).exec(&db).await?;
    let found = item::Entity::find().all(&db.read()).await?;
    assert_eq!(found.len(), 1);
    Ok(())
}
