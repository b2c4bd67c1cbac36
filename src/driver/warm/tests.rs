//! The progress of a write, on real servers behind a slow wire.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, poll};
use sea_orm::{DbBackend, Statement, TransactionOptions};
use testkit::{ChaosProxy, Cluster, MariaDbCluster, PostgresCluster};
use tokio::time::{sleep, timeout};

use crate::driver::{
    Access, Driver, Elsewhere, LaneOptions, Opener, Pooling, SecretUrl, Sessions, WriteProgress, open::plain_lane,
};

const PATIENCE: Duration = Duration::from_secs(30);
const WARM: Option<Duration> = Some(Duration::from_secs(1));

/// One server behind a slow wire, with the statements in its dialect.
struct Slow<C> {
    cluster: C,
    proxy: ChaosProxy,
    backend: DbBackend,
    /// Updates the one row, and takes half a second on the server.
    update: &'static str,
    /// How many updates the server runs now.
    running: &'static str,
}

impl Slow<PostgresCluster> {
    async fn postgres() -> Self {
        Self::before(
            PostgresCluster::start(0).await.expect("a server"),
            DbBackend::Postgres,
            "UPDATE slow SET a = 1 WHERE pg_sleep(0.5) IS NOT NULL",
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'UPDATE slow%' AND wait_event = 'PgSleep'",
        )
        .await
    }
}

impl Slow<MariaDbCluster> {
    async fn mariadb() -> Self {
        Self::before(
            MariaDbCluster::start(0).await.expect("a server"),
            DbBackend::MySql,
            "UPDATE slow SET a = 1 WHERE SLEEP(0.5) = 0",
            "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE slow%'",
        )
        .await
    }
}

impl<C: Deref<Target = Cluster>> Slow<C> {
    async fn before(cluster: C, backend: DbBackend, update: &'static str, running: &'static str) -> Self {
        let server = cluster.primary();
        server.execute("CREATE TABLE slow (a int)").await.expect("a table");
        server.execute("INSERT INTO slow VALUES (0)").await.expect("a row");
        let proxy = ChaosProxy::start(server.port()).await.expect("a proxy");
        proxy.set_latency(Duration::from_millis(20));
        Self { cluster, proxy, backend, update, running }
    }

    /// A pool of one connection.
    async fn pool(&self, keep_warm: Option<Duration>) -> Arc<dyn Driver> {
        let url = SecretUrl::parse(&self.proxy.url(self.cluster.primary())).expect("a URL");
        let lane = LaneOptions { max_connections: Some(1), keep_warm, ..plain_lane() };
        let sessions = Sessions::new(self.backend, Pooling::None);
        Opener::Url(url).open(&lane, Access::Full, &sessions, None, None).await.expect("a pool")
    }

    fn statement(&self) -> Statement {
        Statement::from_string(self.backend, self.update)
    }

    async fn asks(&self, sql: &str) -> String {
        self.cluster.primary().query_scalar(sql).await.expect("an answer")
    }

    async fn until_it_runs(&self) {
        while self.asks(self.running).await == "0" {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Sends the update by `send`, stops waiting while the server runs it, and checks the progress.
    async fn is_over_when_the_server_is_done(&self, send: impl AsyncFnOnce(WriteProgress)) {
        self.cluster.primary().execute("UPDATE slow SET a = 0").await.expect("it is free");
        let write = WriteProgress::queued();
        assert!(!write.is_sent());
        {
            let sending = send(write.clone());
            tokio::select! {
                () = sending => panic!("the update ended"),
                () = self.until_it_runs() => {}
            }
        }
        assert!(write.is_sent());
        let over = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&over);
        write.when_over(move || noted.store(true, Ordering::SeqCst));
        let mut was_seen_running = false;
        while !over.load(Ordering::SeqCst) {
            was_seen_running |= self.asks(self.running).await != "0";
            sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(self.asks(self.running).await, "0", "the write is over");
        assert_eq!(self.asks("SELECT a FROM slow").await, "1", "the server ran it to its end");
        assert!(was_seen_running, "the write was over before the server was done");
    }

    async fn a_sent_write_is_over_when_the_server_is_done(&self) {
        for keep_warm in [WARM, None] {
            let pool = self.pool(keep_warm).await;
            let execute = async |write| drop(pool.execute(self.statement(), Some(write)).await);
            self.is_over_when_the_server_is_done(execute).await;
            let unprepared = async |write| drop(pool.execute_unprepared(self.update, Some(write)).await);
            self.is_over_when_the_server_is_done(unprepared).await;
            let query_one = async |write| drop(pool.query_one(self.statement(), Some(write)).await);
            self.is_over_when_the_server_is_done(query_one).await;
            let query_all = async |write| drop(pool.query_all(self.statement(), Some(write)).await);
            self.is_over_when_the_server_is_done(query_all).await;
            #[cfg(feature = "stream")]
            {
                let stream = async |write| {
                    let mut rows = pool.stream(self.statement(), Some(write)).await.expect("a connection");
                    drop(rows.next().await);
                };
                self.is_over_when_the_server_is_done(stream).await;
            }
            pool.close().await.expect("closed");
        }
    }

    async fn a_write_that_waits_for_a_connection_was_not_sent(&self) {
        for keep_warm in [WARM, None] {
            let pool = self.pool(keep_warm).await;
            let held = pool.begin(TransactionOptions::default()).await.expect("the one connection");
            for _ in 0..2 {
                let write = WriteProgress::queued();
                let waiting = timeout(Duration::from_millis(50), pool.execute(self.statement(), Some(write.clone())));
                waiting.await.expect_err("the connection is taken");
                assert!(!write.is_sent());
                // The write is never over: dropping the waiting statement took it out of the queue.
                let over = Arc::new(AtomicBool::new(false));
                let noted = Arc::clone(&over);
                write.when_over(move || noted.store(true, Ordering::SeqCst));
                assert!(over.load(Ordering::SeqCst));
            }
            drop(held);
            timeout(PATIENCE, pool.ping()).await.expect("in time").expect("the connection came back");
            assert_eq!(self.asks("SELECT a FROM slow").await, "0");
            pool.close().await.expect("closed");
        }
    }

    async fn a_begin_that_waits_for_a_connection_takes_none_when_it_is_dropped(&self) {
        for keep_warm in [WARM, None] {
            let pool = self.pool(keep_warm).await;
            let held = pool.begin(TransactionOptions::default()).await.expect("the one connection");
            for _ in 0..3 {
                let mut waiting = pool.begin(TransactionOptions::default());
                assert!(poll!(&mut waiting).is_pending());
                sleep(Duration::from_millis(2)).await;
            }
            held.rollback().await.expect("rolled back");
            // Each begin that had stayed in the queue would cost two round trips of 20 ms before this one.
            let seen = self.proxy.caught();
            self.proxy.hold_requests_from("BEGIN");
            let mut next = pool.execute_unprepared("SELECT 1", None);
            timeout(PATIENCE, &mut next).await.expect("in time").expect("it runs");
            assert_eq!(self.proxy.caught(), seen, "a begin that was dropped went out");
            self.proxy.restore();
            drop(next);
            pool.close().await.expect("closed");
        }
    }
}

#[tokio::test]
async fn postgres_a_sent_write_is_over_when_the_server_is_done() {
    Slow::postgres().await.a_sent_write_is_over_when_the_server_is_done().await;
}

#[tokio::test]
async fn mariadb_a_sent_write_is_over_when_the_server_is_done() {
    Slow::mariadb().await.a_sent_write_is_over_when_the_server_is_done().await;
}

#[tokio::test]
async fn postgres_a_write_that_waits_for_a_connection_was_not_sent() {
    Slow::postgres().await.a_write_that_waits_for_a_connection_was_not_sent().await;
}

#[tokio::test]
async fn mariadb_a_write_that_waits_for_a_connection_was_not_sent() {
    Slow::mariadb().await.a_write_that_waits_for_a_connection_was_not_sent().await;
}

#[tokio::test]
async fn postgres_a_begin_that_waits_for_a_connection_takes_none_when_it_is_dropped() {
    Slow::postgres().await.a_begin_that_waits_for_a_connection_takes_none_when_it_is_dropped().await;
}

#[tokio::test]
async fn mariadb_a_begin_that_waits_for_a_connection_takes_none_when_it_is_dropped() {
    Slow::mariadb().await.a_begin_that_waits_for_a_connection_takes_none_when_it_is_dropped().await;
}

/// A new connection that is slow is worth a second one, which shows whether the server takes any. The next question beside
/// the pool goes over that one.
#[tokio::test]
async fn the_connection_that_showed_a_server_alive_is_used() {
    let slow = Slow::postgres().await;
    let url = SecretUrl::parse(&slow.proxy.url(slow.cluster.primary())).expect("a URL");
    let elsewhere = Elsewhere { queue_for: PATIENCE, queue_at_most: PATIENCE, connect_within: PATIENCE };
    let lane = LaneOptions { elsewhere: Some(elsewhere), keep_warm: WARM, ..plain_lane() };
    let sessions = Sessions::new(slow.backend, Pooling::None);
    let pool = Opener::Url(url).open(&lane, Access::ReadOnly, &sessions, None, None).await.expect("a pool");
    pool.ask("SELECT 1").await.expect("an answer");
    timeout(PATIENCE, async {
        while slow.proxy.connections() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the second connection is on its way");
    sleep(Duration::from_millis(500)).await; // and is there
    let mut link = pool.open_probe().expect("a server").await.expect("a connection");
    link.ask("SELECT 1").await.expect("an answer");
    assert_eq!(slow.proxy.connections(), 2);
    pool.close().await.expect("closed");
}
