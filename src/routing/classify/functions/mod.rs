//! What is known about functions: the built-ins of a dialect, and what the caller declares.

mod built_ins;
mod mysql;
mod postgres;
mod sqlite;

use super::dialect::Dialect;
use built_ins::{BuiltIn, BuiltIns, ShortNames};

/// Why a built-in function needs the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// It writes: large objects, notifications, files.
    Writes,
    /// It takes, releases or looks at a lock.
    Locks,
    /// It takes a value of a sequence or reads the session's last one.
    Sequence,
    /// Its answer or its effect belongs to one session.
    Session,
    /// It assigns a transaction id.
    Transaction,
    /// It acts on the server, or answers on the primary only.
    Server,
    /// It runs text it is given.
    RunsText,
}

static POSTGRES: BuiltIns =
    BuiltIns { index: &built_ins::index::<8192>(&POSTGRES_ENTRIES), entries: &POSTGRES_ENTRIES };
static POSTGRES_ENTRIES: [BuiltIn; postgres::HARMLESS.len() + postgres::DENIED.len()] =
    built_ins::entries(&postgres::HARMLESS, &postgres::DENIED);

static MYSQL: BuiltIns = BuiltIns { index: &built_ins::index::<2048>(&MYSQL_ENTRIES), entries: &MYSQL_ENTRIES };
static MYSQL_ENTRIES: [BuiltIn; mysql::HARMLESS.len() + mysql::DENIED.len()] =
    built_ins::entries(&mysql::HARMLESS, &mysql::DENIED);

static SQLITE: BuiltIns = BuiltIns { index: &built_ins::index::<512>(&SQLITE_ENTRIES), entries: &SQLITE_ENTRIES };
static SQLITE_ENTRIES: [BuiltIn; sqlite::HARMLESS.len() + sqlite::DENIED.len()] =
    built_ins::entries(&sqlite::HARMLESS, &sqlite::DENIED);

static POSTGRES_SHORT: ShortNames = ShortNames { slots: &built_ins::short_names::<2048>(&postgres::HARMLESS) };
static MYSQL_SHORT: ShortNames = ShortNames { slots: &built_ins::short_names::<512>(&mysql::HARMLESS) };
static SQLITE_SHORT: ShortNames = ShortNames { slots: &built_ins::short_names::<256>(&sqlite::HARMLESS) };

/// Is the unquoted word of `length` bytes (up to eight) at the beginning of `chunk` a built-in that is harmless, and no
/// keyword? The answer of [`look_up`] for most of what is called, in fewer steps.
#[inline]
pub(super) fn is_short_and_harmless(chunk: u64, length: usize, dialect: Dialect) -> bool {
    let names = match dialect {
        Dialect::Postgres => &POSTGRES_SHORT,
        Dialect::MySql => &MYSQL_SHORT,
        Dialect::Sqlite => &SQLITE_SHORT,
    };
    names.has(chunk, length)
}

/// What is known about a called name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Harmless,
    NeedsPrimary(Effect),
    Unknown,
}

/// How the case of a name counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// An unquoted name: folded, and made of the bytes of words only.
    Word,
    /// A quoted name that is folded all the same.
    Folds,
    /// A quoted name on PostgreSQL: as it stands.
    Exact,
}

/// A name to look up: the first `length` bytes of `rest`.
///
/// With what follows it in the text, so that eight bytes can be loaded from its start.
#[derive(Clone, Copy)]
pub(super) struct Name<'sql> {
    pub(super) rest: &'sql [u8],
    pub(super) length: usize,
    pub(super) case: Case,
}

/// Looks a name up among the built-ins of `dialect`.
pub(super) fn look_up(name: Name<'_>, dialect: Dialect) -> Known {
    let built_ins = match dialect {
        Dialect::Postgres => &POSTGRES,
        Dialect::MySql => &MYSQL,
        Dialect::Sqlite => &SQLITE,
    };
    built_ins.look_up(name)
}

/// Can this be one of the names that [`attribute_call`] is for, given its first two bytes?
///
/// Asked for every name after a dot, so the usual answer (no) must be cheap.
#[inline]
pub(super) fn may_be_attribute_call(first: u8, second: u8, length: usize) -> bool {
    POSTGRES_DENIED[two_letters(first, second)] >> (length & 63) & 1 != 0
}

/// The low five bits of both bytes, which are the same for a letter in both cases.
const fn two_letters(first: u8, second: u8) -> usize {
    (first as usize & 31) << 5 | second as usize & 31
}

/// The effect of a PostgreSQL built-in that can be called without parentheses, as `(x).nextval`.
pub(super) fn attribute_call(name: Name<'_>) -> Option<Effect> {
    match POSTGRES.look_up(name) {
        Known::NeedsPrimary(effect) => Some(effect),
        _ => None,
    }
}

/// By the two letters that denied names begin with: a bit for each of their lengths.
static POSTGRES_DENIED: [u64; 1024] = {
    let mut lengths = [0; 1024];
    let mut at = 0;
    while at < postgres::DENIED.len() {
        let name = postgres::DENIED[at].0.as_bytes();
        lengths[two_letters(name[0], name[1])] |= 1 << (name.len() & 63);
        at += 1;
    }
    lengths
};
