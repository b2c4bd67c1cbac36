//! The user and the password of a node, and the place that new ones come from.

mod cache;
mod file;
mod rules;

use std::{error::Error as StdError, fmt, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) use cache::LoginPool;
pub(crate) use cache::{CredentialsCache, CredentialsEvent};
use file::CredentialsFiles;

/// The user and the password with which connections to a node are opened: of a hook
/// ([`NodeConfig::credentials`](crate::NodeConfig::credentials)), or given by hand
/// ([`set_credentials`](crate::DatabaseConnection::set_credentials)).
///
/// A part that is left out stays as the node's URL or `ConnectOptions` say. `Debug` shows neither part.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use sea_orm_resolver::Credentials;
///
/// // A token that the server accepts for 15 minutes; the user is that of the node's URL.
/// let token = Credentials::password_only("made a moment ago").expires_in(Duration::from_secs(15 * 60));
/// // A lease: a user and a password of its own.
/// let lease = Credentials::new("v-shop-x7Kq", "secret").expires_in(Duration::from_secs(3_600));
/// # let _ = (token, lease);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Option<Arc<str>>,
    password: Option<Arc<str>>,
    expires_in: Option<Duration>,
}

impl Credentials {
    /// A user and a password that do not expire.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some(user.into().into()), ..Self::password_only(password) }
    }

    /// A password, or a token, that does not expire. The user stays as the node's URL says.
    pub fn password_only(password: impl Into<String>) -> Self {
        Self { user: None, password: Some(password.into().into()), expires_in: None }
    }

    /// A user, for a login without a password. A password in the node's URL stays.
    pub fn user_only(user: impl Into<String>) -> Self {
        Self { user: Some(user.into().into()), password: None, expires_in: None }
    }

    /// The server accepts the credentials for so long from now on. The hook is asked again before that: at a moment
    /// between one and two fifths of the life before its end, at most two minutes before. Default: the credentials do
    /// not expire.
    #[must_use]
    pub fn expires_in(self, life: Duration) -> Self {
        Self { expires_in: Some(life), ..self }
    }

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Whether a login with both is the same.
    fn is_same_login(&self, other: &Self) -> bool {
        (&self.user, &self.password) == (&other.user, &other.password)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// An error of the user's code.
pub(crate) type HookError = Box<dyn StdError + Send + Sync>;

/// A hook of the user.
pub(crate) type CredentialsHook = Arc<dyn Fn() -> BoxFuture<'static, Result<Credentials, HookError>> + Send + Sync>;

/// The place that the credentials of a node come from.
#[derive(Clone)]
pub(crate) enum CredentialsSource {
    Hook(CredentialsHook),
    Files { user: Option<PathBuf>, password: Option<PathBuf> },
}

/// The reason why a source gave nothing. The text repeats no secret.
struct NotGiven {
    problem: String,
    source: Option<HookError>,
}

impl From<String> for NotGiven {
    fn from(problem: String) -> Self {
        Self { problem, source: None }
    }
}

impl CredentialsSource {
    async fn fetch(self, held: Option<Credentials>) -> Result<Credentials, NotGiven> {
        match self {
            // The text of the user's error may hold a secret: it is given on, and not shown.
            Self::Hook(hook) => hook()
                .await
                .map_err(|error| NotGiven { problem: "the hook returned an error".to_owned(), source: Some(error) }),
            Self::Files { user, password } => Ok(CredentialsFiles { user, password }.read(held).await?),
        }
    }

    /// How soon the source is asked again, whatever the life of the credentials: a file does not tell when it changes.
    fn asked_every(&self) -> Option<Duration> {
        match self {
            Self::Hook(_) => None,
            Self::Files { .. } => Some(rules::FILE_READ_EVERY),
        }
    }
}
