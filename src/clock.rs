//! The one clock. Everything that decides takes the instant as an argument; only shells read it.

use tokio::time::Instant;

use crate::topology::Tick;

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
}
