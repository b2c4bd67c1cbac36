//! Statements for new connections, which may hold secrets.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Stands for the part of a statement, or the hook, that is not shown. No SQL has it.
pub(super) const HIDDEN: char = '…';

/// The statements of `on_connect`. `Debug` and serde show the beginning of each.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Hooks(pub(super) Vec<String>);

impl Hooks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a statement lost its end when it was serialised.
    pub(super) fn is_cut(&self) -> bool {
        self.0.iter().any(|statement| statement.ends_with(HIDDEN))
    }

    fn shown(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|statement| beginning(statement))
    }
}

/// The first two words of a statement. A word has letters, digits, `_` and `.` only, and begins with a letter.
fn beginning(statement: &str) -> String {
    let mut rest = statement.trim();
    let mut words = Vec::new();
    while words.len() < 2 && rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after.trim_start();
    }
    let is_whole = matches!(rest, "" | ";");
    words.join(" ") + &if is_whole { String::new() } else { format!(" {HIDDEN}") }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shown()).finish()
    }
}

impl Serialize for Hooks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_words_of_a_statement_are_shown() {
        for (statement, shown) in [
            ("PRAGMA key='hunter2'", "PRAGMA key …"),
            ("PRAGMA key = \"hunter2\";", "PRAGMA key …"),
            ("pragma hexkey(2DD2)", "pragma hexkey …"),
            ("SET app.secret TO hunter2", "SET app.secret …"),
            ("SELECT set_config('a', 'hunter2', false)", "SELECT set_config …"),
            ("SELECT 'hunter2'", "SELECT …"),
            ("SELECT $$hunter2$$", "SELECT …"),
            ("/* hunter2 */ SELECT 1", " …"),
            ("DISCARD ALL;", "DISCARD ALL"),
            ("", ""),
        ] {
            assert_eq!(beginning(statement), shown);
            let hooks = Hooks(vec![statement.to_owned()]);
            assert!(!format!("{hooks:?}").contains("hunter2") && !hooks.is_cut());
            assert_eq!(Hooks(hooks.shown().collect()).is_cut(), shown.ends_with(HIDDEN));
            assert_eq!(beginning(shown), shown, "it stays as it is");
        }
    }
}
