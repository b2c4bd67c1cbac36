//! Keeps the resolver's own questions out of the application's log.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tracing::{
    Dispatch,
    dispatcher::{has_been_set, with_default},
};

/// Runs a question of the resolver without any subscriber of `tracing`, so that sqlx's log of statements does not show it.
///
/// sqlx logs a statement when its future is dropped, too, so a question that runs into a time-out is dropped without a
/// subscriber.
///
/// In a program without a subscriber nothing is set: a subscriber that is set, even for one future, ends the forwarding
/// of `tracing`'s events to the crate `log` for good.
pub(super) fn quietly<F: Future>(question: F) -> Quiet<F> {
    Quiet(Some(Box::pin(question)))
}

/// A question that no subscriber hears of. It is empty only while it is dropped.
pub(super) struct Quiet<F>(Option<Pin<Box<F>>>);

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let question = self.0.as_mut().expect("a question is there until it is dropped");
        unheard(|| question.as_mut().poll(context))
    }
}

impl<F> Drop for Quiet<F> {
    fn drop(&mut self) {
        unheard(|| self.0 = None);
    }
}

fn unheard<T>(work: impl FnOnce() -> T) -> T {
    if has_been_set() { with_default(&Dispatch::none(), work) } else { work() }
}
