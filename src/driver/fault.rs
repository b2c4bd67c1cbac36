//! The proof that a failed operation gives about its node. The only module that looks inside a `DbErr`, by type and
//! code, never by text.

use std::io::ErrorKind;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, sqlx};

/// The proof that a failure gives about the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing about the node: the server answered that the statement failed, or the client could not use the answer.
    Statement,
    /// The pool was closed before the statement was sent (its node left the topology). Not executed.
    Closed,
    /// No session was free in time. Not executed.
    Exhausted,
    /// The server could not be reached, or refused to talk. Not executed.
    Unreachable {
        /// No process listens at the address: hard evidence, one refusal is enough.
        refused: bool,
    },
    /// The connection broke, or the server is going away. Perhaps executed.
    Broken,
    /// The monitor took the node for down before the server answered. Perhaps executed.
    NodeDown,
    /// A hot standby cancelled the read because it conflicts with replay. The node is well.
    #[cfg(feature = "postgres")]
    RecoveryConflict,
    /// The statement writes, and the session is read-only in the database. Of several statements in one text, those
    /// before the refused one may have run.
    ReadOnlySession,
    /// The server does not support the statement. When a standby says so, a primary may support it.
    NotSupportedHere,
}

impl Fault {
    pub(crate) fn of(error: &DbErr) -> Self {
        match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => Self::Closed,
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Self::Exhausted,
            DbErr::Conn(RuntimeErr::SqlxError(inner)) => match Self::of_sqlx(inner) {
                Self::Broken => Self::Unreachable { refused: false },
                other => other,
            },
            DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
                match Self::of_sqlx(inner) {
                    Self::Unreachable { .. } => Self::Broken,
                    other => other,
                }
            }
            _ => Self::Statement,
        }
    }

    fn of_sqlx(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => Self::Unreachable { refused: true },
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                Self::Broken
            }
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::PoolTimedOut => Self::Exhausted,
            sqlx::Error::Database(database) => Self::of_code(database.as_ref()),
            _ => Self::Statement,
        }
    }

    /// Codes of PostgreSQL and SQLite count in an error of any driver: no other driver gives them another meaning.
    fn of_code(error: &dyn sqlx::error::DatabaseError) -> Self {
        #[cfg(feature = "mysql")]
        if let Some(mysql) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            return match mysql.number() {
                // 1053 server shutdown in progress, 1927 (MariaDB) / 3169 (MySQL) connection was killed
                1053 | 1927 | 3169 => Self::Broken,
                // a READ ONLY transaction, --read-only (and other options), the server's read-only mode
                1792 | 1290 | 1836 => Self::ReadOnlySession,
                _ => Self::Statement,
            };
        }
        #[cfg(feature = "postgres")]
        if let Some(postgres) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            return match postgres.code() {
                // admin_shutdown, crash_shutdown, cannot_connect_now, and class 08 (connection exception)
                "57P01" | "57P02" | "57P03" => Self::Broken,
                // Not protocol_violation, PostgreSQL's error for a statement with too few values.
                code if code.starts_with("08") && code != "08P01" => Self::Broken,
                // On a standby 40001 can only be a conflict with recovery.
                "40001" => Self::RecoveryConflict,
                // "cached plan must not change result type": the table changed, on every node.
                "0A000" if postgres.routine() == Some("RevalidateCachedQuery") => Self::Statement,
                code => Self::of_refusal(code),
            };
        }
        error.code().map_or(Self::Statement, |code| Self::of_refusal(&code))
    }

    fn of_refusal(code: &str) -> Self {
        match code {
            // read_only_sql_transaction, also a standby's error for `nextval` and its kin
            "25006" => Self::ReadOnlySession,
            // feature_not_supported (an unlogged table on a standby), object_not_in_prerequisite_state
            // ("recovery is in progress")
            "0A000" | "55000" => Self::NotSupportedHere,
            // SQLITE_READONLY, as under `query_only`. The extended codes mean a file that cannot be written.
            "8" => Self::ReadOnlySession,
            _ => Self::Statement,
        }
    }

    /// Whether the server answers, and only does not understand the question: an answer of another shape, a syntax,
    /// a name or a privilege that the server lacks, a feature that it does not support, an unknown variable of
    /// MySQL. Any other error says nothing of the server's knowledge.
    pub(crate) fn is_not_understood(error: &DbErr) -> bool {
        let error = match error {
            DbErr::Type(_) => return true,
            DbErr::Query(RuntimeErr::SqlxError(error)) | DbErr::Conn(RuntimeErr::SqlxError(error)) => error,
            _ => return false,
        };
        let Some(error) = error.as_database_error() else { return false };
        #[cfg(feature = "mysql")]
        if let Some(mysql) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
            && mysql.number() == 1193
        {
            return true; // ER_UNKNOWN_SYSTEM_VARIABLE, whose SQLSTATE says no more than HY000
        }
        error.code().is_some_and(|code| code.starts_with("42") || code == "0A000")
    }

    /// Whether the error of a refused connection may be about a setting that the connection was opened with. Only the same
    /// connection without the setting tells. Errors about the login, the database, a full server and one that starts or
    /// stops are about something else; a proxy may use any other code.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    pub(crate) fn may_be_refused_setting(error: &sqlx::Error) -> bool {
        let Some(error) = error.as_database_error() else { return false };
        #[cfg(feature = "mysql")]
        if let Some(mysql) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            // too many connections, the login, the database, the host, limits of the user
            return !matches!(mysql.number(), 1040 | 1044 | 1045 | 1049 | 1053 | 1129 | 1130 | 1203 | 1226 | 1698);
        }
        error.code().is_none_or(|code| !["28", "3D", "53", "57"].iter().any(|class| code.starts_with(class)))
    }

    /// Whether a hot standby refused a statement because of the default isolation, `serializable`, which a standby lacks.
    /// The statement did not run.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    pub(crate) fn is_isolation_lacking(error: &DbErr) -> bool {
        #[cfg(feature = "postgres")]
        if let DbErr::Query(RuntimeErr::SqlxError(error)) | DbErr::Exec(RuntimeErr::SqlxError(error)) = error
            && let Some(error) = error.as_database_error()
            && let Some(postgres) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        {
            return postgres.code() == "0A000" && postgres.routine() == Some("GetSerializableTransactionSnapshot");
        }
        let _ = error;
        false
    }

    /// Whether the monitor should probe the node at once.
    pub(crate) fn casts_suspicion(self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken)
    }

    /// Whether a plain read with this fault may run once more on another node.
    pub(crate) fn is_worth_another_node(self) -> bool {
        !matches!(self, Self::Statement | Self::ReadOnlySession | Self::NotSupportedHere)
    }

    /// Whether the statement provably did not run.
    pub(crate) fn proves_not_executed(self) -> bool {
        matches!(self, Self::Closed | Self::Exhausted | Self::Unreachable { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn io(kind: ErrorKind) -> RuntimeErr {
        RuntimeErr::SqlxError(Arc::new(sqlx::Error::Io(std::io::Error::from(kind))))
    }

    #[test]
    fn a_connect_failure_was_not_executed_but_a_broken_statement_may_have_been() {
        let refused = Fault::of(&DbErr::Conn(io(ErrorKind::ConnectionRefused)));
        assert_eq!(refused, Fault::Unreachable { refused: true });
        assert!(refused.proves_not_executed() && refused.casts_suspicion());

        let reset_on_connect = Fault::of(&DbErr::Conn(io(ErrorKind::ConnectionReset)));
        assert_eq!(reset_on_connect, Fault::Unreachable { refused: false });

        let reset = Fault::of(&DbErr::Query(io(ErrorKind::ConnectionReset)));
        assert_eq!(reset, Fault::Broken);
        assert!(!reset.proves_not_executed() && reset.casts_suspicion());
    }

    #[test]
    fn an_exhausted_or_closed_pool_casts_no_suspicion() {
        for (error, fault) in
            [(ConnAcquireErr::Timeout, Fault::Exhausted), (ConnAcquireErr::ConnectionClosed, Fault::Closed)]
        {
            let found = Fault::of(&DbErr::ConnectionAcquire(error));
            assert_eq!(found, fault);
            assert!(!found.casts_suspicion() && found.proves_not_executed());
        }
    }

    #[test]
    fn an_answer_that_is_an_error_is_the_statements_own() {
        assert_eq!(Fault::of(&DbErr::RecordNotFound("x".into())), Fault::Statement);
        assert_eq!(Fault::of(&DbErr::Query(RuntimeErr::Internal("x".into()))), Fault::Statement);
    }
}
