//! Conversions between the handles of this crate and the types that SeaORM or a helper takes by name.

use sea_orm::{DatabaseConnectionType, DatabaseExecutor, IntoDatabaseExecutor, sqlx};

use super::{facade::DatabaseConnection, transaction::DatabaseTransaction, write::WriteConn};

impl Default for DatabaseConnection {
    /// A connection to nothing, as SeaORM's: every operation fails with `DbErr::Conn`.
    fn default() -> Self {
        sea_orm::DatabaseConnection::default().into()
    }
}

impl From<DatabaseConnectionType> for DatabaseConnection {
    /// Wraps the SeaORM connection that `inner` makes.
    fn from(inner: DatabaseConnectionType) -> Self {
        sea_orm::DatabaseConnection::from(inner).into()
    }
}

#[cfg(feature = "postgres")]
impl From<sqlx::PgPool> for DatabaseConnection {
    /// Uses an open pool as a primary without replicas. Its owner closes it.
    fn from(pool: sqlx::PgPool) -> Self {
        sea_orm::DatabaseConnection::from(pool).into()
    }
}

#[cfg(feature = "mysql")]
impl From<sqlx::MySqlPool> for DatabaseConnection {
    /// Uses an open pool as a primary without replicas. Its owner closes it.
    fn from(pool: sqlx::MySqlPool) -> Self {
        sea_orm::DatabaseConnection::from(pool).into()
    }
}

#[cfg(feature = "sqlite")]
impl From<sqlx::SqlitePool> for DatabaseConnection {
    /// Uses an open pool as a primary without replicas. Its owner closes it.
    fn from(pool: sqlx::SqlitePool) -> Self {
        sea_orm::DatabaseConnection::from(pool).into()
    }
}

/// Converts a handle that has `lend` into SeaORM's handle of the primary.
macro_rules! implement_lending {
    ($handle:ident) => {
        impl AsRef<sea_orm::DatabaseConnection> for $handle {
            /// SeaORM's own handle of the node that is the primary now, for helpers that take one.
            /// It stays that node's. Each write that SeaORM's metric callback tells of (all but unprepared
            /// statements) raises the floors, and so does the moment in which the connections then in use
            /// have come back, at most `unknown_outcome_hold` (the statement time-out, else 30 s) later.
            fn as_ref(&self) -> &sea_orm::DatabaseConnection {
                self.lend()
            }
        }

        impl<'c> From<&'c $handle> for DatabaseExecutor<'c> {
            /// On the node that is the primary now; see `AsRef` for the floor of its writes.
            fn from(connection: &'c $handle) -> Self {
                DatabaseExecutor::Connection(connection.lend())
            }
        }

        impl<'c> IntoDatabaseExecutor<'c> for &'c $handle {
            /// The conversion that `Migrator::up(&db, None)` asks for. On the node that is the primary now; see
            /// `AsRef` for the floors of its writes.
            fn into_database_executor(self) -> DatabaseExecutor<'c> {
                self.into()
            }
        }
    };
}

implement_lending!(DatabaseConnection);
implement_lending!(WriteConn);

impl AsRef<sea_orm::DatabaseTransaction> for DatabaseTransaction {
    /// SeaORM's own transaction, for helpers that take one.
    ///
    /// # Panics
    /// The transaction runs on a scripted node of a simulator, which has no SeaORM transaction.
    fn as_ref(&self) -> &sea_orm::DatabaseTransaction {
        self.seaorm()
    }
}

impl<'c> From<&'c DatabaseTransaction> for DatabaseExecutor<'c> {
    fn from(transaction: &'c DatabaseTransaction) -> Self {
        DatabaseExecutor::Transaction(transaction.seaorm())
    }
}

impl<'c> IntoDatabaseExecutor<'c> for &'c DatabaseTransaction {
    fn into_database_executor(self) -> DatabaseExecutor<'c> {
        self.into()
    }
}

impl IntoDatabaseExecutor<'static> for DatabaseTransaction {
    /// Gives the transaction away. The transaction is no operation of its node any more, and its outcome is
    /// unknown: an explicit session reads from the primary for `unknown_outcome_hold` (the statement time-out, else
    /// 30 s).
    fn into_database_executor(self) -> DatabaseExecutor<'static> {
        DatabaseExecutor::OwnedTransaction(self.into_seaorm())
    }
}
