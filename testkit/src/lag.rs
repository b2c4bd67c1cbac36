//! Replicas that are behind by a known time.

use std::time::Duration;

use anyhow::Result;

use crate::{cluster::Cluster, node::Engine, proxy::ChaosProxy};

/// Delays a cluster's replicas for as long as it lives; see [`Cluster::lag`].
#[derive(Debug)]
#[must_use = "MariaDB's replicas receive nothing more when it is dropped"]
pub struct Lag {
    /// A proxy between each replica and its primary, for servers that cannot delay their replay finely enough.
    _proxies: Vec<ChaosProxy>,
}

impl Cluster {
    /// Lets every replica show each change at the earliest `late` after the primary made it.
    ///
    /// PostgreSQL is configured by `recovery_min_apply_delay`, in milliseconds, and stays delayed. MariaDB knows
    /// whole seconds only: each replica receives through a proxy, until the returned value is dropped; then the
    /// replica receives nothing more.
    pub async fn lag(&self, late: Duration) -> Result<Lag> {
        let mut proxies = Vec::new();
        for replica in self.servers().iter().filter(|server| server.upstream().is_some()) {
            match replica.node.common.engine {
                Engine::Postgres => replica.delay_replay(late).await?,
                Engine::MariaDb | Engine::MySql => {
                    let proxy = ChaosProxy::start(self.primary().port()).await?;
                    proxy.set_latency(late);
                    replica.follow_through(&proxy).await?;
                    proxies.push(proxy);
                }
            }
        }
        Ok(Lag { _proxies: proxies })
    }
}
