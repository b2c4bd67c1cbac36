//! The check that reads keep away from ejected nodes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use sea_orm_resolver::{DatabaseConnection, Topology};
use testkit::sim::{Ailment, Cluster};
use tokio::time::Instant;

use super::ledger::{AFTERMATH, Tally};

/// The shortest pause of an ejected node is a second, less a fifth.
const SHORTEST_PAUSE: Duration = Duration::from_millis(790);

/// Three failures in a row eject a node, and so many more reads may be on their way when the last of them ends.
const MOST_BEFORE_EJECTION: u32 = 16;

/// The reads that reached the failing nodes of one process.
#[derive(Debug, Default)]
pub(super) struct Trials {
    nodes: Mutex<BTreeMap<String, Failing>>,
}

/// The reads that reached one failing node.
#[derive(Debug, Default)]
struct Failing {
    /// The last read that reached the node while it was ejected, if none reached it since while it was in.
    trial: Option<Instant>,
    /// The reads that reached the node while it was in, one after the other.
    before_ejection: u32,
    /// The first of these.
    since: Option<Instant>,
}

impl Trials {
    /// A read is about to run on the node at an address. Returns why it may not, if it may not.
    pub(super) fn read_arrives(
        &self,
        cluster: &Cluster,
        db: &DatabaseConnection,
        tally: &Tally,
        address: &str,
    ) -> Option<String> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if address == cluster.primary() || !cluster.has(address, Ailment::FailsAlone) {
            nodes.remove(address);
            return None;
        }
        let now = Instant::now();
        let failing = nodes.entry(address.to_owned()).or_default();
        let topology = db.topology();
        let others_are_well = |from: Instant| {
            let weather = cluster.weather(from - AFTERMATH, now);
            let others = topology.members().filter(|member| member.name() != address);
            !weather.members_changed
                && others.into_iter().all(|member| cluster.was_well(member.name(), from - AFTERMATH, now))
        };
        if !is_ejected(&topology, address) {
            failing.trial = None;
            failing.before_ejection += 1;
            let since = *failing.since.get_or_insert(now);
            let is_one_too_many = failing.before_ejection > MOST_BEFORE_EJECTION && others_are_well(since);
            return is_one_too_many.then(|| format!("{address} fails each statement and is not ejected\n{topology}"));
        }
        if failing.before_ejection > 0 {
            tally.ejections.fetch_add(1, Relaxed);
        }
        (failing.before_ejection, failing.since) = (0, None);
        tally.trials.fetch_add(1, Relaxed);
        let before = failing.trial.replace(now)?;
        let is_too_soon = now - before < SHORTEST_PAUSE && others_are_well(before);
        is_too_soon.then(|| format!("{address} is ejected and tried twice within {:?}\n{topology}", now - before))
    }
}

/// Whether the table of the topology says that a node is ejected.
pub(super) fn is_ejected(topology: &Topology, address: &str) -> bool {
    let table = topology.to_string();
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(address) && words.any(|word| word == "ejected")
    })
}
