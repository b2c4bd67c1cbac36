//! The reasons why a text is no position.

use std::fmt;

/// The mistake in a text that should be a position, and the beginning of the wrong part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PositionError {
    /// No log position of PostgreSQL.
    Lsn(String),
    /// No UUID of a MySQL server.
    Uuid(String),
    /// No number, range or tag of a GTID set.
    Transactions(String),
    /// A range that ends before it begins.
    Reversed(String),
    /// A server or a tag without transactions.
    NoTransactions(String),
    /// No GTID of MariaDB.
    Gtid(String),
    /// A second GTID where there can be one.
    Repeated(String),
}

impl fmt::Display for PositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lsn(text) => write!(f, "`{text}` is not a log position such as 16/B374D848"),
            Self::Uuid(text) => write!(f, "`{text}` is not the UUID of a server"),
            Self::Transactions(text) => {
                write!(f, "`{text}` is not a transaction number from 1 to {}, a range or a tag", i64::MAX)
            }
            Self::Reversed(text) => write!(f, "the range `{text}` ends before it begins"),
            Self::NoTransactions(text) => write!(f, "no transactions follow in `{text}`"),
            Self::Gtid(text) => write!(f, "`{text}` is not a GTID such as 0-1-107 (domain, server, sequence)"),
            Self::Repeated(text) => write!(f, "`{text}` is a second GTID of the same domain or server"),
        }
    }
}

impl std::error::Error for PositionError {}

/// The beginning of `text`, made fit for one line of a log.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS: usize = 24;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn an_excerpt_is_short_and_has_no_control_characters() {
        assert_eq!(excerpt("0/30\n"), "0/30\\n");
        assert_eq!(excerpt(&"x".repeat(24)), "x".repeat(24));
        assert_eq!(excerpt(&"é".repeat(9000)), format!("{}…", "é".repeat(24)));
        assert!(excerpt(&"\u{7f}".repeat(9000)).len() < 24 * 10);
    }
}
