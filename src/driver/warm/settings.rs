//! The settings of a pool's sessions: new ones before a connection is opened, and none behind a pooling proxy.

use sea_orm::{
    DatabaseConnection, DbBackend, DbErr, IsolationLevel, QueryResult, RuntimeErr, TransactionOptions,
    sqlx::{self, Database, Executor, IntoArguments, Pool, database::HasStatementCache},
};
use sea_query_sqlx::SqlxValues;
use tokio::time::timeout;

use super::{
    Checkout, PoolDriver, not_acquired,
    rest::{rest_after_first_row, rested},
    warm_pool::Reservation,
};
use crate::driver::{Driver, Fault, Lost, Protection, link::try_options, seaorm::RestoreReadOnly};

impl<DB> PoolDriver<DB>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    DatabaseConnection: From<Pool<DB>>,
{
    /// Takes a connection for one statement, in a READ ONLY transaction where the session cannot be read-only.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(super) async fn take(&self) -> Result<Checkout<DB>, DbErr> {
        self.refresh();
        let taken = match self.warm_pool.take().await {
            Err(error) if Box::pin(self.is_refused_for_settings(&error.0)).await => self.warm_pool.take().await,
            taken => taken,
        };
        let mut checkout = taken.map_err(not_acquired)?;
        if let Some(begin) = self.transaction_of_reads() {
            let begun = Box::pin(checkout.begin_read_only(begin)).await;
            begun.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
        }
        Ok(checkout)
    }

    /// Reserves a connection for SeaORM.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(super) async fn reserve(&self) -> Result<Reservation<DB>, DbErr> {
        self.refresh();
        let reserved = match self.warm_pool.reserve().await {
            Err(error) if Box::pin(self.is_refused_for_settings(&error.0)).await => self.warm_pool.reserve().await,
            reserved => reserved,
        };
        reserved.map_err(not_acquired)
    }

    /// Gives the pool the settings of now for its next connection.
    pub(super) fn refresh(&self) {
        if let Some(recipe) = &self.recipe {
            recipe.refresh(self.warm_pool.pool());
        }
    }

    /// The statement that begins the transaction around each read, where the session cannot be read-only, or has an
    /// isolation that a standby lacks; else `None`.
    pub(super) fn transaction_of_reads(&self) -> Option<&'static str> {
        let sessions = self.recipe.as_ref().filter(|_| self.access.is_read_only())?.sessions();
        let protection = sessions.protection();
        match (protection, self.pool.backend()) {
            (Protection::Session, _) | (_, DbBackend::Sqlite) => None,
            (Protection::Transaction | Protection::Recovery, DbBackend::Postgres)
                if sessions.is_isolation_overridden() =>
            {
                Some("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            }
            (Protection::Recovery, _) => None,
            (Protection::Transaction, DbBackend::Postgres) => Some("BEGIN READ ONLY"),
            (Protection::Transaction, _) => Some("START TRANSACTION READ ONLY"),
        }
    }

    /// The options of a transaction, and how its session is made read-only again afterwards, if the session is.
    pub(super) fn settings_of_transaction(
        &self,
        mut options: TransactionOptions,
    ) -> (Option<RestoreReadOnly>, TransactionOptions) {
        let Some(recipe) = self.recipe.as_ref().filter(|_| self.access.is_read_only()) else { return (None, options) };
        let sessions = recipe.sessions();
        if sessions.protection() == Protection::Session {
            return (Some(RestoreReadOnly::new(self.pool.backend())), options);
        }
        if sessions.is_isolation_overridden() {
            options.isolation_level.get_or_insert(IsolationLevel::RepeatableRead);
        }
        (None, options)
    }

    /// Whether a connection was refused for the settings that it was opened with, so that the next one is opened without:
    /// the same connection without them is not refused, and with them it is refused again.
    pub(super) async fn is_refused_for_settings(&self, error: &sqlx::Error) -> bool {
        let Some(recipe) = self.recipe.as_ref().filter(|recipe| recipe.adds_settings()) else { return false };
        if !Fault::may_be_refused_setting(error) {
            return false;
        }
        let turn = recipe.sessions().turn_to_compare().await;
        if turn.is_none() || !recipe.adds_settings() {
            self.refresh();
            return !recipe.adds_settings();
        }
        let limit = self.warm_pool.pool().options().get_acquire_timeout();
        if !matches!(timeout(limit, try_options::<DB>(recipe.plain())).await, Ok(Ok(()))) {
            return false;
        }
        if let Ok(Err(sqlx::Error::Database(_))) = timeout(limit, try_options::<DB>(recipe.options())).await {
            recipe.sessions().lose(Lost::Refused);
            self.refresh();
        }
        true
    }

    /// Whether a standby refused a statement for the default isolation for the first time. Sessions opened from now on have
    /// another, and those of before are closed.
    pub(super) fn is_isolation_overridden_now(&self, error: &DbErr) -> bool {
        let Some(recipe) = self.recipe.as_ref().filter(|_| self.access.is_read_only()) else { return false };
        if !Fault::is_isolation_lacking(error) {
            return false;
        }
        recipe.sessions().override_isolation();
        self.refresh();
        self.warm_pool.close_all();
        true
    }

    /// Asks a session of the pool, past SeaORM. A standby without the default isolation is asked once more.
    pub(super) async fn ask_here(&self, question: &'static str) -> Result<Option<QueryResult>, DbErr>
    where
        QueryResult: From<DB::Row>,
    {
        let mut answer = self.ask_once(question).await;
        if answer.as_ref().is_err_and(Fault::is_isolation_lacking) {
            answer = self.ask_once(question).await;
        }
        answer
    }

    async fn ask_once(&self, question: &'static str) -> Result<Option<QueryResult>, DbErr>
    where
        QueryResult: From<DB::Row>,
    {
        let mut checkout = self.take().await?;
        match checkout.connection(None).fetch_optional(sqlx::raw_sql(question)).await {
            Ok(row) => {
                rested(checkout, rest_after_first_row).await;
                Ok(row.map(Into::into))
            }
            Err(error) => Err(self.failed(checkout, DbErr::Query(RuntimeErr::SqlxError(error.into()))).await),
        }
    }
}
