//! Patience with real servers.

use std::{future::Future, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::Instant;

/// Asks again and again until the answer is yes; when the time is over, the panic names the condition.
pub(crate) async fn wait_until<F, Fut>(what: &str, limit: Duration, mut asked: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let started = Instant::now();
    while !asked().await? {
        ensure!(started.elapsed() < limit, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
