//! PostgreSQL: how its nodes are made, started, queried and commanded.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::{
    account::Account,
    admin::Admin,
    discover::{self, Installation},
    logins::{ADMIN_PASSWORD, APP_PASSWORD},
    node::Node,
    process, template,
    wait::Patience,
};

/// Rewritten and reloaded when the node's upstream or delay changes.
const ROLE_FILE: &str = "testkit_role.conf";

/// Finds PostgreSQL and makes the template if there is none.
pub(crate) fn template(account: Account) -> Result<(Installation, PathBuf)> {
    let found = discover::postgres()?;
    let template = template::cached(&found.version, found.folder(), account, |scratch, data| {
        let mut initdb = Command::new(&found.installer);
        initdb.arg("-D").arg(data).args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.args(["--no-sync", "--no-instructions", "--wal-segsize=1"]);
        process::run(&initdb, account, scratch)?;

        let sql = scratch.join("accounts.sql");
        let script = format!(
            "CREATE ROLE shop LOGIN PASSWORD '{APP_PASSWORD}';\n\
             CREATE ROLE shop_admin SUPERUSER LOGIN PASSWORD '{ADMIN_PASSWORD}';\n\
             CREATE DATABASE shop OWNER shop;\n"
        );
        fs::write(&sql, script).context("the accounts cannot be written down")?;
        fs::set_permissions(&sql, Permissions::from_mode(0o644))?;
        // The limits go into `pg_control`, and a standby refuses to have lower ones than that:
        // with the least possible here every test can choose its own.
        let mut single = Command::new("sh");
        single.args(["-c", r#"script=$1; shift; exec "$@" <"$script" >/dev/null"#, "sh"]).arg(&sql);
        single.arg(&found.server).args(["--single", "-F", "-c", "exit_on_error=true"]);
        single.args(["-c", "max_connections=5", "-c", "max_wal_senders=1", "-c", "max_worker_processes=1"]);
        single.arg("-D").arg(data).arg("postgres");
        process::run(&single, account, scratch)
    })?;
    Ok((found, template))
}

pub(crate) fn pid_file(node: &Node) -> PathBuf {
    node.data().join("postmaster.pid")
}

/// Writes the node's configuration and says how to start it.
pub(crate) fn command(node: &Node) -> Result<Command> {
    let data = node.data();
    let settings = [
        ("listen_addresses", "'127.0.0.1'".to_owned()),
        ("port", node.port.number().to_string()),
        ("unix_socket_directories", "''".to_owned()),
        ("cluster_name", format!("'{}'", node.name)),
        ("shared_buffers", "8MB".to_owned()),
        ("dynamic_shared_memory_type", "mmap".to_owned()),
        // The server's writes survive its SIGKILL; only a crash of the machine would lose them. (full_page_writes
        // stays on: SIGKILL can tear a page in the middle of a write.)
        ("fsync", "off".to_owned()),
        ("max_connections", "100".to_owned()),
        ("max_wal_senders", "10".to_owned()),
        ("wal_keep_size", "256MB".to_owned()), // a replica that was down finds the log that it missed
        ("wal_retrieve_retry_interval", "50ms".to_owned()),
        ("autovacuum", "off".to_owned()),
        ("log_line_prefix", "'%m [%p] '".to_owned()),
    ];
    let ours = settings.iter().map(|(name, value)| format!("{name} = {value}\n"));
    let theirs = node.common.settings.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")));
    let text: String = ours.chain(theirs).chain([format!("include = '{ROLE_FILE}'\n")]).collect();
    let trust = "host replication postgres 127.0.0.1/32 trust\n\
                 host all postgres 127.0.0.1/32 trust\n";
    // Passwords are checked, but sent plainly over loopback: SCRAM in a debug build takes 20 ms of
    // the client for each connection, which would be most of what a test measures.
    let hba = format!("{trust}host all all 127.0.0.1/32 password\n");
    write(node, "postgresql.conf", &text)?;
    write(node, "pg_hba.conf", &hba)?;
    write_role(node)?;
    if node.role().upstream.is_some() {
        write(node, "standby.signal", "")?;
    }
    let mut command = Command::new(&node.common.installation.server);
    command.arg("-D").arg(data);
    Ok(command)
}

fn write_role(node: &Node) -> Result<()> {
    let role = node.role();
    let conninfo = role.upstream_port().map_or_else(String::new, |port| {
        format!("host=127.0.0.1 port={port} user=postgres sslmode=disable application_name={}", node.name)
    });
    let delay = role.delay.as_millis();
    write(node, ROLE_FILE, &format!("primary_conninfo = '{conninfo}'\nrecovery_min_apply_delay = {delay}ms\n"))
}

fn write(node: &Node, name: &str, text: &str) -> Result<()> {
    let path = node.data().join(name);
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    node.common.account.own(&path)
}

/// Line 1 of `postmaster.pid` is the process, line 8 its state.
pub(crate) fn is_ready(node: &Node, pid: u32) -> bool {
    let text = fs::read_to_string(pid_file(node)).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}

/// Whether the replica receives from the primary, as both of them see it.
pub(crate) async fn is_streaming(node: &Node, replica: &mut Admin, primary: &mut Admin) -> Result<bool> {
    let received = replica.scalar("SELECT status FROM pg_stat_wal_receiver").await?;
    let sent = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{}'",
        node.name
    );
    Ok(received == "streaming" && primary.scalar(&sent).await? != "0")
}

pub(crate) async fn pause(admin: &mut Admin) -> Result<()> {
    admin.run("SELECT pg_wal_replay_pause()").await?;
    // Only requested so far: a transaction in the middle of its replay may still become visible.
    let patience = Patience::new();
    while admin.scalar("SELECT pg_get_wal_replay_pause_state()").await? != "paused" {
        patience.again("replay to pause").await?;
    }
    Ok(())
}

pub(crate) async fn resume(admin: &mut Admin) -> Result<()> {
    admin.run("SELECT pg_wal_replay_resume()").await
}

/// Takes the node's upstream and delay over into the running server.
pub(crate) async fn apply_role(node: &Node, url: &str) -> Result<()> {
    write_role(node)?;
    if !node.is_awake() {
        return Ok(()); // the server reads the settings when it starts
    }
    let role = node.role();
    let wanted = format!(
        "SELECT (SELECT setting FROM pg_settings WHERE name = 'recovery_min_apply_delay') = '{}' \
         AND current_setting('primary_conninfo') LIKE '%{}%'",
        role.delay.as_millis(),
        role.upstream_port().map_or_else(String::new, |port| format!("port={port} ")),
    );
    node.signal(Signal::HUP)?;
    // A session begun after the reload has the new values; one begun before takes them at leisure.
    let patience = Patience::new();
    loop {
        let mut admin = Admin::connect(url).await?;
        let seen = admin.scalar(&wanted).await?;
        admin.close().await;
        if seen == "t" {
            return Ok(());
        }
        patience.again("the reload").await?;
    }
}

pub(crate) async fn promote(admin: &mut Admin) -> Result<()> {
    let promoted = admin.scalar("SELECT pg_promote(true, 20)").await?;
    ensure!(promoted == "t", "pg_promote did not end in 20 s");
    Ok(())
}

/// The end of the last record on the primary.
pub(crate) async fn position(primary: &mut Admin) -> Result<String> {
    let text = primary
        .scalar(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::text || ' ' || current_setting('wal_block_size') || ' ' || \
             (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')",
        )
        .await?;
    let numbers: Vec<u64> = text.split(' ').map_while(|number| number.parse().ok()).collect();
    let &[lsn, block, segment] = numbers.as_slice() else { anyhow::bail!("an unreadable position: {text}") };
    let lsn = before_page_header(lsn, block, segment);
    Ok(format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF))
}

pub(crate) async fn has_reached(replica: &mut Admin, position: &str) -> Result<bool> {
    let sql = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}'::pg_lsn, false)");
    Ok(replica.scalar(&sql).await? == "t")
}

/// When a record ends where its page does, the insert position already counts the header of the next page, which no
/// replica receives before the next record.
fn before_page_header(lsn: u64, block: u64, segment: u64) -> u64 {
    match (lsn % segment, lsn % block) {
        (40, _) => lsn - 40,
        (_, 24) => lsn - 24,
        _ => lsn,
    }
}

/// How long an orderly stop may take: a fast shutdown waits for replicas to receive everything.
pub(crate) const STOP: (Signal, Duration) = (Signal::INT, Duration::from_secs(15));

#[cfg(test)]
mod tests {
    use super::before_page_header;

    #[test]
    fn a_position_behind_a_page_header_is_taken_back_to_the_end_of_the_record() {
        const SEGMENT: u64 = 1 << 20;
        assert_eq!(before_page_header(8_192 * 3 + 24, 8_192, SEGMENT), 8_192 * 3);
        assert_eq!(before_page_header(SEGMENT * 5 + 40, 8_192, SEGMENT), SEGMENT * 5);
        assert_eq!(before_page_header(8_192 * 3 + 40, 8_192, SEGMENT), 8_192 * 3 + 40);
    }
}
