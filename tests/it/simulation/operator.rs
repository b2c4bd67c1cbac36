//! The operator of a simulation, who pauses, breaks, restarts, promotes, adds and removes nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use sea_orm_resolver::{DatabaseConnection, NodeConfig, SwapOptions};
use testkit::sim::{Ailment, Cluster, Dice, Process, Restart};
use tokio::time;

use super::ledger::Tally;

/// A connection, and the pools it was made from.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) db: DatabaseConnection,
    pub(super) process: Process,
    /// The settings of the node at an address, beside the address.
    pub(super) dress: fn(NodeConfig) -> NodeConfig,
    pub(super) dressed: Vec<String>,
    /// How long the share of a node grows that came back.
    pub(super) slow_start: Duration,
}

impl Site {
    fn node(&self, address: &str) -> NodeConfig {
        // The pool of a node that left is going to be closed.
        let node = if self.has(address) { self.process.node(address) } else { self.process.another_pool(address) };
        self.dressed_up(address, node)
    }

    fn dressed_up(&self, address: &str, node: NodeConfig) -> NodeConfig {
        if self.dressed.iter().any(|known| known == address) { (self.dress)(node) } else { node }
    }

    fn has(&self, address: &str) -> bool {
        self.db.topology().member(address).is_some()
    }
}

/// How much happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temper {
    /// Replicas fall behind, and nothing breaks.
    Calm,
    Lively,
    Wild,
}

pub(super) struct Operator {
    pub(super) cluster: Cluster,
    pub(super) sites: Arc<Vec<Site>>,
    pub(super) temper: Temper,
    pub(super) dice: Dice,
    pub(super) tally: Arc<Tally>,
    /// A primary of which no position is believed makes all of them useless.
    pub(super) silent: Vec<String>,
    /// Set when nothing more shall happen.
    pub(super) is_over: Arc<AtomicBool>,
}

impl Operator {
    /// Runs the operator's actions, each to its end, until the simulation is over.
    pub(super) async fn operate(mut self) {
        while !self.is_over.load(Relaxed) {
            let pause = match self.temper {
                Temper::Calm | Temper::Lively => self.dice.millis(30, 700),
                Temper::Wild => self.dice.millis(5, 200),
            };
            time::sleep(pause).await;
            match (self.temper, self.dice.below(100)) {
                (_, 0..26) => self.change_delay(),
                (_, 26..38) => self.pause(),
                (_, 38..46) | (Temper::Calm, _) => self.cluster.leave_tail(),
                (_, 46..60) => self.afflict(),
                (_, 60..68) => self.restart_replica(),
                (_, 68..72) => self.cut(),
                (_, 72..80) => self.freeze().await,
                (_, 80..84) => self.restart_primary().await,
                (_, 84..90) => self.fail_over().await,
                (_, 90..93) => self.catch_stragglers_up(),
                _ => self.change_membership().await,
            }
        }
    }

    fn some_replica(&mut self) -> Option<String> {
        let primary = self.cluster.primary();
        let mut addresses = self.cluster.addresses();
        addresses.retain(|address| *address != primary);
        (!addresses.is_empty()).then(|| self.dice.pick(&addresses).clone())
    }

    fn change_delay(&mut self) {
        let Some(replica) = self.some_replica() else { return };
        let (from, to) = *self.dice.pick(&[(0, 1), (0, 5), (0, 40), (20, 60), (100, 400), (500, 3_000)]);
        self.cluster.set_delay(&replica, from, to);
    }

    fn pause(&mut self) {
        let Some(replica) = self.some_replica() else { return };
        let pause = self.dice.millis(20, 3_000);
        self.cluster.pause_replay(&replica, pause);
    }

    fn restart_replica(&mut self) {
        let Some(replica) = self.some_replica() else { return };
        let how = *self.dice.pick(&[Restart::Server, Restart::Processes]);
        self.cluster.restart_replica(&replica, how);
    }

    /// Gives a server an ailment that its probes do not see, and now and then all of them.
    fn afflict(&mut self) {
        const OF_REPLICAS: [Ailment; 6] = [
            Ailment::Full,
            Ailment::FailsAlone,
            Ailment::FailsAlone,
            Ailment::LacksTable,
            Ailment::CancelsReads,
            Ailment::Breaks,
        ];
        const OF_ALL: [Ailment; 4] = [Ailment::Full, Ailment::FailsAlone, Ailment::Busy, Ailment::Breaks];
        let of_replicas = OF_REPLICAS.into_iter().chain([Ailment::Busy]).collect::<Vec<_>>();
        let longest = *self.dice.pick(&[300, 1_500, 6_000]);
        let duration = self.dice.millis(20, longest);
        if self.dice.percent(8) {
            for address in self.cluster.addresses() {
                self.cluster.afflict(&address, Ailment::Breaks, duration.min(Duration::from_millis(300)));
            }
            return;
        }
        match self.some_replica() {
            Some(replica) if self.dice.percent(85) => {
                self.cluster.afflict(&replica, *self.dice.pick(&of_replicas), duration);
            }
            _ => self.cluster.afflict(&self.cluster.primary(), *self.dice.pick(&OF_ALL), duration),
        }
    }

    fn cut(&mut self) {
        let addresses = self.cluster.addresses();
        let address = self.dice.pick(&addresses);
        self.cluster.cut(address);
    }

    async fn freeze(&mut self) {
        let address = match self.some_replica() {
            Some(replica) if self.dice.percent(80) => replica,
            _ => self.cluster.primary(),
        };
        self.cluster.freeze(&address);
        time::sleep(self.dice.millis(20, 2_500)).await;
        self.cluster.thaw(&address);
    }

    async fn restart_primary(&mut self) {
        let primary = self.cluster.primary();
        self.cluster.stop(&primary);
        time::sleep(self.dice.millis(0, 400)).await;
        self.cluster.start(&primary);
    }

    /// The primary goes down, a replica takes its place, and every process is told.
    async fn fail_over(&mut self) {
        let old = self.cluster.primary();
        let mut able = self.cluster.addresses();
        able.retain(|address| {
            *address != old
                && !self.silent.contains(address)
                && self.cluster.faces(address) == 1
                && self.cluster.is_with_primary(address)
        });
        if able.is_empty() {
            return;
        }
        let new = self.dice.pick(&able).clone();
        self.cluster.stop(&old);
        time::sleep(self.dice.millis(0, 300)).await;
        self.cluster.promote(&new);
        self.tally.promotions.fetch_add(1, Relaxed);
        for address in able.iter().filter(|address| **address != new) {
            if self.dice.percent(70) {
                self.cluster.follow(address);
            }
        }
        let sites = Arc::clone(&self.sites);
        for site in sites.iter() {
            time::sleep(self.dice.millis(0, 200)).await;
            let node = site.dressed_up(&new, site.process.another_pool(&new));
            // The server may just have lost its connections.
            let accepted = SwapOptions { accept_lost_writes: true, ..SwapOptions::default() };
            while site.db.swap_primary_with(node.clone(), accepted).await.is_err() {
                time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.cluster.failover_is_over();
        if self.dice.percent(60) {
            time::sleep(self.dice.millis(0, 1_000)).await;
            self.cluster.rejoin(&old);
            self.join(&old).await;
        }
    }

    fn catch_stragglers_up(&mut self) {
        let primary = self.cluster.primary();
        for address in self.cluster.addresses() {
            if address != primary && self.cluster.is_running(&address) && !self.cluster.is_with_primary(&address) {
                self.cluster.follow(&address);
            }
        }
    }

    /// Adds as a replica a server that is no replica.
    async fn join(&mut self, address: &str) {
        for site in self.sites.iter().filter(|site| !site.has(address)) {
            // A node that does not answer now is added another time.
            let _ = site.db.add_replica(site.node(address)).await;
        }
    }

    async fn change_membership(&mut self) {
        self.cluster.members_change();
        self.make_other_members().await;
        self.cluster.members_changed();
    }

    async fn make_other_members(&mut self) {
        let Some(replica) = self.some_replica() else { return };
        let site_index = self.dice.index(self.sites.len());
        let sites = Arc::clone(&self.sites);
        let site = &sites[site_index];
        if !site.has(&replica) {
            let _ = site.db.add_replica(site.node(&replica)).await;
            return;
        }
        match self.dice.below(3) {
            0 => {
                let _ = site.db.drain(&replica).await;
                time::sleep(self.dice.millis(0, 500)).await;
                let _ = site.db.resume(&replica);
            }
            1 => {
                let _ = site.db.remove_replica(&replica).await;
                time::sleep(self.dice.millis(0, 500)).await;
                let _ = site.db.add_replica(site.node(&replica)).await;
            }
            _ => {
                let primary = self.cluster.primary();
                let mut all = self.cluster.addresses();
                all.retain(|address| *address != primary);
                let some: Vec<_> = all.iter().filter(|_| self.dice.percent(60)).collect();
                let _ = site.db.swap_replicas(some.into_iter().map(|address| site.node(address))).await;
                time::sleep(self.dice.millis(0, 500)).await;
                let _ = site.db.swap_replicas(all.iter().map(|address| site.node(address))).await;
            }
        }
    }
}
