use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::sqlx::{self, Sqlite, SqlitePool, pool::PoolOptions};

use super::{Checkout, PoolRules, WarmPool};
use crate::driver::WriteProgress;

const LONG: Duration = Duration::from_secs(60);

fn keeping(keep: Duration) -> PoolRules {
    PoolRules { keep, ping_after: None, elsewhere: None, depends_on_runtime: false }
}

fn pool() -> SqlitePool {
    pool_of(1)
}

fn pool_of(connections: u32) -> SqlitePool {
    PoolOptions::new().max_connections(connections).connect_lazy("sqlite::memory:").expect("a URL")
}

fn warm_connections(warm_pool: &WarmPool<Sqlite>) -> usize {
    warm_pool.idle_list().connections.len()
}

async fn take_and_rest(warm_pool: &Arc<WarmPool<Sqlite>>) {
    warm_pool.take().await.expect("there is one").rest();
}

#[tokio::test]
async fn a_connection_that_was_used_is_taken_again() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    take_and_rest(&warm_pool).await;
    assert_eq!((warm_connections(&warm_pool), warm_pool.pool.num_idle()), (1, 0));
    take_and_rest(&warm_pool).await;
    assert_eq!(warm_connections(&warm_pool), 1);
}

#[tokio::test]
async fn a_connection_in_use_while_all_are_given_back_goes_back_too() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    let checkout = warm_pool.take().await.expect("there is one");
    warm_pool.give_back();
    checkout.rest();
    assert_eq!(warm_connections(&warm_pool), 0);
    take_and_rest(&warm_pool).await;
    assert_eq!(warm_connections(&warm_pool), 1, "a connection that was taken later stays");
}

#[tokio::test]
async fn connections_of_before_a_cutoff_are_closed_however_their_use_ends() {
    // One rests warm, one is idle in the pool, and the statements of three end well, with an error, and by being dropped.
    let warm_pool = WarmPool::new(pool_of(5), keeping(LONG), None, None);
    let mut checkouts = Vec::new();
    for _ in 0..5 {
        checkouts.push(warm_pool.take().await.expect("there is one"));
    }
    checkouts.pop().expect("five").rest();
    checkouts.pop().expect("five").answered();
    while warm_pool.pool.num_idle() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((warm_connections(&warm_pool), warm_pool.pool.size()), (1, 5));
    warm_pool.close_all();
    checkouts.pop().expect("three").rest();
    checkouts.pop().expect("two").answered();
    drop(checkouts);
    let all_closed = async {
        while warm_pool.pool.size() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG / 12, all_closed).await.expect("all are closed");
    take_and_rest(&warm_pool).await;
    assert_eq!(warm_connections(&warm_pool), 1, "a new one stays");
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_not_taken_and_is_swept_out() {
    let warm_pool = WarmPool::new(pool(), keeping(Duration::from_millis(20)), None, None);
    take_and_rest(&warm_pool).await;
    std::thread::sleep(Duration::from_millis(30)); // and the sweeper had no chance to run
    assert!(warm_pool.take_warm().is_err());
    assert_eq!((warm_connections(&warm_pool), warm_pool.idle_list().waiting), (0, 0));
    take_and_rest(&warm_pool).await;
    while warm_connections(&warm_pool) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(warm_pool.idle_list().sweeper.is_none(), "the sweeper ends when the list is empty");
}

#[tokio::test]
async fn a_reserved_connection_goes_back_to_the_pool_first() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    take_and_rest(&warm_pool).await;
    let reserved = tokio::time::timeout(LONG / 12, warm_pool.reserve()).await;
    let reserved = reserved.expect("no statement waits while a warm connection lies idle").expect("one");
    assert_eq!((warm_connections(&warm_pool), warm_pool.pool.num_idle()), (0, 1));
    drop((warm_pool.pool.acquire().await.expect("the idle one"), reserved.into_permit()));
    take_and_rest(&warm_pool).await;
}

#[tokio::test]
async fn a_reservation_opens_the_connection_that_seaorm_would_have_to_wait_for() {
    let warm_pool = WarmPool::new(pool_of(2), keeping(LONG), None, None);
    let reserved = warm_pool.reserve().await.expect("the pool opens one");
    assert_eq!((warm_pool.pool.size(), warm_pool.pool.num_idle()), (1, 1));
    drop(reserved);
}

#[tokio::test]
async fn a_reservation_that_waits_for_an_untracked_user_is_cancelled_without_a_trace() {
    let warm_pool = WarmPool::new(pool(), keeping(Duration::ZERO), None, None);
    warm_pool.expect_untracked_users();
    let untracked = warm_pool.pool.acquire().await.expect("the only one");
    let mut reserving = Box::pin(warm_pool.reserve());
    assert!(futures_util::poll!(&mut reserving).is_pending());
    drop(reserving);
    assert_eq!((warm_pool.permits.available(), warm_pool.idle_list().waiting), (1, 0));
    drop(untracked);
    drop(tokio::time::timeout(LONG / 12, warm_pool.reserve()).await.expect("in time").expect("one"));
}

#[tokio::test]
async fn a_reservation_ends_with_the_acquire_time_out() {
    let options = PoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(50));
    let hangs = options.after_release(|_, _| Box::pin(std::future::pending()));
    let warm_pool = WarmPool::new(hangs.connect_lazy("sqlite::memory:").expect("a URL"), keeping(LONG), None, None);
    take_and_rest(&warm_pool).await;
    let reserved = tokio::time::timeout(super::GIVEN_BACK_WITHIN / 2, warm_pool.reserve()).await;
    let refused =
        reserved.expect("a frozen connection does not hold the caller").err().expect("no connection came back");
    assert!(matches!(*refused.0, sqlx::Error::PoolTimedOut), "{refused:?}");
}

#[tokio::test]
async fn a_limit_holds_until_it_rises() {
    let warm_pool = WarmPool::new(pool_of(3), keeping(LONG), None, None);
    warm_pool.limit(1);
    let first = warm_pool.take().await.expect("one");
    let mut waiting = Box::pin(warm_pool.take());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    warm_pool.limit(2);
    let second = tokio::time::timeout(LONG / 12, waiting).await.expect("the limit rose").expect("another");
    warm_pool.limit(1);
    first.rest();
    let mut waiting = Box::pin(warm_pool.take());
    assert!(futures_util::poll!(&mut waiting).is_pending(), "one is in use");
    second.rest();
    drop(tokio::time::timeout(LONG / 12, waiting).await.expect("none is in use").expect("one"));
}

#[tokio::test]
async fn a_cancelled_write_is_over_when_its_connection_has_gone_back() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    let (write, over) = (WriteProgress::queued(), Arc::new(AtomicBool::new(false)));
    let mut checkout = warm_pool.take().await.expect("there is one");
    checkout.connection(Some(write.clone()));
    assert!(write.is_sent());
    let noted = Arc::clone(&over);
    write.when_over(move || noted.store(true, Ordering::SeqCst));
    drop(checkout);
    assert!(!over.load(Ordering::SeqCst), "the server may be running it");
    take_and_rest(&warm_pool).await;
    assert!(over.load(Ordering::SeqCst), "its connection serves another statement");
}

#[tokio::test]
async fn an_answered_write_is_over_at_once() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    for end in [Checkout::<Sqlite>::rest, Checkout::answered, Checkout::close] {
        let (write, over) = (WriteProgress::queued(), Arc::new(AtomicBool::new(false)));
        let mut checkout = warm_pool.take().await.expect("there is one");
        checkout.connection(Some(write.clone()));
        end(checkout);
        let noted = Arc::clone(&over);
        write.when_over(move || noted.store(true, Ordering::SeqCst));
        assert!(over.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn a_user_that_waits_in_the_pool_gets_the_connection_that_would_rest() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    let checkout = warm_pool.take().await.expect("there is one");
    let untracked = tokio::spawn({
        let warm_pool = Arc::clone(&warm_pool);
        async move {
            let _waiting = warm_pool.wait();
            warm_pool.pool.acquire().await.map(drop)
        }
    });
    while warm_pool.idle_list().waiting == 0 {
        tokio::task::yield_now().await;
    }
    checkout.rest();
    tokio::time::timeout(LONG / 12, untracked).await.expect("it gets one").expect("a task").expect("a connection");
}

#[tokio::test]
async fn a_warm_connection_stays_while_the_pool_may_open_another() {
    let warm_pool = WarmPool::new(pool_of(2), keeping(LONG), None, None);
    take_and_rest(&warm_pool).await;
    let reserved = warm_pool.reserve().await.expect("the pool opens one");
    assert_eq!((warm_connections(&warm_pool), warm_pool.pool.size()), (1, 2));
    drop(reserved);
}

#[tokio::test]
async fn an_untracked_user_finds_a_connection_in_the_pool() {
    let warm_pool = WarmPool::new(pool_of(2), keeping(LONG), None, None);
    take_and_rest(&warm_pool).await;
    warm_pool.expect_untracked_users();
    assert_eq!(warm_connections(&warm_pool), 0, "an untracked user may wait already");
    for _ in 0..3 {
        let (one, other) = (warm_pool.take().await.expect("one"), warm_pool.take().await.expect("another"));
        one.rest();
        other.rest();
        assert!(warm_connections(&warm_pool) <= 1);
        let untracked = tokio::time::timeout(LONG / 12, warm_pool.pool.acquire()).await;
        drop(untracked.expect("it does not wait for a warm connection").expect("a connection"));
    }
}

#[tokio::test]
async fn a_warm_connection_goes_back_when_untracked_users_have_all_the_others() {
    let warm_pool = WarmPool::new(pool_of(2), keeping(LONG), None, None);
    warm_pool.expect_untracked_users();
    take_and_rest(&warm_pool).await;
    assert_eq!(warm_connections(&warm_pool), 1, "the pool may open another");
    let first = warm_pool.pool.acquire().await.expect("it opens one");
    let second = tokio::time::timeout(LONG / 12, warm_pool.pool.acquire()).await;
    drop((first, second.expect("it does not wait for a warm connection").expect("a connection")));
}

#[tokio::test]
async fn a_reservation_that_is_dropped_on_its_way_closes_no_connection() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    let mut checkout = warm_pool.take().await.expect("there is one");
    sqlx::raw_sql("CREATE TABLE kept (a)")
        .execute(checkout.connection(None))
        .await
        .expect("it lives as its connection does");
    checkout.rest();
    let mut reserving = Box::pin(warm_pool.reserve());
    assert!(futures_util::poll!(&mut reserving).is_pending(), "it waits for the connection that goes back");
    drop(reserving);
    let mut checkout = warm_pool.take().await.expect("there is one");
    sqlx::raw_sql("SELECT * FROM kept").execute(checkout.connection(None)).await.expect("it is the same connection");
    checkout.rest();
}

#[tokio::test]
async fn no_statement_is_served_of_a_pool_that_its_owner_closed() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    take_and_rest(&warm_pool).await;
    let closed = warm_pool.pool.close();
    assert!(warm_pool.take().await.is_err());
    tokio::time::timeout(LONG / 12, closed).await.expect("all came back");
}

#[tokio::test]
async fn no_connection_stays_warm_in_a_closed_pool() {
    let warm_pool = WarmPool::new(pool(), keeping(LONG), None, None);
    let checkout = warm_pool.take().await.expect("there is one");
    let waits = tokio::spawn({
        let warm_pool = Arc::clone(&warm_pool);
        async move { warm_pool.take().await.map(drop) }
    });
    tokio::task::yield_now().await;
    let closed = warm_pool.pool.close();
    warm_pool.close();
    assert!(waits.await.expect("a task").is_err(), "no statement waits for a connection that will not come");
    checkout.rest();
    tokio::time::timeout(LONG / 12, closed).await.expect("all came back");
}
