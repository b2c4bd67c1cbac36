//! A fresh copy of the primary's data for a server that becomes its replica again.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};

use crate::{
    account::Account,
    admin::{Admin, Column},
    node::Engine,
    postgres,
    server::Server,
};

/// Folders of PostgreSQL whose content belongs to the running server that is copied.
const NOT_COPIED: [&str; 8] =
    ["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];

/// Replaces the data of `server`, which is down.
pub(crate) async fn copy_data(primary: &Server, server: &Server) -> Result<()> {
    let data = server.node.data();
    keep_pid_file(server)?;
    fs::remove_dir_all(&data).with_context(|| format!("{} cannot be removed", data.display()))?;
    match server.node.common.engine {
        // The binary logs of the primary reach back to the template, so the template serves as the copy.
        Engine::MariaDb | Engine::MySql => {
            crate::template::copy(&server.node.common.template, &data, server.node.common.account)
        }
        Engine::Postgres => back_up(primary, server).await,
    }
}

/// Puts the pid file of a killed PostgreSQL into the folder that the watchdog searches: the file names a segment of
/// shared memory, which a server with other data will not take over.
fn keep_pid_file(server: &Server) -> Result<()> {
    let node = &server.node;
    let pid_file = postgres::pid_file(node);
    if node.common.engine == Engine::Postgres && pid_file.exists() {
        let kept = node.common.scratch.join(&format!("{}-before-copy-{}/data", node.name, node.role().copies));
        fs::create_dir_all(&kept).with_context(|| format!("{} cannot be made", kept.display()))?;
        fs::rename(&pid_file, kept.join("postmaster.pid")).context("the pid file cannot be kept")?;
    }
    Ok(())
}

/// A base backup through SQL: `pg_basebackup` is not part of every installation.
async fn back_up(primary: &Server, server: &Server) -> Result<()> {
    let common = &server.node.common;
    let (start, stop) = if common.installation.number.0 >= 15 {
        ("SELECT pg_backup_start('testkit', true)", "SELECT labelfile FROM pg_backup_stop(false)")
    } else {
        ("SELECT pg_start_backup('testkit', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)")
    };
    let mut admin: Admin = primary.admin().await?;
    admin.scalar(start).await?;
    let (from, to, account) = (primary.node.data(), server.node.data(), common.account);
    tokio::task::spawn_blocking(move || copy_live(&from, &to, account)).await.context("the copy ended early")??;
    let label = admin.text(stop, Column::First).await?.context("the backup has no label")?;
    admin.close().await;
    let file = server.node.data().join("backup_label");
    fs::write(&file, label).context("the backup's label cannot be written")?;
    common.account.own(&file)
}

/// Copies files that may change or vanish meanwhile; the log since the backup's start repairs them.
fn copy_live(from: &Path, to: &Path, account: Account) -> Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    account.own(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let (source, target) = (entry.path(), to.join(&name));
        let is_dir = entry.file_type()?.is_dir();
        if is_dir && name.to_str().is_some_and(|name| NOT_COPIED.contains(&name)) {
            fs::create_dir(&target)?;
            fs::set_permissions(&target, fs::metadata(&source)?.permissions())?;
            account.own(&target)?;
        } else if is_dir {
            copy_live(&source, &target, account)?;
        } else if !["postmaster.pid", "postmaster.opts"].iter().any(|file| name == *file) {
            match fs::copy(&source, &target) {
                Ok(_) => account.own(&target)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| source.display().to_string()),
            }
        }
    }
    Ok(())
}
