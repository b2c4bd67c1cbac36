//! A disk that is nearly full.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{node::Engine, server::Server};

/// A file system of a few bytes in memory, which a server writes its temporary files to. Dropping the value detaches it.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Whether this process may attach a file system: it runs as root.
    pub fn is_possible() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Attaches a disk of `kilobytes` where a PostgreSQL server writes what does not fit into `work_mem`: sorts and
    /// hashes fail with 53100, everything else works.
    ///
    /// # Errors
    /// The process does not run as root, or the server is no PostgreSQL.
    pub fn for_sorts(server: &Server, kilobytes: u32) -> Result<Self> {
        ensure!(server.node.common.engine == Engine::Postgres, "{} is no PostgreSQL", server.name());
        let at = server.data_folder().join("base").join("pgsql_tmp");
        fs::create_dir_all(&at).with_context(|| format!("{} cannot be made", at.display()))?;
        let size = format!("size={kilobytes}k,mode=0777");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at))?;
        Ok(Self { at })
    }

    fn detach(at: &Path) -> Result<()> {
        // Lazily: the server may have a file open.
        run(Command::new("umount").arg("-l").arg(at))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("`{program}` did not start"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The watchdog of the cluster's folder detaches what is left.
        let _left = Self::detach(&self.at);
    }
}
