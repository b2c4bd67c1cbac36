//! MariaDB: how its nodes are made, started, queried and commanded.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::{
    account::Account,
    admin::{Admin, Column},
    discover::{self, Installation},
    logins::{ADMIN_PASSWORD, APP_PASSWORD},
    node::Node,
    process, template,
    wait::Patience,
};

/// The sizes must be the same when the template is made and when it is used, or each start resizes files.
const SIZES: [&str; 3] =
    ["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M", "--innodb-temp-data-file-path=ibtmp1:2M:autoextend"];

/// No GRANT ALL: with READ ONLY ADMIN among its rights a user can write on a read-only replica.
pub(crate) const GRANTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, LOCK TABLES, \
    CREATE TEMPORARY TABLES, CREATE VIEW, SHOW VIEW, TRIGGER, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, EVENT";

/// Finds MariaDB and makes the template if there is none.
pub(crate) fn template(account: Account) -> Result<(Installation, PathBuf)> {
    let found = discover::mariadb()?;
    let template = template::cached(&found.version, found.folder(), account, |scratch, data| {
        let temporary = format!("--tmpdir={}", scratch.path().display());
        let mut install = Command::new(&found.installer);
        install.arg("--no-defaults").arg(basedir(&found)).arg(format!("--datadir={}", data.display()));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--force"]);
        install.arg(&temporary).args(SIZES);
        process::run(&install, account, scratch)?;

        let sql = scratch.join("accounts.sql");
        let script = format!(
            "CREATE OR REPLACE USER 'root'@'127.0.0.1';\n\
             GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n\
             CREATE OR REPLACE USER 'shop_admin'@'%' IDENTIFIED BY '{ADMIN_PASSWORD}';\n\
             GRANT ALL ON *.* TO 'shop_admin'@'%' WITH GRANT OPTION;\n\
             CREATE DATABASE shop;\n\
             CREATE OR REPLACE USER 'shop'@'%' IDENTIFIED BY '{APP_PASSWORD}';\n\
             GRANT {GRANTS} ON shop.* TO 'shop'@'%';\n\
             SHUTDOWN;\n"
        );
        fs::write(&sql, script).context("the accounts cannot be written down")?;
        fs::set_permissions(&sql, Permissions::from_mode(0o644))?;
        // Without a binary log: the content of a template is not replicated.
        let mut server = Command::new(&found.server);
        server.arg("--no-defaults").arg(basedir(&found)).arg(format!("--datadir={}", data.display()));
        server.args(["--skip-networking", "--socket=mariadb.sock", "--innodb-use-native-aio=0"]);
        server.arg(&temporary).args(SIZES).arg(format!("--init-file={}", sql.display()));
        process::run(&server, account, scratch)
    })?;
    Ok((found, template))
}

/// `/usr` for `/usr/sbin/mariadbd`: the folder of the messages and character sets.
fn basedir(found: &Installation) -> String {
    let base = found.folder().parent().unwrap_or(Path::new("/usr"));
    format!("--basedir={}", base.display())
}

pub(crate) fn pid_file(node: &Node) -> PathBuf {
    node.data().join("mariadb.pid")
}

/// The command that starts the node in its present role.
pub(crate) fn command(node: &Node) -> Command {
    let port = node.port.number();
    let mut command = Command::new(&node.common.installation.server);
    command.arg("--no-defaults").arg(basedir(&node.common.installation));
    command.arg(format!("--datadir={}", node.data().display()));
    command.arg(format!("--tmpdir={}", node.folder().display()));
    command.arg(format!("--port={port}"));
    let role = node.role();
    // The port tells this server from every other one on the machine, of other clusters too. A copy needs another
    // number than its original: with the same number it would skip the original's writes as its own.
    command.arg(format!("--server-id={}", u32::from(port) + 100_000 * role.copies));
    command.arg(format!("--read-only={}", u8::from(role.upstream.is_some())));
    command.args([
        "--bind-address=127.0.0.1",
        "--socket=mariadb.sock", // relative to the data folder: absolute ones may be too long
        "--pid-file=mariadb.pid",
        "--log-bin=binlog",
        "--relay-log=relay",
        "--log-slave-updates=1",
        "--skip-slave-start", // the node may have another upstream by now, and must not contact the old one
        "--log-bin-trust-function-creators=1", // so that the application may create triggers
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=2", // survives SIGKILL of the server, not a crash of the machine
        "--innodb-use-native-aio=0",          // kernel-wide limits, and many servers
        "--innodb-buffer-pool-dump-at-shutdown=0",
        "--innodb-buffer-pool-load-at-startup=0",
        "--performance-schema=0",
        "--key-buffer-size=1M",
        "--aria-pagecache-buffer-size=1M",
        "--character-set-server=utf8mb4",
        "--skip-name-resolve",
        "--loose-skip-ssl", // from 11.4 on a start would spend a second on a key
    ]);
    command.args(SIZES);
    command.args(node.common.settings.iter().map(|(name, value)| format!("--{}={value}", name.replace('_', "-"))));
    command
}

/// The file is written when the port is bound: a connection now meets this server or waits for it.
pub(crate) fn is_ready(node: &Node, pid: u32) -> bool {
    fs::read_to_string(pid_file(node)).is_ok_and(|text| text.trim() == pid.to_string())
}

/// Points the replica at its upstream, if it is not, and starts replication.
pub(crate) async fn follow(node: &Node, replica: &mut Admin) -> Result<()> {
    let Some(port) = node.role().upstream_port() else {
        return Ok(());
    };
    let now = replica.text("SHOW SLAVE STATUS", Column::Named("Master_Port")).await;
    // Without a row the server does not replicate; then the column is NULL.
    if now?.as_deref() == Some(port.to_string().as_str()) {
        return replica.run("START SLAVE").await;
    }
    replica
        .run(&format!(
            "STOP SLAVE; CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='shop_admin', \
             MASTER_PASSWORD='{ADMIN_PASSWORD}', MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos; \
             SET GLOBAL read_only=1; START SLAVE"
        ))
        .await
}

pub(crate) async fn is_streaming(replica: &mut Admin) -> Result<bool> {
    Ok(replica.text("SHOW SLAVE STATUS", Column::Named("Slave_IO_Running")).await?.as_deref() == Some("Yes"))
}

async fn is_applying(replica: &mut Admin) -> Result<bool> {
    Ok(replica.text("SHOW SLAVE STATUS", Column::Named("Slave_SQL_Running")).await?.as_deref() == Some("Yes"))
}

pub(crate) async fn pause(replica: &mut Admin) -> Result<()> {
    replica.run("STOP SLAVE SQL_THREAD").await
}

pub(crate) async fn resume(replica: &mut Admin) -> Result<()> {
    replica.run("START SLAVE SQL_THREAD").await
}

/// The server knows whole seconds only; parts of a second count as one.
pub(crate) async fn delay(replica: &mut Admin, delay: Duration) -> Result<()> {
    let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
    let start = if is_applying(replica).await? { "START SLAVE" } else { "START SLAVE IO_THREAD" };
    replica.run(&format!("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY={seconds}; {start}")).await
}

/// Applies all received transactions, as PostgreSQL does, and opens the node for writes.
///
/// A delay is waited out: a change of the delay would throw away the transactions that were received and not yet
/// applied.
pub(crate) async fn promote(replica: &mut Admin) -> Result<()> {
    // One of the threads always runs: when both have stopped, a start begins with an empty relay log.
    replica.run("START SLAVE SQL_THREAD; STOP SLAVE IO_THREAD").await?;
    let received = replica.text("SHOW SLAVE STATUS", Column::Named("Gtid_IO_Pos")).await?.unwrap_or_default();
    let patience = Patience::new();
    while !has_reached(replica, &received).await? {
        patience.again("what was received to be applied").await?;
    }
    replica.run("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0").await
}

pub(crate) async fn position(primary: &mut Admin) -> Result<String> {
    primary.scalar("SELECT @@GLOBAL.gtid_binlog_pos").await
}

pub(crate) async fn has_reached(replica: &mut Admin, position: &str) -> Result<bool> {
    Ok(replica.scalar(&format!("SELECT MASTER_GTID_WAIT('{position}', 0.05)")).await? == "0")
}

/// How long an orderly stop may take.
pub(crate) const STOP: (Signal, Duration) = (Signal::TERM, Duration::from_secs(15));
