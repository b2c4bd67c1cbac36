//! Waits for a server to reach a state.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Starts and reloads take a tenth of a second; on a machine that is busy with other things, more.
const LIMIT: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(4);

/// The time for which a condition is asked for.
///
/// A loop asks, and calls [`again`](Self::again) until the answer is yes. A function that takes an
/// async closure was rejected: its future is not provably `Send` for borrowed arguments.
#[derive(Debug)]
pub(crate) struct Patience {
    began: Instant,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// A short sleep, or the error that `what` did not happen in time.
    pub(crate) async fn again(&self, what: &str) -> Result<()> {
        ensure!(self.began.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        tokio::time::sleep(STEP).await;
        Ok(())
    }
}
