//! How one observation changes what is believed. The rules of health are here and nowhere else.

use std::sync::Arc;

use super::{Health, NodeId, Observed, Topology};

/// What a prober learned about one node.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) node: NodeId,
    pub(crate) reply: Reply,
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answered(Observed),
    Failed {
        /// Nothing listens there, or the node is not what it has to be: one is enough.
        conclusive: bool,
        why: Arc<str>,
    },
}

/// Probes in a row that must fail before a node is down.
pub(crate) const FAILURES_TO_EJECT: u32 = 3;

impl Topology {
    /// What is believed after an observation, or `None` if it is about a node that has left.
    pub(crate) fn observe(&self, observation: &Observation) -> Option<Self> {
        let mut next = self.clone();
        let member = std::iter::once(&mut next.primary)
            .chain(&mut next.replicas)
            .find(|member| member.node.id() == observation.node)?;
        match &observation.reply {
            Reply::Answered(observed) => {
                // An answer that was asked for earlier says nothing about now.
                if member.observed.as_ref().is_some_and(|known| known.at > observed.at) {
                    return None;
                }
                member.observed = Some(observed.clone());
                member.health = Health::Up;
                member.failed_probes = 0;
                member.last_failure = None;
            }
            Reply::Failed { conclusive, why } => {
                member.failed_probes = member.failed_probes.saturating_add(1);
                member.last_failure = Some(Arc::clone(why));
                if *conclusive || member.failed_probes >= FAILURES_TO_EJECT {
                    member.health = Health::Down;
                }
            }
        }
        Some(next)
    }
}
