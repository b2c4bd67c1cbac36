//! Hooks that fail, and logins that stay refused.

use std::{future::pending, io, time::Duration};

use anyhow::{Context, Result, ensure};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, RuntimeErr};
use sea_orm_resolver::{Credentials, Database, DatabaseConnection, Error, Health, NodeConfig};

use super::vault::{Login, PATIENCE, Vault, builder, without_password};
use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

/// The error of this crate in the failure to connect to one URL, or to one with a replica.
async fn refused(servers: &Servers, node: NodeConfig) -> Result<[Error; 2]> {
    let timeout = Duration::from_secs(2);
    let alone = DatabaseConnection::builder()
        .primary(node.clone())
        .connect_timeout(timeout)
        .primary_connect_timeout(timeout)
        .connect()
        .await;
    let with_replica = DatabaseConnection::builder().primary(node).replica(servers.replica_node(0));
    let with_replica = with_replica.connect_timeout(timeout).primary_connect_timeout(timeout).connect().await;
    let ours = |result: Result<DatabaseConnection, DbErr>| -> Result<Error> {
        let error = result.map(drop).expect_err("no credentials");
        Ok(Error::from_db_err(&error).with_context(|| error.to_string())?.clone())
    };
    Ok([ours(alone)?, ours(with_replica)?])
}

async fn a_hook_that_fails_is_a_typed_error_that_names_the_node(servers: Servers) -> Result<()> {
    let url = without_password(&servers.primary().url());
    let node = || NodeConfig::new(&url).name("db-1");
    let failing = node().credentials(async || Err::<Credentials, _>(io::Error::other("hunter2")));
    for error in refused(&servers, failing).await? {
        ensure!(error.is_credentials() && error.node() == Some("db-1"), "{error}");
        ensure!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        ensure!(std::error::Error::source(&error).is_some_and(|source| source.to_string() == "hunter2"));
    }
    for error in refused(&servers, node().credentials(pending::<Result<Credentials, io::Error>>)).await? {
        ensure!(error.is_credentials() && error.to_string().contains("no answer within 1.5s"), "{error}");
    }
    Ok(())
}

on_each_database!(a_hook_that_fails_is_a_typed_error_that_names_the_node, [postgres, mariadb]);

async fn a_replica_without_credentials_is_down_until_its_hook_gives_some(servers: Servers) -> Result<()> {
    let login = Login::first(&servers);
    let vault = Vault::of(&login);
    vault.fail(true);
    let db = DatabaseConnection::builder()
        .primary(servers.primary_node())
        .replica(vault.node(servers.replica(0)).name("replica"))
        .probe_interval(Duration::from_millis(100))
        .primary_read_share(0.0);
    let db = servers.open(db).await?;
    let replica = || db.topology().member("replica").expect("a member").clone();
    ensure!(replica().health() == Health::Down, "{}", db.topology());
    ensure!(
        replica().last_failure().is_some_and(|why| why.contains("no valid credentials")),
        "{:?}",
        replica().last_failure()
    );
    item::Entity::find().count(&db).await?;
    vault.fail(false);
    wait_until("the replica is up", PATIENCE, async || Ok(replica().health() == Health::Up)).await?;
    wait_until("the replica serves", PATIENCE, async || {
        item::Entity::find().count(&db.read()).await?;
        Ok(replica().node().served_reads() > 0)
    })
    .await
}

on_each_database!(a_replica_without_credentials_is_down_until_its_hook_gives_some, [postgres, mariadb]);

/// The credentials in use stay valid while the vault is sealed.
async fn a_hook_that_fails_later_costs_nothing(servers: Servers) -> Result<()> {
    let vault = Vault::of(&Login::first(&servers));
    vault.expires_in(Duration::from_secs(60));
    let db = servers.open(builder(&servers, |server| vault.node(server))).await?;
    vault.fail(true);
    for _ in 0..20 {
        item::Entity::find().count(&db.read()).await?;
        item::Entity::find().count(&db.write()).await?;
        tokio::time::sleep(super::vault::SHORT_LIVED * 2).await;
    }
    Ok(())
}

on_each_database!(a_hook_that_fails_later_costs_nothing, [postgres, mariadb]);

fn code(error: &DbErr) -> Option<String> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error)) => {
            let database = error.as_database_error()?;
            match database.try_downcast_ref::<sea_orm::sqlx::mysql::MySqlDatabaseError>() {
                Some(mysql) => Some(mysql.number().to_string()),
                None => database.code().map(Into::into),
            }
        }
        _ => None,
    }
}

async fn a_login_that_is_refused_again_is_the_servers_own_error(servers: Servers) -> Result<()> {
    let wrong = Login { password: Some("wrong".to_owned()), ..Login::first(&servers) };
    let vault = Vault::of(&wrong);
    let db = DatabaseConnection::builder().primary(vault.node(servers.primary())).connect_lazy(true).connect().await?;
    ensure!(vault.calls() == 0, "nothing is opened yet");
    let started = tokio::time::Instant::now();
    for round in 0..3 {
        let error = db.execute_unprepared("SELECT 1").await.map(drop).expect_err("a wrong password");
        ensure!(["28P01", "1045"].contains(&code(&error).with_context(|| error.to_string())?.as_str()), "{error}");
        // Once for the first connection, once for the refused login, and once in two seconds at the most after that.
        let most = 2 + started.elapsed().as_secs() / 2;
        ensure!((2..=most).contains(&(vault.calls() as u64)), "{} calls in round {round}", vault.calls());
    }
    vault.store(&Login::first(&servers));
    wait_until("the pause is over", PATIENCE, async || Ok(db.execute_unprepared("SELECT 1").await.is_ok())).await?;
    // SeaORM has the connect options of the first pool: a node of `ConnectOptions` is no other.
    let options = sea_orm::ConnectOptions::new(servers.primary().url().replacen("s3cret-shop", "wrong", 1));
    let login = Login::first(&servers);
    let node = NodeConfig::new(options).credentials(move || {
        let password = login.password.clone().unwrap_or_default();
        async move { Ok::<_, io::Error>(Credentials::password_only(password)) }
    });
    Database::connect(node).await?.execute_unprepared("SELECT 1").await?;
    Ok(())
}

on_each_database!(a_login_that_is_refused_again_is_the_servers_own_error, [postgres, mariadb]);
