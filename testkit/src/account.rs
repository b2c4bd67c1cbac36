//! The user that the servers run as.

use std::{
    fs,
    os::unix::{
        fs::{chown, lchown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};

/// The account of the servers: the caller's, or an unprivileged one when the caller is root.
///
/// PostgreSQL refuses to run as root, and MariaDB does so only when told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    Caller,
    Dropped { uid: u32, gid: u32 },
}

impl Account {
    pub(crate) fn for_servers() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::Caller;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = nobody(&users).unwrap_or((65_534, 65_534));
        Self::Dropped { uid, gid }
    }

    /// Makes `command` run as this account, without supplementary groups.
    pub(crate) fn apply(self, command: &mut Command) {
        if let Self::Dropped { uid, gid } = self {
            command.gid(gid).uid(uid); // std clears the groups when root sets a uid
            command.env("HOME", "/").env_remove("USER").env_remove("LOGNAME");
        }
    }

    /// Gives a file or folder to this account; a link itself, not its target.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        let Self::Dropped { uid, gid } = self else {
            return Ok(());
        };
        let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
        let give = if is_link { lchown(path, Some(uid), Some(gid)) } else { chown(path, Some(uid), Some(gid)) };
        give.with_context(|| format!("{} cannot be given to uid {uid}", path.display()))
    }
}

fn nobody(passwd: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.starts_with("nobody:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::nobody;

    #[test]
    fn nobody_is_found_in_passwd_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:99:98::/:/bin/false\n";
        assert_eq!(nobody(passwd), Some((99, 98)));
        assert_eq!(nobody("root:x:0:0:root:/root:/bin/sh\n"), None);
    }
}
