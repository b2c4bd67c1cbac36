//! How many connections of one pool may be in use at a time.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::{Semaphore, TryAcquireError},
    time::{Instant, timeout_at},
};

use crate::driver::Elsewhere;

/// The permits of one pool. Their number can change while statements run.
///
/// A limit that falls takes free permits away at once, and owes the rest: each permit that comes back while one is owed
/// is not given out again. No connection in use is cut.
#[derive(Debug)]
pub(super) struct Permits {
    semaphore: Semaphore,
    /// How many permits exist, those in use included, once nothing is owed.
    limit: AtomicUsize,
    owed: AtomicUsize,
    most: usize,
    /// How many users that had to wait got their permit.
    served: AtomicU64,
}

/// The right to use one connection of a pool.
#[derive(Debug)]
pub(in crate::driver) struct Permit(Arc<Permits>);

/// The pool takes no new users.
#[derive(Debug)]
pub(super) struct Closed;

impl Permits {
    /// As many permits as the pool opens connections.
    pub(super) fn new(max_connections: u32) -> Arc<Self> {
        let most = (max_connections as usize).clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            semaphore: Semaphore::new(most),
            limit: AtomicUsize::new(most),
            owed: AtomicUsize::new(0),
            most,
            served: AtomicU64::new(0),
        })
    }

    /// A permit, if one is free: `None` where the caller would have to wait.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Result<Option<Permit>, Closed> {
        match self.semaphore.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(Some(Permit(Arc::clone(self))))
            }
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(Closed),
        }
    }

    /// Waits for a permit, in the order of arrival.
    ///
    /// # Cancel safety
    /// Dropping the future takes no permit.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Permit, Closed> {
        self.semaphore.acquire().await.map_err(|_| Closed)?.forget();
        self.served.fetch_add(1, Ordering::Relaxed);
        Ok(Permit(Arc::clone(self)))
    }

    /// Waits for a permit where another node can run the operation. `None` when the queue stands still: nobody in it got a permit for
    /// so long. A user that left a queue that moves would have to begin at the end of another one, and so might be served after all
    /// that came later.
    ///
    /// # Cancel safety
    /// Dropping the future takes no permit.
    pub(super) async fn acquire_while_moving(self: &Arc<Self>, limits: Elsewhere) -> Result<Option<Permit>, Closed> {
        let leaves_at = Instant::now() + limits.queue_at_most;
        let mut permit = pin!(self.acquire());
        loop {
            let served = self.served.load(Ordering::Relaxed);
            let look_at = leaves_at.min(Instant::now() + limits.queue_for);
            if let Ok(permit) = timeout_at(look_at, &mut permit).await {
                return permit.map(Some);
            }
            if self.served.load(Ordering::Relaxed) == served || look_at == leaves_at {
                return Ok(None);
            }
        }
    }

    /// Lets at most `most` connections be in use from now on: at least one, at most as many as the pool opens.
    pub(super) fn limit(&self, most: u32) {
        let wanted = (most as usize).clamp(1, self.most);
        let present = self.limit.swap(wanted, Ordering::SeqCst);
        if wanted < present {
            self.owed.fetch_add(present - wanted, Ordering::SeqCst);
            self.settle();
        } else {
            for _ in present..wanted {
                self.give();
            }
        }
    }

    /// How many permits are in use.
    pub(super) fn in_use(&self) -> usize {
        let exist = self.limit.load(Ordering::SeqCst) + self.owed.load(Ordering::SeqCst);
        exist.saturating_sub(self.available())
    }

    /// How many permits are free.
    pub(super) fn available(&self) -> usize {
        self.semaphore.available_permits()
    }

    /// Closes the permits: no user gets one any more.
    pub(super) fn close(&self) {
        self.semaphore.close();
    }

    /// Adds a permit, unless one is owed.
    fn give(&self) {
        if !self.pays() {
            self.semaphore.add_permits(1);
            // A limit that fell between the two lines found no free permit.
            self.settle();
        }
    }

    /// Takes free permits away for those that are owed.
    fn settle(&self) {
        while self.owed.load(Ordering::SeqCst) > 0 {
            let Ok(free) = self.semaphore.try_acquire() else { return };
            if self.pays() {
                free.forget();
            }
        }
    }

    /// Whether a permit was owed; then one less is.
    fn pays(&self) -> bool {
        self.owed.load(Ordering::SeqCst) > 0
            && self.owed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |owed| owed.checked_sub(1)).is_ok()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    fn take(permits: &Arc<Permits>) -> Permit {
        permits.try_acquire().expect("it is open").expect("one is free")
    }

    fn is_free(permits: &Arc<Permits>) -> bool {
        permits.try_acquire().expect("it is open").is_some()
    }

    const LIMITS: Elsewhere = Elsewhere {
        queue_for: Duration::from_secs(1),
        queue_at_most: Duration::from_secs(10),
        connect_within: Duration::ZERO,
    };

    /// Twenty wait for one permit, each of which is held for so long. Returns when each of them was served, or left.
    async fn queue_of_twenty(held_for: Duration) -> Vec<(bool, Duration)> {
        let permits = Permits::new(1);
        let began = Instant::now();
        let waits = (0..20).map(|_| async {
            let permit = permits.acquire_while_moving(LIMITS).await.expect("it is open");
            let waited = began.elapsed();
            if permit.is_some() {
                sleep(held_for).await;
            }
            (permit.is_some(), waited)
        });
        futures_util::future::join_all(waits).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_moves_is_served_in_the_order_of_arrival() {
        let served = queue_of_twenty(Duration::from_millis(400)).await;
        let expected: Vec<_> = (0..20).map(|n| (true, Duration::from_millis(400 * n))).collect();
        assert!(
            served.iter().zip(&expected).all(|(seen, (is, at))| seen.0 == *is && seen.1.abs_diff(*at).as_millis() < 20),
            "{served:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_stands_still_is_left_and_so_is_a_long_one() {
        let standing = queue_of_twenty(Duration::from_secs(60)).await;
        assert!(standing[0].0 && standing[1..].iter().all(|(is_served, left)| !is_served && left.as_secs() == 1));
        let long = queue_of_twenty(Duration::from_millis(900)).await;
        assert_eq!(long.iter().filter(|(is_served, _)| *is_served).count(), 12, "as many as in ten seconds: {long:?}");
        assert!(long[12..].iter().all(|(_, left)| left.as_secs() == 10));
    }

    #[test]
    fn a_limit_that_falls_takes_free_permits_at_once_and_the_others_as_they_come_back() {
        let permits = Permits::new(4);
        let held: Vec<_> = (0..3).map(|_| take(&permits)).collect();
        permits.limit(1);
        assert!(!is_free(&permits));
        let mut held = held.into_iter();
        drop(held.next());
        drop(held.next());
        assert!(!is_free(&permits), "one is in use, and one is all");
        drop(held.next());
        assert_eq!(permits.available(), 1);
    }

    #[test]
    fn a_limit_that_rises_again_first_forgives_what_is_owed() {
        let permits = Permits::new(4);
        let held: Vec<_> = (0..4).map(|_| take(&permits)).collect();
        permits.limit(1);
        permits.limit(3);
        assert_eq!(permits.available(), 0, "four are in use");
        drop(held);
        assert_eq!(permits.available(), 3);
        permits.limit(4);
        assert_eq!(permits.available(), 4);
    }

    #[test]
    fn a_limit_is_never_below_one_nor_above_what_the_pool_opens() {
        let permits = Permits::new(3);
        permits.limit(0);
        assert_eq!(permits.available(), 1);
        permits.limit(100);
        assert_eq!(permits.available(), 3);
    }

    #[tokio::test]
    async fn a_waiting_statement_runs_when_the_limit_rises() {
        let permits = Permits::new(2);
        permits.limit(1);
        let held = take(&permits);
        let mut waiting = Box::pin(permits.acquire());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        permits.limit(2);
        let got = waiting.await.expect("it is open");
        assert!(!is_free(&permits));
        drop((held, got));
        assert_eq!(permits.available(), 2);
    }

    #[test]
    fn limits_that_change_while_permits_come_and_go_leave_the_last_limit() {
        let permits = Permits::new(8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        drop(permits.try_acquire());
                    }
                });
            }
            scope.spawn(|| {
                for turn in 0..2_000 {
                    permits.limit(turn % 10);
                }
            });
        });
        permits.limit(5);
        assert_eq!(permits.available(), 5);
    }
}
