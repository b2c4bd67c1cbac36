//! Ways to wake the tasks that wait on a node.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

/// Wakes all waiting tasks when it is raised, and keeps no state: a task checks the state in question after it created
/// the wait and before it awaits it.
#[derive(Default)]
pub(crate) struct Signal(Notify);

impl Signal {
    /// Wakes every present waiter.
    pub(crate) fn raise(&self) {
        self.0.notify_waiters();
    }

    /// Returns what `look` finds, looking now and each time the signal is raised.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut() -> Option<T> + Send) -> T {
        loop {
            let raised = self.wait();
            if let Some(found) = look() {
                return found;
            }
            raised.await;
        }
    }

    /// A wait that is armed when it is *created*, not when it is first polled: tokio promises that `notified` receives
    /// every `notify_waiters` after its creation.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + Send + '_ {
        self.0.notified()
    }
}

/// A number that only grows and wakes the tasks that wait for that. The tasks wake in the order in which they began to
/// wait: those of a `tokio::sync::watch` wake in a random order, and a simulation would not replay.
pub(crate) struct Counter(Arc<Counted>);

struct Counted {
    value: AtomicU64,
    signal: Signal,
}

/// A counter as one waiter has seen it.
pub(crate) struct Changes {
    of: Arc<Counted>,
    seen: u64,
}

impl Counter {
    pub(crate) fn new(value: u64) -> Self {
        Self(Arc::new(Counted { value: AtomicU64::new(value), signal: Signal::default() }))
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.value.store(value, Ordering::SeqCst);
        self.0.signal.raise();
    }

    /// Subscribes; the present value counts as seen.
    pub(crate) fn changes(&self) -> Changes {
        Changes { of: Arc::clone(&self.0), seen: self.0.value.load(Ordering::SeqCst) }
    }
}

impl Changes {
    /// The value that was seen last.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// The present value counts as seen.
    pub(crate) fn mark_unchanged(&mut self) {
        self.seen = self.of.value.load(Ordering::SeqCst);
    }

    /// Returns once the value differs from the one last seen, and marks it seen. Dropping the future loses no change.
    pub(crate) async fn changed(&mut self) {
        let (of, seen) = (Arc::clone(&self.of), self.seen);
        self.seen = of.signal.until(|| Some(of.value.load(Ordering::SeqCst)).filter(|value| *value != seen)).await;
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signal")
    }
}
