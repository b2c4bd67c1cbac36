//! The handle of one server.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    admin::Admin,
    logins::{ADMIN, ADMIN_PASSWORD, APP, APP_PASSWORD, DATABASE},
    mariadb, mysql,
    node::{Engine, Node},
    postgres,
    proxy::ChaosProxy,
    wait::Patience,
};

/// A server of a cluster: its address, and the faults that a test can give it.
///
/// Clones are handles of the same server. The server keeps its port and its data over `stop`, `kill` and `start`.
/// Dropping the cluster kills the server, and no handle starts it again.
#[derive(Clone, Debug)]
pub struct Server {
    pub(crate) node: Arc<Node>,
}

impl Server {
    /// `node-0`, `node-1`, …; says nothing about the role, which a promotion moves.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// The port on 127.0.0.1, the same over restarts.
    pub fn port(&self) -> u16 {
        self.node.port.number()
    }

    /// The URL of the application's user `shop`, who owns the database `shop` and nothing else.
    pub fn url(&self) -> String {
        self.url_at(self.port())
    }

    /// [`url`](Self::url) with another port, such as a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("{}://{}@127.0.0.1:{port}/{DATABASE}", self.scheme(), self.login(APP, APP_PASSWORD))
    }

    /// The URL of the superuser (`postgres`, `root`), without a password, on the same database.
    pub fn admin_url(&self) -> String {
        let user = match self.node.common.engine {
            Engine::Postgres => "postgres",
            Engine::MariaDb | Engine::MySql => "root",
        };
        format!("{}://{user}@127.0.0.1:{}/{DATABASE}", self.scheme(), self.port())
    }

    /// The URL of a user with a password and every privilege: a superuser in PostgreSQL; in MariaDB a user with
    /// GRANT ALL, who can write on a replica although the replica is read-only. In MySQL likewise, without a
    /// password, and MySQL's replicas refuse this user's writes too (`super_read_only`).
    pub fn privileged_url(&self) -> String {
        let login = self.login(ADMIN, ADMIN_PASSWORD);
        format!("{}://{login}@127.0.0.1:{}/{DATABASE}", self.scheme(), self.port())
    }

    /// The user as in a URL; MySQL's have no passwords.
    fn login(&self, user: &str, password: &str) -> String {
        match self.node.common.engine {
            Engine::MySql => user.to_owned(),
            Engine::Postgres | Engine::MariaDb => format!("{user}:{password}"),
        }
    }

    fn scheme(&self) -> &'static str {
        match self.node.common.engine {
            Engine::Postgres => "postgres",
            Engine::MariaDb | Engine::MySql => "mysql",
        }
    }

    /// Whether the server's process lives; a frozen process does.
    pub fn is_running(&self) -> bool {
        self.node.is_running()
    }

    /// The id of the server's process while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.node.pid()
    }

    /// The folder of the server's data, until the cluster is dropped.
    pub fn data_folder(&self) -> PathBuf {
        self.node.data()
    }

    /// The end of the server's log.
    pub fn log_tail(&self) -> String {
        self.node.log_tail()
    }

    /// SIGKILL for the server and its children; afterwards connections are refused.
    pub async fn kill(&self) -> Result<()> {
        let node = Arc::clone(&self.node);
        tokio::task::spawn_blocking(move || node.kill()).await.context("the runtime ended")
    }

    /// Stops the server in order: transactions are rolled back, files are closed.
    ///
    /// # Errors
    /// The server does not end within 15 s, for example because PostgreSQL waits for a frozen replica. The server
    /// is killed then.
    pub async fn stop(&self) -> Result<()> {
        let (signal, limit) = match self.node.common.engine {
            Engine::Postgres => postgres::STOP,
            Engine::MariaDb | Engine::MySql => mariadb::STOP,
        };
        if !self.node.is_awake() && self.node.is_running() {
            self.node.thaw()?; // a stopped process does not receive the signal
        }
        self.node.signal(signal)?;
        let stopped = async {
            while self.node.is_running() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let in_time = tokio::time::timeout(limit, stopped).await;
        self.kill().await?; // collects what an orderly end left, which is nothing
        in_time.map_err(|_elapsed| anyhow!("{} did not stop in {limit:?}; {}", self.name(), self.log_tail()))
    }

    /// Starts the server on its port with its data, and waits until it answers.
    ///
    /// A replica also streams again when this returns, if its primary answers.
    ///
    /// # Errors
    /// The server runs already, its cluster was dropped, or the start failed; then the error has the end of the
    /// server's log.
    pub async fn start(&self) -> Result<()> {
        self.launch().await?;
        self.wait_ready().await
    }

    /// Stops the server in order and starts it.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// SIGSTOP for the server and its children: connections stay open, and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.node.freeze()
    }

    /// Sends SIGCONT: the server goes on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<()> {
        self.node.thaw()
    }

    /// Pauses the replica's replay: the replica goes on receiving, but shows nothing new.
    pub async fn pause_replay(&self) -> Result<()> {
        let mut admin = self.admin().await?;
        match self.node.common.engine {
            Engine::Postgres => postgres::pause(&mut admin).await?,
            Engine::MariaDb => mariadb::pause(&mut admin).await?,
            Engine::MySql => mysql::pause(&mut admin).await?,
        }
        admin.close().await;
        Ok(())
    }

    /// Resumes replay after [`pause_replay`](Self::pause_replay).
    pub async fn resume_replay(&self) -> Result<()> {
        let mut admin = self.admin().await?;
        match self.node.common.engine {
            Engine::Postgres => postgres::resume(&mut admin).await?,
            Engine::MariaDb => mariadb::resume(&mut admin).await?,
            Engine::MySql => mysql::resume(&mut admin).await?,
        }
        admin.close().await;
        Ok(())
    }

    /// Delays the replica's replay: the replica shows each change this much later than the primary made it; zero
    /// ends the delay.
    ///
    /// Milliseconds on PostgreSQL. MariaDB and MySQL know whole seconds: parts of one are rounded up.
    pub async fn delay_replay(&self, delay: Duration) -> Result<()> {
        self.node.set_delay(delay);
        let engine = self.node.common.engine;
        if engine == Engine::Postgres {
            return postgres::apply_role(&self.node, &self.admin_url()).await;
        }
        let mut admin = self.admin().await?;
        match engine {
            Engine::MySql => mysql::delay(&mut admin, delay).await?,
            _ => mariadb::delay(&mut admin, delay).await?,
        }
        admin.close().await;
        self.wait_streaming().await
    }

    /// Waits until this replica has replayed its primary's present position.
    ///
    /// # Errors
    /// The server is no replica, one of the two does not answer, or 30 s have passed.
    pub async fn wait_caught_up(&self) -> Result<()> {
        let upstream = self.upstream().with_context(|| format!("{} is not a replica", self.name()))?;
        let mut primary = upstream.admin().await?;
        let mut replica = self.admin().await?;
        let engine = self.node.common.engine;
        let position = match engine {
            Engine::Postgres => postgres::position(&mut primary).await?,
            Engine::MariaDb => mariadb::position(&mut primary).await?,
            Engine::MySql => mysql::position(&mut primary).await?,
        };
        let patience = Patience::new();
        while !match engine {
            Engine::Postgres => postgres::has_reached(&mut replica, &position).await?,
            Engine::MariaDb => mariadb::has_reached(&mut replica, &position).await?,
            Engine::MySql => mysql::has_reached(&mut replica, &position).await?,
        } {
            patience.again(&format!("{} to reach {position}", self.name())).await?;
        }
        primary.close().await;
        replica.close().await;
        Ok(())
    }

    /// Runs `sql` as the superuser on a connection of its own and returns the first column of the
    /// first row as text; the text is empty when it is NULL or when there is no row.
    pub async fn query_scalar(&self, sql: &str) -> Result<String> {
        let mut admin = self.admin().await?;
        let text = admin.scalar(sql).await?;
        admin.close().await;
        Ok(text)
    }

    /// Runs one or more statements as the application's user, who then owns the new objects.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let mut app = self.connect(&self.url()).await?;
        app.run(sql).await?;
        app.close().await;
        Ok(())
    }

    pub(crate) async fn admin(&self) -> Result<Admin> {
        self.connect(&self.admin_url()).await
    }

    async fn connect(&self, url: &str) -> Result<Admin> {
        Admin::connect(url).await.with_context(|| self.name().to_owned())
    }

    pub(crate) fn upstream(&self) -> Option<Self> {
        self.node.role().upstream.map(|node| Self { node })
    }

    pub(crate) async fn launch(&self) -> Result<u32> {
        let node = Arc::clone(&self.node);
        tokio::task::spawn_blocking(move || node.launch()).await.context("the runtime ended")?
    }

    /// Waits until the launched server answers and, as a replica, streams.
    pub(crate) async fn wait_ready(&self) -> Result<()> {
        let node = &self.node;
        let patience = Patience::new();
        loop {
            let Some(pid) = node.pid() else { bail!("{} ended while starting; {}", node.name, node.log_tail()) };
            let is_ready = match node.common.engine {
                Engine::Postgres => postgres::is_ready(node, pid),
                Engine::MariaDb => mariadb::is_ready(node, pid),
                Engine::MySql => mysql::is_ready(node, pid),
            };
            if is_ready {
                break;
            }
            patience.again("it to be ready").await.with_context(|| format!("{}; {}", node.name, node.log_tail()))?;
        }
        if node.common.engine != Engine::Postgres {
            self.tell_upstream().await.with_context(|| node.log_tail())?;
        }
        self.wait_streaming().await.with_context(|| node.log_tail())
    }

    /// Waits until the replica receives from its primary; returns at once when the primary is down.
    pub(crate) async fn wait_streaming(&self) -> Result<()> {
        let Some(upstream) = self.upstream().filter(|upstream| upstream.node.is_awake()) else {
            return Ok(());
        };
        let mut replica = self.admin().await?;
        let mut primary = upstream.admin().await?;
        let patience = Patience::new();
        while !match self.node.common.engine {
            Engine::Postgres => postgres::is_streaming(&self.node, &mut replica, &mut primary).await?,
            Engine::MariaDb => mariadb::is_streaming(&mut replica).await?,
            Engine::MySql => mysql::is_streaming(&mut replica).await?,
        } {
            patience.again(&format!("{} to stream", self.name())).await?;
        }
        primary.close().await;
        replica.close().await;
        Ok(())
    }

    /// Replicates from `upstream` from now on; a server that is down does so when it starts.
    pub(crate) async fn follow(&self, upstream: &Self) -> Result<()> {
        self.node.set_upstream(Some(Arc::clone(&upstream.node)));
        self.follow_anew().await
    }

    /// Receives from its primary through `proxy`, over restarts too, until it follows another primary.
    pub async fn follow_through(&self, proxy: &ChaosProxy) -> Result<()> {
        self.node.set_through(proxy.port());
        self.follow_anew().await
    }

    async fn follow_anew(&self) -> Result<()> {
        if self.node.common.engine == Engine::Postgres {
            postgres::apply_role(&self.node, &self.admin_url()).await?;
        } else if self.node.is_awake() {
            self.tell_upstream().await?;
        }
        if self.node.is_awake() { self.wait_streaming().await } else { Ok(()) }
    }

    /// Tells a running MariaDB or MySQL replica which server to follow.
    async fn tell_upstream(&self) -> Result<()> {
        let mut admin = self.admin().await?;
        match self.node.common.engine {
            Engine::MySql => mysql::follow(&self.node, &mut admin).await?,
            _ => mariadb::follow(&self.node, &mut admin).await?,
        }
        admin.close().await;
        Ok(())
    }

    /// Makes this replica a primary; tells no other server.
    pub(crate) async fn promote(&self) -> Result<()> {
        let mut admin = self.admin().await?;
        match self.node.common.engine {
            Engine::Postgres => postgres::promote(&mut admin).await?,
            Engine::MariaDb => mariadb::promote(&mut admin).await?,
            Engine::MySql => mysql::promote(&mut admin).await?,
        }
        admin.close().await;
        self.node.set_upstream(None);
        self.node.set_delay(Duration::ZERO);
        if self.node.common.engine == Engine::Postgres {
            postgres::apply_role(&self.node, &self.admin_url()).await?;
        }
        Ok(())
    }
}
