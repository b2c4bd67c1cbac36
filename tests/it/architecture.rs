//! Checks the rules of DESIGN.md ("Who owns what"): which module may name which, which modules are pure, and which words
//! are used. The test reads `src/` as text, so a new file falls under the rules at once.
//!
//! The rules are the tables below. Every exception names its reason, and one that nothing needs
//! any more fails the test too.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// Each room, and the parts of the crate that it may name. `driver::Driver` allows that one item, `driver`
/// the whole room; a room may always name itself. Nothing names `connection`.
#[rustfmt::skip]
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("driver", &["error"]),
    ("token_bucket", &[]),
    // Handles only: what a node holds on to.
    ("topology", &["driver::Driver", "driver::DriverTransaction", "driver::ProbeLink", "driver::Rows", "driver::Alarm",
        "driver::Changes", "driver::Counter", "driver::Signal", "driver::ConnectProbe", "driver::WriteProgress", "error"]),
    ("clock", &["topology"]),
    ("routing", &["topology"]),
    ("config", &["driver", "topology", "error"]),
    ("telemetry", &["driver::CredentialsEvent", "routing::RouteDecision", "topology"]),
    ("monitor", &["topology", "driver", "config", "routing::Draw", "routing::StatementRouter", "telemetry", "clock", "token_bucket", "error"]),
    ("connection", &["monitor", "routing", "topology", "driver", "config", "telemetry", "clock", "token_bucket",
        "error"]),
];

/// The rooms that compute and do nothing else.
const PURE: &[&str] = &["routing", "topology"];

/// The items that a pure room may not name, in whatever way they are imported.
#[rustfmt::skip]
const IMPURE_PATHS: &[&str] = &[
    "tokio", "async_std", "tracing", "log",
    "std::fs", "std::env", "std::io", "std::net", "std::process", "std::thread",
    "std::time::Instant", "std::time::SystemTime",
    "rand::rng", "rand::random", "rand::thread_rng",
    "rand::rngs::SysRng", "rand::rngs::ThreadRng", "rand::rngs::OsRng",
];
#[rustfmt::skip]
const IMPURE_WORDS: &[&str] = &[
    ".await", "async", "Instant::now", "SystemTime::now", "thread_rng",
    "print!", "println!", "eprint!", "eprintln!", "dbg!",
];

/// The exceptions: file, path, reason.
const IMPURE_EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Events, spans and their names are made here.
const TELEMETRY: &str = "telemetry.rs";
/// The items of `tracing` that are no event and no span, and may be used elsewhere.
const TRACING_PLUMBING: &[&str] = &[
    "tracing::Instrument",
    "tracing::dispatcher::with_default",
    "tracing::dispatcher::has_been_set",
    "tracing::Dispatch",
];
/// A library writes to no terminal.
const PRINTING: &[&str] = &["print!", "println!", "eprint!", "eprintln!", "dbg!"];

/// A longer file holds two ideas. Comments, blank lines and unit tests do not count.
const MAX_LINES: usize = 500;
const TABLES_OF_NAMES: &[&str] = &["routing/classify/functions/"];

/// Words that have better ones today.
const OLD_WORDS: &[&str] = &["master", "slave", "leader", "follower"];
/// The folders where text in quotes is SQL or a name of SQL, which has old words.
const SQL_TEXT: &[&str] = &["routing/classify/", "monitor/probe/"];

#[test]
fn rooms_name_only_the_rooms_below_them() {
    assert_none(&sources(), dependencies);
}

#[test]
fn deciding_and_knowing_are_pure() {
    assert_none(&sources(), impurities);
}

#[test]
fn events_are_made_in_one_place_and_nothing_is_printed() {
    assert_none(&sources(), events);
}

#[test]
fn a_file_holds_one_idea() {
    assert_none(&sources(), lengths);
}

#[test]
fn the_words_are_those_of_the_design() {
    assert_none(&sources(), old_words);
}

#[test]
fn no_exception_outlives_its_reason() {
    let sources = sources();
    for &(file, path, reason) in IMPURE_EXCEPTIONS {
        let used = sources.iter().any(|s| s.path == file && s.paths().iter().any(|(named, _)| is_within(named, path)));
        assert!(used, "src/{file} needs no {path} any more ({reason}): remove the exception");
    }
    for &allowed in TRACING_PLUMBING {
        let used = sources.iter().any(|s| s.paths().iter().any(|(named, _)| is_within(named, allowed)));
        assert!(used, "nothing uses {allowed} any more: remove it from the table");
    }
    for &(room, _) in ROOMS {
        assert!(
            sources.iter().any(|source| source.room() == room),
            "there is no room {room}: remove it from the table"
        );
    }
}

/// The tables are worth as much as the reader of the sources: each line breaks one rule.
#[test]
fn a_broken_rule_is_seen() {
    type Rule = fn(&Source) -> Vec<String>;
    let broken: &[(Rule, &str, &str)] = &[
        (dependencies, "routing/select.rs", "use crate::{topology::{Lane, Node}, monitor::Writer};"),
        (dependencies, "routing/mod.rs", "use super::monitor::Writer;"),
        (dependencies, "routing/classify/scan.rs", "fn f() { super::super::super::telemetry::published() }"),
        (dependencies, "routing/policy.rs", "use crate::Error;"),
        (dependencies, "topology/node.rs", "use crate::driver::{Driver, Fault};"),
        (dependencies, "monitor/prober.rs", "use crate::{\n    connection::{Core},\n};"),
        (dependencies, "driver/open.rs", "fn f(tick: crate::topology::Tick) {}"),
        (dependencies, "cache/mod.rs", "struct Cache;"),
        (impurities, "routing/select.rs", "pub async fn select() {}"),
        (impurities, "routing/select.rs", "fn f() { let now = std::time::Instant::now(); }"),
        (impurities, "routing/select.rs", "use std::time; fn f() { let now = time::Instant::now(); }"),
        (impurities, "topology/node.rs", "use std::{sync::Arc, time::{Duration, SystemTime}};"),
        (impurities, "topology/node.rs", "use tokio::sync::watch;"),
        (impurities, "topology/snapshot.rs", "use tokio::sync::{watch, Mutex};"),
        (impurities, "topology/snapshot.rs", "use tokio as t;"),
        (impurities, "routing/draw.rs", "fn f() -> u64 { rand::rng().random() }"),
        (impurities, "routing/draw.rs", "use rand::{Rng, random};"),
        (impurities, "routing/draw.rs", "fn f() { println!(\"drawn\") }"),
        (events, "connection/run.rs", "fn f() { tracing::info!(\"read\") }"),
        (events, "connection/run.rs", "use tracing::{Instrument, warn};"),
        (events, "connection/run.rs", "#[tracing::instrument]\nfn f() {}"),
        (events, "monitor/mod.rs", "fn f() { eprintln!(\"probe\") }"),
        (old_words, "connection/core.rs", "fn promote_follower() {}"),
        (old_words, "error.rs", "const TEXT: &str = \"the master is down\";"),
        (old_words, "routing/classify/mod.rs", "/// The Leader."),
    ];
    for (rule, path, text) in broken {
        assert!(!rule(&Source::new(path, text)).is_empty(), "in src/{path} nobody minds: {text}");
    }
    let long = "struct One;\n".repeat(MAX_LINES + 1);
    assert_eq!(lengths(&Source::new("connection/core.rs", &long)).len(), 1);
    let kept: &[(Rule, &str, &str)] = &[
        (
            dependencies,
            "routing/select.rs",
            "//! As [`crate::monitor`] does.\nuse super::Draw;\nuse crate::topology::{Lane};",
        ),
        (dependencies, "topology/node.rs", "fn f<'a>(c: char) -> bool { c == '\"' /* crate::monitor */ }"),
        (impurities, "topology/node.rs", "const WHY: &str = r#\"no tokio::spawn, no .await\"#;"),
        (impurities, "routing/classify/keyword.rs", "enum Keyword { SystemTime, Log }"),
        (old_words, "routing/classify/functions/mysql.rs", "const F: &str = \"master_pos_wait\";"),
    ];
    for (rule, path, text) in kept {
        assert_eq!(rule(&Source::new(path, text)), Vec::<String>::new(), "in src/{path}: {text}");
    }
}

fn dependencies(source: &Source) -> Vec<String> {
    let room = source.room();
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("src/{}: `{room}` is in no room; add it to the table", source.path)];
    };
    source.find(|path| {
        let path = path.strip_prefix("crate::")?;
        let is_own = is_within(path, room);
        (!is_own && !allowed.iter().any(|allowed| is_within(path, allowed)))
            .then(|| format!("`{room}` may not name `{path}`"))
    })
}

fn impurities(source: &Source) -> Vec<String> {
    if !PURE.contains(&source.room()) {
        return Vec::new();
    }
    let excepted = |path: &str| {
        IMPURE_EXCEPTIONS.iter().any(|(file, allowed, _)| *file == source.path && is_within(path, allowed))
    };
    let mut found = source.find(|path| {
        let impure = IMPURE_PATHS.iter().any(|impure| is_within(path, impure));
        (impure && !excepted(path)).then(|| format!("`{path}` in a pure room"))
    });
    found.extend(source.words(IMPURE_WORDS, "in a pure room"));
    found
}

fn events(source: &Source) -> Vec<String> {
    if source.path == TELEMETRY {
        return Vec::new();
    }
    let mut found = source.find(|path| {
        let logs = is_within(path, "tracing") || is_within(path, "log");
        (logs && !TRACING_PLUMBING.iter().any(|allowed| is_within(path, allowed)))
            .then(|| format!("`{path}` outside of {TELEMETRY}"))
    });
    found.extend(source.words(PRINTING, "in a library"));
    found
}

fn lengths(source: &Source) -> Vec<String> {
    if TABLES_OF_NAMES.iter().any(|table| source.path.starts_with(table)) {
        return Vec::new();
    }
    let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
    if lines <= MAX_LINES { Vec::new() } else { vec![format!("src/{}: {lines} lines of code", source.path)] }
}

fn old_words(source: &Source) -> Vec<String> {
    let is_sql = SQL_TEXT.iter().any(|folder| source.path.starts_with(folder));
    let text = blank(&source.text, if is_sql { Blank::Texts } else { Blank::Nothing }).to_lowercase();
    text.lines()
        .enumerate()
        .flat_map(|(index, line)| {
            let found = OLD_WORDS.iter().filter(move |word| line.contains(**word));
            found.map(move |word| format!("src/{}:{}: `{word}`; DESIGN.md has another word", source.path, index + 1))
        })
        .collect()
}

fn assert_none(sources: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let broken = sources.iter().flat_map(rule).fold(String::new(), |mut all, one| {
        let _ = writeln!(all, "  {one}");
        all
    });
    assert!(broken.is_empty(), "DESIGN.md, `Who owns what`:\n{broken}");
}

/// A file below `src/`.
struct Source {
    path: String,
    text: String,
    /// The text without comments, unit tests and what stands between quotes; lines stay lines.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let mut code = blank(text, Blank::CommentsAndTexts);
        if let Some(tests) = code.find("#[cfg(test)]\nmod tests") {
            code.truncate(tests);
        }
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The first part of the path.
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// How many `super::` lead to the root of the crate.
    fn depth(&self) -> usize {
        self.path.trim_end_matches("/mod.rs").split('/').count()
    }

    /// Every path in the code that begins with a crate, groups expanded, and its line. What
    /// `lib.rs` re-exports stands in the room it comes from.
    fn paths(&self) -> Vec<(String, usize)> {
        let mut paths = Vec::new();
        let up = "super::".repeat(self.depth());
        for root in ["crate", "super", "std", "core", "tokio", "async_std", "tracing", "log", "rand"] {
            for at in word_starts(&self.code, root) {
                let (before, mut tail) = self.code.split_at(at);
                let is_root = tail[root.len()..].starts_with("::") || before.ends_with("use ");
                if !is_root || before.ends_with([':', '.']) {
                    continue;
                }
                let line = before.matches('\n').count() + 1;
                if root == "super" {
                    let Some(from_root) = tail.strip_prefix(&up) else { continue };
                    tail = from_root;
                }
                let mut expanded = Vec::new();
                expand(tail, "", &mut expanded);
                paths.extend(expanded.into_iter().map(|path| {
                    let path = if root == "super" { format!("crate::{path}") } else { path };
                    (through_root(path), line)
                }));
            }
        }
        paths
    }

    fn find(&self, rule: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let broken = self.paths().into_iter().filter_map(|(path, line)| Some((rule(&path)?, line)));
        broken.map(|(why, line)| format!("src/{}:{line}: {why}", self.path)).collect()
    }

    fn words(&self, words: &[&str], why: &str) -> Vec<String> {
        let lines = self.code.lines().enumerate();
        lines
            .flat_map(|(index, line)| {
                let found = words.iter().filter(move |word| !word_starts(line, word).is_empty());
                found.map(move |word| format!("src/{}:{}: `{word}` {why}", self.path, index + 1))
            })
            .collect()
    }
}

/// `crate::Error` is `crate::error::Error`: the items of `lib.rs` begin with a capital or are the
/// functions named here.
fn through_root(path: String) -> String {
    let Some(item) = path.strip_prefix("crate::") else { return path };
    let first = item.split("::").next().unwrap_or_default();
    if first.starts_with(char::is_lowercase) && !first.starts_with("classify") {
        return path;
    }
    let exports = read(&src().join("lib.rs"));
    let mut rooms = Vec::new();
    for declaration in exports.split("pub use ").skip(1) {
        expand(declaration, "", &mut rooms);
    }
    let suffix = format!("::{first}");
    let room = rooms.iter().find(|room| room.ends_with(&suffix)).and_then(|room| room.split("::").next());
    format!("crate::{}::{item}", room.unwrap_or("lib"))
}

/// Appends the paths that begin at the start of `text`: `a::{b::{c, d}, e}` is three of them.
fn expand<'t>(text: &'t str, prefix: &str, paths: &mut Vec<String>) -> &'t str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (segment, rest) = text.split_at(end);
    let path = if prefix.is_empty() { segment.to_owned() } else { format!("{prefix}::{segment}") };
    let Some(below) = rest.strip_prefix("::") else {
        paths.push(if segment == "self" { prefix.to_owned() } else { path });
        return rest;
    };
    let Some(mut group) = below.strip_prefix('{') else {
        return if below.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            expand(below, &path, paths)
        } else {
            paths.push(path); // `a::*`, `a::<T>`
            below
        };
    };
    loop {
        group = group.trim_start();
        match group.chars().next() {
            Some('}') => return &group[1..],
            Some(c) if c.is_alphabetic() || c == '_' => group = expand(group, &path, paths),
            Some('*') => {
                paths.push(path.clone());
                group = &group[1..];
            }
            Some(other) => group = &group[other.len_utf8()..],
            None => return group,
        }
    }
}

/// Whether `path` is `room` or something in it.
fn is_within(path: &str, room: &str) -> bool {
    path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The places of `word` in `text` as a word of its own.
fn word_starts(text: &str, word: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let is_whole = |at: usize| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        (!word.starts_with(is_part) || !before.ends_with(is_part))
            && (!word.ends_with(is_part) || !after.starts_with(is_part))
    };
    text.match_indices(word).map(|(at, _)| at).filter(|at| is_whole(*at)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blank {
    Nothing,
    Texts,
    CommentsAndTexts,
}

/// Takes comments or what stands between quotes out of Rust text. Lines stay lines.
fn blank(text: &str, what: Blank) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (length, hidden) = token(rest, c);
        let hidden = match hidden {
            Some(Hidden::Comment) => what == Blank::CommentsAndTexts,
            Some(Hidden::Text) => what != Blank::Nothing,
            None => false,
        };
        let (piece, after) = rest.split_at(length);
        if hidden {
            out.extend(piece.chars().filter(|c| *c == '\n'));
            out.push(' ');
        } else {
            out.push_str(piece);
        }
        rest = after;
    }
    out
}

enum Hidden {
    Comment,
    Text,
}

/// The length of the literal or comment at the beginning of `text`, which begins with the character `c`, and
/// whether it is no code.
fn token(text: &str, c: char) -> (usize, Option<Hidden>) {
    let until = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return (text.find('\n').unwrap_or(text.len()), Some(Hidden::Comment));
    }
    if text.starts_with("/*") {
        return (until("*/", 2), Some(Hidden::Comment));
    }
    if c.is_alphanumeric() || c == '_' {
        let word = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let hashes = text[word..].len() - text[word..].trim_start_matches('#').len();
        if matches!(&text[..word], "r" | "br") && text[word + hashes..].starts_with('"') {
            return (until(&format!("\"{}", "#".repeat(hashes)), word + hashes + 1), Some(Hidden::Text));
        }
        return (word, None);
    }
    if c == '"' {
        return (end_of_quoted(text, '"'), Some(Hidden::Text));
    }
    // A character and no lifetime: `'x'` or `'\n'`.
    if c == '\'' && (text[1..].starts_with('\\') || text[1..].chars().nth(1) == Some('\'')) {
        return (end_of_quoted(text, '\''), Some(Hidden::Text));
    }
    (c.len_utf8(), None)
}

fn end_of_quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of the library but `lib.rs`, which names everything.
fn sources() -> Vec<Source> {
    let root = src();
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder that was opened can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != root.join("lib.rs") {
                let name = path.strip_prefix(&root).expect("it was found there");
                sources.push(Source::new(&name.to_string_lossy(), &read(&path)));
            }
        }
    }
    assert!(sources.len() > 20, "the sources are not below {}", root.display());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}
