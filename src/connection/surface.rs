//! SeaORM's traits for our handles. Each handle says how it routes ([`Routed`]); everything else
//! is the same for all of them and stands here once.

use std::{future::Future, pin::Pin, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use sea_orm::{
    AccessMode, DbErr, ExecResult, IsolationLevel, QueryResult, Statement, TransactionError, TransactionOptions,
    TransactionSession,
};

#[cfg(feature = "stream")]
use super::stream::RowStream;
use super::{
    arbiter::{AfterRefusal, Refused, Unserved},
    core::{Context, Core},
    run::{Attempts, Certainty, Effect, Operation, ReadRoute, Supply, WriteMark},
    transaction::{Access, DatabaseTransaction},
};
use crate::{Error, driver::Driver, routing::Verdict};

/// Where an operation goes.
pub(super) enum Route<'a> {
    Read(ReadRoute<'a>),
    /// To the primary's read-write pool.
    Primary(Effect),
}

/// A handle that sends each operation somewhere.
pub(super) trait Routed: Sync {
    fn core(&self) -> &Arc<Core>;
    /// Whose operation this is; called when the operation begins.
    fn context(&self) -> Context;
    fn route<'a>(&'a self, context: &'a Context, verdict: &Verdict) -> Result<Route<'a>, Error>;
    /// Where a transaction runs; may change the options.
    fn route_transaction<'a>(
        &'a self,
        context: &'a Context,
        options: &mut TransactionOptions,
    ) -> Result<Route<'a>, Error>;
}

type Run<T> = for<'d> fn(&'d dyn Driver, Statement) -> BoxFuture<'d, Result<T, DbErr>>;

async fn run<R: Routed, T>(
    handle: &R,
    supply: &mut Supply<'_>,
    operation: Run<T>,
    refuse: fn(Error) -> DbErr,
) -> Result<T, DbErr> {
    let context = handle.context();
    let core = handle.core();
    let verdict = core.verdict(supply.sql());
    let text = core.text_for_record(&context, supply.sql());
    let this = Operation { context: &context, verdict: Some(verdict), text: text.as_deref() };
    match handle.route(&context, &verdict).map_err(refuse)? {
        Route::Read(route) => {
            let asked = core.ask(&this, route);
            match core.read(&asked, route, |driver, more| operation(driver, supply.next(more))).await {
                Ok((value, _lease)) => Ok(value),
                Err(Unserved::Failed(error)) => Err(error),
                // Boxed, so that the future of every read is not as large as that of the rare one.
                Err(Unserved::Refused(refused)) => {
                    let statement = supply.next(Attempts::Last);
                    Box::pin(run_refused(core, this, route, refused, statement, operation)).await
                }
            }
        }
        Route::Primary(effect) => {
            let statement = supply.next(Attempts::Last);
            // Boxed, so that the future of every read is not as large as that of a write.
            let run = Box::pin(core.write(this, effect, |driver: &dyn Driver| operation(driver, statement)));
            run.await.map(|(value, _lease)| value)
        }
    }
}

/// What becomes of a read that a server refused.
async fn run_refused<T>(
    core: &Arc<Core>,
    this: Operation<'_>,
    route: ReadRoute<'_>,
    refused: Refused,
    statement: Statement,
    operation: Run<T>,
) -> Result<T, DbErr> {
    match core.after_refusal(route, &refused, &statement.sql) {
        AfterRefusal::RunOnPrimary => {
            let sql = statement.sql.clone();
            let written = core.write(this.overruled(refused.refusal), Effect::Written, |driver: &dyn Driver| {
                operation(driver, statement)
            });
            let (value, _lease) = written.await?;
            core.was_overruled(&sql, &refused);
            Ok(value)
        }
        AfterRefusal::ReadOnPrimary(route) => {
            let sql = statement.sql.clone();
            let mut supply = Supply::Raw(Some(statement));
            let asked = core.ask(&this, route);
            let read = core.read(&asked, route, |driver, more| operation(driver, supply.next(more)));
            let (value, _lease) = read.await.map_err(Unserved::into_error)?;
            core.was_overruled(&sql, &refused);
            Ok(value)
        }
        AfterRefusal::Fail => Err(refused.into_error(route)),
    }
}

pub(super) fn execute<R: Routed>(
    handle: &R,
    supply: &mut Supply<'_>,
) -> impl Future<Output = Result<ExecResult, DbErr>> + Send {
    run(handle, supply, |driver, statement| driver.execute(statement), Error::into_exec)
}

pub(super) fn query_one<R: Routed>(
    handle: &R,
    supply: &mut Supply<'_>,
) -> impl Future<Output = Result<Option<QueryResult>, DbErr>> + Send {
    run(handle, supply, |driver, statement| driver.query_one(statement), Error::into_query)
}

pub(super) fn query_all<R: Routed>(
    handle: &R,
    supply: &mut Supply<'_>,
) -> impl Future<Output = Result<Vec<QueryResult>, DbErr>> + Send {
    run(handle, supply, |driver, statement| driver.query_all(statement), Error::into_query)
}

pub(super) async fn execute_unprepared<R: Routed>(handle: &R, sql: &str) -> Result<ExecResult, DbErr> {
    // A future cannot borrow both the driver and the text, whose lifetimes have no order; the text
    // is carried in a statement instead.
    let statement = Statement::from_string(handle.core().backend, sql);
    run(
        handle,
        &mut Supply::Raw(Some(statement)),
        |driver, statement| async move { driver.execute_unprepared(&statement.sql).await }.boxed(),
        Error::into_exec,
    )
    .await
}

#[cfg(feature = "stream")]
pub(super) async fn stream<R: Routed>(handle: &R, statement: Statement) -> Result<RowStream<'static>, DbErr> {
    let context = handle.context();
    let core = handle.core();
    let verdict = core.verdict(&statement.sql);
    let text = core.text_for_record(&context, &statement.sql);
    let this = Operation { context: &context, verdict: Some(verdict), text: text.as_deref() };
    match handle.route(&context, &verdict).map_err(Error::into_query)? {
        Route::Read(route) => RowStream::open_read(core, this, route, statement).await,
        Route::Primary(effect) => RowStream::open_write(core, this, effect, statement).await,
    }
}

pub(super) async fn begin<R: Routed>(
    handle: &R,
    mut options: TransactionOptions,
) -> Result<DatabaseTransaction, DbErr> {
    let context = handle.context();
    let core = handle.core();
    let access = Access::asked(&options);
    let this = Operation::bare(&context);
    match handle.route_transaction(&context, &mut options)? {
        Route::Read(route) => {
            let asked = core.ask(&this, route);
            let begun = core.read(&asked, route, |driver, _| driver.begin(options)).await;
            let (inner, lease) = begun.map_err(Unserved::into_error)?;
            let (core, log) = (Arc::clone(core), context.log.clone());
            Ok(DatabaseTransaction::new(inner, lease, Access::ReadOnly, None, core, log).read_for(route.kept))
        }
        Route::Primary(effect) => {
            // Begun is not written: the floor rises when the transaction ends.
            let (inner, lease) = core.write(this, Effect::Nothing, |driver: &dyn Driver| driver.begin(options)).await?;
            let mark = WriteMark::begin(Arc::clone(core), context.session.clone(), effect, Certainty::Known);
            let (core, log) = (Arc::clone(core), context.log.clone());
            let transaction = DatabaseTransaction::new(inner, lease, access, Some(mark), core, log);
            Ok(match effect {
                Effect::Nothing => transaction.read_for(context.session.kept()),
                Effect::Written | Effect::WrittenWithoutReturning => transaction,
            })
        }
    }
}

pub(super) fn options(isolation_level: Option<IsolationLevel>, access_mode: Option<AccessMode>) -> TransactionOptions {
    TransactionOptions { isolation_level, access_mode, sqlite_transaction_mode: None }
}

/// Runs a callback in a transaction: commits on `Ok`, rolls back on `Err`.
pub(super) async fn run_transaction<F, T, E>(
    transaction: DatabaseTransaction,
    callback: F,
) -> Result<T, TransactionError<E>>
where
    F: for<'c> FnOnce(&'c DatabaseTransaction) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
    T: Send,
    E: std::fmt::Display + std::fmt::Debug + Send,
{
    let result = callback(&transaction).await;
    finish(transaction, result).await
}

/// Ends a transaction as the result of its callback says.
pub(super) async fn finish<T, E>(
    transaction: DatabaseTransaction,
    result: Result<T, E>,
) -> Result<T, TransactionError<E>>
where
    E: std::fmt::Display + std::fmt::Debug,
{
    match result {
        Ok(value) => {
            TransactionSession::commit(transaction).await.map_err(TransactionError::Connection)?;
            Ok(value)
        }
        Err(error) => {
            TransactionSession::rollback(transaction).await.map_err(TransactionError::Connection)?;
            Err(TransactionError::Transaction(error))
        }
    }
}

/// The three traits, for a type that is [`Routed`]. A macro and not a function, because a foreign
/// trait cannot be implemented for "every type that is `Routed`".
macro_rules! implement_seaorm_traits {
    ($handle:ty) => {
        #[async_trait::async_trait]
        impl sea_orm::ConnectionTrait for $handle {
            fn get_database_backend(&self) -> sea_orm::DbBackend {
                $crate::connection::surface::Routed::core(self).backend
            }

            async fn execute_raw(&self, stmt: sea_orm::Statement) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
                surface::execute(self, &mut Supply::Raw(Some(stmt))).await
            }

            async fn execute<S: sea_orm::StatementBuilder>(
                &self,
                stmt: &S,
            ) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
                let again = || sea_orm::ConnectionTrait::get_database_backend(self).build(stmt);
                surface::execute(self, &mut Supply::Built { first: Some(again()), again: &again }).await
            }

            async fn execute_unprepared(&self, sql: &str) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
                surface::execute_unprepared(self, sql).await
            }

            async fn query_one_raw(
                &self,
                stmt: sea_orm::Statement,
            ) -> Result<Option<sea_orm::QueryResult>, sea_orm::DbErr> {
                surface::query_one(self, &mut Supply::Raw(Some(stmt))).await
            }

            async fn query_one<S: sea_orm::StatementBuilder>(
                &self,
                stmt: &S,
            ) -> Result<Option<sea_orm::QueryResult>, sea_orm::DbErr> {
                let again = || sea_orm::ConnectionTrait::get_database_backend(self).build(stmt);
                surface::query_one(self, &mut Supply::Built { first: Some(again()), again: &again }).await
            }

            async fn query_all_raw(
                &self,
                stmt: sea_orm::Statement,
            ) -> Result<Vec<sea_orm::QueryResult>, sea_orm::DbErr> {
                surface::query_all(self, &mut Supply::Raw(Some(stmt))).await
            }

            async fn query_all<S: sea_orm::StatementBuilder>(
                &self,
                stmt: &S,
            ) -> Result<Vec<sea_orm::QueryResult>, sea_orm::DbErr> {
                let again = || sea_orm::ConnectionTrait::get_database_backend(self).build(stmt);
                surface::query_all(self, &mut Supply::Built { first: Some(again()), again: &again }).await
            }

            fn support_returning(&self) -> bool {
                $crate::connection::surface::Routed::core(self).support_returning()
            }

            fn is_mock_connection(&self) -> bool {
                $crate::connection::surface::Routed::core(self).is_mock()
            }
        }

        #[cfg(feature = "stream")]
        impl sea_orm::StreamTrait for $handle {
            type Stream<'a> = $crate::connection::RowStream<'static>;

            fn get_database_backend(&self) -> sea_orm::DbBackend {
                $crate::connection::surface::Routed::core(self).backend
            }

            fn stream_raw<'a>(
                &'a self,
                stmt: sea_orm::Statement,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<Self::Stream<'a>, sea_orm::DbErr>> + 'a + Send>> {
                Box::pin(surface::stream(self, stmt))
            }

            fn stream<'a, S: sea_orm::StatementBuilder + Sync>(
                &'a self,
                stmt: &S,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<Self::Stream<'a>, sea_orm::DbErr>> + 'a + Send>> {
                let stmt = sea_orm::StreamTrait::get_database_backend(self).build(stmt);
                Box::pin(surface::stream(self, stmt))
            }
        }

        #[async_trait::async_trait]
        impl sea_orm::TransactionTrait for $handle {
            type Transaction = $crate::connection::DatabaseTransaction;

            async fn begin(&self) -> Result<Self::Transaction, sea_orm::DbErr> {
                surface::begin(self, surface::options(None, None)).await
            }

            async fn begin_with_config(
                &self,
                isolation_level: Option<sea_orm::IsolationLevel>,
                access_mode: Option<sea_orm::AccessMode>,
            ) -> Result<Self::Transaction, sea_orm::DbErr> {
                surface::begin(self, surface::options(isolation_level, access_mode)).await
            }

            async fn begin_with_options(
                &self,
                options: sea_orm::TransactionOptions,
            ) -> Result<Self::Transaction, sea_orm::DbErr> {
                surface::begin(self, options).await
            }

            async fn transaction<F, T, E>(&self, callback: F) -> Result<T, sea_orm::TransactionError<E>>
            where
                F: for<'c> FnOnce(
                        &'c Self::Transaction,
                    ) -> std::pin::Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
                    + Send,
                T: Send,
                E: std::fmt::Display + std::fmt::Debug + Send,
            {
                let transaction = surface::begin(self, surface::options(None, None)).await?;
                surface::run_transaction(transaction, callback).await
            }

            async fn transaction_with_config<F, T, E>(
                &self,
                callback: F,
                isolation_level: Option<sea_orm::IsolationLevel>,
                access_mode: Option<sea_orm::AccessMode>,
            ) -> Result<T, sea_orm::TransactionError<E>>
            where
                F: for<'c> FnOnce(
                        &'c Self::Transaction,
                    ) -> std::pin::Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
                    + Send,
                T: Send,
                E: std::fmt::Display + std::fmt::Debug + Send,
            {
                let transaction = surface::begin(self, surface::options(isolation_level, access_mode)).await?;
                surface::run_transaction(transaction, callback).await
            }
        }
    };
}

pub(super) use implement_seaorm_traits;
