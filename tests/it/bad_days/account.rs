//! What changes for an account while its sessions are open.

use std::{fs, time::Duration};

use anyhow::Result;

use super::{
    deeds::{Deed, end_sessions},
    world::{Database, World},
};
use crate::wait::wait_until;

/// Some commands need a moment without sessions, or a reload.
const PATIENCE: Duration = Duration::from_secs(10);
const REFUSAL: &str = "host all shop 127.0.0.1/32 reject\n";

/// Lets a server refuse the application's account.
pub(super) async fn change(deed: Deed, world: &World, index: usize) -> Result<()> {
    match (world.database, deed) {
        (Database::Postgres, Deed::RefuseAccount) => {
            with_rules(world, index, |rules| format!("{REFUSAL}{rules}")).await
        }
        (Database::Postgres, _) => password(world, index, "changed").await,
        (_, Deed::RefuseAccount) => here(world, index, "ALTER USER shop ACCOUNT LOCK").await,
        (_, _) => here(world, index, "ALTER USER shop IDENTIFIED BY 'changed'").await,
    }
}

/// Takes [`change`] back.
pub(super) async fn change_back(deed: Deed, world: &World, index: usize) -> Result<()> {
    match (world.database, deed) {
        (Database::Postgres, Deed::RefuseAccount) => with_rules(world, index, |rules| rules.replace(REFUSAL, "")).await,
        (Database::Postgres, _) => password(world, index, "s3cret-shop").await,
        (_, Deed::RefuseAccount) => here(world, index, "ALTER USER shop ACCOUNT UNLOCK").await,
        (_, _) => here(world, index, "ALTER USER shop IDENTIFIED BY 's3cret-shop'").await,
    }
}

/// A command that this server alone runs.
async fn here(world: &World, index: usize, sql: &str) -> Result<()> {
    world.command(index, &format!("SET sql_log_bin = 0; {sql}")).await
}

/// A password that all servers of PostgreSQL have from now on.
async fn password(world: &World, index: usize, password: &str) -> Result<()> {
    if index == 0 {
        world.server(0).query_scalar(&format!("ALTER ROLE shop PASSWORD '{password}'")).await?;
        world.servers.wait_caught_up().await?;
    }
    Ok(())
}

/// Other rules of access for one server of PostgreSQL.
async fn with_rules(world: &World, index: usize, change: impl Fn(&str) -> String) -> Result<()> {
    let path = world.server(index).data_folder().join("pg_hba.conf");
    let rules = change(&fs::read_to_string(&path)?);
    fs::write(&path, &rules)?;
    world.server(index).query_scalar("SELECT pg_reload_conf()").await?;
    let is_refusal = rules.contains(REFUSAL);
    let is_loaded = async || Ok((world.meets(index, "SELECT 1").await == "28000") == is_refusal);
    wait_until("the rules to be loaded", PATIENCE, is_loaded).await
}

/// Takes the application's database away: on PostgreSQL from all servers, under another name; elsewhere from one.
pub(super) async fn remove_database(world: &World, index: usize) -> Result<()> {
    if world.database != Database::Postgres {
        here(world, index, "DROP DATABASE shop").await?;
        return end_sessions(world, index).await;
    }
    world.command(0, "ALTER DATABASE shop ALLOW_CONNECTIONS false").await?;
    rename(world, "shop", "away").await
}

/// Takes [`remove_database`] back where that is possible.
pub(super) async fn bring_database_back(world: &World) -> Result<()> {
    if world.database == Database::Postgres {
        rename(world, "away", "shop").await?;
        world.command(0, "ALTER DATABASE shop ALLOW_CONNECTIONS true").await?;
    }
    Ok(())
}

/// Renames a database of PostgreSQL, in a moment in which it has no session on any server.
async fn rename(world: &World, from: &str, to: &str) -> Result<()> {
    let is_renamed = async || {
        for index in 0..world.servers.servers().len() {
            end_sessions(world, index).await?;
        }
        Ok(world.command(0, &format!("ALTER DATABASE {from} RENAME TO {to}")).await.is_ok())
    };
    wait_until("a moment without sessions", PATIENCE, is_renamed).await
}
