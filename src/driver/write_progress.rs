//! How far one write has come: what the caller knows about the write when it stops waiting.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Follows one write from the pool's queue to the server's answer. The caller and the driver each hold a clone.
///
/// A driver calls [`sent`](Self::sent) once the statement goes to a connection, and keeps its clone for as long as the
/// server may still be running the statement: until the connection has answered, or is gone. A caller that stops waiting
/// learns from the first whether the write may have run, and from the second when it cannot run any more.
///
/// The drivers for sqlx's pools keep their clone until the connection has gone back to its pool, whose ping ends after
/// the statement. Two ends are known less exactly. When a connection breaks, the write counts as over, though a server
/// that lost only its client may run on. And a stream that SeaORM runs (with the features `tracing-spans` and
/// `debug-print`, and on a handle that was given open) counts as over as soon as it is dropped.
#[derive(Clone)]
pub struct WriteProgress(Arc<Inner>);

struct Inner {
    is_sent: AtomicBool,
    when_over: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl WriteProgress {
    /// A write that waits for a connection.
    pub fn queued() -> Self {
        Self(Arc::new(Inner { is_sent: AtomicBool::new(false), when_over: Mutex::new(None) }))
    }

    /// The statement goes to a connection: from now on the server may run it.
    pub fn sent(&self) {
        self.0.is_sent.store(true, Ordering::Release);
    }

    /// Whether the statement may have run.
    pub fn is_sent(&self) -> bool {
        self.0.is_sent.load(Ordering::Acquire)
    }

    /// Runs `action` when the driver has dropped its clone, which may be at once.
    pub fn when_over(self, action: impl FnOnce() + Send + 'static) {
        *self.0.when_over.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(action));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(action) = self.when_over.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            action();
        }
    }
}

impl fmt::Debug for WriteProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteProgress").field("is_sent", &self.is_sent()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_runs_when_the_last_clone_of_the_driver_is_gone() {
        let (progress, ran) = (WriteProgress::queued(), Arc::new(AtomicBool::new(false)));
        let of_driver = progress.clone();
        assert!(!progress.is_sent());
        of_driver.sent();
        assert!(progress.is_sent());
        let noted = Arc::clone(&ran);
        progress.when_over(move || noted.store(true, Ordering::SeqCst));
        assert!(!ran.load(Ordering::SeqCst), "the server may still be running it");
        drop(of_driver);
        assert!(ran.load(Ordering::SeqCst));
    }

    #[test]
    fn a_write_that_is_over_already_runs_the_action_at_once() {
        let (progress, ran) = (WriteProgress::queued(), Arc::new(AtomicBool::new(false)));
        let noted = Arc::clone(&ran);
        progress.when_over(move || noted.store(true, Ordering::SeqCst));
        assert!(ran.load(Ordering::SeqCst));
    }
}
