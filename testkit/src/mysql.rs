//! MySQL: how its nodes are made, started, queried and commanded.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    account::Account,
    admin::{Admin, Column},
    discover::{self, Installation},
    mariadb::GRANTS,
    node::Node,
    process, template,
    wait::Patience,
};

/// The options of every start; they must be the same when the template is made and when it is used.
const ALWAYS: [&str; 7] = [
    "--loose-innodb-redo-log-capacity=8M", // since 8.0.30
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-buffer-size=1M",
    "--innodb-doublewrite=OFF", // survives SIGKILL of the server, not a crash of the machine
    "--innodb-use-native-aio=OFF", // kernel-wide limits, and many servers
    "--secure-file-priv=NULL",  // else a folder of the package must be there
    "--loose-mysqlx=OFF",       // another port
];

/// Finds MySQL and makes the template if there is none.
pub(crate) fn template(account: Account) -> Result<(Installation, PathBuf)> {
    let found = discover::mysql()?;
    let template = template::cached(&found.version, found.folder(), account, |scratch, data| {
        let server = || {
            let mut server = Command::new(&found.server);
            server.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
            server.arg(format!("--tmpdir={}", scratch.path().display())).args(ALWAYS);
            server.arg("--disable-log-bin"); // the content of a template is not replicated
            server
        };
        process::run(server().arg("--initialize-insecure"), account, scratch)?;

        let sql = scratch.join("accounts.sql");
        // Without passwords: by default a server takes one only encrypted, and neither TLS nor the exchange
        // of keys is compiled into the tests.
        let script = format!(
            "CREATE USER 'root'@'127.0.0.1';\n\
             GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n\
             CREATE USER 'shop_admin'@'%';\n\
             GRANT ALL ON *.* TO 'shop_admin'@'%' WITH GRANT OPTION;\n\
             CREATE DATABASE shop;\n\
             CREATE USER 'shop'@'%';\n\
             GRANT {GRANTS} ON shop.* TO 'shop'@'%';\n\
             SHUTDOWN;\n"
        );
        fs::write(&sql, script).context("the accounts cannot be written down")?;
        fs::set_permissions(&sql, Permissions::from_mode(0o644))?;
        let init_file = format!("--init-file={}", sql.display());
        process::run(server().args(["--skip-networking", "--socket=mysql.sock", &init_file]), account, scratch)?;
        // The file holds the server's UUID: every copy makes its own.
        fs::remove_file(data.join("auto.cnf")).context("the template's UUID cannot be removed")
    })?;
    Ok((found, template))
}

pub(crate) fn pid_file(node: &Node) -> PathBuf {
    node.data().join("mysqld.pid")
}

/// The command that starts the node in its present role.
pub(crate) fn command(node: &Node) -> Command {
    let port = node.port.number();
    let role = node.role();
    let mut command = Command::new(&node.common.installation.server);
    command.arg("--no-defaults").arg(format!("--datadir={}", node.data().display()));
    command.arg(format!("--tmpdir={}", node.folder().display()));
    command.arg(format!("--port={port}"));
    // As for MariaDB: a copy must not take its original's writes for its own.
    command.arg(format!("--server-id={}", u32::from(port) + 100_000 * role.copies));
    command.arg(format!("--super-read-only={}", if role.upstream.is_some() { "ON" } else { "OFF" })); // and read_only
    command.args([
        "--bind-address=127.0.0.1",
        "--socket=mysql.sock", // relative to the data folder: absolute ones may be too long
        "--pid-file=mysqld.pid",
        "--gtid-mode=ON",
        "--enforce-gtid-consistency=ON",
        "--log-bin=binlog",
        "--relay-log=relay",
        "--skip-replica-start", // the node may have another upstream by now, and must not contact the old one
        "--log-bin-trust-function-creators=ON", // so that the application may create triggers
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-buffer-pool-dump-at-shutdown=OFF",
        "--innodb-buffer-pool-load-at-startup=OFF",
        "--skip-name-resolve",
    ]);
    command.args(ALWAYS);
    command.args(node.common.settings.iter().map(|(name, value)| format!("--{}={value}", name.replace('_', "-"))));
    command
}

/// The file is written when the port is bound: a connection now meets this server or waits for it.
pub(crate) fn is_ready(node: &Node, pid: u32) -> bool {
    fs::read_to_string(pid_file(node)).is_ok_and(|text| text.trim() == pid.to_string())
}

/// Points the replica at its upstream, if it is not, and starts replication.
pub(crate) async fn follow(node: &Node, replica: &mut Admin) -> Result<()> {
    let Some(upstream) = node.role().upstream else {
        return Ok(());
    };
    let port = upstream.port.number();
    if status(replica, "Source_Port").await?.as_deref() == Some(port.to_string().as_str()) {
        return replica.run("START REPLICA").await;
    }
    replica
        .run(&format!(
            "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, \
             SOURCE_USER='root', SOURCE_CONNECT_RETRY=1, SOURCE_AUTO_POSITION=1; \
             SET GLOBAL super_read_only=1; START REPLICA"
        ))
        .await
}

/// A column of the replica's status; `None` when the server is no replica.
async fn status(replica: &mut Admin, column: &str) -> Result<Option<String>> {
    replica.text("SHOW REPLICA STATUS", Column::Named(column)).await
}

pub(crate) async fn is_streaming(replica: &mut Admin) -> Result<bool> {
    Ok(status(replica, "Replica_IO_Running").await?.as_deref() == Some("Yes"))
}

pub(crate) async fn pause(replica: &mut Admin) -> Result<()> {
    replica.run("STOP REPLICA SQL_THREAD").await
}

pub(crate) async fn resume(replica: &mut Admin) -> Result<()> {
    replica.run("START REPLICA SQL_THREAD").await
}

/// The server knows whole seconds only; parts of a second count as one.
pub(crate) async fn delay(replica: &mut Admin, delay: Duration) -> Result<()> {
    let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
    let is_applying = status(replica, "Replica_SQL_Running").await?.as_deref() == Some("Yes");
    let start = if is_applying { "; START REPLICA SQL_THREAD" } else { "" };
    replica.run(&format!("STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY={seconds}{start}")).await
}

/// Applies all received transactions, as PostgreSQL does, and opens the node for writes.
pub(crate) async fn promote(replica: &mut Admin) -> Result<()> {
    replica.run("START REPLICA SQL_THREAD; STOP REPLICA IO_THREAD").await?;
    let received = status(replica, "Retrieved_Gtid_Set").await?.unwrap_or_default();
    let patience = Patience::new();
    while !has_reached(replica, &received).await? {
        patience.again("what was received to be applied").await?;
    }
    replica.run("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only=0; SET GLOBAL read_only=0").await
}

pub(crate) async fn position(primary: &mut Admin) -> Result<String> {
    primary.scalar("SELECT @@GLOBAL.gtid_executed").await
}

pub(crate) async fn has_reached(replica: &mut Admin, position: &str) -> Result<bool> {
    Ok(replica.scalar(&format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', 0.05)")).await? == "0")
}
