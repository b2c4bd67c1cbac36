//! Accounts with a limit of sessions, on real servers.

use std::{sync::Arc, time::Duration};

use sea_orm::{DbBackend, Statement, TransactionOptions};
use testkit::{Cluster, MariaDbCluster, PostgresCluster};
use tokio::{task::JoinSet, time::timeout};

use crate::driver::{Access, Driver, LaneOptions, Opener, Pooling, SecretUrl, Sessions, open::plain_lane};

const PATIENCE: Duration = Duration::from_secs(20);
const WARM: Option<Duration> = Some(Duration::from_secs(1));

/// An account that may have so many sessions.
struct Account {
    url: SecretUrl,
    sessions: Arc<Sessions>,
}

impl Account {
    async fn of_postgres(cluster: &Cluster, limit: u32) -> Self {
        let create = format!("CREATE ROLE app LOGIN PASSWORD 's3cret' CONNECTION LIMIT {limit}");
        Self::created(cluster, &[&create, "GRANT ALL ON entry TO app"], DbBackend::Postgres).await
    }

    async fn of_mariadb(cluster: &Cluster, limit: u32) -> Self {
        let create = format!("GRANT ALL ON *.* TO app IDENTIFIED BY 's3cret' WITH MAX_USER_CONNECTIONS {limit}");
        Self::created(cluster, &[&create], DbBackend::MySql).await
    }

    async fn created(cluster: &Cluster, statements: &[&str], backend: DbBackend) -> Self {
        let server = cluster.primary();
        server.execute("CREATE TABLE entry (amount int)").await.expect("a table");
        for statement in statements {
            server.query_scalar(statement).await.expect("an account"); // by the administrator
        }
        let url = server.url();
        let (scheme, host) = (&url[..url.find("://").expect("a URL") + 3], &url[url.find('@').expect("a login")..]);
        let url = SecretUrl::parse(&format!("{scheme}app:s3cret{host}")).expect("a URL");
        Self { url, sessions: Sessions::new(backend, Pooling::None) }
    }

    async fn pool(&self, access: Access, keep_warm: Option<Duration>) -> Arc<dyn Driver> {
        let lane = LaneOptions { max_connections: Some(5), acquire_timeout: Some(PATIENCE), keep_warm, ..plain_lane() };
        Opener::Url(self.url.clone()).open(&lane, access, &self.sessions, None, None).await.expect("a pool")
    }

    fn statement(&self, sql: &str) -> Statement {
        Statement::from_string(self.url.backend, sql)
    }

    /// Two sessions serve eight tasks, whose statements and transactions take turns.
    async fn all_are_served(&self) {
        for keep_warm in [WARM, None] {
            let pool = self.pool(Access::Full, keep_warm).await;
            let mut tasks = JoinSet::new();
            for _ in 0..8 {
                let (pool, insert) = (Arc::clone(&pool), self.statement("INSERT INTO entry VALUES (1)"));
                tasks.spawn(async move {
                    for _ in 0..10 {
                        pool.execute(insert.clone(), None).await.expect("written");
                        let transaction = pool.begin(TransactionOptions::default()).await.expect("begun");
                        transaction.commit().await.expect("committed");
                    }
                });
            }
            tasks.join_all().await;
            pool.close().await.expect("closed");
        }
    }

    /// Two statements that run at once leave both sessions of the account idle in one pool; then the other pool needs one.
    async fn the_other_pool_gets_one(&self, slow: &str) {
        for keep_warm in [WARM, None] {
            let [reads, writes] =
                [self.pool(Access::ReadOnly, keep_warm).await, self.pool(Access::Full, keep_warm).await];
            let slow = || reads.query_one(self.statement(slow), None);
            let (first, second) = tokio::join!(slow(), slow());
            assert!(first.and(second).is_ok());
            let write = writes.execute(self.statement("INSERT INTO entry VALUES (1)"), None);
            timeout(PATIENCE / 2, write).await.expect("in time").expect("written");
            for pool in [reads, writes] {
                pool.close().await.expect("closed");
            }
        }
    }
}

#[tokio::test]
async fn postgres_statements_take_turns_where_the_account_grants_no_further_session() {
    let cluster = PostgresCluster::start(0).await.expect("a server");
    Account::of_postgres(&cluster, 2).await.all_are_served().await;
}

#[tokio::test]
async fn mariadb_statements_take_turns_where_the_account_grants_no_further_session() {
    let cluster = MariaDbCluster::start(0).await.expect("a server");
    Account::of_mariadb(&cluster, 2).await.all_are_served().await;
}

#[tokio::test]
async fn postgres_a_pool_spares_an_idle_session_for_the_other_pool_of_its_node() {
    let cluster = PostgresCluster::start(0).await.expect("a server");
    Account::of_postgres(&cluster, 2).await.the_other_pool_gets_one("SELECT 1 FROM pg_sleep(0.2)").await;
}

#[tokio::test]
async fn mariadb_a_pool_spares_an_idle_session_for_the_other_pool_of_its_node() {
    let cluster = MariaDbCluster::start(0).await.expect("a server");
    Account::of_mariadb(&cluster, 2).await.the_other_pool_gets_one("SELECT SLEEP(0.2)").await;
}
