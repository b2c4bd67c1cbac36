//! The inherent methods of SeaORM's `DatabaseConnection`, on ours. Those that the other handles can
//! have too are written once, in [`implement_inherent_methods`].

use std::{fmt, future::Future};

use sea_orm::{DbErr, TransactionError, TransactionTrait};

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use sea_orm::sqlx;

use super::{
    facade::DatabaseConnection,
    surface::{Routed, finish},
    transaction::DatabaseTransaction,
};
use crate::topology::Lane;

/// Runs an async closure in a transaction: commits on `Ok`, rolls back on `Err`.
pub(super) async fn run_async<F, T, E>(
    begun: impl Future<Output = Result<DatabaseTransaction, DbErr>>,
    callback: F,
) -> Result<T, TransactionError<E>>
where
    F: for<'c> AsyncFnOnce(&'c DatabaseTransaction) -> Result<T, E> + Send,
    T: Send,
    E: fmt::Display + fmt::Debug + Send,
{
    let transaction = begun.await.map_err(TransactionError::Connection)?;
    let result = callback(&transaction).await;
    finish(transaction, result).await
}

/// What every handle has as SeaORM's type has it. Needs [`Routed`] and `TransactionTrait`.
macro_rules! implement_inherent_methods {
    ($handle:ident) => {
        impl $handle {
            /// The dialect of the nodes.
            pub fn get_database_backend(&self) -> sea_orm::DbBackend {
                $crate::connection::surface::Routed::shared(self).backend
            }

            /// A schema builder for the dialect of the nodes.
            pub fn get_schema_builder(&self) -> sea_orm::SchemaBuilder {
                sea_orm::Schema::new(self.get_database_backend()).builder()
            }

            /// A schema of all entities whose module path starts with `prefix` (`my_crate::entity::*`).
            #[cfg(feature = "entity-registry")]
            pub fn get_schema_registry(&self, prefix: &str) -> sea_orm::SchemaBuilder {
                sea_orm::EntityRegistry::build_schema(sea_orm::Schema::new(self.get_database_backend()), prefix)
            }

            /// As [`TransactionTrait::transaction`](sea_orm::TransactionTrait::transaction), for an async
            /// closure.
            ///
            /// # Errors
            /// Those of the transaction, and of the callback.
            ///
            /// # Cancel safety
            /// Dropping the future rolls back, unless the COMMIT was sent: then the outcome is unknown.
            pub async fn transaction_async<F, T, E>(&self, callback: F) -> Result<T, sea_orm::TransactionError<E>>
            where
                F: for<'c> AsyncFnOnce(&'c $crate::connection::DatabaseTransaction) -> Result<T, E> + Send,
                T: Send,
                E: std::fmt::Display + std::fmt::Debug + Send,
            {
                $crate::connection::inherent::run_async(sea_orm::TransactionTrait::begin(self), callback).await
            }

            /// As [`TransactionTrait::transaction_with_config`](sea_orm::TransactionTrait::transaction_with_config),
            /// for an async closure.
            ///
            /// # Errors
            /// Those of the transaction, and of the callback.
            ///
            /// # Cancel safety
            /// As [`transaction_async`](Self::transaction_async).
            pub async fn transaction_with_config_async<F, T, E>(
                &self,
                callback: F,
                isolation_level: Option<sea_orm::IsolationLevel>,
                access_mode: Option<sea_orm::AccessMode>,
            ) -> Result<T, sea_orm::TransactionError<E>>
            where
                F: for<'c> AsyncFnOnce(&'c $crate::connection::DatabaseTransaction) -> Result<T, E> + Send,
                T: Send,
                E: std::fmt::Display + std::fmt::Debug + Send,
            {
                let begun = sea_orm::TransactionTrait::begin_with_config(self, isolation_level, access_mode);
                $crate::connection::inherent::run_async(begun, callback).await
            }
        }
    };
}

pub(super) use implement_inherent_methods;

implement_inherent_methods!(DatabaseConnection);

impl DatabaseConnection {
    /// Whether the primary answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), DbErr> {
        self.shared().ping_primary(&self.context()).await
    }

    /// Closes the pools of every node; those that were given open are left to their owner.
    ///
    /// # Errors
    /// None of a connected handle; SeaORM's signature.
    pub async fn close(self) -> Result<(), DbErr> {
        self.close_by_ref().await
    }

    /// As [`close`](Self::close), for a shared handle: it closes the pools of all handles of this
    /// connection.
    ///
    /// # Errors
    /// None of a connected handle; SeaORM's signature.
    pub async fn close_by_ref(&self) -> Result<(), DbErr> {
        let shared = self.shared();
        shared.monitor.stop();
        for node in shared.topology().nodes() {
            for lane in [Lane::Read, Lane::Write] {
                node.driver(lane).close().await?;
            }
        }
        Ok(())
    }

    /// Has every statement told to `callback`: of every node, on reads and writes, in transactions
    /// and streams, of the nodes that join later too. One callback holds for the connection, that is
    /// for all its handles; another one takes its place.
    ///
    /// It is told as SeaORM tells, after each statement on each node: a read that was run again on
    /// another node is told twice, unprepared statements and mocks are not told at all.
    /// [`primary`](Self::primary) gives a handle that tells, too.
    pub fn set_metric_callback<F>(&mut self, callback: F)
    where
        F: Fn(&sea_orm::metric::Info<'_>) + Send + Sync + 'static,
    {
        self.shared().monitor.writer().set_metric_callback(callback);
    }

    /// The read-write pool of the node that is the primary now. What raw sqlx writes through the pool raises
    /// no floor; the pool is closed when its node leaves.
    ///
    /// # Panics
    /// As SeaORM's, when the nodes are not MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    pub fn get_mysql_connection_pool(&self) -> &sqlx::MySqlPool {
        self.lend().get_mysql_connection_pool()
    }

    /// The read-write pool of the node that is the primary now. What raw sqlx writes through the pool raises
    /// no floor; the pool is closed when its node leaves.
    ///
    /// # Panics
    /// As SeaORM's, when the nodes are not PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn get_postgres_connection_pool(&self) -> &sqlx::PgPool {
        self.lend().get_postgres_connection_pool()
    }

    /// The read-write pool of the node that is the primary now. What raw sqlx writes through the pool raises
    /// no floor; the pool is closed when its node leaves.
    ///
    /// # Panics
    /// As SeaORM's, when the nodes are not SQLite.
    #[cfg(feature = "sqlite")]
    pub fn get_sqlite_connection_pool(&self) -> &sqlx::SqlitePool {
        self.lend().get_sqlite_connection_pool()
    }
}

/// For an application's unit tests.
#[cfg(feature = "mock")]
impl DatabaseConnection {
    /// The mock that is the primary.
    ///
    /// # Panics
    /// As SeaORM's, when the primary is no mock.
    pub fn as_mock_connection(&self) -> &sea_orm::MockDatabaseConnection {
        self.lend().as_mock_connection()
    }

    /// What ran on the mock that is the primary, and empties its log. (The log of a mock that is a
    /// replica comes from the SeaORM handle it was made of.)
    ///
    /// # Panics
    /// As SeaORM's, when the primary is no mock.
    pub fn into_transaction_log(self) -> Vec<sea_orm::Transaction> {
        self.primary().into_transaction_log()
    }
}

/// SeaORM's access control checks statements on a handle of its own, so all of it runs on the
/// primary. The rules belong to the node that is the primary when they are loaded: after
/// [`swap_primary`](Self::swap_primary) load them again; until then every user is refused.
#[cfg(feature = "rbac")]
impl DatabaseConnection {
    /// Loads the rules from the primary.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn load_rbac(&self) -> Result<(), DbErr> {
        self.primary().load_rbac().await
    }

    /// Loads the rules from the primary of another connection.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn load_rbac_from(&self, db: &Self) -> Result<(), DbErr> {
        self.primary().load_rbac_from(&db.primary()).await
    }

    /// Uses these rules from now on.
    pub fn replace_rbac(&self, engine: sea_orm::rbac::RbacEngine) {
        self.primary().replace_rbac(engine);
    }

    /// A connection to the primary on which this user may do what the rules say. Its writes raise the floor as those of
    /// [`primary`](Self::primary) do.
    ///
    /// # Errors
    /// When no rules were loaded for the node that is the primary now.
    pub fn restricted_for(&self, user_id: sea_orm::rbac::RbacUserId) -> Result<sea_orm::RestrictedConnection, DbErr> {
        self.primary().restricted_for(user_id)
    }
}

impl DatabaseTransaction {
    /// As [`TransactionTrait::transaction`], for an async closure.
    ///
    /// # Errors
    /// Those of the nested transaction, and of the callback.
    pub async fn transaction_async<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c Self) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        run_async(self.begin(), callback).await
    }

    /// As [`TransactionTrait::transaction_with_config`], for an async closure.
    ///
    /// # Errors
    /// Those of the nested transaction, and of the callback.
    pub async fn transaction_with_config_async<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<sea_orm::IsolationLevel>,
        access_mode: Option<sea_orm::AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c Self) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        run_async(self.begin_with_config(isolation_level, access_mode), callback).await
    }
}
