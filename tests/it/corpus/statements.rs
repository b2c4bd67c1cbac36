//! The statements that are tried: those of the spec files, and those generated along the axes.

use std::collections::HashSet;

use sea_orm::DbBackend;
use sea_orm_resolver::classify;

use super::{generated, support};

/// Longer texts say the same once more, and servers have limits of their own.
const LONGEST: usize = 10_000;

/// The statements of one backend, each once, with values for their parameters.
pub(crate) fn of(backend: DbBackend) -> Vec<String> {
    let spec = support::cases().into_iter().filter(|case| case.backend == backend).map(|case| case.sql);
    // Six thousand times a refusal: every fifth still has each clause in each place, each spelling and at each end.
    let refused = [generated::locking_clauses(), generated::modifying_members()];
    let refused = refused.into_iter().flatten().filter(|case| case.backend == backend).step_by(5);
    let axes = [generated::places_without_clauses(), generated::hidden_keywords(), generated::stacked()];
    let axes = axes.into_iter().flatten().filter(|case| case.backend == backend);
    let mut seen = HashSet::new();
    // A protocol that ends texts with NUL cannot carry a NUL inside.
    spec.chain(axes.chain(refused).map(|case| case.sql))
        .map(|sql| with_values(&sql, backend))
        .filter(|sql| sql.len() <= LONGEST && !sql.contains('\0'))
        .filter(|sql| seen.insert(sql.clone()))
        .collect()
}

/// The statement with values for its parameters: texts have none.
pub(crate) fn with_values(sql: &str, backend: DbBackend) -> String {
    let filled = match backend {
        DbBackend::Postgres => ["$1", "$2", "$3"].iter().fold(sql.to_owned(), |sql, mark| sql.replace(mark, "NULL")),
        _ => sql.replace('?', "1"),
    };
    // Not where the mark was something else.
    if classify(&filled, backend).intent == classify(sql, backend).intent { filled } else { sql.to_owned() }
}
