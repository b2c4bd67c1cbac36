//! The built-in functions of each dialect, and what a call of each of them needs.

mod mysql;
mod postgres;
mod sqlite;

use super::dialect::Dialect;
use super::names::{self, NameTable};

/// Why a built-in function needs the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// The function writes: large objects, notifications, files.
    Writes,
    /// The function takes, releases or looks at a lock.
    Locks,
    /// The function takes a value of a sequence, or tells the session's last one.
    Sequence,
    /// The function's answer or effect belongs to one session.
    Session,
    /// The function assigns a transaction id.
    Transaction,
    /// The function acts on the server, or answers on the primary only.
    Server,
    /// The function runs the text that its arguments give.
    RunsText,
}

/// What is known about a called name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Harmless,
    NeedsPrimary(Effect),
    Unknown,
}

/// Whether the case of a name counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameCase {
    /// Every name but a quoted one on PostgreSQL.
    Folds,
    Exact,
}

static POSTGRES: NameTable<Known> = NameTable::new(&POSTGRES_ENTRIES, &names::slots::<_, 8192>(&POSTGRES_ENTRIES));
static POSTGRES_ENTRIES: Entries<{ postgres::HARMLESS.len() + postgres::DENIED.len() }> =
    entries(&postgres::HARMLESS, &postgres::DENIED);

static MYSQL: NameTable<Known> = NameTable::new(&MYSQL_ENTRIES, &names::slots::<_, 2048>(&MYSQL_ENTRIES));
static MYSQL_ENTRIES: Entries<{ mysql::HARMLESS.len() + mysql::DENIED.len() }> =
    entries(&mysql::HARMLESS, &mysql::DENIED);

static SQLITE: NameTable<Known> = NameTable::new(&SQLITE_ENTRIES, &names::slots::<_, 512>(&SQLITE_ENTRIES));
static SQLITE_ENTRIES: Entries<{ sqlite::HARMLESS.len() + sqlite::DENIED.len() }> =
    entries(&sqlite::HARMLESS, &sqlite::DENIED);

type Entries<const NAMES: usize> = [(&'static str, Known); NAMES];

/// One list of both, built by the compiler.
const fn entries<const NAMES: usize>(harmless: &[&'static str], denied: &[(&'static str, Effect)]) -> Entries<NAMES> {
    assert!(NAMES == harmless.len() + denied.len());
    let mut entries = [("", Known::Unknown); NAMES];
    let mut at = 0;
    while at < NAMES {
        entries[at] = match at < harmless.len() {
            true => (harmless[at], Known::Harmless),
            false => {
                let (name, effect) = denied[at - harmless.len()];
                (name, Known::NeedsPrimary(effect))
            }
        };
        at += 1;
    }
    entries
}

/// Looks `name`, without its quotes, up among the built-ins of `dialect`.
pub(super) fn look_up(name: &[u8], case: NameCase, dialect: Dialect) -> Known {
    let built_ins = match dialect {
        Dialect::Postgres => &POSTGRES,
        Dialect::MySql => &MYSQL,
        Dialect::Sqlite => &SQLITE,
    };
    match built_ins.find(name) {
        Some((stored, _)) if case == NameCase::Exact && stored.as_bytes() != name => Known::Unknown,
        Some((_, known)) => known,
        None => Known::Unknown,
    }
}
