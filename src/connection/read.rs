//! A connection for reads.

use std::{fmt, sync::Arc};

use sea_orm::{AccessMode, DbBackend, DbErr, IsolationLevel, TransactionOptions};

use super::{
    arbiter::{IfRefused, Unserved, refused_before},
    inherent::implement_inherent_methods,
    operation::{Among, Operation, ReadRoute, RetryableStatement},
    run::PingRead,
    session::Affinity,
    shared::{Context, SessionOptions, Shared},
    surface::{self, Route, Routed, implement_seaorm_traits},
};
use crate::{
    Error,
    error::Kind,
    routing::{DecidedBy, How, Intent, StatementClass},
    topology::Lane,
};

/// A connection to one node for reads, made by
/// [`DatabaseConnection::read`](crate::DatabaseConnection::read).
///
/// The node is drawn when the value is made and kept for the value's life. When the node left or is down, another node is drawn. While
/// the node is not known to have what the read must see, another node serves the reads, and the value returns to its node if that
/// was the primary. No read shows an older state than the read before it. A statement that is not a
/// plain read is refused before it reaches a server, with an error that
/// [`Error::from_db_err`](crate::Error::from_db_err) gives back. (A function that is not built in, and that the
/// database does not list as `VOLATILE`, is tried; what it writes is refused by the server.) `begin` and `transaction` start
/// READ ONLY transactions. Its sessions are read-only in the database too (but for `sqlite::memory:`, whose
/// one pool cannot be).
pub struct ReadConn {
    shared: Arc<Shared>,
    options: SessionOptions,
    affinity: Arc<Affinity>,
}

impl ReadConn {
    pub(super) fn draw(shared: Arc<Shared>, context: &Context) -> Self {
        let conn = Self { shared, options: SessionOptions::of(context), affinity: Arc::default() };
        let shared = &conn.shared;
        let (operation, route) = (Operation::bare(context), conn.anywhere());
        let mut journey = shared.journey(context, route.among);
        let affinity = conn.affinity().state();
        // With no member that may serve it, the first statement waits for one.
        let now = shared.now();
        if let Some((selected, _)) = shared.select(&operation, &mut journey, route, &affinity, now)
            && affinity.kept.is_none()
        {
            match selected.how {
                How::Drawn => conn.affinity().keep(selected.node.id(), selected.generation),
                _ => conn.affinity().went_to(selected.node.id()),
            }
        }
        conn
    }

    /// An explicit session keeps to one node for all its reads: a second node could show an older state after a
    /// newer one.
    fn affinity(&self) -> &Arc<Affinity> {
        self.options.session.affinity().unwrap_or(&self.affinity)
    }

    /// The name of the node that reads keep to now; `None` while no node is eligible.
    pub fn node(&self) -> Option<String> {
        let state = self.affinity().state();
        let id = state.kept.map(|kept| kept.node).or(state.last)?;
        Some(self.shared.cell().load().member_of(id)?.name().to_owned())
    }

    /// Whether the node answers. When the node does not, another node is asked, and reads move to that one.
    ///
    /// # Errors
    /// Neither node answers, or no node is eligible.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let context = self.context();
        let route = self.anywhere();
        let operation = Operation::bare(&context);
        let mut journey = self.shared.journey(&context, route.among);
        let answered = self.shared.read(&operation, &mut journey, route, &mut PingRead).await;
        let (answered, _lease) = answered.map_err(Unserved::into_error)?;
        Ok(answered)
    }

    fn on_primary(&self) -> ReadRoute<'_> {
        ReadRoute { among: Among::Primary, ..self.anywhere() }
    }

    fn anywhere(&self) -> ReadRoute<'_> {
        let if_refused = IfRefused::StayReadOnly;
        ReadRoute { affinity: Some(self.affinity()), alone: Lane::Read, among: Among::All, if_refused }
    }
}

implement_inherent_methods!(ReadConn);

impl Routed for ReadConn {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn context(&self) -> Context {
        self.options.context(self.shared.id)
    }

    fn route<'a>(&'a self, _context: &'a Context, class: &StatementClass) -> Result<Route<'a>, Error> {
        match (class.intent, class.decided_by) {
            (Intent::Read, _) => Ok(Route::Read(self.anywhere())),
            (Intent::Write, DecidedBy::Server) => Err(refused_before()),
            // A read that only the primary can run, or that a rule sends to the primary.
            (Intent::Write, DecidedBy::Standby) => Ok(Route::Read(self.on_primary())),
            (Intent::Write, DecidedBy::Configuration)
                if class.is_read_by_text() || class.reason.is_unknown_function() =>
            {
                Ok(Route::Read(self.on_primary()))
            }
            (Intent::Write, DecidedBy::Catalogue) => Err(Error::new(Kind::Refused {
                reason: format!("{}, which the database lists as VOLATILE", class.reason),
            })),
            // The caller vouches for functions that the catalogue does not know; the server refuses a function that
            // writes.
            (Intent::Write, _) if class.reason.is_unknown_function() => Ok(Route::Read(self.anywhere())),
            (Intent::Write, _) => Err(Error::new(Kind::Refused { reason: class.reason.to_string() })),
        }
    }

    fn route_transaction<'a>(
        &'a self,
        _context: &'a Context,
        options: &mut TransactionOptions,
    ) -> Result<Route<'a>, Error> {
        if options.access_mode == Some(AccessMode::ReadWrite) {
            return Err(Error::new(Kind::Refused { reason: "a READ WRITE transaction".to_owned() }));
        }
        // SQLite knows no access modes; its read sessions are `query_only`.
        if self.shared.backend != DbBackend::Sqlite {
            options.access_mode = Some(AccessMode::ReadOnly);
        }
        let among = match options.isolation_level {
            Some(IsolationLevel::Serializable) => Among::Primary,
            _ => Among::All,
        };
        Ok(Route::Read(ReadRoute { among, ..self.anywhere() }))
    }
}

implement_seaorm_traits!(ReadConn);

impl fmt::Debug for ReadConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadConn").field("node", &self.node()).finish_non_exhaustive()
    }
}
