//! PgBouncer, the pooler that most PostgreSQL services have before their servers.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};

use crate::{
    account::Account,
    logins::{APP, APP_PASSWORD, DATABASE},
    ports::{self, Port},
    process::Process,
    scratch::Scratch,
    server::Server,
    template,
    wait::Patience,
};

/// A PgBouncer in front of one server, in session mode unless a setting says otherwise. Dropping the value kills it.
///
/// The port stays the same over stops and starts.
#[derive(Debug)]
pub struct PgBouncer {
    port: Port,
    url: String,
    account: Account,
    scratch: Arc<Scratch>,
    process: Mutex<Option<Process>>,
}

/// Where PgBouncer may be, but for the folder that `TESTKIT_PGBOUNCER_BIN` names. `scripts/get-pgbouncer` unpacks one
/// with prepared statements in transaction mode, which Debian 12's has not, into the first or the second.
const FOLDERS: [&str; 6] = [
    "/opt/pgbouncer/bin",
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/pgbouncer/bin"),
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/bin",
    "/opt/homebrew/bin",
];

impl PgBouncer {
    /// Starts with settings of `pgbouncer.ini`, such as `("max_client_conn", "20")`, and further users, who have the
    /// application's password.
    ///
    /// # Errors
    /// PgBouncer is not installed, or does not start; then the error has the end of its log.
    pub async fn start(server: &Server, users: &[&str], settings: &[(&str, &str)]) -> Result<Self> {
        let account = Account::for_servers();
        let scratch = Arc::new(Scratch::new(&template::home(), account)?);
        let port = ports::claim(1)?.pop().context("one port was claimed")?;
        let logins: String = [APP].iter().chain(users).map(|user| format!("\"{user}\" \"{APP_PASSWORD}\"\n")).collect();
        let more: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let text = format!(
            "[databases]\n{DATABASE} = host=127.0.0.1 port={} dbname={DATABASE}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = plain\nauth_file = users\n\
             ignore_startup_parameters = extra_float_digits\npool_mode = session\n{more}",
            server.port(),
            port.number(),
        );
        for (name, text) in [("users", logins), ("pgbouncer.ini", text)] {
            fs::write(scratch.join(name), text).with_context(|| format!("{name} cannot be written"))?;
            account.own(&scratch.join(name))?;
        }
        let url = server.url_at(port.number());
        let bouncer = Self { port, url, account, scratch, process: Mutex::default() };
        bouncer.start_again().await?;
        Ok(bouncer)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The server's application URL, through the pooler.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// SIGKILL: every connection ends, and new ones are refused.
    pub async fn kill(&self) -> Result<()> {
        let process = self.lock().take();
        tokio::task::spawn_blocking(move || drop(process)).await.context("the runtime ended")
    }

    /// Starts the pooler after [`kill`](Self::kill), and waits until it listens.
    ///
    /// # Errors
    /// The pooler runs already, or does not start.
    pub async fn start_again(&self) -> Result<()> {
        let mut command = Command::new(program());
        command.arg("pgbouncer.ini"); // relative to the folder, which is the process's own
        {
            let mut process = self.lock();
            ensure!(process.is_none(), "the pooler runs already");
            let log = self.scratch.join("pgbouncer.log");
            *process = Some(Process::spawn(&command, self.account, &self.scratch, &log)?);
        }
        let patience = Patience::new();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).is_err() {
            patience.again("PgBouncer to listen").await.with_context(|| {
                let log = fs::read_to_string(self.scratch.join("pgbouncer.log")).unwrap_or_default();
                format!("scripts/get-pgbouncer unpacks PgBouncer; the log: {log}")
            })?;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn program() -> PathBuf {
    let named = env::var_os("TESTKIT_PGBOUNCER_BIN").map(PathBuf::from);
    let folders = named.into_iter().chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join("pgbouncer")).find(|path| path.exists()).unwrap_or_else(|| "pgbouncer".into())
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.lock().take());
        self.scratch.close();
    }
}
