//! Ways to wake those who wait on a node.

use std::{
    fmt,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// Wakes everybody who waits when it is raised, and keeps nothing: check the state it is about
/// after creating the wait and before awaiting it.
#[derive(Default)]
pub(crate) struct Signal(Notify);

impl Signal {
    /// Wakes every present waiter.
    pub(crate) fn raise(&self) {
        self.0.notify_waiters();
    }

    /// A wait that is armed when it is *created* (tokio promises that `notified` receives every
    /// `notify_waiters` after its creation), not when it is first polled.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + Send + '_ {
        self.0.notified()
    }
}

/// A signal that stays raised until it is lowered: who comes late does not wait.
#[derive(Default)]
pub(crate) struct Alarm {
    raised: AtomicBool,
    signal: Signal,
}

impl Alarm {
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        self.signal.raise();
    }

    pub(crate) fn lower(&self) {
        self.raised.store(false, Ordering::SeqCst);
    }

    /// Returns when, or if, the alarm is raised.
    pub(crate) async fn wait(&self) {
        let signal = self.signal.wait();
        if !self.raised.load(Ordering::SeqCst) {
            signal.await;
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signal")
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alarm").field(&self.raised).finish()
    }
}
