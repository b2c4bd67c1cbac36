//! A primary and its replicas.

use std::{
    io::{self, Write},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    account::Account,
    identity, mariadb, mysql,
    node::{Common, Engine, Node},
    ports::{self, Port},
    postgres,
    scratch::Scratch,
    server::Server,
    template,
};

/// A PostgreSQL primary with streaming replicas.
#[derive(Debug)]
pub struct PostgresCluster(Cluster);

/// A MariaDB primary with GTID replicas, which are `read_only=1`.
#[derive(Debug)]
pub struct MariaDbCluster(Cluster);

/// A MySQL primary with GTID replicas, which are `super_read_only=1`.
#[derive(Debug)]
pub struct MySqlCluster(Cluster);

/// The common part of all kinds of clusters: dropping a cluster kills its servers and removes their folders.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    primary: AtomicUsize,
    scratch: Arc<Scratch>,
}

impl PostgresCluster {
    /// Starts a primary and `replicas` replicas; all are ready and streaming.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, with the way to get it; when a server fails, with its log.
    pub async fn start(replicas: usize) -> Result<Self> {
        Self::start_with(replicas, &[]).await
    }

    /// Starts with settings of `postgresql.conf`, such as `("max_connections", "20")`, on all nodes.
    pub async fn start_with(replicas: usize, settings: &[(&str, &str)]) -> Result<Self> {
        Cluster::start(Engine::Postgres, replicas, settings).await.map(Self)
    }

    /// Lets the application's user see what a replica receives, such as its timeline: by
    /// `pg_read_all_stats`, on all nodes as soon as they have replayed the grant.
    pub async fn grant_stats(&self) -> Result<()> {
        self.primary().query_scalar("GRANT pg_read_all_stats TO shop").await.map(drop)
    }
}

impl MariaDbCluster {
    /// Starts a primary and `replicas` replicas; all are ready and receiving.
    ///
    /// # Errors
    /// When MariaDB is not installed, with the way to get it; when a server fails, with its log.
    pub async fn start(replicas: usize) -> Result<Self> {
        Self::start_with(replicas, &[]).await
    }

    /// Starts with server variables, such as `("wait_timeout", "3")`, on all nodes.
    pub async fn start_with(replicas: usize, settings: &[(&str, &str)]) -> Result<Self> {
        Cluster::start(Engine::MariaDb, replicas, settings).await.map(Self)
    }
}

impl MySqlCluster {
    /// Starts a primary and `replicas` replicas; all are ready and receiving.
    ///
    /// # Errors
    /// When MySQL is not installed, with the way to get it; when a server fails, with its log.
    pub async fn start(replicas: usize) -> Result<Self> {
        Self::start_with(replicas, &[]).await
    }

    /// Starts with server variables, such as `("wait_timeout", "3")`, on all nodes.
    pub async fn start_with(replicas: usize, settings: &[(&str, &str)]) -> Result<Self> {
        Cluster::start(Engine::MySql, replicas, settings).await.map(Self)
    }

    /// Whether the tests on MySQL are to be left out: `TESTKIT_WITHOUT_MYSQL` is set, and is neither empty nor `0`.
    ///
    /// A line on standard error then names the test, past the capture of its output, because a test
    /// that passes without a server has shown nothing.
    pub fn is_left_out() -> bool {
        let left_out = std::env::var_os(WITHOUT_MYSQL).is_some_and(|value| !value.is_empty() && value != "0");
        if left_out {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            // A closed standard error is no reason to fail.
            let _unheard = writeln!(io::stderr(), "\n!!! NOT TESTED: {test}: {WITHOUT_MYSQL} is set !!!\n");
        }
        left_out
    }
}

const WITHOUT_MYSQL: &str = "TESTKIT_WITHOUT_MYSQL";

impl Deref for PostgresCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Deref for MariaDbCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Deref for MySqlCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Cluster {
    async fn start(engine: Engine, replicas: usize, settings: &[(&str, &str)]) -> Result<Self> {
        const ATTEMPTS: usize = 4;
        let settings: Vec<_> = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut failure = anyhow!("not tried");
        for _attempt in 0..ATTEMPTS {
            let settings = settings.clone();
            let cluster = tokio::task::spawn_blocking(move || Self::prepare(engine, replicas, settings))
                .await
                .context("the cluster's folders cannot be made")??;
            match cluster.launch().await {
                Ok(()) => return Ok(cluster),
                Err(error) => failure = error,
            }
            // A program that is no test kit took one of the ports in the moment in which they were free.
            let is_port_lost = cluster.servers.iter().any(|server| !server.is_running() && !server.node.port.is_free());
            if !is_port_lost {
                break;
            }
        }
        Err(failure)
    }

    /// All steps before the first process.
    fn prepare(engine: Engine, replicas: usize, settings: Vec<(String, String)>) -> Result<Self> {
        let account = Account::for_servers();
        let (installation, template) = match engine {
            Engine::Postgres => postgres::template(account)?,
            Engine::MariaDb => mariadb::template(account)?,
            Engine::MySql => mysql::template(account)?,
        };
        let scratch = Arc::new(Scratch::new(&template::home(), account)?);
        let identity = identity::random();
        let common =
            Common { engine, installation, template, account, scratch: Arc::clone(&scratch), settings, identity };
        let nodes = nodes(ports::claim(replicas + 1)?, &Arc::new(common));
        std::thread::scope(|scope| {
            let copies: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.prepare())).collect();
            copies.into_iter().try_for_each(|copy| copy.join().map_err(|_panic| anyhow!("a copy panicked"))?)
        })?;
        let servers = nodes.into_iter().map(|node| Server { node }).collect();
        Ok(Self { servers, primary: AtomicUsize::new(0), scratch })
    }

    async fn launch(&self) -> Result<()> {
        for server in &self.servers {
            server.launch().await?;
        }
        for server in &self.servers {
            server.wait_ready().await?;
        }
        Ok(())
    }

    /// The server that is the primary now: the first one, or the one promoted last.
    pub fn primary(&self) -> &Server {
        &self.servers[self.primary.load(Ordering::Acquire)]
    }

    /// The `index`-th of the servers that started as replicas. A promotion moves no index.
    ///
    /// # Panics
    /// The cluster has fewer replicas.
    pub fn replica(&self, index: usize) -> &Server {
        &self.replicas()[index]
    }

    /// The servers that started as replicas.
    pub fn replicas(&self) -> &[Server] {
        &self.servers[1..]
    }

    /// All servers; the first is the one that started as the primary.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Makes `replica(index)` the primary and lets the other replicas follow it.
    ///
    /// The previous primary is not touched: a test stops or kills it before, or keeps both. The previous primary
    /// comes back as a replica by [`rejoin`](Self::rejoin) only.
    ///
    /// # Errors
    /// The replica is down, or a primary already; or another replica does not follow.
    pub async fn promote(&self, index: usize) -> Result<()> {
        let promoted = self.replica(index);
        ensure!(promoted.upstream().is_some(), "{} is no replica", promoted.name());
        promoted.promote().await?;
        self.primary.store(index + 1, Ordering::Release);
        for other in self.servers.iter().filter(|server| server.upstream().is_some()) {
            other.follow(promoted).await?;
        }
        Ok(())
    }

    /// Makes `servers()[index]` a replica of the present primary, with a fresh copy of its data.
    ///
    /// # Errors
    /// The server is the primary, or cannot be copied or started.
    pub async fn rejoin(&self, index: usize) -> Result<()> {
        let primary = self.primary();
        let server = self.servers.get(index).with_context(|| format!("there is no node-{index}"))?;
        ensure!(server.port() != primary.port(), "{} is the primary", server.name());
        server.kill().await?;
        server.node.set_copied(Arc::clone(&primary.node));
        crate::rejoin::copy_data(primary, server).await?;
        server.start().await
    }

    /// Waits until every running replica has replayed the primary's present position.
    ///
    /// # Errors
    /// After 30 s, for example because of a frozen or paused replica, which is named.
    pub async fn wait_caught_up(&self) -> Result<()> {
        for server in &self.servers {
            if server.is_running() && server.upstream().is_some() {
                server.wait_caught_up().await?;
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &self.servers {
            server.node.close();
        }
        self.scratch.close();
    }
}

fn nodes(ports: Vec<Port>, common: &Arc<Common>) -> Vec<Arc<Node>> {
    let mut nodes: Vec<Arc<Node>> = Vec::with_capacity(ports.len());
    for (index, port) in ports.into_iter().enumerate() {
        let upstream = nodes.first().cloned();
        nodes.push(Arc::new(Node::new(index, port, Arc::clone(common), upstream)));
    }
    nodes
}
