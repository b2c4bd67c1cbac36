//! MariaDB: the traces that a statement can leave, and the tables that the corpus names.

use super::{
    engine::{Engine, Script},
    session::Questions,
};

pub(crate) const MARIADB: Engine = Engine {
    questions: Questions {
        settings: "SET SESSION max_statement_time = 1, SESSION lock_wait_timeout = 1, SESSION innodb_lock_wait_timeout = 1, SESSION group_concat_max_len = 1000000",
        held: &[
            "SELECT CONCAT('a lock: ', lock_mode, ' ', lock_type, ' ', table_schema, '.', table_name) \
             FROM information_schema.metadata_lock_info \
             WHERE thread_id = CONNECTION_ID() AND lock_mode NOT IN ('MDL_SHARED_READ', 'MDL_SHARED', 'MDL_SHARED_HIGH_PRIO')",
            "SHOW ENGINE INNODB STATUS",
        ],
        meaning,
        state: STATE,
        digest: "SELECT MD5(GROUP_CONCAT(fact ORDER BY fact)) FROM",
        id: "SELECT CONNECTION_ID()",
        not_in_transaction: "1568",
    },
    read_only: "SET SESSION TRANSACTION READ ONLY",
    writes: &["1290", "1792", "1836"],
    syntax_error: "1064",
    not_allowed: &["1044", "1045", "1142", "1227", "1370"],
    contents: CONTENTS,
    contents_are_asked_for: true,
    on_every_node: "INSTALL SONAME 'metadata_lock_info'",
    scripts,
    grants: "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, LOCK TABLES, CREATE TEMPORARY TABLES, EXECUTE, PROCESS \
             ON *.* TO shop@'%'",
};

/// The variables that have a value of the session's own, but for those that every statement changes.
const STATE: &str = "
SELECT CONCAT('gtid ', @@gtid_binlog_pos, ' ', @@gtid_current_pos) AS fact
UNION ALL
SELECT CONCAT('last insert id ', LAST_INSERT_ID())
UNION ALL
SELECT CONCAT('variable ', variable_name, ' = ', COALESCE(session_value, 'NULL')) FROM information_schema.system_variables
WHERE variable_name NOT IN ('TIMESTAMP', 'WARNING_COUNT', 'ERROR_COUNT', 'RAND_SEED1', 'RAND_SEED2', 'GTID_CURRENT_POS')
  AND session_value IS NOT NULL AND NOT session_value <=> global_value
UNION ALL
SELECT CONCAT('user variable ', variable_name, ' = ', COALESCE(variable_value, 'NULL')) FROM information_schema.user_variables
UNION ALL
SELECT CONCAT('lock: ', lock_mode, ' ', lock_type, ' ', table_schema, '.', table_name)
FROM information_schema.metadata_lock_info WHERE thread_id = CONNECTION_ID()
UNION ALL
SELECT CONCAT(variable_name, ' = ', variable_value) FROM information_schema.session_status
WHERE variable_name IN ('COM_STMT_PREPARE', 'COM_PREPARE_SQL', 'COM_HA_OPEN', 'CREATED_TMP_FILES')
";

/// The answer to this is a question, `CHECKSUM TABLE a, b, c`, in pieces.
const CONTENTS: &str = "
SELECT CONCAT('CHECKSUM TABLE ', GROUP_CONCAT(CONCAT(table_schema, '.`', table_name, '`')))
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')
  AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')
";

/// Row locks are read from the report of InnoDB, which is not cached: `innodb_trx` is up to 100 ms old.
fn meaning(answer: &str, session: &str) -> Option<String> {
    if !answer.contains("INNODB MONITOR OUTPUT") {
        return (!matches!(answer, "InnoDB" | "")).then(|| answer.to_owned());
    }
    let thread = format!("thread id {session},");
    let transaction = answer.split("---TRANSACTION").find(|part| part.contains(&thread))?;
    let locks = transaction.lines().find(|line| line.contains("row lock(s)"))?;
    (!locks.contains(" 0 row lock(s)") || locks.contains("undo log entries")).then(|| locks.to_owned())
}

/// The name of a database, the type of its columns and a value of it, and what else its table `t` is.
const WORLDS: [(&str, &str, &str, &str); 5] = [
    ("numbers", "int", "1", ""),
    ("words", "varchar(99)", "'x'", ""),
    ("documents", "json", "'{}'", ""),
    ("versions", "int", "1", "WITH SYSTEM VERSIONING"),
    ("parts", "int", "1", "PARTITION BY HASH (id) PARTITIONS 2"),
];

fn scripts() -> Vec<Script> {
    WORLDS.into_iter().map(script).collect()
}

fn script((name, kind, value, table): (&str, &str, &str, &str)) -> Script {
    let make = include_str!("mariadb.sql").replace("{world}", name).replace("{table}", table);
    Script { make: make.replace("{type}", kind).replace("{value}", value), enter: format!("USE {name}") }
}

/// The tables of numbers, entered by sessions that read literals by other rules than the usual ones.
fn under(sql_mode: &str) -> Vec<Script> {
    let Script { make, enter } = script(WORLDS[0]);
    vec![Script { make, enter: format!("{enter}; SET SESSION sql_mode = '{sql_mode}'") }]
}

/// As [`MARIADB`], under each other set of rules for literals that a setting can choose.
pub(crate) const UNDER_OTHER_RULES: [Engine; 3] = [
    Engine { scripts: || under("NO_BACKSLASH_ESCAPES"), ..MARIADB },
    Engine { scripts: || under("ANSI_QUOTES"), ..MARIADB },
    Engine { scripts: || under("NO_BACKSLASH_ESCAPES,ANSI_QUOTES"), ..MARIADB },
];

/// One of every kind.
pub(crate) const EFFECTS: &[&str] = &[
    "INSERT INTO t (id) VALUES (77)",
    "UPDATE t SET a = a + 1 WHERE id = 1",
    "SELECT NEXTVAL(s)",
    "SELECT DEFAULT(c) FROM numbered",
    "SELECT IF(1, DEFAULT(d), 0) FROM numbered",
    "SELECT a FROM t FOR UPDATE",
    "SELECT a FROM t LOCK IN SHARE MODE",
    "SELECT GET_LOCK('a', 1)",
    "SELECT @x := 1",
    "SELECT 1 INTO @x",
    "SET sql_mode = ''",
    "SELECT LAST_INSERT_ID(5)",
    "PREPARE p FROM 'SELECT 1'",
    "HANDLER t OPEN",
    "LOCK TABLES t READ",
    "FLUSH TABLES WITH READ LOCK",
];
