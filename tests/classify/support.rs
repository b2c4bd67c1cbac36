//! Reading the spec files.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::path::Path;

use sea_orm::DbBackend;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecFile {
    group: Vec<RawGroup>,
}

/// Cases of one rule, and their source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    name: String,
    /// A rule, a manual, a test that found them, or the program that sends them.
    from: String,
    case: Vec<RawCase>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    sql: String,
    /// `postgres`, `mysql`, `sqlite`; absent: all three.
    #[serde(default)]
    on: Vec<String>,
    intent: String,
    /// The reason's kind.
    reason: String,
    /// The words that decided.
    text: Option<String>,
    /// The source of this case, if it is not that of its group.
    from: Option<String>,
    /// Why the statement is a write although a replica could run it.
    over_cautious: Option<String>,
}

/// One statement on one backend, and its classification.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) file: String,
    pub(crate) group: String,
    pub(crate) from: String,
    pub(crate) sql: String,
    pub(crate) backend: DbBackend,
    pub(crate) read: bool,
    pub(crate) reason: String,
    pub(crate) text: Option<String>,
    pub(crate) over_cautious: Option<String>,
}

pub(crate) const BACKENDS: [(&str, DbBackend); 3] =
    [("postgres", DbBackend::Postgres), ("mysql", DbBackend::MySql), ("sqlite", DbBackend::Sqlite)];

/// Every case of every file under `tests/spec/classify`.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/classify");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let file = path.file_name().expect("a file").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("readable");
        let spec: SpecFile = toml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(!spec.group.is_empty(), "{file}: no group");
        for group in spec.group {
            assert!(!group.name.trim().is_empty(), "{file}: a group without a name");
            assert!(!group.case.is_empty(), "{file}: {}: no case", group.name);
            for raw in &group.case {
                cases.extend(read_case(&file, &group, raw));
            }
        }
    }
    cases
}

/// The case on each of its backends.
fn read_case(file: &str, group: &RawGroup, raw: &RawCase) -> Vec<Case> {
    let place = format!("{file}: {}: {:?}", group.name, raw.sql);
    let read = match raw.intent.as_str() {
        "read" => true,
        "write" => false,
        other => panic!("{place}: intent {other}"),
    };
    let from = raw.from.as_ref().unwrap_or(&group.from);
    assert!(!from.trim().is_empty(), "{place}: where does it come from?");
    assert!(!raw.reason.trim().is_empty(), "{place}: for what reason?");
    assert!(!read || raw.over_cautious.is_none(), "{place} is a read");
    let on_backend = |(_, backend)| Case {
        file: file.to_owned(),
        group: group.name.clone(),
        from: from.clone(),
        sql: raw.sql.clone(),
        backend,
        read,
        reason: raw.reason.clone(),
        text: raw.text.clone(),
        over_cautious: raw.over_cautious.clone(),
    };
    if raw.on.is_empty() {
        return BACKENDS.map(on_backend).to_vec();
    }
    let named = |name: &String| BACKENDS.into_iter().find(|known| known.0 == name);
    raw.on.iter().map(|name| on_backend(named(name).unwrap_or_else(|| panic!("{place}: backend {name}")))).collect()
}
