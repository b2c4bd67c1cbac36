//! What is known about functions: the built-ins of a dialect, and what the caller declares.

mod mysql;
mod postgres;
mod sqlite;

use super::dialect::Dialect;

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
    /// An unquoted name: folded.
    Folds,
    /// A quoted name on PostgreSQL: as it stands.
    Exact,
}

/// Looks a name up among the built-ins of `dialect`.
pub(super) fn look_up(name: &[u8], case: Case, dialect: Dialect) -> Known {
    let (harmless, denied): (bool, &[(&str, Effect)]) = match dialect {
        Dialect::Postgres => (postgres::HARMLESS_INDEX.contains(&postgres::HARMLESS, name, case), &postgres::DENIED),
        Dialect::MySql => (mysql::HARMLESS_INDEX.contains(&mysql::HARMLESS, name, case), &mysql::DENIED),
        Dialect::Sqlite => (sqlite::HARMLESS_INDEX.contains(&sqlite::HARMLESS, name, case), &sqlite::DENIED),
    };
    if harmless {
        return Known::Harmless;
    }
    match denied_effect(denied, name, case) {
        Some(effect) => Known::NeedsPrimary(effect),
        None => Known::Unknown,
    }
}

/// The effect of a PostgreSQL built-in that can be called without parentheses, as `(x).nextval`.
///
/// Asked for every name after a dot, so the usual answer (no) comes from two table look-ups.
pub(super) fn attribute_call(name: &[u8], case: Case) -> Option<Effect> {
    let (&first, length) = (name.first()?, name.len().min(63));
    let letter = (first | 0x20).wrapping_sub(b'a');
    let lengths = POSTGRES_DENIED_LENGTHS.get(usize::from(letter))?;
    if (lengths >> length) & 1 == 0 {
        return None;
    }
    denied_effect(&postgres::DENIED, name, case)
}

/// For each first letter, the lengths that occur among the denied names, one bit each.
static POSTGRES_DENIED_LENGTHS: [u64; 26] = {
    let mut lengths = [0_u64; 26];
    let mut at = 0;
    while at < postgres::DENIED.len() {
        let name = postgres::DENIED[at].0.as_bytes();
        lengths[(name[0] - b'a') as usize] |= 1 << name.len();
        at += 1;
    }
    lengths
};

fn denied_effect(denied: &[(&str, Effect)], name: &[u8], case: Case) -> Option<Effect> {
    let found = denied.binary_search_by(|(known, _)| {
        known.bytes().cmp(name.iter().map(|byte| match case {
            Case::Folds => byte.to_ascii_lowercase(),
            Case::Exact => *byte,
        }))
    });
    found.ok().map(|at| denied[at].1)
}

/// An open-addressing index over a list of lower-case names, built by the compiler.
///
/// Measured against binary search over the 1 900 names of PostgreSQL: a third of its time.
pub(super) struct NameIndex<const SLOTS: usize> {
    /// One more than the place in the list; 0 is an empty slot.
    slots: [u16; SLOTS],
}

impl<const SLOTS: usize> NameIndex<SLOTS> {
    const fn of(names: &[&str]) -> Self {
        assert!(SLOTS.is_power_of_two() && names.len() * 2 <= SLOTS && names.len() < u16::MAX as usize);
        let mut slots = [0_u16; SLOTS];
        let mut at = 0;
        while at < names.len() {
            let mut slot = hash(names[at].as_bytes()) & (SLOTS - 1);
            while slots[slot] != 0 {
                slot = (slot + 1) & (SLOTS - 1);
            }
            slots[slot] = at as u16 + 1;
            at += 1;
        }
        Self { slots }
    }

    fn contains(&self, names: &[&str], name: &[u8], case: Case) -> bool {
        let mut slot = hash(name) & (SLOTS - 1);
        while self.slots[slot] != 0 {
            let known = names[usize::from(self.slots[slot]) - 1].as_bytes();
            let same = match case {
                Case::Folds => known.eq_ignore_ascii_case(name),
                Case::Exact => known == name,
            };
            if same {
                return true;
            }
            slot = (slot + 1) & (SLOTS - 1);
        }
        false
    }
}

/// Length, both ends and the middle: names longer than the longest built-in cost no more than others.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = name.len() as u32;
    let mut at = 0;
    while at < name.len() && at < 40 {
        hash = (hash ^ (name[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize
}
