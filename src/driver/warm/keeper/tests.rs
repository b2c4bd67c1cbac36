use std::{sync::Arc, time::Duration};

use sea_orm::sqlx::{self, Sqlite, SqlitePool, pool::PoolOptions};

use super::Keeper;

const LONG: Duration = Duration::from_secs(60);

fn pool() -> SqlitePool {
    pool_of(1)
}

fn pool_of(connections: u32) -> SqlitePool {
    PoolOptions::new().max_connections(connections).connect_lazy("sqlite::memory:").expect("a URL")
}

fn at_hand(keeper: &Keeper<Sqlite>) -> usize {
    keeper.shelf().connections.len()
}

async fn take_and_rest(keeper: &Arc<Keeper<Sqlite>>) {
    keeper.take().await.expect("there is one").rest();
}

#[tokio::test]
async fn what_was_used_is_taken_again() {
    let keeper = Keeper::new(pool(), LONG);
    take_and_rest(&keeper).await;
    assert_eq!((at_hand(&keeper), keeper.pool.num_idle()), (1, 0));
    take_and_rest(&keeper).await;
    assert_eq!(at_hand(&keeper), 1);
}

#[tokio::test]
async fn what_was_in_use_while_all_was_given_back_goes_back_too() {
    let keeper = Keeper::new(pool(), LONG);
    let taken = keeper.take().await.expect("there is one");
    keeper.give_back();
    taken.rest();
    assert_eq!(at_hand(&keeper), 0);
    take_and_rest(&keeper).await;
    assert_eq!(at_hand(&keeper), 1, "one that was taken later stays");
}

#[tokio::test]
async fn what_is_no_longer_meant_is_closed_at_hand_and_after_its_use() {
    let keeper = Keeper::new(pool_of(2), LONG);
    let taken = keeper.take().await.expect("there is one");
    take_and_rest(&keeper).await;
    assert_eq!((at_hand(&keeper), keeper.pool.size()), (1, 2));
    keeper.close_held();
    taken.rest();
    let all_closed = async {
        while keeper.pool.size() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG / 12, all_closed).await.expect("all are closed");
    take_and_rest(&keeper).await;
    assert_eq!(at_hand(&keeper), 1, "a new one stays");
}

#[tokio::test]
async fn what_is_too_old_is_not_taken_and_is_swept_out() {
    let keeper = Keeper::new(pool(), Duration::from_millis(20));
    take_and_rest(&keeper).await;
    std::thread::sleep(Duration::from_millis(30)); // and the sweeper had no chance
    assert!(keeper.at_hand().is_err());
    assert_eq!((at_hand(&keeper), keeper.shelf().waiting), (0, 0));
    take_and_rest(&keeper).await;
    while at_hand(&keeper) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(keeper.shelf().sweeper.is_none(), "it ends when nothing is left");
}

#[tokio::test]
async fn what_is_lent_comes_from_the_shelf() {
    let keeper = Keeper::new(pool(), LONG);
    take_and_rest(&keeper).await;
    let lent = keeper.lend(drop, async |lent| keeper.pool.acquire().await.map(|taken| (taken, lent)).map_err(drop));
    let lent = tokio::time::timeout(LONG / 12, lent).await.expect("nobody waits for what lies here").expect("one");
    assert_eq!(at_hand(&keeper), 0);
    drop(lent);
    take_and_rest(&keeper).await;
}

#[tokio::test]
async fn who_waits_in_the_pool_gets_what_would_rest() {
    let keeper = Keeper::new(pool(), LONG);
    let taken = keeper.take().await.expect("there is one");
    let stranger = tokio::spawn({
        let keeper = Arc::clone(&keeper);
        async move {
            let _waiting = keeper.wait();
            keeper.pool.acquire().await.map(drop)
        }
    });
    while keeper.shelf().waiting == 0 {
        tokio::task::yield_now().await;
    }
    taken.rest();
    tokio::time::timeout(LONG / 12, stranger).await.expect("it gets one").expect("a task").expect("a connection");
}

#[tokio::test]
async fn what_is_at_hand_stays_there_while_the_pool_may_open_another() {
    let keeper = Keeper::new(pool_of(2), LONG);
    take_and_rest(&keeper).await;
    let lent = keeper.lend(drop, async |lent| keeper.pool.acquire().await.map(|taken| (taken, lent)).map_err(drop));
    let lent = lent.await.expect("the pool opens one");
    assert_eq!((at_hand(&keeper), keeper.pool.size()), (1, 2));
    drop(lent);
}

#[tokio::test]
async fn strangers_find_a_connection_in_the_pool() {
    let keeper = Keeper::new(pool_of(2), LONG);
    take_and_rest(&keeper).await;
    keeper.expect_strangers();
    assert_eq!(at_hand(&keeper), 0, "there may be somebody already");
    for _ in 0..3 {
        let (one, other) = (keeper.take().await.expect("one"), keeper.take().await.expect("another"));
        one.rest();
        other.rest();
        assert!(at_hand(&keeper) <= 1);
        let stranger = tokio::time::timeout(LONG / 12, keeper.pool.acquire()).await;
        drop(stranger.expect("it does not wait for what lies here").expect("a connection"));
    }
}

#[tokio::test]
async fn what_came_here_before_goes_back_when_strangers_have_all_the_others() {
    let keeper = Keeper::new(pool_of(2), LONG);
    keeper.expect_strangers();
    take_and_rest(&keeper).await;
    assert_eq!(at_hand(&keeper), 1, "the pool may open another");
    let first = keeper.pool.acquire().await.expect("it opens one");
    let second = tokio::time::timeout(LONG / 12, keeper.pool.acquire()).await;
    drop((first, second.expect("it does not wait for what lies here").expect("a connection")));
}

#[tokio::test]
async fn a_loan_that_is_dropped_on_its_way_closes_nothing() {
    let keeper = Keeper::new(pool(), LONG);
    let mut taken = keeper.take().await.expect("there is one");
    sqlx::raw_sql("CREATE TABLE kept (a)").execute(taken.connection()).await.expect("it lives as its connection does");
    taken.rest();
    let mut lent = Box::pin(keeper.lend(drop, async |_| Ok::<_, ()>(())));
    assert!(futures_util::poll!(&mut lent).is_pending(), "it waits for what goes back");
    drop(lent);
    let mut taken = keeper.take().await.expect("there is one");
    sqlx::raw_sql("SELECT * FROM kept").execute(taken.connection()).await.expect("it is the same connection");
    taken.rest();
}

#[tokio::test]
async fn nobody_is_served_of_a_pool_that_a_stranger_closed() {
    let keeper = Keeper::new(pool(), LONG);
    take_and_rest(&keeper).await;
    let closed = keeper.pool.close();
    assert!(keeper.take().await.is_err());
    tokio::time::timeout(LONG / 12, closed).await.expect("all came back");
}

#[tokio::test]
async fn nothing_stays_when_it_is_closed() {
    let keeper = Keeper::new(pool(), LONG);
    let taken = keeper.take().await.expect("there is one");
    let waits = tokio::spawn({
        let keeper = Arc::clone(&keeper);
        async move { keeper.take().await.map(drop) }
    });
    tokio::task::yield_now().await;
    let closed = keeper.pool.close();
    keeper.close();
    assert!(waits.await.expect("a task").is_err(), "nobody waits for what will not come");
    taken.rest();
    tokio::time::timeout(LONG / 12, closed).await.expect("all came back");
}
