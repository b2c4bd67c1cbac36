//! What a byte begins, in each dialect.

use super::dialect::Dialect;

/// What a byte begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// Nothing in this dialect; also the end of the text.
    Bad,
    Space,
    /// A word.
    Letter,
    /// A name in double quotes.
    Quoted,
    /// A name in backticks.
    Backtick,
    Comma,
    Dot,
    Open,
    Close,
    Operator,
    Digit,
    /// A literal.
    Quote,
    /// A literal or a name, by the reading.
    Double,
    Semicolon,
    /// An operator or a comment.
    Dash,
    Slash,
    /// A comment.
    Hash,
    /// `?` and what may follow.
    Question,
    /// `$1` or `$tag$` on PostgreSQL.
    Dollar,
    /// `$a`, `@a`, `:a` on SQLite.
    Parameter,
    /// `@` on MySQL.
    At,
    /// `:` on MySQL and PostgreSQL.
    Colon,
    /// `[` on SQLite.
    Bracket,
    /// `]` on PostgreSQL.
    CloseBracket,
    /// A byte order mark or a word, on SQLite.
    Mark,
}

/// The classes of all bytes in one dialect.
pub(super) type Classes = [Class; 256];

/// The classes of all bytes in `dialect`.
pub(super) fn classes(dialect: Dialect) -> &'static Classes {
    static POSTGRES: Classes = table(Dialect::Postgres);
    static MYSQL: Classes = table(Dialect::MySql);
    static SQLITE: Classes = table(Dialect::Sqlite);
    match dialect {
        Dialect::Postgres => &POSTGRES,
        Dialect::MySql => &MYSQL,
        Dialect::Sqlite => &SQLITE,
    }
}

const fn table(dialect: Dialect) -> Classes {
    let mut classes = [Class::Bad; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class(byte as u8, dialect);
        byte += 1;
    }
    classes
}

const fn class(byte: u8, dialect: Dialect) -> Class {
    match (byte, dialect) {
        (b' ' | b'\t'..=b'\r', _) => Class::Space,
        (b'a'..=b'z' | b'A'..=b'Z' | b'_', _) => Class::Letter,
        (0xEF, Dialect::Sqlite) => Class::Mark,
        (0x80.., _) => Class::Letter,
        (b'0'..=b'9', _) => Class::Digit,
        (b'\'', _) => Class::Quote,
        (b'"', Dialect::MySql) => Class::Double,
        (b'"', _) => Class::Quoted,
        (b'`', Dialect::Postgres) => Class::Operator,
        (b'`', _) => Class::Backtick,
        (b'(', _) => Class::Open,
        (b')', _) => Class::Close,
        (b',', _) => Class::Comma,
        (b'.', _) => Class::Dot,
        (b';', _) => Class::Semicolon,
        (b'-', _) => Class::Dash,
        (b'/', _) => Class::Slash,
        (b'$', Dialect::Postgres) => Class::Dollar,
        (b'$', Dialect::MySql) => Class::Letter,
        (b'$' | b'@' | b':', Dialect::Sqlite) => Class::Parameter,
        (b'#', Dialect::Postgres) => Class::Operator,
        (b'#', Dialect::MySql) => Class::Hash,
        // A placeholder, and on PostgreSQL an operator of JSON.
        (b'?', Dialect::Postgres) => Class::Operator,
        (b'?', _) => Class::Question,
        (b'@', Dialect::Postgres) => Class::Operator,
        (b'@', Dialect::MySql) => Class::At,
        (b':', _) => Class::Colon,
        (b'[', Dialect::Postgres) => Class::Operator,
        // On MySQL a quoted name in one mode of MariaDB, an error elsewhere.
        (b'[', Dialect::Sqlite) => Class::Bracket,
        (b']', Dialect::Postgres) => Class::CloseBracket,
        // {d '2020-01-01'}, {fn now()}
        (b'{' | b'}', Dialect::MySql) => Class::Operator,
        (b'!' | b'%' | b'&' | b'*' | b'+' | b'<' | b'=' | b'>' | b'^' | b'|' | b'~', _) => Class::Operator,
        _ => Class::Bad,
    }
}

/// Does the byte go on a word?
pub(super) const fn goes_on_word(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80..)
}
