//! What `SchemaBuilder::sync` asks of a connection beside statements: the schema as it is.
//!
//! Always asked of the primary: a replica that is behind would have tables created again that are
//! there.

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

/// A question that runs on the primary. What it found, the session has to see from then on: to a
/// replica, a table may be as new as if the session had made it.
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

    /// SeaORM's handle, whose way of reading an error takes it apart and panics when there is a copy:
    /// nobody may keep one.
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
