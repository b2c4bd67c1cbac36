//! A connection to the primary.

use std::{fmt, sync::Arc};

use sea_orm::{DbErr, TransactionOptions};

use super::{
    inherent::implement_inherent_methods,
    lent::Lent,
    marks::WriteEffect,
    operation::RetryableStatement,
    shared::{Context, SessionOptions, Shared},
    surface::{self, Route, Routed, implement_seaorm_traits},
};
use crate::{Error, routing::StatementClass};

/// A connection whose every statement goes to the primary's read-write pool, made by
/// [`DatabaseConnection::write`](crate::DatabaseConnection::write).
pub struct WriteConn {
    shared: Arc<Shared>,
    options: SessionOptions,
    lent: Lent,
}

impl WriteConn {
    pub(super) fn new(shared: Arc<Shared>, context: &Context) -> Self {
        Self { shared, options: SessionOptions::of(context), lent: Lent::default() }
    }

    /// Asks whether the primary answers.
    ///
    /// # Errors
    /// The primary does not answer.
    pub async fn ping(&self) -> Result<(), DbErr> {
        self.shared.ping_primary(&self.context()).await
    }

    /// SeaORM's handle of the primary for as long as this handle lives.
    pub(super) fn lend(&self) -> &sea_orm::DatabaseConnection {
        self.lent.primary(&self.shared, &self.options.session)
    }
}

implement_inherent_methods!(WriteConn);

impl Routed for WriteConn {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn context(&self) -> Context {
        self.options.context(self.shared.id)
    }

    fn route<'a>(&'a self, _context: &'a Context, _verdict: &StatementClass) -> Result<Route<'a>, Error> {
        // A statement that looks like a plain read can write (a view over a function that writes), and no server
        // refuses the write on this pool. The route is fixed, so no read-back is expected.
        Ok(Route::Primary(WriteEffect::Written))
    }

    fn route_transaction<'a>(
        &'a self,
        _context: &'a Context,
        options: &mut TransactionOptions,
    ) -> Result<Route<'a>, Error> {
        Ok(Route::Primary(match options.access_mode {
            Some(sea_orm::AccessMode::ReadOnly) => WriteEffect::Nothing,
            _ => WriteEffect::Written,
        }))
    }
}

implement_seaorm_traits!(WriteConn);

impl fmt::Debug for WriteConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let primary = self.shared.cell().load().primary.name().to_owned();
        f.debug_struct("WriteConn").field("node", &primary).finish_non_exhaustive()
    }
}
