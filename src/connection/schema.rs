//! The schema questions of `SchemaBuilder::sync`, which are no statements of SeaORM's.
//!
//! The primary answers each of them: on the answer of a replica that is behind, sync would create tables again that
//! exist.

use sea_orm::{DbErr, sqlx};
use sea_schema::{Connection, sea_query::SelectStatement, sqlx_types::SqlxRow};

use super::{
    facade::DatabaseConnection,
    marks::{WriteEffect, WriteMark},
    operation::Operation,
    surface::Routed,
    transaction::DatabaseTransaction,
    write::WriteConn,
};
use crate::topology::Lease;

macro_rules! implement_schema_connection {
    ($handle:ty) => {
        #[async_trait::async_trait]
        impl Connection for $handle {
            async fn query_all(&self, select: SelectStatement) -> Result<Vec<SqlxRow>, sqlx::Error> {
                let asked = SchemaQuestion::by(self).await?;
                Connection::query_all(asked.primary()?, select).await
            }

            async fn query_all_raw(&self, sql: String) -> Result<Vec<SqlxRow>, sqlx::Error> {
                let asked = SchemaQuestion::by(self).await?;
                Connection::query_all_raw(asked.primary()?, sql).await
            }
        }
    };
}

implement_schema_connection!(DatabaseConnection);
implement_schema_connection!(WriteConn);

/// A schema question that runs on the primary. The session must see the answer from then on: to a replica, a table
/// may be as new as if the session had made it.
struct SchemaQuestion {
    lease: Lease,
    _found: WriteMark,
}

impl SchemaQuestion {
    async fn by(handle: &impl Routed) -> Result<Self, sqlx::Error> {
        let shared = handle.shared();
        let context = handle.context();
        let chosen = shared.choose_primary(Operation::bare(&context)).await;
        let lease = chosen.map_err(|error| sqlx::Error::Configuration(Box::new(error)))?.lease;
        let found = WriteMark::of_transaction(shared, &context.session, WriteEffect::Written);
        Ok(Self { lease, _found: found })
    }

    /// SeaORM's handle. SeaORM takes an error of this handle apart and panics when a copy of the handle exists, so
    /// callers must not keep a clone.
    fn primary(&self) -> Result<&sea_orm::DatabaseConnection, sqlx::Error> {
        let none = || sqlx::Error::Configuration(Box::new(DbErr::Custom("the primary is no SeaORM handle".to_owned())));
        self.lease.driver().seaorm().ok_or_else(none)
    }
}

#[async_trait::async_trait]
impl Connection for DatabaseTransaction {
    async fn query_all(&self, select: SelectStatement) -> Result<Vec<SqlxRow>, sqlx::Error> {
        Connection::query_all(self.seaorm(), select).await
    }

    async fn query_all_raw(&self, sql: String) -> Result<Vec<SqlxRow>, sqlx::Error> {
        Connection::query_all_raw(self.seaorm(), sql).await
    }
}
