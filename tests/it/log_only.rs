//! A program that has a logger of the crate `log`, and no subscriber of `tracing`.

use std::{env, time::Duration};

use anyhow::{Context, Result, ensure};
use log::{LevelFilter, Log, Metadata, Record};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_resolver::{Config, DatabaseConnection, NodeConfig};
use tokio::process::Command;

use crate::servers::{Servers, on_each_database};

const IS_PROGRAM: &str = "TEST_IS_LOG_ONLY";

/// Prints every record.
struct Printed;

impl Log for Printed {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        println!("{} {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

/// The program. As a test of its own it does nothing.
#[tokio::test]
async fn program() -> Result<()> {
    if env::var_os(IS_PROGRAM).is_none() {
        return Ok(());
    }
    log::set_logger(&Printed).map_err(anyhow::Error::msg)?;
    log::set_max_level(LevelFilter::Trace);
    let node = NodeConfig::new(env::var("DATABASE_URL")?);
    let open = async |node: NodeConfig| DatabaseConnection::builder().config(Config::new(node)).connect().await;
    let plain = open(node.clone()).await?;
    plain.execute_unprepared("SELECT 'an ordinary statement'").await?;
    let hooked = open(node.on_connect("SELECT 'hunter2'")).await?;
    hooked.execute_unprepared("SELECT 1").await?;
    hooked.read().query_one_raw(Statement::from_string(hooked.get_database_backend(), "SELECT 1")).await?;
    // A statement that is cut off is logged, too.
    let asleep = if plain.get_database_backend() == DbBackend::Postgres {
        "SELECT pg_sleep(60), 'hunter2'"
    } else {
        "SELECT SLEEP(60), 'hunter2'"
    };
    let cut_off = open(NodeConfig::new(env::var("DATABASE_URL")?).on_connect(asleep));
    drop(tokio::time::timeout(Duration::from_millis(500), cut_off).await);
    Ok(())
}

async fn the_log_has_no_statement_of_a_hook(servers: Servers) -> Result<()> {
    let program = Command::new(env::current_exe()?)
        .args(["--exact", "log_only::program", "--nocapture"])
        .env(IS_PROGRAM, "1")
        .env("DATABASE_URL", servers.primary().url())
        .kill_on_drop(true)
        .output()
        .await?;
    let printed = String::from_utf8(program.stdout)?;
    ensure!(program.status.success(), "{printed}");
    printed.lines().find(|line| line.contains("an ordinary statement")).context("the log has no statements")?;
    let place = printed.lines().find(|line| line.contains("hunter2"));
    ensure!(place.is_none(), "{place:?}");
    Ok(())
}

on_each_database!(the_log_has_no_statement_of_a_hook, [postgres, mariadb]);
