//! What is known about functions: the built-ins of a dialect, and what the caller declares.

mod built_ins;
mod mysql;
mod postgres;
mod sqlite;

use super::dialect::Dialect;
use built_ins::BuiltIns;

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

static POSTGRES: BuiltIns = BuiltIns {
    harmless: &postgres::HARMLESS,
    denied: &postgres::DENIED,
    index: &built_ins::index::<8192>(&postgres::HARMLESS, &postgres::DENIED),
    beginnings: &built_ins::beginnings::<POSTGRES_NAMES>(&postgres::HARMLESS, &postgres::DENIED),
};
static MYSQL: BuiltIns = BuiltIns {
    harmless: &mysql::HARMLESS,
    denied: &mysql::DENIED,
    index: &built_ins::index::<2048>(&mysql::HARMLESS, &mysql::DENIED),
    beginnings: &built_ins::beginnings::<MYSQL_NAMES>(&mysql::HARMLESS, &mysql::DENIED),
};
static SQLITE: BuiltIns = BuiltIns {
    harmless: &sqlite::HARMLESS,
    denied: &sqlite::DENIED,
    index: &built_ins::index::<512>(&sqlite::HARMLESS, &sqlite::DENIED),
    beginnings: &built_ins::beginnings::<SQLITE_NAMES>(&sqlite::HARMLESS, &sqlite::DENIED),
};
const POSTGRES_NAMES: usize = postgres::HARMLESS.len() + postgres::DENIED.len();
const MYSQL_NAMES: usize = mysql::HARMLESS.len() + mysql::DENIED.len();
const SQLITE_NAMES: usize = sqlite::HARMLESS.len() + sqlite::DENIED.len();

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

/// Can this be one of the names that [`attribute_call`] is for?
///
/// Asked for every name after a dot, so the usual answer (no) must be cheap.
#[inline]
pub(super) fn may_be_attribute_call(first: u8, last: u8, length: usize) -> bool {
    let shape = &POSTGRES_DENIED[usize::from(first & 31)];
    (shape.lengths >> (length & 63)) & (shape.last_letters >> (last & 31)) & 1 != 0
}

/// The effect of a PostgreSQL built-in that can be called without parentheses, as `(x).nextval`.
pub(super) fn attribute_call(name: Name<'_>) -> Option<Effect> {
    match POSTGRES.look_up(name) {
        Known::NeedsPrimary(effect) => Some(effect),
        _ => None,
    }
}

/// What the denied names look like that begin with one letter: a bit for each length, and for each last letter.
#[derive(Clone, Copy)]
struct Shape {
    lengths: u64,
    last_letters: u64,
}

/// By the low five bits of the first byte, which are the same for a letter in both cases.
static POSTGRES_DENIED: [Shape; 32] = {
    let mut shapes = [Shape { lengths: 0, last_letters: 0 }; 32];
    let mut at = 0;
    while at < postgres::DENIED.len() {
        let name = postgres::DENIED[at].0.as_bytes();
        let shape = &mut shapes[(name[0] & 31) as usize];
        shape.lengths |= 1 << name.len();
        shape.last_letters |= 1 << (name[name.len() - 1] & 31);
        at += 1;
    }
    shapes
};
