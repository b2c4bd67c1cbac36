//! PostgreSQL's error codes that prove more than "the statement is wrong". A code of five characters stands for itself,
//! one of two characters for its whole class. Source: `errcodes.txt` of PostgreSQL 15.

use super::Fault;

pub(super) const CODES: &[(&str, Fault, &str)] = &[
    ("08", Fault::Broken, "connection exceptions: the connection is lost"),
    ("08P01", Fault::Unsettled, "protocol_violation: also PostgreSQL's error for a statement with too few values"),
    (
        "0A000",
        Fault::NotSupportedHere,
        "feature_not_supported: an unlogged table, a serializable transaction on a standby",
    ),
    ("25006", Fault::ReadOnlySession, "read_only_sql_transaction: also a standby's error for `nextval` and its kin"),
    ("25P03", Fault::Broken, "idle_in_transaction_session_timeout: the server ended the session"),
    ("25P04", Fault::Broken, "transaction_timeout (from PostgreSQL 17 on): the server ended the session"),
    ("26000", Fault::StalePlan, "invalid_sql_statement_name: a pooler gave the session another server connection"),
    ("3F000", Fault::BehindInSchema, "invalid_schema_name: a replica may not have the schema yet"),
    ("40001", Fault::ReplayConflict, "serialization_failure: on a standby, only a conflict with replay"),
    ("40P01", Fault::ReplayConflict, "deadlock_detected: on a standby, a deadlock with replay"),
    ("42501", Fault::BehindInSchema, "insufficient_privilege: a replica may not have the grant yet"),
    ("42703", Fault::BehindInSchema, "undefined_column"),
    ("42704", Fault::BehindInSchema, "undefined_object: a type, a collation"),
    ("42883", Fault::BehindInSchema, "undefined_function"),
    ("42P01", Fault::BehindInSchema, "undefined_table"),
    ("42P05", Fault::StalePlan, "duplicate_prepared_statement: a pooler gave the session another server connection"),
    ("53", Fault::Unsettled, "insufficient resources: the disk, the memory or the limits of this server"),
    ("54001", Fault::Unsettled, "statement_too_complex: by the stack that this server has"),
    ("55000", Fault::NotSupportedHere, "object_not_in_prerequisite_state: \"recovery is in progress\""),
    ("55P03", Fault::ReplayConflict, "lock_not_available: on a standby, only replay holds a lock that stops a read"),
    ("57014", Fault::TimeLimit, "query_canceled: at `statement_timeout`, or by an operator"),
    ("57P01", Fault::Broken, "admin_shutdown"),
    ("57P02", Fault::Broken, "crash_shutdown"),
    ("57P03", Fault::Broken, "cannot_connect_now: the server starts or stops"),
    ("57P04", Fault::Broken, "database_dropped: the server ended the session"),
    ("57P05", Fault::Broken, "idle_session_timeout: the server ended the session"),
    ("58", Fault::Unsettled, "system errors: input and output, files of this server such as a missing extension"),
    ("72000", Fault::Unsettled, "snapshot_too_old: by the settings of this server"),
    ("F0", Fault::Unsettled, "errors of the server's configuration files"),
    ("HV", Fault::Unsettled, "errors of foreign data wrappers: the server behind this one"),
    ("XX", Fault::Unsettled, "internal errors: a damaged page or index, a bug"),
];

/// Errors of a new connection that pass by themselves: those after which sqlx's pool tries again.
pub(super) const PASSING_REFUSALS: &[(&str, &str)] =
    &[("53300", "too_many_connections"), ("57P03", "cannot_connect_now: the server starts or stops")];
