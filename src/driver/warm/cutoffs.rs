//! The points in time after which the connections of before are closed.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    runtime::{Handle, Id},
    task::JoinHandle,
};

/// Counts the cutoffs of one pool. A connection that was taken out of the pool before the last one is closed instead of given back.
///
/// A cutoff comes when the address of the node means another server, when sessions are opened with other settings, and when a
/// runtime of tokio ends: the socket of a connection belongs to the runtime on which the connection was opened, and fails on
/// every other runtime then. That happens where several runtimes share one `DatabaseConnection`: the tests of a program that
/// keeps one in a static, or a job that has a runtime of its own.
#[derive(Debug, Default)]
pub(super) struct Cutoffs {
    count: Arc<AtomicU64>,
    watched: Mutex<Vec<Watched>>,
}

#[derive(Debug)]
struct Watched {
    runtime: Id,
    /// Waits until its runtime drops it.
    task: JoinHandle<()>,
}

/// Counts when it is dropped.
struct CutOnDrop(Arc<AtomicU64>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Cutoffs {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// One more, now.
    pub(super) fn cut(&self) {
        self.count.fetch_add(1, Ordering::Release);
    }

    /// One more when the runtime of the caller ends, on which a connection may be opened now.
    pub(super) fn watch_runtime(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.iter().any(|watched| watched.runtime == runtime.id()) {
            return;
        }
        watched.retain(|watched| !watched.task.is_finished());
        let cut = CutOnDrop(Arc::clone(&self.count));
        let task = runtime.spawn(async move {
            let _cut = cut;
            pending::<()>().await;
        });
        watched.push(Watched { runtime: runtime.id(), task });
    }
}

impl Drop for Cutoffs {
    fn drop(&mut self) {
        let watched = self.watched.get_mut().unwrap_or_else(PoisonError::into_inner);
        watched.iter().for_each(|watched| watched.task.abort());
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn each_runtime_is_watched_once_and_counted_when_it_ends() {
        let cutoffs = Cutoffs::default();
        let [first, second] = [(); 2].map(|()| Builder::new_current_thread().build().expect("a runtime"));
        for runtime in [&first, &second, &first] {
            runtime.block_on(async { cutoffs.watch_runtime() });
        }
        assert_eq!(cutoffs.watched.lock().expect("no panic").len(), 2);
        assert_eq!(cutoffs.count(), 0);
        drop(first);
        assert_eq!(cutoffs.count(), 1);
        let third = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        third.block_on(async { cutoffs.watch_runtime() });
        assert_eq!(cutoffs.watched.lock().expect("no panic").len(), 2, "the first one is forgotten");
        drop((second, third));
        assert_eq!(cutoffs.count(), 3);
        cutoffs.watch_runtime(); // outside of a runtime
        assert_eq!(cutoffs.watched.lock().expect("no panic").len(), 2);
    }
}
