//! The one clock, and the one order of events. Code that decides takes the instant and the sequence number as
//! arguments; only shells read them.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::topology::{Seq, Stamp, Tick};

/// Counts from the moment a connection was opened. The clock is tokio's, so that tests can pause it.
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

    /// The present instant, with a new sequence number.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { seq: next_seq(), at: self.now() }
    }
}

/// A new sequence number, later than every one given before.
pub(crate) fn next_seq() -> Seq {
    // One total order is enough: a write takes its number when its acknowledgement has arrived, a probe before its
    // question goes out, and between the two lies a round trip.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Seq(NEXT.fetch_add(1, Ordering::SeqCst))
}
