//! Passwords in files.

use std::{cell::RefCell, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use sea_orm::{EntityTrait, PaginatorTrait};
use sea_orm_resolver::{Config, DatabaseConnection, Error, NodeConfig};

use super::vault::{Login, PATIENCE, SHORT_LIVED, builder, without_password};
use crate::{
    item,
    secrets::record,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

/// As an agent writes: the file has its old content or its new one.
fn write(path: &Path, content: &str) -> Result<()> {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, content)?;
    Ok(fs::rename(fresh, path)?)
}

async fn read_often(db: &DatabaseConnection) -> Result<()> {
    for _ in 0..10 {
        item::Entity::find().count(&db.read()).await?;
        item::Entity::find().count(&db.write()).await?;
        tokio::time::sleep(SHORT_LIVED * 2).await;
    }
    Ok(())
}

async fn a_file_is_followed_and_its_last_good_value_outlives_it(servers: Servers) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [user, password] = ["user", "password"].map(|name| folder.path().join(name));
    let first = Login::first(&servers);
    let second = first.next();
    let store = |login: &Login| -> Result<()> {
        write(&user, &login.user)?;
        write(&password, &format!("{}\n", login.password.as_deref().context("a password")?))
    };
    store(&first)?;
    let node = |url: String| NodeConfig::new(url).user_file(&user).password_file(&password);
    let (recorded, _guard) = record();
    let db = servers
        .open(builder(&servers, |server| node(without_password(&server.url()).replacen("shop@", "nobody@", 1))))
        .await?;
    read_often(&db).await?;

    // The file is written, and the server changed before the file is read again, or after.
    store(&second)?;
    first.replace_by(&second, &servers).await?;
    read_often(&db).await?;

    recorded.take();
    let warnings =
        |log: &str| log.lines().filter(|line| line.starts_with("WARN") && line.contains("credentials")).count();
    let log = RefCell::new(String::new());
    let heard = || {
        log.borrow_mut().push_str(&recorded.take());
        log.borrow().clone()
    };
    fs::remove_file(&password)?;
    wait_until("the loss is told", PATIENCE, async || Ok(warnings(&heard()) == 3)).await?;
    for half in ["", "\n", "two\nlines\n"] {
        fs::write(&password, half)?;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        read_often(&db).await?;
    }
    ensure!(warnings(&heard()) == 3, "once for each node: {}", heard());
    ensure!(heard().contains(password.to_str().context("a path")?), "the file is named");
    store(&second)?;
    let again = async || Ok(heard().matches("gives some again").count() == 3);
    wait_until("the file is there again", PATIENCE, again).await?;
    read_often(&db).await
}

on_each_database!(a_file_is_followed_and_its_last_good_value_outlives_it, [postgres, mariadb]);

#[tokio::test]
async fn a_configuration_names_the_file_and_the_error_does_too() -> Result<()> {
    let servers = Servers::postgres().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shop_password");
    let url = without_password(&servers.primary().url());
    let config: Config =
        toml::from_str(&format!("[primary]\nurl = '{url}'\nname = 'db-1'\npassword_file = '{}'", path.display()))?;
    let error = DatabaseConnection::builder().config(config.clone()).connect().await.map(drop).expect_err("no file");
    let error = Error::from_db_err(&error).context("ours")?;
    ensure!(error.is_credentials() && error.node() == Some("db-1"), "{error}");
    ensure!(error.to_string().contains(path.to_str().context("a path")?), "{error}");
    write(&path, "s3cret-shop")?;
    let written = toml::to_string(&config)?;
    ensure!(written.contains("shop_password") && !written.contains("s3cret-shop"), "{written}");
    let db = DatabaseConnection::builder().config(toml::from_str(&written)?).connect().await?;
    sea_orm::ConnectionTrait::execute_unprepared(&db, "SELECT 1").await?;
    Ok(())
}
