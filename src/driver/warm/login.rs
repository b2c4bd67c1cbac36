//! Logins beside the warm pool: of a connection of the resolver's own, and of one that SeaORM opens.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection, DbErr, RuntimeErr, TransactionOptions, TransactionTrait,
    sqlx::{self, Database, Executor, IntoArguments, Pool, database::HasStatementCache},
};
use sea_query_sqlx::SqlxValues;
use tokio::time::Instant;

use super::{PoolDriver, connect_trial::NotAcquired, opening::may_log_in_again};
use crate::driver::{
    CredentialsCache, Fault, RunToEnd, credentials::LoginPool, link::QuestionLink, seaorm::SeaOrmTransaction,
};

impl<DB: Database> LoginPool for PoolDriver<DB> {
    fn take_credentials(&self) {
        if let Some(recipe) = &self.recipe {
            recipe.refresh(self.warm_pool.pool());
        }
    }
}

impl<DB> PoolDriver<DB>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    DatabaseConnection: From<Pool<DB>>,
{
    /// Opens a connection beside the pool.
    pub(super) async fn open_link(&self) -> Result<QuestionLink<DB>, NotAcquired> {
        let credentials = self.credentials();
        if let Some(credentials) = credentials {
            credentials.ready().await?;
        }
        let used = credentials.map_or(0, |credentials| credentials.version());
        let refused = match self.link_once().await {
            Err(refused) => refused,
            Ok(link) => return Ok(link),
        };
        let is_tried_again = match credentials {
            Some(credentials) if may_log_in_again(credentials, used, &refused).await => true,
            _ => self.is_refused_for_settings(&refused).await,
        };
        if is_tried_again { Ok(self.link_once().await?) } else { Err(refused.into()) }
    }

    /// The credentials of the node, if the resolver opens its connections.
    pub(super) fn credentials(&self) -> Option<&Arc<CredentialsCache>> {
        self.recipe.as_ref()?.credentials()
    }

    async fn link_once(&self) -> Result<QuestionLink<DB>, sqlx::Error> {
        self.refresh();
        if let Some(spare) = self.warm_pool.take_spare() {
            return Ok(QuestionLink::over(spare, self.recipe.as_ref().map(|recipe| Arc::clone(recipe.sessions()))));
        }
        match &self.recipe {
            Some(recipe) => QuestionLink::open(recipe.options(), Some(Arc::clone(recipe.sessions()))).await,
            None => QuestionLink::open(self.warm_pool.pool().connect_options().as_ref().clone(), None).await,
        }
    }

    /// Begins a transaction; once more where SeaORM met a broken connection in the pool, and the login of another was
    /// refused.
    pub(super) async fn begin_logged_in(&self, options: TransactionOptions) -> Result<SeaOrmTransaction, DbErr> {
        let used = self.credentials().map(|credentials| (credentials, credentials.version()));
        match (self.begin_once(options).await, used) {
            (Err(DbErr::Conn(RuntimeErr::SqlxError(refused))), Some((credentials, used)))
                if may_log_in_again(credentials, used, &refused).await =>
            {
                self.begin_once(options).await
            }
            (begun, _) => begun,
        }
    }

    async fn begin_once(&self, options: TransactionOptions) -> Result<SeaOrmTransaction, DbErr> {
        let deadline = Instant::now() + self.warm_pool.pool().options().get_acquire_timeout();
        loop {
            let reservation = self.reserve().await?;
            let connection = self.pool.connection().clone();
            let (restore, options) = self.settings_of_transaction(options);
            let begun = RunToEnd::new(async move {
                let transaction = connection.begin_with_options(options).await?;
                Ok(SeaOrmTransaction::on_reserved(transaction, reservation.into_permit(), restore))
            });
            match self.warm_pool.make_room_for(begun).await {
                // Another user was faster than SeaORM, and took the connection that was reserved.
                Err(DbErr::Conn(RuntimeErr::SqlxError(refused)))
                    if Fault::is_session_limit(&refused) && Instant::now() < deadline => {}
                begun => return begun,
            }
        }
    }
}
