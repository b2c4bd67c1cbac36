//! One running server: its process and the children of that process.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{account::Account, scratch::Scratch};

/// A server process that this process may signal and wait for. Dropping the value kills the server.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    scratch: Arc<Scratch>,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts `program` with its output appended to `log`.
    ///
    /// The server waits behind a gate, a shell's `read`, until the watchdog knows it: if this process were killed
    /// in between, the gate would see the end of the pipe and start nothing.
    pub(crate) fn spawn(program: &Command, account: Account, scratch: &Arc<Scratch>, log: &Path) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("no log file {}", log.display()))?;
        let mut gate = Command::new("sh");
        gate.args(["-c", r#"read -r go && exec "$@" </dev/null"#, "testkit-gate"])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(scratch.path())
            .env("LC_ALL", "C")
            .env_remove("PGDATA")
            .env_remove("MYSQL_HOME")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("the log file cannot be shared")?)
            .stderr(log)
            .process_group(0);
        account.apply(&mut gate);
        let mut child = gate.spawn().context("`sh` did not start")?;
        let pipe = child.stdin.take();
        let mut process = Self { child, scratch: Arc::clone(scratch), exited: None };
        process.scratch.watch(process.pid())?;
        pipe.context("the gate has no pipe")?.write_all(b"go\n").context("the gate is gone")?;
        process.poll();
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status of the process, once it has ended. The watchdog forgets the process before its number can be
    /// another's.
    pub(crate) fn poll(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() && is_dead(self.pid()) {
            self.reap();
        }
        self.exited
    }

    /// Signals the server alone, not its children.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        anyhow::ensure!(self.poll().is_none(), "the server is not running");
        send(self.pid(), signal);
        Ok(())
    }

    /// Stops the server and then every child: it cannot fork while it is stopped itself.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        wait_until(Duration::from_secs(2), || matches!(state(self.pid()), Some('T' | 'Z') | None));
        for pid in descendants(self.pid()) {
            send(pid, Signal::STOP);
        }
        Ok(())
    }

    /// Lets the children, and then the server, go on.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        for pid in descendants(self.pid()) {
            send(pid, Signal::CONT);
        }
        self.signal(Signal::CONT)
    }

    /// SIGKILL to the server and its children; returns when all of them are gone.
    pub(crate) fn kill(&mut self) {
        if self.poll().is_some() {
            return;
        }
        send(self.pid(), Signal::STOP);
        wait_until(Duration::from_secs(2), || matches!(state(self.pid()), Some('T' | 'Z') | None));
        let children = descendants(self.pid());
        for &pid in &children {
            send(pid, Signal::KILL);
        }
        send(self.pid(), Signal::KILL);
        self.reap();
        // The children belong to init now, which may or may not collect them: a zombie holds nothing.
        wait_until(Duration::from_secs(5), || children.iter().all(|&pid| is_dead(pid)));
    }

    fn reap(&mut self) {
        self.scratch.unwatch(self.pid());
        self.exited = self.child.wait().ok().or(self.exited);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of a log file, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    const WANTED: u64 = 3_000;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WANTED)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => format!("the end of {}:\n{text}", log.display()),
        Err(error) => format!("{} cannot be read: {error}", log.display()),
    }
}

/// Runs a set-up program to its end under the watchdog; its output is in the error.
pub(crate) fn run(program: &Command, account: Account, scratch: &Arc<Scratch>) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(120);
    let name = program.get_program().to_string_lossy().into_owned();
    let log = scratch.join("set-up.log");
    let mut process = Process::spawn(program, account, scratch, &log)?;
    wait_until(LIMIT, || process.poll().is_some());
    match process.poll() {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(anyhow::anyhow!("{name}: {status}; {}", tail(&log))),
        None => Err(anyhow::anyhow!("{name} did not end in {LIMIT:?}; {}", tail(&log))),
    }
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // A signal to a child of this process fails only when the child is gone, and the callers look for that.
    let _gone = pid.map(|pid| kill_process(pid, signal));
}

fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_dead(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z' | 'X'))
}

fn state(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// State and parent from `/proc/<pid>/stat`; the name before them may hold spaces and brackets.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn descendants(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.1)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}
