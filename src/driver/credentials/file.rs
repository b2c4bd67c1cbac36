//! Credentials in files, which another program writes: a secret of Kubernetes or Docker, an agent of Vault.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

use super::Credentials;

/// A file that changed is read again after this time. A file of this size is written in microseconds, so two equal readings
/// were not made in the middle of it.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// A file that is longer is no user and no password.
const LONGEST: u64 = 64 * 1024;

/// The files of one node. Each holds one value on one line.
#[derive(Clone)]
pub(super) struct CredentialsFiles {
    pub(super) user: Option<PathBuf>,
    pub(super) password: Option<PathBuf>,
}

impl CredentialsFiles {
    /// The present content. Other credentials than the `held` ones count when two readings agree. The error names the
    /// file.
    pub(super) async fn read(self, held: Option<Credentials>) -> Result<Credentials, String> {
        let first = self.clone().read_once().await?;
        if held.is_some_and(|held| held.is_same_login(&first)) {
            return Ok(first);
        }
        sleep(READ_AGAIN_AFTER).await;
        if self.read_once().await? == first { Ok(first) } else { Err("the file is being written".to_owned()) }
    }

    async fn read_once(self) -> Result<Credentials, String> {
        let reading = spawn_blocking(move || {
            let value = |path: Option<PathBuf>| path.map(|path| value_in(&path)).transpose();
            Ok(Credentials {
                user: value(self.user)?.map(Into::into),
                password: value(self.password)?.map(Into::into),
                expires_in: None,
            })
        });
        reading.await.unwrap_or_else(|_| Err("the runtime ended".to_owned()))
    }
}

fn value_in(path: &Path) -> Result<String, String> {
    let failed = |problem: &str| format!("the file `{}` {problem}", path.display());
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| failed(&format!("cannot be read: {error}")))?;
    value_of(bytes).map_err(failed)
}

/// The one line of a file. The error repeats no content.
fn value_of(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.len() as u64 > LONGEST {
        return Err("is longer than 64 KiB; it has to hold one value on one line");
    }
    let mut value = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    // Editors and `echo` end the line.
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    match value.as_str() {
        "" => Err("is empty"),
        value if value.contains(['\n', '\r', '\0']) => Err("has several lines; it has to hold one value on one line"),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_value_on_one_line() {
        for (content, value) in [
            ("secret", Ok("secret")),
            ("secret\n", Ok("secret")),
            ("secret\r\n", Ok("secret")),
            (" a b \n", Ok(" a b ")),
            ("pässwörd", Ok("pässwörd")),
            ("", Err("is empty")),
            ("\n", Err("is empty")),
            ("a\nb\n", Err("has several lines; it has to hold one value on one line")),
            ("a\n\n", Err("has several lines; it has to hold one value on one line")),
        ] {
            assert_eq!(value_of(content.into()), value.map(str::to_owned), "{content:?}");
        }
        assert_eq!(value_of(vec![0xff]), Err("is not UTF-8"));
        assert!(value_of(vec![b'a'; 64 * 1024 + 1]).is_err_and(|problem| problem.contains("64 KiB")));
    }

    /// The paused clock stands still while a file is read, so the write comes between the two readings.
    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_while_it_is_read_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let files = CredentialsFiles { user: None, password: Some(path.clone()) };
        let held = Credentials::password_only("before");
        std::fs::write(&path, "bef").expect("written");
        let (read, ()) = tokio::join!(files.clone().read(Some(held.clone())), async {
            sleep(READ_AGAIN_AFTER / 4).await;
            std::fs::write(&path, "after\n").expect("written");
        });
        assert!(read.is_err_and(|problem| problem.contains("being written")));
        assert_eq!(files.clone().read(Some(held.clone())).await, Ok(Credentials::password_only("after")));
        std::fs::remove_file(&path).expect("removed");
        let problem = files.read(Some(held)).await.expect_err("it is gone");
        assert!(problem.contains("cannot be read") && problem.contains("password"), "{problem}");
    }
}
