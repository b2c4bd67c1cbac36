//! The options with which one pool of a node opens its next connection.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use sea_orm::sqlx::{Connection, Database, Pool};

use super::{Credentials, CredentialsCache, Sessions, seaorm::count_idle, sessions::Settings};

/// The connect options of a database.
pub(super) type OptionsOf<DB> = <<DB as Database>::Connection as Connection>::Options;

/// How the options of a database are changed.
pub(super) struct Compose<DB: Database> {
    /// Puts other credentials into the options of the user.
    pub(super) log_in: fn(OptionsOf<DB>, &Credentials) -> OptionsOf<DB>,
    /// Adds the settings of a lane.
    pub(super) set: fn(OptionsOf<DB>, &Settings) -> OptionsOf<DB>,
    /// Adds a setting that no proxy knows.
    pub(super) mark: fn(OptionsOf<DB>) -> OptionsOf<DB>,
}

impl<DB: Database> Clone for Compose<DB> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<DB: Database> Copy for Compose<DB> {}

/// Makes the connect options of one pool: those of the user, as they are now, with the present credentials of the node and
/// the settings of the lane.
///
/// The user's options change while the service runs: a pool that was given to the resolver is told a new password by
/// sqlx's `set_connect_options`. So the options are compared before a connection may be opened.
pub(super) struct Recipe<DB: Database> {
    base: Base<DB>,
    settings: Settings,
    compose: Compose<DB>,
    /// The user's options that the pool has now.
    used: Mutex<Arc<OptionsOf<DB>>>,
    /// The version of the settings and the credentials that the pool has now.
    version: AtomicU64,
}

/// The source of the user's options.
enum Base<DB: Database> {
    /// Options that nobody changes.
    Fixed,
    /// A pool that its owner may give other options.
    Pool(Pool<DB>),
}

impl<DB: Database> Clone for Base<DB> {
    fn clone(&self) -> Self {
        match self {
            Self::Fixed => Self::Fixed,
            Self::Pool(pool) => Self::Pool(pool.clone()),
        }
    }
}

impl<DB: Database> Recipe<DB> {
    /// For a pool of the resolver's own, made from `options`.
    pub(super) fn fixed(options: Arc<OptionsOf<DB>>, settings: Settings, compose: Compose<DB>) -> Self {
        Self::new(Base::Fixed, options, settings, compose)
    }

    /// For a sibling of a pool that was given to the resolver.
    pub(super) fn of_pool(pool: &Pool<DB>, settings: Settings, compose: Compose<DB>) -> Self {
        Self::new(Base::Pool(pool.clone()), pool.connect_options(), settings, compose)
    }

    fn new(base: Base<DB>, used: Arc<OptionsOf<DB>>, settings: Settings, compose: Compose<DB>) -> Self {
        // The pool may have been made from older options: the first refresh sets them in any case.
        Self { base, settings, compose, used: Mutex::new(used), version: AtomicU64::new(u64::MAX) }
    }

    /// The same recipe for another pool.
    pub(super) fn again(&self) -> Self {
        Self::new(self.base.clone(), self.used(), self.settings.clone(), self.compose)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.settings.sessions
    }

    pub(super) fn credentials(&self) -> Option<&Arc<CredentialsCache>> {
        self.settings.credentials.as_ref()
    }

    /// The options for the next connection.
    pub(super) fn options(&self) -> OptionsOf<DB> {
        (self.compose.set)(self.plain(), &self.settings)
    }

    /// As [`options`](Self::options), with a setting that no proxy knows.
    pub(super) fn marked(&self) -> OptionsOf<DB> {
        (self.compose.mark)(self.options())
    }

    /// The user's options with the present credentials, without any setting of the resolver.
    pub(super) fn plain(&self) -> OptionsOf<DB> {
        self.logged_in(&self.used())
    }

    fn logged_in(&self, base: &OptionsOf<DB>) -> OptionsOf<DB> {
        match self.credentials().and_then(|credentials| credentials.held()) {
            Some(held) => (self.compose.log_in)(base.clone(), &held),
            None => base.clone(),
        }
    }

    /// Whether the resolver adds a setting to the options.
    pub(super) fn adds_settings(&self) -> bool {
        let settings = &self.settings;
        settings.sessions.keep_settings() && (settings.access.is_read_only() || settings.statement_timeout.is_some())
    }

    /// Gives the pool the options of now, if they are others than before.
    pub(super) fn refresh(&self, pool: &Pool<DB>) {
        let is_older = || self.version.load(Ordering::Acquire) != self.settings.version();
        // The user's options matter only to a connection that is opened.
        let may_open = || matches!(self.base, Base::Pool(_)) && count_idle(pool) == 0;
        if !is_older() && !may_open() {
            return;
        }
        // Of two that refresh at the same time, the later one must not be undone.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = may_open() && self.take_base(&mut used);
        if is_other || is_older() {
            let version = self.settings.version();
            pool.set_connect_options((self.compose.set)(self.logged_in(&used), &self.settings));
            self.version.store(version, Ordering::Release);
        }
    }

    /// Takes the user's present options; `false` when they are those of before.
    fn take_base(&self, used: &mut Arc<OptionsOf<DB>>) -> bool {
        let Base::Pool(source) = &self.base else { return false };
        let now = source.connect_options();
        if Arc::ptr_eq(used, &now) {
            return false;
        }
        *used = now;
        true
    }

    fn used(&self) -> Arc<OptionsOf<DB>> {
        Arc::clone(&self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
