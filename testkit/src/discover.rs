//! Finding the servers on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow};

/// A server installation: the paths and the versions of its programs.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    /// The output of `--version`, without the program's path.
    pub(crate) version: String,
    /// Major and minor version, as numbers.
    pub(crate) number: (u32, u32),
    /// The server itself: `postgres`, `mariadbd` or `mysqld`.
    pub(crate) server: PathBuf,
    /// The program that makes a data folder: `initdb`, `mariadb-install-db` or `mysqld` itself.
    pub(crate) installer: PathBuf,
}

impl Installation {
    /// The folder that holds the server.
    pub(crate) fn folder(&self) -> &Path {
        self.server.parent().unwrap_or(Path::new("/"))
    }
}

/// The programs to look for.
struct Wanted {
    title: &'static str,
    variable: &'static str,
    server: &'static str,
    installer: &'static str,
    /// The folders of the installer, seen from the server's folder.
    installer_near: &'static [&'static str],
    usual: &'static [&'static str],
    oldest: (u32, u32),
    /// Another product that uses the server's name, as printed by `--version`.
    namesake: Option<&'static str>,
    way: &'static str,
}

const POSTGRES: Wanted = Wanted {
    title: "PostgreSQL 14 or newer",
    variable: "TESTKIT_POSTGRES_BIN",
    server: "postgres",
    installer: "initdb",
    installer_near: &["."],
    usual: &[
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/usr/libexec/postgresql*",
        "/usr/local/pgsql/bin",
        "/usr/local/bin",
        "/usr/bin",
    ],
    oldest: (14, 0),
    namesake: None,
    way: "apt-get install --no-install-recommends postgresql",
};

const MARIADB: Wanted = Wanted {
    title: "MariaDB 10.6 or newer",
    variable: "TESTKIT_MARIADB_BIN",
    server: "mariadbd",
    installer: "mariadb-install-db",
    installer_near: &[".", "../bin", "../scripts"],
    usual: &["/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin", "/usr/local/mysql/bin"],
    oldest: (10, 6),
    namesake: None,
    way: "apt-get install --no-install-recommends mariadb-server",
};

const MYSQL: Wanted = Wanted {
    title: "MySQL 8.0.26 or newer",
    variable: "TESTKIT_MYSQL_BIN",
    server: "mysqld",
    installer: "mysqld",
    installer_near: &["."],
    usual: &[
        "/opt/mysql/bin",
        "/usr/local/mysql/bin",
        "/usr/sbin",
        "/usr/libexec",
        "/usr/local/sbin",
        "/usr/local/bin",
    ],
    oldest: (8, 0),
    namesake: Some("MariaDB"), // its package links `mysqld` to its own server
    way: "scripts/get-mysql /opt/mysql",
};

pub(crate) fn postgres() -> Result<Installation> {
    static FOUND: OnceLock<Installation> = OnceLock::new();
    remembered(&FOUND, &POSTGRES)
}

pub(crate) fn mariadb() -> Result<Installation> {
    static FOUND: OnceLock<Installation> = OnceLock::new();
    remembered(&FOUND, &MARIADB)
}

pub(crate) fn mysql() -> Result<Installation> {
    static FOUND: OnceLock<Installation> = OnceLock::new();
    remembered(&FOUND, &MYSQL)
}

fn remembered(cell: &OnceLock<Installation>, wanted: &Wanted) -> Result<Installation> {
    if let Some(found) = cell.get() {
        return Ok(found.clone());
    }
    let found = find(wanted)?;
    Ok(cell.get_or_init(|| found).clone())
}

fn find(wanted: &Wanted) -> Result<Installation> {
    let folders = match env::var_os(wanted.variable) {
        Some(folder) => vec![PathBuf::from(folder)], // named by the user: no other folder is searched
        None => {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).chain(wanted.usual.iter().flat_map(|pattern| expand(pattern))).collect()
        }
    };
    let mut reasons = Vec::new();
    for folder in &folders {
        match inspect(wanted, folder) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(reason) => reasons.push(format!("{}: {reason:#}", folder.display())),
        }
    }
    if reasons.is_empty() {
        let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        reasons.push(format!("no `{}` in {}", wanted.server, places.join(", ")));
    }
    Err(anyhow!(
        "{title} is missing ({reasons}). Install it with `{way}`, \
         or set {variable} to the folder that holds `{server}`",
        title = wanted.title,
        reasons = reasons.join("; "),
        way = wanted.way,
        variable = wanted.variable,
        server = wanted.server,
    ))
}

/// An installation in `folder`; `None` without a server, an error when the installation cannot be used.
fn inspect(wanted: &Wanted, folder: &Path) -> Result<Option<Installation>> {
    // A link on PATH leads to the real folder, where the installer is.
    let Ok(server) = folder.join(wanted.server).canonicalize() else {
        return Ok(None);
    };
    let real = server.parent().unwrap_or(folder);
    let installer = wanted
        .installer_near
        .iter()
        .map(|near| real.join(near).join(wanted.installer))
        .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default()).map(|at| at.join(wanted.installer)))
        .find_map(|path| path.is_file().then(|| path.canonicalize().ok()).flatten())
        .with_context(|| format!("`{}` is there but `{}` is not", wanted.server, wanted.installer))?;
    let output = Command::new(&server).arg("--version").output().context("the server does not start")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if wanted.namesake.is_some_and(|namesake| printed.contains(namesake)) {
        return Ok(None);
    }
    let number = number(&printed).with_context(|| format!("an unknown version: {}", printed.trim()))?;
    anyhow::ensure!(number >= wanted.oldest, "version {}.{} is too old", number.0, number.1);
    let version = printed.trim().trim_start_matches(|c| c != ' ').trim_start();
    Ok(Some(Installation { version: format!("{}-{version}", wanted.server), number, server, installer }))
}

/// The first `a.b` (or `a` alone, as in "18beta1") in the output of `--version`.
fn number(printed: &str) -> Option<(u32, u32)> {
    let word = printed.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit()).map_while(|digits| digits.parse().ok());
    Some((numbers.next()?, numbers.next().unwrap_or(0)))
}

/// Folders that match a pattern with at most one `*`, the highest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or((".", before));
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?;
            let major = version.split('.').next()?.parse().ok()?;
            Some((major, PathBuf::from(format!("{}{after}", entry.path().display()))))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::{POSTGRES, Wanted, find, number};

    #[test]
    fn versions_are_read_from_what_the_servers_print() {
        assert_eq!(number("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(number("postgres (PostgreSQL) 19beta1"), Some((19, 0)));
        assert_eq!(number("/usr/sbin/mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian"), Some((10, 11)));
        assert_eq!(number("what?"), None);
    }

    #[test]
    fn a_missing_server_is_named_with_the_way_to_get_it() {
        let absent = Wanted { server: "no-such-server", variable: "TESTKIT_NO_SUCH_BIN", ..POSTGRES };
        let message = find(&absent).expect_err("there is no such server").to_string();
        for part in ["PostgreSQL 14", "no-such-server", "TESTKIT_NO_SUCH_BIN", "apt-get install", "postgresql"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}
