//! A clean data folder, made once per server version and copied for every node.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};

use crate::{account::Account, scratch::Scratch};

/// Raise the number when the content of a template changes: old templates are then left alone.
const FORMAT: u32 = 1;
/// Below this `/dev/shm` is a container's default of 64 MB, which one cluster fills.
const ENOUGH_BYTES: u64 = 1 << 30;

/// The folder of clusters and templates: `TESTKIT_DIR`, else memory, else the temporary folder.
pub(crate) fn home() -> PathBuf {
    if let Some(chosen) = env::var_os("TESTKIT_DIR") {
        return PathBuf::from(chosen);
    }
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let mut chosen = env::temp_dir();
    if free >= ENOUGH_BYTES && tempfile::tempfile_in(memory).is_ok() {
        chosen = memory.to_owned();
    }
    chosen
}

/// The template for `version` of the server in `binaries`, made by `build` when there is none.
///
/// `build` fills the folder it is given. Processes that build at the same time each do so in a
/// folder of their own and rename it at the end: the first wins, the others use the winner's.
pub(crate) fn cached(
    version: &str,
    binaries: &Path,
    account: Account,
    build: impl FnOnce(&Arc<Scratch>, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let shelf = shelf()?;
    let finished = shelf.join(name(version, binaries, account));
    if finished.is_dir() {
        return Ok(finished);
    }
    let scratch = Arc::new(Scratch::new(&home(), account)?);
    let data = scratch.join("data");
    fs::create_dir(&data).context("the template's folder cannot be made")?;
    fs::set_permissions(&data, private()).context("the template's folder cannot be made private")?;
    account.own(&data)?;
    build(&scratch, &data)?;
    match fs::rename(&data, &finished) {
        Err(error) if !finished.is_dir() => {
            Err(error).with_context(|| format!("the template cannot be moved to {}", finished.display()))
        }
        _ => Ok(finished),
    }
}

/// Copies the template to `target`, which must not exist, for `account`.
pub(crate) fn copy(template: &Path, target: &Path, account: Account) -> Result<()> {
    copy_tree(template, target, account)
        .with_context(|| format!("{} cannot be copied to {}", template.display(), target.display()))
}

fn copy_tree(from: &Path, to: &Path, account: Account) -> Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    account.own(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target, account)?;
        } else {
            fs::copy(&source, &target)?;
            account.own(&target)?;
        }
    }
    Ok(())
}

/// The folder of this user's templates. The folder's name can be guessed and its parent belongs to everyone, so a
/// folder that belongs to another user is not trusted.
fn shelf() -> Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;

    let uid = rustix::process::geteuid().as_raw();
    let shelf = home().join(format!("testkit-templates-{uid}"));
    match fs::create_dir(&shelf) {
        Ok(()) => fs::set_permissions(&shelf, private())?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(error)
                .with_context(|| format!("{} cannot be made; set TESTKIT_DIR to a folder of yours", shelf.display()));
        }
    }
    let meta = fs::symlink_metadata(&shelf).with_context(|| format!("{} is unreadable", shelf.display()))?;
    if !meta.is_dir() || meta.uid() != uid {
        bail!("{} belongs to somebody else; set TESTKIT_DIR to a folder of yours", shelf.display());
    }
    Ok(shelf)
}

fn private() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o700)
}

/// Two builds of one version may differ in their options, hence the folder's hash.
fn name(version: &str, binaries: &Path, account: Account) -> String {
    let mut hasher = DefaultHasher::new();
    (binaries, format!("{account:?}")).hash(&mut hasher);
    let version: String =
        version.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("{version}-{:08x}-{FORMAT}", hasher.finish() >> 32)
}
