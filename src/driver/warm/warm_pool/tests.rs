use std::{sync::Arc, time::Duration};

use sea_orm::sqlx::{self, Sqlite, SqlitePool, pool::PoolOptions};

use super::WarmPool;

const LONG: Duration = Duration::from_secs(60);

fn pool() -> SqlitePool {
    pool_of(1)
}

fn pool_of(connections: u32) -> SqlitePool {
    PoolOptions::new().max_connections(connections).connect_lazy("sqlite::memory:").expect("a URL")
}

fn at_hand(warm_pool: &WarmPool<Sqlite>) -> usize {
    warm_pool.idle_list().connections.len()
}

async fn take_and_rest(warm_pool: &Arc<WarmPool<Sqlite>>) {
    warm_pool.take().await.expect("there is one").rest();
}

#[tokio::test]
async fn what_was_used_is_taken_again() {
    let warm_pool = WarmPool::new(pool(), LONG);
    take_and_rest(&warm_pool).await;
    assert_eq!((at_hand(&warm_pool), warm_pool.pool.num_idle()), (1, 0));
    take_and_rest(&warm_pool).await;
    assert_eq!(at_hand(&warm_pool), 1);
}

#[tokio::test]
async fn what_was_in_use_while_all_was_given_back_goes_back_too() {
    let warm_pool = WarmPool::new(pool(), LONG);
    let checkout = warm_pool.take().await.expect("there is one");
    warm_pool.give_back();
    checkout.rest();
    assert_eq!(at_hand(&warm_pool), 0);
    take_and_rest(&warm_pool).await;
    assert_eq!(at_hand(&warm_pool), 1, "one that was checkout later stays");
}

#[tokio::test]
async fn what_is_no_longer_meant_is_closed_at_hand_and_after_its_use() {
    let warm_pool = WarmPool::new(pool_of(2), LONG);
    let checkout = warm_pool.take().await.expect("there is one");
    take_and_rest(&warm_pool).await;
    assert_eq!((at_hand(&warm_pool), warm_pool.pool.size()), (1, 2));
    warm_pool.close_held();
    checkout.rest();
    let all_closed = async {
        while warm_pool.pool.size() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG / 12, all_closed).await.expect("all are closed");
    take_and_rest(&warm_pool).await;
    assert_eq!(at_hand(&warm_pool), 1, "a new one stays");
}

#[tokio::test]
async fn what_is_too_old_is_not_taken_and_is_swept_out() {
    let warm_pool = WarmPool::new(pool(), Duration::from_millis(20));
    take_and_rest(&warm_pool).await;
    std::thread::sleep(Duration::from_millis(30)); // and the sweeper had no chance
    assert!(warm_pool.at_hand().is_err());
    assert_eq!((at_hand(&warm_pool), warm_pool.idle_list().waiting), (0, 0));
    take_and_rest(&warm_pool).await;
    while at_hand(&warm_pool) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(warm_pool.idle_list().sweeper.is_none(), "it ends when nothing is left");
}

#[tokio::test]
async fn what_is_lent_comes_from_the_shelf() {
    let warm_pool = WarmPool::new(pool(), LONG);
    take_and_rest(&warm_pool).await;
    let lent = warm_pool
        .lend(drop, async |lent| warm_pool.pool.acquire().await.map(|checkout| (checkout, lent)).map_err(drop));
    let lent = tokio::time::timeout(LONG / 12, lent).await.expect("nobody waits for what lies here").expect("one");
    assert_eq!(at_hand(&warm_pool), 0);
    drop(lent);
    take_and_rest(&warm_pool).await;
}

#[tokio::test]
async fn who_waits_in_the_pool_gets_what_would_rest() {
    let warm_pool = WarmPool::new(pool(), LONG);
    let checkout = warm_pool.take().await.expect("there is one");
    let stranger = tokio::spawn({
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
    tokio::time::timeout(LONG / 12, stranger).await.expect("it gets one").expect("a task").expect("a connection");
}

#[tokio::test]
async fn what_is_at_hand_stays_there_while_the_pool_may_open_another() {
    let warm_pool = WarmPool::new(pool_of(2), LONG);
    take_and_rest(&warm_pool).await;
    let lent = warm_pool
        .lend(drop, async |lent| warm_pool.pool.acquire().await.map(|checkout| (checkout, lent)).map_err(drop));
    let lent = lent.await.expect("the pool opens one");
    assert_eq!((at_hand(&warm_pool), warm_pool.pool.size()), (1, 2));
    drop(lent);
}

#[tokio::test]
async fn strangers_find_a_connection_in_the_pool() {
    let warm_pool = WarmPool::new(pool_of(2), LONG);
    take_and_rest(&warm_pool).await;
    warm_pool.expect_strangers();
    assert_eq!(at_hand(&warm_pool), 0, "there may be somebody already");
    for _ in 0..3 {
        let (one, other) = (warm_pool.take().await.expect("one"), warm_pool.take().await.expect("another"));
        one.rest();
        other.rest();
        assert!(at_hand(&warm_pool) <= 1);
        let stranger = tokio::time::timeout(LONG / 12, warm_pool.pool.acquire()).await;
        drop(stranger.expect("it does not wait for what lies here").expect("a connection"));
    }
}

#[tokio::test]
async fn what_came_here_before_goes_back_when_strangers_have_all_the_others() {
    let warm_pool = WarmPool::new(pool_of(2), LONG);
    warm_pool.expect_strangers();
    take_and_rest(&warm_pool).await;
    assert_eq!(at_hand(&warm_pool), 1, "the pool may open another");
    let first = warm_pool.pool.acquire().await.expect("it opens one");
    let second = tokio::time::timeout(LONG / 12, warm_pool.pool.acquire()).await;
    drop((first, second.expect("it does not wait for what lies here").expect("a connection")));
}

#[tokio::test]
async fn a_loan_that_is_dropped_on_its_way_closes_nothing() {
    let warm_pool = WarmPool::new(pool(), LONG);
    let mut checkout = warm_pool.take().await.expect("there is one");
    sqlx::raw_sql("CREATE TABLE kept (a)")
        .execute(checkout.connection())
        .await
        .expect("it lives as its connection does");
    checkout.rest();
    let mut lent = Box::pin(warm_pool.lend(drop, async |_| Ok::<_, ()>(())));
    assert!(futures_util::poll!(&mut lent).is_pending(), "it waits for what goes back");
    drop(lent);
    let mut checkout = warm_pool.take().await.expect("there is one");
    sqlx::raw_sql("SELECT * FROM kept").execute(checkout.connection()).await.expect("it is the same connection");
    checkout.rest();
}

#[tokio::test]
async fn nobody_is_served_of_a_pool_that_a_stranger_closed() {
    let warm_pool = WarmPool::new(pool(), LONG);
    take_and_rest(&warm_pool).await;
    let closed = warm_pool.pool.close();
    assert!(warm_pool.take().await.is_err());
    tokio::time::timeout(LONG / 12, closed).await.expect("all came back");
}

#[tokio::test]
async fn nothing_stays_when_it_is_closed() {
    let warm_pool = WarmPool::new(pool(), LONG);
    let checkout = warm_pool.take().await.expect("there is one");
    let waits = tokio::spawn({
        let warm_pool = Arc::clone(&warm_pool);
        async move { warm_pool.take().await.map(drop) }
    });
    tokio::task::yield_now().await;
    let closed = warm_pool.pool.close();
    warm_pool.close();
    assert!(waits.await.expect("a task").is_err(), "nobody waits for what will not come");
    checkout.rest();
    tokio::time::timeout(LONG / 12, closed).await.expect("all came back");
}
