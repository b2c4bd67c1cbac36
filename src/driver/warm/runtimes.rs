//! The runtimes of tokio on which a pool's connections were opened.

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

/// Counts the runtimes that have ended.
///
/// The socket of a connection belongs to the runtime on which the connection was opened. When that runtime ends, the
/// connection fails on every other runtime, too. That happens where several runtimes share one `DatabaseConnection`: the
/// tests of a program that keeps one in a static, or a job that has a runtime of its own.
#[derive(Debug, Default)]
pub(super) struct Runtimes {
    ended: Arc<AtomicU64>,
    watched: Mutex<Vec<Watched>>,
}

#[derive(Debug)]
struct Watched {
    runtime: Id,
    /// Waits until its runtime drops it.
    task: JoinHandle<()>,
}

/// Counts when it is dropped.
struct CountEnd(Arc<AtomicU64>);

impl Drop for CountEnd {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Runtimes {
    /// How many of the watched runtimes have ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Watches the runtime of the caller, on which a connection may be opened now.
    pub(super) fn watch(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.iter().any(|watched| watched.runtime == runtime.id()) {
            return;
        }
        watched.retain(|watched| !watched.task.is_finished());
        let end = CountEnd(Arc::clone(&self.ended));
        let task = runtime.spawn(async move {
            let _end = end;
            pending::<()>().await;
        });
        watched.push(Watched { runtime: runtime.id(), task });
    }
}

impl Drop for Runtimes {
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
        let runtimes = Runtimes::default();
        let [first, second] = [(); 2].map(|()| Builder::new_current_thread().build().expect("a runtime"));
        for runtime in [&first, &second, &first] {
            runtime.block_on(async { runtimes.watch() });
        }
        assert_eq!(runtimes.watched.lock().expect("no panic").len(), 2);
        assert_eq!(runtimes.ended(), 0);
        drop(first);
        assert_eq!(runtimes.ended(), 1);
        let third = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        third.block_on(async { runtimes.watch() });
        assert_eq!(runtimes.watched.lock().expect("no panic").len(), 2, "the first one is forgotten");
        drop((second, third));
        assert_eq!(runtimes.ended(), 3);
        runtimes.watch(); // outside of a runtime
        assert_eq!(runtimes.watched.lock().expect("no panic").len(), 2);
    }
}
