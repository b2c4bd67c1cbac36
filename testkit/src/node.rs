//! A server inside the kit: a folder, a port, a role, and a process that is started and stopped.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    account::Account,
    discover::Installation,
    mariadb, mysql,
    ports::Port,
    postgres,
    process::{Process, tail},
    scratch::Scratch,
};

/// The kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    MariaDb,
    MySql,
}

/// The common values of all nodes of one cluster.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) engine: Engine,
    pub(crate) installation: Installation,
    pub(crate) template: PathBuf,
    pub(crate) account: Account,
    pub(crate) scratch: Arc<Scratch>,
    /// Server settings of the test, which win over the kit's.
    pub(crate) settings: Vec<(String, String)>,
    /// PostgreSQL's system identifier: the template's would make all clusters look like one.
    pub(crate) identity: u64,
}

/// One server of a cluster, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) port: Port,
    pub(crate) common: Arc<Common>,
    role: Mutex<Role>,
    life: Mutex<Life>,
}

/// The role of the node at its next start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Role {
    /// The node that this one replicates from; a primary has none.
    pub(crate) upstream: Option<Arc<Node>>,
    /// The port of a proxy that stands before the upstream.
    pub(crate) through: Option<u16>,
    /// How much later than the primary the node replays.
    pub(crate) delay: Duration,
    /// How many times the node's data was replaced by a copy of the primary's.
    pub(crate) copies: u32,
}

impl Role {
    /// The port from which the node receives.
    pub(crate) fn upstream_port(&self) -> Option<u16> {
        self.upstream.as_ref().map(|upstream| self.through.unwrap_or_else(|| upstream.port.number()))
    }
}

#[derive(Debug, Default)]
struct Life {
    process: Option<Process>,
    frozen: bool,
    /// The cluster was dropped: no handle that is left may start a server again.
    closed: bool,
}

impl Node {
    pub(crate) fn new(index: usize, port: Port, common: Arc<Common>, upstream: Option<Arc<Self>>) -> Self {
        let role = Mutex::new(Role { upstream, ..Role::default() });
        Self { name: format!("node-{index}"), port, common, role, life: Mutex::default() }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.common.scratch.join(&self.name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder().join("server.log")
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log())
    }

    pub(crate) fn role(&self) -> Role {
        self.lock_role().clone()
    }

    pub(crate) fn set_upstream(&self, upstream: Option<Arc<Self>>) {
        let mut role = self.lock_role();
        role.upstream = upstream;
        role.through = None;
    }

    pub(crate) fn set_through(&self, port: u16) {
        self.lock_role().through = Some(port);
    }

    /// Makes the node, from its next start on, a replica with a copy of `upstream`'s data.
    pub(crate) fn set_copied(&self, upstream: Arc<Self>) {
        let mut role = self.lock_role();
        *role = Role { upstream: Some(upstream), copies: role.copies + 1, ..Role::default() };
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.lock_role().delay = delay;
    }

    fn lock_role(&self) -> MutexGuard<'_, Role> {
        self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the node's folder, with only the template's data in it.
    pub(crate) fn prepare(&self) -> Result<()> {
        let Common { account, template, .. } = &*self.common;
        let folder = self.folder();
        fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        account.own(&folder)?;
        crate::template::copy(template, &self.data(), *account)?;
        if self.common.engine == Engine::Postgres {
            crate::identity::set(&self.data(), self.common.identity)?;
        }
        Ok(())
    }

    /// Starts the process and returns its id; the server is not ready yet.
    pub(crate) fn launch(&self) -> Result<u32> {
        let mut life = self.lock_life();
        ensure!(!life.closed, "{}: the cluster was dropped", self.name);
        ensure!(!life.is_running(), "{} runs already", self.name);
        let (command, pid_file) = match self.common.engine {
            Engine::Postgres => (postgres::command(self)?, postgres::pid_file(self)),
            Engine::MariaDb => (mariadb::command(self), mariadb::pid_file(self)),
            Engine::MySql => (mysql::command(self), mysql::pid_file(self)),
        };
        // After SIGKILL the file names a dead process, or by now another program's, which PostgreSQL would respect.
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} cannot be removed", pid_file.display()));
            }
            _ => {}
        }
        let process = Process::spawn(&command, self.common.account, &self.common.scratch, &self.log())?;
        let pid = process.pid();
        life.process = Some(process);
        life.frozen = false;
        Ok(pid)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lock_life().is_running()
    }

    /// Whether the server is running and not frozen, so that it would answer.
    pub(crate) fn is_awake(&self) -> bool {
        let mut life = self.lock_life();
        life.is_running() && !life.frozen
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let mut life = self.lock_life();
        if life.is_running() { life.process.as_ref().map(Process::pid) } else { None }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        self.with_process(|_, process| process.signal(signal))
    }

    pub(crate) fn freeze(&self) -> Result<()> {
        self.with_process(|frozen, process| {
            process.freeze()?;
            *frozen = true;
            Ok(())
        })
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.with_process(|frozen, process| {
            process.thaw()?;
            *frozen = false;
            Ok(())
        })
    }

    fn with_process<T>(&self, act: impl FnOnce(&mut bool, &mut Process) -> Result<T>) -> Result<T> {
        let mut life = self.lock_life();
        let Life { process, frozen, .. } = &mut *life;
        let process = process.as_mut().with_context(|| format!("{} is not running", self.name))?;
        act(frozen, process).with_context(|| self.name.clone())
    }

    /// Sends SIGKILL to a running server. Blocks until the process is gone, which takes milliseconds.
    pub(crate) fn kill(&self) {
        let mut life = self.lock_life();
        life.process = None; // dropping the process kills it
        life.frozen = false;
    }

    /// Kills the server; no handle starts it again.
    pub(crate) fn close(&self) {
        self.lock_life().closed = true;
        self.kill();
    }

    fn lock_life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.poll().is_none())
    }
}
