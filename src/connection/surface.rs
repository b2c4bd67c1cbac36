//! Implements SeaORM's traits for the handles of this crate. Each handle says how its operations are routed
//! ([`Routed`]); the code common to all handles is in this file once.

use std::{future::Future, pin::Pin, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use sea_orm::{
    AccessMode, DbErr, ExecResult, IsolationLevel, QueryResult, Statement, TransactionError, TransactionOptions,
    TransactionSession,
};

#[cfg(feature = "stream")]
use super::stream::RowStream;
use super::{
    arbiter::{AfterRefusal, RejectedRead, Unserved},
    hedge::{RacingStatement, RunInRace},
    marks::{SeenMark, WriteEffect, WriteMark},
    next_attempt::MOST_STALE_PLANS,
    operation::{Attempts, Operation, ReadRoute, RetryableStatement},
    run::{Extent, RepeatableRead},
    session::ReadRecord,
    shared::{Context, Shared},
    transaction::{DatabaseTransaction, TransactionAccess},
};
use crate::{
    Error,
    driver::{Driver, Fault, WriteProgress},
    routing::{How, StatementClass},
};

/// The route of an operation.
pub(super) enum Route<'a> {
    Read(ReadRoute<'a>),
    /// The operation runs on the primary's read-write pool.
    Primary(WriteEffect),
}

/// A handle that routes each operation.
pub(super) trait Routed: Sync {
    fn shared(&self) -> &Arc<Shared>;
    /// The context of an operation; called when the operation begins.
    fn context(&self) -> Context;
    fn route<'a>(&'a self, context: &'a Context, class: &StatementClass) -> Result<Route<'a>, Error>;
    /// The route of a transaction; may change the options.
    fn route_transaction<'a>(
        &'a self,
        context: &'a Context,
        options: &mut TransactionOptions,
    ) -> Result<Route<'a>, Error>;
}

type Run<T> = for<'d> fn(&'d dyn Driver, Statement, Option<WriteProgress>) -> BoxFuture<'d, Result<T, DbErr>>;

/// How a driver runs a statement.
struct Ways<T: 'static> {
    run: Run<T>,
    /// For a read that may be hedged.
    race: Option<RunInRace<T>>,
}

/// One statement as a read.
struct StatementRead<'a, 's, T: 'static> {
    retryable: &'a mut RetryableStatement<'s>,
    ways: &'static Ways<T>,
}

impl<T> RepeatableRead<T> for StatementRead<'_, '_, T> {
    fn start<'d>(&mut self, driver: &'d dyn Driver, attempts: Attempts) -> BoxFuture<'d, Result<T, DbErr>> {
        (self.ways.run)(driver, self.retryable.next(attempts), None)
    }

    fn in_race(&mut self) -> Option<RacingStatement<T>> {
        let run = self.ways.race?;
        Some(RacingStatement { statement: self.retryable.next(Attempts::More), run })
    }

    fn may_race(&self) -> bool {
        self.ways.race.is_some()
    }

    fn sql(&self) -> Option<String> {
        self.retryable.text()
    }

    fn extent(&self) -> Extent {
        Extent::Statement
    }
}

async fn run<R: Routed, T: Send + 'static>(
    handle: &R,
    retryable: &mut RetryableStatement<'_>,
    ways: &'static Ways<T>,
    refuse: fn(Error) -> DbErr,
) -> Result<T, DbErr> {
    let context = handle.context();
    let shared = handle.shared();
    let class = shared.class(retryable.sql());
    let text = shared.text_for_record(&context, retryable.sql());
    let this = Operation { context: &context, class: Some(class), text: text.as_deref() };
    match handle.route(&context, &class).map_err(refuse)? {
        Route::Read(route) => {
            let mut journey = shared.journey(&context, route.among);
            let mut read = StatementRead { retryable, ways };
            match shared.read(&this, &mut journey, route, &mut read).await {
                Ok((value, _lease)) => Ok(value),
                Err(Unserved::Failed(error)) => Err(error),
                // Boxed, so that the future of every read is not as large as that of the rare refused read.
                Err(Unserved::Refused(refused)) => {
                    let statement = retryable.next(Attempts::Last);
                    Box::pin(run_refused(shared, this, route, refused, statement, ways)).await
                }
            }
        }
        Route::Primary(written) => {
            let effect = WriteEffect::of(&class, retryable.sql(), written);
            // Boxed, so that the future of every read is not as large as that of a write.
            Box::pin(run_write(shared, this, effect, retryable, ways.run)).await
        }
    }
}

/// Runs a write once. A statement whose plan did not fit any more did not run, and is sent again.
async fn run_write<T>(
    shared: &Arc<Shared>,
    this: Operation<'_>,
    effect: WriteEffect,
    retryable: &mut RetryableStatement<'_>,
    operation: Run<T>,
) -> Result<T, DbErr> {
    let mut stale_plans = 0;
    loop {
        let statement = retryable.next(Attempts::More);
        let run = shared.write(this, effect, |driver: &dyn Driver, write| operation(driver, statement, Some(write)));
        match run.await {
            Err(error) if Fault::of(&error) == Fault::StalePlan && stale_plans < MOST_STALE_PLANS => stale_plans += 1,
            result => return result.map(|(value, _lease)| value),
        }
    }
}

/// Runs a refused read where the rules say, or returns its error.
async fn run_refused<T: Send + 'static>(
    shared: &Arc<Shared>,
    this: Operation<'_>,
    route: ReadRoute<'_>,
    refused: RejectedRead,
    statement: Statement,
    ways: &'static Ways<T>,
) -> Result<T, DbErr> {
    match shared.after_refusal(route, &refused, &statement.sql) {
        AfterRefusal::RunOnPrimary => {
            let sql = statement.sql.clone();
            let written =
                shared.write(this.overruled(refused.refusal), WriteEffect::Written, |driver: &dyn Driver, write| {
                    (ways.run)(driver, statement, Some(write))
                });
            let (value, _lease) = written.await.inspect_err(|error| shared.was_refused_twice(&sql, &refused, error))?;
            shared.was_rerun(&sql, &refused);
            Ok(value)
        }
        AfterRefusal::ReadOnPrimary(route) => {
            let sql = statement.sql.clone();
            let mut retryable = RetryableStatement::Raw(Some(statement));
            let mut journey = shared.journey(this.context, route.among);
            let mut read = StatementRead { retryable: &mut retryable, ways };
            let (value, _lease) =
                shared.read(&this, &mut journey, route, &mut read).await.map_err(Unserved::into_error)?;
            shared.was_rerun(&sql, &refused);
            Ok(value)
        }
        AfterRefusal::Fail => Err(refused.into_error(route)),
    }
}

pub(super) fn execute<R: Routed>(
    handle: &R,
    retryable: &mut RetryableStatement<'_>,
) -> impl Future<Output = Result<ExecResult, DbErr>> + Send {
    let ways = &Ways { run: |driver, statement, write| driver.execute(statement, write), race: None };
    run(handle, retryable, ways, Error::into_exec)
}

pub(super) fn query_one<R: Routed>(
    handle: &R,
    retryable: &mut RetryableStatement<'_>,
) -> impl Future<Output = Result<Option<QueryResult>, DbErr>> + Send {
    let ways = &Ways {
        run: |driver, statement, write| driver.query_one(statement, write),
        race: Some(|driver, statement, race| match driver.racing() {
            Some(racing) => racing.query_one(statement, race),
            None => driver.query_one(statement, None),
        }),
    };
    run(handle, retryable, ways, Error::into_query)
}

pub(super) fn query_all<R: Routed>(
    handle: &R,
    retryable: &mut RetryableStatement<'_>,
) -> impl Future<Output = Result<Vec<QueryResult>, DbErr>> + Send {
    let ways = &Ways {
        run: |driver, statement, write| driver.query_all(statement, write),
        race: Some(|driver, statement, race| match driver.racing() {
            Some(racing) => racing.query_all(statement, race),
            None => driver.query_all(statement, None),
        }),
    };
    run(handle, retryable, ways, Error::into_query)
}

pub(super) async fn execute_unprepared<R: Routed>(handle: &R, sql: &str) -> Result<ExecResult, DbErr> {
    // A future cannot borrow both the driver and the text, whose lifetimes have no order, so a statement carries
    // the text.
    let statement = Statement::from_string(handle.shared().backend, sql);
    let ways = &Ways {
        run: |driver, statement, write| async move { driver.execute_unprepared(&statement.sql, write).await }.boxed(),
        race: None,
    };
    run(handle, &mut RetryableStatement::Raw(Some(statement)), ways, Error::into_exec).await
}

#[cfg(feature = "stream")]
pub(super) async fn stream<R: Routed>(handle: &R, statement: Statement) -> Result<RowStream<'static>, DbErr> {
    let context = handle.context();
    let shared = handle.shared();
    let class = shared.class(&statement.sql);
    let text = shared.text_for_record(&context, &statement.sql);
    let this = Operation { context: &context, class: Some(class), text: text.as_deref() };
    match handle.route(&context, &class).map_err(Error::into_query)? {
        Route::Read(route) => RowStream::open_read(shared, this, route, statement).await,
        Route::Primary(written) => {
            let effect = WriteEffect::of(&class, &statement.sql, written);
            RowStream::open_write(shared, this, effect, statement).await
        }
    }
}

pub(super) async fn begin<R: Routed>(
    handle: &R,
    mut options: TransactionOptions,
) -> Result<DatabaseTransaction, DbErr> {
    let context = handle.context();
    let shared = handle.shared();
    let access = TransactionAccess::asked(&options);
    let this = Operation::bare(&context);
    match handle.route_transaction(&context, &mut options)? {
        Route::Read(route) => {
            let mut journey = shared.journey(&context, route.among);
            let begun = shared.read(&this, &mut journey, route, &mut options).await;
            let (inner, lease) = begun.map_err(Unserved::into_error)?;
            let seen = route.affinity.map(|affinity| {
                SeenMark::begin(shared, affinity, ReadRecord::new(&lease, journey.how, journey.is_open()))
            });
            let (shared, log) = (Arc::clone(shared), context.log.clone());
            Ok(DatabaseTransaction::new(inner, lease, TransactionAccess::ReadOnly, None, shared, log).seen_by(seen))
        }
        Route::Primary(effect) => {
            // A BEGIN has written nothing: the floor rises when the transaction ends.
            let (inner, lease) =
                shared.write(this, WriteEffect::Nothing, |driver: &dyn Driver, _| driver.begin(options)).await?;
            let mark = WriteMark::of_transaction(shared, &context.session, effect);
            let seen = context.session.affinity().filter(|_| effect == WriteEffect::Nothing);
            let seen =
                seen.map(|affinity| SeenMark::begin(shared, affinity, ReadRecord::new(&lease, How::Forced, false)));
            let (shared, log) = (Arc::clone(shared), context.log.clone());
            Ok(DatabaseTransaction::new(inner, lease, access, Some(mark), shared, log).seen_by(seen))
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
                $crate::connection::surface::Routed::shared(self).backend
            }

            async fn execute_raw(&self, stmt: sea_orm::Statement) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
                surface::execute(self, &mut RetryableStatement::Raw(Some(stmt))).await
            }

            async fn execute<S: sea_orm::StatementBuilder>(
                &self,
                stmt: &S,
            ) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
                let again = || sea_orm::ConnectionTrait::get_database_backend(self).build(stmt);
                surface::execute(self, &mut RetryableStatement::Built { first: Some(again()), again: &again }).await
            }

            async fn execute_unprepared(&self, sql: &str) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
                surface::execute_unprepared(self, sql).await
            }

            async fn query_one_raw(
                &self,
                stmt: sea_orm::Statement,
            ) -> Result<Option<sea_orm::QueryResult>, sea_orm::DbErr> {
                surface::query_one(self, &mut RetryableStatement::Raw(Some(stmt))).await
            }

            async fn query_one<S: sea_orm::StatementBuilder>(
                &self,
                stmt: &S,
            ) -> Result<Option<sea_orm::QueryResult>, sea_orm::DbErr> {
                let again = || sea_orm::ConnectionTrait::get_database_backend(self).build(stmt);
                surface::query_one(self, &mut RetryableStatement::Built { first: Some(again()), again: &again }).await
            }

            async fn query_all_raw(
                &self,
                stmt: sea_orm::Statement,
            ) -> Result<Vec<sea_orm::QueryResult>, sea_orm::DbErr> {
                surface::query_all(self, &mut RetryableStatement::Raw(Some(stmt))).await
            }

            async fn query_all<S: sea_orm::StatementBuilder>(
                &self,
                stmt: &S,
            ) -> Result<Vec<sea_orm::QueryResult>, sea_orm::DbErr> {
                let again = || sea_orm::ConnectionTrait::get_database_backend(self).build(stmt);
                surface::query_all(self, &mut RetryableStatement::Built { first: Some(again()), again: &again }).await
            }

            fn support_returning(&self) -> bool {
                $crate::connection::surface::Routed::shared(self).support_returning()
            }

            fn is_mock_connection(&self) -> bool {
                $crate::connection::surface::Routed::shared(self).is_mock()
            }
        }

        #[cfg(feature = "stream")]
        impl sea_orm::StreamTrait for $handle {
            type Stream<'a> = $crate::connection::RowStream<'static>;

            fn get_database_backend(&self) -> sea_orm::DbBackend {
                $crate::connection::surface::Routed::shared(self).backend
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
