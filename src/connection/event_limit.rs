//! Limits the events that a client of a service can cause.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::topology::Tick;

/// How often an event of one kind is said.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// One kind of event, said once in ten minutes.
#[derive(Debug, Default)]
pub(super) struct EventLimit {
    /// When the event was said last; zero for never.
    said_at: AtomicU64,
    suppressed: AtomicU64,
}

impl EventLimit {
    /// Whether an event that happens now is said: the number of events that were not said since the last one.
    pub(super) fn is_due(&self, now: Tick) -> Option<u64> {
        let said_at = self.said_at.load(Ordering::Relaxed);
        let is_due = said_at == 0 || now.since(Tick(said_at)) >= SAY_AGAIN;
        let exchange = || self.said_at.compare_exchange(said_at, now.0, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && exchange().is_ok() {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn an_event_is_said_once_in_ten_minutes_with_the_number_that_was_not() {
        let limit = EventLimit::default();
        assert_eq!(limit.is_due(Tick(MINUTE)), Some(0));
        assert!((0..7).all(|n| limit.is_due(Tick(MINUTE + n)).is_none()));
        assert_eq!(limit.is_due(Tick(11 * MINUTE - 1)), None);
        assert_eq!(limit.is_due(Tick(11 * MINUTE)), Some(8));
        assert_eq!(limit.is_due(Tick(21 * MINUTE)), Some(0));
    }
}
