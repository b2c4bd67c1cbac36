//! The one clock, and the one order of events. Everything that decides takes the instant and the place
//! as arguments; only shells read them.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::topology::{Seq, Stamp, Tick};

/// Counts from the moment a connection was opened. It is tokio's clock, so that tests can pause it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Tick {
        // One, not zero: zero means "never" in floors.
        Tick(1).after(Instant::now().saturating_duration_since(self.start))
    }

    /// Now, with a place in the order of events.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { seq: next_seq(), at: self.now() }
    }
}

/// A new place in the order of events, later than every other that was given before.
pub(crate) fn next_seq() -> Seq {
    // One total order is all that is asked of it: a write takes its place when its acknowledgement is
    // there, a probe before its question goes out, and between the two lies a round trip.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Seq(NEXT.fetch_add(1, Ordering::SeqCst))
}
