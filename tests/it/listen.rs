//! A subscriber of `tracing` for the thread of one test, while other tests run on other threads.

use std::sync::OnceLock;

use tracing::{Dispatch, subscriber::DefaultGuard};
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt};

/// Gives the layer all events and spans of this thread, on which a current-thread runtime runs all of its tasks.
///
/// While a process has one subscriber, `tracing` asks only the thread that meets an event first whether anybody takes
/// the event, and remembers the answer for every thread. That thread may be another test's, with no subscriber. With
/// two subscribers in the process `tracing` asks both.
pub(crate) fn listen(layer: impl Layer<Registry> + Send + Sync) -> DefaultGuard {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(Registry::default()));
    tracing::subscriber::set_default(Registry::default().with(layer))
}
