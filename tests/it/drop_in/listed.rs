//! Checks that nothing of SeaORM's surface is forgotten: `program.rs`, which compiles with either import, uses
//! every method of SeaORM's connections and transactions, and the documentation lists it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

const PROGRAM: &str = include_str!("program.rs");
const DOCUMENTATION: &str = include_str!("../../../src/connection/drop_in.md");
/// The files in which the handles forward the methods of SeaORM's traits by hand, the provided ones too.
const FORWARDED: &str = include_str!("../../../src/connection/surface.rs");

/// The handles that an application holds.
const TYPES: &[&str] = &["Database", "DatabaseConnection", "DatabaseTransaction"];
const TRAITS: &[&str] = &["ConnectionTrait", "StreamTrait", "TransactionTrait", "TransactionSession"];

/// Methods that this crate's types lack; the documentation says so, with the reason.
const MISSING: &[&str] = &["connect_proxy", "as_proxy_connection"];

/// Every implementation that names one of the types. A new one in SeaORM fails the test: implement the same here,
/// use it in `program.rs`, and add it to this list.
const IMPLEMENTATIONS: &[&str] = &[
    "ConnectionTrait for DatabaseConnection",
    "ConnectionTrait for DatabaseTransaction",
    "Default for DatabaseConnection",
    "Drop for DatabaseTransaction",
    "From<&'c DatabaseConnection> for DatabaseExecutor<'c>",
    "From<&'c DatabaseTransaction> for DatabaseExecutor<'c>",
    "From<DatabaseConnectionType> for DatabaseConnection",
    "From<MySqlPool> for DatabaseConnection",
    "From<PgPool> for DatabaseConnection",
    "From<SqlitePool> for DatabaseConnection",
    "IntoDatabaseExecutor<'c> for &'c DatabaseConnection",
    "IntoDatabaseExecutor<'c> for &'c DatabaseTransaction",
    "IntoDatabaseExecutor<'static> for DatabaseTransaction",
    "StreamTrait for DatabaseConnection",
    "StreamTrait for DatabaseTransaction",
    "TransactionSession for DatabaseTransaction",
    "TransactionTrait for DatabaseConnection",
    "TransactionTrait for DatabaseTransaction",
    "sea_schema::Connection for DatabaseConnection",
    "sea_schema::Connection for DatabaseTransaction",
    "std::fmt::Debug for DatabaseTransaction",
    // SQLite without sqlx: the resolver's nodes are pools of sqlx.
    "From<RusqliteSharedConnection> for DatabaseConnection",
];

/// The sources of the SeaORM that this is compiled with, as rustfmt left them.
fn seaorm() -> Result<Vec<String>> {
    let cargo = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
        ensure!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let version = cargo(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("cargo names its host")?;
    let metadata = cargo(&["metadata", "--format-version=1", "--locked", "--filter-platform", host])?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let found: Vec<_> = packages.iter().filter(|package| package["name"] == "sea-orm").collect();
    ensure!(found.len() == 1, "one sea-orm is in use, not {}", found.len());
    let manifest = Path::new(found[0]["manifest_path"].as_str().context("a path")?);
    let mut texts = Vec::new();
    read_all(&manifest.with_file_name("src"), &mut texts)?;
    Ok(texts)
}

fn read_all(folder: &PathBuf, texts: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(path)?);
        }
    }
    Ok(())
}

/// The items at the top level of a file: the head on one line, and the lines of the body.
fn blocks<'a>(text: &'a str, keyword: &str) -> Vec<(String, Vec<&'a str>)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(start) = line.strip_prefix(keyword) else { continue };
        let mut head = start.to_owned();
        while !head.contains(['{', ';']) {
            let Some(more) = lines.next() else { break };
            head = format!("{head} {}", more.trim());
        }
        let is_empty = head.trim_end().ends_with('}');
        let head = head.split(['{', ';']).next().unwrap_or_default().replace("crate::", "");
        let body = if is_empty { Vec::new() } else { lines.by_ref().take_while(|line| *line != "}").collect() };
        blocks.push((head.trim().to_owned(), body));
    }
    blocks
}

/// The functions of a body that start with `keyword`, not those within them.
fn functions(body: &[&str], keyword: &str) -> Vec<String> {
    let name = |line: &&str| {
        let rest = line.strip_prefix("    ")?.strip_prefix(keyword)?;
        let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
        Some(rest.split(['(', '<']).next().unwrap_or_default().to_owned())
    };
    body.iter().filter_map(name).collect()
}

fn is_named(head: &str) -> bool {
    let words = head.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.into_iter().any(|word| TYPES.contains(&word))
}

/// Whether the program calls a method of this name, or names it.
fn is_used(name: &str) -> bool {
    [".", "::"].iter().any(|before| {
        PROGRAM
            .match_indices(&format!("{before}{name}"))
            .any(|(at, found)| !PROGRAM[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

fn is_documented(name: &str) -> bool {
    DOCUMENTATION.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{name}`")))
}

#[test]
fn every_method_of_seaorms_types_is_used_and_documented() -> Result<()> {
    let mut methods = BTreeSet::new();
    for text in seaorm()? {
        for (head, body) in blocks(&text, "impl ") {
            if TYPES.contains(&head.as_str()) {
                methods.extend(functions(&body, "pub "));
            }
        }
    }
    // That they are read at all: one method of each type, and a sum that only grows.
    for known in ["connect", "set_metric_callback", "commit"] {
        assert!(methods.contains(known), "{methods:?}");
    }
    assert!(methods.len() >= 23, "{methods:?}");
    for method in &methods {
        let is_missing = MISSING.contains(&method.as_str());
        assert_eq!(is_used(method), !is_missing, "SeaORM has `{method}`: have it too, and use it in program.rs");
        assert!(is_documented(method), "`{method}` is in no table of drop_in.md");
    }
    for missing in MISSING {
        assert!(methods.contains(*missing), "SeaORM has no `{missing}` any more");
    }
    Ok(())
}

#[test]
fn every_method_of_seaorms_traits_is_forwarded_and_used() -> Result<()> {
    let mut seen = BTreeSet::new();
    for text in seaorm()? {
        for (head, body) in blocks(&text, "pub trait ") {
            let name = head.split([':', '<', ' ']).next().unwrap_or_default();
            if !TRAITS.contains(&name) {
                continue;
            }
            seen.insert(name.to_owned());
            for method in functions(&body, "") {
                assert!(is_used(&method), "{name} has `{method}`: use it in program.rs");
                let forwarded = FORWARDED.contains(&format!("fn {method}")) || name == "TransactionSession";
                assert!(forwarded, "{name} has `{method}`: forward it in surface.rs, or it goes round the routing");
            }
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), {
        let mut traits = TRAITS.to_vec();
        traits.sort_unstable();
        traits
    });
    Ok(())
}

#[test]
fn every_implementation_for_seaorms_types_is_known() -> Result<()> {
    let mut found = BTreeSet::new();
    for text in seaorm()? {
        for keyword in ["impl ", "impl<'c> "] {
            let heads = blocks(&text, keyword).into_iter().map(|(head, _)| head);
            found.extend(heads.filter(|head| head.contains(" for ") && is_named(head)));
        }
    }
    let known = IMPLEMENTATIONS.iter().map(|known| (*known).to_owned()).collect();
    assert_eq!(found, known);
    Ok(())
}
