//! Replicas that are late by a known time.

use std::time::Duration;

use anyhow::Result;

use crate::{cluster::Cluster, node::Engine, proxy::ChaosProxy};

/// Makes a cluster's replicas late for as long as it lives; see [`Cluster::lag`].
#[derive(Debug)]
#[must_use = "MariaDB's replicas receive nothing more when it is dropped"]
pub struct Lag {
    /// Between each replica and its primary, where the server cannot be told to be late.
    _proxies: Vec<ChaosProxy>,
}

impl Cluster {
    /// Lets every replica show each change `late` after the primary made it, at the soonest.
    ///
    /// PostgreSQL is told so by `recovery_min_apply_delay`, in milliseconds, and stays late. MariaDB knows
    /// whole seconds only: there each replica receives through a proxy, until what is returned is
    /// dropped; then it receives nothing more.
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
