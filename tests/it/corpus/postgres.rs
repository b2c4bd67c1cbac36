//! PostgreSQL: the traces that a statement can leave, and the tables that the corpus names.

use super::{
    engine::{Engine, Script},
    session::Questions,
};

pub(crate) const POSTGRES: Engine = Engine {
    questions: Questions {
        settings: "SET statement_timeout = '1s'; SET lock_timeout = '500ms'",
        held: &[HELD],
        meaning: |answer, _| Some(answer.to_owned()),
        state: STATE,
        digest: "SELECT md5(string_agg(fact, ';' ORDER BY fact)) FROM",
        id: "SELECT pg_backend_pid()",
        not_in_transaction: "25001",
    },
    read_only: "SET default_transaction_read_only = on",
    // Read-only transaction; not on a standby: unlogged tables, and statements that ask for the primary's state.
    writes: &["25006", "0A000", "55000"],
    syntax_error: "42601",
    not_allowed: &["42501"],
    contents: CONTENTS,
    contents_are_asked_for: false,
    on_every_node: "",
    scripts,
    grants: "GRANT pg_read_all_data, pg_write_all_data, pg_monitor TO shop; \
             ALTER DATABASE shop SET my.setting = 'unset'; ALTER DATABASE shop SET a.b = 'unset'",
};

/// A plain read holds its virtual transaction id and opens tables under the weakest lock.
const HELD: &str = "
SELECT 'the transaction id ' || pg_current_xact_id_if_assigned() WHERE pg_current_xact_id_if_assigned() IS NOT NULL
UNION ALL
SELECT format('a lock: %s %s %s', locktype, mode, coalesce(relation::regclass::text, classid || '/' || objid))
FROM pg_locks
WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid' AND NOT (locktype = 'relation' AND mode = 'AccessShareLock')
UNION ALL
SELECT 'the cursor ' || name FROM pg_cursors
UNION ALL
SELECT 'the custom setting ' || name || ' = ' || current_setting(name, true) FROM unnest('{my.setting,a.b}'::text[]) AS name
WHERE current_setting(name, true) <> 'unset'
UNION ALL
SELECT 'the setting ' || name || ' = ' || setting FROM pg_settings
WHERE source = 'session' AND name NOT IN ('statement_timeout', 'lock_timeout', 'default_transaction_read_only', 'search_path',
                                        'standard_conforming_strings')
";

/// The next transaction id of the whole server is among the facts: no session can write without taking one.
const STATE: &str = "
SELECT 'next transaction id ' || pg_snapshot_xmax(pg_current_snapshot()) AS fact
UNION ALL
SELECT 'sequence ' || schemaname || '.' || sequencename || ' at ' || coalesce(last_value::text, 'none') FROM pg_sequences
UNION ALL
SELECT concat('custom settings ', current_setting('my.setting', true), ' ', current_setting('a.b', true))
UNION ALL
SELECT 'setting ' || name || ' = ' || setting FROM pg_settings WHERE source = 'session'
UNION ALL
SELECT 'prepared statement ' || name FROM pg_prepared_statements
UNION ALL
SELECT 'cursor ' || name FROM pg_cursors
UNION ALL
SELECT 'temporary schema ' || pg_my_temp_schema() WHERE pg_my_temp_schema() <> 0
UNION ALL
SELECT 'channel ' || channel FROM pg_listening_channels() AS channel
UNION ALL
SELECT format('lock: %s %s %s/%s', locktype, mode, classid, objid) FROM pg_locks
WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid' AND NOT (locktype = 'relation' AND mode = 'AccessShareLock')
";

/// A text for every table with its content, and one for every large object.
const CONTENTS: &str = "
SELECT table_schema || '.' || table_name || ': ' ||
       md5(query_to_xml(format('SELECT x::text FROM %I.%I AS x ORDER BY 1', table_schema, table_name), true, false, '')::text)
FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
UNION ALL
SELECT 'large object ' || oid FROM pg_largeobject_metadata
UNION ALL
SELECT 'objects: ' || count(*) FROM pg_depend
";

/// The name of a schema, the type of its columns and a value of it.
const WORLDS: [(&str, &str, &str); 7] = [
    ("numbers", "int", "1"),
    ("words", "text", "'x'"),
    ("documents", "jsonb", "'{}'"),
    ("truths", "bool", "true"),
    ("lists", "int[]", "'{1}'"),
    ("instants", "timestamp", "now()"),
    ("markups", "xml", "'<a/>'"),
];

fn scripts() -> Vec<Script> {
    WORLDS.into_iter().map(script).collect()
}

fn script((name, kind, value): (&str, &str, &str)) -> Script {
    let make = include_str!("postgres.sql").replace("{world}", name);
    Script {
        make: make.replace("{type}", kind).replace("{value}", value),
        enter: format!("SET search_path = {name}, public"),
    }
}

/// The tables of words, entered by sessions for which a backslash escapes in every literal.
fn with_escapes() -> Vec<Script> {
    let Script { make, enter } = script(WORLDS[1]);
    vec![Script { make, enter: format!("{enter}; SET standard_conforming_strings = off") }]
}

/// As [`POSTGRES`], under the other set of rules for literals.
pub(crate) const UNDER_OTHER_RULES: Engine = Engine { scripts: with_escapes, ..POSTGRES };

/// One of every kind.
pub(crate) const EFFECTS: &[&str] = &[
    "INSERT INTO t (id) VALUES (77)",
    "UPDATE t SET a = a WHERE false",
    "SELECT nextval('s')",
    "SELECT a FROM t FOR UPDATE",
    "SELECT a FROM t FOR KEY SHARE",
    "LOCK TABLE t IN ROW SHARE MODE",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT txid_current()",
    "SELECT pg_notify('a', 'b')",
    "SELECT set_config('my.setting', 'x', false)",
    "SELECT set_config('my.setting', 'x', true)",
    "SET LOCAL work_mem = '1MB'",
    "SELECT lo_create(0)",
    "LISTEN a",
    "PREPARE p AS SELECT 1",
    "DECLARE c CURSOR FOR SELECT 1",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "CREATE TEMPORARY TABLE x (a int)",
    "SELECT a INTO y FROM t",
    "CREATE INDEX CONCURRENTLY ON t (n)",
];
