//! The statements that stay on the primary although a replica would run them: only those that the spec names, with a
//! reason.

use std::collections::{HashMap, HashSet};

use sea_orm::DbBackend;
use sea_orm_resolver::{Reason, classify};

use super::{statements::with_values, support};

/// The rule that decided: the kind of the reason, and the word.
type Signature = (&'static str, String);

/// The cases of the spec that are marked `over_cautious`, on one backend.
#[derive(Debug)]
pub(crate) struct OverCautious {
    backend: DbBackend,
    known: HashMap<Signature, Vec<String>>,
    seen: HashSet<String>,
}

impl OverCautious {
    pub(crate) fn on(backend: DbBackend) -> Self {
        let mut known: HashMap<_, Vec<_>> = HashMap::new();
        for case in support::cases() {
            if case.backend == backend && case.over_cautious.is_some() {
                let sql = with_values(&case.sql, backend);
                known.entry(signature(&sql, backend)).or_default().push(sql);
            }
        }
        Self { backend, known, seen: HashSet::new() }
    }

    /// Whether the spec names the rule that made this a write, although a replica ran the statement and kept no trace.
    pub(crate) fn admits(&mut self, sql: &str) -> bool {
        self.seen.insert(sql.to_owned());
        self.known.contains_key(&signature(sql, self.backend))
    }

    /// The marked cases that the replica refused, or that left a trace.
    pub(crate) fn rightly_cautious(&self) -> Vec<&str> {
        let marked = self.known.values().flatten().map(String::as_str);
        marked.filter(|sql| !self.seen.contains(*sql)).collect()
    }
}

/// The same for all statements that are kept on the primary by the same rule.
pub(crate) fn signature(sql: &str, backend: DbBackend) -> Signature {
    let reason = classify(sql, backend).reason;
    let word = match reason {
        Reason::Form { verb, at } => format!("{verb} {}", word_at(sql, at)),
        Reason::LockingClause { clause, .. } | Reason::SideEffect { clause, .. } => clause.to_owned(),
        _ => {
            let name = reason.text(sql).unwrap_or_default();
            name.rsplit('.').next().unwrap_or_default().trim_matches(['"', '`', ' ']).to_owned()
        }
    };
    (reason.kind(), word.to_ascii_lowercase())
}

fn word_at(sql: &str, at: usize) -> &str {
    let rest = sql.get(at..).unwrap_or_default();
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default()
}
