//! The proof that a failed operation gives: whether the statement ran, whose fault the failure is, and the state in which
//! the session is left. The only module that looks inside a `DbErr`, by type and code, never by text.
//!
//! The phase counts. A database error that comes while a connection is opened is about the node, whatever its code, and
//! nothing ran. The codes of the phase of statements are data (`postgres.rs`, `mysql.rs`, `sqlite.rs`), each with its
//! reason; a code that stands in no table is the statement's own error.

#[cfg(feature = "mysql")]
mod mysql;
mod postgres;
mod sqlite;

use std::{borrow::Cow, io::ErrorKind};

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, sqlx};

/// The proof that a failure gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server answered that the statement failed, or the client could not use the answer. Nothing about the node.
    Statement,
    /// The pool was closed before the statement was sent (its node left the topology). Not executed.
    Closed,
    /// No session was free in time. Not executed.
    Exhausted,
    /// The server could not be reached. Not executed.
    Unreachable {
        /// No process listens at the address: hard evidence, one refusal is enough.
        refused: bool,
    },
    /// The server answered, and refused the new connection: too many connections, a locked account, a missing database. Or
    /// the source of the node's credentials gave none. Not executed.
    ConnectionRefused,
    /// The connection broke, or the server is going away. Perhaps executed.
    Broken,
    /// The monitor took the node for down before the server answered. Perhaps executed.
    NodeDown,
    /// A hot standby cancelled the read because it conflicts with replay. Each standby will replay the same record.
    ReplayConflict,
    /// The statement writes, and the session is read-only in the database. Of several statements in one text, those
    /// before the refused one may have run.
    ReadOnlySession,
    /// The server does not support the statement. When a standby says so, a primary may support it.
    NotSupportedHere,
    /// The statement names an object or needs a grant that the server lacks: a replica may be behind in schema.
    BehindInSchema,
    /// The failure is the node's or the statement's: another node settles whose.
    Unsettled,
    /// The server ended the statement at a limit of time, or an operator did. The limit may be this server's own.
    TimeLimit,
    /// The session's prepared statement does not fit any more. Not executed.
    StalePlan,
}

/// Whether the statement of a failed operation ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    No,
    Unknown,
    /// The statement ran, and failed as a whole.
    Yes,
}

impl Fault {
    pub(crate) fn of(error: &DbErr) -> Self {
        match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => Self::Closed,
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Self::Exhausted,
            DbErr::Conn(RuntimeErr::SqlxError(inner)) => Self::of_connecting(inner),
            DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
                Self::of_statement(inner)
            }
            _ => Self::Statement,
        }
    }

    /// The proof of a failure of the phase in which a connection is opened.
    fn of_connecting(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => Self::Unreachable { refused: true },
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                Self::Unreachable { refused: false }
            }
            sqlx::Error::Database(_) => Self::ConnectionRefused,
            // Without credentials nothing is opened at this node.
            sqlx::Error::AnyDriverError(ours) if ours.downcast_ref().is_some_and(crate::Error::is_credentials) => {
                Self::ConnectionRefused
            }
            other => Self::of_pool(other),
        }
    }

    /// The proof of a failure of the phase of statements.
    fn of_statement(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => Self::Broken,
            // sqlx's error for a client's own mistake, such as too many values, and for a garbled answer.
            sqlx::Error::Protocol(_) => Self::Unsettled,
            sqlx::Error::TypeNotFound { .. } => Self::BehindInSchema,
            sqlx::Error::Database(database) => Self::of_code(database.as_ref()),
            other => Self::of_pool(other),
        }
    }

    fn of_pool(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::PoolTimedOut => Self::Exhausted,
            _ => Self::Statement,
        }
    }

    fn of_code(error: &dyn sqlx::error::DatabaseError) -> Self {
        #[cfg(feature = "mysql")]
        if let Some(mysql) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            return Self::of_mysql(mysql.number());
        }
        #[cfg(feature = "postgres")]
        if let Some(postgres) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
            // "cached plan must not change result type": the table was altered since the statement was prepared.
            && (postgres.code(), postgres.routine()) == ("0A000", Some("RevalidateCachedQuery"))
        {
            return Self::StalePlan;
        }
        // PostgreSQL's codes have five characters; SQLite's are numbers of four digits at the most.
        match error.code() {
            Some(code) if code.len() == 5 => Self::of_sqlstate(&code),
            Some(code) => code.parse().map_or(Self::Statement, Self::of_sqlite),
            None => Self::Statement,
        }
    }

    fn of_sqlstate(code: &str) -> Self {
        let find = |key: &str| postgres::CODES.iter().find(|(known, ..)| *known == key).map(|(_, fault, _)| *fault);
        find(code).or_else(|| code.get(..2).and_then(find)).unwrap_or(Self::Statement)
    }

    #[cfg(feature = "mysql")]
    fn of_mysql(number: u16) -> Self {
        let known = mysql::NUMBERS.iter().find(|(known, ..)| *known == number);
        known.map_or(Self::Statement, |(_, fault, _)| *fault)
    }

    fn of_sqlite(code: u32) -> Self {
        if code == sqlite::READ_ONLY {
            return Self::ReadOnlySession;
        }
        let known = sqlite::CODES.iter().find(|(known, ..)| *known == code & 0xff);
        known.map_or(Self::Statement, |(_, fault, _)| *fault)
    }

    /// Names the error, so that the errors of two nodes can be compared: the server's code, or the kind of a client's
    /// own error. `None` for an error that has no such name.
    pub(crate) fn code(error: &DbErr) -> Option<Cow<'_, str>> {
        let (DbErr::Conn(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
        else {
            return None;
        };
        let database = match &**inner {
            sqlx::Error::Database(database) => database,
            sqlx::Error::Protocol(_) => return Some("protocol".into()),
            sqlx::Error::TypeNotFound { .. } => return Some("type not found".into()),
            _ => return None,
        };
        #[cfg(feature = "mysql")]
        if let Some(mysql) = database.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            return Some(mysql.number().to_string().into());
        }
        database.code()
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

    /// Whether a new connection was refused because the server, the account or the database has as many sessions as it may.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    pub(crate) fn is_session_limit(error: &sqlx::Error) -> bool {
        let Some(error) = error.as_database_error() else { return false };
        #[cfg(feature = "mysql")]
        if let Some(mysql) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            return mysql::SESSION_LIMITS.iter().any(|(number, _)| *number == mysql.number());
        }
        error.code().is_some_and(|code| code == "53300") // too_many_connections
    }

    /// Whether no connection was opened in time: proof of nothing, because the machine may be busy.
    pub(crate) fn is_late(error: &DbErr) -> bool {
        match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => true,
            DbErr::Conn(RuntimeErr::SqlxError(error)) => {
                matches!(&**error, sqlx::Error::Io(io) if io.kind() == ErrorKind::TimedOut)
            }
            _ => false,
        }
    }

    /// Whether the server may take connections in a moment: no process listens, the server starts or stops, or has no free
    /// slot. SeaORM alone tries again, too.
    pub(crate) fn may_pass(error: &DbErr) -> bool {
        let DbErr::Conn(RuntimeErr::SqlxError(error)) = error else { return false };
        match &**error {
            sqlx::Error::Io(io) => io.kind() == ErrorKind::ConnectionRefused,
            sqlx::Error::Database(error) => {
                let code = error.code();
                postgres::PASSING_REFUSALS.iter().any(|(known, _)| code.as_deref() == Some(*known))
            }
            _ => false,
        }
    }

    /// Whether the server refused the user or the password of a new connection: other credentials may be accepted.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    pub(crate) fn is_refused_login(error: &sqlx::Error) -> bool {
        let Some(error) = error.as_database_error() else { return false };
        #[cfg(feature = "mysql")]
        if let Some(mysql) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            return mysql::REFUSED_LOGINS.iter().any(|(number, _)| *number == mysql.number());
        }
        // invalid_authorization_specification (no such role, a role without LOGIN, no rule of access), invalid_password
        matches!(error.code().as_deref(), Some("28000" | "28P01"))
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

    /// Whether the statement ran.
    pub(crate) fn ran(self) -> Ran {
        match self {
            Self::Closed | Self::Exhausted | Self::Unreachable { .. } | Self::ConnectionRefused | Self::StalePlan => {
                Ran::No
            }
            Self::Broken | Self::NodeDown => Ran::Unknown,
            Self::Statement
            | Self::ReplayConflict
            | Self::ReadOnlySession
            | Self::NotSupportedHere
            | Self::BehindInSchema
            | Self::Unsettled
            | Self::TimeLimit => Ran::Yes,
        }
    }

    /// Whether the monitor should probe the node at once: the connection to the node, and not more, is known to be lost.
    pub(crate) fn casts_suspicion(self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken)
    }

    /// Whether the session may keep something that the statement took before the server refused the rest, such as an
    /// advisory lock: the session is closed.
    pub(crate) fn leaves_locks(self) -> bool {
        self == Self::ReadOnlySession
    }

    /// Whether another node has to say whose fault the failure is.
    pub(crate) fn needs_second_opinion(self) -> bool {
        matches!(self, Self::BehindInSchema | Self::Unsettled | Self::TimeLimit)
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
        assert_eq!((refused.ran(), refused.casts_suspicion()), (Ran::No, true));

        let reset_on_connect = Fault::of(&DbErr::Conn(io(ErrorKind::ConnectionReset)));
        assert_eq!(reset_on_connect, Fault::Unreachable { refused: false });

        let reset = Fault::of(&DbErr::Query(io(ErrorKind::ConnectionReset)));
        assert_eq!(reset, Fault::Broken);
        assert_eq!((reset.ran(), reset.casts_suspicion()), (Ran::Unknown, true));
    }

    #[test]
    fn an_exhausted_or_closed_pool_casts_no_suspicion() {
        for (error, fault) in
            [(ConnAcquireErr::Timeout, Fault::Exhausted), (ConnAcquireErr::ConnectionClosed, Fault::Closed)]
        {
            let found = Fault::of(&DbErr::ConnectionAcquire(error));
            assert_eq!(found, fault);
            assert_eq!((found.ran(), found.casts_suspicion()), (Ran::No, false));
        }
    }

    #[test]
    fn an_answer_that_is_an_error_is_the_statements_own() {
        assert_eq!(Fault::of(&DbErr::RecordNotFound("x".into())), Fault::Statement);
        assert_eq!(Fault::of(&DbErr::Query(RuntimeErr::Internal("x".into()))), Fault::Statement);
    }

    #[test]
    fn the_clients_own_error_says_nothing_about_the_node() {
        let error = |error| DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)));
        let too_many = Fault::of(&error(sqlx::Error::Protocol("too many values".into())));
        assert_eq!((too_many, too_many.casts_suspicion()), (Fault::Unsettled, false));
        assert_eq!(Fault::of(&error(sqlx::Error::ColumnNotFound("x".into()))), Fault::Statement);
    }

    #[test]
    fn an_exact_code_is_stronger_than_its_class() {
        for (code, fault) in [
            ("08006", Fault::Broken),
            ("08P01", Fault::Unsettled),
            ("53100", Fault::Unsettled),
            ("XX001", Fault::Unsettled),
            ("42P01", Fault::BehindInSchema),
            ("42601", Fault::Statement),
            ("22012", Fault::Statement),
            ("57014", Fault::TimeLimit),
        ] {
            assert_eq!(Fault::of_sqlstate(code), fault, "{code}");
        }
        assert_eq!(Fault::of_sqlite(8), Fault::ReadOnlySession);
        assert_eq!(Fault::of_sqlite(8 | 1 << 8), Fault::Statement, "SQLITE_READONLY_RECOVERY");
        assert_eq!(Fault::of_sqlite(10 | 2 << 8), Fault::Unsettled, "SQLITE_IOERR_SHORT_READ");
    }

    /// Walks a list of a server: every code with its name and its proof.
    fn walk<'a>(list: &'a str, mut check: impl FnMut(&'a str, &'a str, String)) -> usize {
        let lines = list.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let [code, name, fault] = line.split(' ').collect::<Vec<_>>()[..] else {
                    panic!("three words: {line}")
                };
                check(code, name, fault.to_owned());
            })
            .count()
    }

    /// Whether the reason of a line in a table begins with the server's own name of the error.
    fn is_named(reason: &str, name: &str) -> bool {
        reason.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ' ', ',']))
    }

    #[test]
    fn every_code_of_postgresql_proves_what_the_list_says() {
        let mut listed = Vec::new();
        let codes = walk(include_str!("../../../tests/spec/faults/postgres.txt"), |code, name, fault| {
            assert_eq!(format!("{:?}", Fault::of_sqlstate(code)), fault, "{code} {name}");
            if let Some((.., reason)) = postgres::CODES.iter().find(|(known, ..)| *known == code) {
                assert!(is_named(reason, name), "{code} is {name}, not: {reason}");
            }
            listed.push(code);
        });
        assert!(codes > 200, "{codes}");
        let newer = ["25P04"];
        for (code, ..) in postgres::CODES {
            let is_listed = listed.iter().any(|listed| listed.starts_with(code)) || newer.contains(code);
            assert!(is_listed, "{code}: PostgreSQL has no such code");
        }
    }

    #[cfg(feature = "mysql")]
    #[test]
    fn every_number_of_mariadb_proves_what_the_list_says() {
        let mut listed = Vec::new();
        let numbers = walk(include_str!("../../../tests/spec/faults/mariadb.txt"), |number, name, fault| {
            let number: u16 = number.parse().expect("a number");
            assert_eq!(format!("{:?}", Fault::of_mysql(number)), fault, "{number} {name}");
            if let Some((.., reason)) = mysql::NUMBERS.iter().find(|(known, ..)| *known == number) {
                assert!(is_named(reason, name) || reason.contains("(MySQL)"), "{number} is {name}, not: {reason}");
            }
            listed.push(number);
        });
        assert!(numbers > 1_000, "{numbers}");
        for (number, _, reason) in mysql::NUMBERS {
            assert!(listed.contains(number) || reason.contains("(MySQL)"), "{number}: MariaDB has no such number");
        }
    }

    #[test]
    fn a_table_names_each_code_once() {
        let mut codes: Vec<String> = postgres::CODES.iter().map(|(code, ..)| (*code).to_owned()).collect();
        #[cfg(feature = "mysql")]
        codes.extend(mysql::NUMBERS.iter().map(|(number, ..)| number.to_string()));
        codes.extend(sqlite::CODES.iter().map(|(code, ..)| format!("sqlite {code}")));
        let count = codes.len();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}
