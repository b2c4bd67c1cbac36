//! The three dialects, and the rules by which a server may read the literals of a text.

use sea_orm::DbBackend;

/// The dialect of a backend: an enum of this module, so that a `match` over it is exhaustive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    MySql,
    Postgres,
    Sqlite,
}

impl Dialect {
    /// The dialect of a backend; `None` for a backend that SeaORM adds later, whose reads cannot be recognised.
    pub(super) fn of(backend: DbBackend) -> Option<Self> {
        match backend {
            DbBackend::MySql => Some(Self::MySql),
            DbBackend::Postgres => Some(Self::Postgres),
            DbBackend::Sqlite => Some(Self::Sqlite),
            _ => None,
        }
    }

    /// The rules of a server with the usual settings, and those that other settings choose. A read must be one under
    /// all.
    pub(super) fn literal_rules(self) -> (LiteralRules, &'static [LiteralRules]) {
        const fn rules(backslash: Backslash, double_quotes: DoubleQuotes) -> LiteralRules {
            LiteralRules { backslash, double_quotes }
        }
        match self {
            Self::Postgres => (
                rules(Backslash::Plain, DoubleQuotes::Name),
                const { &[rules(Backslash::Escapes, DoubleQuotes::Name)] },
            ),
            Self::MySql => (
                rules(Backslash::Escapes, DoubleQuotes::Text),
                const {
                    &[
                        rules(Backslash::Escapes, DoubleQuotes::Name),
                        rules(Backslash::Plain, DoubleQuotes::Text),
                        rules(Backslash::Plain, DoubleQuotes::Name),
                    ]
                },
            ),
            Self::Sqlite => (rules(Backslash::Plain, DoubleQuotes::Name), &[]),
        }
    }
}

/// The meaning of a backslash in `'…'`: `standard_conforming_strings`, `NO_BACKSLASH_ESCAPES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backslash {
    Plain,
    Escapes,
}

/// The meaning of `"…"`: `ANSI_QUOTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DoubleQuotes {
    Name,
    Text,
}

/// One way to read the literals of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LiteralRules {
    pub(super) backslash: Backslash,
    pub(super) double_quotes: DoubleQuotes,
}
