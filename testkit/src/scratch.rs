//! The folder of a cluster, and the watchdog that outlives this process by a moment to clear the folder.
//!
//! Three ways of dying have to leave nothing behind: an orderly drop, a panic, and SIGKILL of the test process.
//! After SIGKILL another process has to do the work. `PR_SET_PDEATHSIG` was rejected: the signal is tied to the
//! *thread* that forked (a tokio worker may end long before its process), does not reach the children of PostgreSQL
//! when they are stopped, and removes no folders. So a tiny shell waits at the other end of a pipe: when the pipe
//! closes, for whatever reason, the shell kills the servers that it was told about and removes the folder.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::account::Account;

/// Reads `+ pid` and `- pid` until the pipe closes, then clears up.
///
/// A postmaster is stopped before its children are listed, so that it cannot fork one more. Line 7 of
/// `postmaster.pid` names the System V segment that SIGKILL leaves in the kernel. A small disk is attached in the folder
/// by root only.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
pids=' '
while read -r verb pid; do
  case "$verb $pids" in
    '+ '*) pids="$pids$pid " ;;
    '- '*" $pid "*) pids="${pids%% $pid *} ${pids#* $pid }" ;;
  esac
done
for pid in $pids; do kill -STOP "$pid"; done
for pid in $pids; do
  below=$(grep -ls "^PPid:[[:space:]]*$pid\$" /proc/[0-9]*/status | cut -d/ -f3)
  kill -KILL $below "$pid"
done
for file in "$1"/*/data/postmaster.pid; do
  [ -f "$file" ] && set -- "$1" $(sed -n 7p "$file") && [ -n "$3" ] && ipcrm -m "$3"
  set -- "$1"
done
for mounted in $(grep -F " $1/" /proc/mounts | cut -d' ' -f2); do umount -l "$mounted"; done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$1"
  [ -e "$1" ] || exit 0
  sleep 0.1
done
"#;

/// A private folder and its watchdog.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    watchdog: Mutex<Option<(Child, ChildStdin)>>,
}

impl Scratch {
    /// Makes a folder in `parent` which `account` may use.
    pub(crate) fn new(parent: &Path, account: Account) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("testkit-")
            .tempdir_in(parent)
            .with_context(|| format!("no folder for servers in {}", parent.display()))?;
        account.own(folder.path())?;
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "testkit-watchdog"])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C and a test runner's group kill are meant for the tests
            .spawn()
            .context("no watchdog: `sh` did not start")?;
        let pipe = watchdog.stdin.take().context("the watchdog has no pipe")?;
        Ok(Self { folder, watchdog: Mutex::new(Some((watchdog, pipe))) })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on the watchdog kills `pid`, and its children, when this process dies.
    pub(crate) fn watch(&self, pid: u32) -> Result<()> {
        self.tell('+', pid)
    }

    /// To be called before `pid` is waited for: afterwards the number may be another process's.
    pub(crate) fn unwatch(&self, pid: u32) {
        // A watchdog that is gone kills no process, which is the aim.
        let _gone = self.tell('-', pid);
    }

    fn tell(&self, verb: char, pid: u32) -> Result<()> {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, pipe) = watchdog.as_mut().context("the cluster is closed")?;
        // One write of one line: shorter than PIPE_BUF, so the death of this process never tears the line.
        pipe.write_all(format!("{verb} {pid}\n").as_bytes()).context("the watchdog is gone")
    }

    /// Lets the watchdog clear up the rest and waits for it; the second call does nothing.
    pub(crate) fn close(&self) {
        let watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut child, pipe)) = watchdog {
            drop(pipe);
            let _status = child.wait();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.close(); // and then `TempDir` removes the folder, if the shell could not
    }
}
