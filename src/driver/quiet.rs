//! Keeps the resolver's own questions out of the application's log.

use tracing::{Dispatch, dispatcher::has_been_set, instrument::WithSubscriber};

/// Runs a question of the resolver without any subscriber of `tracing`, so that sqlx's log of statements does not show it.
///
/// In a program without a subscriber nothing is set: a subscriber that is set, even for one future, ends the forwarding
/// of `tracing`'s events to the crate `log` for good.
pub(super) async fn quietly<T>(question: impl Future<Output = T>) -> T {
    if has_been_set() { question.with_subscriber(Dispatch::none()).await } else { question.await }
}
