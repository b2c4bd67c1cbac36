//! The three dialects, and the ways in which a server setting lets a text be read.

use sea_orm::DbBackend;

/// The dialect of a backend; this module's own word so that it can match exhaustively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    MySql,
    Postgres,
    Sqlite,
}

impl Dialect {
    /// The dialect of a backend, if it is one that this module knows.
    pub(super) fn of(backend: DbBackend) -> Option<Self> {
        // A backend added later is not one whose reads we can recognise.
        match backend {
            DbBackend::MySql => Some(Self::MySql),
            DbBackend::Postgres => Some(Self::Postgres),
            DbBackend::Sqlite => Some(Self::Sqlite),
            _ => None,
        }
    }

    /// The ways to read a text, the usual one first. A read must be one in all of them.
    pub(super) fn readings(self) -> &'static [Reading] {
        const fn reading(backslash: Backslash, double: Double) -> Reading {
            Reading { backslash, double }
        }
        match self {
            Self::Postgres => {
                const { &[reading(Backslash::Plain, Double::Name), reading(Backslash::Escapes, Double::Name)] }
            }
            Self::MySql => {
                const {
                    &[
                        reading(Backslash::Escapes, Double::Text),
                        reading(Backslash::Escapes, Double::Name),
                        reading(Backslash::Plain, Double::Text),
                        reading(Backslash::Plain, Double::Name),
                    ]
                }
            }
            Self::Sqlite => const { &[reading(Backslash::Plain, Double::Name)] },
        }
    }
}

/// What a backslash is inside `'…'`: `standard_conforming_strings`, `NO_BACKSLASH_ESCAPES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backslash {
    Plain,
    Escapes,
}

/// What `"…"` is: `ANSI_QUOTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Double {
    Name,
    Text,
}

/// One way to read the literals of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) backslash: Backslash,
    pub(super) double: Double,
}
