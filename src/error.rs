//! The one error of this crate, and its way inside SeaORM's `DbErr` and back.
//!
//! SeaORM's traits return [`DbErr`], which keeps no foreign source except through sqlx: an
//! [`Error`] travels as `RuntimeErr::SqlxError(sqlx::Error::AnyDriverError(..))` and
//! [`Error::from_db_err`] finds it again. Refusals travel as `Exec`/`Query` and time-outs of the
//! selection as `Conn`, so that code which retries on `Conn` is not misled.

use std::{fmt, sync::Arc, time::Duration};

use sea_orm::{DbErr, RuntimeErr, sqlx};

/// A failure of the resolver itself (a server's own error stays a plain [`DbErr`]).
///
/// Opaque: ask the predicates (`is_…`), read the text. The error never contains a password. Inside a [`DbErr`] the text has
/// sqlx's words before it ("error in Any driver mapping"), because `DbErr` keeps no other foreign error; the error that
/// [`from_db_err`](Self::from_db_err) gives back has its own text.
///
/// # Example
/// ```
/// # fn main() { let _: fn(&sea_orm::DbErr) -> u16 = status; }
/// use sea_orm::DbErr;
/// use sea_orm_resolver::Error;
///
/// /// The status of a response to a request that failed.
/// fn status(error: &DbErr) -> u16 {
///     match Error::from_db_err(error) {
///         Some(ours) if ours.is_no_eligible_node() || ours.is_not_primary() => 503, // nothing ran: try again later
///         _ => 500,
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error {
    kind: Arc<Kind>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// A configuration that cannot work.
    Config { field: String, problem: String },
    /// A statement that is not a plain read was given to a read connection.
    Refused { reason: String },
    /// A server refused to write in a READ ONLY transaction or on a read connection.
    ReadOnly { node: String, refusal: DbErr },
    /// No member was eligible until the selection time-out.
    NoEligibleNode { waited: Duration, rejected: Vec<(String, String)> },
    /// A node did not answer while it was being connected.
    Unreachable { node: String, problem: String },
    /// The credentials of a node could not be fetched.
    Credentials { node: String, problem: String, source: Option<HookError> },
    /// The server in the primary's seat says that it is a replica.
    NotPrimary { node: String },
    /// A node that was to become the primary says that it is a replica.
    PromoteFirst { node: String },
    /// A session that had to be read-only in the database is not.
    NotReadOnly { node: String },
    /// No member has this name.
    UnknownNode { name: String, known: Vec<String> },
    /// The member that served an operation went down meanwhile and no other could take it.
    WentDown { node: String },
    /// No connection to the node answered any more while the node ran an operation.
    WentSilent { node: String, outcome: Outcome },
    /// A statement of the transaction was lost before, so the transaction is not committed.
    NotCommitted { node: String },
    /// A text that is no causal token.
    BadToken { problem: String },
    /// A node belongs to another cluster than the primary.
    OtherCluster { node: String, theirs: String, ours: String },
    /// A new primary lacks what the present one has.
    WouldLose { node: String, missing: String },
    /// The connection was closed.
    Closed,
    /// Running operations did not finish within the drain time-out.
    DrainTimedOut { node: String, in_flight: u64 },
}

/// What a caller may assume of an operation that was lost with its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The statement was never sent, or runs in a transaction that was not committed.
    NothingChanged,
    /// The server may have run the statement, or may run the statement yet.
    Unknown,
}

/// The error of a hook of the user. Its text may hold a secret, so only its owner shows it.
pub(crate) struct HookError(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Debug for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(the hook's own)")
    }
}

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind: Arc::new(kind) }
    }

    pub(crate) fn config(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(Kind::Config { field: field.into(), problem: problem.into() })
    }

    pub(crate) fn read_only(node: impl Into<String>, refusal: DbErr) -> Self {
        Self::new(Kind::ReadOnly { node: node.into(), refusal })
    }

    /// The text of an error without the names that sqlx gives to an error of this crate on its way.
    pub(crate) fn shown(error: &DbErr) -> String {
        Self::from_db_err(error).map_or_else(|| error.to_string(), ToString::to_string)
    }

    pub(crate) fn unreachable(node: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self::new(Kind::Unreachable { node: node.into(), problem: problem.to_string() })
    }

    /// The source of a node's credentials gave none. `problem` repeats no secret.
    pub(crate) fn credentials(
        node: impl Into<String>,
        problem: impl Into<String>,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let (node, problem, source) = (node.into(), problem.into(), source.map(HookError));
        Self::new(Kind::Credentials { node, problem, source })
    }

    /// The error of this crate inside a [`DbErr`], if there is one.
    pub fn from_db_err(error: &DbErr) -> Option<&Self> {
        let (DbErr::Conn(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
        else {
            return None;
        };
        match inner.as_ref() {
            sqlx::Error::AnyDriverError(source) => source.downcast_ref(),
            _ => None,
        }
    }

    /// The configuration cannot work; [`field`](Self::field) names the wrong part.
    pub fn is_config(&self) -> bool {
        matches!(*self.kind, Kind::Config { .. })
    }

    /// The field of the configuration that has to change, for a configuration error.
    pub fn field(&self) -> Option<&str> {
        match &*self.kind {
            Kind::Config { field, .. } => Some(field),
            _ => None,
        }
    }

    /// A write, or a statement not recognised as a plain read, was given to a [`ReadConn`](crate::ReadConn) and not
    /// sent to a server; or a server refused a write in a READ ONLY transaction or on a read connection (then
    /// [`source`](std::error::Error::source) is the server's error).
    pub fn is_refused(&self) -> bool {
        matches!(*self.kind, Kind::Refused { .. } | Kind::ReadOnly { .. })
    }

    /// No member could serve the operation within the selection time-out. Nothing was executed.
    pub fn is_no_eligible_node(&self) -> bool {
        matches!(*self.kind, Kind::NoEligibleNode { .. })
    }

    /// A node could not be connected, or did not answer its first probe as the node of its seat.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            *self.kind,
            Kind::Unreachable { .. }
                | Kind::Credentials { .. }
                | Kind::WentDown { .. }
                | Kind::WentSilent { .. }
                | Kind::NotCommitted { .. }
                | Kind::PromoteFirst { .. }
        )
    }

    /// The node stopped answering while it ran the operation ([`Config::silent_after`](crate::Config::silent_after)), and
    /// the server may have changed rows, or may change them yet: ask for the rows before the operation is repeated.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(*self.kind, Kind::WentSilent { outcome: Outcome::Unknown, .. })
    }

    /// The hook or the file of a node ([`NodeConfig::credentials`](crate::NodeConfig::credentials)) gave no credentials, so no
    /// connection could be opened. Nothing was executed. [`source`](std::error::Error::source) is the hook's own error; its
    /// text is in no message and no log, because it may hold a secret.
    pub fn is_credentials(&self) -> bool {
        matches!(*self.kind, Kind::Credentials { .. })
    }

    /// The server in the primary's seat says that it is a replica: a write cannot run there, and a read could show an older
    /// state than was acknowledged before. A write that fails with this error was not executed. `connect` and `swap_primary`
    /// refuse such a server with this error.
    pub fn is_not_primary(&self) -> bool {
        matches!(*self.kind, Kind::NotPrimary { .. } | Kind::PromoteFirst { .. })
    }

    /// A session that had to be read-only in the database accepts writes.
    pub fn is_not_read_only(&self) -> bool {
        matches!(*self.kind, Kind::NotReadOnly { .. })
    }

    /// No member of the topology has the given name.
    pub fn is_unknown_node(&self) -> bool {
        matches!(*self.kind, Kind::UnknownNode { .. })
    }

    /// Operations were still running when the drain time-out passed; the operations go on.
    pub fn is_drain_timed_out(&self) -> bool {
        matches!(*self.kind, Kind::DrainTimedOut { .. })
    }

    /// A node of another cluster than the primary's was to join: PostgreSQL gives the node another system
    /// identifier; on MySQL and MariaDB its GTIDs share nothing with the primary's history. The error names both
    /// histories.
    pub fn is_other_cluster(&self) -> bool {
        matches!(*self.kind, Kind::OtherCluster { .. })
    }

    /// The node that was to become the primary lacks data which the sessions of this connection may have written or
    /// read. The error says how much; [`SwapOptions::accept_lost_writes`](crate::SwapOptions::accept_lost_writes)
    /// accepts the loss.
    pub fn is_lost_writes(&self) -> bool {
        matches!(*self.kind, Kind::WouldLose { .. })
    }

    /// The connection was closed before, so its members cannot change.
    pub fn is_closed(&self) -> bool {
        matches!(*self.kind, Kind::Closed)
    }

    /// A text is no causal token: the text was cut short, mistyped, or made by another version of this crate.
    pub fn is_bad_token(&self) -> bool {
        matches!(*self.kind, Kind::BadToken { .. })
    }

    /// The name of the node that the error concerns, if there is one.
    pub fn node(&self) -> Option<&str> {
        match &*self.kind {
            Kind::Unreachable { node, .. }
            | Kind::Credentials { node, .. }
            | Kind::NotPrimary { node }
            | Kind::PromoteFirst { node }
            | Kind::NotReadOnly { node }
            | Kind::ReadOnly { node, .. }
            | Kind::WentDown { node }
            | Kind::WentSilent { node, .. }
            | Kind::NotCommitted { node }
            | Kind::OtherCluster { node, .. }
            | Kind::WouldLose { node, .. }
            | Kind::DrainTimedOut { node, .. } => Some(node),
            Kind::UnknownNode { name, .. } => Some(name),
            Kind::Config { .. }
            | Kind::Refused { .. }
            | Kind::BadToken { .. }
            | Kind::Closed
            | Kind::NoEligibleNode { .. } => None,
        }
    }

    /// The error in sqlx's type, from which [`from_db_err`](Self::from_db_err) takes it again.
    pub(crate) fn into_sqlx(self) -> sqlx::Error {
        sqlx::Error::AnyDriverError(Box::new(self))
    }

    fn wrapped(self) -> RuntimeErr {
        RuntimeErr::SqlxError(Arc::new(self.into_sqlx()))
    }

    /// The error as the failure of a statement that is executed (`DbErr::Exec`).
    pub(crate) fn into_exec(self) -> DbErr {
        DbErr::Exec(self.wrapped())
    }

    /// The error as the failure of a statement that returns rows (`DbErr::Query`).
    pub(crate) fn into_query(self) -> DbErr {
        DbErr::Query(self.wrapped())
    }
}

impl From<Error> for DbErr {
    /// Refusals become `Query`, an unknown outcome `Exec`, everything else `Conn`.
    fn from(error: Error) -> Self {
        match *error.kind {
            Kind::Refused { .. } | Kind::ReadOnly { refusal: DbErr::Query(_), .. } => error.into_query(),
            Kind::ReadOnly { .. } | Kind::WentSilent { outcome: Outcome::Unknown, .. } => error.into_exec(),
            Kind::Config { .. }
            | Kind::NoEligibleNode { .. }
            | Kind::Unreachable { .. }
            | Kind::Credentials { .. }
            | Kind::NotPrimary { .. }
            | Kind::PromoteFirst { .. }
            | Kind::NotReadOnly { .. }
            | Kind::UnknownNode { .. }
            | Kind::WentDown { .. }
            | Kind::WentSilent { .. }
            | Kind::NotCommitted { .. }
            | Kind::BadToken { .. }
            | Kind::OtherCluster { .. }
            | Kind::WouldLose { .. }
            | Kind::Closed
            | Kind::DrainTimedOut { .. } => Self::Conn(error.wrapped()),
        }
    }
}

impl std::error::Error for Error {
    /// The server's error, where a server refused; the hook's, where a hook for credentials failed.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            Kind::ReadOnly { refusal, .. } => Some(refusal),
            Kind::Credentials { source: Some(HookError(source)), .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            Kind::Config { field, problem } => write!(f, "configuration error in `{field}`: {problem}"),
            Kind::Refused { reason } => write!(
                f,
                "a read connection takes only plain reads, and this statement is not one: {reason}; \
                 use `db.write()`, or `&db`, which routes each statement by what it is"
            ),
            Kind::ReadOnly { node, refusal } => write!(
                f,
                "node `{node}` refused to write, because the session is read-only ({refusal}); use `db.write()`, or \
                 a transaction that is not READ ONLY"
            ),
            Kind::NoEligibleNode { waited, rejected } => {
                write!(f, "no node could serve this within {}", humantime::format_duration(*waited))?;
                for (index, (name, why)) in rejected.iter().enumerate() {
                    write!(f, "{} {name}: {why}", if index == 0 { ":" } else { ";" })?;
                }
                Ok(())
            }
            Kind::Unreachable { node, problem } => write!(f, "node `{node}` did not answer: {problem}"),
            Kind::Credentials { node, problem, .. } => {
                write!(f, "node `{node}` has no valid credentials: {problem}")
            }
            Kind::NotPrimary { node } => write!(
                f,
                "node `{node}` is configured as the primary and says that it is a replica; promote it, or name the primary with `swap_primary`"
            ),
            Kind::PromoteFirst { node } => write!(
                f,
                "node `{node}` did not take the primary's seat: it says it is a replica; promote it first, or name the \
                 server that takes the writes"
            ),
            Kind::NotReadOnly { node } => write!(
                f,
                "a session opened read-only on node `{node}` accepts writes; something between the \
                 resolver and the server drops the setting (a pooling proxy?), so routed reads are \
                 not protected there"
            ),
            Kind::UnknownNode { name, known } => {
                write!(f, "no node is named `{name}`; the members are: {}", known.join(", "))
            }
            Kind::BadToken { problem } => write!(f, "not a causal token: {problem}"),
            Kind::OtherCluster { node, theirs, ours } => write!(
                f,
                "node `{node}` belongs to another cluster ({theirs}) than the primary ({ours}); give a server of this \
                 cluster, or switch the comparison off with `role_check(false)` for a logical replica, or with \
                 `SwapOptions::accept_other_cluster` for a new primary"
            ),
            Kind::WouldLose { node, missing } => write!(
                f,
                "node `{node}` lacks data that this process may have written or read: {missing}; wait until it has \
                 caught up, or accept the loss with `swap_primary_with` and `SwapOptions::accept_lost_writes`"
            ),
            Kind::Closed => f.write_str("the connection was closed, and its members cannot change; connect again"),
            Kind::WentDown { node } => write!(f, "node `{node}` went down while it ran this operation"),
            Kind::WentSilent { node, outcome: Outcome::Unknown } => write!(
                f,
                "node `{node}` stopped answering while it ran this operation, and may have run it or run it yet: look \
                 for its rows before you repeat it"
            ),
            Kind::WentSilent { node, outcome: Outcome::NothingChanged } => {
                write!(f, "node `{node}` stopped answering before this operation changed anything")
            }
            Kind::NotCommitted { node } => write!(
                f,
                "node `{node}` stopped answering during a statement of this transaction; the transaction was rolled back"
            ),
            Kind::DrainTimedOut { node, in_flight } => {
                write!(f, "{in_flight} operations still run on node `{node}`; they go on, and it takes no new ones")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_back_out_of_every_db_err_it_travels_in() {
        let refused = || Error::new(Kind::Refused { reason: "UPDATE".into() });
        for db_err in [refused().into_exec(), refused().into_query(), refused().into()] {
            let back = Error::from_db_err(&db_err).expect("ours");
            assert!(back.is_refused());
            assert!(Error::from_db_err(&db_err.clone()).is_some(), "clones keep it");
        }
        assert!(matches!(DbErr::from(Error::config("primary", "missing")), DbErr::Conn(_)));
        assert!(matches!(DbErr::from(refused()), DbErr::Query(_)));
        assert!(Error::from_db_err(&DbErr::Custom("not ours".into())).is_none());
    }

    #[test]
    fn a_configuration_error_names_its_field() {
        let error = Error::config("primary_read_share", "1.5 is not between 0 and 1");
        assert!(error.is_config());
        assert_eq!(error.field(), Some("primary_read_share"));
        assert!(error.to_string().contains("primary_read_share"));
    }
}
