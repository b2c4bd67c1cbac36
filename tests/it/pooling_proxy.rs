//! PgBouncer between the resolver and a server: it refuses the start-up option that makes
//! sessions read-only, so a statement has to do it.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sea_orm::{ConnectionTrait, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, NodeConfig};
use testkit::{PostgresCluster, Server};

/// A PgBouncer in front of one server, stopped when the value is dropped.
struct Bouncer {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Bouncer {
    fn start(server: &Server) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // PgBouncer refuses to run as root, and the user it changes to has to read these files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let users = folder.path().join("users");
        fs::write(&users, "\"shop\" \"s3cret-shop\"\n")?;
        let settings = folder.path().join("pgbouncer.ini");
        fs::write(
            &settings,
            format!(
                "[databases]\nshop = host=127.0.0.1 port={} dbname=shop\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {}\npool_mode = session\n\
                 ignore_startup_parameters = extra_float_digits\n",
                server.port(),
                users.display()
            ),
        )?;
        let program = ["/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or("pgbouncer");
        let process = Command::new(program)
            .args(if fs::metadata("/proc/self").is_ok_and(|me| is_root(&me)) {
                &["-q", "-u", "nobody"][..]
            } else {
                &["-q"]
            })
            .arg(&settings)
            .stderr(Stdio::null())
            .spawn()
            .context(
                "PgBouncer is missing: `apt-get install --no-install-recommends pgbouncer`, or see scripts/test",
            )?;
        let bouncer = Self { process, port, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!("PgBouncer did not listen on port {port} within 10 s");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(bouncer)
    }

    fn url(&self) -> String {
        format!("postgres://shop:s3cret-shop@127.0.0.1:{}/shop", self.port)
    }
}

fn is_root(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    metadata.uid() == 0
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // The process may have ended by itself; either way it is reaped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_the_start_up_option_still_gives_read_only_sessions() -> Result<()> {
    let cluster = PostgresCluster::start(0).await?;
    let bouncer = Bouncer::start(cluster.primary())?;
    // Behind the proxy is the primary itself, so that only the session can refuse the write.
    let db = DatabaseConnection::builder()
        .primary(NodeConfig::new(cluster.primary().url()).name("primary"))
        .replica(NodeConfig::new(bouncer.url()).name("behind-proxy").role_check(false))
        .primary_read_share(0.0)
        .connect()
        .await?;
    let read = db.read();
    assert_eq!(read.node().as_deref(), Some("behind-proxy"));
    let transaction = read.begin().await?;
    let refused = transaction.execute_unprepared("CREATE TABLE t (id int)").await.expect_err("read-only");
    assert!(refused.to_string().contains("read-only transaction"), "{refused}");
    transaction.rollback().await?;
    // Not by the transaction's own mode alone: the session itself is read-only.
    let mode = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, "SHOW default_transaction_read_only");
    let row = read.query_one_raw(mode).await?.context("one row")?;
    assert_eq!(row.try_get_by_index::<String>(0)?, "on");
    Ok(())
}
