//! Reading the spec files.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::path::Path;

use sea_orm::DbBackend;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecFile {
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
    /// The reason's kind; absent: any of that intent.
    reason: Option<String>,
    /// The words that decided.
    text: Option<String>,
    #[serde(default)]
    why: String,
    /// Why a statement that a replica could run is a write all the same.
    over_cautious: Option<String>,
}

/// One statement on one backend, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) file: String,
    pub(crate) sql: String,
    pub(crate) backend: DbBackend,
    pub(crate) read: bool,
    pub(crate) reason: Option<String>,
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
        for raw in spec.case {
            let read = match raw.intent.as_str() {
                "read" => true,
                "write" => false,
                other => panic!("{file}: intent {other}"),
            };
            assert!(!read || raw.over_cautious.is_none(), "{file}: {} is a read", raw.sql);
            let on: Vec<&str> = if raw.on.is_empty() {
                vec!["postgres", "mysql", "sqlite"]
            } else {
                raw.on.iter().map(String::as_str).collect()
            };
            for name in on {
                let backend =
                    BACKENDS.iter().find(|known| known.0 == name).unwrap_or_else(|| panic!("{file}: backend {name}")).1;
                cases.push(Case {
                    file: file.clone(),
                    sql: raw.sql.clone(),
                    backend,
                    read,
                    reason: raw.reason.clone(),
                    text: raw.text.clone(),
                    over_cautious: raw.over_cautious.clone(),
                });
            }
        }
    }
    cases
}
