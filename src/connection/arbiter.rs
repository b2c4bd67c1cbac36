//! Decides what follows when a server refuses a routed read. The server is the arbiter: a routed read runs in a
//! session that is read-only in the database, so a server refuses each statement that looked like a read and
//! writes, and that statement has changed nothing.

use std::sync::atomic::Ordering;

use sea_orm::DbErr;

use super::{
    operation::{Among, Operation, ReadRoute},
    shared::Shared,
};
use crate::{
    Error,
    driver::Fault,
    error::Kind,
    routing::{DecidedBy, Intent, Reason, Refusal, StatementClass},
    telemetry,
    topology::{Lane, Lease, Role},
};

/// What follows when a server refuses a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfRefused {
    /// The read runs once on the primary's read-write pool, as the write that the read is.
    RunOnPrimary,
    /// The read fails with a typed error. A read that only a standby cannot run runs on the primary's read-only
    /// sessions.
    StayReadOnly,
}

/// Why a read has no answer.
pub(super) enum Unserved {
    Failed(DbErr),
    Refused(RejectedRead),
}

/// A read that a server refused.
pub(super) struct RejectedRead {
    pub(super) error: DbErr,
    pub(super) refusal: Refusal,
    pub(super) lease: Lease,
}

/// The step that follows a refusal.
pub(super) enum AfterRefusal<'a> {
    RunOnPrimary,
    ReadOnPrimary(ReadRoute<'a>),
    Fail,
}

impl RejectedRead {
    /// The error of a read whose refusal stands.
    pub(super) fn into_error(self, route: ReadRoute<'_>) -> DbErr {
        match (route.if_refused, self.refusal) {
            (IfRefused::StayReadOnly, Refusal::Writes) => Error::read_only(self.lease.node().name(), self.error).into(),
            _ => self.error,
        }
    }
}

impl Unserved {
    /// The server's own error.
    pub(super) fn into_error(self) -> DbErr {
        match self {
            Self::Failed(error) | Self::Refused(RejectedRead { error, .. }) => error,
        }
    }
}

impl Operation<'_> {
    /// The same operation as a write, after a server has refused it as a read.
    pub(super) fn overruled(self, refusal: Refusal) -> Self {
        let decided_by = match refusal {
            Refusal::Writes => DecidedBy::Server,
            Refusal::NotOnStandby => DecidedBy::Standby,
        };
        let overrule = |class| StatementClass { intent: Intent::Write, decided_by, ..class };
        Self { class: self.class.map(overrule), ..self }
    }
}

impl Shared {
    /// The refusal that a fault on this lease means; `None` for every other fault.
    pub(super) fn refusal(lease: &Lease, fault: Fault) -> Option<Refusal> {
        match (fault, lease.lane(), lease.role()) {
            (Fault::ReadOnlySession, Lane::Read, _) => Some(Refusal::Writes),
            (Fault::NotSupportedHere, Lane::Read, Role::Replica) => Some(Refusal::NotOnStandby),
            _ => None,
        }
    }

    /// Decides the step that follows a refusal.
    pub(super) fn after_refusal<'a>(
        &self,
        route: ReadRoute<'a>,
        refused: &RejectedRead,
        sql: &str,
    ) -> AfterRefusal<'a> {
        if refused.refusal == Refusal::Writes {
            self.remember(sql, refused.refusal, &refused.lease);
        }
        match (route.if_refused, refused.refusal) {
            // Of several statements in one text, those before the refused one may have run.
            _ if !self.router().is_one_statement(sql) => AfterRefusal::Fail,
            (IfRefused::RunOnPrimary, _) => AfterRefusal::RunOnPrimary,
            (IfRefused::StayReadOnly, Refusal::NotOnStandby) => {
                AfterRefusal::ReadOnPrimary(ReadRoute { among: Among::Primary, ..route })
            }
            (IfRefused::StayReadOnly, Refusal::Writes) => AfterRefusal::Fail,
        }
    }

    /// Counts a read that the primary ran after another session had refused it.
    pub(super) fn was_rerun(&self, sql: &str, refused: &RejectedRead) {
        self.rerun_on_primary.fetch_add(1, Ordering::Relaxed);
        telemetry::read_overruled(refused.lease.node().name());
        // Only the primary's answer proves that the standby was the reason, and not the statement.
        if refused.refusal == Refusal::NotOnStandby {
            self.remember(sql, refused.refusal, &refused.lease);
        }
    }

    /// Remembers the error as the statement's own when the primary gave it too.
    pub(super) fn was_refused_twice(&self, sql: &str, refused: &RejectedRead, error: &DbErr) {
        if let (Some(code), Some(first)) = (Fault::code(error), Fault::code(&refused.error))
            && code == first
        {
            self.router().remember_own_error(sql, &code, self.now());
        }
    }

    /// Remembers that replicas refuse statements of this shape, logs that once, and has the session closed that refused
    /// a write: the session may hold a lock that the statement took before, such as an advisory lock.
    fn remember(&self, sql: &str, refusal: Refusal, lease: &Lease) {
        if self.router().was_refused(sql, refusal, self.now()) {
            telemetry::refused(lease.node().name(), refusal, &self.router().shown(sql));
        }
        if refusal == Refusal::Writes {
            self.monitor.writer().renew_sessions(lease.node(), lease.driver());
        }
    }

    /// Handles a routed read that a server refused after its first row: the session is renewed, and the next
    /// statement of its shape goes to the primary.
    #[cfg(feature = "stream")]
    pub(super) fn refused_late(&self, route: ReadRoute<'_>, lease: &Lease, sql: &str, error: DbErr) -> DbErr {
        self.remember(sql, Refusal::Writes, lease);
        match route.if_refused {
            IfRefused::StayReadOnly => Error::read_only(lease.node().name(), error).into(),
            IfRefused::RunOnPrimary => error,
        }
    }

    /// The typed error of a statement that a server refused to run inside a READ ONLY transaction.
    pub(super) fn refused_in_transaction(&self, lease: &Lease, sql: &str, error: DbErr) -> DbErr {
        let class = self.class(sql);
        if lease.lane() == Lane::Read {
            if class.is_read_by_text() || class.reason.is_unknown_function() {
                self.remember(sql, Refusal::Writes, lease);
            } else if !is_refused_at_once(class.reason, sql) {
                self.monitor.writer().renew_sessions(lease.node(), lease.driver());
            }
        }
        Error::read_only(lease.node().name(), error).into()
    }
}

/// Whether a server refuses the statement before running any part of the statement. `SELECT pg_advisory_lock(7),
/// nextval('s')` holds the lock when the server refuses `nextval`, and a procedure or a block may leave the same
/// behind.
fn is_refused_at_once(reason: Reason, sql: &str) -> bool {
    const AT_ONCE: [&str; 6] = ["INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE"];
    match reason {
        Reason::DataModifyingCte { .. } => true,
        Reason::Verb { .. } => {
            reason.text(sql).is_some_and(|verb| AT_ONCE.iter().any(|known| verb.eq_ignore_ascii_case(known)))
        }
        _ => false,
    }
}

/// The error for a statement of a shape that a server refused not long ago.
pub(super) fn refused_before() -> Error {
    Error::new(Kind::Refused { reason: "a server refused a statement of its shape as a write".to_owned() })
}
