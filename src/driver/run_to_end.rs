//! A future that runs to its end even when its caller stops waiting.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::{BoxFuture, FutureExt};

/// Runs a future to its end. When the caller drops it after the first poll, a task of its own polls the rest and hands
/// the output to `undo`.
///
/// sqlx cannot be stopped inside BEGIN, COMMIT and ROLLBACK: its connection counts a transaction only when the
/// answer has arrived. A BEGIN that is dropped before leaves a pooled connection inside a transaction that no code
/// ends, and later statements on that connection are lost. sqlx answers a nested BEGIN that is dropped with a
/// ROLLBACK of the whole transaction.
///
/// # Cancel safety
/// Dropping before the first poll runs nothing. Dropping later needs a tokio runtime: without one the rest is dropped,
/// and the connection cannot go back to its pool either.
pub(crate) struct RunToEnd<T: Send + 'static> {
    rest: Option<BoxFuture<'static, T>>,
    undo: fn(T) -> BoxFuture<'static, ()>,
    is_started: bool,
}

impl<T: Send + 'static> RunToEnd<T> {
    /// Runs `future`; an output that its caller does not wait for is dropped.
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self::or_undo(future, |output| {
            drop(output);
            futures_util::future::ready(()).boxed()
        })
    }

    /// Runs `future`, and `undo` after it when its caller stopped waiting.
    pub(crate) fn or_undo(
        future: impl Future<Output = T> + Send + 'static,
        undo: fn(T) -> BoxFuture<'static, ()>,
    ) -> Self {
        Self { rest: Some(future.boxed()), undo, is_started: false }
    }
}

impl<T: Send + 'static> Future for RunToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.is_started = true;
        let rest = self.rest.as_mut().expect("a future is not polled after its end");
        let output = ready!(rest.poll_unpin(cx));
        self.rest = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for RunToEnd<T> {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take().filter(|_| self.is_started) else { return };
        let undo = self.undo;
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { undo(rest.await).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    };

    use tokio::{sync::oneshot, task::yield_now};

    use super::*;

    /// A future that waits for `gate` and counts its end, and the counter.
    fn counted(gate: oneshot::Receiver<()>) -> (impl Future<Output = Arc<AtomicU8>>, Arc<AtomicU8>) {
        let count = Arc::new(AtomicU8::new(0));
        let counted = Arc::clone(&count);
        let future = async move {
            gate.await.expect("the gate opens");
            counted.fetch_add(1, Ordering::SeqCst);
            counted
        };
        (future, count)
    }

    fn count_ten(count: Arc<AtomicU8>) -> BoxFuture<'static, ()> {
        async move {
            count.fetch_add(10, Ordering::SeqCst);
        }
        .boxed()
    }

    async fn settle() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_future_that_was_polled_runs_to_its_end_and_is_undone() {
        let (open, gate) = oneshot::channel();
        let (future, count) = counted(gate);
        let mut running = RunToEnd::or_undo(future, count_ten);
        assert!(futures_util::poll!(&mut running).is_pending());
        drop(running);
        settle().await;
        assert_eq!(count.load(Ordering::SeqCst), 0, "the gate is closed");
        open.send(()).expect("the future waits");
        settle().await;
        assert_eq!(count.load(Ordering::SeqCst), 11);
    }

    #[tokio::test]
    async fn a_future_that_is_waited_for_is_not_undone() {
        let (open, gate) = oneshot::channel();
        let (future, count) = counted(gate);
        open.send(()).expect("the future will wait");
        RunToEnd::or_undo(future, count_ten).await;
        settle().await;
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_future_that_was_never_polled_does_not_run() {
        let (open, gate) = oneshot::channel();
        let (future, count) = counted(gate);
        drop(RunToEnd::or_undo(future, count_ten));
        settle().await;
        assert!(open.send(()).is_err(), "the future is gone");
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }
}
