//! The place in which an application keeps its secrets, and a rotation of them.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::Result;
use sea_orm_resolver::{Builder, Consistency, Credentials, DatabaseConnection, NodeConfig};
use testkit::Server;

use crate::servers::Servers;

/// Short enough that a pool opens connections all the time.
pub(super) const SHORT_LIVED: Duration = Duration::from_millis(20);
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Hands the present login out, and counts how often.
#[derive(Debug)]
pub(super) struct Vault {
    present: Mutex<Credentials>,
    life: Mutex<Option<Duration>>,
    calls: AtomicUsize,
    fails: AtomicBool,
}

impl Vault {
    pub(super) fn of(login: &Login) -> Arc<Self> {
        Arc::new(Self {
            present: Mutex::new(login.credentials()),
            life: Mutex::default(),
            calls: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
        })
    }

    pub(super) fn store(&self, login: &Login) {
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = login.credentials();
    }

    /// The credentials that the vault hands out from now on expire after this time.
    pub(super) fn expires_in(&self, life: Duration) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = Some(life);
    }

    pub(super) fn fail(&self, fails: bool) {
        self.fails.store(fails, SeqCst);
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    async fn present(&self) -> Result<Credentials, io::Error> {
        // A vault is asked over a network.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.calls.fetch_add(1, SeqCst);
        if self.fails.load(SeqCst) {
            return Err(io::Error::other("the vault is sealed"));
        }
        let present = self.present.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let life = *self.life.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(life.into_iter().fold(present, Credentials::expires_in))
    }

    /// A node that asks the vault.
    pub(super) fn node(self: &Arc<Self>, server: &Server) -> NodeConfig {
        self.node_at(&server.url())
    }

    /// A node at this URL that asks the vault.
    pub(super) fn node_at(self: &Arc<Self>, url: &str) -> NodeConfig {
        let vault = Arc::clone(self);
        NodeConfig::new(without_password(url)).credentials(move || {
            let vault = Arc::clone(&vault);
            async move { vault.present().await }
        })
    }
}

/// A user and a password of the application, which a rotation replaces.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) turn: u32,
}

impl Login {
    /// The login of the test kit's user.
    pub(super) fn first(servers: &Servers) -> Self {
        let password = (!matches!(servers, Servers::MySql(_))).then(|| "s3cret-shop".to_owned());
        Self { user: "shop".to_owned(), password, turn: 0 }
    }

    /// The login after this one: another password; on MySQL, whose users have none here, another user.
    pub(super) fn next(&self) -> Self {
        let turn = self.turn + 1;
        match &self.password {
            Some(_) => Self { password: Some(format!("rotated {turn}: @/%")), turn, ..self.clone() },
            None => Self { user: format!("shop_{turn}"), turn, ..self.clone() },
        }
    }

    pub(super) fn credentials(&self) -> Credentials {
        match &self.password {
            Some(password) => Credentials::new(&self.user, password),
            None => Credentials::user_only(&self.user),
        }
    }

    /// Has all servers accept `next` and refuse this login. Open sessions go on.
    pub(super) async fn replace_by(&self, next: &Self, servers: &Servers) -> Result<()> {
        let password = next.password.as_deref().unwrap_or_default();
        let sql = match servers {
            Servers::Postgres(_) => format!("ALTER ROLE shop PASSWORD '{password}'"),
            Servers::MariaDb(_) => format!("ALTER USER shop IDENTIFIED BY '{password}'"),
            Servers::MySql(_) => format!("RENAME USER {} TO {}", self.user, next.user),
        };
        servers.primary().query_scalar(&sql).await?;
        servers.wait_caught_up().await
    }
}

pub(super) fn without_password(url: &str) -> String {
    url.replacen(":s3cret-shop@", "@", 1)
}

/// Connections that live a moment only, on all nodes: primary and two replicas.
pub(super) fn builder(servers: &Servers, node: impl Fn(&Server) -> NodeConfig) -> Builder {
    let node = |server, name: &str| node(server).name(name).max_lifetime(SHORT_LIVED);
    DatabaseConnection::builder()
        .primary(node(servers.primary(), "primary"))
        .replica(node(servers.replica(0), "replica-0"))
        .replica(node(servers.replica(1), "replica-1"))
        .primary_read_share(0.3)
        // All nodes serve reads, whatever is written.
        .consistency(Consistency::Eventual)
        .probe_interval(Duration::from_millis(100))
        // A busy machine is no failure.
        .probe_timeout(PATIENCE)
        .connect_timeout(PATIENCE)
}
